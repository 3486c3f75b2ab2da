//! Periods: which billing periods a tenant has, and that no day is on the bills of two.
//!
//! The documents of a period are found by where it begins and its currency. A contract about the past
//! may move its ends; then documents stand that reach into another period. What they bill there is
//! given back by deltas and reversals of their own month before it is billed again.

use std::collections::HashSet;

use domain::{
    BillingStore, PulseLog, Timestamp, UsageStore, Window, catalogue::Currency, contract::Contract,
};

use super::{cut::Below, saga::Account};
use crate::{
    BillingError,
    billing::Billing,
    books::{
        document::{Document, Kind, State, number_text},
        ledger::{Group, Ledger},
        runs::Run,
    },
};
use pricing::{
    invoice::InvoiceError,
    rate::Sources,
    timeline::{self, BillingPeriod, Month},
};

/// A billing period, as far as documents are about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Billable {
    /// The month that it begins in, of its own zone.
    pub(super) month: Month,
    /// What is billed of it.
    pub(super) window: Window,
    /// What it is billed in.
    pub(super) currency: Currency,
}

/// The billing periods of a tenant that begin in a month, in order, by the contracts that were applied.
pub(super) fn of_month(
    contracts: &[Contract],
    month: Month,
) -> Result<Vec<BillingPeriod<'_>>, BillingError> {
    timeline::periods(&timeline::stretches(contracts), month).ok_or_else(unknown_zone)
}

/// The same, without what they are under.
pub(super) fn billable(
    contracts: &[Contract],
    month: Month,
) -> Result<Vec<Billable>, BillingError> {
    let periods = of_month(contracts, month)?;
    let of = |period: BillingPeriod<'_>| Billable {
        month,
        window: period.window,
        currency: period.terms().currency,
    };
    Ok(periods.into_iter().map(of).collect())
}

/// The period that begins at a moment.
fn beginning_at(
    contracts: &[Contract],
    start: Timestamp,
) -> Result<Option<Billable>, BillingError> {
    let in_utc = Month::of(start);
    // A zone's months begin up to a day earlier or later.
    for month in [in_utc.previous(), in_utc, in_utc.next()] {
        let mut periods = billable(contracts, month)?.into_iter();
        if let Some(found) = periods.find(|period| period.window.start == start) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The parts of a month in which none of the contracts holds.
fn gaps(contracts: &[Contract], month: Month) -> Result<Vec<Window>, BillingError> {
    timeline::gaps(&timeline::stretches(contracts), month).ok_or_else(unknown_zone)
}

fn unknown_zone() -> BillingError {
    BillingError::Unreadable {
        what: "a contract".to_owned(),
        message: "its time zone is unknown to this program".to_owned(),
    }
}

impl<U: UsageStore, B: BillingStore, L: PulseLog> Billing<U, B, L> {
    /// Resources that a tenant used in the month behind a contract that ended, or between two.
    pub(super) async fn uncovered(
        &self,
        below: &Below,
        account: &Account,
        month: Month,
    ) -> Result<u64, BillingError> {
        let mut resources = HashSet::new();
        for gap in gaps(&account.contracts, month)? {
            let rows = self.usage_below(below, &account.tenant, gap).await?;
            resources.extend(rows.into_iter().map(|row| row.key.resource));
        }
        Ok(resources.len() as u64)
    }

    /// Refuses a window that begins or ends inside an hour of usage: those are not cut.
    pub(super) fn check_hours(&self, window: Window) -> Result<(), BillingError> {
        let length = self.log.generation().window;
        for edge in [window.start, window.end] {
            if length.start_of(edge) != edge {
                let seconds = length.duration().as_secs();
                return Err(InvoiceError::Windows(window.start, window.end, seconds).into());
            }
        }
        Ok(())
    }

    /// The period of documents that stand, where there is one by these contracts.
    pub(super) fn period_of(
        account: &Account,
        group: &Group,
    ) -> Result<Option<Billable>, BillingError> {
        let found = beginning_at(&account.contracts, group.newest().draft.start)?;
        Ok(found.filter(|period| group.is_of(period.window.start, period.currency.code())))
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
        (below, account): (&Below, &Account),
        ledger: &Ledger,
        period: Billable,
    ) -> Result<Option<String>, BillingError> {
        for group in ledger.groups() {
            let is_own = group.is_of(period.window.start, period.currency.code());
            if is_own || !group.newest().overlaps(period.window) {
                continue;
            }
            let now = Self::period_of(account, &group)?;
            if group.open().is_none() && self.is_made_good((below, account), &group, now).await? {
                continue;
            }
            let month = match now {
                Some(now) => now.month,
                None => self.books.runs.get(group.documents()[0].draft.run).await?.request.month,
            };
            return Ok(Some(in_the_way(account, group.newest(), (month, period))));
        }
        Ok(None)
    }

    /// Tells whether documents bill nothing but what their period is now, if there is one.
    async fn is_made_good(
        &self,
        (below, account): (&Below, &Account),
        group: &Group,
        now: Option<Billable>,
    ) -> Result<bool, BillingError> {
        let Some(now) = now else {
            return Ok(self.books.documents.billed(group.documents()).await?.is_nothing());
        };
        let rated =
            self.rate_window(&self.background, below, account, now, Sources::LeftOut).await?;
        Ok(self.document(&rated, group.documents()).await?.is_none())
    }
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
