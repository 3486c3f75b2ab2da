//! Periods: which billing periods a tenant has, and that no day is on the bills of two.
//!
//! The documents of a period are found by where it begins. A contract about the past may move its
//! ends; then a document stands that reaches into another period, and what it billed there must not be
//! billed again.

use domain::{BillingStore, PulseLog, UsageStore, Window, contract::Contract};

use super::{
    Billing, BillingError, Refusal,
    cut::Below,
    ledger::{Document, Ledger, number_text},
    saga::Account,
};
use crate::{
    invoice::{Invoice, InvoiceError},
    rate::Sources,
    timeline::{self, BillingPeriod, Month},
};

/// The billing periods of a tenant that begin in a month, in order, by the contracts that were applied.
pub(super) fn of_month(
    contracts: &[Contract],
    month: Month,
) -> Result<Vec<BillingPeriod<'_>>, BillingError> {
    timeline::periods(&timeline::stretches(contracts), month).ok_or_else(unknown_zone)
}

/// The windows of these periods.
pub(super) fn windows(contracts: &[Contract], month: Month) -> Result<Vec<Window>, BillingError> {
    Ok(of_month(contracts, month)?.into_iter().map(|period| period.window).collect())
}

/// The parts of a month in which none of the contracts holds.
pub(super) fn gaps(contracts: &[Contract], month: Month) -> Result<Vec<Window>, BillingError> {
    timeline::gaps(&timeline::stretches(contracts), month).ok_or_else(unknown_zone)
}

/// The period that begins where a document's does, with the month that it is billed in.
fn of_document(
    contracts: &[Contract],
    document: &Document,
) -> Result<Option<(Month, Window)>, BillingError> {
    let start = document.draft.start;
    let in_utc = Month::of(start);
    // A zone's months begin up to a day earlier or later.
    for month in [in_utc.previous(), in_utc, in_utc.next()] {
        let found = windows(contracts, month)?.into_iter().find(|window| window.start == start);
        if let Some(window) = found {
            return Ok(Some((month, window)));
        }
    }
    Ok(None)
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

    /// Refuses a window of which documents of another period bill a part.
    pub(super) async fn check_alone(
        &self,
        (below, account): (&Below, &Account),
        ledger: &Ledger,
        window: Window,
    ) -> Result<(), BillingError> {
        for other in ledger.reaching_into(window) {
            let of = of_document(&account.contracts, other)?;
            let Some((month, shorter)) = of else { return Err(homeless(other, window)) };
            // Beyond the end that its period has now it may have billed nothing.
            let billing: Vec<Document> = ledger.billing(shorter.start).cloned().collect();
            let now = self.rate_window(below, account, month, shorter, Sources::LeftOut).await?;
            if self.document(&now, &billing).await?.is_some() {
                return Err(too_long(account, other, (month, shorter)));
            }
        }
        Ok(())
    }
}

/// Refuses a delta to documents in another currency.
pub(super) fn check_currency(now: &Invoice, billing: &[Document]) -> Result<(), BillingError> {
    let currency = now.currency().code();
    match billing.iter().rfind(|before| before.draft.currency != currency) {
        Some(before) => Err(refused(format!(
            "{} bills the period from {} in {}, and by the contracts that hold now it is billed in \
             {currency}: {}",
            named(before),
            before.draft.start,
            before.draft.currency,
            taken_back(before)
        ))),
        None => Ok(()),
    }
}

/// No period begins where that of a document that stands did.
fn homeless(other: &Document, window: Window) -> BillingError {
    let Window { start, end } = other.window();
    refused(format!(
        "{} bills {start} to {end}, a part of the period from {} on, and by the contracts that hold \
         now no period begins where it does: {}",
        named(other),
        window.start,
        taken_back(other)
    ))
}

/// The period of a document that stands ends earlier, and something was billed beyond.
fn too_long(account: &Account, other: &Document, (month, now): (Month, Window)) -> BillingError {
    let Window { start, end } = other.window();
    refused(format!(
        "the period from {start} was billed to {end}, and by the contracts that hold now ends {}: \
         `pulso bill run --period {month} --tenant {} --deltas` gives back what is beyond",
        now.end, account.tenant
    ))
}

fn refused(message: String) -> BillingError {
    BillingError::refused(Refusal::InvoiceState, message)
}

fn named(document: &Document) -> String {
    match document.number {
        Some(number) => format!("invoice {}", number_text(number)),
        None => format!("a draft of run {}", document.draft.run),
    }
}

/// What to do about a document that is in the way.
fn taken_back(document: &Document) -> String {
    match document.number {
        Some(number) => format!(
            "void it (`pulso invoice void {}`), and this run goes on and bills its days again; or \
             cancel this run, if the invoice is right",
            number_text(number)
        ),
        None => "let that run end, or cancel it".to_owned(),
    }
}
