//! Sealing: a generation of the log has ended once each of its partitions has, and then the journal
//! says how, so that the next one can begin.

use domain::{
    Epoch, Offset, UsageStore,
    epochs::{LogEvent, LogHistory},
    generation::Generation,
    store::{PartitionKey, StoreError},
};
use tracing::info;

use crate::restart::{self, RestartError};

/// Notes in the journal that a log has ended, if every partition's SEAL has its manifest in the epoch
/// in use. Any number of processes may do it at once.
///
/// # Errors
/// See [`RestartError`].
pub async fn note_sealed<U: UsageStore>(
    generation: &Generation,
    store: &U,
) -> Result<bool, RestartError> {
    let log_id = generation.log_id;
    loop {
        let journal = store.journal().await?;
        let history = journal.log(log_id);
        if history.sealed().is_some() {
            return Ok(true);
        }
        let epoch = history.active();
        let mut ends = Vec::new();
        for partition in generation.partitions() {
            let key = PartitionKey { log_id, partition, epoch };
            match sealed_at(store, history, key).await? {
                Some(end) => ends.push(end),
                None => return Ok(false),
            }
        }
        let event = LogEvent::Sealed { log_id, epoch, ends };
        match store.append_log_event(journal.entries, &event).await {
            Ok(()) => {
                info!(%log_id, %epoch, "the log has ended; its next generation begins");
                return Ok(true);
            }
            // Another entry came between: look again at what it says.
            Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Behind the SEAL of a partition, if it has a manifest in this epoch's totals.
///
/// # Errors
/// See [`RestartError`].
pub async fn sealed_at<U: UsageStore>(
    store: &U,
    history: &LogHistory,
    key: PartitionKey,
) -> Result<Option<Offset>, RestartError> {
    let newest = match (store.newest_manifest(key).await?, begins(history, key)) {
        (Some(newest), _) => newest,
        (None, Some((base, start))) => {
            let base = PartitionKey { epoch: base, ..key };
            restart::manifest_ending_at(store, history, base, start).await?
        }
        (None, None) => return Ok(None),
    };
    restart::sealed_at(store, &newest).await
}

/// The base of an epoch that has nothing of its own yet, and where it ends.
fn begins(
    history: &LogHistory,
    PartitionKey { epoch, partition, .. }: PartitionKey,
) -> Option<(Epoch, Offset)> {
    let base = history.opened(epoch)?.base;
    let start = history.start_of(epoch, partition);
    (start > Offset(0)).then_some((base, start))
}

#[cfg(test)]
mod tests;
