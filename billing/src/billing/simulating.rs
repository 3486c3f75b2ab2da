//! Previews and simulations: what periods come to by the totals as they stand now. They write nothing.

use std::sync::Arc;

use domain::{BillingStore, PulseLog, Tenant, UsageStore, Window, catalogue::Catalogue};

use super::{
    cut::Below,
    periods,
    set_aside::{self, SetAside},
};
use crate::{BillingError, billing::Billing};
use pricing::{
    invoice::{self, Invoice},
    rate::Sources,
    simulate::Change,
    timeline::Month,
};

impl<U: UsageStore, B: BillingStore, L: PulseLog> Billing<U, B, L> {
    /// The invoices of a tenant's periods that begin in a month, over or not, if they were made now
    /// and there were none before; in order, without those that have nothing to bill. This catalogue
    /// stands for the latest. With them, what of the tenant those periods lack.
    ///
    /// # Errors
    /// When the store fails, a period cannot be billed, or has more than `rows_max` rows of usage.
    pub(crate) async fn preview(
        &self,
        tenant: &Tenant,
        month: Month,
        latest: &Arc<Catalogue>,
        rows_max: usize,
    ) -> Result<(Vec<Invoice>, SetAside), BillingError> {
        let view = self.usage.active_view().await?;
        let below = Below::everything(view.clone());
        let account = self.account_of(tenant, u64::MAX, Some(Arc::clone(latest))).await?;
        let periods = periods::billable(&account.contracts, month)?;
        let windows: Vec<Window> = periods.iter().map(|period| period.window).collect();
        let mut invoices = Vec::new();
        for period in periods {
            let usage = self.usage_at_most(rows_max, &below, tenant, period.window).await?;
            let made = self
                .rate_usage(
                    &self.compute,
                    usage,
                    &account,
                    (period.month, period.window),
                    Sources::Listed,
                )
                .await?;
            if !made.lines.is_empty() || !made.unpriced.is_empty() {
                invoices.push(made);
            }
        }
        let set_aside = set_aside::find(&*self.usage, &view, tenant, &windows).await?;
        Ok((invoices, set_aside))
    }

    /// What the periods that begin in a month would cost each tenant under `new`, against `old`.
    /// What is under contracts that name a version of their own does not change. By tenant.
    ///
    /// # Errors
    /// When the store fails, or a tenant's period cannot be billed.
    pub(crate) async fn simulate(
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
                let (pool, sources) = (&self.compute, Sources::LeftOut);
                let old = self.rate_window(pool, &below, &before, period, sources).await?;
                let new = self.rate_window(pool, &below, &after, period, sources).await?;
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
