//! Saga: one tenant's periods become documents, step by step, each journalled before the next: rate,
//! draft, finalise, publish.
//!
//! The loop reads the ledger, does the one step that comes next, and reads it again. It keeps no state
//! of its own, so a process that restarts, or runs beside another, continues where the ledger is.
//! `overlaps.rs` keeps every day off the bills of two periods, and `reversals.rs` gives back what was
//! billed for a period that no longer exists.

use std::{sync::Arc, time::Duration};

use domain::{BillingStore, BlockStore, Tenant, Timestamp};
use edge::Compute;
use pricing::{document::InvoiceDocument, invoice::Invoice};

use crate::{
    BillingError,
    account::Account,
    books::{
        Books,
        document::{Document, Kind},
        ledger::{Group, Ledger},
        runs::{
            Run,
            results::{Outcome, Results},
        },
    },
    due::is_due_unused,
    issue::Issuer,
    periods::{self, Billable},
    rater::Rater,
    usage::Below,
};

mod overlaps;
mod reversals;

/// What a run does about one tenant.
#[derive(Clone, Copy)]
struct Job<'a> {
    run: &'a Run,
    below: &'a Below,
    account: &'a Account,
}

/// What comes next for a period.
enum Next {
    Draft(Kind, Box<InvoiceDocument>),
    Nothing(Outcome),
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

impl<U: BlockStore, B: BillingStore> Saga<U, B> {
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

    /// Bills every period of a tenant that is over, and adds what came of them.
    ///
    /// # Errors
    /// When a period cannot be billed, or a store fails. What was issued before stays, and was added.
    pub(crate) async fn bill_tenant(
        &self,
        run: &Run,
        below: &Below,
        tenant: &Tenant,
        results: &mut Results,
    ) -> Result<(), BillingError> {
        let account = &Account::of_run(&self.books, run, tenant).await?;
        let job = Job { run, below, account };
        results.outcomes.uncovered += self.uncovered(job).await?;
        let due = run.cut.as_ref().map_or(Timestamp::MIN, |cut| cut.taken_at);
        let periods = periods::billable(&account.contracts, run.request.month)?;
        if run.request.deltas {
            // Nothing is given back while what takes its place cannot be billed.
            for period in &periods {
                self.rater.check(below, account, *period).await?;
            }
            self.reverse(run, account).await?.iter().for_each(|made| results.made(made));
        }
        for period in periods {
            if period.window.end.plus(self.grace) > due {
                results.count(Outcome::NotDue);
            } else {
                self.bill_period(job, period, results).await?;
            }
        }
        Ok(())
    }

    /// Bills one period, to its end, and adds what came of it.
    async fn bill_period(
        &self,
        job: Job<'_>,
        period: Billable,
        results: &mut Results,
    ) -> Result<(), BillingError> {
        let Job { run, account, .. } = job;
        // Rated once, however often the ledger is looked at.
        let mut rated: Option<Invoice> = None;
        let mut made: Option<Document> = None;
        loop {
            let mut ledger = self.books.documents.ledger(&account.tenant).await?;
            let (start, currency) = (period.window.start, period.currency.code());
            let group = ledger.group(start, currency);
            if let Some(open) = group.open() {
                self.issuer.finish(run, &mut ledger, account, open).await?;
                if open.draft.run == run.number && open.draft.kind != Kind::CreditNote {
                    made = Some(open.clone());
                }
                continue;
            }
            let mut bills = group.documents().iter();
            let ours = bills.find(|found| found.draft.run == run.number);
            if let Some(made) = made.as_ref().or(ours) {
                results.made(made);
                break;
            }
            match self.next(job, (&ledger, &group), period, &mut rated).await? {
                Next::Nothing(outcome) => {
                    results.count(outcome);
                    break;
                }
                Next::Blocked(why) => {
                    results.block(&account.tenant, &why);
                    break;
                }
                Next::Draft(kind, content) => {
                    let (what, window) = ((kind, &*content), period.window);
                    self.issuer.draft(run, &mut ledger, what, window, &group).await?;
                }
            }
        }
        results.outcomes.unpriced += rated.map_or(0, |rated| rated.unpriced.len() as u64);
        Ok(())
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
        let is_all = invoiced.is_some_and(|newest| newest.draft.end >= period.window.end);
        if (is_all && !run.request.deltas)
            || self.has_passed(run, ledger, period.window.start).await?
        {
            return Ok(Next::Nothing(Outcome::Unchanged));
        }
        let now = match rated.take() {
            Some(known) => known,
            None => self.rate(job, period).await?,
        };
        let now = rated.insert(now);
        let needed = self.books.documents.needed_for(now, &group.counted()).await?;
        let Some((kind, content)) = needed else {
            // Only what would be found due again is noted: not every tenant in every quiet month.
            let is_used = !now.unpriced.is_empty();
            if !is_all && (is_used || is_due_unused(ledger, period)) {
                self.books.settled.note(&account.tenant, period.window.start, run.number).await?;
            }
            let is_new = billing.is_empty();
            return Ok(Next::Nothing(if is_new { Outcome::Empty } else { Outcome::Unchanged }));
        };
        let why = match only_longer {
            Some(newest) => Some(overlaps::longer(account, newest, period)),
            None => self.blocked(job, ledger, period).await?,
        };
        if let Some(why) = why {
            return Ok(Next::Blocked(why));
        }
        // Where the period's end has moved, another period waits for what a delta gives back.
        let has_moved = invoiced.is_none_or(|newest| newest.draft.end != period.window.end);
        let is_too_little =
            || run.request.threshold.holds_back(content.currency(), content.total().amount());
        if kind == Kind::Delta && !has_moved && is_too_little() {
            return Ok(Next::Nothing(Outcome::BelowThreshold));
        }
        if self.books.runs.has_ended(run.number).await? {
            return Ok(Next::Nothing(Outcome::Unchanged));
        }
        Ok(Next::Draft(kind, Box::new(content)))
    }

    async fn rate(&self, job: Job<'_>, period: Billable) -> Result<Invoice, BillingError> {
        let of = (period.month, period.window);
        self.rater.rate_window(&self.background, job.below, job.account, of).await
    }
}
