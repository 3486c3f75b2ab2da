//! Restart: where a partition goes on, from the store's newest manifest and the log alone.
//!
//! No data row is read. Before anything is folded, the log must show that it is still the log that
//! was read: the anchors' records have the same bytes at the same offsets, and nothing that is
//! still needed has expired. Otherwise the partition stops and names the offsets.

pub mod anchors;
mod inherit;

pub use self::inherit::Inheritance;

use std::sync::Arc;

use domain::{
    LogId, Manifest, Offset, Partition, PulseLog, SegmentId, Timestamp, UsageStore,
    epochs::{LogHistory, Stretch},
    generation::Generation,
    log::LogError,
    store::{PartitionKey, StoreError},
};
use thiserror::Error;

use crate::fold::{self, Fold, FoldError, StateError};

/// Why a partition cannot go on. Nothing was changed.
#[derive(Clone, Debug, Error)]
pub enum RestartError {
    /// The log holds another record where one was read before.
    #[error(
        "partition {partition}: the record at offset {offset} is not the one that was counted. The log was made again, restored from an older copy, or truncated and written anew. Bring back the right log, or start a new log generation"
    )]
    AnotherLog {
        /// The partition whose anchor differs.
        partition: Partition,
        /// The offset whose record differs or is missing.
        offset: Offset,
    },
    /// A state or run that a manifest names is missing or damaged.
    #[error(
        "partition {partition}: the {what} of the segment that starts at {segment_start} is missing or damaged in the store; restore the store, or fold the log again into an empty one"
    )]
    State {
        /// The partition that cannot be restored.
        partition: Partition,
        /// `fold state` or `run of ids`.
        what: &'static str,
        /// The first offset of that segment.
        segment_start: Offset,
    },
    /// The generation before has not ended, so nobody knows yet how this one begins.
    #[error(
        "log generation {before} is not sealed yet, and generation {log_id} begins with what it leaves: `pulso log seal` ends it"
    )]
    NotSealed {
        /// The generation that cannot begin.
        log_id: LogId,
        /// The one before it.
        before: LogId,
    },
    /// The state does not parse.
    #[error(transparent)]
    Parse(#[from] StateError),
    /// The ids of the horizon have no room.
    #[error("partition {0}: {1}")]
    Ids(Partition, FoldError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where a partition goes on, in a log that may be the one that was counted.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The newest segment; none where the epoch has none of its own.
    pub manifest: Option<Manifest>,
    /// Whether the log showed that it is the one that was counted.
    pub proof: Proof,
}

/// What an anchor says about a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It is the one that was counted: a record was compared.
    Same,
    /// Nothing: nothing of the partition was counted, or what was counted last has expired.
    Missing,
}

/// Finds where a partition goes on, and compares its anchors with the log.
///
/// # Errors
/// See [`RestartError`]: the partition cannot go on.
pub async fn prove<L: PulseLog, U: UsageStore>(
    log: &Arc<L>,
    store: &U,
    history: &LogHistory,
    key: PartitionKey,
) -> Result<Standing, RestartError> {
    let manifest = store.newest_manifest(key).await?;
    let progress = store.progress(key).await?;
    let bounds = log.bounds(key.partition).await?;
    let start = history.start_of(key.epoch, key.partition);
    let from = manifest.map_or(start, |manifest| manifest.end);
    if from < bounds.low || from > bounds.end {
        let (low, end) = (bounds.low, bounds.end);
        return Err(
            LogError::OutOfRange { partition: key.partition, wanted: from, low, end }.into()
        );
    }
    let of_progress = progress.and_then(|progress| progress.anchor);
    let mut proof = Proof::Missing;
    for anchor in manifest.map(|manifest| manifest.anchor).into_iter().chain(of_progress) {
        if anchors::check(log, key.partition, bounds.low, anchor).await? == Proof::Same {
            proof = Proof::Same;
        }
    }
    Ok(Standing { manifest, proof })
}

/// Restores a partition's fold where it goes on. It must be one of those that `inheritance` is for, here
/// and below.
///
/// # Errors
/// See [`RestartError`].
pub async fn restore<U: UsageStore>(
    generation: &Generation,
    store: &U,
    history: &LogHistory,
    key: PartitionKey,
    standing: Standing,
    inheritance: &Inheritance,
) -> Result<Fold, RestartError> {
    match standing.manifest {
        Some(manifest) => resume(generation, store, history, key, &manifest, inheritance).await,
        None => begin(generation, store, history, key, inheritance).await,
    }
}

