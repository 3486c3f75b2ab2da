//! The tick: every partition is drained to the end it has at that moment, and closed once it is silent.

use std::collections::{BTreeMap, VecDeque};

use domain::{
    Offset, Partition, PulseLog, Timestamp, UsageStore,
    log::{AppendError, LogBounds, LogError},
};
use futures_util::{
    StreamExt as _,
    stream::{self, FuturesUnordered},
};
use tokio::sync::oneshot;
use tracing::{debug, info};

use super::{Consumer, ConsumerError, Taken, TickReport, Work};
use crate::{
    handover::{DrainCommand, DrainTo, PartitionReport, StopReason},
    metrics, sealing,
};

/// Partitions whose bounds are asked, or that are given a boundary, at a time. A log on servers takes a
/// thread for each question.
const ASKED_AT_ONCE: usize = 64;

/// Who asks for the boundary of a segment that is closed to make room.
const MEMORY: &str = "memory";

/// A partition and where it ended when it was asked.
struct Ending {
    partition: Partition,
    until: Offset,
    seen_at: Timestamp,
}

/// What a lane answers about a partition.
struct Drained {
    partition: Partition,
    until: Offset,
    seen_at: Timestamp,
    answer: Result<Result<PartitionReport, StopReason>, oneshot::error::RecvError>,
}

/// What the drains of a tick reported.
type Reports = BTreeMap<Partition, PartitionReport>;

impl<L: PulseLog, U: UsageStore> Consumer<L, U> {
    /// Drains every partition of this process to the end it has now, and returns once all of it is
    /// stored, or folded where more rows changed than `rows_per_second` lets it store.
    ///
    /// A partition that has been silent for a window is closed by a boundary, so that its totals
    /// become final without waiting for traffic.
    ///
    /// # Errors
    /// `Partitions` where some are in trouble: the others were drained all the same, and the next ticks
    /// try again, at first each second and at last every 15 seconds. Any other error says that the
    /// tick did not come that far.
    pub async fn tick(&mut self) -> Result<TickReport, ConsumerError> {
        // A rebuild is asked how far it is.
        self.tick_storing(self.work != Work::Live).await
    }

    async fn tick_storing(&mut self, all: bool) -> Result<TickReport, ConsumerError> {
        self.stores_all = all;
        self.follow_assignment().await?;
        if self.taken.is_empty() && self.troubles.count() == 0 {
            // Nothing else would tell that the log is gone.
            self.log.bounds(Partition(0)).await?;
        }
        self.append_limits().await;
        let reports = self.drain_due().await?;
        if self.work == Work::Live {
            self.close_silent(&reports).await;
        }
        self.note_health(&reports);
        let may_have_ended =
            self.taken.values().any(|taken| taken.has_ended) && self.history.sealed().is_none();
        if self.work == Work::Live && may_have_ended {
            sealing::note_sealed(&self.generation, &*self.store).await?;
        }
        let partitions: Vec<_> = reports.into_values().collect();
        let records = partitions.iter().map(|report| report.records).sum();
        debug!(records, "tick done");
        let report = TickReport { records, partitions };
        self.troubles.error().map_or(Ok(report), Err)
    }

    /// Ends the open segment of every partition of this process with a boundary and drains it, so that all totals
    /// up to here are final and proved.
    ///
    /// # Errors
    /// As [`Consumer::tick`].
    pub async fn close_segments(&mut self, asked_by: &str) -> Result<TickReport, ConsumerError> {
        // Behind its end a partition has no totals.
        let is_open = |(partition, taken): &(&Partition, &Taken)| {
            !taken.has_ended && !self.troubles.has(**partition)
        };
        let open = self.taken.iter().filter(is_open).map(|(partition, _)| *partition);
        self.append_boundaries(open.collect(), asked_by).await;
        self.tick_storing(true).await
    }

