//! Replay: the log folded again into an epoch of its own, beside the totals in use.
//!
//! Three steps, each of which may be repeated: open an epoch and fold it (a consumer whose work is
//! [`Work::Rebuild`](crate::Work)), compare it, and make it the one in use. Nothing of the totals in
//! use is touched before the last, and nothing is ever overwritten by it.

mod compare;
mod edge;

use std::collections::BTreeSet;

use domain::{
    BlockStore, Epoch, Offset, Partition, PulseLog, Timestamp,
    epochs::{Declared, LogEvent, LogHistory, OpenedEpoch, Stretch},
    log::LogError,
    store::{PartitionKey, StoreError},
};
use thiserror::Error;

pub use self::compare::{Comparison, Difference, compare};
use crate::{blocks::BlocksError, restart};

/// What is to be folded again.
#[derive(Clone, Debug)]
pub struct ReplayPlan {
    /// The epoch to fold into.
    pub into: Epoch,
    /// From where on.
    pub from: ReplayFrom,
    /// Dimensions that count from there on as if they had been declared there.
    pub declared: Vec<Declared>,
}

/// Where a replay begins. Below that, the new epoch has the totals in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayFrom {
    /// The start of the log.
    Start,
    /// In each partition the last closed segment whose records all reached the log before this
    /// moment: what came at or after it is folded again. Where blocks or cuts of bills stand behind it,
    /// at the last edge or end of a block before it.
    Time(Timestamp),
}

