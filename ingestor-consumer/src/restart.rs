//! Restart: where a partition goes on, from the store's newest manifest and the log alone.
//!
//! No data row is read. Before anything is folded, the log must show that it is still the log that
//! was read: the anchors' records have the same bytes at the same offsets, and nothing that is
//! still needed has expired. Otherwise the partition stops and names the offsets.

use std::sync::Arc;

use domain::{
    Manifest, Offset, Partition, PulseLog, Timestamp, UsageStore,
    log::{LogDrain, LogError},
    place::Generation,
    segment::Anchor,
    store::{PartitionKey, StoreError},
};
use thiserror::Error;

use crate::fold::{self, Fold, StateError};

/// Why a partition cannot go on. Nothing was changed.
#[derive(Debug, Error)]
pub enum RestartError {
    /// The log holds another record where one was read before.
    #[error(
        "partition {partition}: the record at offset {offset} is not the one that was counted. The log was made again, restored from an older copy, or truncated and written anew. Bring back the right log, or start a new log generation"
    )]
    AnotherLog {
        /// The partition.
        partition: Partition,
        /// The offset whose record differs or is missing.
        offset: Offset,
    },
    /// A state or run that a manifest names is missing or damaged.
    #[error(
        "partition {partition}: the {what} of the segment that starts at {segment_start} is missing or damaged in the store; restore the store, or fold the log again into an empty one"
    )]
    State {
        /// The partition.
        partition: Partition,
        /// `fold state` or `run of ids`.
        what: &'static str,
        /// The segment.
        segment_start: Offset,
    },
    /// The state does not parse.
    #[error(transparent)]
    Parse(#[from] StateError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Restores a partition's fold behind its newest manifest, or at its start.
///
/// # Errors
/// See [`RestartError`].
pub async fn restore<L: PulseLog, U: UsageStore>(
    log: &Arc<L>,
    store: &U,
    key: PartitionKey,
) -> Result<Fold, RestartError> {
    let generation = *log.generation();
    let manifest = store.newest_manifest(key).await?;
    let progress = store.progress(key).await?;
    let from = manifest.map_or(Offset(0), |manifest| manifest.end);
    let bounds = log.bounds(key.partition).await?;
    if from < bounds.low || from > bounds.end {
        let (low, end) = (bounds.low, bounds.end);
        return Err(
            LogError::OutOfRange { partition: key.partition, wanted: from, low, end }.into()
        );
    }
    let anchors =
        [manifest.map(|manifest| manifest.anchor), progress.and_then(|progress| progress.anchor)];
    for anchor in anchors.into_iter().flatten() {
        check_anchor(log, key.partition, bounds.low, anchor).await?;
    }
    match manifest {
        Some(manifest) => resume(&generation, store, key, &manifest).await,
        None => Ok(Fold::new(generation, key)),
    }
}

/// Restores the fold as it was at the end of a closed segment.
///
/// # Errors
/// See [`RestartError`].
pub async fn resume<U: UsageStore>(
    generation: &Generation,
    store: &U,
    key: PartitionKey,
    manifest: &Manifest,
) -> Result<Fold, RestartError> {
    let missing =
        |what, segment_start| RestartError::State { partition: key.partition, what, segment_start };
    let state = store.state(manifest.state_digest).await?;
    let state = state
        .filter(|state| fold::digest(state) == manifest.state_digest)
        .ok_or_else(|| missing("fold state", manifest.segment.start))?;
    let mut runs = Vec::new();
    for manifest in manifests_within_horizon(generation, store, key, manifest).await? {
        let run = store.run(manifest.segment).await?;
        if fold::digest(&run) != manifest.run_digest {
            return Err(missing("run of ids", manifest.segment.start));
        }
        runs.push(run);
    }
    Ok(Fold::resume(*generation, key, manifest, &state, runs.iter().map(Vec::as_slice))?)
}

/// Manifests up to and including `last` whose ids may still matter after it, ascending.
async fn manifests_within_horizon<U: UsageStore>(
    generation: &Generation,
    store: &U,
    key: PartitionKey,
    last: &Manifest,
) -> Result<Vec<Manifest>, StoreError> {
    const PAGE: usize = 1_000;
    let since = last.eff_ts.minus(generation.horizon + generation.segment_span);
    let mut from = first_since(store, key, since, last.segment.start).await?;
    let mut found = Vec::new();
    loop {
        let page = store.manifests(key, from, PAGE).await?;
        found.extend(page.iter().filter(|manifest| manifest.end <= last.end));
        match page.last() {
            Some(newest) if page.len() == PAGE && newest.end < last.end => from = newest.end,
            _ => return Ok(found),
        }
    }
}

/// Start of the first segment that ended at or after `since`, by bisection: log time never falls.
async fn first_since<U: UsageStore>(
    store: &U,
    key: PartitionKey,
    since: Timestamp,
    last_start: Offset,
) -> Result<Offset, StoreError> {
    let (mut low, mut high) = (0, last_start.0);
    while low < high {
        let middle = low + (high - low) / 2;
        match store.manifests(key, Offset(middle), 1).await?.first() {
            Some(manifest) if manifest.eff_ts < since => low = manifest.end.0,
            _ => high = middle,
        }
    }
    Ok(Offset(low))
}

async fn check_anchor<L: PulseLog>(
    log: &Arc<L>,
    partition: Partition,
    low: Offset,
    anchor: Anchor,
) -> Result<(), RestartError> {
    if anchor.offset < low {
        return Ok(());
    }
    let log = Arc::clone(log);
    let read = tokio::task::spawn_blocking(move || record_digest(&*log, partition, anchor.offset));
    match read.await.expect("reading does not panic") {
        Ok(Some(digest)) if digest == anchor.digest => Ok(()),
        Ok(_) | Err(LogError::OutOfRange { .. }) => {
            Err(RestartError::AnotherLog { partition, offset: anchor.offset })
        }
        Err(error) => Err(error.into()),
    }
}

fn record_digest<L: PulseLog>(
    log: &L,
    partition: Partition,
    offset: Offset,
) -> Result<Option<u128>, LogError> {
    let seed = log.generation().hash_seed;
    let mut digest = None;
    log.drain(partition, offset)?.read(offset.next(), 1, &mut |record| {
        digest = Some(domain::hash::bytes128(seed, record.body));
    })?;
    Ok(digest)
}