    /// Drains the partitions that are due, those in trouble last, as their ends become known and as
    /// many at a time as the memory allows.
    async fn drain_due(&mut self) -> Result<Reports, ConsumerError> {
        self.memory.rest();
        let now = self.clock.now();
        let due = self.taken.keys().copied().filter(|p| self.troubles.is_due(*p, now));
        let (troubled, sound): (Vec<_>, Vec<_>) = due.partition(|p| self.troubles.has(*p));
        let (log, clock) = (&self.log.clone(), &self.clock.clone());
        let mut asking = stream::iter(sound.into_iter().chain(troubled))
            .map(|partition| async move { (partition, clock.now(), log.bounds(partition).await) })
            .buffer_unordered(ASKED_AT_ONCE);
        let (mut waiting, mut draining) = (VecDeque::new(), FuturesUnordered::new());
        let mut reports = Reports::new();
        loop {
            // While nothing is drained the first one is admitted, so none waits for ever.
            while let Some(ending) = waiting.pop_front_if(|ending| self.admits(ending)) {
                // It may have been let go since its end was asked for.
                if self.taken.contains_key(&ending.partition) {
                    draining.push(self.drain(ending)?);
                }
            }
            tokio::select! {
                Some((partition, seen_at, bounds)) = asking.next() => {
                    let ending = self.ending(partition, seen_at, bounds);
                    waiting.extend(ending.and_then(|ending| self.unless_idle(ending, &mut reports)));
                }
                Some(drained) = draining.next() => {
                    self.note(drained, &mut reports)?;
                    self.make_room(&mut reports).await?;
                }
                else => return Ok(reports),
            }
        }
    }

    /// Whether a partition has nothing new, or its open segment has room to grow.
    fn admits(&self, Ending { partition, until, .. }: &Ending) -> bool {
        let is_there = self.taken.get(partition).is_none_or(|taken| taken.folded_to >= *until);
        is_there || self.memory.admits(*partition)
    }

    /// Closes open segments, the largest first, until the rest is within the memory. A rebuild adds
    /// nothing to the log: it lets the partition go, and the next tick restores it.
    async fn make_room(&mut self, reports: &mut Reports) -> Result<(), ConsumerError> {
        let mut closed = None;
        while let Some(partition) = self.memory.excess() {
            let may_close = self.work == Work::Live && !self.troubles.has(partition);
            if may_close && closed != Some(partition) {
                closed = Some(partition);
                self.close_one(partition, reports).await?;
            } else {
                info!(%partition, "partition let go for want of memory; it is restored by a later tick");
                self.let_go(partition)?;
            }
        }
        Ok(())
    }

    async fn close_one(
        &mut self,
        partition: Partition,
        reports: &mut Reports,
    ) -> Result<(), ConsumerError> {
        let seen_at = self.clock.now();
        let boundary = proto::record::encode_boundary(&self.generation, MEMORY);
        let ending = match self.log.append(partition, vec![boundary]).await {
            Ok(offsets) => offsets.last().map(|at| Ending { partition, until: at.next(), seen_at }),
            Err(error) => {
                self.troubles.met(partition, ConsumerError::Append(error), seen_at);
                None
            }
        };
        let Some(ending) = ending else { return Ok(()) };
        let drained = self.drain(ending)?.await;
        self.note(drained, reports)
    }

    fn ending(
        &mut self,
        partition: Partition,
        seen_at: Timestamp,
        bounds: Result<LogBounds, LogError>,
    ) -> Option<Ending> {
        match bounds {
            Ok(LogBounds { end: until, .. }) => Some(Ending { partition, until, seen_at }),
            Err(error) => {
                self.troubles.met(partition, ConsumerError::Log(error), seen_at);
                None
            }
        }
    }

    /// Reports a partition to which nothing came as its last drain left it.
    fn unless_idle(&self, ending: Ending, reports: &mut Reports) -> Option<Ending> {
        let Ending { partition, until, seen_at } = ending;
        let unchanged = self.idle.report(partition, until, seen_at);
        match unchanged.filter(|_| !self.troubles.has(partition)) {
            Some(unchanged) => {
                reports.insert(partition, unchanged);
                None
            }
            None => Some(ending),
        }
    }

