//! Previews: a tenant's periods as they stand now, and what another catalogue or other contracts would
//! change.

use std::sync::Arc;

use domain::{BillingStore, BlockStore, PulseLog, Tenant, name::NameError};
use edge::{Problem, access::Principal, problem::reasons};
use pricing::{
    editions::Editions, invoice::document, moment::Calendar, simulate::Simulation, timeline::Month,
};
use proto::v1;

use super::{BillingApi, catalogues::parse, problems, requests::month};
use crate::{
    answers::{
        invoice::PaymentAnswer,
        preview::{PreviewAnswer, PreviewedInvoice, SetAsideAnswer},
    },
    books::contracts::Supposed,
    preview::{Sides, Simulated, Whom},
};

/// Most files of contracts and amendments that one simulation takes.
const CONTRACTS_MAX: usize = 100;

impl<U: BlockStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
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
        let catalogues = self.effective(&request.catalogue_version).await?;
        let catalogue = catalogues.at(self.clock.now()).version.as_str().to_owned();
        let config = &self.config;
        let previewed =
            self.parts.previews.preview(&tenant, month, &catalogues, config.preview_rows_max).await;
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
                    documents: made.documents,
                }
            });
            PreviewAnswer {
                tenant: tenant.as_str().to_owned(),
                period: month.to_string(),
                catalogue,
                invoices: documents.collect(),
                set_aside: SetAsideAnswer {
                    pulses: set_aside.pulses,
                    complete: set_aside.is_complete,
                },
            }
        };
        compute.run(writing).await
    }

    /// The named version alone, or those that are in effect one after the other. Only active versions
    /// rate usage: before that, totals may not keep their dimensions apart.
    async fn effective(&self, version: &str) -> Result<Arc<Editions>, Problem> {
        let catalogues = &self.parts.books.catalogues;
        if version.is_empty() {
            // Refused in its own words where there is none.
            self.find_version(None, |version| version.active).await?;
            return catalogues.current().await.map_err(problems::of_billing);
        }
        let found = self.find_version(Some(version), |_| true).await?;
        if !found.active {
            return Err(Problem::failed_precondition(
                reasons::CATALOGUE_NOT_FOUND,
                format!(
                    "catalogue {version:?} is published but not active yet: its dimensions are still being declared; publish it again or wait"
                ),
            ));
        }
        let only = catalogues.get(&found.version).await.map_err(problems::of_billing)?;
        Ok(Arc::new(Editions::only(only)))
    }

    /// What another catalogue or other contracts would change about the periods that begin in a month.
    pub(crate) async fn simulated(
        &self,
        request: v1::SimulateRequest,
    ) -> Result<Simulation, Problem> {
        let month = month(&request.period)?;
        let texts = &request.contract_texts;
        if texts.len() > CONTRACTS_MAX {
            let message = format!("{} files; at most {CONTRACTS_MAX}", texts.len());
            return Err(Problem::invalid("contract_texts", reasons::PARAMETER_INVALID, message));
        }
        let compute = &self.compute;
        let _call = compute.admit_period().await?;
        let supposed = self.supposed(texts).await?;
        let old = self.compared(&request.old_version, month).await?;
        let is_same =
            request.new_version.is_empty() && request.new_text.is_empty() && !texts.is_empty();
        let whom = if is_same { Whom::ThoseSupposed } else { Whom::Everybody };
        let new = match (request.new_version.as_str(), request.new_text) {
            _ if is_same => old.clone(),
            ("", text) => {
                let offered = Arc::new(parse(compute, "catalogue", text).await?.catalogue);
                let editions = match offered.effective_from {
                    Some(from) => old.editions.with(offered, from),
                    None => Editions::only(offered),
                };
                Compared { version: named_in(&editions, month), editions: Arc::new(editions) }
            }
            (version, _) => self.compared(version, month).await?,
        };
        let sides = Sides { old: &old.editions, new: &new.editions, supposed: &supposed };
        let simulated = self.parts.previews.simulate(month, whom, &sides).await;
        let Simulated { changes, failed } = simulated.map_err(problems::of_billing)?;
        let period = request.period;
        let writing = move || {
            let catalogues = (old.version.as_str(), new.version.as_str());
            let contracts = supposed.offered.iter().map(|it| it.name().as_str().to_owned());
            Simulation::of(&period, catalogues, contracts.collect(), &changes).without(failed)
        };
        compute.run(writing).await
    }

    /// The contracts as they would be with some files, whose zones fit the log.
    async fn supposed(&self, texts: &[String]) -> Result<Supposed, Problem> {
        let supposing = async {
            let supposed = self.parts.books.contracts.suppose(texts).await?;
            for contract in supposed.offered.iter().filter_map(|offered| offered.contract()) {
                self.parts.windows.check_contract(contract).await?;
            }
            Ok(supposed)
        };
        supposing.await.map_err(problems::of_billing)
    }

    /// One version for all time, or those that are in effect, called by those of the month.
    async fn compared(&self, version: &str, month: Month) -> Result<Compared, Problem> {
        let catalogues = &self.parts.books.catalogues;
        if version.is_empty() {
            let editions = catalogues.current().await.map_err(problems::of_billing)?;
            return Ok(Compared { version: named_in(&editions, month), editions });
        }
        let only = catalogues.get(version).await.map_err(problems::of_billing)?;
        let version = only.version.as_str().to_owned();
        Ok(Compared { version, editions: Arc::new(Editions::only(only)) })
    }
}

/// The versions that are in effect in a month in UTC, one behind the other.
fn named_in(editions: &Editions, month: Month) -> String {
    let window = month.window(&Calendar::UTC);
    let names = window.map_or_else(Vec::new, |window| editions.names_in(window));
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", then ")
}

/// One side of a comparison.
#[derive(Clone)]
struct Compared {
    version: String,
    editions: Arc<Editions>,
}
