//! Rater: a tenant's period becomes an invoice, off the runtime's threads.

use domain::{UsageRow, UsageStore, Window, WindowLength, catalogue::Catalogue};
use edge::Compute;
use pricing::{
    invoice::{self, Invoice, InvoiceError},
    rate::Sources,
    timeline::{BillingPeriod, Month},
};

use crate::{
    BillingError,
    account::Account,
    error::compute,
    periods::{self, Billable},
    usage::{Below, UsageReader},
};

/// Rates periods by their usage.
pub(crate) struct Rater<U> {
    usage: UsageReader<U>,
    /// The log's: usage is not cut below it.
    window: WindowLength,
}

impl<U> Clone for Rater<U> {
    fn clone(&self) -> Self {
        Self { usage: self.usage.clone(), window: self.window }
    }
}

impl<U: UsageStore> Rater<U> {
    /// Takes what reads usage, and the length of its windows.
    pub(crate) const fn new(usage: UsageReader<U>, window: WindowLength) -> Self {
        Self { usage, window }
    }

    /// What reads the usage.
    pub(crate) const fn usage(&self) -> &UsageReader<U> {
        &self.usage
    }

    /// Refuses a window that begins or ends inside an hour of usage: those are not cut.
    pub(crate) fn check_hours(&self, window: Window) -> Result<(), BillingError> {
        let length = self.window;
        for edge in [window.start, window.end] {
            if length.start_of(edge) != edge {
                let seconds = length.duration().as_secs();
                return Err(InvoiceError::Windows(window.start, window.end, seconds).into());
            }
        }
        Ok(())
    }

    /// Reads a period's usage below the cut and bills it.
    pub(crate) async fn rate_window(
        &self,
        pool: &Compute,
        below: &Below,
        account: &Account,
        period: Billable,
        sources: Sources,
    ) -> Result<Invoice, BillingError> {
        let usage = self.usage.of_tenant(below, &account.tenant, period.window).await?;
        let period = (period.month, period.window);
        self.rate(pool, usage, account, period, sources).await
    }

    /// Bills a period by its usage.
    pub(crate) async fn rate(
        &self,
        pool: &Compute,
        usage: Vec<UsageRow>,
        account: &Account,
        (month, window): (Month, Window),
        sources: Sources,
    ) -> Result<Invoice, BillingError> {
        self.check_hours(window)?;
        let account = account.clone();
        let rating = move || {
            let periods = periods::of_month(&account.contracts, month)?;
            let period = periods.into_iter().find(|period| period.window == window);
            let period = period.expect("the same contracts and month give the same periods");
            let (parts, catalogues): (Vec<_>, Vec<_>) = account.parts(&period).into_iter().unzip();
            let period = BillingPeriod { parts, ..period };
            let catalogues: Vec<&Catalogue> = catalogues.iter().map(|found| &**found).collect();
            let tenant = &account.tenant;
            let mut invoice = invoice::invoice(tenant, &period, &catalogues, &usage, sources)?;
            account.editions().name_retired(&mut invoice);
            Ok(invoice)
        };
        compute(pool, rating).await?
    }
}
