//! Simulate: what another catalogue would have made of past usage, tenant by tenant.
//!
//! Pure: two invoices a tenant in, a comparison out. Reading the usage and drawing the
//! picture are the crate `billing`'s.

use std::collections::BTreeMap;

use domain::Tenant;
use serde_json::{Value, json};

use crate::{Amount, invoice::Invoice};

/// What changes for one tenant in one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The tenant.
    pub tenant: Tenant,
    /// The currency of the amounts.
    pub currency: String,
    /// What the period costs under the old catalogue.
    pub old: Amount,
    /// What it would cost under the new one.
    pub new: Amount,
    /// Resources of usage without a price, under the old and the new one.
    pub unpriced: (usize, usize),
    /// The SKUs whose amount changes, with the old and the new amount, by SKU.
    pub skus: BTreeMap<String, (Amount, Amount)>,
}

impl Change {
    /// Compares the invoices of a tenant's periods. `None` where sums leave the range of money.
    #[must_use]
    pub fn between(tenant: &Tenant, old: &Invoice, new: &Invoice) -> Option<Self> {
        let mut skus: BTreeMap<String, (Amount, Amount)> = BTreeMap::new();
        for (invoice, is_new) in [(old, false), (new, true)] {
            for line in &invoice.lines {
                let crate::invoice::Subject::Usage(usage) = &line.subject else { continue };
                let (before, after) = skus
                    .entry(usage.product_sku.to_string())
                    .or_insert((Amount::ZERO, Amount::ZERO));
                let side = if is_new { after } else { before };
                *side = side.checked_add(line.amount)?;
            }
        }
        skus.retain(|_, (before, after)| before != after);
        Some(Self {
            tenant: tenant.clone(),
            currency: new.currency().code().to_owned(),
            old: old.total,
            new: new.total,
            unpriced: (old.unpriced.len(), new.unpriced.len()),
            skus,
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

/// A comparison as the document of `pulso bill simulate -o json`: tenants by name, sums by currency.
#[must_use]
pub fn document(period: &str, catalogues: (&str, &str), changes: &[Change]) -> Value {
    let mut totals: BTreeMap<&str, (Amount, Amount)> = BTreeMap::new();
    for change in changes {
        let (old, new) =
            totals.entry(change.currency.as_str()).or_insert((Amount::ZERO, Amount::ZERO));
        // Sums past the range of money are shown as they were before they left it.
        *old = old.checked_add(change.old).unwrap_or(*old);
        *new = new.checked_add(change.new).unwrap_or(*new);
    }
    let totals = totals.into_iter().map(|(currency, (old, new))| {
        let difference = new.checked_sub(old).unwrap_or(Amount::ZERO);
        json!({
            "currency": currency,
            "old": old.to_string(),
            "new": new.to_string(),
            "difference": difference.to_string(),
        })
    });
    json!({
        "period": period,
        "old_catalogue": catalogues.0,
        "new_catalogue": catalogues.1,
        "tenants": changes.iter().map(tenant).collect::<Vec<_>>(),
        "totals": totals.collect::<Vec<_>>(),
    })
}

fn tenant(change: &Change) -> Value {
    let skus = change.skus.iter().map(|(sku, (old, new))| {
        json!({"product_sku": sku, "old": old.to_string(), "new": new.to_string()})
    });
    json!({
        "tenant": change.tenant.as_str(),
        "currency": change.currency,
        "old": change.old.to_string(),
        "new": change.new.to_string(),
        "difference": change.difference().unwrap_or(Amount::ZERO).to_string(),
        "change_permille": change.permille(),
        "unpriced_old": change.unpriced.0,
        "unpriced_new": change.unpriced.1,
        "skus": skus.collect::<Vec<_>>(),
    })
}
