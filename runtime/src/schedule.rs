//! Schedule: when the work of a stage starts: once, at an interval, or by a cron expression in UTC.
//!
//! Ticks never overlap and never queue up: what falls due while the work still runs becomes one
//! tick right after it. Nothing is missed for good either: after a suspended machine, or a clock
//! that was set, a tick comes within half a minute, and the work finds out what there is to do.
//!
//! tokio-cron-scheduler rings when a moment of an expression comes. What is due then is computed
//! here, from the clock that was passed in: the scheduler knows the system's clock only, starts a
//! job again while it still runs, and forgets the moments it slept through.

mod cron;
mod bell;

use std::{fmt, future::Future, time::Duration};

use domain::{Clock, Timestamp};
use metrics::counter;
use tokio::{sync::Notify, time::MissedTickBehavior};
use tracing::debug;

use self::bell::Bell;
use crate::Shutdown;
pub use cron::{CronExpression, ScheduleError};

/// Longest sleep before the clock is read again: how late a tick may be when somebody sets the
/// clock forward or the machine was suspended.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// How long the loop waits for the bell past the moment of a tick. The scheduler looks at its clock
/// every 500 ms; after the clock was set back it rings for none of the moments that come again.
const RING_DELAY_MAX: Duration = Duration::from_secs(1);

/// When work starts.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// At once, one time.
    Once,
    /// At once, and then at every multiple of this interval. Zero counts as one millisecond.
    Follow(Duration),
    /// At the moments of an expression, in UTC; the first is the next one, not now.
    Cron(CronExpression),
}

/// One start of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Place in this run of the schedule, from 0.
    pub number: u64,
    /// The moment the work was due (the newest one, if several had come together).
    pub due: Timestamp,
}

impl Schedule {
    /// Reads a cron expression of six fields: second, minute, hour, day of month, month, day of
    /// week. A day must match both day fields.
    ///
    /// # Errors
    /// When it cannot be read, or no moment ever matches. The message shows what a right one looks
    /// like.
    pub fn parse(expression: &str) -> Result<Self, ScheduleError> {
        CronExpression::parse(expression).map(Self::Cron)
    }

    /// Runs the work at every tick until shutdown is requested or the work fails. Work in hand is
    /// always awaited, never cancelled; work that takes long watches the shutdown itself.
    ///
    /// # Errors
    /// The first error of the work.
    pub async fn run<E, F: Future<Output = Result<(), E>>>(
        &self,
        clock: &impl Clock,
        shutdown: &Shutdown,
        work: impl FnMut(Tick) -> F,
    ) -> Result<(), E> {
        let run = Run { clock, shutdown, work, number: 0 };
        match self {
            Self::Once => run.once().await,
            Self::Follow(interval) => run.follow(*interval).await,
            Self::Cron(expression) => {
                let bell = Bell::start(expression);
                run.cron(expression, bell.rung()).await
            }
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Once => f.write_str("once"),
            Self::Follow(interval) => write!(f, "every {interval:?}"),
            Self::Cron(expression) => expression.fmt(f),
        }
    }
}

struct Run<'a, C, W> {
    clock: &'a C,
    shutdown: &'a Shutdown,
    work: W,
    number: u64,
}

impl<C: Clock, E, F: Future<Output = Result<(), E>>, W: FnMut(Tick) -> F> Run<'_, C, W> {
    async fn once(mut self) -> Result<(), E> {
        if self.shutdown.is_requested() {
            return Ok(());
        }
        self.tick(self.clock.now()).await
    }

    async fn follow(mut self, interval: Duration) -> Result<(), E> {
        let mut interval = tokio::time::interval(interval.max(Duration::from_millis(1)));
        // After long work: one tick at once, then in step again.
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while self.until(interval.tick()).await.is_some() {
            self.tick(self.clock.now()).await?;
        }
        Ok(())
    }

    async fn cron(mut self, expression: &CronExpression, bell: &Notify) -> Result<(), E> {
        let mut last = self.clock.now();
        loop {
            let now = self.clock.now();
            last = cron::settle(last, now);
            match expression.due(now, last) {
                Some(due) if due <= now && !self.shutdown.is_requested() => {
                    last = due;
                    self.tick(due).await?;
                }
                due => {
                    let wait = due.map_or(SLEEP_MAX, |due| between(now, due) + RING_DELAY_MAX);
                    let ring = tokio::time::timeout(wait.min(SLEEP_MAX), bell.notified());
                    if self.until(ring).await.is_none() {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn tick(&mut self, due: Timestamp) -> Result<(), E> {
        let late = between(due, self.clock.now());
        debug!(number = self.number, %due, ?late, "tick");
        let tick = Tick { number: self.number, due };
        self.number += 1;
        let result = (self.work)(tick).await;
        let outcome = if result.is_ok() { "done" } else { "failed" };
        counter!("pulso_schedule_ticks_total", "outcome" => outcome).increment(1);
        result
    }

    /// What the future gives, or `None` when shutdown is requested first (or was already).
    async fn until<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.shutdown.requested() => None,
            output = future => Some(output),
        }
    }
}

/// Time from one moment to a later one; zero when it is not later.
fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(to.micros() - from.micros()).unwrap_or(0))
}

#[cfg(test)]
mod tests;
