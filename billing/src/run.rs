//! Run: the billing of a month, for all tenants or for some.
//!
//! A run bills every period that begins in the month and was over, with the grace, when its cut was
//! taken. A period that has an invoice already stays as it is, or gets a delta where the run is for
//! deltas; such a run also reverses the month's documents whose periods no longer exist. A run that was
//! killed continues where it was, and two at once end with one invoice, one number and one message.

use std::{collections::BTreeSet, sync::Arc};

use domain::{BillingStore, Clock, PulseLog, Tenant, Timestamp, UsageStore};
use futures_util::StreamExt as _;
use pricing::moment::Calendar;
use runtime::fault;

use crate::{
    BillingError, Refusal,
    account::all_tenants,
    books::{
        Books,
        runs::{Cut, Ended, Run, RunRequest},
    },
    config::RunConfig,
    cut::Cutter,
    issue::Issuer,
    saga::Saga,
    usage::{Below, UsageReader},
};

pub(crate) mod progress;
pub(crate) mod tasks;

use progress::{FAILURES_MAX, Progress, Progresses};

/// What drives runs: from the cut to the last tenant.
pub(crate) struct Driver<U, B, L> {
    books: Arc<Books<B>>,
    usage: UsageReader<U>,
    cutter: Cutter<U, L>,
    saga: Saga<U, B>,
    issuer: Issuer<B>,
    clock: Arc<dyn Clock>,
    config: RunConfig,
    progress: Progresses,
}

impl<U: UsageStore, B: BillingStore, L: PulseLog> Driver<U, B, L> {
    /// Takes the books and the clock, what reads usage and cuts the log, and what bills tenants.
    pub(crate) fn new(
        (books, clock): (Arc<Books<B>>, Arc<dyn Clock>),
        (usage, cutter): (UsageReader<U>, Cutter<U, L>),
        saga: Saga<U, B>,
        config: RunConfig,
    ) -> Self {
        let issuer = Issuer::new(Arc::clone(&books), Arc::clone(&clock));
        let progress = Progresses::default();
        Self { books, usage, cutter, saga, issuer, clock, config, progress }
    }

    /// Opens a run, or gives the one that is open for the same, or has the same request id.
    ///
    /// # Errors
    /// When no period of the month is over yet; when the store fails.
    pub(crate) async fn open(&self, request: RunRequest) -> Result<Run, BillingError> {
        self.check_due(&request).await?;
        self.books.runs.open(request).await
    }

    /// Refuses a month of which no period can be due yet.
    async fn check_due(&self, request: &RunRequest) -> Result<(), BillingError> {
        // The earliest end of a period that begins in the month: a day after its first moment, in
        // the zone that is furthest ahead. What is due in detail is decided tenant by tenant.
        let starts = request.month.window(&Calendar::UTC).map(|month| month.start);
        let day = std::time::Duration::from_secs(86_400);
        let earliest =
            starts.map_or(Timestamp::MAX, |start| start.minus(day).plus(self.config.grace));
        if self.clock.now() < earliest {
            return Err(BillingError::refused(
                Refusal::NotDue,
                format!(
                    "{} has not come yet: its periods are billed after their end and {:?} of grace",
                    request.month, self.config.grace
                ),
            ));
        }
        Ok(())
    }

    /// What this process is doing about a run.
    #[must_use]
    pub(crate) fn progress(&self, run: u64) -> Progress {
        self.progress.of(run)
    }

    /// Notes that this process is about to continue a run, so that its progress shows no earlier
    /// attempt.
    pub(crate) fn begin(&self, number: u64) {
        let beginning = Progress { doing: "beginning".to_owned(), ..Progress::default() };
        self.progress.change(number, |progress| *progress = beginning);
    }

    /// Takes a run to its end: its cut, then every tenant. Whatever was done before is found and not
    /// done again, by this process or by others at the same time.
    ///
    /// # Errors
    /// When the cut cannot be taken, or the store fails. What a tenant fails at is in the progress,
    /// and leaves the run open.
    pub(crate) async fn execute(&self, number: u64) -> Result<Run, BillingError> {
        self.progress.change(number, |progress| *progress = Progress::default());
        let executed = self.execute_steps(number).await;
        self.progress.change(number, |progress| match &executed {
            Ok(_) => progress.doing.clear(),
            Err(error) => progress.doing = format!("stopped: {error}"),
        });
        executed
    }

