//! Rater: a tenant's period becomes an invoice, off the runtime's threads.

use domain::{
    UsageRow, UsageStore, Window, WindowLength, catalogue::Catalogue, contract::Contract,
};
use edge::Compute;
use pricing::{
    invoice::{self, Invoice, InvoiceError},
    rate::Sources,
    timeline::Month,
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

    /// A period's usage below a cut, and the rows from before it that levels hold on from.
    ///
    /// # Errors
    /// When there are more than `rows_max` rows in the period; when the store fails.
    pub(crate) async fn usage_of(
        &self,
        below: &Below,
        account: &Account,
        window: Window,
        rows_max: usize,
    ) -> Result<Vec<UsageRow>, BillingError> {
        let tenant = &account.tenant;
        let mut usage = self.usage.at_most(rows_max, below, tenant, window).await?;
        usage.extend(self.usage.held(below, tenant, &account.held(), window).await?);
        Ok(usage)
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
        let usage = self.usage_of(below, account, period.window, usize::MAX).await?;
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
            let catalogue_of = |contract: &Contract| {
                let found =
                    account.contracts.iter().position(|other| std::ptr::eq(other, contract));
                &*account.catalogues[found.expect("stretches are of these contracts")]
            };
            let catalogues: Vec<&Catalogue> =
                period.parts.iter().map(|part| catalogue_of(part.contract)).collect();
            let tenant = &account.tenant;
            Ok(invoice::invoice(tenant, &period, &catalogues, &usage, sources)?)
        };
        compute(pool, rating).await?
    }
}
