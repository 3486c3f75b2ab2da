//! Previews and simulations: what periods come to by the totals as they stand now. They write nothing.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use domain::{BillingStore, BlockStore, Quantity, Tenant, Timestamp, Window, store::StoreError};
use edge::Compute;
use pricing::{
    Amount,
    editions::Editions,
    invoice::{self, Invoice, credits},
    rate::Sources,
    simulate::Change,
    timeline::Month,
};

use crate::{
    BillingError,
    account::{Account, all_tenants},
    books::{
        Books,
        contracts::{self, AppliedFiles, Supposed},
        document::Draft,
        ledger::Ledger,
    },
    effects::{self, Comparison, PeriodComparison},
    periods,
    rater::Rater,
    set_aside::SetAside,
    sources::all_hours,
    usage::Below,
};

/// An invoice as it would be.
#[derive(Clone, Debug)]
pub(crate) struct Previewed {
    pub(crate) invoice: Invoice,
    /// What each credit would pay, in the order of use.
    pub(crate) payments: Vec<(String, Amount)>,
    /// What would be left to pay.
    pub(crate) due: Amount,
    /// Numbers of the documents that bill its period.
    pub(crate) documents: Vec<String>,
}

/// Previews and simulates.
pub(crate) struct Previews<U, B> {
    books: Arc<Books<B>>,
    rater: Rater<U>,
    compute: Compute,
}

impl<U: BlockStore, B: BillingStore> Previews<U, B> {
    /// Takes the books, what rates usage, and the pool of calls.
    pub(crate) const fn new(books: Arc<Books<B>>, rater: Rater<U>, compute: Compute) -> Self {
        Self { books, rater, compute }
    }

    /// What rates usage.
    pub(crate) const fn rater(&self) -> &Rater<U> {
        &self.rater
    }

    /// The invoices of a tenant's periods that begin in a month, over or not, if they were made now
    /// and there were none before; in order, without those that have nothing to bill, each with what
    /// credits would pay. These catalogues stand for the latest. With them, what of the tenant those
    /// periods lack.
    ///
    /// # Errors
    /// When the store fails, a period cannot be billed, or has more than `rows_max` rows of usage.
    pub(crate) async fn preview(
        &self,
        tenant: &Tenant,
        month: Month,
        latest: &Arc<Editions>,
        rows_max: usize,
    ) -> Result<(Vec<Previewed>, SetAside), BillingError> {
        let below = self.rater.usage().now().await?;
        let account = Account::of(&self.books, tenant, u64::MAX, Arc::clone(latest)).await?;
        let periods = periods::billable(&account.contracts, month)?;
        let windows: Vec<Window> = periods.iter().map(|period| period.window).collect();
        let mut invoices = Vec::new();
        for period in periods {
            let usage = self.rater.usage_of(&below, &account, period.window, rows_max).await?;
            let mut made = self
                .rater
                .rate(
                    &self.compute,
                    usage,
                    &account,
                    (period.month, period.window),
                    Sources::Listed,
                )
                .await?;
            self.rater.usage().tell_segments(&below, tenant, all_hours(&mut made)).await?;
            if !made.lines.is_empty() || !made.unpriced.is_empty() {
                invoices.push(made);
            }
        }
        let set_aside = self.rater.usage().set_aside(&below, tenant, &windows).await?;
        let ledger = self.books.documents.ledger(tenant).await?;
        Ok((paid(&ledger, &account, invoices), set_aside))
    }

    /// What the periods that begin in a month would cost by the second side, against the first. By tenant;
    /// one that cannot be billed is named and stops no other.
    ///
    /// # Errors
    /// When a store fails.
    pub(crate) async fn simulate(
        &self,
        month: Month,
        whom: Whom,
        sides: &Sides<'_>,
    ) -> Result<Simulated, BillingError> {
        let below = self.rater.usage().now().await?;
        let offered = sides.supposed.offered.iter();
        let mut tenants: BTreeSet<Tenant> = offered.map(|offered| offered.tenant.clone()).collect();
        if whom == Whom::Everybody {
            tenants.extend(all_tenants(&self.books, self.rater.usage(), u64::MAX).await?);
        }
        let mut simulated = Simulated::default();
        for tenant in tenants {
            match self.simulate_one(&tenant, (&below, month), sides).await {
                Ok(changes) => simulated.changes.extend(changes),
                Err(
                    error @ (BillingError::Store(StoreError::Unavailable(_))
                    | BillingError::Task(_)),
                ) => {
                    return Err(error);
                }
                Err(error) => simulated.failed.push((tenant, error.to_string())),
            }
        }
        Ok(simulated)
    }

