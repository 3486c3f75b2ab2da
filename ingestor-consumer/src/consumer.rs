//! The consumer: one tick drains every partition to the end it has at that moment.
//!
//! The hourly job, the drain once by hand and following each second are the same tick on another
//! schedule. A tick returns when everything it found is stored, but for open rows that wait for their
//! pace (`rows_per_second`).

mod assignment;
mod idle;
mod lanes;
mod limits;
mod memory;
mod tick;
mod trouble;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use domain::{
    Clock, Epoch, FoldLimits, Offset, Partition, PulseLog, Timestamp, TotalsFeed, UsageStore,
    epochs::LogHistory,
    generation::Generation,
    log::{AppendError, LogError},
    rebase::Rebase,
    store::StoreError,
};
use runtime::health::Trouble;
use thiserror::Error;

pub use self::trouble::PartitionTrouble;
use self::{idle::Idle, lanes::Lanes, memory::Memory, trouble::Troubles};
use crate::{
    fold::{IdsMemory, Publishing},
    handover::PartitionReport,
    restart,
};

/// How the consumer uses the machine.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// Lanes, each a fold thread and a drain thread. Default: cores, at most the partitions. More
    /// lanes than cores only cost switches.
    pub lanes: usize,
    /// Bytes of records that a drain hands over at once. Default 1 MiB. Small ones cost channel
    /// hops, large ones memory.
    pub chunk_bytes: usize,
    /// Chunks between a drain and its lane, so memory is bounded by lanes x chunks x bytes.
    /// Default 8.
    pub chunks_in_flight: usize,
    /// Flushes between a lane and the store. Default 4.
    pub flushes_in_flight: usize,
    /// Rows of one flush at most, at least 1. Default 32,768: about 8 MiB on their way to the store.
    /// Few cost more writes, many cost memory.
    pub flush_rows_max: usize,
    /// Rows of open segments that are stored in a second, about, shared evenly by the lanes and in each by
    /// its partitions that have some. Default `None`, as many as change. What changed since is stored by a
    /// later tick, by one that finds nothing new, and when its segment closes: few fold faster where many
    /// keys are in use, many are fresher.
    pub rows_per_second: Option<u64>,
    /// Bytes that open segments may hold between drains. Default 1 GiB. Each lane that drains holds one
    /// segment more, of `limits.segment_bytes` at the most. Little closes segments early and
    /// drains fewer partitions at a time.
    pub memory_bytes: u64,
    /// Readers of partitions that stay open between ticks, shared evenly by the lanes, each of which
    /// has one at the least. Default 64. More cost memory and descriptors, fewer cost opening them
    /// again.
    pub readers: usize,
    /// How long after the last write the store is told that a partition to which nothing came is
    /// still caught up. Default 10 minutes. Short ones write to the disk for nothing; with long ones,
    /// `as_of` falls further back for the moment between a record's append and its fold.
    pub idle_flush_interval: Duration,
    /// What the log is told to keep at most, where it says otherwise.
    pub limits: FoldLimits,
    /// Where the ids of the horizon are kept, shared evenly by the partitions of the log. Default in
    /// memory, without a bound.
    pub ids: Option<IdsMemory>,
    /// What it folds for.
    pub work: Work,
}

/// What a consumer folds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// For the totals in use: the active epoch, and another one from the tick on after a swap.
    Live,
    /// For one epoch that is folded beside it. Adds nothing to the log, and the log is not told how
    /// far it was read.
    Rebuild(Epoch),
}

impl ConsumerConfig {
    /// The defaults for this many cores.
    #[must_use]
    pub const fn for_cores(cores: usize) -> Self {
        Self {
            lanes: cores,
            chunk_bytes: 1 << 20,
            chunks_in_flight: 8,
            flushes_in_flight: 4,
            flush_rows_max: 1 << 15,
            rows_per_second: None,
            memory_bytes: 1 << 30,
            readers: 64,
            idle_flush_interval: Duration::from_secs(600),
            limits: FoldLimits::FIRST,
            ids: None,
            work: Work::Live,
        }
    }
}

/// Why the consumer cannot start or go on.
#[derive(Debug, Error)]
pub enum ConsumerError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log takes no boundary.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The store does not answer or does not fit.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A partition cannot go on from where it stood.
    #[error(transparent)]
    Restart(#[from] restart::RestartError),
    /// A partition is stopped.
    #[error("partition {partition} is stopped: {reason}")]
    Stopped {
        /// The partition that is not drained.
        partition: Partition,
        /// Why, and what to do.
        reason: String,
    },
    /// These partitions are not drained, and tried again by later ticks. The others are drained.
    #[error("{}", Listed(.0))]
    Partitions(Vec<PartitionTrouble>),
    /// What blocks are made of could not be sorted.
    #[error("{0}")]
    Blocks(String),
    /// A thread of the consumer has ended.
    #[error("the consumer has ended")]
    Ended,
}

/// Troubles as an error message.
struct Listed<'a>(&'a [PartitionTrouble]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        trouble::list(self.0, f)
    }
}

/// What a tick did.
#[derive(Clone, Debug, Default)]
pub struct TickReport {
    /// Records read.
    pub records: u64,
    /// Where each partition stands.
    pub partitions: Vec<PartitionReport>,
}

