//! Contracts: the files that were applied, contracts and amendments, in their order, as one journal.
//! None is ever changed.

use std::sync::Arc;

use domain::{
    BillingStore, Clock, Name, Tenant, Timestamp,
    amendment::Amendment,
    billing::Appended,
    catalogue::Catalogue,
    contract::{CatalogueChoice, Contract},
    name::NameError,
};
use edge::Compute;
use pricing::file::{self, contract::amendment};
use runtime::fault;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::{catalogues::Catalogues, journal};
use crate::{BillingError, Refusal, error::compute};

mod applied;

mod files;

pub(crate) use applied::{Agreed, Applied, agreed};
pub(crate) use files::{AppliedFiles, Filed, Unread};

const JOURNAL: &str = "contracts";

/// An entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// Its name, be it a contract's or an amendment's.
    contract: String,
    tenant: String,
    text: String,
    /// The catalogue that its prices were checked against, so that they always read the same.
    catalogue: Option<String>,
    #[serde(with = "journal::text")]
    applied_at: Timestamp,
    /// Of an amendment: the contract that it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amends: Option<String>,
}

/// The contracts, as far as this process has read them.
pub(crate) struct Contracts<B> {
    store: Arc<B>,
    catalogues: Arc<Catalogues<B>>,
    clock: Arc<dyn Clock>,
    compute: Compute,
    read: Mutex<Arc<AppliedFiles>>,
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

