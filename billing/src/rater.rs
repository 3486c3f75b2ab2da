//! Rater: a tenant's period becomes an invoice, off the runtime's threads.

use std::{iter, sync::Arc};

use domain::{BlockStore, LogWindows, Tenant, UsageRow, Window, catalogue::Catalogue};
use edge::Compute;
use pricing::{
    invoice::{self, Invoice},
    rate::Sources,
    timeline::{BillingPeriod, Month},
};
use tokio::sync::mpsc;

use crate::{
    BillingError,
    account::Account,
    error::compute,
    periods::{self, Billable},
    usage::{Below, UsageReader, of_tenant},
    windows::{self, Windows},
};

/// Pages that are read ahead of what is rated.
const PAGES_WAITING: usize = 1;

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

impl<U: BlockStore> Rater<U> {
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
        let periods = periods::of_month(&account.contracts, period.month)?;
        let found = find(&periods, period.window);
        let mut pages = self.usage.pages(below, of_tenant(&account.tenant, reach)).await?;
        while let Some(page) = pages.next().await? {
            windows::check_rows(windows, found, &page)?;
        }
        Ok(())
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
        let left = rows_max - usage.len();
        let held = (tenant, &account.held());
        usage.extend(self.usage.held(left, below, held, window).await?);
        Ok(usage)
    }

    /// Reads a period's usage below the cut and bills it page by page: what stays in memory is that of
    /// resources and lines, not of rows. Lines list no sources.
    pub(crate) async fn rate_window(
        &self,
        pool: &Compute,
        below: &Below,
        account: &Account,
        (month, window): (Month, Window),
    ) -> Result<Invoice, BillingError> {
        self.windows.check_edges(window)?;
        let windows = self.windows.of_log().await?.clone();
        let tenant = &account.tenant;
        let filter = of_tenant(tenant, windows.reaching_into(window));
        let mut pages = self.usage.pages(below, filter).await?;
        // Most periods are one page, and nobody has to wait for another.
        let first = pages.next().await?.unwrap_or_default();
        let held = account.held();
        let (sender, mut receiver) = mpsc::channel(PAGES_WAITING);
        let reading = async {
            loop {
                let page = pages.next().await.transpose();
                let Some(page) = page else { break };
                if sender.send(page).await.is_err() {
                    return;
                }
            }
            let held = (tenant, &held);
            let held = self.usage.held(usize::MAX, below, held, window).await;
            // Whoever does not take it has refused a page before it.
            drop(sender.send(held).await);
            drop(sender);
        };
        let account = account.clone();
        let rating = pool.run_with_pauses(move |pauses| {
            let receive = || match receiver.try_recv() {
                Ok(page) => Some(page),
                Err(_) => pauses.wait(|| receiver.blocking_recv()),
            };
            let pages = iter::once(Ok(first)).chain(iter::from_fn(receive));
            bill_pages(&account, (month, window), &windows, pages)
        });
        let (rated, ()) = tokio::join!(rating, reading);
        rated.map_err(|problem| BillingError::Task(problem.message))?
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
            bill(&account, (month, window), |tenant, period, catalogues| {
                windows::check_rows(&windows, period, &usage)?;
                Ok(invoice::invoice(tenant, period, catalogues, &usage, sources)?)
            })
        };
        compute(pool, rating).await?
    }
}

/// Bills a period by pages of its rows. The first that failed or that does not fit ends it.
fn bill_pages(
    account: &Account,
    of: (Month, Window),
    windows: &LogWindows,
    pages: impl Iterator<Item = Result<Vec<UsageRow>, BillingError>>,
) -> Result<Invoice, BillingError> {
    bill(account, of, |tenant, period, catalogues| {
        let mut failed = None;
        let checked = |page: Result<Vec<UsageRow>, BillingError>| {
            let page =
                page.and_then(|page| windows::check_rows(windows, period, &page).map(|()| page));
            page.map_err(|error| failed = Some(error)).ok()
        };
        let pages = pages.map_while(checked);
        let made = invoice::invoice_of_pages(tenant, period, catalogues, pages);
        match failed {
            Some(error) => Err(error),
            None => Ok(made?),
        }
    })
}

/// Bills a period of an account, each part of it under its catalogue.
fn bill(
    account: &Account,
    (month, window): (Month, Window),
    made: impl FnOnce(&Tenant, &BillingPeriod<'_>, &[&Catalogue]) -> Result<Invoice, BillingError>,
) -> Result<Invoice, BillingError> {
    let periods = periods::of_month(&account.contracts, month)?;
    let period = find(&periods, window);
    let (parts, catalogues): (Vec<_>, Vec<_>) = account.parts(period).into_iter().unzip();
    let period = BillingPeriod { parts, ..period.clone() };
    let catalogues: Vec<&Catalogue> = catalogues.iter().map(|found| &**found).collect();
    let mut invoice = made(&account.tenant, &period, &catalogues)?;
    account.editions().name_retired(&mut invoice);
    Ok(invoice)
}

fn find<'p, 'c>(periods: &'p [BillingPeriod<'c>], window: Window) -> &'p BillingPeriod<'c> {
    let found = periods.iter().find(|period| period.window == window);
    found.expect("the same contracts and month give the same periods")
}

#[cfg(test)]
mod tests {
    use domain::{WindowLength, generation::Generation, store::StoreError};

    use super::*;
    use crate::testing::town::Town;

    #[tokio::test]
    async fn a_page_that_cannot_be_read_ends_the_bill_of_a_period() {
        let town = Town::at("2024-10-05T00:00:00Z").await;
        let books = &town.service.parts.books;
        let (tenant, editions) =
            (Tenant::new("a").unwrap(), books.catalogues.current().await.unwrap());
        let account = Account::of(books, &tenant, 0, editions).await.unwrap();
        let rows: Vec<UsageRow> = crate::testing::billed::usage(1);
        let month: Month = "2024-09".parse().unwrap();
        let of = (month, month.window(&pricing::moment::Calendar::UTC).unwrap());
        let windows = LogWindows::of(&generation(), []);
        let whole = [Ok(rows.clone()), Ok(Vec::new()), Ok(rows.clone())];
        let made = bill_pages(&account, of, &windows, whole.into_iter()).unwrap();
        assert_eq!(made.unpriced[0].count, 4);
        let gone = || BillingError::Store(StoreError::Unavailable("gone".to_owned()));
        let pages = [Ok(rows.clone()), Err(gone()), Ok(rows)];
        let refused = bill_pages(&account, of, &windows, pages.into_iter()).unwrap_err();
        assert_eq!(refused.to_string(), gone().to_string());
    }

    fn generation() -> Generation {
        Generation::new(domain::LogId([3; 16]), 1, 11).with_windows(WindowLength::HOUR)
    }
}
