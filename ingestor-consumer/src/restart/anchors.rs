//! Anchors: the proof that a log is still the one whose totals a store has.
//!
//! A manifest and the progress behind it name a record that was counted, with a digest of its bytes.
//! Who folds compares those of its own partition; who is about to append compares one for the whole
//! log, because a log is made again as a whole, and nobody would count what went into another one.

use std::sync::Arc;

use domain::{
    Offset, Partition, PulseLog, UsageStore,
    log::{LogBounds, LogDrain, LogError},
    segment::Anchor,
    store::PartitionKey,
};

use super::RestartError;

/// Proves that a log is the one that was counted, before anything is appended to it: no partition ends
/// below what was counted of it, and the first anchor that has not expired names the record that is
/// there. A log of which nothing was counted, or of which all that was has expired, cannot be told
/// from another one. Asks the store and the log about each partition, and reads one record.
///
/// # Errors
/// `AnotherLog`, or `OutOfRange` in `Log`; those of store and log. Never `NotSealed` or `State`.
pub async fn check_log<L: PulseLog, U: UsageStore>(
    log: &Arc<L>,
    store: &U,
) -> Result<(), RestartError> {
    let log_id = log.generation().log_id;
    let epoch = store.journal().await?.log(log_id).active();
    let mut is_proved = false;
    for partition in log.generation().partitions() {
        let key = PartitionKey { log_id, partition, epoch };
        let manifest = store.newest_manifest(key).await?;
        let of_progress = store.progress(key).await?.and_then(|progress| progress.anchor);
        // Asked after the store, so that it is the later news of the two.
        let LogBounds { low, end } = log.bounds(partition).await?;
        let of_manifest = manifest.map(|manifest| manifest.anchor);
        for anchor in of_progress.into_iter().chain(of_manifest) {
            let wanted = anchor.offset.next();
            if wanted > end {
                return Err(LogError::OutOfRange { partition, wanted, low, end }.into());
            }
            if !is_proved && anchor.offset >= low {
                check(log, partition, low, anchor).await?;
                is_proved = true;
            }
        }
    }
    Ok(())
}

/// Compares the record at an anchor with what was counted; one that has expired is no proof.
pub(super) async fn check<L: PulseLog>(
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
