//! Tasks: what works on billing runs in this process, one task per run, each joined at the end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::{BillingStore, Clock, PulseLog, UsageStore};
use pricing::timeline::Month;
use runtime::Shutdown;
use tokio::task::JoinHandle;

use super::Driver;
use crate::{
    BillingError,
    books::{Books, runs::RunRequest},
};

/// Time between two looks for runs that stopped because a store or the log did not answer.
const RESUME_INTERVAL: Duration = Duration::from_secs(30);

/// The tasks of this process.
pub(crate) struct RunTasks<U, B, L> {
    books: Arc<Books<B>>,
    driver: Arc<Driver<U, B, L>>,
    clock: Arc<dyn Clock>,
    running: Mutex<HashMap<u64, JoinHandle<()>>>,
}

impl<U: UsageStore, B: BillingStore, L: PulseLog> RunTasks<U, B, L> {
    /// Takes the books, what drives runs, and the clock.
    pub(crate) fn new(
        books: Arc<Books<B>>,
        driver: Arc<Driver<U, B, L>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { books, driver, clock, running: Mutex::default() }
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
        let driver = Arc::clone(&self.driver);
        driver.begin(run);
        let task = tokio::spawn(async move {
            match driver.execute(run).await {
                Ok(ended) => tracing::info!(run, ended = ended.ended.is_some(), "billing run"),
                Err(error) => tracing::warn!(run, %error, "a billing run stopped and is resumed"),
            }
        });
        tasks.insert(run, task);
    }

    /// Continues every run that is open, now and every half minute, until shutdown; then ends the tasks.
    /// The next start finds what they had in hand.
    pub(crate) async fn keep(&self, shutdown: &Shutdown) {
        loop {
            match self.books.runs.open_numbers().await {
                Ok(runs) => runs.into_iter().for_each(|run| self.work_on(run)),
                Err(error) => tracing::warn!(%error, "open billing runs were not found"),
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

    /// Opens and works on the runs of the two months before this one, for whatever of them is due
    /// and has no invoice: a tick of the schedule. A month of which a run has left nothing to wait
    /// for is through; what changes about it later is for deltas.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn bill_what_is_due(&self) -> Result<Vec<u64>, BillingError> {
        let this = Month::of(self.clock.now());
        let known = self.books.runs.all().await?;
        let mut runs = Vec::new();
        for month in [this.previous().previous(), this.previous()] {
            let request =
                RunRequest { month, tenants: Vec::new(), deltas: false, request_id: String::new() };
            if known.iter().any(|run| run.request == request && run.is_through()) {
                continue;
            }
            let run = self.driver.open(request).await?;
            self.work_on(run.number);
            runs.push(run.number);
        }
        Ok(runs)
    }
}
