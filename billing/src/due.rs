//! Due: which tenants have periods that are over and not billed, month by month.
//!
//! It follows from what the stores know, whenever somebody looks, so it also finds a contract that was
//! entered late, usage that was backfilled, and an invoice that was voided. A period is due once it has
//! been over for the grace, as long as no document bills all of it, and where there may be something to
//! bill: usage, a contract that bills without usage, or a document of the period before. A period in
//! which a run found nothing to bill is not due until something about it changes.
//!
//! A look costs one read of each tenant's ledger, and one look-up of usage for each month without a
//! document in which the tenant used something.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use domain::{
    BillingStore, BlockStore, Clock, Tenant, Timestamp, Window, contract::Contract,
    store::StoreError,
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use metrics::gauge;
use pricing::{editions::Editions, timeline::Month};
use tokio::sync::Mutex;

use crate::{
    BillingError,
    books::{
        Books,
        contracts::{self, AppliedFiles},
        ledger::Ledger,
        runs::{Ended, Run, results::Words},
    },
    config::{RunConfig, ScheduleConfig},
    periods::{self, Billable},
    usage::{Below, UsageReader},
};

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// When that was.
    pub(crate) looked_at: Timestamp,
    /// The first month that was looked at.
    pub(crate) from: Month,
    /// Tenants there are.
    pub(crate) tenants: usize,
    /// Tenants with periods that begin in a month and are due, with why a run has not billed them.
    pub(crate) months: BTreeMap<Month, BTreeMap<Tenant, Waiting>>,
}

/// What a period that is due waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// The next run.
    Run,
    /// The last run could not bill the tenant, and says why.
    Failed(String),
    /// The last run said what has to be done first.
    Blocked(String),
}

impl Waiting {
    /// The stable word.
    #[must_use]
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Run => "waiting",
            Self::Failed(_) => "failed",
            Self::Blocked(_) => "blocked",
        }
    }
}

/// Looks for what is due.
pub(crate) struct Looker<U, B> {
    books: Arc<Books<B>>,
    usage: UsageReader<U>,
    clock: Arc<dyn Clock>,
    runs: RunConfig,
    months: u32,
    /// The last look and when it began. Held while somebody looks, so that many who ask cost two looks.
    last: Mutex<Option<(Instant, Arc<Due>)>>,
}

/// What one look knows of all tenants.
struct Look {
    now: Timestamp,
    months: Vec<Month>,
    below: Below,
    /// Of the catalogue, those in use.
    versions: Vec<String>,
    editions: Arc<Editions>,
    contracts: Arc<AppliedFiles>,
    /// Periods by standard terms, which are everybody's without a contract.
    standard: Vec<Billable>,
    runs: HashMap<u64, Run>,
    cuts: Mutex<HashMap<u64, Arc<Below>>>,
}

impl<U: BlockStore, B: BillingStore> Looker<U, B> {
    /// Takes the books and the clock, what reads usage, and how far back to look.
    pub(crate) fn new(
        (books, clock): (Arc<Books<B>>, Arc<dyn Clock>),
        usage: UsageReader<U>,
        runs: RunConfig,
        schedule: &ScheduleConfig,
    ) -> Self {
        let months = schedule.look_back_months;
        Self { books, usage, clock, runs, months, last: Mutex::default() }
    }

    /// What is due now. Who asks while somebody looks gets the answer of the next look, together with all
    /// others who wait for it.
    ///
    /// # Errors
    /// When a store fails.
    pub(crate) async fn look(&self) -> Result<Arc<Due>, BillingError> {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        if let Some((began, known)) = last.as_ref()
            && *began >= asked
        {
            return Ok(Arc::clone(known));
        }
        let began = Instant::now();
        let due = Arc::new(self.find(self.clock.now()).await?);
        *last = Some((began, Arc::clone(&due)));
        Ok(due)
    }

