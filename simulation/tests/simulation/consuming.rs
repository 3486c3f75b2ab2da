//! Consumer processes: the product's own `Consumer`, started, ticked and killed by the driver.
//!
//! A consumer has one lane, whose drain, fold and flusher work one behind the other. So what it
//! writes, and in which order, follows from what it reads, however its threads are scheduled; and
//! because it waits before each flush, it stands still whenever the driver does something else.

use std::sync::Arc;

use domain::{
    Offset, Partition,
    log::LogError,
    store::{PartitionKey, StoreError},
};
use ingestor_consumer::{
    Consumer, ConsumerConfig, ConsumerError, ConsumerPorts, Work, restart::RestartError,
};
use tokio::task::{JoinHandle, yield_now};

use crate::{
    ports::{SimFeed, SimLog, SimStore},
    process::{FlushFate, Process, ProcessClock},
};

type Running = Consumer<SimLog, SimStore>;

/// A consumer process.
pub(crate) struct Consuming {
    pub(crate) process: Arc<Process>,
    /// Which generation of the log it drains.
    pub(crate) generation: usize,
    pub(crate) work: Work,
    log: Arc<SimLog>,
    store: Arc<SimStore>,
    feed: Option<SimFeed>,
    config: ConsumerConfig,
    consumer: Option<Running>,
    doing: Option<JoinHandle<Done>>,
    /// What a tick that ends well has stored: all that there was when it began.
    pub(crate) owes: Vec<(PartitionKey, Offset)>,
}

/// What a process does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    Start,
    Tick,
    CloseSegments,
}

/// The end of an activity; without a consumer it could not start.
type Done = (Option<Running>, Result<(), ConsumerError>);

/// How an activity stands.
#[derive(Debug)]
pub(crate) enum Standing {
    /// A flush waits for its fate.
    Waits,
    Done(Result<(), ConsumerError>),
    Died,
    Panicked,
}

impl Consuming {
    pub(crate) fn new(
        generation: usize,
        (log, store): (SimLog, SimStore),
        feed: Option<SimFeed>,
        config: ConsumerConfig,
    ) -> Self {
        Self {
            process: Arc::clone(&log.process),
            generation,
            work: config.work,
            log: Arc::new(log),
            store: Arc::new(store),
            feed,
            config,
            consumer: None,
            doing: None,
            owes: Vec::new(),
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.doing.is_none()
    }

    pub(crate) fn is_started(&self) -> bool {
        self.consumer.is_some()
    }

    pub(crate) async fn begin(&mut self, activity: Activity) -> Standing {
        let consumer = self.consumer.take();
        let ports = ConsumerPorts {
            log: Arc::clone(&self.log),
            store: Arc::clone(&self.store),
            feed: self.feed.clone().map(Arc::new),
            clock: Arc::new(ProcessClock(Arc::clone(&self.process))),
        };
        let config = self.config.clone();
        self.doing = Some(tokio::spawn(async move {
            let Some(mut consumer) = consumer else {
                return match Consumer::start(ports, config).await {
                    Ok(consumer) => (Some(consumer), Ok(())),
                    Err(error) => (None, Err(error)),
                };
            };
            let done = match activity {
                Activity::CloseSegments => consumer.close_segments("simulation").await,
                Activity::Start | Activity::Tick => consumer.tick().await,
            };
            (Some(consumer), done.map(drop))
        }));
        self.settle().await
    }

    /// Says what becomes of the flush that waits.
    pub(crate) async fn decide(&mut self, fate: FlushFate) -> Standing {
        self.process.decide(fate);
        self.settle().await
    }

    /// Waits until the process stands still.
    async fn settle(&mut self) -> Standing {
        let doing = self.doing.as_mut().expect("only a busy process settles");
        let standing = tokio::select! {
            biased;
            done = &mut *doing => match done {
                Ok((consumer, done)) => {
                    self.consumer = consumer;
                    Standing::Done(done)
                }
                Err(_) => Standing::Panicked,
            },
            () = self.process.died() => Standing::Died,
            () = self.process.flush_waits() => Standing::Waits,
        };
        match standing {
            Standing::Waits => {
                // What the flush before has set going in the tick comes to its end first.
                for _ in 0..4 {
                    yield_now().await;
                }
            }
            _ => self.doing = None,
        }
        standing
    }

    /// Kills the process wherever it is.
    pub(crate) fn kill(self) {
        self.process.die();
        if let Some(doing) = self.doing {
            doing.abort();
        }
    }
}

/// Whether an error may be met in a world like this one.
pub(crate) fn is_expected(error: &ConsumerError) -> bool {
    match error {
        ConsumerError::Partitions(troubles) => troubles.iter().all(|one| is_expected(&one.cause)),
        ConsumerError::Stopped { reason, .. } => reason.contains("ahead of this machine's clock"),
        ConsumerError::Append(_) => true,
        ConsumerError::Log(error) => is_passing(error),
        ConsumerError::Store(StoreError::Unavailable(_)) => true,
        ConsumerError::Restart(RestartError::Store(StoreError::Unavailable(_))) => true,
        ConsumerError::Restart(RestartError::Log(error)) => is_passing(error),
        ConsumerError::Restart(RestartError::NotSealed { .. }) => true,
        _ => false,
    }
}

const fn is_passing(error: &LogError) -> bool {
    matches!(error, LogError::Unavailable(_))
}

/// All partitions of a log.
pub(crate) fn all_of(partitions: u16) -> Vec<Partition> {
    (0..partitions).map(Partition).collect()
}
