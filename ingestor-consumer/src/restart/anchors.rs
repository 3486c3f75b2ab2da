//! Anchors: the proof that a log is still the one whose totals a store has.
//!
//! A manifest and the progress behind it name a record that was counted, with a digest of its bytes.
//! Who folds compares those of its own partition; who is about to append compares one for the whole
//! log, because a log is made again as a whole, and nobody would count what went into another one.

use std::{pin::pin, sync::Arc};

use domain::{
    Offset, Partition, PulseLog, UsageStore,
    log::{LogBounds, LogDrain, LogError},
    segment::Anchor,
    store::PartitionKey,
};

use futures_util::{StreamExt as _, stream};

use super::{Proof, RestartError};

/// Partitions that are asked about at a time.
const ASKED_AT_ONCE: usize = 64;

/// Proves that a log is the one that was counted, before anything is appended to it: no partition ends
/// below what was counted of it, and the first anchor that has not expired names the record that is
/// there. A log of which nothing was counted, or of which all that was has expired, cannot be told
/// from another one. Asks the store and the log about each partition, and reads one record. A
/// partition that cannot be read now is passed over where another one proves the log.
///
/// # Errors
/// `AnotherLog`, or `OutOfRange` in `Log`; those of store and log. Never `NotSealed` or `State`.
pub async fn check_log<L: PulseLog, U: UsageStore>(
    log: &Arc<L>,
    store: &U,
) -> Result<(), RestartError> {
    let log_id = log.generation().log_id;
    let epoch = store.journal().await?.log(log_id).active();
    let asking = stream::iter(log.generation().partitions()).map(|partition| async move {
        let key = PartitionKey { log_id, partition, epoch };
        (partition, ask(log, store, key).await)
    });
    let mut asking = pin!(asking.buffered(ASKED_AT_ONCE));
    let (mut proof, mut away) = (Proof::Missing, None);
    while let Some((partition, asked)) = asking.next().await {
        let checked = match asked {
            Ok(asked) => check_partition(log, partition, asked, proof).await,
            Err(error) => Err(error),
        };
        match checked {
            Ok(Proof::Same) => proof = Proof::Same,
            Ok(Proof::Missing) => {}
            Err(error @ RestartError::Log(LogError::Unavailable(_))) => {
                away.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    match away {
        Some(error) if proof == Proof::Missing => Err(error),
        _ => Ok(()),
    }
}

async fn ask<L: PulseLog, U: UsageStore>(
    log: &Arc<L>,
    store: &U,
    key: PartitionKey,
) -> Result<(Vec<Anchor>, LogBounds), RestartError> {
    let of_manifest = store.newest_manifest(key).await?.map(|manifest| manifest.anchor);
    let of_progress = store.progress(key).await?.and_then(|progress| progress.anchor);
    // Asked after the store, so that it is the later news of the two.
    let bounds = log.bounds(key.partition).await?;
    Ok((of_progress.into_iter().chain(of_manifest).collect(), bounds))
}

/// Compares the ends, and a record where nothing was proved so far.
async fn check_partition<L: PulseLog>(
    log: &Arc<L>,
    partition: Partition,
    (anchors, bounds): (Vec<Anchor>, LogBounds),
    proof: Proof,
) -> Result<Proof, RestartError> {
    let LogBounds { low, end } = bounds;
    for anchor in &anchors {
        let wanted = anchor.offset.next();
        if wanted > end {
            return Err(LogError::OutOfRange { partition, wanted, low, end }.into());
        }
    }
    match anchors.into_iter().find(|anchor| anchor.offset >= low) {
        Some(anchor) if proof == Proof::Missing => check(log, partition, low, anchor).await,
        _ => Ok(proof),
    }
}

/// Compares the record at an anchor with what was counted; one that has expired is no proof.
pub(super) async fn check<L: PulseLog>(
    log: &Arc<L>,
    partition: Partition,
    low: Offset,
    anchor: Anchor,
) -> Result<Proof, RestartError> {
    if anchor.offset < low {
        return Ok(Proof::Missing);
    }
    let log = Arc::clone(log);
    let read = tokio::task::spawn_blocking(move || record_digest(&*log, partition, anchor.offset));
    match read.await.expect("reading does not panic") {
        Ok(Some(digest)) if digest == anchor.digest => Ok(Proof::Same),
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
