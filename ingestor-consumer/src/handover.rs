//! Handover: what the threads of a lane give to one another, and what a tick hears back.
//!
//! A tick asks the drain; the drain hands chunks of records to the lane; the lane hands flushes to
//! the flusher; the flusher answers the tick. Every channel is bounded, and the one from the drain to
//! the lane is the back-pressure: when the lane is behind, reading waits.

use std::sync::Arc;

use domain::{
    DeadLetterReason, Offset, Partition, Timestamp,
    log::{LogError, LogRecord},
    segment::Conservation,
    store::Flush,
};
use tokio::sync::oneshot;

use crate::fold::Fold;

/// Where a partition stands after a tick.
#[derive(Clone, Copy, Debug)]
pub struct PartitionReport {
    /// The partition that was drained.
    pub partition: Partition,
    /// Records folded since the last tick.
    pub records: u64,
    /// All records below are folded.
    pub folded_to: Offset,
    /// They are stored too. What is not is stored by a later tick.
    pub is_stored: bool,
    /// Log time at which the open segment began, if it holds a record.
    pub open_since: Option<Timestamp>,
    /// Ids remembered.
    pub ids_held: u64,
    /// Bytes that the open segment holds in memory.
    pub held_bytes: u64,
    /// Ids that came again with another payload since the last tick.
    pub id_conflicts: u64,
    /// Pulses set aside since the last tick, by reason in the order of [`DeadLetterReason::ALL`].
    pub dead_letters: [u64; DeadLetterReason::ALL.len()],
    /// What became of everything since the start of the partition.
    pub counts: Conservation,
    /// Behind the record that ended the partition, once it has ended.
    pub sealed_at: Option<Offset>,
}

/// What a tick asks of a lane's drain, in order.
pub(crate) enum DrainCommand {
    /// The partition is this lane's from now on; its fold stands at `fold.folded_to()`.
    Take { partition: Partition, fold: Box<Fold> },
    /// The partition is another process's from now on. What was not flushed is folded there.
    LetGo { partition: Partition },
    /// All records of a partition below `until`.
    Drain(DrainTo),
}

pub(crate) struct DrainTo {
    pub(crate) partition: Partition,
    pub(crate) until: Offset,
    /// When `until` was seen to be the end of the log.
    pub(crate) seen_at: Timestamp,
    /// Whether the open segment is stored however many of its rows changed.
    pub(crate) must_store: bool,
    /// Answered once everything below `until` is stored, or folded.
    pub(crate) done: Done,
}

/// Where the end of a drain is reported.
pub(crate) type Done = oneshot::Sender<Result<PartitionReport, StopReason>>;

/// Why a partition went no further.
#[derive(Debug)]
pub(crate) enum StopReason {
    /// Reading failed; the next tick tries again.
    Log(LogError),
    /// The partition is stopped until the process starts again.
    Stopped(Arc<str>),
}

/// Records of one partition, copied out of the log.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    bodies: Vec<u8>,
    records: Vec<(Offset, Timestamp, usize)>,
}

impl Chunk {
    pub(crate) fn push(&mut self, record: LogRecord<'_>) {
        self.bodies.extend_from_slice(record.body);
        self.records.push((record.offset, record.appended_at, self.bodies.len()));
    }

    pub(crate) fn clear(&mut self) {
        self.bodies.clear();
        self.records.clear();
    }

    /// Place of the last record.
    pub(crate) fn last(&self) -> Option<Offset> {
        self.records.last().map(|(offset, ..)| *offset)
    }

    /// The records in order.
    pub(crate) fn records(&self) -> impl Iterator<Item = LogRecord<'_>> {
        let mut start = 0;
        self.records.iter().map(move |(offset, appended_at, end)| {
            let body = &self.bodies[start..*end];
            start = *end;
            LogRecord { offset: *offset, appended_at: *appended_at, body }
        })
    }
}

/// What the drain sends.
pub(crate) enum ToLane {
    Take {
        partition: Partition,
        fold: Box<Fold>,
    },
    LetGo {
        partition: Partition,
    },
    Chunk {
        partition: Partition,
        chunk: Chunk,
    },
    Flush {
        partition: Partition,
        seen_at: Timestamp,
        must_store: bool,
        done: Done,
    },
    /// Reading went no further than the chunks before.
    Failed {
        partition: Partition,
        error: LogError,
        done: Done,
    },
}

/// What the lane sends. The answer of a drain goes the way of its flushes, so when the tick hears it,
/// all that the drain lent is stored; but where the open segment waits for its pace, the lane answers
/// itself, and says so. Of a partition that stopped, the open segment is not: it is folded
/// again once the partition is restored.
pub(crate) enum FlushJob {
    Store(Box<StoreJob>),
    /// The partition went no further.
    Tell {
        reason: StopReason,
        done: Done,
    },
}

/// A flush, and who waits for it.
pub(crate) struct StoreJob {
    pub(crate) flush: Flush,
    pub(crate) done: Option<(Done, PartitionReport)>,
}

impl FlushJob {
    pub(crate) fn store(flush: Flush, done: Option<(Done, PartitionReport)>) -> Self {
        Self::Store(Box::new(StoreJob { flush, done }))
    }
}
