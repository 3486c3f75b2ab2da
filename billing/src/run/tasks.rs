//! Tasks: what works on billing runs in this process, one task per run, each joined at the end.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use domain::{BillingStore, BlockStore, Clock, PulseLog};
use runtime::Shutdown;
use tokio::{task::JoinHandle, time::Instant};

use super::{Driver, plan};
use crate::{BillingError, books::Books, config::ScheduleConfig, due::Looker};

/// Time between two looks for runs that stopped because a store or the log did not answer.
const RESUME_INTERVAL: Duration = Duration::from_secs(30);
/// Longest time between two looks at what is due, which its metric shows.
const LOOK_INTERVAL: Duration = Duration::from_secs(3_600);
/// Time between two looks whether a run of a tick has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The tasks of this process.
pub(crate) struct RunTasks<U, B, L> {
    books: Arc<Books<B>>,
    driver: Arc<Driver<U, B, L>>,
    looker: Arc<Looker<U, B>>,
    clock: Arc<dyn Clock>,
    schedule: ScheduleConfig,
    running: Mutex<HashMap<u64, JoinHandle<()>>>,
    /// A run has ended since somebody looked at what is due.
    has_ended: Arc<AtomicBool>,
}

impl<U: BlockStore, B: BillingStore, L: PulseLog> RunTasks<U, B, L> {
    /// Takes the books and the clock, what drives runs, what finds what is due, and what a tick of the
    /// schedule bills.
    pub(crate) fn new(
        (books, clock): (Arc<Books<B>>, Arc<dyn Clock>),
        driver: Arc<Driver<U, B, L>>,
        looker: Arc<Looker<U, B>>,
        schedule: ScheduleConfig,
    ) -> Self {
        let (running, has_ended) = (Mutex::default(), Arc::default());
        Self { books, driver, looker, clock, schedule, running, has_ended }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<u64, JoinHandle<()>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on a run until it ends or cannot go on, unless this process does so already.
    pub(crate) fn work_on(&self, run: u64) {
        let mut tasks = self.running();
        if tasks.get(&run).is_some_and(|task| !task.is_finished()) {
            return;
        }
        let (driver, has_ended) = (Arc::clone(&self.driver), Arc::clone(&self.has_ended));
        driver.begin(run);
        let task = tokio::spawn(async move {
            match driver.execute(run).await {
                Ok(ended) => {
                    tracing::info!(run, ended = ended.ended.is_some(), "billing run");
                    has_ended.store(true, Ordering::Relaxed);
                }
                Err(error) => tracing::warn!(run, %error, "a billing run stopped and is resumed"),
            }
        });
        tasks.insert(run, task);
    }

    fn is_working_on(&self, run: u64) -> bool {
        self.running().get(&run).is_some_and(|task| !task.is_finished())
    }

    /// Continues every run that is open, now and every half minute, until shutdown; then ends the tasks.
    /// The next start finds what they had in hand. Between them it looks at what is due, so that its
    /// metric is as of the last run, or an hour old at most.
    pub(crate) async fn keep(&self, shutdown: &Shutdown) {
        let mut looked: Option<Instant> = None;
        loop {
            match self.books.runs.open_numbers().await {
                Ok(runs) => runs.into_iter().for_each(|run| self.work_on(run)),
                Err(error) => tracing::warn!(%error, "open billing runs were not found"),
            }
            let is_old = looked.is_none_or(|at| at.elapsed() >= LOOK_INTERVAL);
            if self.has_ended.swap(false, Ordering::Relaxed) || is_old {
                looked = Some(Instant::now());
                if let Err(error) = self.looker.look().await {
                    tracing::warn!(%error, "what is due was not found out");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RESUME_INTERVAL) => {}
                () = shutdown.requested() => break,
            }
        }
        let tasks: Vec<_> = self.running().drain().map(|(_, task)| task).collect();
        for task in tasks {
            task.abort();
            // Aborted or done: either way it has let go of the ports.
            drop(task.await);
        }
    }

    /// Opens the runs of a tick of the schedule and works on them, one after the other so that a tick
    /// holds no more periods in memory than a run: for each month with periods that are due, and for
    /// deltas where the schedule bills them. Gives the runs' numbers.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn bill_what_is_due(
        &self,
        shutdown: &Shutdown,
    ) -> Result<Vec<u64>, BillingError> {
        let due = self.looker.look().await?;
        let known = self.books.runs.all().await?;
        let mut numbers = Vec::new();
        for request in plan::of_tick(self.clock.now(), &self.schedule, &due, &known) {
            let run = self.driver.open(request).await?;
            self.work_on(run.number);
            numbers.push(run.number);
            while self.is_working_on(run.number) {
                tokio::select! {
                    () = tokio::time::sleep(POLL_INTERVAL) => {}
                    () = shutdown.requested() => return Ok(numbers),
                }
            }
        }
        Ok(numbers)
    }
}
