//! The adapter a process was told to use, behind one type for each port.
//!
//! An enum rather than a boxed port: calls stay static, and futures are not allocated.

use std::sync::Arc;

use domain::{
    BillingStore, BlockStore, DeadLetterGroup, DeadLetterKey, Epoch, LogId, Manifest, Offset,
    Partition, PulseLog, RowKey, SegmentId, Tenant, UsageRow, UsageStore,
    billing::{Appended, CatalogueHead, CatalogueVersion},
    blocks::{BlockManifest, BlockMap, BlockNumber, Page},
    epochs::LogEvent,
    generation::Generation,
    log::{AppendError, LogBounds, LogDrain, LogError, LogRecord},
    segment::Progress,
    store::{DeadLetterFilter, Flush, PartitionKey, StoreError, UsageFilter},
};

use crate::{
    embedded::{EmbeddedBillingStore, EmbeddedDrain, EmbeddedLog, EmbeddedUsageStore},
    kafka::{KafkaDrain, KafkaLog},
    memory::{MemoryBillingStore, MemoryDrain, MemoryLog, MemoryUsageStore},
    scylla::{ScyllaBillingStore, ScyllaUsageStore},
};

/// A pulse log.
pub enum Log {
    /// In memory.
    Memory(MemoryLog),
    /// In `log.db`.
    Embedded(EmbeddedLog),
    /// In a Kafka topic.
    Kafka(KafkaLog),
}

/// A usage store.
pub enum Usage {
    /// In memory.
    Memory(MemoryUsageStore),
    /// In `store.db`.
    Embedded(EmbeddedUsageStore),
    /// On ScyllaDB or another that speaks CQL.
    Scylla(ScyllaUsageStore),
}

/// A billing store.
pub enum Billing {
    /// In memory.
    Memory(MemoryBillingStore),
    /// In `store.db`.
    Embedded(EmbeddedBillingStore),
    /// On ScyllaDB or another that speaks CQL.
    Scylla(ScyllaBillingStore),
}

/// A reader of a [`Log`].
pub enum Drain {
    /// Of one in memory.
    Memory(MemoryDrain),
    /// Of `log.db`.
    Embedded(EmbeddedDrain),
    /// Of a Kafka topic.
    Kafka(KafkaDrain),
}

macro_rules! each {
    (Log: $self:ident, $adapter:ident => $call:expr) => {
        each!(Log Memory Embedded Kafka: $self, $adapter => $call)
    };
    (Drain: $self:ident, $adapter:ident => $call:expr) => {
        each!(Drain Memory Embedded Kafka: $self, $adapter => $call)
    };
    ($choice:ident: $self:ident, $adapter:ident => $call:expr) => {
        each!($choice Memory Embedded Scylla: $self, $adapter => $call)
    };
    ($choice:ident $($kind:ident)+: $self:ident, $adapter:ident => $call:expr) => {
        match $self { $( $choice::$kind($adapter) => $call, )+ }
    };
}

impl PulseLog for Log {
    type Drain = Drain;

    fn generation(&self) -> &Generation {
        each!(Log: self, log => log.generation())
    }

    async fn append(
        &self,
        partition: Partition,
        records: Vec<Vec<u8>>,
    ) -> Result<Vec<Offset>, AppendError> {
        each!(Log: self, log => log.append(partition, records).await)
    }

    async fn bounds(&self, partition: Partition) -> Result<LogBounds, LogError> {
        each!(Log: self, log => log.bounds(partition).await)
    }

    async fn trim(&self, partition: Partition, below: Offset) -> Result<u64, LogError> {
        each!(Log: self, log => log.trim(partition, below).await)
    }

    fn drain(&self, partition: Partition, from: Offset) -> Result<Drain, LogError> {
        match self {
            Self::Memory(log) => log.drain(partition, from).map(Drain::Memory),
            Self::Embedded(log) => log.drain(partition, from).map(Drain::Embedded),
            Self::Kafka(log) => log.drain(partition, from).map(Drain::Kafka),
        }
    }

