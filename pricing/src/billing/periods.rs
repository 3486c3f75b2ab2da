//! Periods: which billing periods a tenant has, and that no day is on the bills of two.
//!
//! The documents of a period are found by where it begins and its currency. A contract about the past
//! may move its ends; then documents stand that reach into another period. What they bill there is
//! given back by deltas and reversals of their own month before it is billed again.

use domain::{
    BillingStore, PulseLog, Timestamp, UsageStore, Window, catalogue::Currency, contract::Contract,
};

use super::{
    Billing, BillingError,
    cut::Below,
    ledger::{Document, Group, Kind, Ledger, State, number_text},
    run::Run,
    saga::Account,
};
use crate::{
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
pub(super) fn beginning_at(
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
pub(super) fn gaps(contracts: &[Contract], month: Month) -> Result<Vec<Window>, BillingError> {
    timeline::gaps(&timeline::stretches(contracts), month).ok_or_else(unknown_zone)
}

fn unknown_zone() -> BillingError {
    BillingError::Unreadable {
        what: "a contract".to_owned(),
        message: "its time zone is unknown to this program".to_owned(),
    }
}

impl<U: UsageStore, B: BillingStore, L: PulseLog> Billing<U, B, L> {
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

    /// Tells whether a run has nothing to say about a period any more: it has billed it and that was
    /// taken back, or it was billed below a newer cut.
    pub(super) async fn has_passed(
        &self,
        run: &Run,
        ledger: &Ledger,
        period: Billable,
    ) -> Result<bool, BillingError> {
        let is_of = |found: &&Document| {
            found.draft.start == period.window.start
                && found.draft.kind != Kind::CreditNote
                && found.state != State::Discarded
        };
        let documents: Vec<Document> = ledger.documents().iter().filter(is_of).cloned().collect();
        let is_taken_back =
            |found: &Document| found.draft.run == run.number && found.state == State::Void;
        Ok(documents.iter().any(is_taken_back) || self.is_behind(run, &documents).await?)
    }

    /// Tells whether a document was made below a newer cut than the run's: then all that the run sees
    /// was seen, and a document of it would take back what came since.
    pub(super) async fn is_behind(
        &self,
        run: &Run,
        documents: &[Document],
    ) -> Result<bool, BillingError> {
        let taken_at = |run: &Run| run.cut.as_ref().map(|cut| cut.taken_at);
        for before in documents {
            if taken_at(&self.run(before.draft.run).await?) > taken_at(run) {
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
            if is_own || !group.newest().overlaps(period.window) || group.is_given_back() {
                continue;
            }
            let is_open = group.0.iter().any(|found| !found.is_owed());
            if let (Some(now), false) = (Self::period_of(account, &group)?, is_open) {
                // It ends earlier now; beyond, it may have billed nothing.
                let rated = self.rate_window(below, account, now, Sources::LeftOut).await?;
                if self.document(&rated, &group.0).await?.is_none() {
                    continue;
                }
            }
            let month = self.run(group.newest().draft.run).await?.request.month;
            return Ok(Some(in_the_way(account, group.newest(), (month, period))));
        }
        Ok(None)
    }
}

fn in_the_way(account: &Account, other: &Document, (month, period): (Month, Billable)) -> String {
    let Window { start, end } = other.window();
    let named = match other.number {
        Some(number) => format!("invoice {}", number_text(number)),
        None => format!("a draft of run {}", other.draft.run),
    };
    format!(
        "the period from {} on waits: {named} bills {start} to {end}, which is another period by the \
         contracts now; `pulso bill run --period {month} --tenant {} --deltas` gives back what is too \
         much, then bill this one again",
        period.window.start, account.tenant
    )
}
