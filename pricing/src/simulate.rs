//! Simulate: what another catalogue or other contracts would have made of past usage, tenant by tenant.
//!
//! Pure: two invoices a tenant in, a comparison out. Reading the usage and drawing the
//! picture are the crate `billing`'s.

use std::collections::BTreeMap;

use domain::{Tenant, catalogue::Currency};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Amount, invoice::Invoice};

/// What changes for one tenant in one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The tenant.
    pub tenant: Tenant,
    /// The currency of the amounts.
    pub currency: String,
    /// First and last day of the period, in its zone: of the other side, where that has it.
    pub days: (String, String),
    /// What the period costs by what is compared with.
    pub old: Amount,
    /// What it would cost by the other.
    pub new: Amount,
    /// Resources of usage without a price, by the one and by the other.
    pub unpriced: (usize, usize),
    /// The SKUs whose amount changes, with the old and the new amount, by SKU.
    pub skus: BTreeMap<String, (Amount, Amount)>,
    /// Numbers of the documents that bill the period, where anything of it changes.
    pub documents: Vec<String>,
}

impl Change {
    /// Compares the invoices of a tenant's period in one currency, without its documents. A period that
    /// only one side has costs nothing by the other. `None` where sums leave the range of money.
    #[must_use]
    pub fn between(
        (tenant, currency): (&Tenant, Currency),
        old: Option<&Invoice>,
        new: Option<&Invoice>,
    ) -> Option<Self> {
        let mut skus: BTreeMap<String, (Amount, Amount)> = BTreeMap::new();
        for (invoice, is_new) in [(old, false), (new, true)] {
            for line in invoice.into_iter().flat_map(|invoice| &invoice.lines) {
                let crate::invoice::Subject::Usage(usage) = &line.subject else { continue };
                let (before, after) = skus
                    .entry(usage.product_sku.to_string())
                    .or_insert((Amount::ZERO, Amount::ZERO));
                let side = if is_new { after } else { before };
                *side = side.checked_add(line.amount)?;
            }
        }
        skus.retain(|_, (before, after)| before != after);
        let total = |side: Option<&Invoice>| side.map_or(Amount::ZERO, |invoice| invoice.total);
        let unpriced = |side: Option<&Invoice>| side.map_or(0, |invoice| invoice.unpriced.len());
        Some(Self {
            tenant: tenant.clone(),
            currency: currency.code().to_owned(),
            days: new.or(old).map(Invoice::days).unwrap_or_default(),
            old: total(old),
            new: total(new),
            unpriced: (unpriced(old), unpriced(new)),
            skus,
            documents: Vec::new(),
        })
    }

    /// New minus old; `None` past the range.
    #[must_use]
    pub fn difference(&self) -> Option<Amount> {
        self.new.checked_sub(self.old)
    }

    /// The difference in thousandths of the old amount, towards zero, from -1,000,000 to 1,000,000;
    /// `None` where there was nothing before.
    #[must_use]
    pub fn permille(&self) -> Option<i64> {
        self.difference()?.permille_of(self.old)
    }
}

/// A comparison as `pulso bill simulate -o json` prints it: tenants by name, sums by currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Simulation {
    /// The month in which the periods begin.
    #[schema(example = "2024-09")]
    pub period: String,
    /// Version of the catalogue that it is compared with; of several that are in effect in the month all,
    /// as `a, then b`.
    pub old_catalogue: String,
    /// The same of the other side; equal where only contracts are other ones.
    pub new_catalogue: String,
    /// Names of the contracts and amendments that are looked at as if they were applied, in order.
    pub contracts: Vec<String>,
    /// What changes for each tenant with something to bill, a period each.
    pub tenants: Vec<TenantChange>,
    /// Sums by currency.
    pub totals: Vec<CurrencyChange>,
    /// Tenants that cannot be billed, at most 100; they are in no sum.
    pub failed: Vec<FailedTenant>,
    /// How many more cannot.
    pub failed_left_out: u64,
}

/// A tenant that cannot be billed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailedTenant {
    /// The tenant.
    pub tenant: String,
    /// Why.
    pub message: String,
}