    async fn find(&self, now: Timestamp) -> Result<Due, BillingError> {
        let (from, months) = months_until(Month::of(now), self.months);
        let mut due = Due { looked_at: now, from, tenants: 0, months: BTreeMap::new() };
        let runs = self.books.runs.all().await?;
        if let Some(look) = self.prepare(now, months, &runs).await? {
            let mut tenants = self.usage.tenants().await?;
            tenants.extend(look.contracts.tenants().cloned());
            due.tenants = tenants.len();
            let found: Vec<(Tenant, Option<BTreeSet<Month>>)> = futures_util::stream::iter(tenants)
                .map(|tenant| self.of_tenant(&look, tenant))
                .buffer_unordered(self.runs.tenants_at_once.max(1))
                .try_collect()
                .await?;
            let said = said(&runs);
            for (tenant, months) in found {
                let months = months.unwrap_or_else(|| months_said(&said, &tenant, now));
                for month in months {
                    let waiting = said.get(&(month, tenant.as_str())).cloned();
                    let tenants = due.months.entry(month).or_default();
                    tenants.insert(tenant.clone(), waiting.unwrap_or(Waiting::Run));
                }
            }
        }
        due.measure();
        Ok(due)
    }

    /// What one look knows of all tenants; nothing where no catalogue is in use, because then nothing
    /// can be billed.
    async fn prepare(
        &self,
        now: Timestamp,
        months: Vec<Month>,
        runs: &[Run],
    ) -> Result<Option<Look>, BillingError> {
        let versions = self.books.catalogues.versions().await?;
        if versions.is_empty() {
            return Ok(None);
        }
        let editions = self.books.catalogues.editions(&versions).await?;
        let contracts = self.books.contracts.all().await?;
        let anybody = Tenant::new("anybody").expect("a name");
        let standard = periods_of(&editions.standard_contracts(&anybody), &months)?;
        let runs = runs.iter().map(|run| (run.number, run.clone())).collect();
        let (below, cuts) = (self.usage.now().await?, Mutex::default());
        Ok(Some(Look { now, months, below, versions, editions, contracts, standard, runs, cuts }))
    }

    /// The months of a tenant with periods that are due; nothing where that cannot be found out.
    ///
    /// # Errors
    /// When a store does not answer.
    async fn of_tenant(
        &self,
        look: &Look,
        tenant: Tenant,
    ) -> Result<(Tenant, Option<BTreeSet<Month>>), BillingError> {
        match self.months_of(look, &tenant).await {
            Ok(months) => Ok((tenant, Some(months))),
            Err(BillingError::Store(StoreError::Unavailable(why))) => {
                Err(StoreError::Unavailable(why).into())
            }
            Err(error) => {
                tracing::warn!(%tenant, %error, "what is due of a tenant is unknown");
                Ok((tenant, None))
            }
        }
    }

    async fn months_of(
        &self,
        look: &Look,
        tenant: &Tenant,
    ) -> Result<BTreeSet<Month>, BillingError> {
        let ledger = self.books.documents.ledger(tenant).await?;
        let mut unbilled = look.periods(tenant)?;
        unbilled.retain(|Billable { window, currency, .. }| {
            window.end.plus(self.runs.grace) <= look.now
                && !ledger.bills_all(window.start, currency.code(), window.end)
        });
        let (Some(first), Some(last)) = (unbilled.first(), unbilled.last()) else {
            return Ok(BTreeSet::new());
        };
        let all = Window { start: first.window.start, end: last.window.end };
        let mut used = self.usage.first(&look.below, tenant, all).await?;
        let (mut settled, mut months) = (None, BTreeSet::new());
        for period in unbilled {
            let Window { start, end } = period.window;
            if used.is_some_and(|at| at < start) {
                let rest = Window { start, end: all.end };
                used = self.usage.first(&look.below, tenant, rest).await?;
            }
            let is_used = used.is_some_and(|at| at < end);
            if !is_used && !is_due_unused(&ledger, period) {
                continue;
            }
            let settled = match &mut settled {
                Some(known) => known,
                none => none.insert(self.books.settled.of(tenant).await?),
            };
            let run = settled.get(&start).and_then(|run| look.runs.get(run));
            // A level may be carried into the period out of a document that was made since.
            let is_carried = run.is_some_and(|run| ledger.bills_until(start, run.number));
            if is_carried || !self.is_settled(look, tenant, (period, run)).await? {
                months.insert(period.month);
            }
        }
        Ok(months)
    }

