//! Lane: a plain thread that folds the records of its partitions and shares nothing.
//!
//! A flush is a marker in the same channel as the records, so it cuts at a record boundary.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender};
use domain::{
    Clock, Offset, Partition, Timestamp,
    log::{LogError, LogRecord},
    segment::Progress,
    store::Flush,
};
use tokio::sync::mpsc;
use tracing::error;

use crate::{
    fold::Fold,
    handover::{Chunk, Done, FlushJob, PartitionReport, StopReason, ToLane},
};

/// How far a record's time may be ahead of this process's clock before the partition stops: beyond
/// it either clock is wrong, and every verdict about lateness would be too.
pub(crate) const CLOCK_AHEAD_MAX: Duration = Duration::from_secs(600);

/// The lane's own state.
pub(crate) struct Lane {
    partitions: HashMap<Partition, LanePartition>,
    clock: Arc<dyn Clock>,
    flushes: mpsc::Sender<FlushJob>,
    recycled: Sender<Chunk>,
    /// Rows of one flush at most.
    flush_rows_max: usize,
    /// Rows of open segments that all partitions together store in a second; `None` for all that change.
    rows_per_second: Option<u64>,
}

struct LanePartition {
    fold: Box<Fold>,
    /// Set once the partition must not be folded further.
    stopped: Option<Arc<str>>,
    /// Records folded since the last flush marker.
    records: u64,
    /// Where the fold was when its open segment was last flushed.
    flushed_to: Offset,
    /// When that was.
    flushed_at: Instant,
}

impl Lane {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        flushes: mpsc::Sender<FlushJob>,
        recycled: Sender<Chunk>,
        (flush_rows_max, rows_per_second): (usize, Option<u64>),
    ) -> Self {
        let partitions = HashMap::new();
        Self { partitions, clock, flushes, recycled, flush_rows_max, rows_per_second }
    }

    /// Serves messages until the drain is gone, or the flusher.
    pub(crate) fn run(mut self, messages: &Receiver<ToLane>) {
        for message in messages {
            let flushed = match message {
                ToLane::Take { partition, fold } => {
                    let fold = Box::new(fold.flushing(self.flush_rows_max));
                    let flushed_to = fold.folded_to();
                    let (stopped, records, flushed_at) = (None, 0, Instant::now());
                    let lane = LanePartition { fold, stopped, records, flushed_to, flushed_at };
                    self.partitions.insert(partition, lane);
                    Ok(())
                }
                ToLane::LetGo { partition } => {
                    self.partitions.remove(&partition);
                    Ok(())
                }
                ToLane::Chunk { partition, chunk } => {
                    let flushed = self.fold(partition, &chunk);
                    // A full pool frees the buffer instead.
                    drop(self.recycled.try_send(chunk));
                    flushed
                }
                ToLane::Flush { partition, seen_at, must_store, done } => {
                    self.flush(partition, seen_at, must_store, done)
                }
                ToLane::Failed { partition, error, done } => self.fail(partition, error, done),
            };
            if flushed.is_err() {
                return;
            }
        }
    }

    fn fold(&mut self, partition: Partition, chunk: &Chunk) -> Result<(), FlusherGone> {
        let latest = self.clock.now().plus(CLOCK_AHEAD_MAX);
        let lane = lane_of(&mut self.partitions, partition);
        if lane.stopped.is_some() {
            return Ok(());
        }
        let mut closed = ToFlusher { flushes: &self.flushes, is_gone: Ok(()) };
        for record in chunk.records() {
            if let Err(reason) = lane.fold_one(record, latest, &mut closed) {
                error!(%partition, offset = %record.offset, %reason, "partition stopped; nothing was decided about this record and it is safe in the log");
                lane.stopped = Some(reason.into());
                break;
            }
            lane.records += 1;
        }
        closed.is_gone
    }

    fn flush(
        &mut self,
        partition: Partition,
        seen_at: Timestamp,
        must_store: bool,
        done: Done,
    ) -> Result<(), FlusherGone> {
        let with_rows =
            self.partitions.values().filter(|lane| lane.fold.changed_rows() > 0).count();
        let share = |rows: u64| (rows / with_rows.max(1) as u64).max(1);
        let rows_per_second = self.rows_per_second.map(share);
        let lane = lane_of(&mut self.partitions, partition);
        if let Some(reason) = lane.stop_reason() {
            return self.tell(reason, done);
        }
        if !must_store && rows_per_second.is_some_and(|rows| !lane.may_store(rows)) {
            // Before flushes that still wait for the store: it says only what is folded.
            drop(done.send(Ok(lane.report(partition, false))));
            return Ok(());
        }
        let (flush, _) = lane.flush_open(&self.flushes, Some(seen_at))?;
        let report = lane.report(partition, true);
        let job = FlushJob::store(flush, Some((done, report)));
        self.flushes.blocking_send(job).map_err(|_| FlusherGone)
    }

    /// Stores what was folded before the record that cannot be read, which may stay that way for ever.
    /// Why a partition stopped comes first: it is the record that is folded next.
    fn fail(
        &mut self,
        partition: Partition,
        error: LogError,
        done: Done,
    ) -> Result<(), FlusherGone> {
        let lane = lane_of(&mut self.partitions, partition);
        if let Some(reason) = lane.stop_reason() {
            return self.tell(reason, done);
        }
        // Each further try fails without a new record, and has nothing to store.
        if lane.fold.folded_to() > lane.flushed_to {
            let (flush, _) = lane.flush_open(&self.flushes, None)?;
            self.flushes.blocking_send(FlushJob::store(flush, None)).map_err(|_| FlusherGone)?;
        }
        self.tell(StopReason::Log(error), done)
    }

    fn tell(&self, reason: StopReason, done: Done) -> Result<(), FlusherGone> {
        self.flushes.blocking_send(FlushJob::Tell { reason, done }).map_err(|_| FlusherGone)
    }
}

