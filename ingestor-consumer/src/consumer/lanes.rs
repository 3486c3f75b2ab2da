//! The lanes of a consumer: their threads, their flushers, and which of them has a partition.

use std::{sync::Arc, thread::JoinHandle};

use crossbeam_channel::Sender;
use domain::{Partition, PulseLog, TotalsFeed, UsageStore};
use runtime::health::Trouble;
use tokio::sync::mpsc;

use super::{ConsumerConfig, ConsumerError, ConsumerPorts, Work};
use crate::{
    drain::Drain,
    flush::{self, Flusher},
    handover::DrainCommand,
    lane::Lane,
};

/// A partition is let go, taken and drained in one tick at the most.
const COMMANDS_PER_TICK_MAX: usize = 3;

/// The running lanes. Dropping them ends their threads.
pub(super) struct Lanes(Vec<LaneHandle>);

struct LaneHandle {
    commands: Sender<DrainCommand>,
    threads: Vec<JoinHandle<()>>,
    flusher: tokio::task::JoinHandle<()>,
}

impl Lanes {
    pub(super) fn start<L: PulseLog, U: UsageStore, F: TotalsFeed>(
        ports: &ConsumerPorts<L, U, F>,
        config: &ConsumerConfig,
        trouble: &Trouble,
    ) -> Self {
        let count = config.lanes.clamp(1, usize::from(ports.log.generation().partitions));
        let start = |number| LaneHandle::start((number, count), ports, config, trouble);
        Self((0..count).map(start).collect())
    }

    /// Never blocks: the channel holds what a tick can ask about every partition, and ticks take
    /// turns.
    pub(super) fn command(
        &self,
        partition: Partition,
        command: DrainCommand,
    ) -> Result<(), ConsumerError> {
        let lane = &self.0[usize::from(partition.0) % self.0.len()];
        lane.commands.send(command).map_err(|_| ConsumerError::Ended)
    }

    /// Waits for what was handed over to be stored.
    pub(super) async fn shutdown(self) {
        for lane in self.0 {
            lane.shutdown().await;
        }
    }
}

impl LaneHandle {
    fn start<L: PulseLog, U: UsageStore, F: TotalsFeed>(
        (number, lanes): (usize, usize),
        ports: &ConsumerPorts<L, U, F>,
        config: &ConsumerConfig,
        trouble: &Trouble,
    ) -> Self {
        let partitions = usize::from(ports.log.generation().partitions);
        let (commands, from_tick) = crossbeam_channel::bounded(partitions * COMMANDS_PER_TICK_MAX);
        let (to_lane, from_drain) = crossbeam_channel::bounded(config.chunks_in_flight.max(1));
        let (to_pool, from_pool) = crossbeam_channel::bounded(config.chunks_in_flight.max(1));
        let (to_flusher, from_lane) = mpsc::channel(config.flushes_in_flight.max(1));
        let readers_max = config.readers / lanes;
        let log = Arc::clone(&ports.log);
        let drain = Drain::new(log, config.chunk_bytes, readers_max, to_lane, from_pool);
        let rows_per_second = config.rows_per_second.map(|rows| rows / lanes as u64);
        let bounds = (config.flush_rows_max.max(1), rows_per_second);
        let lane = Lane::new(Arc::clone(&ports.clock), to_flusher, to_pool, bounds);
        let threads = vec![
            spawn(format!("drain-{number}"), move || drain.run(&from_tick)),
            spawn(format!("lane-{number}"), move || lane.run(&from_drain)),
        ];
        let progress_log = (config.work == Work::Live).then(|| Arc::clone(&ports.log));
        let (store, feed) = (Arc::clone(&ports.store), ports.feed.clone());
        let window = ports.log.generation().window;
        let flusher = Flusher { progress_log, store, feed, window, trouble: trouble.clone() };
        let flusher = tokio::spawn(flush::run(flusher, from_lane));
        Self { commands, threads, flusher }
    }

    async fn shutdown(self) {
        let Self { commands, threads, flusher } = self;
        drop(commands);
        // The threads end when their input does; joining them blocks, so not on this thread.
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().map(JoinHandle::join).fold(true, |ended, end| ended & end.is_ok())
        });
        let threads_ended = joined.await.unwrap_or(false);
        let flusher_ended = flusher.await.is_ok();
        if !(threads_ended && flusher_ended) {
            tracing::error!("a lane panicked; everything it had not stored is safe in the log");
        }
    }
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let builder = std::thread::Builder::new().name(name);
    builder.spawn(work).expect("the system has room for a thread at start")
}