    /// Every contract and amendment, in the order in which they were applied.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn all(&self) -> Result<Arc<AppliedFiles>, BillingError> {
        let mut read = self.read.lock().await;
        let entries: Vec<Entry> = journal::read(&*self.store, JOURNAL, read.len() as u64).await?;
        for entry in entries {
            let filed = self.filed(entry, &read).await?;
            Arc::make_mut(&mut read).push(filed);
        }
        Ok(Arc::clone(&read))
    }

    /// An entry behind those before it.
    async fn filed(&self, entry: Entry, before: &AppliedFiles) -> Result<Filed, BillingError> {
        let damaged = |error: NameError| BillingError::Journal {
            journal: JOURNAL.to_owned(),
            place: before.len() as u64,
            message: error.to_string(),
        };
        let name = Name::new(&entry.contract).map_err(damaged)?;
        let tenant = Tenant::new(&entry.tenant).map_err(damaged)?;
        let agreed = self.understand(&entry, (before, &tenant)).await;
        let Entry { text, applied_at, amends, .. } = entry;
        Ok(match agreed {
            Ok(agreed) => Filed::Read(Arc::new(Applied { agreed, tenant, text, applied_at })),
            Err(error @ (BillingError::Store(_) | BillingError::Task(_))) => return Err(error),
            Err(error) => {
                let message = error.to_string();
                tracing::error!(contract = %name, %tenant, %message, "cannot be read: its tenant is not billed");
                Filed::Unread(Arc::new(Unread { name, tenant, amends, text, applied_at, message }))
            }
        })
    }

    /// What an entry says, behind what was applied for its tenant.
    async fn understand(
        &self,
        entry: &Entry,
        (before, tenant): (&AppliedFiles, &Tenant),
    ) -> Result<Agreed, BillingError> {
        let catalogue = match &entry.catalogue {
            Some(version) => Some(self.catalogues.get(version).await?),
            None => None,
        };
        let (name, text) = (entry.contract.clone(), entry.text.clone());
        if entry.amends.is_none() {
            let parsing = move || parse(&name, &text, catalogue.as_deref());
            return Ok(Agreed::Contract(compute(&self.compute, parsing).await??));
        }
        let catalogue = catalogue.ok_or(BillingError::NoCatalogue)?;
        let own = before.of(tenant)?;
        let parsing = move || parse_amendment(&name, &text, &own, &catalogue);
        Ok(Agreed::Amendment(compute(&self.compute, parsing).await??))
    }

    /// Checks the file of a contract or an amendment and applies it, or only checks. The same text again
    /// changes nothing. Reads nothing after it is applied: what then failed would hide that it was.
    ///
    /// # Errors
    /// With every mistake of the file; when another text has the name, or it does not go with what was
    /// applied for the tenant; when the store fails.
    pub(crate) async fn apply(
        &self,
        kind: Kind,
        text: &str,
        mode: Apply,
    ) -> Result<Offered, BillingError> {
        loop {
            let known = self.all().await?;
            let (offered, catalogue) = self.offer(kind, text, &known).await?;
            if offered.is_known || mode == Apply::CheckOnly {
                return Ok(offered);
            }
            let applied = &offered.applied;
            let entry = Entry {
                contract: applied.name().as_str().to_owned(),
                tenant: applied.tenant.as_str().to_owned(),
                text: text.to_owned(),
                catalogue,
                applied_at: applied.applied_at,
                amends: applied.amends().map(|name| name.as_str().to_owned()),
            };
            fault::point("contract.before_entry");
            let place = known.len() as u64;
            let appended = journal::append(&*self.store, JOURNAL, place, &entry).await?;
            if appended == Appended::Added {
                fault::point("contract.after_entry");
                return Ok(offered);
            }
        }
    }

    /// Checks files one behind the other, as if each were applied behind those that were. Applies nothing.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub(crate) async fn suppose(&self, texts: &[String]) -> Result<Supposed, BillingError> {
        let before = self.all().await?;
        let mut supposed =
            Supposed { after: AppliedFiles::clone(&before), before, offered: Vec::new() };
        for (place, text) in texts.iter().enumerate() {
            let is_amendment = {
                let text = text.clone();
                compute(&self.compute, move || amendment::is_amendment(text.as_bytes())).await?
            };
            let kind = if is_amendment { Kind::Amendment } else { Kind::Contract };
            let offered = self.offer(kind, text, &supposed.after).await;
            let (offered, _) = offered.map_err(|error| in_text(error, place))?;
            if !offered.is_known {
                supposed.after.push(Filed::Read(Arc::clone(&offered.applied)));
            }
            supposed.offered.push(offered.applied);
        }
        Ok(supposed)
    }

    /// Checks a file against what is known. With it, the version of the catalogue that it was held
    /// against.
    async fn offer(
        &self,
        kind: Kind,
        text: &str,
        known: &AppliedFiles,
    ) -> Result<(Offered, Option<String>), BillingError> {
        // Before it is read in full: what was applied may not pass against what came later.
        let name = self.name_of(kind, text).await?;
        if let Some(stands) = name.and_then(|name| known.named(&name)) {
            same(stands, text)?;
            let (applied, before) = (stands.applied()?, known.of(stands.tenant())?);
            let offered = Offered { applied: Arc::clone(applied), before, is_known: true };
            return Ok((offered, None));
        }
        let (applied, catalogue) = match kind {
            Kind::Contract => self.offered_contract(text, known).await?,
            Kind::Amendment => self.offered_amendment(text, known).await?,
        };
        let before = known.of(&applied.tenant)?;
        Ok((Offered { applied: Arc::new(applied), before, is_known: false }, catalogue))
    }

    /// The name that a file gives itself; `None` where it has mistakes, all of which are told when it is
    /// read in full.
    async fn name_of(&self, kind: Kind, text: &str) -> Result<Option<String>, BillingError> {
        let text = text.to_owned();
        let reading = move || match kind {
            Kind::Contract => file::contract::check_contract("contract", text.as_bytes())
                .map(|outline| outline.name),
            Kind::Amendment => {
                amendment::outline("amendment", text.as_bytes()).map(|outline| outline.name)
            }
        };
        let name = compute(&self.compute, reading).await?;
        Ok(name.ok().map(|name| name.as_str().to_owned()))
    }

    /// Reads a contract that is offered, under the catalogue that it names, or else the one in effect
    /// when it begins, or now if that is later. Gives that catalogue's version too.
    async fn offered_contract(
        &self,
        text: &str,
        known: &AppliedFiles,
    ) -> Result<(Applied, Option<String>), BillingError> {
        // A file with mistakes is read to its end, so that all are named.
        let offered = text.to_owned();
        let checking = move || file::contract::check_contract("contract", offered.as_bytes());
        let outline = compute(&self.compute, checking).await?;
        let now = self.clock.now();
        let (choice, from) = match outline {
            Ok(outline) => (outline.catalogue, outline.agreed.start),
            Err(_) => (CatalogueChoice::Latest, now),
        };
        let catalogue = self.catalogue_of(&choice, from.max(now)).await?;
        let version = catalogue.as_ref().map(|found| found.version.as_str().to_owned());
        let offered = text.to_owned();
        let parsing = move || parse("contract", &offered, catalogue.as_deref());
        let contract = compute(&self.compute, parsing).await??;
        applied::check_contract(&contract, &known.of(&contract.tenant)?)?;
        let tenant = contract.tenant.clone();
        let agreed = Agreed::Contract(contract);
        let text = text.to_owned();
        Ok((Applied { agreed, tenant, text, applied_at: now }, version))
    }

    /// Reads an amendment that is offered, under the catalogue of its contract.
    async fn offered_amendment(
        &self,
        text: &str,
        known: &AppliedFiles,
    ) -> Result<(Applied, Option<String>), BillingError> {
        let named = amendment::outline("amendment", text.as_bytes())?;
        let filed = known.named(named.contract.as_str());
        let applied = filed.map(Filed::applied).transpose()?;
        let base =
            applied.and_then(|applied| Some((applied.contract()?.clone(), applied.tenant.clone())));
        let Some((base, tenant)) = base else {
            let contracts = known.contracts();
            let names: Vec<&str> = contracts.map(|contract| contract.name.as_str()).collect();
            let unknown = amendment::unknown_contract("amendment", text.as_bytes(), &names);
            return Err(unknown.into());
        };
        let now = self.clock.now();
        let catalogue = self.catalogue_of(&base.catalogue, base.valid_from.max(now)).await?;
        let catalogue = catalogue.ok_or(BillingError::NoCatalogue)?;
        let version = catalogue.version.as_str().to_owned();
        let own = known.of(&tenant)?;
        let (offered, before) = (text.to_owned(), own.clone());
        let parsing = move || parse_amendment("amendment", &offered, &before, &catalogue);
        let agreed = Agreed::Amendment(compute(&self.compute, parsing).await??);
        let applied = Applied { agreed, tenant, text: text.to_owned(), applied_at: now };
        applied::check_amendment(&applied, &base, &own)?;
        Ok((applied, Some(version)))
    }

    /// The catalogue that a file is held against; one that is not there is a mistake of the file, which
    /// the parser names with its place.
    async fn catalogue_of(
        &self,
        choice: &CatalogueChoice,
        moment: Timestamp,
    ) -> Result<Option<Arc<Catalogue>>, BillingError> {
        let found = match choice {
            CatalogueChoice::Version(version) => self.catalogues.get(version.as_str()).await,
            CatalogueChoice::Latest => match self.catalogues.current().await {
                // By its version: whoever reads the file again gets the catalogue by that.
                Ok(editions) => self.catalogues.get(editions.at(moment).version.as_str()).await,
                Err(error) => Err(error),
            },
        };
        match found {
            Ok(found) => Ok(Some(found)),
            Err(BillingError::UnknownCatalogue(_) | BillingError::NoCatalogue) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// What of the first `count` entries is a tenant's, in the order in which it was applied.
    pub(crate) async fn of_tenant(
        &self,
        tenant: &Tenant,
        count: u64,
    ) -> Result<Vec<Arc<Applied>>, BillingError> {
        self.all().await?.of_first(usize::try_from(count).unwrap_or(usize::MAX), tenant)
    }
}

/// A file without mistakes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    /// What it says.
    pub(crate) applied: Arc<Applied>,
    /// What was applied for its tenant before; with it where it is known.
    pub(crate) before: Vec<Arc<Applied>>,
    /// Whether it had been applied before.
    pub(crate) is_known: bool,
}