    async fn execute_steps(&self, number: u64) -> Result<Run, BillingError> {
        let run = self.with_cut(number).await?;
        let Some(cut) = run.cut.clone().filter(|_| run.ended.is_none()) else { return Ok(run) };
        let below = self.usage.below(&cut).await?;
        let tenants = self.tenants(&run, &cut).await?;
        let total = tenants.len();
        self.progress.change(number, |progress| {
            progress.doing = format!("billing {total} tenants");
        });
        let (run, below) = (&run, &below);
        futures_util::stream::iter(tenants)
            .map(|tenant| async move { self.bill_one(run, below, tenant).await })
            .buffer_unordered(self.config.tenants_at_once.max(1))
            .collect::<Vec<()>>()
            .await;
        let progress = self.progress(number);
        if progress.failures.is_empty() {
            fault::point("billing.before_close");
            self.books.runs.close(number, progress.outcomes).await?;
        }
        self.books.runs.get(number).await
    }

    async fn bill_one(&self, run: &Run, below: &Below, tenant: Tenant) {
        let report = |why| self.progress.blocked(run.number, &tenant, why);
        let billed = self.saga.bill_tenant(run, below, &tenant, &report).await;
        self.progress.change(run.number, |progress| match billed {
            Ok(outcomes) => {
                progress.tenants_done += 1;
                progress.outcomes.add(outcomes);
            }
            Err(error) => {
                tracing::warn!(run = run.number, %tenant, %error, "a tenant was not billed");
                if progress.failures.len() < FAILURES_MAX {
                    progress.failures.push((tenant.to_string(), error.to_string()));
                }
            }
        });
    }

    /// The run with its cut, which is taken now if it has none.
    async fn with_cut(&self, number: u64) -> Result<Run, BillingError> {
        loop {
            let run = self.books.runs.get(number).await?;
            if run.cut.is_some() || run.ended.is_some() {
                return Ok(run);
            }
            let catalogues = self.books.catalogues.versions().await?;
            let contracts = self.books.contracts.all().await?.len() as u64;
            let tell = |waiting: String| {
                self.progress.change(number, |progress| progress.doing = waiting);
            };
            tell("taking the cut".to_owned());
            // What is due is what was over, with the grace, at this moment of log time.
            let complete = self.clock.now();
            let cut = self.cutter.take(complete, catalogues, contracts, &tell).await?;
            let cut = Cut { taken_at: complete, ..cut };
            fault::point("billing.before_cut");
            self.books.runs.set_cut(&run, cut).await?;
            fault::point("billing.after_cut");
        }
    }

    /// The tenants of a run: all that have usage or a contract, or those it names. Sorted.
    async fn tenants(&self, run: &Run, cut: &Cut) -> Result<BTreeSet<Tenant>, BillingError> {
        if !run.request.tenants.is_empty() {
            let named = run.request.tenants.iter().filter_map(|tenant| Tenant::new(tenant).ok());
            return Ok(named.collect());
        }
        all_tenants(&self.books, &self.usage, cut.contracts).await
    }

    /// Cancels a run: nobody makes more documents for it, and its drafts are discarded. What is final
    /// stays, and what already has a number becomes final. Cancelling again does nothing.
    ///
    /// # Errors
    /// When the run is closed or there is none; when the store fails.
    pub(crate) async fn cancel(&self, number: u64) -> Result<Run, BillingError> {
        let run = self.books.runs.cancel(number).await?;
        if let Some(Ended::Closed(..)) = run.ended {
            let message = format!(
                "run {number} has ended; a final invoice is taken back with `pulso invoice void`"
            );
            return Err(BillingError::refused(Refusal::RunEnded, message));
        }
        if let Some(cut) = &run.cut {
            for tenant in self.tenants(&run, cut).await? {
                self.issuer.settle_drafts(&run, &tenant).await?;
            }
        }
        Ok(run)
    }
}
