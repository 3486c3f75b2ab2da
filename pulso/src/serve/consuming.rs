//! The consumer stage with its schedule, as the serving commands run it.

use std::{num::NonZero, sync::Arc, time::Duration};

use domain::{
    FoldLimits, LogId, PulseLog as _, UsageStore as _,
    epochs::Journal,
    log::{AppendError, LogError},
};
use ingestor_consumer::{
    Consumer, ConsumerConfig, ConsumerError, ConsumerPorts, TickReport, Work, restart::RestartError,
};
use runtime::{
    Health, Schedule, Shutdown, clock,
    clock::SystemClock,
    health::{Check, Trouble},
};
use storage::{
    choice::{Log, Usage},
    kafka::KafkaFeed,
};
use tokio::sync::Mutex;
use tracing::{debug, error, warn};

use super::{backends::Backends, blocks::Blocks, scratch};
use crate::{
    config::Config,
    exit::{Exit, Failure},
};

/// Why a member of a group that has no partitions is not ready.
const NO_SHARE: &str = "the consumer group has given this process no partitions yet, and the others do not have all of them";
/// Most partitions of a log.
const PARTITIONS_MAX: usize = 1_024;

/// The consumer stage with its schedule.
pub struct Consuming {
    /// One a generation of the log, oldest first. Taken when they have ended.
    turns: Mutex<Option<Vec<Turn>>>,
    usage: Arc<Usage>,
    feed: Option<Arc<KafkaFeed>>,
    config: ConsumerConfig,
    blocks: Blocks,
    trouble: Trouble,
    check: Check,
}

/// A generation of the log and who drains it.
struct Turn {
    log: Arc<Log>,
    /// The generation before, which must have ended first.
    before: Option<LogId>,
    consumer: Drainer,
}

enum Drainer {
    /// The generation before has not ended yet.
    Waiting,
    Running(Box<Consumer<Log, Usage>>),
    /// Its log has ended and cannot be read; its totals are final all the same.
    LetGo,
}

impl Consuming {
    /// Restores the partitions and starts the lanes.
    ///
    /// # Errors
    /// As `Consumer::start`.
    pub async fn start(
        backends: &Backends,
        config: &Config,
        schedule: &Schedule,
        health: &Health,
    ) -> Result<Self, ConsumerError> {
        let check = health.register("consumer");
        let mut turns = Vec::new();
        let mut before = None;
        for older in &backends.older {
            let log_id = older.generation.log_id;
            turns.extend(older.log.clone().map(|log| Turn::waiting(log, before)));
            before = Some(log_id);
        }
        turns.push(Turn::waiting(Arc::clone(&backends.log), before));
        let blocks = Blocks::new(backends, config);
        // Who ticks by the hour stores all at each tick.
        let rows_per_second = u64::from(config.consumer.rows_per_second.as_u32());
        let follows = matches!(schedule, Schedule::Follow(_));
        let config = ConsumerConfig {
            rows_per_second: follows.then_some(rows_per_second),
            ..consumer_config(config, Work::Live)
        };
        let (usage, feed) = (Arc::clone(&backends.usage), backends.feed.clone());
        let (turns_of, trouble) = (Mutex::new(None), Trouble::default());
        let started = Self { turns: turns_of, usage, feed, config, blocks, trouble, check };
        let journal = started.usage.journal().await?;
        for turn in &mut turns {
            started.begin(turn, &journal).await?;
        }
        let troubles = turns.iter().find_map(Turn::troubles);
        *started.turns.lock().await = Some(turns);
        match troubles {
            Some(troubles) => started.check.not_ready(troubles.to_string()),
            None if started.is_assigned().await? => started.check.ready(),
            None => {}
        }
        Ok(started)
    }