/// What the lane has of a partition.
fn lane_of(
    partitions: &mut HashMap<Partition, LanePartition>,
    partition: Partition,
) -> &mut LanePartition {
    partitions.get_mut(&partition).expect("the drain serves this lane's partitions")
}

impl LanePartition {
    /// Why it must not be folded further, as the answer to whatever is asked of it.
    fn stop_reason(&self) -> Option<StopReason> {
        self.stopped.as_ref().map(|reason| StopReason::Stopped(Arc::clone(reason)))
    }

    fn fold_one(
        &mut self,
        record: LogRecord<'_>,
        latest: Timestamp,
        closed: &mut ToFlusher<'_>,
    ) -> Result<(), String> {
        let time = self.fold.time_of(&record);
        if time > latest {
            let partition = self.fold.segment().partition;
            return Err(format!(
                "the record's time {time} is more than 10 minutes ahead of this machine's clock. If this clock is wrong, set it, and the partition goes on by itself. If the log's was wrong, set it and run `pulso log rebase --partition {partition} --reason TEXT`"
            ));
        }
        self.fold.record(record, closed).map_err(|error| error.to_string())
    }

    /// Whether the open segment may be stored now: its changed rows are as many as it may store in the time
    /// since it was last. So a segment of a million rows is not written anew each second.
    fn may_store(&self, rows_per_second: u64) -> bool {
        let rows = self.flushed_at.elapsed().as_millis() * u128::from(rows_per_second) / 1_000;
        self.fold.changed_rows() as u128 <= rows
    }

    fn report(&mut self, partition: Partition, is_stored: bool) -> PartitionReport {
        PartitionReport {
            partition,
            records: std::mem::take(&mut self.records),
            folded_to: self.fold.folded_to(),
            is_stored,
            open_since: self.fold.open_since(),
            ids_held: self.fold.ids_held(),
            held_bytes: self.fold.held_bytes(),
            id_conflicts: self.fold.take_conflicts(),
            dead_letters: self.fold.take_dead_letter_counts(),
            counts: self.fold.counts(),
            sealed_at: self.fold.sealed_at(),
        }
    }

    /// Hands over all parts of the open segment's flush but the last, and gives that and its progress.
    fn flush_open(
        &mut self,
        flushes: &mpsc::Sender<FlushJob>,
        caught_up_at: Option<Timestamp>,
    ) -> Result<(Flush, Progress), FlusherGone> {
        let mut parts = ToFlusher { flushes, is_gone: Ok(()) };
        parts.extend(std::iter::from_fn(|| self.fold.flush_part()));
        parts.is_gone?;
        let mut flush = self.fold.flush();
        let progress =
            flush.progress.as_mut().expect("a flush of the open segment says where it is");
        progress.caught_up_at = caught_up_at;
        let progress = *progress;
        (self.flushed_to, self.flushed_at) = (progress.folded_to, Instant::now());
        Ok((flush, progress))
    }
}

/// Hands each flush over before the next is made; waits while the flusher is behind.
struct ToFlusher<'a> {
    flushes: &'a mpsc::Sender<FlushJob>,
    is_gone: Result<(), FlusherGone>,
}

impl Extend<Flush> for ToFlusher<'_> {
    fn extend<T: IntoIterator<Item = Flush>>(&mut self, flushes: T) {
        for flush in flushes {
            let job = FlushJob::store(flush, None);
            if self.flushes.blocking_send(job).is_err() {
                self.is_gone = Err(FlusherGone);
            }
        }
    }
}

/// The flusher has ended, which it does only with the process.
struct FlusherGone;
