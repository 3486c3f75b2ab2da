//! The consumer stage with its schedule, as the serving commands run it.

use std::{num::NonZero, sync::Arc, time::Duration};

use ingestor_consumer::{Consumer, ConsumerConfig, ConsumerError, ConsumerPorts, TickReport, Work};
use service::{
    Health, Schedule, Shutdown, clock,
    clock::SystemClock,
    health::{Check, Trouble},
};
use storage::choice::{Log, Usage};
use tokio::sync::Mutex;
use tracing::error;

use super::backends::Backends;
use crate::{
    config::Config,
    exit::{Exit, Failure},
};

/// The consumer stage with its schedule.
pub struct Consuming {
    /// Taken when it has ended.
    consumer: Mutex<Option<Consumer<Log, Usage>>>,
    trouble: Trouble,
    check: Check,
}

impl Consuming {
    /// Restores every partition and starts the lanes.
    ///
    /// # Errors
    /// As `Consumer::start`.
    pub async fn start(
        backends: &Backends,
        config: &Config,
        health: &Health,
    ) -> Result<Self, ConsumerError> {
        let check = health.register("consumer");
        let ports = ConsumerPorts {
            log: Arc::clone(&backends.log),
            store: Arc::clone(&backends.usage),
            feed: backends.feed.clone(),
            clock: Arc::new(clock::system()),
        };
        let consumer = Consumer::start(ports, consumer_config(config, Work::Live)).await?;
        if consumer.is_assigned()? {
            check.ready();
        }
        let trouble = consumer.trouble().clone();
        Ok(Self { consumer: Mutex::new(Some(consumer)), trouble, check })
    }

    /// What the store fails at now.
    #[must_use]
    pub const fn trouble(&self) -> &Trouble {
        &self.trouble
    }

    /// Ticks by the schedule until shutdown. A tick that fails is logged, shown by the readiness
    /// check, and followed by the next.
    pub async fn run(&self, schedule: &Schedule, shutdown: &Shutdown) {
        let clock: SystemClock = clock::system();
        let ticking = schedule.run::<std::convert::Infallible, _>(&clock, shutdown, |_| async {
            self.note(self.tick().await).await;
            Ok(())
        });
        let Ok(()) = ticking.await;
    }

    /// Drains what is there now.
    ///
    /// # Errors
    /// As `Consumer::tick`.
    pub async fn tick(&self) -> Result<TickReport, ConsumerError> {
        self.consumer.lock().await.as_mut().ok_or(ConsumerError::Ended)?.tick().await
    }

    /// Drains what is there now and makes it final.
    ///
    /// # Errors
    /// As `Consumer::close_segments`.
    pub async fn close_segments(&self, asked_by: &str) -> Result<TickReport, ConsumerError> {
        let mut consumer = self.consumer.lock().await;
        consumer.as_mut().ok_or(ConsumerError::Ended)?.close_segments(asked_by).await
    }

    /// Drains what is there, makes it final, and ends the lanes, whether or not that worked.
    ///
    /// # Errors
    /// As `Consumer::close_segments`.
    pub async fn finish(&self, asked_by: &str) -> Result<(), ConsumerError> {
        let closed = self.close_segments(asked_by).await;
        if let Some(consumer) = self.consumer.lock().await.take() {
            consumer.shutdown().await;
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
        let consumer = self.consumer.lock().await;
        Ok(consumer.as_ref().ok_or(ConsumerError::Ended)?.is_assigned()?)
    }

    async fn note(&self, ticked: Result<TickReport, ConsumerError>) {
        match ticked {
            Ok(_) if !self.is_assigned().await.unwrap_or(false) => {
                self.check.not_ready("the consumer group has not yet given this process a share");
            }
            Ok(_) => self.check.ready(),
            Err(error) => {
                error!(%error, "tick failed; the next one tries again");
                self.check.not_ready(error.to_string());
            }
        }
    }
}

/// How a consumer uses this machine.
pub(crate) fn consumer_config(config: &Config, work: Work) -> ConsumerConfig {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let consumer = &config.consumer;
    ConsumerConfig {
        lanes: consumer.lanes.on(cores, config.log.partitions.as_usize()),
        chunk_bytes: consumer.chunk_bytes.as_usize(),
        chunks_in_flight: consumer.chunks_in_flight.as_usize(),
        flushes_in_flight: consumer.flushes_in_flight.as_usize(),
        work,
    }
}

/// The exit of a consumer that cannot go on.
pub(crate) fn failure(error: ConsumerError) -> Failure {
    let exit = match &error {
        ConsumerError::Restart(_) | ConsumerError::Stopped { .. } => Exit::Data,
        ConsumerError::Append(_) | ConsumerError::Ended => Exit::Retry,
        ConsumerError::Log(_) | ConsumerError::Store(_) => Exit::Internal,
    };
    Failure::new(exit, error)
}