    fn assignment(&self) -> Result<Option<Vec<Partition>>, LogError> {
        each!(Log: self, log => log.assignment())
    }

    fn note_stored(&self, partition: Partition, folded_to: Offset) {
        each!(Log: self, log => log.note_stored(partition, folded_to));
    }
}

impl LogDrain for Drain {
    fn read(
        &mut self,
        until: Offset,
        bytes_max: usize,
        visit: &mut dyn FnMut(LogRecord<'_>),
    ) -> Result<Offset, LogError> {
        each!(Drain: self, drain => drain.read(until, bytes_max, visit))
    }
}

impl UsageStore for Usage {
    async fn register(
        &self,
        generation: &Generation,
        after: Option<LogId>,
    ) -> Result<(), StoreError> {
        each!(Usage: self, store => store.register(generation, after).await)
    }

    async fn generations(&self) -> Result<Vec<Generation>, StoreError> {
        each!(Usage: self, store => store.generations().await)
    }

    async fn flush(&self, flush: Arc<Flush>) -> Result<(), StoreError> {
        each!(Usage: self, store => store.flush(flush).await)
    }

    async fn newest_manifest(
        &self,
        partition: PartitionKey,
    ) -> Result<Option<Manifest>, StoreError> {
        each!(Usage: self, store => store.newest_manifest(partition).await)
    }

    async fn manifests(
        &self,
        partition: PartitionKey,
        from: Offset,
        limit: usize,
    ) -> Result<Vec<Manifest>, StoreError> {
        each!(Usage: self, store => store.manifests(partition, from, limit).await)
    }

    async fn progress(&self, partition: PartitionKey) -> Result<Option<Progress>, StoreError> {
        each!(Usage: self, store => store.progress(partition).await)
    }

    async fn state(&self, digest: u128) -> Result<Option<Vec<u8>>, StoreError> {
        each!(Usage: self, store => store.state(digest).await)
    }

    async fn state_head(&self, digest: u128, bytes: usize) -> Result<Option<Vec<u8>>, StoreError> {
        each!(Usage: self, store => store.state_head(digest, bytes).await)
    }

    async fn run(&self, segment: SegmentId) -> Result<Vec<u8>, StoreError> {
        each!(Usage: self, store => store.run(segment).await)
    }

    async fn segment_rows(
        &self,
        segment: SegmentId,
        places: &[(Tenant, i32)],
    ) -> Result<Vec<UsageRow>, StoreError> {
        each!(Usage: self, store => store.segment_rows(segment, places).await)
    }

    async fn scan(
        &self,
        filter: &UsageFilter,
        after: Option<&RowKey>,
        limit: usize,
    ) -> Result<Vec<UsageRow>, StoreError> {
        each!(Usage: self, store => store.scan(filter, after, limit).await)
    }

    async fn tenants(
        &self,
        after: Option<&Tenant>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError> {
        each!(Usage: self, store => store.tenants(after, limit).await)
    }

    async fn scan_dead_letters(
        &self,
        log_id: LogId,
        filter: &DeadLetterFilter,
        after: Option<&DeadLetterKey>,
        limit: usize,
    ) -> Result<Vec<DeadLetterGroup>, StoreError> {
        each!(Usage: self, store => store.scan_dead_letters(log_id, filter, after, limit).await)
    }

    async fn log_events(&self) -> Result<Vec<LogEvent>, StoreError> {
        each!(Usage: self, store => store.log_events().await)
    }

    async fn append_log_event(&self, entries: u64, event: &LogEvent) -> Result<(), StoreError> {
        each!(Usage: self, store => store.append_log_event(entries, event).await)
    }
}

impl BlockStore for Usage {
    async fn block_map(&self) -> Result<BlockMap, StoreError> {
        each!(Usage: self, store => store.block_map().await)
    }

    async fn replace_block_map(&self, map: &BlockMap) -> Result<(), StoreError> {
        each!(Usage: self, store => store.replace_block_map(map).await)
    }

