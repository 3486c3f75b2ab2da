//! The consumer: one tick drains every partition to the end it has at that moment.
//!
//! The hourly job, the drain once by hand and following each second are the same tick on another
//! schedule. A tick returns when everything it found is stored.

use std::{collections::BTreeSet, sync::Arc, thread::JoinHandle};

use crossbeam_channel::Sender;
use domain::{
    Clock, Epoch, Partition, PulseLog, Timestamp, TotalsFeed, UsageStore,
    epochs::LogHistory,
    log::{AppendError, LogError},
    place::Generation,
    store::{PartitionKey, StoreError},
};
use service::health::Trouble;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info};

use crate::{
    drain::Drain,
    flush::{self, Flusher},
    fold::Publishing,
    handover::{DrainCommand, DrainTo, PartitionReport, StopReason},
    lane::Lane,
    metrics, restart, sealing,
};

/// A partition is let go, taken and drained in one tick at the most.
const COMMANDS_PER_TICK_MAX: usize = 3;

/// How the consumer uses the machine.
#[derive(Clone, Copy, Debug)]
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
        /// The partition.
        partition: Partition,
        /// Why, and what to do.
        reason: String,
    },
    /// A thread of the consumer has ended.
    #[error("the consumer has ended")]
    Ended,
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
    lanes: Vec<LaneHandle>,
    /// Partitions that lanes have taken.
    taken: BTreeSet<Partition>,
    /// Of these, those that a SEAL has ended.
    ended: BTreeSet<Partition>,
    trouble: Trouble,
    caught_up_at: Option<Timestamp>,
}