    /// Tells whether a run found nothing to bill in a period, and nothing has changed since its cut.
    async fn is_settled(
        &self,
        look: &Look,
        tenant: &Tenant,
        (period, run): (Billable, Option<&Run>),
    ) -> Result<bool, BillingError> {
        let Some((number, cut)) = run.and_then(|run| Some((run.number, run.cut.as_ref()?))) else {
            return Ok(false);
        };
        if cut.catalogues != look.versions || look.contracts.has_behind(cut.contracts, tenant) {
            return Ok(false);
        }
        let below = {
            let mut cuts = look.cuts.lock().await;
            match cuts.get(&number) {
                Some(known) => Arc::clone(known),
                None => {
                    let below = Arc::new(self.usage.below(cut).await?);
                    cuts.insert(number, Arc::clone(&below));
                    below
                }
            }
        };
        let (views, window) = ((&look.below, &*below), period.window);
        Ok(!self.usage.has_newer(views, tenant, window).await?)
    }
}

impl Look {
    /// The periods of a tenant that begin in the months of the look, in order.
    fn periods(&self, tenant: &Tenant) -> Result<Vec<Billable>, BillingError> {
        let applied = self.contracts.of(tenant)?;
        if applied.is_empty() {
            return Ok(self.standard.clone());
        }
        let mut contracts = self.editions.standard_contracts(tenant);
        contracts.extend(contracts::agreed(&applied));
        periods_of(&contracts, &self.months)
    }
}

impl Due {
    /// How many tenants of a month wait for what, as the stable words.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::from([("waiting", 0), ("failed", 0), ("blocked", 0)]);
        for waiting in self.months.values().flat_map(BTreeMap::values) {
            *counts.entry(waiting.as_str()).or_default() += 1;
        }
        counts
    }

    fn measure(&self) {
        for (state, count) in self.counts() {
            // A count of periods is far below what a float holds exactly.
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            gauge!("pulso_billing_periods_due", "state" => state).set(f64::from(count));
        }
    }
}

/// The month, and those before it; the first of them before all.
fn months_until(last: Month, before: u32) -> (Month, Vec<Month>) {
    let mut months = vec![last];
    for _ in 0..before {
        months.push(months[months.len() - 1].previous());
    }
    months.reverse();
    (months[0], months)
}

fn periods_of(contracts: &[Contract], months: &[Month]) -> Result<Vec<Billable>, BillingError> {
    let mut all = Vec::new();
    for month in months {
        all.extend(periods::billable(contracts, *month)?);
    }
    Ok(all)
}

/// Tells whether a period may have something to bill without usage of its own. A level may be carried
/// from the period before into this one.
pub(crate) fn is_due_unused(ledger: &Ledger, period: Billable) -> bool {
    period.is_billed_unused || ledger.bills_until(period.window.start, 0)
}

/// The months of a tenant of which nothing could be found out, for a run to name it: those for which the
/// last run did not bill it, and the last month at least.
fn months_said(
    said: &HashMap<(Month, &str), Waiting>,
    tenant: &Tenant,
    now: Timestamp,
) -> BTreeSet<Month> {
    let of_tenant = said.keys().filter(|(_, of)| *of == tenant.as_str());
    of_tenant.map(|(month, _)| *month).chain([Month::of(now).previous()]).collect()
}

/// What the last run of each tenant and month said, where it did not bill. A run that ended without a
/// word about a tenant takes back what those before it said.
fn said(newest_first: &[Run]) -> HashMap<(Month, &str), Waiting> {
    let mut said: HashMap<(Month, &str), Waiting> = HashMap::new();
    for run in newest_first.iter().rev() {
        let Some(Ended::Closed(results, _)) = &run.ended else { continue };
        let month = run.request.month;
        if run.request.tenants.is_empty() {
            said.retain(|(of, _), _| *of != month);
        }
        for tenant in &run.request.tenants {
            said.remove(&(month, tenant.as_str()));
        }
        for Words { tenant, message } in &results.blocked {
            said.insert((month, tenant), Waiting::Blocked(message.clone()));
        }
        for Words { tenant, message } in &results.failures {
            said.insert((month, tenant), Waiting::Failed(message.clone()));
        }
    }
    said
}

#[cfg(test)]
mod tests;
