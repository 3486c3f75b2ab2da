//! Overlaps: no day is on the bills of two periods.
//!
//! The documents of a period are found by where it begins and its currency. A contract about the past
//! may move its ends; then documents stand that reach into another period. What they bill there is
//! given back by deltas and reversals of their own month before it is billed again.

use std::collections::HashSet;

use domain::{BillingStore, BlockStore, Timestamp, Window};
use pricing::timeline::Month;

use super::{Job, Saga};
use crate::{
    BillingError,
    account::Account,
    books::{
        document::{Document, Kind, State, number_text},
        ledger::{Group, Ledger},
        runs::Run,
    },
    periods::{self, Billable},
    usage::of_tenant,
};

impl<U: BlockStore, B: BillingStore> Saga<U, B> {
    /// Resources that a tenant used in the month behind a contract that ended, or between two.
    pub(super) async fn uncovered(
        &self,
        Job { run, below, account }: Job<'_>,
    ) -> Result<u64, BillingError> {
        let mut resources = HashSet::new();
        for gap in periods::gaps(&account.contracts, run.request.month)? {
            let filter = of_tenant(&account.tenant, gap);
            let mut pages = self.rater.usage().pages(below, filter).await?;
            while let Some(page) = pages.next().await? {
                resources.extend(page.into_iter().map(|row| row.key.resource));
            }
        }
        Ok(resources.len() as u64)
    }

    /// Tells whether a run has nothing to say about a period any more: a document of it was taken back
    /// since the run's cut, or was made below a newer one.
    pub(super) async fn has_passed(
        &self,
        run: &Run,
        ledger: &Ledger,
        start: Timestamp,
    ) -> Result<bool, BillingError> {
        let cut_at = run.cut.as_ref().map_or(Timestamp::MIN, |cut| cut.taken_at);
        if ledger.is_voided_since(start, cut_at) {
            return Ok(true);
        }
        let is_of = |found: &&Document| {
            found.draft.start == start
                && found.draft.run != run.number
                && found.draft.kind != Kind::CreditNote
                && found.state != State::Discarded
        };
        for before in ledger.documents().iter().filter(is_of) {
            // All that this run sees was seen; a document of it would take back what came since.
            let cut = self.books.runs.get(before.draft.run).await?.cut;
            if cut.is_some_and(|cut| cut.taken_at > cut_at) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Why a period cannot be billed yet: documents of another one bill a part of it.
    pub(super) async fn blocked(
        &self,
        job: Job<'_>,
        ledger: &Ledger,
        period: Billable,
    ) -> Result<Option<String>, BillingError> {
        for group in ledger.groups() {
            let is_own = group.is_of(period.window.start, period.currency.code());
            if is_own || !group.newest().overlaps(period.window) {
                continue;
            }
            let now = period_of(job.account, &group)?;
            if group.open().is_none() && self.is_made_good(job, &group, now).await? {
                continue;
            }
            let month = match now {
                Some(now) => now.month,
                None => self.books.runs.get(group.documents()[0].draft.run).await?.request.month,
            };
            return Ok(Some(in_the_way(job.account, group.newest(), (month, period))));
        }
        Ok(None)
    }

    /// Tells whether documents bill nothing but what their period is now, if there is one.
    async fn is_made_good(
        &self,
        job: Job<'_>,
        group: &Group,
        now: Option<Billable>,
    ) -> Result<bool, BillingError> {
        let Some(now) = now else {
            return Ok(self.books.documents.billed(&group.counted()).await?.is_nothing());
        };
        let rated = self.rate(job, now).await?;
        Ok(self.books.documents.needed_for(&rated, &group.counted()).await?.is_none())
    }
}

/// The period of documents that stand, where there is one by these contracts.
pub(super) fn period_of(
    account: &Account,
    group: &Group,
) -> Result<Option<Billable>, BillingError> {
    let found = periods::beginning_at(&account.contracts, group.newest().draft.start)?;
    Ok(found.filter(|period| group.is_of(period.window.start, period.currency.code())))
}

fn in_the_way(account: &Account, other: &Document, (month, period): (Month, Billable)) -> String {
    let Window { start, end } = other.window();
    let named = match other.number {
        Some(number) => format!("invoice {}", number_text(number)),
        None => format!("a draft of run {}", other.draft.run),
    };
    let deltas = |month: Month| {
        format!("`pulso bill run --period {month} --tenant {} --deltas`", account.tenant)
    };
    let bills = match period.month {
        own if own == month => "and bills this one".to_owned(),
        own => format!("and then {} bills this one", deltas(own)),
    };
    format!(
        "the period from {} on waits: {named} bills {start} to {end}, which is another period by the \
         contracts of this run; {} gives back what is too much, {bills}",
        period.window.start,
        deltas(month)
    )
}

/// A period has an invoice, and goes further than that.
pub(super) fn longer(account: &Account, before: &Document, period: Billable) -> String {
    format!(
        "the period from {} on is billed to {} and ends {} by the contracts of this run; `pulso bill run \
         --period {} --tenant {} --deltas` bills the rest",
        period.window.start, before.draft.end, period.window.end, period.month, account.tenant
    )
}