    /// Starts draining a generation whose turn it is.
    async fn begin(&self, turn: &mut Turn, journal: &Journal) -> Result<(), ConsumerError> {
        let is_sealed = |log_id| journal.log(log_id).sealed().is_some();
        if !matches!(turn.consumer, Drainer::Waiting) || !turn.before.is_none_or(is_sealed) {
            return Ok(());
        }
        let ports = ConsumerPorts {
            log: Arc::clone(&turn.log),
            store: Arc::clone(&self.usage),
            feed: self.feed.clone(),
            clock: Arc::new(clock::system()),
        };
        let started = Consumer::start_with(ports, self.config.clone(), self.trouble.clone()).await;
        let log_id = turn.log.generation().log_id;
        turn.consumer = match started {
            Ok(consumer) => Drainer::Running(Box::new(consumer)),
            Err(error) if is_sealed(log_id) => {
                warn!(%log_id, %error, "a log that has ended is not drained of what came behind its end");
                Drainer::LetGo
            }
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// What the store fails at now.
    #[must_use]
    pub const fn trouble(&self) -> &Trouble {
        &self.trouble
    }

    /// Ticks by the schedule until shutdown, and makes blocks meanwhile. A tick that fails is logged, shown
    /// by the readiness check, and followed by the next.
    pub async fn run(&self, schedule: &Schedule, shutdown: &Shutdown) {
        let clock: SystemClock = clock::system();
        let until = shutdown.child();
        let ticking = async {
            let ticking =
                schedule.run::<std::convert::Infallible, _>(&clock, shutdown, |_| async {
                    self.note(self.tick().await).await;
                    Ok(())
                });
            let Ok(()) = ticking.await;
            until.request();
        };
        match schedule {
            Schedule::Once => {
                ticking.await;
                self.blocks.once().await;
            }
            _ => {
                tokio::join!(ticking, self.blocks.keep(&until));
            }
        }
    }

    /// Drains what is there now: each generation to its end, then the next, if that one has ended.
    ///
    /// # Errors
    /// As `Consumer::tick`.
    pub async fn tick(&self) -> Result<TickReport, ConsumerError> {
        self.each(async |consumer| consumer.tick().await).await
    }

    /// Drains what is there now and makes it final.
    ///
    /// # Errors
    /// As `Consumer::close_segments`.
    pub async fn close_segments(&self, asked_by: &str) -> Result<TickReport, ConsumerError> {
        self.each(async |consumer| consumer.close_segments(asked_by).await).await
    }

    async fn each(
        &self,
        work: impl AsyncFn(&mut Consumer<Log, Usage>) -> Result<TickReport, ConsumerError>,
    ) -> Result<TickReport, ConsumerError> {
        let mut turns = self.turns.lock().await;
        let turns = turns.as_mut().ok_or(ConsumerError::Ended)?;
        let (mut report, mut failure) = (TickReport::default(), None);
        for turn in turns {
            if matches!(turn.consumer, Drainer::Waiting) {
                let journal = self.usage.journal().await?;
                self.begin(turn, &journal).await?;
            }
            let Drainer::Running(consumer) = &mut turn.consumer else { continue };
            match work(consumer).await {
                Ok(done) => {
                    report.records += done.records;
                    report.partitions.extend(done.partitions);
                }
                // Nothing that still counts is behind its end.
                Err(error) if consumer.has_ended() => {
                    debug!(%error, "a log that has ended cannot be drained");
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(report), Err)
    }

    /// Drains what is there, makes it final, and ends the lanes, whether or not that worked.
    ///
    /// # Errors
    /// As `Consumer::close_segments`.
    pub async fn finish(&self, asked_by: &str) -> Result<(), ConsumerError> {
        let closed = self.close_segments(asked_by).await;
        for turn in self.turns.lock().await.take().into_iter().flatten() {
            if let Drainer::Running(consumer) = turn.consumer {
                consumer.shutdown().await;
            }
        }
        closed.map(drop)
    }

    /// Waits until this process knows its partitions.
    ///
    /// # Errors
    /// As `Consumer::is_assigned`.
    pub async fn assigned(&self) -> Result<(), ConsumerError> {
        const LOOK_EVERY: Duration = Duration::from_millis(100);
        while !self.is_assigned().await? {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    async fn is_assigned(&self) -> Result<bool, ConsumerError> {
        let turns = self.turns.lock().await;
        for turn in turns.as_ref().ok_or(ConsumerError::Ended)? {
            if let Drainer::Running(consumer) = &turn.consumer
                && !consumer.is_assigned()?
                && !consumer.has_ended()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn note(&self, ticked: Result<TickReport, ConsumerError>) {
        match ticked {
            Ok(_) if !self.is_assigned().await.unwrap_or(false) => {
                self.check.not_ready(NO_SHARE);
            }
            Ok(_) => self.check.ready(),
            // The consumer has logged each cause when it was news.
            Err(error @ ConsumerError::Partitions(_)) => self.check.not_ready(error.to_string()),
            Err(error) => {
                error!(%error, "tick failed; the next one tries again");
                self.check.not_ready(error.to_string());
            }
        }
    }
}

impl Turn {
    const fn waiting(log: Arc<Log>, before: Option<LogId>) -> Self {
        Self { log, before, consumer: Drainer::Waiting }
    }

    /// Partitions of a log that has not ended which are not drained.
    fn troubles(&self) -> Option<ConsumerError> {
        match &self.consumer {
            Drainer::Running(consumer) if !consumer.has_ended() => consumer.troubles(),
            _ => None,
        }
    }
}

/// How a consumer uses this machine. It takes no more lanes than its log has partitions.
pub(crate) fn consumer_config(config: &Config, work: Work) -> ConsumerConfig {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let consumer = &config.consumer;
    ConsumerConfig {
        lanes: consumer.lanes.on(cores, PARTITIONS_MAX),
        chunk_bytes: consumer.chunk_bytes.as_usize(),
        chunks_in_flight: consumer.chunks_in_flight.as_usize(),
        flushes_in_flight: consumer.flushes_in_flight.as_usize(),
        memory_bytes: consumer.memory.bytes(),
        readers: consumer.readers.as_usize(),
        limits: FoldLimits {
            segment_bytes: config.limits.segment_bytes.bytes(),
            state_bytes: config.limits.state_bytes.bytes(),
            keys_per_tenant: config.limits.keys_per_tenant.as_u32(),
            values_per_dimension: config.limits.values_per_dimension.as_u32(),
            state_deltas: config.limits.state_deltas.as_u32(),
            ranges_per_backfill: config.limits.ranges_per_backfill.as_u32(),
        },
        ids: Some(scratch::ids_memory(config)),
        idle_flush_interval: consumer.idle_flush_interval.duration(),
        work,
        ..ConsumerConfig::for_cores(cores)
    }
}

/// The exit of a consumer that cannot go on.
pub(crate) fn failure(error: ConsumerError) -> Failure {
    Failure::new(exit_of(&error), error)
}

/// Of several partitions' causes, that of the first.
fn exit_of(error: &ConsumerError) -> Exit {
    match error {
        ConsumerError::Partitions(troubles) => {
            troubles.first().map_or(Exit::Internal, |trouble| exit_of(&trouble.cause))
        }
        ConsumerError::Log(error)
        | ConsumerError::Append(AppendError::Replaced(error))
        | ConsumerError::Restart(RestartError::Log(error)) => exit_of_log(error),
        ConsumerError::Restart(_) | ConsumerError::Stopped { .. } => Exit::Data,
        ConsumerError::Append(_) | ConsumerError::Ended => Exit::Retry,
        ConsumerError::Store(_) | ConsumerError::Blocks(_) => Exit::Internal,
    }
}

const fn exit_of_log(error: &LogError) -> Exit {
    match error {
        LogError::OutOfRange { .. } | LogError::Replaced { .. } | LogError::Damaged { .. } => {
            Exit::Data
        }
        LogError::Unavailable(_) => Exit::Unavailable,
        LogError::Fatal(_) => Exit::Internal,
    }
}

#[cfg(test)]
mod tests {
    use domain::{Offset, Partition};

    use super::*;

    #[test]
    fn a_log_that_is_another_one_is_bad_data_and_one_that_does_not_answer_is_away() {
        let replaced = LogError::Replaced { partition: Partition(0), offset: Offset(7) };
        let away = LogError::Unavailable("no broker".to_owned());
        for (error, exit) in [(replaced, Exit::Data), (away, Exit::Unavailable)] {
            for error in [
                ConsumerError::Log(error.clone()),
                ConsumerError::Restart(RestartError::Log(error.clone())),
                ConsumerError::Append(AppendError::Replaced(error)),
            ] {
                assert_eq!(failure(error).exit, exit);
            }
        }
    }
}
