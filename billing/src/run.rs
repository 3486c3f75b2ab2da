//! Run: the billing of a month, for all tenants or for some.
//!
//! A run bills every period that begins in the month and was over, with the grace, when its cut was
//! taken. A period that has an invoice already stays as it is, or gets a delta where the run is for
//! deltas; such a run also reverses the month's documents whose periods no longer exist. A run that was
//! killed continues where it was, and two at once end with one invoice, one number and one message.
//!
//! A run ends whatever becomes of single tenants: it names those that it could not bill, and their
//! periods stay due. Only what concerns every tenant (the cut, a store that does not answer) leaves it
//! open, to be resumed.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use domain::{BillingStore, BlockStore, Clock, PulseLog, Tenant, Timestamp, store::StoreError};
use futures_util::StreamExt as _;
use pricing::moment::Calendar;
use runtime::fault;

use crate::{
    BillingError, Refusal,
    account::all_tenants,
    books::{
        Books,
        runs::{Cut, Ended, Run, RunRequest, results::Results},
    },
    config::RunConfig,
    cut::Cutter,
    issue::Issuer,
    saga::Saga,
    usage::{Below, UsageReader},
};

pub(crate) mod progress;
mod plan;
pub(crate) mod tasks;

use progress::{Progress, Progresses};

/// Tries of a tenant for which a store does not answer, before it counts as failed.
const TENANT_TRIES_MAX: u32 = 3;
/// Unknown tenants that a refusal names.
const UNKNOWN_NAMED_MAX: usize = 10;

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

impl<U: BlockStore, B: BillingStore, L: PulseLog> Driver<U, B, L> {
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
    /// When no period of the month is over yet, or nobody knows a tenant; when the store fails.
    pub(crate) async fn open(&self, request: RunRequest) -> Result<Run, BillingError> {
        self.check_due(&request)?;
        self.check_known(&request).await?;
        self.books.runs.open(request).await
    }

    /// Refuses tenants without usage, contract and document.
    async fn check_known(&self, request: &RunRequest) -> Result<(), BillingError> {
        let named = request.tenants.iter().filter_map(|tenant| Tenant::new(tenant).ok());
        let mut unknown: Vec<Tenant> = named.collect();
        if !unknown.is_empty() {
            let contracts = self.books.contracts.all().await?;
            unknown.retain(|tenant| !contracts.has_any(tenant));
        }
        let mut refused = Vec::new();
        for tenant in unknown {
            if !self.usage.has_any(&tenant).await?
                && self.books.documents.ledger(&tenant).await?.documents().is_empty()
            {
                refused.push(format!("{:?}", tenant.as_str()));
            }
        }
        if refused.is_empty() {
            return Ok(());
        }
        let more = refused.len().saturating_sub(UNKNOWN_NAMED_MAX);
        refused.truncate(UNKNOWN_NAMED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Err(BillingError::refused(
            Refusal::TenantUnknown,
            format!(
                "nobody knows {}{more}: no usage in the store, no contract, no invoice; usage that has \
                 just been sent is known once the consumer has stored it",
                refused.join(", ")
            ),
        ))
    }

    /// Refuses a month of which no period can be due yet.
    fn check_due(&self, request: &RunRequest) -> Result<(), BillingError> {
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
    /// When the cut cannot be taken, or a store fails for every tenant; the run stays open. What a tenant
    /// alone fails at is in the results of the run, which ends.
    pub(crate) async fn execute(&self, number: u64) -> Result<Run, BillingError> {
        self.progress.change(number, |progress| *progress = Progress::default());
        let executed = self.execute_steps(number).await;
        match &executed {
            // The books know more than this process.
            Ok(Run { ended: Some(Ended::Closed(..)), .. }) => self.progress.forget(number),
            Ok(_) => self.progress.change(number, |progress| progress.doing.clear()),
            Err(error) => self.progress.change(number, |progress| {
                progress.doing = format!("stopped, and resumed by itself: {error}");
            }),
        }
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
        let stopped = OnceLock::new();
        let stop = &stopped;
        futures_util::stream::iter(tenants)
            .map(|tenant| async move {
                // A store that has gone away is not asked about every tenant.
                if stop.get().is_none()
                    && let Err(error) = self.bill_one(run, below, tenant).await
                {
                    _ = stop.set(error);
                }
            })
            .buffer_unordered(self.config.tenants_at_once.max(1))
            .collect::<Vec<()>>()
            .await;
        if let Some(error) = stopped.into_inner() {
            return Err(error);
        }
        let mut results = self.progress(number).results;
        for words in [&mut results.failures, &mut results.blocked] {
            words.sort_by(|one, other| one.tenant.cmp(&other.tenant));
        }
        fault::point("billing.before_close");
        let closed = self.books.runs.close(number, results).await?;
        fault::point("billing.after_close");
        Ok(closed)
    }

    /// Bills a tenant. What it alone fails at is a result of the run.
    ///
    /// # Errors
    /// When a store answers nobody.
    async fn bill_one(&self, run: &Run, below: &Below, tenant: Tenant) -> Result<(), BillingError> {
        let (number, (results, billed)) = (run.number, self.try_tenant(run, below, &tenant).await);
        if let Err(BillingError::Store(_)) = billed {
            self.check_stores(number).await?;
        }
        for blocked in &results.blocked {
            let why = &blocked.message;
            tracing::warn!(run = number, %tenant, why, "a period was not billed");
        }
        self.progress.change(number, |progress| {
            progress.results.add(results);
            progress.results.tenants_done += 1;
            if let Err(error) = billed
                && progress.results.fail(&tenant, &error.to_string())
            {
                tracing::warn!(run = number, %tenant, %error, "a tenant was not billed");
            }
        });
        Ok(())
    }

    /// Bills a tenant, with some tries where a store does not answer, and gives what came of the last of
    /// them: that finds what those before it made.
    async fn try_tenant(
        &self,
        run: &Run,
        below: &Below,
        tenant: &Tenant,
    ) -> (Results, Result<(), BillingError>) {
        let (mut backoff, mut tries) = (self.config.backoff(), 1);
        loop {
            let mut results = Results::default();
            let billed = self.saga.bill_tenant(run, below, tenant, &mut results).await;
            let is_passing = matches!(billed, Err(BillingError::Store(StoreError::Unavailable(_))));
            if !is_passing || tries == TENANT_TRIES_MAX {
                return (results, billed);
            }
            tries += 1;
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// Fails where a store answers nobody: then nothing was learnt about the tenant that failed.
    async fn check_stores(&self, number: u64) -> Result<(), BillingError> {
        self.books.runs.get(number).await?;
        self.usage.check().await
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
        if let Some(Ended::Closed(..)) = &run.ended {
            let message = format!(
                "run {number} has ended; a final invoice is taken back with `pulso invoice void`"
            );
            return Err(BillingError::refused(Refusal::RunEnded, message));
        }
        let mut failed = Vec::new();
        if let Some(cut) = &run.cut {
            for tenant in self.tenants(&run, cut).await? {
                match self.issuer.settle_drafts(&run, &tenant).await {
                    Err(error @ BillingError::Store(StoreError::Unavailable(_))) => {
                        return Err(error);
                    }
                    Err(error) => failed.push(format!("{tenant}: {error}")),
                    Ok(_) => {}
                }
            }
        }
        if failed.is_empty() {
            return Ok(run);
        }
        let (count, first) = (failed.len(), failed.swap_remove(0));
        Err(BillingError::Task(format!(
            "run {number} is cancelled, and the drafts of {count} tenants could not be discarded, of {first}: mend it and cancel again"
        )))
    }
}

#[cfg(test)]
mod tests;
