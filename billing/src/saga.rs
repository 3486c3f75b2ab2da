//! Saga: one tenant's periods become documents, step by step, each journalled before the next: rate,
//! draft, finalise, publish.
//!
//! The loop reads the ledger, does the one step that comes next, and reads it again. It keeps no state
//! of its own, so a process that restarts, or runs beside another, continues where the ledger is.
//! `overlaps.rs` keeps every day off the bills of two periods, and `reversals.rs` gives back what was
//! billed for a period that no longer exists.

use std::{sync::Arc, time::Duration};

use domain::{BillingStore, Tenant, Timestamp, UsageStore};
use edge::Compute;
use pricing::{document::InvoiceDocument, invoice::Invoice, rate::Sources};

use crate::{
    BillingError,
    account::Account,
    books::{
        Books,
        document::{Document, Kind},
        ledger::{Group, Ledger},
        runs::{Outcome, Outcomes, Run},
    },
    issue::Issuer,
    periods::{self, Billable},
    rater::Rater,
    usage::Below,
};

mod overlaps;
mod reversals;

/// Receives why a period is not billed, for people.
pub(crate) type Report<'a> = &'a (dyn Fn(String) + Send + Sync);

/// What a run does about one tenant.
#[derive(Clone, Copy)]
struct Job<'a> {
    run: &'a Run,
    below: &'a Below,
    account: &'a Account,
}

/// What comes next for a period. `Nothing` counts the resources that wait for a price.
enum Next {
    Draft(Kind, Box<InvoiceDocument>),
    Nothing(Outcome, u64),
    Blocked(String),
}

/// Bills tenants.
pub(crate) struct Saga<U, B> {
    books: Arc<Books<B>>,
    rater: Rater<U>,
    issuer: Issuer<B>,
    background: Compute,
    grace: Duration,
}

impl<U: UsageStore, B: BillingStore> Saga<U, B> {
    /// Takes the books, what rates usage on which pool, what issues documents, and how long
    /// after its end a period is due.
    pub(crate) const fn new(
        books: Arc<Books<B>>,
        rater: Rater<U>,
        issuer: Issuer<B>,
        background: Compute,
        grace: Duration,
    ) -> Self {
        Self { books, rater, issuer, background, grace }
    }

    /// Bills every period of a tenant that is due, and gives what came of them.
    ///
    /// # Errors
    /// When a period cannot be billed, or a store fails. What was issued before stays.
    pub(crate) async fn bill_tenant(
        &self,
        run: &Run,
        below: &Below,
        tenant: &Tenant,
        report: Report<'_>,
    ) -> Result<Outcomes, BillingError> {
        let account = &Account::of_run(&self.books, run, tenant).await?;
        let job = Job { run, below, account };
        let uncovered = self.uncovered(job).await?;
        let due = run.cut.as_ref().map_or(Timestamp::MIN, |cut| cut.taken_at);
        let mut outcomes = Outcomes { uncovered, ..Outcomes::default() };
        let periods = periods::billable(&account.contracts, run.request.month)?;
        if run.request.deltas {
            // Nothing is given back while what takes its place cannot be billed.
            for period in &periods {
                self.rater.check(below, account, *period).await?;
            }
            outcomes.deltas += self.reverse(run, account).await?;
        }
        for period in periods {
            if period.window.end.plus(self.grace) > due {
                outcomes.count(Outcome::NotDue);
            } else {
                let (outcome, unpriced) = self.bill_period(job, period, report).await?;
                outcomes.count(outcome);
                outcomes.unpriced += unpriced;
            }
        }
        Ok(outcomes)
    }

    /// Bills one period, to its end, and gives what came of it and how many resources wait for a price.
    async fn bill_period(
        &self,
        job: Job<'_>,
        period: Billable,
        report: Report<'_>,
    ) -> Result<(Outcome, u64), BillingError> {
        let Job { run, account, .. } = job;
        // Rated once, however often the ledger is looked at.
        let mut rated: Option<Invoice> = None;
        let unpriced =
            |rated: &Option<Invoice>| rated.as_ref().map_or(0, |rated| rated.unpriced.len() as u64);
        let mut made: Option<(Outcome, u64)> = None;
        loop {
            let mut ledger = self.books.documents.ledger(&account.tenant).await?;
            let (start, currency) = (period.window.start, period.currency.code());
            let group = ledger.group(start, currency);
            if let Some(open) = group.open() {
                self.issuer.finish(run, &mut ledger, account, open).await?;
                if open.draft.run == run.number && open.draft.kind != Kind::CreditNote {
                    made = Some((outcome_of(open), unpriced(&rated)));
                }
                continue;
            }
            if let Some(made) = made {
                return Ok(made);
            }
            let mut bills = group.documents().iter();
            if let Some(ours) = bills.find(|found| found.draft.run == run.number) {
                return Ok((outcome_of(ours), 0));
            }
            match self.next(job, (&ledger, &group), period, &mut rated).await? {
                Next::Nothing(outcome, unpriced) => return Ok((outcome, unpriced)),
                Next::Blocked(why) => {
                    report(why);
                    return Ok((Outcome::Blocked, unpriced(&rated)));
                }
                Next::Draft(kind, content) => {
                    let (what, window) = ((kind, &*content), period.window);
                    self.issuer.draft(run, &mut ledger, what, window, &group).await?;
                }
            }
        }
    }

    /// What comes next for a period whose documents are all out, none of them of this run.
    async fn next(
        &self,
        job: Job<'_>,
        (ledger, group): (&Ledger, &Group),
        period: Billable,
        rated: &mut Option<Invoice>,
    ) -> Result<Next, BillingError> {
        let Job { run, account, .. } = job;
        let billing = group.documents();
        // What was given back in full is to be billed as if it never was.
        let invoiced = billing.last().filter(|newest| newest.draft.kind != Kind::Reversal);
        let only_longer = invoiced.filter(|_| !run.request.deltas);
        let is_all = only_longer.is_some_and(|newest| newest.draft.end >= period.window.end);
        if is_all || self.has_passed(run, ledger, period.window.start).await? {
            return Ok(Next::Nothing(Outcome::Unchanged, 0));
        }
        let now = match rated.take() {
            Some(known) => known,
            None => self.rate(job, period).await?,
        };
        let now = rated.insert(now);
        let unpriced = now.unpriced.len() as u64;
        let needed = self.books.documents.needed_for(now, &group.counted()).await?;
        let Some((kind, content)) = needed else {
            let is_new = billing.is_empty();
            let outcome = if is_new { Outcome::Empty } else { Outcome::Unchanged };
            return Ok(Next::Nothing(outcome, unpriced));
        };
        let why = match only_longer {
            Some(newest) => Some(overlaps::longer(account, newest, period)),
            None => self.blocked(job, ledger, period).await?,
        };
        if let Some(why) = why {
            return Ok(Next::Blocked(why));
        }
        if self.books.runs.is_cancelled(run.number).await? {
            return Ok(Next::Nothing(Outcome::Unchanged, unpriced));
        }
        Ok(Next::Draft(kind, Box::new(content)))
    }

    async fn rate(&self, job: Job<'_>, period: Billable) -> Result<Invoice, BillingError> {
        let (below, sources) = (job.below, Sources::LeftOut);
        self.rater.rate_window(&self.background, below, job.account, period, sources).await
    }
}

const fn outcome_of(document: &Document) -> Outcome {
    match document.draft.kind {
        Kind::Invoice => Outcome::Invoice,
        Kind::Delta | Kind::CreditNote | Kind::Reversal => Outcome::Delta,
    }
}