/// The fold as it is at the start of an epoch: that of the base's last segment before it, or at the
/// start of the log empty, or what the generation before leaves; and with the dimensions that the
/// epoch declares.
///
/// # Errors
/// See [`RestartError`].
pub async fn begin<U: UsageStore>(
    generation: &Generation,
    store: &U,
    history: &LogHistory,
    key: PartitionKey,
    inheritance: &Inheritance,
) -> Result<Fold, RestartError> {
    let start = history.start_of(key.epoch, key.partition);
    let last = match start {
        Offset(0) => None,
        start => {
            let epoch = history.opened(key.epoch).map_or(key.epoch, |opened| opened.base);
            let base = PartitionKey { epoch, ..key };
            Some(manifest_ending_at(store, history, base, start).await?)
        }
    };
    let fold = match &last {
        Some(last) => resume(generation, store, history, key, last, inheritance).await?,
        None => inheritance.first_fold(generation, store, key).await?,
    };
    let declared = history.opened(key.epoch).map_or(&[][..], |opened| &opened.declared);
    let rebases = history.rebases(key.epoch, key.partition).cloned().collect();
    Ok(fold.declaring(declared).believing(rebases))
}

/// Restores the fold as it was at the end of a closed segment, which may be one of an older epoch.
///
/// # Errors
/// See [`RestartError`].
pub async fn resume<U: UsageStore>(
    generation: &Generation,
    store: &U,
    history: &LogHistory,
    key: PartitionKey,
    manifest: &Manifest,
    inheritance: &Inheritance,
) -> Result<Fold, RestartError> {
    let stored = state_of(store, manifest).await?;
    let resumed = Fold::resume(*generation, key, manifest, &stored)?;
    let rebases = history.rebases(key.epoch, key.partition).cloned().collect();
    let mut fold = inheritance.keep(resumed).believing(rebases);
    // Behind its end a partition knows no ids any more.
    if fold.sealed_at().is_none() {
        remember(&mut fold, store, history, manifest, inheritance).await?;
    }
    Ok(fold)
}

/// Gives a fold the runs whose ids may still matter behind a segment, oldest first, one at a time.
async fn remember<U: UsageStore>(
    fold: &mut Fold,
    store: &U,
    history: &LogHistory,
    last: &Manifest,
    inheritance: &Inheritance,
) -> Result<(), RestartError> {
    let (partition, generation) = (last.segment.partition, *fold.generation());
    let since = remembered_since(&generation, last.eff_ts);
    let within = manifests_since(store, history, last, since).await?;
    if within.first().is_some_and(|first| first.segment.start == Offset(0)) {
        for run in inheritance.runs_since(&generation, store, partition, since).await? {
            fold.remember(run).map_err(|error| RestartError::Ids(partition, error))?;
        }
    }
    for manifest in &within {
        let run = run_of(store, manifest).await?;
        fold.remember(&run).map_err(|error| RestartError::Ids(partition, error))?;
    }
    Ok(())
}

/// The stored states of the end of a closed segment: the whole one that it goes back to, and the deltas
/// behind that, its own the last.
///
/// # Errors
/// See [`RestartError`].
pub async fn state_of<U: UsageStore>(
    store: &U,
    manifest: &Manifest,
) -> Result<Vec<Vec<u8>>, RestartError> {
    let (mut stored, mut wanted) = (Vec::new(), Some(manifest.state_digest));
    while let Some(digest) = wanted {
        let state = stored_state(store, manifest, digest).await?;
        wanted = fold::state_before(&state);
        stored.push(state);
    }
    stored.reverse();
    Ok(stored)
}

/// Behind the SEAL that ended the partition in a closed segment, or before it.
///
/// # Errors
/// See [`RestartError`].
pub async fn sealed_at<U: UsageStore>(
    store: &U,
    manifest: &Manifest,
) -> Result<Option<Offset>, RestartError> {
    let state = stored_state(store, manifest, manifest.state_digest).await?;
    Ok(fold::sealed_at(&state)?)
}

async fn stored_state<U: UsageStore>(
    store: &U,
    manifest: &Manifest,
    digest: u128,
) -> Result<Vec<u8>, RestartError> {
    let state = store.state(digest).await?.filter(|state| fold::digest(state) == digest);
    state.ok_or_else(|| missing("fold state", manifest))
}

/// Whether a stored state is there with all that it goes back to. Reads little of each.
///
/// # Errors
/// See [`StoreError`].
pub async fn has_state<U: UsageStore>(store: &U, digest: u128) -> Result<bool, StoreError> {
    let mut wanted = Some(digest);
    while let Some(digest) = wanted {
        let Some(head) = store.state_head(digest, fold::STATE_HEAD_BYTES).await? else {
            return Ok(false);
        };
        wanted = fold::state_before(&head);
    }
    Ok(true)
}