    /// Asks the partition's lane, at once, and answers once the lane has.
    fn drain(
        &mut self,
        Ending { partition, until, seen_at }: Ending,
    ) -> Result<impl Future<Output = Drained> + use<L, U>, ConsumerError> {
        let (done, answer) = oneshot::channel();
        let is_new = self.taken.get(&partition).is_none_or(|taken| taken.folded_to < until);
        let must_store = self.stores_all || !is_new;
        let drain = DrainTo { partition, until, seen_at, must_store, done };
        self.lanes.command(partition, DrainCommand::Drain(drain))?;
        if is_new && self.taken.contains_key(&partition) {
            self.memory.begin(partition);
        }
        Ok(async move { Drained { partition, until, seen_at, answer: answer.await } })
    }

    fn note(
        &mut self,
        Drained { partition, until, seen_at, answer }: Drained,
        reports: &mut Reports,
    ) -> Result<(), ConsumerError> {
        let taken = self.taken.get_mut(&partition);
        match answer.map_err(|_| ConsumerError::Ended)? {
            Ok(done) => {
                metrics::drained(self.number, &done);
                let behind = until.0.saturating_sub(done.folded_to.0);
                metrics::lag(self.number, partition, behind);
                if let Some(taken) = taken {
                    taken.folded_to = done.folded_to;
                    taken.has_ended |= done.sealed_at.is_some();
                    self.memory.end(partition, done.held_bytes);
                    self.troubles.over(partition);
                    if done.is_stored {
                        self.idle.note(done, until, seen_at);
                    } else {
                        self.idle.forget(partition);
                    }
                }
                let before = reports.get(&partition).map_or(0, |report| report.records);
                let records = before + done.records;
                reports.insert(partition, PartitionReport { records, ..done });
            }
            // What was let go meanwhile is restored anyway.
            Err(_) if taken.is_none() => {}
            Err(StopReason::Log(error)) => {
                self.idle.forget(partition);
                self.memory.fail(partition);
                self.troubles.met(partition, ConsumerError::Log(error), self.clock.now());
            }
            Err(StopReason::Stopped(reason)) => {
                let cause = ConsumerError::Stopped { partition, reason: reason.to_string() };
                self.troubles.met(partition, cause, self.clock.now());
                // Its next try is a restart.
                self.let_go(partition)?;
            }
        }
        Ok(())
    }

    async fn close_silent(&mut self, reports: &Reports) {
        let silent_since = self.clock.now().minus(self.generation.window.duration());
        let is_silent = |report: &&PartitionReport| {
            report.records == 0 && report.open_since.is_some_and(|since| since < silent_since)
        };
        let silent = reports.values().filter(is_silent).map(|report| report.partition);
        self.append_boundaries(silent.collect(), "silence").await;
    }

    async fn append_boundaries(&mut self, partitions: Vec<Partition>, asked_by: &str) {
        let log = &self.log;
        let boundary = &proto::record::encode_boundary(&self.generation, asked_by);
        let appending = stream::iter(partitions).map(|partition| async move {
            (partition, log.append(partition, vec![boundary.clone()]).await)
        });
        let appended: Vec<(_, Result<_, AppendError>)> =
            appending.buffer_unordered(ASKED_AT_ONCE).collect().await;
        for (partition, appended) in appended {
            if let Err(error) = appended {
                self.troubles.met(partition, ConsumerError::Append(error), self.clock.now());
            }
        }
    }

    fn note_health(&mut self, reports: &Reports) {
        let now = self.clock.now();
        metrics::stopped(self.number, self.troubles.count());
        metrics::held(self.number, self.memory.held());
        for report in reports.values().filter(|report| report.is_stored) {
            if let Some(taken) = self.taken.get_mut(&report.partition) {
                taken.stored_at = now;
            }
        }
        if self.troubles.count() == 0 {
            let oldest = self.taken.values().map(|taken| taken.stored_at).min();
            self.caught_up_at = Some(oldest.unwrap_or(now));
        }
        if let Some(at) = self.caught_up_at {
            #[allow(clippy::cast_precision_loss, clippy::float_arithmetic)]
            // A gauge, not an amount.
            metrics::flush_age((now.micros() - at.micros()) as f64 / 1e6);
        }
    }
}
