//! Run: the billing of a month, for all tenants or for some.
//!
//! All
//! periods that begin in the month and were over, with the grace, when the cut was taken are billed;
//! those that have an invoice already are left as they are, or get a delta where the run is for
//! deltas. Such a run also reverses documents of the month whose periods there are no more.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use domain::{BillingStore, PulseLog, Tenant, Timestamp, UsageStore};
use futures_util::StreamExt as _;
use runtime::fault;

use super::cut::Below;
use crate::{
    BillingError, Refusal,
    billing::Billing,
    books::runs::{Cut, Ended, Outcomes, Run, RunRequest},
};
use pricing::moment::Calendar;

/// What this process is doing about a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// What it does or waits for, for a person; empty once it has stopped.
    pub(crate) doing: String,
    /// Tenants that are through.
    pub(crate) tenants_done: u64,
    /// Periods so far.
    pub(crate) outcomes: Outcomes,
    /// Tenants that could not be billed, with the reason, at most 100; the run stays open.
    pub(crate) failures: Vec<(String, String)>,
    /// Tenants with periods that are blocked, with what to do, at most 100.
    pub(crate) blocked: Vec<(String, String)>,
}

const FAILURES_MAX: usize = 100;

/// Progress by run.
#[derive(Debug, Default)]
pub(super) struct Progresses(Mutex<HashMap<u64, Progress>>);

impl Progresses {
    fn change(&self, run: u64, change: impl FnOnce(&mut Progress)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(run).or_default());
    }

    /// Tells people what a period waits for.
    pub(super) fn blocked(&self, run: u64, tenant: &Tenant, why: String) {
        tracing::warn!(run, %tenant, why, "a period was not billed");
        self.change(run, |progress| {
            if progress.blocked.len() < FAILURES_MAX {
                progress.blocked.push((tenant.to_string(), why));
            }
        });
    }

    fn of(&self, run: u64) -> Progress {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&run).cloned().unwrap_or_default()
    }
}

impl<U: UsageStore, B: BillingStore, L: PulseLog> Billing<U, B, L> {
    /// Opens a run, or gives the one that is open for the same, or has the same request id.
    ///
    /// # Errors
    /// When no period of the month is over yet; when the store fails.
    pub(crate) async fn open_run(&self, request: RunRequest) -> Result<Run, BillingError> {
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

    /// Says that this process is about to go on with a run: whoever asks from now on is told nothing
    /// of an attempt before.
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
        let below = self.below(&cut).await?;
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
        let billed = self.bill_tenant(run, below, &tenant).await;
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
            let catalogue = self.books.catalogues.latest().await?;
            let contracts = self.books.contracts.all().await?.len() as u64;
            let tell = |waiting: String| {
                self.progress.change(number, |progress| progress.doing = waiting);
            };
            tell("taking the cut".to_owned());
            // What is due is what was over, with the grace, at this moment of log time.
            let complete = self.clock.now();
            let cut = self.take_cut(complete, catalogue, contracts, &tell).await?;
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
        self.all_tenants(cut.contracts).await
    }

    /// All tenants that have usage, or one of the first `count` contracts.
    pub(super) async fn all_tenants(&self, count: u64) -> Result<BTreeSet<Tenant>, BillingError> {
        let mut tenants = BTreeSet::new();
        let contracts = self.books.contracts.all().await?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let known = contracts.iter().take(count).map(|known| known.contract.tenant.clone());
        tenants.extend(known);
        let mut after: Option<Tenant> = None;
        loop {
            let page = self.usage.tenants(after.as_ref(), self.config.page_rows.max(1)).await?;
            let Some(last) = page.last().cloned() else { return Ok(tenants) };
            after = Some(last);
            tenants.extend(page);
        }
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
                self.settle_drafts(&run, &tenant).await?;
            }
        }
        Ok(run)
    }
}