    async fn simulate_one(
        &self,
        tenant: &Tenant,
        (below, month): (&Below, Month),
        Sides { old, new, supposed }: &Sides<'_>,
    ) -> Result<Vec<Change>, BillingError> {
        let under = async |files: &AppliedFiles, editions: &Arc<Editions>| {
            let agreed = contracts::agreed(&files.of(tenant)?);
            Account::under(&self.books, tenant, agreed, Arc::clone(editions)).await
        };
        let (before, after) =
            (under(&supposed.before, old).await?, under(&supposed.after, new).await?);
        let comparison = Comparison {
            books: &self.books,
            rater: &self.rater,
            compute: &self.compute,
            before: &before,
            after: &after,
        };
        let ledger = self.books.documents.ledger(tenant).await?;
        let compared = comparison.compare(below, &ledger, (month, Timestamp::MAX)).await?;
        let compared = compared.into_iter().filter(PeriodComparison::has_lines);
        compared.map(|compared| change(tenant, compared)).collect()
    }
}

/// What is compared in a simulation: what is in effect, and what would be.
pub(crate) struct Sides<'s> {
    pub(crate) old: &'s Arc<Editions>,
    pub(crate) new: &'s Arc<Editions>,
    pub(crate) supposed: &'s Supposed,
}

/// Whose periods are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    Everybody,
    /// The tenants of the contracts that are supposed.
    ThoseSupposed,
}

/// What a simulation found.
#[derive(Debug, Default)]
pub(crate) struct Simulated {
    /// By tenant.
    pub(crate) changes: Vec<Change>,
    /// Tenants that cannot be billed, with the reason.
    pub(crate) failed: Vec<(Tenant, String)>,
}

fn change(tenant: &Tenant, compared: PeriodComparison) -> Result<Change, BillingError> {
    let of = (tenant, compared.period.currency);
    let change = Change::between(of, compared.before.as_ref(), compared.after.as_ref());
    let change = change.ok_or_else(|| invoice::InvoiceError::OutOfRange(tenant_name(tenant)))?;
    let documents = if compared.differs() { compared.documents } else { Vec::new() };
    Ok(Change { documents, ..change })
}

/// What credits would pay of invoices, one after the other, if no document of their periods had used them.
fn paid(ledger: &Ledger, account: &Account, invoices: Vec<Invoice>) -> Vec<Previewed> {
    let period = |made: &Invoice| (made.window.start, made.currency().code().to_owned());
    let previewed: Vec<(Timestamp, String)> = invoices.iter().map(period).collect();
    let mut used: HashMap<String, Amount> = HashMap::new();
    let made_with = |invoice: Invoice| {
        let is_other = |draft: &Draft| {
            !previewed.iter().any(|(start, code)| (draft.start, &draft.currency) == (*start, code))
        };
        let used_by_now = |credit: &str| {
            let before = ledger.used_where(credit, is_other);
            let here = used.get(credit).copied().unwrap_or(Amount::ZERO);
            before.and_then(|before| before.checked_add(here)).unwrap_or(Amount::of(Quantity::MAX))
        };
        let (currency, contracts) = (invoice.currency().code(), account.contracts.iter());
        let paid =
            credits::payments(contracts, (currency, invoice.window), invoice.total, used_by_now);
        let paid =
            paid.into_iter().map(|(credit, amount)| (credit.name.as_str().to_owned(), amount));
        let payments: Vec<(String, Amount)> = paid.collect();
        let mut due = invoice.total;
        for (credit, amount) in &payments {
            due = due.checked_sub(*amount).expect("no more than the total");
            let sum = used.entry(credit.clone()).or_insert(Amount::ZERO);
            *sum = sum.checked_add(*amount).expect("no more than the credit");
        }
        let billing = ledger.group(invoice.window.start, invoice.currency().code());
        Previewed { documents: effects::numbers(&billing), invoice, payments, due }
    };
    invoices.into_iter().map(made_with).collect()
}

fn tenant_name(tenant: &Tenant) -> domain::Name {
    domain::Name::new(tenant.as_str()).expect("a tenant is a name")
}
