//! Simulating: past usage under two catalogues. Reads, and writes nothing.

use std::sync::Arc;

use domain::{BillingStore, PulseLog, Tenant, UsageStore, catalogue::Catalogue};

use super::{Billing, BillingError, cut::Below, periods};
use crate::{invoice, rate::Sources, simulate::Change, timeline::Month};

impl<U: UsageStore, B: BillingStore, L: PulseLog> Billing<U, B, L> {
    /// What the periods that begin in a month would cost each tenant under `new`, against `old`, on
    /// the totals as they stand now. Contracts that name a version of their own keep it, whose tenants
    /// do not change. By tenant.
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
            for window in periods::windows(&before.contracts, month)? {
                let old =
                    self.rate_window(&below, &before, month, window, Sources::LeftOut).await?;
                let new = self.rate_window(&below, &after, month, window, Sources::LeftOut).await?;
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
