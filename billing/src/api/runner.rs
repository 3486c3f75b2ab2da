//! Runner: the tasks that work on billing runs in this process, one a run, each joined at the end.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use domain::{BillingStore, PulseLog, UsageStore};
use runtime::Shutdown;
use tokio::task::JoinHandle;

use super::BillingApi;
use crate::{BillingError, books::runs::RunRequest};
use pricing::timeline::Month;

/// Running tasks by run.
#[derive(Debug, Default)]
pub(super) struct Runner(Mutex<HashMap<u64, JoinHandle<()>>>);

impl Runner {
    fn tasks(&self) -> std::sync::MutexGuard<'_, HashMap<u64, JoinHandle<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Time between two looks for runs that stopped because something was not to be reached.
const RESUME_INTERVAL: Duration = Duration::from_secs(30);

impl<U: UsageStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
    /// Works on a run until it ends or cannot go on, unless this process does so already.
    pub(super) fn work_on(&self, run: u64) {
        let mut tasks = self.inner.runner.tasks();
        if tasks.get(&run).is_some_and(|task| !task.is_finished()) {
            return;
        }
        let billing = self.inner.billing.clone();
        billing.begin(run);
        let task = tokio::spawn(async move {
            match billing.execute(run).await {
                Ok(ended) => tracing::info!(run, ended = ended.ended.is_some(), "billing run"),
                Err(error) => tracing::warn!(run, %error, "a billing run stopped and is resumed"),
            }
        });
        tasks.insert(run, task);
    }

    /// Goes on with every run that is open, now and every half minute, until shutdown; then ends the
    /// tasks. What they had in hand is found again by the next start.
    pub async fn keep_billing(&self, shutdown: &Shutdown) {
        loop {
            match self.inner.books.runs.open_numbers().await {
                Ok(runs) => runs.into_iter().for_each(|run| self.work_on(run)),
                Err(error) => tracing::warn!(%error, "open billing runs were not found"),
            }
            tokio::select! {
                () = tokio::time::sleep(RESUME_INTERVAL) => {}
                () = shutdown.requested() => break,
            }
        }
        let tasks: Vec<_> = self.inner.runner.tasks().drain().map(|(_, task)| task).collect();
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
    pub async fn bill_what_is_due(&self) -> Result<Vec<u64>, BillingError> {
        let this = Month::of(self.inner.clock.now());
        let known = self.inner.books.runs.all().await?;
        let mut runs = Vec::new();
        for month in [this.previous().previous(), this.previous()] {
            let request =
                RunRequest { month, tenants: Vec::new(), deltas: false, request_id: String::new() };
            if known.iter().any(|run| run.request == request && run.is_through()) {
                continue;
            }
            let run = self.inner.billing.open_run(request).await?;
            self.work_on(run.number);
            runs.push(run.number);
        }
        Ok(runs)
    }
}