/// Contracts as they would be with files that were not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Supposed {
    /// What was applied.
    pub(crate) before: Arc<AppliedFiles>,
    /// The same, with the files behind it.
    pub(crate) after: AppliedFiles,
    /// What the files say, in their order; some may have been applied before.
    pub(crate) offered: Vec<Arc<Applied>>,
}

/// What a file is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Contract,
    Amendment,
}

/// Whether a contract takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Apply {
    /// It does.
    Now,
    /// It is only checked.
    CheckOnly,
}

fn parse(
    name: &str,
    text: &str,
    catalogue: Option<&Catalogue>,
) -> Result<Contract, file::FileError> {
    file::contract::parse_contract(name, text.as_bytes(), &|_| catalogue.cloned())
}

/// Reads an amendment against what was applied before it.
fn parse_amendment(
    name: &str,
    text: &str,
    before: &[Arc<Applied>],
    catalogue: &Catalogue,
) -> Result<Amendment, file::FileError> {
    let outline = amendment::outline(name, text.as_bytes())?;
    let mut contracts = before.iter().filter_map(|found| found.contract());
    let Some(contract) = contracts.find(|found| found.name == outline.contract) else {
        return Err(amendment::unknown_contract(name, text.as_bytes(), &[]));
    };
    let amendments: Vec<Amendment> =
        applied::amendments_of(before, &contract.name).cloned().collect();
    let base = amendment::Base { contract, amendments: &amendments, catalogue };
    amendment::parse_amendment(name, text.as_bytes(), base)
}

/// An error that says which of several texts it is about.
fn in_text(error: BillingError, place: usize) -> BillingError {
    let text = format!("contract_texts[{place}]");
    match error {
        BillingError::File(mut error) => {
            for issue in &mut error.issues {
                let dot = if issue.path.is_empty() { "" } else { "." };
                issue.path = format!("{text}{dot}{}", issue.path);
            }
            BillingError::File(error)
        }
        BillingError::Refused { reason, message } => {
            BillingError::Refused { reason, message: format!("{text}: {message}") }
        }
        other => other,
    }
}

fn same(stands: &Filed, text: &str) -> Result<(), BillingError> {
    if stands.text() == text {
        return Ok(());
    }
    Err(BillingError::refused(
        Refusal::ContractExists,
        format!(
            "another text was applied as {:?}, and contracts and amendments never change: give this one a new name",
            stands.name().as_str()
        ),
    ))
}
