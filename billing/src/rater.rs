//! Rater: a tenant's period becomes an invoice, off the runtime's threads.

use std::sync::Arc;

use domain::{UsageRow, UsageStore, Window, catalogue::Catalogue};
use edge::Compute;
use pricing::{
    invoice::{self, Invoice},
    rate::Sources,
    timeline::{BillingPeriod, Month},
};

use crate::{
    BillingError,
    account::Account,
    error::compute,
    periods::{self, Billable},
    usage::{Below, UsageReader},
    windows::{self, Windows},
};

/// Rates periods by their usage.
pub(crate) struct Rater<U> {
    usage: UsageReader<U>,
    /// The log's: usage is not told apart inside one.
    windows: Arc<Windows<U>>,
}

impl<U> Clone for Rater<U> {
    fn clone(&self) -> Self {
        Self { usage: self.usage.clone(), windows: Arc::clone(&self.windows) }
    }
}

impl<U: UsageStore> Rater<U> {
    /// Takes what reads usage, and what knows its windows.
    pub(crate) const fn new(usage: UsageReader<U>, windows: Arc<Windows<U>>) -> Self {
        Self { usage, windows }
    }

    /// What reads the usage.
    pub(crate) const fn usage(&self) -> &UsageReader<U> {
        &self.usage
    }

    /// The stretch in which the rows of a period begin, with those before it that may reach into it.
    pub(crate) async fn reach(&self, window: Window) -> Result<Window, BillingError> {
        Ok(self.windows.of_log().await?.reaching_into(window))
    }

    /// Refuses a period that begins or ends inside a window of usage, by the edges and by the rows.
    pub(crate) async fn check(
        &self,
        below: &Below,
        account: &Account,
        period: Billable,
    ) -> Result<(), BillingError> {
        self.windows.check_edges(period.window)?;
        let windows = self.windows.of_log().await?;
        if windows.are_alike() {
            return Ok(());
        }
        let reach = windows.reaching_into(period.window);
        let usage = self.usage.of_tenant(below, &account.tenant, reach).await?;
        let periods = periods::of_month(&account.contracts, period.month)?;
        windows::check_rows(windows, find(&periods, period.window), &usage)
    }

    /// The usage of a period's reach below a cut, and the rows from before it that levels hold on from.
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
        let reach = self.reach(window).await?;
        let mut usage = self.usage.at_most(rows_max, below, tenant, reach).await?;
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

    /// Bills a period by its usage, which has the rows of [`Self::reach`].
    pub(crate) async fn rate(
        &self,
        pool: &Compute,
        usage: Vec<UsageRow>,
        account: &Account,
        (month, window): (Month, Window),
        sources: Sources,
    ) -> Result<Invoice, BillingError> {
        self.windows.check_edges(window)?;
        let windows = self.windows.of_log().await?.clone();
        let account = account.clone();
        let rating = move || {
            let periods = periods::of_month(&account.contracts, month)?;
            let period = find(&periods, window);
            windows::check_rows(&windows, period, &usage)?;
            let (parts, catalogues): (Vec<_>, Vec<_>) = account.parts(period).into_iter().unzip();
            let period = BillingPeriod { parts, ..period.clone() };
            let catalogues: Vec<&Catalogue> = catalogues.iter().map(|found| &**found).collect();
            let tenant = &account.tenant;
            let mut invoice = invoice::invoice(tenant, &period, &catalogues, &usage, sources)?;
            account.editions().name_retired(&mut invoice);
            Ok(invoice)
        };
        compute(pool, rating).await?
    }
}

fn find<'p, 'c>(periods: &'p [BillingPeriod<'c>], window: Window) -> &'p BillingPeriod<'c> {
    let found = periods.iter().find(|period| period.window == window);
    found.expect("the same contracts and month give the same periods")
}