/// Why an epoch cannot be opened or used. Nothing was changed.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The epoch is in use already.
    #[error("epoch {0} is the one in use: fold into one with a greater number")]
    Active(Epoch),
    /// The number is not greater than those before it.
    #[error("epoch {given} was never opened, and epoch {newest} was: take {} or more", newest.0 + 1)]
    Number {
        /// The number asked for.
        given: Epoch,
        /// The greatest in use.
        newest: Epoch,
    },
    /// It was opened with something else.
    #[error(
        "epoch {0} was opened to begin elsewhere or with other dimensions: ask for the same again to go on with it, or take a greater number"
    )]
    OpenedOtherwise(Epoch),
    /// There is no such epoch.
    #[error("there is no epoch {0}: `pulso replay list` shows those there are")]
    Unknown(Epoch),
    /// It was there.
    #[error("epoch {0} was dropped: fold into one with a greater number than all before")]
    Dropped(Epoch),
    /// It was to be dropped, and others need it.
    #[error("epoch {epoch} cannot be dropped: {why}")]
    Needed {
        /// The epoch that stays.
        epoch: Epoch,
        /// What needs it.
        why: String,
    },
    /// Records that it would need are gone.
    #[error(
        "partition {partition}: the log begins at offset {low} and the replay would begin at {start}: what is between has expired. Begin with --from at a later time"
    )]
    Expired {
        /// The partition that has lost records.
        partition: Partition,
        /// Where the log begins.
        low: Offset,
        /// Where the replay would.
        start: Offset,
    },
    /// It is not as far as the epoch in use.
    #[error(
        "epoch {epoch} is behind: in partition {partition} its totals are final up to offset {closed_to}, and those in use up to {needed}. Run the replay again first"
    )]
    Behind {
        /// The epoch that was to be used.
        epoch: Epoch,
        /// A partition in which it is behind.
        partition: Partition,
        /// End of its last closed segment.
        closed_to: Offset,
        /// End of the last closed segment in use.
        needed: Offset,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was compared could not be sorted.
    #[error(transparent)]
    Sort(#[from] BlocksError),
}

/// Opens an epoch, or finds it opened in just this way.
///
/// # Errors
/// See [`ReplayError`].
pub async fn open<L: PulseLog, U: BlockStore>(
    log: &L,
    store: &U,
    plan: &ReplayPlan,
) -> Result<OpenedEpoch, ReplayError> {
    loop {
        let journal = store.journal().await?;
        let history = journal.log(log.generation().log_id);
        if history.active() == plan.into {
            return Err(ReplayError::Active(plan.into));
        }
        if history.dropped().any(|epoch| epoch == plan.into) {
            return Err(ReplayError::Dropped(plan.into));
        }
        if let Some(opened) = history.opened(plan.into) {
            let from_start = opened.starts.iter().all(|start| *start == Offset(0));
            let same =
                opened.declared == plan.declared && (plan.from != ReplayFrom::Start || from_start);
            return if same {
                Ok(opened.clone())
            } else {
                Err(ReplayError::OpenedOtherwise(plan.into))
            };
        }
        let newest = history.newest();
        if plan.into <= newest {
            return Err(ReplayError::Number { given: plan.into, newest });
        }
        let opened = OpenedEpoch {
            log_id: log.generation().log_id,
            epoch: plan.into,
            base: history.active(),
            starts: starts(log, store, history, plan.from).await?,
            declared: plan.declared.clone(),
        };
        match store.append_log_event(journal.entries, &LogEvent::Opened(opened.clone())).await {
            Ok(()) => return Ok(opened),
            // Another entry came between: look again at what it says.
            Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn starts<L: PulseLog, U: BlockStore>(
    log: &L,
    store: &U,
    history: &LogHistory,
    from: ReplayFrom,
) -> Result<Vec<Offset>, ReplayError> {
    let mut starts = Vec::new();
    for partition in log.generation().partitions() {
        starts.push(match from {
            ReplayFrom::Start => Offset(0),
            ReplayFrom::Time(time) => start_at(log, store, history, partition, time).await?,
        });
    }
    let starts = match from {
        ReplayFrom::Start => starts,
        ReplayFrom::Time(_) => {
            edge::at_or_before(store, log.generation().log_id, history, starts).await?
        }
    };
    for (partition, start) in log.generation().partitions().zip(starts.iter().copied()) {
        let low = log.bounds(partition).await?.low;
        if low > start {
            return Err(ReplayError::Expired { partition, low, start });
        }
    }
    Ok(starts)
}

/// End of the last segment in use whose records all reached the log before `time`; 0 without one.
async fn start_at<L: PulseLog, U: BlockStore>(
    log: &L,
    store: &U,
    history: &LogHistory,
    partition: Partition,
    time: Timestamp,
) -> Result<Offset, ReplayError> {
    let log_id = log.generation().log_id;
    for Stretch { epoch, from, to } in history.stretches(history.active(), partition) {
        let key = PartitionKey { log_id, partition, epoch };
        let end = match to {
            Some(to) => to,
            None => closed_to(store, history, key).await?,
        };
        let start = restart::first_from(store, key, from, end, |last| last.eff_ts >= time).await?;
        if start > from {
            return Ok(start);
        }
    }
    Ok(Offset(0))
}

/// End of the last closed segment of an epoch, or where the epoch begins.
async fn closed_to<U: BlockStore>(
    store: &U,
    history: &LogHistory,
    key: PartitionKey,
) -> Result<Offset, StoreError> {
    let start = history.start_of(key.epoch, key.partition);
    Ok(store.newest_manifest(key).await?.map_or(start, |newest| newest.end))
}

/// Whether there is such an epoch.
fn known(history: &LogHistory, epoch: Epoch) -> Result<(), ReplayError> {
    if history.dropped().any(|dropped| dropped == epoch) {
        return Err(ReplayError::Dropped(epoch));
    }
    if history.epochs().all(|known| known != epoch) {
        return Err(ReplayError::Unknown(epoch));
    }
    Ok(())
}

/// Drops an epoch: it cannot be compared or put to use any more, and what is stored of it may go. `billed`
/// are the epochs that the cuts of bills see. Asking again for what was dropped already does nothing.
///
/// # Errors
/// `Needed` for an epoch that totals in use, bills or another epoch stand on; see [`ReplayError`].
pub async fn drop<L: PulseLog, U: BlockStore>(
    log: &L,
    store: &U,
    epoch: Epoch,
    billed: &BTreeSet<Epoch>,
) -> Result<(), ReplayError> {
    let generation = log.generation();
    let log_id = generation.log_id;
    loop {
        let journal = store.journal().await?;
        let history = journal.log(log_id);
        match known(history, epoch) {
            Err(ReplayError::Dropped(_)) => return Ok(()),
            known => known?,
        }
        let stands_on = |other: Epoch| {
            let mut partitions = generation.partitions();
            partitions.any(|partition| {
                history.stretches(other, partition).any(|stretch| stretch.epoch == epoch)
            })
        };
        let why = if history.active() == epoch {
            Some("it is the one in use".to_owned())
        } else if let Some(other) = history.epochs().find(|it| *it != epoch && stands_on(*it)) {
            Some(format!(
                "epoch {other} begins behind it, and below that its totals are this one's"
            ))
        } else if history.sealed().is_some_and(|sealed| sealed.epoch == epoch) {
            Some("the next generation of the log began with what it left".to_owned())
        } else if billed.contains(&epoch) {
            Some("invoices were made from it, and could not be verified any more".to_owned())
        } else {
            None
        };
        if let Some(why) = why {
            return Err(ReplayError::Needed { epoch, why });
        }
        match store.append_log_event(journal.entries, &LogEvent::Dropped { log_id, epoch }).await {
            Ok(()) => return Ok(()),
            Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Makes an epoch the one in use. Asking again for what is in use already does nothing.
///
/// # Errors
/// `Behind` when totals that are final now would not be; see [`ReplayError`].
pub async fn swap<L: PulseLog, U: BlockStore>(
    log: &L,
    store: &U,
    epoch: Epoch,
) -> Result<(), ReplayError> {
    let log_id = log.generation().log_id;
    loop {
        let journal = store.journal().await?;
        let history = journal.log(log_id);
        if history.active() == epoch {
            return Ok(());
        }
        known(history, epoch)?;
        for partition in log.generation().partitions() {
            let [new, old] =
                [epoch, history.active()].map(|epoch| PartitionKey { log_id, partition, epoch });
            let needed = closed_to(store, history, old).await?;
            let closed_to = closed_to(store, history, new).await?;
            if closed_to < needed {
                return Err(ReplayError::Behind { epoch, partition, closed_to, needed });
            }
        }
        match store.append_log_event(journal.entries, &LogEvent::Activated { log_id, epoch }).await
        {
            Ok(()) => return Ok(()),
            Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
