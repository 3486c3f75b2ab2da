//! Contracts: the files that were applied, in their order, as one journal. None is ever changed.

use std::sync::Arc;

use domain::{
    BillingStore, Clock, Tenant, Timestamp,
    billing::Appended,
    catalogue::Catalogue,
    contract::{CatalogueChoice, Contract},
};
use edge::Compute;
use pricing::file;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::{catalogues::Catalogues, journal};
use crate::{BillingError, Refusal, error::compute};

const JOURNAL: &str = "contracts";

/// An entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    contract: String,
    tenant: String,
    text: String,
    /// The catalogue that its overrides were checked against, so that they always read the same.
    catalogue: Option<String>,
    #[serde(with = "journal::text")]
    applied_at: Timestamp,
}

/// A contract that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AppliedContract {
    /// What it says.
    pub(crate) contract: Contract,
    /// Its text, as it was applied.
    pub(crate) text: String,
    /// When it was applied.
    pub(crate) applied_at: Timestamp,
    /// Place in the order of application, from 0.
    pub(crate) place: u64,
}

/// The contracts, as far as this process has read them.
pub(crate) struct Contracts<B> {
    store: Arc<B>,
    catalogues: Arc<Catalogues<B>>,
    clock: Arc<dyn Clock>,
    compute: Compute,
    read: Mutex<Vec<Arc<AppliedContract>>>,
}

impl<B: BillingStore> Contracts<B> {
    pub(super) fn new(
        store: Arc<B>,
        catalogues: Arc<Catalogues<B>>,
        clock: Arc<dyn Clock>,
        compute: Compute,
    ) -> Self {
        Self { store, catalogues, clock, compute, read: Mutex::default() }
    }

    /// Every contract, in the order in which they were applied.
    ///
    /// # Errors
    /// When the store fails, or a stored contract does not parse.
    pub(crate) async fn all(&self) -> Result<Vec<Arc<AppliedContract>>, BillingError> {
        let mut read = self.read.lock().await;
        let entries: Vec<Entry> = journal::read(&*self.store, JOURNAL, read.len() as u64).await?;
        for entry in entries {
            let catalogue = match &entry.catalogue {
                Some(version) => Some(self.catalogues.get(version).await?),
                None => None,
            };
            let parsed = parse(&entry.contract, &entry.text, catalogue.as_deref());
            let contract = parsed.map_err(|error| BillingError::Unreadable {
                what: format!("contract {:?}", entry.contract),
                message: error.to_string(),
            })?;
            let (place, Entry { text, applied_at, .. }) = (read.len() as u64, entry);
            read.push(Arc::new(AppliedContract { contract, text, applied_at, place }));
        }
        Ok(read.clone())
    }

    /// Checks a contract file and applies it, or only checks. The same text again changes nothing. Reads
    /// nothing after the contract is applied: what then failed would hide that it was.
    ///
    /// # Errors
    /// With every mistake of the file; when another contract has the name, or a credit of the tenant
    /// has it with other terms; when the store fails.
    pub(crate) async fn apply(&self, text: &str, mode: Apply) -> Result<Offered, BillingError> {
        loop {
            let known = self.all().await?;
            let (contract, catalogue) = self.parse_offered(text).await?;
            if let Some(stands) = known.iter().find(|known| known.contract.name == contract.name) {
                return same(stands, text).map(|()| Offered::Known(Arc::clone(stands)));
            }
            check_credits(&contract, &known)?;
            let (applied_at, place) = (self.clock.now(), known.len() as u64);
            let entry = Entry {
                contract: contract.name.as_str().to_owned(),
                tenant: contract.tenant.as_str().to_owned(),
                text: text.to_owned(),
                catalogue,
                applied_at,
            };
            let mut own = known.into_iter();
            let before = own.rfind(|known| known.contract.tenant == contract.tenant);
            let contract =
                Arc::new(AppliedContract { contract, text: text.to_owned(), applied_at, place });
            if mode == Apply::CheckOnly {
                return Ok(Offered::New { contract, before });
            }
            let appended = journal::append(&*self.store, JOURNAL, place, &entry).await?;
            if appended == Appended::Added {
                return Ok(Offered::New { contract, before });
            }
        }
    }

