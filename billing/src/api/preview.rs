//! Preview: a tenant's periods as they stand now.

use std::sync::Arc;

use domain::{BillingStore, PulseLog, Tenant, UsageStore, catalogue::Catalogue};
use edge::{Problem, problem::reasons};
use proto::v1;
use serde_json::{Value, json};

use super::{BillingApi, find_version, operations::month, problems};
use pricing::invoice::document;

impl<U: UsageStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
    pub(crate) async fn preview(&self, request: &v1::PreviewBillRequest) -> Result<Value, Problem> {
        let tenant =
            Tenant::new(&request.tenant).map_err(|error| problems::of_name("tenant", error))?;
        let month = month(&request.period)?;
        let compute = &self.inner.compute;
        let _call = compute.admit_period().await?;
        let catalogue = self.effective(&request.catalogue_version).await?;
        let config = &self.inner.config;
        let previewed =
            self.inner.billing.preview(&tenant, month, &catalogue, config.preview_rows_max).await;
        let (invoices, set_aside) = previewed.map_err(problems::of_billing)?;
        let mut budget = config.preview_sources_max;
        let writing = move || {
            let documents = invoices.iter().map(|invoice| document::preview(invoice, &mut budget));
            json!({
                "tenant": tenant.as_str(),
                "period": month.to_string(),
                "catalogue": catalogue.version.as_str(),
                "invoices": documents.collect::<Vec<_>>(),
                "set_aside": {
                    "pulses": set_aside.pulses.to_string(),
                    "complete": set_aside.is_complete,
                },
            })
        };
        compute.run(writing).await
    }

    /// The named version, or the newest active one. Only active versions rate usage: before that,
    /// totals may not keep their dimensions apart.
    async fn effective(&self, version: &str) -> Result<Arc<Catalogue>, Problem> {
        let wanted = Some(version).filter(|version| !version.is_empty());
        let found = find_version(&*self.inner.store, wanted, |version| version.active).await?;
        if !found.active {
            return Err(Problem::failed_precondition(
                reasons::CATALOGUE_NOT_FOUND,
                format!(
                    "catalogue {version:?} is published but not active yet: its dimensions are still being declared; publish it again or wait"
                ),
            ));
        }
        self.inner.books.catalogues.get(&found.version).await.map_err(problems::of_billing)
    }
}