    async fn block_marks(&self, log_id: LogId) -> Result<Vec<Vec<Offset>>, StoreError> {
        each!(Usage: self, store => store.block_marks(log_id).await)
    }

    async fn put_block_mark(
        &self,
        log_id: LogId,
        number: u64,
        edge: &[Offset],
    ) -> Result<(), StoreError> {
        each!(Usage: self, store => store.put_block_mark(log_id, number, edge).await)
    }

    async fn write_block_pages(
        &self,
        block: BlockNumber,
        pages: Vec<Page>,
        tenants: Vec<Tenant>,
    ) -> Result<(), StoreError> {
        each!(Usage: self, store => store.write_block_pages(block, pages, tenants).await)
    }

    async fn write_block_manifest(
        &self,
        block: BlockNumber,
        manifest: &BlockManifest,
    ) -> Result<(), StoreError> {
        each!(Usage: self, store => store.write_block_manifest(block, manifest).await)
    }

    async fn block_manifest(
        &self,
        block: BlockNumber,
    ) -> Result<Option<BlockManifest>, StoreError> {
        each!(Usage: self, store => store.block_manifest(block).await)
    }

    async fn find_block_page(&self, block: BlockNumber, key: &[u8]) -> Result<u32, StoreError> {
        each!(Usage: self, store => store.find_block_page(block, key).await)
    }

    async fn block_pages(
        &self,
        block: BlockNumber,
        from: u32,
        limit: usize,
    ) -> Result<Vec<Page>, StoreError> {
        each!(Usage: self, store => store.block_pages(block, from, limit).await)
    }

    async fn stored_blocks(&self) -> Result<Vec<BlockNumber>, StoreError> {
        each!(Usage: self, store => store.stored_blocks().await)
    }

    async fn delete_block(&self, block: BlockNumber) -> Result<bool, StoreError> {
        each!(Usage: self, store => store.delete_block(block).await)
    }

    async fn delete_rows(&self, rows: Vec<RowKey>) -> Result<(), StoreError> {
        each!(Usage: self, store => store.delete_rows(rows).await)
    }

    async fn keep_states(
        &self,
        digests: Vec<u128>,
        seen: Vec<SegmentId>,
    ) -> Result<u64, StoreError> {
        each!(Usage: self, store => store.keep_states(digests, seen).await)
    }

    async fn delete_epoch(&self, log_id: LogId, epoch: Epoch) -> Result<u64, StoreError> {
        each!(Usage: self, store => store.delete_epoch(log_id, epoch).await)
    }

    async fn runs_below(
        &self,
        partition: PartitionKey,
        below: Offset,
    ) -> Result<Vec<Offset>, StoreError> {
        each!(Usage: self, store => store.runs_below(partition, below).await)
    }

    async fn delete_run(&self, segment: SegmentId) -> Result<(), StoreError> {
        each!(Usage: self, store => store.delete_run(segment).await)
    }
}

impl BillingStore for Billing {
    async fn publish_catalogue(
        &self,
        version: &CatalogueVersion,
    ) -> Result<CatalogueVersion, StoreError> {
        each!(Billing: self, store => store.publish_catalogue(version).await)
    }

    async fn activate_catalogue(&self, version: &str) -> Result<(), StoreError> {
        each!(Billing: self, store => store.activate_catalogue(version).await)
    }

    async fn catalogue(&self, version: &str) -> Result<Option<CatalogueVersion>, StoreError> {
        each!(Billing: self, store => store.catalogue(version).await)
    }

    async fn catalogues(&self) -> Result<Vec<CatalogueHead>, StoreError> {
        each!(Billing: self, store => store.catalogues().await)
    }

    async fn append_entry(
        &self,
        journal: &str,
        place: u64,
        entry: &[u8],
    ) -> Result<Appended, StoreError> {
        each!(Billing: self, store => store.append_entry(journal, place, entry).await)
    }

    async fn entries(
        &self,
        journal: &str,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        each!(Billing: self, store => store.entries(journal, from, limit).await)
    }
}