/// Most tenants that a comparison lists as failed.
const FAILED_MAX: usize = 100;

/// What changes for one tenant in one currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantChange {
    /// The tenant.
    pub tenant: String,
    /// The currency of the amounts.
    pub currency: String,
    /// First day of the period, in its zone.
    #[schema(example = "2024-09-01")]
    pub first_day: String,
    /// Last day of it.
    #[schema(example = "2024-09-30")]
    pub last_day: String,
    /// What the period costs by what is compared with.
    pub old: Amount,
    /// What it would cost by the other.
    pub new: Amount,
    /// New minus old.
    pub difference: Amount,
    /// The difference in thousandths of the old amount, towards zero, from -1,000,000 to 1,000,000;
    /// null where there was nothing before.
    pub change_permille: Option<i64>,
    /// Resources of usage without a price by what is compared with.
    pub unpriced_old: u64,
    /// Resources of usage without a price by the other.
    pub unpriced_new: u64,
    /// The SKUs whose amount changes, sorted.
    pub skus: Vec<SkuChange>,
    /// Numbers of the documents that bill the period, where anything of it changes: a run for deltas
    /// would correct them.
    pub documents: Vec<String>,
}

/// What changes for one SKU of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SkuChange {
    /// What was used.
    pub product_sku: String,
    /// What it costs by what is compared with.
    pub old: Amount,
    /// What it would cost by the other.
    pub new: Amount,
}

/// What changes in one currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CurrencyChange {
    /// The currency of the amounts.
    pub currency: String,
    /// What the tenants pay by what is compared with.
    pub old: Amount,
    /// What they would pay by the other.
    pub new: Amount,
    /// New minus old.
    pub difference: Amount,
}

impl Simulation {
    /// Puts the changes of all tenants together.
    #[must_use]
    pub fn of(
        period: &str,
        catalogues: (&str, &str),
        contracts: Vec<String>,
        changes: &[Change],
    ) -> Self {
        let mut totals: BTreeMap<&str, (Amount, Amount)> = BTreeMap::new();
        for change in changes {
            let (old, new) =
                totals.entry(change.currency.as_str()).or_insert((Amount::ZERO, Amount::ZERO));
            // Sums past the range of money are shown as they were before they left it.
            *old = old.checked_add(change.old).unwrap_or(*old);
            *new = new.checked_add(change.new).unwrap_or(*new);
        }
        let totals = totals.into_iter().map(|(currency, (old, new))| CurrencyChange {
            currency: currency.to_owned(),
            old,
            new,
            difference: new.checked_sub(old).unwrap_or(Amount::ZERO),
        });
        Self {
            period: period.to_owned(),
            old_catalogue: catalogues.0.to_owned(),
            new_catalogue: catalogues.1.to_owned(),
            contracts,
            tenants: changes.iter().map(TenantChange::from).collect(),
            totals: totals.collect(),
            failed: Vec::new(),
            failed_left_out: 0,
        }
    }

    /// The same, with the tenants that cannot be billed.
    #[must_use]
    pub fn without(mut self, failed: Vec<(Tenant, String)>) -> Self {
        self.failed_left_out = failed.len().saturating_sub(FAILED_MAX) as u64;
        let listed = failed.into_iter().take(FAILED_MAX);
        let listed = listed
            .map(|(tenant, message)| FailedTenant { tenant: tenant.as_str().to_owned(), message });
        self.failed = listed.collect();
        self
    }
}

impl From<&Change> for TenantChange {
    fn from(change: &Change) -> Self {
        let skus = change.skus.iter().map(|(sku, (old, new))| SkuChange {
            product_sku: sku.clone(),
            old: *old,
            new: *new,
        });
        Self {
            tenant: change.tenant.as_str().to_owned(),
            currency: change.currency.clone(),
            first_day: change.days.0.clone(),
            last_day: change.days.1.clone(),
            old: change.old,
            new: change.new,
            difference: change.difference().unwrap_or(Amount::ZERO),
            change_permille: change.permille(),
            unpriced_old: change.unpriced.0 as u64,
            unpriced_new: change.unpriced.1 as u64,
            skus: skus.collect(),
            documents: change.documents.clone(),
        }
    }
}
