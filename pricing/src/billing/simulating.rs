//! Previews and simulations: what periods come to by the totals as they stand now. They write nothing.

use std::sync::Arc;

use domain::{BillingStore, PulseLog, Tenant, UsageStore, catalogue::Catalogue};

use super::{Billing, BillingError, cut::Below, periods};
use crate::{
    invoice::{self, Invoice},
    rate::Sources,
    simulate::Change,
    timeline::Month,
};

impl<U: UsageStore, B: BillingStore, L: PulseLog> Billing<U, B, L> {
    /// The invoices of a tenant's periods that begin in a month, over or not, if they were made now
    /// and there were none before; in order, without those that have nothing to bill. This catalogue
    /// stands for the latest.
    ///
    /// # Errors
    /// When the store fails, a period cannot be billed, or has more than `rows_max` rows of usage.
    pub async fn preview(
        &self,
        tenant: &Tenant,
        month: Month,
        latest: &Arc<Catalogue>,
        rows_max: usize,
    ) -> Result<Vec<Invoice>, BillingError> {
        let below = Below::everything(self.usage.active_view().await?);
        let account = self.account_of(tenant, u64::MAX, Some(Arc::clone(latest))).await?;
        let mut invoices = Vec::new();
        for period in periods::billable(&account.contracts, month)? {
            let usage = self.usage_at_most(rows_max, &below, tenant, period.window).await?;
            let made = self
                .rate_usage(usage, &account, (period.month, period.window), Sources::Listed)
                .await?;
            if !made.lines.is_empty() || !made.unpriced.is_empty() {
                invoices.push(made);
            }
        }
        Ok(invoices)
    }

    /// What the periods that begin in a month would cost each tenant under `new`, against `old`.
    /// What is under contracts that name a version of their own does not change. By tenant.
    ///
    /// # Errors
    /// When the store fails, or a tenant's period cannot be billed.
    pub async fn simulate(
        &self,
        month: Month,
        old: &Arc<Catalogue>,
        new: &Arc<Catalogue>,
    ) -> Result<Vec<Change>, BillingError> {
        let below = Below::everything(self.usage.active_view().await?);
        let mut changes = Vec::new();
        for tenant in self.all_tenants(u64::MAX).await? {
            let before = self.account_of(&tenant, u64::MAX, Some(Arc::clone(old))).await?;
            let after = self.account_of(&tenant, u64::MAX, Some(Arc::clone(new))).await?;
            for period in periods::billable(&before.contracts, month)? {
                let old = self.rate_window(&below, &before, period, Sources::LeftOut).await?;
                let new = self.rate_window(&below, &after, period, Sources::LeftOut).await?;
                if old.lines.is_empty() && new.lines.is_empty() {
                    continue;
                }
                let out_of_range = || invoice::InvoiceError::OutOfRange(tenant_name(&tenant));
                changes.push(Change::between(&tenant, &old, &new).ok_or_else(out_of_range)?);
            }
        }
        Ok(changes)
    }
}

fn tenant_name(tenant: &Tenant) -> domain::Name {
    domain::Name::new(tenant.as_str()).expect("a tenant is a name")
}
