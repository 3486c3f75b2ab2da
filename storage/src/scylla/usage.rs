//! The usage store's port.
//!
//! A flush has no transaction here. It keeps the order instead: rows and all that belongs to them,
//! acknowledged by a quorum; then the manifest, which says that they are all there; then progress.
//! Whoever finds the one finds what came before it.

use std::{sync::Arc, time::Instant};

use domain::{
    DeadLetterGroup, DeadLetterKey, LogId, Manifest, Offset, RowKey, SegmentId, Tenant, UsageRow,
    UsageStore,
    epochs::LogEvent,
    generation::Generation,
    segment::Progress,
    store::{DeadLetterFilter, Flush, PartitionKey, SegmentClose, StoreError, UsageFilter},
};
use metrics::histogram;
use runtime::fault;

use super::{
    client::Client, error::Failure, journal, letters, records, registry, rows, scan, tenants,
};

/// The usage store in a keyspace.
#[derive(Clone)]
pub struct ScyllaUsageStore {
    pub(super) client: Arc<Client>,
}

impl ScyllaUsageStore {
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self { client }
    }
}

impl UsageStore for ScyllaUsageStore {
    async fn register(
        &self,
        generation: &Generation,
        after: Option<LogId>,
    ) -> Result<(), StoreError> {
        Ok(registry::register(&self.client, generation, after).await?)
    }

    async fn generations(&self) -> Result<Vec<Generation>, StoreError> {
        Ok(registry::all(&self.client).await?)
    }

    async fn flush(&self, flush: Arc<Flush>) -> Result<(), StoreError> {
        let started = Instant::now();
        write(&self.client, &flush).await?;
        histogram!("pulso_store_write_seconds").record(started.elapsed());
        Ok(())
    }

    async fn newest_manifest(&self, key: PartitionKey) -> Result<Option<Manifest>, StoreError> {
        Ok(records::newest_manifest(&self.client, key).await?)
    }

    async fn manifests(
        &self,
        key: PartitionKey,
        from: Offset,
        limit: usize,
    ) -> Result<Vec<Manifest>, StoreError> {
        Ok(records::manifests(&self.client, key, from, limit).await?)
    }

    async fn progress(&self, key: PartitionKey) -> Result<Option<Progress>, StoreError> {
        Ok(records::progress(&self.client, key).await?)
    }

    async fn state(&self, digest: u128) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(records::state(&self.client, digest).await?)
    }

    async fn state_head(&self, digest: u128, _: usize) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(records::state_head(&self.client, digest).await?)
    }

    async fn run(&self, segment: SegmentId) -> Result<Vec<u8>, StoreError> {
        Ok(records::run(&self.client, segment).await?)
    }

    async fn segment_rows(
        &self,
        segment: SegmentId,
        places: &[(Tenant, i32)],
    ) -> Result<Vec<UsageRow>, StoreError> {
        registry::find(&self.client, segment.log_id).await?;
        Ok(scan::of_segment(&self.client, segment, places).await?)
    }

    async fn scan(
        &self,
        filter: &UsageFilter,
        after: Option<&RowKey>,
        limit: usize,
    ) -> Result<Vec<UsageRow>, StoreError> {
        Ok(scan::usage(&self.client, filter, after, limit).await?)
    }

    async fn tenants(
        &self,
        after: Option<&Tenant>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError> {
        Ok(tenants::page(&self.client, after, limit).await?)
    }

    async fn scan_dead_letters(
        &self,
        log_id: LogId,
        filter: &DeadLetterFilter,
        after: Option<&DeadLetterKey>,
        limit: usize,
    ) -> Result<Vec<DeadLetterGroup>, StoreError> {
        let generation = registry::find(&self.client, log_id).await?;
        Ok(letters::page(&self.client, &generation, filter, after, limit).await?)
    }

    async fn log_events(&self) -> Result<Vec<LogEvent>, StoreError> {
        Ok(journal::all(&self.client).await?)
    }

    async fn append_log_event(&self, entries: u64, event: &LogEvent) -> Result<(), StoreError> {
        Ok(journal::append(&self.client, entries, event).await?)
    }
}

async fn write(client: &Client, flush: &Flush) -> Result<(), Failure> {
    registry::find(client, flush.segment.log_id).await?;
    fault::point("scylla.before_rows");
    // Among these no order matters, for nobody looks for them before the manifest stands; a scan
    // that meets a row early only counts it early.
    tokio::try_join!(
        rows::write(client, &flush.rows),
        tenants::write(client, rows::places(&flush.rows)),
        letters::write(client, &flush.dead_letters),
        write_close(client, flush.segment, flush.close.as_ref()),
    )?;
    fault::point("scylla.after_rows");
    if let Some(close) = &flush.close {
        records::write_manifest(client, &close.manifest).await?;
        fault::point("scylla.after_manifest");
    }
    match &flush.progress {
        Some(progress) => records::write_progress(client, progress).await,
        None => Ok(()),
    }
}

async fn write_close(
    client: &Client,
    segment: SegmentId,
    close: Option<&SegmentClose>,
) -> Result<(), Failure> {
    let Some(close) = close else { return Ok(()) };
    records::write_close(client, segment, close).await
}
