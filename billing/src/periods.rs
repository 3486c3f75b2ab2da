//! Periods: which billing periods a tenant has, by its contracts.

use domain::{Timestamp, Window, catalogue::Currency, contract::Contract};
use pricing::timeline::{self, BillingPeriod, Month};

use crate::BillingError;

/// A billing period, as far as documents are about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Billable {
    /// The month that it begins in, of its own zone.
    pub(crate) month: Month,
    /// What is billed of it.
    pub(crate) window: Window,
    /// What it is billed in.
    pub(crate) currency: Currency,
    /// Whether its contracts bill it even without a pulse: subscriptions and commitments do.
    pub(crate) is_billed_unused: bool,
}

/// The billing periods of a tenant that begin in a month, in order, by the contracts that were applied.
pub(crate) fn of_month(
    contracts: &[Contract],
    month: Month,
) -> Result<Vec<BillingPeriod<'_>>, BillingError> {
    timeline::periods(&timeline::stretches(contracts), month).ok_or_else(unknown_zone)
}

/// The same, without what they are under.
pub(crate) fn billable(
    contracts: &[Contract],
    month: Month,
) -> Result<Vec<Billable>, BillingError> {
    let periods = of_month(contracts, month)?;
    let is_billed_unused = |period: &BillingPeriod<'_>| {
        let mut contracts = period.parts.iter().map(|part| part.contract);
        contracts.any(|held| !held.subscriptions.is_empty() || !held.commitments.is_empty())
    };
    let of = |period: BillingPeriod<'_>| Billable {
        month,
        window: period.window,
        currency: period.terms().currency,
        is_billed_unused: is_billed_unused(&period),
    };
    Ok(periods.into_iter().map(of).collect())
}

/// The period that begins at a moment.
pub(crate) fn beginning_at(
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
pub(crate) fn gaps(contracts: &[Contract], month: Month) -> Result<Vec<Window>, BillingError> {
    timeline::gaps(&timeline::stretches(contracts), month).ok_or_else(unknown_zone)
}

fn unknown_zone() -> BillingError {
    BillingError::Unreadable {
        what: "a contract".to_owned(),
        message: "its time zone is unknown to this program".to_owned(),
    }
}
