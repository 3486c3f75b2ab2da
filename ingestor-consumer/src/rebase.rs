//! Rebase: append times from a clock that was ahead are found in the log and taken back.
//!
//! Nothing in the log is changed. What is found is put into the journal, which the consumer reads at
//! each tick: a partition that stopped at such a record goes on. Where a record was counted at its
//! wrong time already, the word holds from the next epoch on, which a replay folds.

use std::{sync::Arc, time::Duration};

use domain::{
    Epoch, Offset, Partition, PulseLog, Timestamp, UsageStore,
    epochs::{LogEvent, LogHistory},
    log::{LogDrain as _, LogError, LogRecord},
    rebase::Rebase,
    store::{PartitionKey, StoreError},
};

use crate::{
    lane::CLOCK_AHEAD_MAX,
    restart::{self, RestartError},
};

/// Bytes that are read at a time.
const READ_BYTES: usize = 1 << 20;

/// What is to be taken back.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The present moment, by a clock that is right.
    pub now: Timestamp,
    /// How far the log's clock was ahead; `None`: as far as the last of a stretch is ahead of the
    /// record behind it, or of now.
    pub ahead: Option<Duration>,
    /// Why, in the operator's words.
    pub reason: String,
}

/// Finds the stretches of a partition whose append times are more than 10 minutes ahead, ascending.
/// Reads the log from the first segment on whose log time is that far ahead.
///
/// # Errors
/// See [`RestartError`].
pub async fn find<L: PulseLog, U: UsageStore>(
    log: &Arc<L>,
    store: &U,
    partition: Partition,
    asked: &Asked,
) -> Result<Vec<Rebase>, RestartError> {
    let log_id = log.generation().log_id;
    let journal = store.journal().await?;
    let history = journal.log(log_id);
    let key = PartitionKey { log_id, partition, epoch: history.active() };
    let limit = asked.now.plus(CLOCK_AHEAD_MAX);
    let from = first_suspect(store, history, key, limit).await?;
    let known = history.rebases(Epoch(u16::MAX), partition).cloned().collect();
    let log = Arc::clone(log);
    let found = tokio::task::spawn_blocking(move || scan(&*log, partition, from, known, limit));
    let stretches = found.await.expect("reading the log does not panic")?;
    let mut rebases = Vec::with_capacity(stretches.len());
    for Stretch { from, to, last_at, behind_at } in stretches {
        let behind = last_at.micros() - behind_at.unwrap_or(asked.now).micros();
        let computed = Duration::from_micros(u64::try_from(behind).unwrap_or(0));
        rebases.push(Rebase {
            log_id,
            partition,
            epoch: first_epoch(store, history, key, from).await?,
            from,
            to,
            ahead: asked.ahead.unwrap_or(computed),
            noted_at: asked.now,
            reason: asked.reason.clone(),
        });
    }
    Ok(rebases)
}

/// Puts it into the journal.
///
/// # Errors
/// See [`StoreError`]; none or some of it is in the journal then, and asking again goes on.
pub async fn note<U: UsageStore>(store: &U, rebases: &[Rebase]) -> Result<(), StoreError> {
    for rebase in rebases {
        let event = LogEvent::Rebased(rebase.clone());
        loop {
            let entries = store.journal().await?.entries;
            match store.append_log_event(entries, &event).await {
                Ok(()) => break,
                // Another entry came between.
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Below it no record is ahead: the start of the first segment whose log time is, or of what is not
/// in a closed segment yet.
async fn first_suspect<U: UsageStore>(
    store: &U,
    history: &LogHistory,
    key: PartitionKey,
    limit: Timestamp,
) -> Result<Offset, StoreError> {
    let start = history.start_of(key.epoch, key.partition);
    let Some(newest) = store.newest_manifest(key).await? else { return Ok(start) };
    restart::first_from(store, key, start, newest.end, |segment| segment.eff_ts > limit).await
}

/// The epoch in use, unless it has counted the record at `from` already; then the next one.
async fn first_epoch<U: UsageStore>(
    store: &U,
    history: &LogHistory,
    key: PartitionKey,
    from: Offset,
) -> Result<Epoch, StoreError> {
    let later = history.all_opened().map(|opened| opened.epoch).filter(|epoch| *epoch > key.epoch);
    let candidates: Vec<Epoch> = std::iter::once(key.epoch).chain(later).collect();
    let mut first = key.epoch;
    for epoch in candidates {
        let progress = store.progress(PartitionKey { epoch, ..key }).await?;
        if progress.is_some_and(|progress| progress.folded_to > from) {
            first = Epoch(epoch.0.saturating_add(1));
        }
    }
    Ok(first)
}

/// Records in a row that are ahead.
struct Stretch {
    from: Offset,
    to: Offset,
    /// Append time of the last of them.
    last_at: Timestamp,
    /// When the record behind them reached the log.
    behind_at: Option<Timestamp>,
}

fn scan<L: PulseLog>(
    log: &L,
    partition: Partition,
    from: Offset,
    known: Vec<Rebase>,
    limit: Timestamp,
) -> Result<Vec<Stretch>, LogError> {
    let mut found: Vec<Stretch> = Vec::new();
    let mut look = |record: LogRecord<'_>| {
        let (offset, at) = (record.offset, record.appended_at);
        let believed = known.iter().rev().find_map(|rebase| rebase.time_of(offset, at));
        let time = believed.unwrap_or(at);
        let open = found.last_mut().filter(|stretch| stretch.behind_at.is_none());
        match (time > limit, open) {
            (true, Some(open)) => (open.to, open.last_at) = (offset.next(), at),
            (true, None) => {
                let (to, last_at) = (offset.next(), at);
                found.push(Stretch { from: offset, to, last_at, behind_at: None });
            }
            (false, Some(open)) => open.behind_at = Some(time),
            (false, None) => {}
        }
    };
    let bounds = tokio::runtime::Handle::current().block_on(log.bounds(partition))?;
    let mut next = from.max(bounds.low);
    let mut drain = log.drain(partition, next)?;
    while next < bounds.end {
        next = drain.read(bounds.end, READ_BYTES, &mut look)?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