async fn run_of<U: UsageStore>(store: &U, manifest: &Manifest) -> Result<Vec<u8>, RestartError> {
    let run = store.run(manifest.segment).await?;
    let is_whole = fold::digest(&run) == manifest.run_digest;
    if is_whole { Ok(run) } else { Err(missing("run of ids", manifest)) }
}

fn missing(what: &'static str, manifest: &Manifest) -> RestartError {
    let SegmentId { partition, start, .. } = manifest.segment;
    RestartError::State { partition, what, segment_start: start }
}

/// From when on ids may still matter at this log time.
fn remembered_since(generation: &Generation, eff_ts: Timestamp) -> Timestamp {
    eff_ts.minus(generation.horizon + generation.segment_span)
}

/// The last manifest below `end` of an epoch's totals; a segment must end there.
///
/// # Errors
/// See [`RestartError`].
pub async fn manifest_ending_at<U: UsageStore>(
    store: &U,
    history: &LogHistory,
    key: PartitionKey,
    end: Offset,
) -> Result<Manifest, RestartError> {
    let epoch = history.holding(key.epoch, key.partition, Offset(end.0.saturating_sub(1)));
    let key = PartitionKey { epoch, ..key };
    let found = segment_before(store, key, (Offset(0), end), end).await?;
    let segment_start = found.map_or(end, |manifest| manifest.segment.start);
    found.filter(|manifest| manifest.end == end).ok_or(RestartError::State {
        partition: key.partition,
        what: "manifest",
        segment_start,
    })
}

/// Of the segments in `[from, to)`, the one that holds the record before a place.
///
/// # Errors
/// See [`StoreError`].
pub async fn segment_before<U: UsageStore>(
    store: &U,
    key: PartitionKey,
    (from, to): (Offset, Offset),
    place: Offset,
) -> Result<Option<Manifest>, StoreError> {
    let start = first_from(store, key, from, to, |segment| segment.end >= place).await?;
    Ok(store.manifests(key, start, 1).await?.into_iter().next())
}

/// Manifests up to and including `last` that reach to `since` or later, ascending.
async fn manifests_since<U: UsageStore>(
    store: &U,
    history: &LogHistory,
    last: &Manifest,
    since: Timestamp,
) -> Result<Vec<Manifest>, StoreError> {
    let SegmentId { log_id, partition, epoch, .. } = last.segment;
    let mut found = Vec::new();
    for Stretch { epoch, from, to } in history.stretches(epoch, partition) {
        let key = PartitionKey { log_id, partition, epoch };
        let end = to.unwrap_or(last.end).min(last.end);
        let start = first_from(store, key, from, end, |manifest| manifest.eff_ts >= since).await?;
        found.splice(..0, manifests_between(store, key, start, end).await?);
        if start > from {
            break;
        }
    }
    Ok(found)
}

/// Manifests of one epoch that start in `[from, to)`, ascending.
///
/// # Errors
/// See [`StoreError`].
pub async fn manifests_between<U: UsageStore>(
    store: &U,
    key: PartitionKey,
    mut from: Offset,
    to: Offset,
) -> Result<Vec<Manifest>, StoreError> {
    const PAGE: usize = 1_000;
    let mut found = Vec::new();
    loop {
        let page = store.manifests(key, from, PAGE).await?;
        found.extend(page.iter().filter(|manifest| manifest.segment.start < to));
        match page.last() {
            Some(newest) if page.len() == PAGE && newest.end < to => {
                from = newest.segment.start.next();
            }
            _ => return Ok(found),
        }
    }
}

/// Start of the first segment in `[from, to)` that `is_wanted`, or `to`, by bisection: once one is
/// wanted, all later ones are.
///
/// # Errors
/// See [`StoreError`].
pub async fn first_from<U: UsageStore>(
    store: &U,
    key: PartitionKey,
    from: Offset,
    to: Offset,
    is_wanted: impl Fn(&Manifest) -> bool,
) -> Result<Offset, StoreError> {
    let (mut low, mut high) = (from.0, to.0);
    while low < high {
        let middle = low + (high - low) / 2;
        let found = store.manifests(key, Offset(middle), 1).await?.into_iter().next();
        // An epoch may have been folded beyond the stretch that counts of it.
        match found.filter(|manifest| manifest.segment.start < to) {
            Some(manifest) if !is_wanted(&manifest) => low = manifest.end.0,
            _ => high = middle,
        }
    }
    Ok(Offset(low))
}

#[cfg(test)]
mod tests;
