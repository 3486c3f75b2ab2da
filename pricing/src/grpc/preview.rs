//! Preview: a tenant's period as it stands now.

use domain::{
    BillingStore, PulseLog, RowKey, Tenant, UsageRow, UsageStore, Window, catalogue::Catalogue,
    store::UsageFilter,
};
use proto::v1;
use service::{Problem, problem::reasons};

use super::{PricingService, find_version, parse, problems};
use crate::{moment, rate, render};

impl<U: UsageStore, B: BillingStore, L: PulseLog> PricingService<U, B, L> {
    pub(crate) async fn preview(
        &self,
        request: &v1::PreviewBillRequest,
    ) -> Result<String, Problem> {
        let tenant =
            Tenant::new(&request.tenant).map_err(|error| problems::of_name("tenant", error))?;
        let period = moment::month(&request.period).ok_or_else(|| {
            let message = format!("{:?} is no month: write it as 2024-09", request.period);
            Problem::invalid("period", reasons::PERIOD_INVALID, message)
        })?;
        let catalogue = self.effective(&request.catalogue_version).await?;
        let usage = self.usage_of(&tenant, period).await?;
        let sources_max = self.inner.config.preview_sources_max;
        // Rating a large tenant is a second of arithmetic, which the runtime's threads are not for.
        tokio::task::spawn_blocking(move || {
            let rated = rate::rate(&catalogue, &usage, period);
            render::bill(&tenant, &rated, sources_max).to_string()
        })
        .await
        .map_err(|error| problems::of_panic(&error))
    }

    /// The named version, or the newest active one. Only active versions rate usage: before that,
    /// totals may not keep their dimensions apart.
    async fn effective(&self, version: &str) -> Result<Catalogue, Problem> {
        let wanted = Some(version).filter(|version| !version.is_empty());
        let found = find_version(&*self.inner.billing, wanted, |version| version.active).await?;
        if !found.active {
            return Err(Problem::failed_precondition(
                reasons::CATALOGUE_NOT_FOUND,
                format!(
                    "catalogue {version:?} is published but not active yet: its dimensions are still being declared; publish it again or wait"
                ),
            ));
        }
        Ok(parse(&found.version, found.text).await?.catalogue)
    }

    async fn usage_of(&self, tenant: &Tenant, period: Window) -> Result<Vec<UsageRow>, Problem> {
        let filter = UsageFilter {
            tenant: Some(tenant.clone()),
            product_sku: None,
            use_unity: None,
            from: period.start,
            to: period.end,
        };
        let view = self.inner.usage.active_view().await.map_err(problems::of_store)?;
        let config = &self.inner.config;
        let page_rows = config.preview_page_rows.max(1);
        let mut rows: Vec<UsageRow> = Vec::new();
        loop {
            let after: Option<RowKey> = rows.last().map(|row| row.key.clone());
            let page = self.inner.usage.usage(&view, &filter, after.as_ref(), page_rows).await;
            let page = page.map_err(problems::of_store)?;
            let last = page.len() < page_rows;
            rows.extend(page);
            if rows.len() > config.preview_rows_max {
                return Err(Problem::failed_precondition(
                    reasons::RESULT_TOO_LARGE,
                    format!(
                        "the period has more than {} usage rows: raise pricing.preview_rows_max",
                        config.preview_rows_max
                    ),
                ));
            }
            if last {
                return Ok(rows);
            }
        }
    }
}