/// A running consumer. Dropping it ends its threads; what was not flushed is folded again later.
pub struct Consumer<L: PulseLog, U> {
    log: Arc<L>,
    store: Arc<U>,
    clock: Arc<dyn Clock>,
    generation: Generation,
    /// Its place among the generations of the log, from 1.
    number: usize,
    work: Work,
    /// What the journal last said about the log.
    history: LogHistory,
    publishing: Publishing,
    lanes: Lanes,
    /// Partitions that lanes have taken.
    taken: BTreeMap<Partition, Taken>,
    idle: Idle,
    memory: Memory,
    /// Whether this tick stores all that it folds, however many rows changed.
    stores_all: bool,
    limits: FoldLimits,
    /// Of one partition.
    ids: Option<IdsMemory>,
    troubles: Troubles,
    trouble: Trouble,
    caught_up_at: Option<Timestamp>,
}

/// What is known of a partition that a lane has taken.
struct Taken {
    /// Where it was folded to when its last drain ended.
    folded_to: Offset,
    /// A SEAL has ended it.
    has_ended: bool,
    /// What its fold believes of append times that an operator took back.
    believed: Vec<Rebase>,
    /// The log does not have this consumer's limits yet.
    lacks_limits: bool,
    /// When all that had been folded was stored.
    stored_at: Timestamp,
}

/// What a consumer works on.
pub struct ConsumerPorts<L, U, F> {
    /// Where pulses come from.
    pub log: Arc<L>,
    /// Where totals go.
    pub store: Arc<U>,
    /// Where final totals are published besides, if anywhere.
    pub feed: Option<Arc<F>>,
    /// The consumer's clock.
    pub clock: Arc<dyn Clock>,
}

impl<L: PulseLog, U: UsageStore> Consumer<L, U> {
    /// Starts the lanes and restores the partitions that are assigned to this process. Those that
    /// cannot be restored are in trouble, see [`Consumer::troubles`], unless all are.
    ///
    /// # Errors
    /// The first partition's cause where none can be restored, or where the log is another one than
    /// that was counted: an anchor of a partition differs, and no partition's anchor is as it was.
    /// Else see [`ConsumerError`]. Nothing was started.
    pub async fn start<F: TotalsFeed>(
        ports: ConsumerPorts<L, U, F>,
        config: ConsumerConfig,
    ) -> Result<Self, ConsumerError> {
        Self::start_with(ports, config, Trouble::default()).await
    }

    /// As [`Consumer::start`], for one of several that tell of their trouble together.
    ///
    /// # Errors
    /// As [`Consumer::start`].
    pub async fn start_with<F: TotalsFeed>(
        ports: ConsumerPorts<L, U, F>,
        config: ConsumerConfig,
        trouble: Trouble,
    ) -> Result<Self, ConsumerError> {
        let generation = *ports.log.generation();
        ports.store.register(&generation, None).await?;
        let registered = ports.store.generations().await?;
        let place = registered.iter().position(|known| known.log_id == generation.log_id);
        let publishing = if ports.feed.is_some() { Publishing::On } else { Publishing::Off };
        let mut consumer = Self {
            lanes: Lanes::start(&ports, &config, &trouble),
            log: ports.log,
            store: ports.store,
            clock: ports.clock,
            generation,
            number: place.map_or(1, |place| place + 1),
            work: config.work,
            history: LogHistory::default(),
            publishing,
            taken: BTreeMap::new(),
            idle: Idle::every(config.idle_flush_interval),
            stores_all: true,
            memory: Memory::new(config.memory_bytes, config.limits.segment_bytes),
            limits: config.limits,
            ids: config.ids.map(|ids| ids.share_of(generation.partitions)),
            troubles: Troubles::default(),
            trouble,
            caught_up_at: None,
        };
        let refused = match consumer.follow_assignment().await {
            Ok(()) if consumer.taken.is_empty() => {
                std::mem::take(&mut consumer.troubles).into_first()
            }
            Ok(()) => None,
            Err(error) => Some(error),
        };
        let Some(error) = refused else { return Ok(consumer) };
        consumer.shutdown().await;
        Err(error)
    }

    /// Whether the processes that share the log have agreed which partitions are this one's.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn is_assigned(&self) -> Result<bool, LogError> {
        Ok(self.log.assignment()?.is_some())
    }

    /// Whether the journal said, when it was last read, that the log has ended, so that nothing that
    /// still comes counts in any total.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.history.sealed().is_some()
    }

    /// The partitions that are not drained, as the `Partitions` error of a tick; `None` while all are.
    #[must_use]
    pub fn troubles(&self) -> Option<ConsumerError> {
        self.troubles.error()
    }

    /// What the store refuses or fails at now, for the process's readiness: a tick waits for its
    /// flush, however long the store takes none.
    #[must_use]
    pub const fn trouble(&self) -> &Trouble {
        &self.trouble
    }

    /// Stops the lanes and waits for what they had handed over to be stored. What they had not is
    /// folded again at the next start.
    pub async fn shutdown(self) {
        self.lanes.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