struct LaneHandle {
    commands: Option<Sender<DrainCommand>>,
    threads: Vec<JoinHandle<()>>,
    flusher: tokio::task::JoinHandle<()>,
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
    /// Starts the lanes and restores every partition that is assigned to this process.
    ///
    /// # Errors
    /// See [`ConsumerError`]; nothing was started.
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
        let lane_count = config.lanes.clamp(1, usize::from(generation.partitions));
        let lanes = (0..lane_count).map(|number| start_lane(number, &ports, config, &trouble));
        let publishing = if ports.feed.is_some() { Publishing::On } else { Publishing::Off };
        let mut consumer = Self {
            lanes: lanes.collect(),
            log: ports.log,
            store: ports.store,
            clock: ports.clock,
            generation,
            number: place.map_or(1, |place| place + 1),
            work: config.work,
            history: LogHistory::default(),
            publishing,
            taken: BTreeSet::new(),
            ended: BTreeSet::new(),
            trouble,
            caught_up_at: None,
        };
        match consumer.follow_assignment().await {
            Ok(()) => Ok(consumer),
            Err(error) => {
                consumer.shutdown().await;
                Err(error)
            }
        }
    }

    /// Restores partitions that were assigned to this process since it was last asked, and lets
    /// go of those that were taken from it, and of all of them when another epoch was made active.
    async fn follow_assignment(&mut self) -> Result<(), ConsumerError> {
        let assigned: BTreeSet<_> = self.log.assignment()?.into_iter().flatten().collect();
        let epoch = self.epoch();
        match self.store.journal().await {
            Ok(journal) => self.history = journal.log(self.generation.log_id).clone(),
            // To fold an epoch that is no longer in use does no harm.
            Err(error) if !self.taken.is_empty() => debug!(%error, "the journal cannot be read"),
            Err(error) => return Err(error.into()),
        }
        let stays = if epoch == self.epoch() { assigned.clone() } else { BTreeSet::new() };
        let gone: Vec<_> = self.taken.difference(&stays).copied().collect();
        for partition in gone {
            info!(%partition, epoch = %self.epoch(), "partition let go: another process has it, or another epoch is active");
            self.command(partition, DrainCommand::LetGo { partition })?;
            self.taken.remove(&partition);
            self.ended.remove(&partition);
        }
        let new: Vec<_> = assigned.difference(&self.taken).copied().collect();
        let mut inheritance = restart::Inheritance::of(new.clone());
        for partition in new {
            let key =
                PartitionKey { log_id: self.generation.log_id, partition, epoch: self.epoch() };
            let fold =
                restart::restore(&self.log, &*self.store, &self.history, key, &mut inheritance)
                    .await?;
            info!(%partition, epoch = %key.epoch, folded_to = %fold.folded_to(), ids = fold.ids_held(), "partition restored");
            if fold.sealed_at().is_some() {
                self.ended.insert(partition);
            }
            let fold = Box::new(fold.publishing(self.publishing));
            self.command(partition, DrainCommand::Take { partition, fold })?;
            self.taken.insert(partition);
        }
        Ok(())
    }

    const fn epoch(&self) -> Epoch {
        match self.work {
            Work::Live => self.history.active(),
            Work::Rebuild(epoch) => epoch,
        }
    }

    /// Never blocks: the channel holds what a tick can ask about every partition, and ticks take
    /// turns.
    fn command(&self, partition: Partition, command: DrainCommand) -> Result<(), ConsumerError> {
        let lane = &self.lanes[usize::from(partition.0) % self.lanes.len()];
        let commands = lane.commands.as_ref().ok_or(ConsumerError::Ended)?;
        commands.send(command).map_err(|_| ConsumerError::Ended)
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

    /// What the store refuses or fails at now, for the process's readiness: a tick waits for its
    /// flush, however long the store takes none.
    #[must_use]
    pub const fn trouble(&self) -> &Trouble {
        &self.trouble
    }

    /// Drains every partition of this process to the end it has now, and returns once all of it is
    /// stored.
    ///
    /// A partition that has been silent for a window is closed by a boundary, so that its totals
    /// become final without waiting for traffic.
    ///
    /// # Errors
    /// The first partition's failure; the others were drained all the same. The next tick tries
    /// again.
    pub async fn tick(&mut self) -> Result<TickReport, ConsumerError> {
        self.follow_assignment().await?;
        if self.taken.is_empty() {
            // Nothing else would tell that the log is gone.
            self.log.bounds(Partition(0)).await?;
        }
        let mut waiting = Vec::with_capacity(self.taken.len());
        for partition in self.taken.iter().copied() {
            let seen_at = self.clock.now();
            let until = self.log.bounds(partition).await?.end;
            let (done, answer) = oneshot::channel();
            let drain = DrainTo { partition, until, seen_at, done };
            self.command(partition, DrainCommand::Drain(drain))?;
            waiting.push((partition, until, answer));
        }
        let mut report = TickReport::default();
        let mut failure = None;
        for (partition, until, answer) in waiting {
            match answer.await.map_err(|_| ConsumerError::Ended)? {
                Ok(done) => {
                    metrics::drained(self.number, &done);
                    let behind = until.0.saturating_sub(done.folded_to.0);
                    metrics::lag(self.number, partition, behind);
                    report.records += done.records;
                    self.ended.extend(done.sealed_at.map(|_| partition));
                    report.partitions.push(done);
                }
                Err(reason) => failure = failure.or(Some(stopped(partition, reason))),
            }
        }
        self.note_flush_age(failure.as_ref());
        match failure {
            Some(error) => Err(error),
            None => {
                if self.work == Work::Live {
                    self.close_silent(&report).await?;
                    if !self.ended.is_empty() && self.history.sealed().is_none() {
                        sealing::note_sealed(&self.generation, &*self.store).await?;
                    }
                }
                debug!(records = report.records, "tick done");
                Ok(report)
            }
        }
    }

    /// Ends the open segment of every partition of this process with a boundary and drains it, so that all totals
    /// up to here are final and proved.
    ///
    /// # Errors
    /// As [`Consumer::tick`].
    pub async fn close_segments(&mut self, asked_by: &str) -> Result<TickReport, ConsumerError> {
        // Behind its end a partition has no totals.
        for partition in self.taken.difference(&self.ended).copied() {
            self.append_boundary(partition, asked_by).await?;
        }
        self.tick().await
    }

    /// Stops the lanes and waits for what they had handed over to be stored. What they had not is
    /// folded again at the next start.
    pub async fn shutdown(mut self) {
        for mut lane in self.lanes.drain(..) {
            lane.commands.take();
            // The threads end when their input does; joining them blocks, so not on this thread.
            let threads = std::mem::take(&mut lane.threads);
            let joined = tokio::task::spawn_blocking(move || {
                threads
                    .into_iter()
                    .map(JoinHandle::join)
                    .fold(true, |ended, end| ended & end.is_ok())
            });
            let threads_ended = joined.await.unwrap_or(false);
            let flusher_ended = lane.flusher.await.is_ok();
            if !(threads_ended && flusher_ended) {
                tracing::error!("a lane panicked; everything it had not stored is safe in the log");
            }
        }
    }

    async fn close_silent(&self, report: &TickReport) -> Result<(), ConsumerError> {
        let silent_since = self.clock.now().minus(self.generation.window.duration());
        for partition in &report.partitions {
            if partition.records == 0
                && partition.open_since.is_some_and(|since| since < silent_since)
            {
                self.append_boundary(partition.partition, "silence").await?;
            }
        }
        Ok(())
    }

    async fn append_boundary(
        &self,
        partition: Partition,
        asked_by: &str,
    ) -> Result<(), AppendError> {
        let boundary = proto::record::encode_boundary(&self.generation, asked_by);
        self.log.append(partition, vec![boundary]).await.map(drop)
    }

    fn note_flush_age(&mut self, failure: Option<&ConsumerError>) {
        let now = self.clock.now();
        if failure.is_none() {
            self.caught_up_at = Some(now);
        }
        if let Some(at) = self.caught_up_at {
            #[allow(clippy::cast_precision_loss, clippy::float_arithmetic)]
            // A gauge, not an amount.
            metrics::flush_age((now.micros() - at.micros()) as f64 / 1e6);
        }
    }
}