    /// Reads a file that is offered, under the catalogue that it names, or the latest. Gives that
    /// catalogue's version too.
    async fn parse_offered(&self, text: &str) -> Result<(Contract, Option<String>), BillingError> {
        // A file with mistakes is read to its end, so that all are named.
        let offered = text.to_owned();
        let checking = move || file::contract::check_contract("contract", offered.as_bytes());
        let outline = compute(&self.compute, checking).await?;
        let version = match outline.map(|outline| outline.catalogue) {
            Ok(CatalogueChoice::Version(version)) => Some(version.as_str().to_owned()),
            Ok(CatalogueChoice::Latest) | Err(_) => self.catalogues.latest().await?,
        };
        let catalogue = match &version {
            Some(version) => self.catalogues.get(version).await.map(Some).or_else(unknown)?,
            None => None,
        };
        let offered = text.to_owned();
        let parsing = move || parse("contract", &offered, catalogue.as_deref());
        let contract = compute(&self.compute, parsing).await??;
        Ok((contract, version))
    }

    /// The contracts of one tenant among the first `count` that were applied, in that order.
    pub(crate) async fn of_tenant(
        &self,
        tenant: &Tenant,
        count: u64,
    ) -> Result<Vec<Arc<AppliedContract>>, BillingError> {
        let mut known = self.all().await?;
        known.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        known.retain(|known| known.contract.tenant == *tenant);
        Ok(known)
    }
}

/// A contract file without mistakes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It had been applied before.
    Known(Arc<AppliedContract>),
    /// It was applied now, or would be.
    New {
        /// With the place that it has, or would have.
        contract: Arc<AppliedContract>,
        /// The one of the same tenant that was applied last before it.
        before: Option<Arc<AppliedContract>>,
    },
}

/// Whether a contract takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Apply {
    /// It does.
    Now,
    /// It is only checked.
    CheckOnly,
}

/// A catalogue that is not there is a mistake of the file, which the parser names with its place.
fn unknown(error: BillingError) -> Result<Option<Arc<Catalogue>>, BillingError> {
    match error {
        BillingError::UnknownCatalogue(_) => Ok(None),
        other => Err(other),
    }
}

fn parse(
    name: &str,
    text: &str,
    catalogue: Option<&Catalogue>,
) -> Result<Contract, file::FileError> {
    file::contract::parse_contract(name, text.as_bytes(), &|_| catalogue.cloned())
}

fn same(stands: &AppliedContract, text: &str) -> Result<(), BillingError> {
    if stands.text == text {
        return Ok(());
    }
    Err(BillingError::refused(
        Refusal::ContractExists,
        format!(
            "another contract was applied as {:?}, and contracts never change: give this one a new name in `contract:`; from its valid_from on it supersedes those before it",
            stands.contract.name.as_str()
        ),
    ))
}

/// A credit is known by its name, and what was used of it is in the currency that it was paid in.
fn check_credits(contract: &Contract, known: &[Arc<AppliedContract>]) -> Result<(), BillingError> {
    let own = known.iter().filter(|known| known.contract.tenant == contract.tenant);
    for before in own {
        for credit in &before.contract.credits {
            let again = contract.credits.iter().any(|again| again.name == credit.name);
            if again && contract.terms.currency != before.contract.terms.currency {
                return Err(BillingError::refused(
                    Refusal::ContractConflicts,
                    format!(
                        "credit {:?} stands in contract {:?} of the same tenant in another currency: give this one a name of its own",
                        credit.name.as_str(),
                        before.contract.name.as_str()
                    ),
                ));
            }
        }
    }
    Ok(())
}
