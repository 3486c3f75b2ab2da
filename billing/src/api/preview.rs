//! Previews: a tenant's periods as they stand now, and what another catalogue would change.

use std::sync::Arc;

use domain::{BillingStore, PulseLog, Tenant, UsageStore, catalogue::Catalogue, name::NameError};
use edge::{Problem, access::Principal, problem::reasons};
use pricing::{invoice::document, simulate::Simulation};
use proto::v1;

use super::{BillingApi, catalogues::parse, problems, requests::month};
use crate::{
    BillingError,
    answers::{
        invoice::PaymentAnswer,
        preview::{PreviewAnswer, PreviewedInvoice, SetAsideAnswer},
    },
};

impl<U: UsageStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
    /// A tenant's invoices for the periods that begin in a month, as they would be now.
    pub(crate) async fn preview(
        &self,
        request: &v1::PreviewBillRequest,
        principal: &Principal,
    ) -> Result<PreviewAnswer, Problem> {
        let named = Tenant::new(&request.tenant);
        let tenant = match (named, principal.tenants.only()) {
            // The credential's stands in where none is named.
            (Err(NameError::Empty), Some(only)) => only.clone(),
            (named, _) => named.map_err(|error| problems::of_name("tenant", error))?,
        };
        if !principal.tenants.allows(tenant.as_str()) {
            return Err(principal.tenant_forbidden(&tenant));
        }
        let month = month(&request.period)?;
        let compute = &self.compute;
        let _call = compute.admit_period().await?;
        let catalogue = self.effective(&request.catalogue_version).await?;
        let config = &self.config;
        let previewed =
            self.parts.previews.preview(&tenant, month, &catalogue, config.preview_rows_max).await;
        let (invoices, set_aside) = previewed.map_err(problems::of_billing)?;
        let mut budget = config.preview_sources_max;
        let writing = move || {
            let documents = invoices.into_iter().map(|made| {
                let digits = made.invoice.currency().minor_digits();
                let payments = made
                    .payments
                    .into_iter()
                    .map(|(credit, amount)| PaymentAnswer { credit, amount: amount.text(digits) });
                PreviewedInvoice {
                    document: document::preview(&made.invoice, &mut budget),
                    payments: payments.collect(),
                    due: made.due.text(digits),
                }
            });
            PreviewAnswer {
                tenant: tenant.as_str().to_owned(),
                period: month.to_string(),
                catalogue: catalogue.version.as_str().to_owned(),
                invoices: documents.collect(),
                set_aside: SetAsideAnswer {
                    pulses: set_aside.pulses,
                    complete: set_aside.is_complete,
                },
            }
        };
        compute.run(writing).await
    }

    /// The named version, or the newest active one. Only active versions rate usage: before that,
    /// totals may not keep their dimensions apart.
    async fn effective(&self, version: &str) -> Result<Arc<Catalogue>, Problem> {
        let wanted = Some(version).filter(|version| !version.is_empty());
        let found = self.find_version(wanted, |version| version.active).await?;
        if !found.active {
            return Err(Problem::failed_precondition(
                reasons::CATALOGUE_NOT_FOUND,
                format!(
                    "catalogue {version:?} is published but not active yet: its dimensions are still being declared; publish it again or wait"
                ),
            ));
        }
        self.parts.books.catalogues.get(&found.version).await.map_err(problems::of_billing)
    }

    /// What another catalogue would change about the periods that begin in a month.
    pub(crate) async fn simulated(
        &self,
        request: v1::SimulateRequest,
    ) -> Result<Simulation, Problem> {
        let month = month(&request.period)?;
        let (books, compute) = (&self.parts.books, &self.compute);
        let _call = compute.admit_period().await?;
        let old = match request.old_version.as_str() {
            "" => {
                let latest = books.catalogues.latest().await.map_err(problems::of_billing)?;
                latest.ok_or(BillingError::NoCatalogue).map_err(problems::of_billing)?
            }
            version => version.to_owned(),
        };
        let old = books.catalogues.get(&old).await.map_err(problems::of_billing)?;
        let new = match (request.new_version.as_str(), request.new_text) {
            ("", text) => Arc::new(parse(compute, "catalogue", text).await?.catalogue),
            (version, _) => books.catalogues.get(version).await.map_err(problems::of_billing)?,
        };
        let changes =
            self.parts.previews.simulate(month, &old, &new).await.map_err(problems::of_billing)?;
        let period = request.period;
        let writing = move || {
            let catalogues = (old.version.as_str(), new.version.as_str());
            Simulation::of(&period, catalogues, &changes)
        };
        compute.run(writing).await
    }
}