fn stopped(partition: Partition, reason: StopReason) -> ConsumerError {
    match reason {
        StopReason::Log(error) => ConsumerError::Log(error),
        StopReason::Stopped(reason) => {
            ConsumerError::Stopped { partition, reason: reason.to_string() }
        }
    }
}

fn start_lane<L: PulseLog, U: UsageStore, F: TotalsFeed>(
    number: usize,
    ports: &ConsumerPorts<L, U, F>,
    config: ConsumerConfig,
    trouble: &Trouble,
) -> LaneHandle {
    let partitions = usize::from(ports.log.generation().partitions);
    let (commands, from_tick) = crossbeam_channel::bounded(partitions * COMMANDS_PER_TICK_MAX);
    let (to_lane, from_drain) = crossbeam_channel::bounded(config.chunks_in_flight.max(1));
    let (to_pool, from_pool) = crossbeam_channel::bounded(config.chunks_in_flight.max(1));
    let (to_flusher, from_lane) = mpsc::channel(config.flushes_in_flight.max(1));
    let drain = Drain::new(Arc::clone(&ports.log), config.chunk_bytes, to_lane, from_pool);
    let lane = Lane::new(Arc::clone(&ports.clock), to_flusher, to_pool);
    let threads = vec![
        spawn(format!("drain-{number}"), move || drain.run(&from_tick)),
        spawn(format!("lane-{number}"), move || lane.run(&from_drain)),
    ];
    let told = (config.work == Work::Live).then(|| Arc::clone(&ports.log));
    let (store, feed, trouble) = (Arc::clone(&ports.store), ports.feed.clone(), trouble.clone());
    let flusher = tokio::spawn(flush::run(Flusher { told, store, feed, trouble }, from_lane));
    LaneHandle { commands: Some(commands), threads, flusher }
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let builder = std::thread::Builder::new().name(name);
    builder.spawn(work).expect("the system has room for a thread at start")
}

#[cfg(test)]
mod tests;
