//! Account: what a tenant is billed under, as of some moment of the books.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use domain::{
    BillingStore, BlockStore, Name, Sku, Tenant,
    catalogue::Catalogue,
    contract::{CatalogueChoice, Contract},
};
use pricing::{
    editions::Editions,
    timeline::{BillingPeriod, Stretch},
};

use crate::{
    BillingError,
    books::{Books, contracts, runs::Run},
    usage::UsageReader,
};

/// What a tenant is billed under, read once for all of its periods.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) tenant: Tenant,
    /// In the order of application, behind the standard terms, each as its amendments make it.
    pub(crate) contracts: Arc<Vec<Contract>>,
    /// The catalogues of contracts that go by what is in effect.
    editions: Arc<Editions>,
    /// The catalogues that contracts name.
    named: Arc<HashMap<Name, Arc<Catalogue>>>,
}

impl Account {
    /// What a tenant is billed under as of a run's cut.
    pub(crate) async fn of_run<B: BillingStore>(
        books: &Books<B>,
        run: &Run,
        tenant: &Tenant,
    ) -> Result<Self, BillingError> {
        let (versions, count) = match &run.cut {
            Some(cut) => (cut.catalogues.as_slice(), cut.contracts),
            None => (&[][..], 0),
        };
        let editions = books.catalogues.editions(versions).await?;
        Self::of(books, tenant, count, editions).await
    }

    /// What a tenant is billed under by the first `count` contracts and amendments that were applied,
    /// and these catalogues.
    pub(crate) async fn of<B: BillingStore>(
        books: &Books<B>,
        tenant: &Tenant,
        count: u64,
        editions: Arc<Editions>,
    ) -> Result<Self, BillingError> {
        let applied = books.contracts.of_tenant(tenant, count).await?;
        Self::under(books, tenant, contracts::agreed(&applied), editions).await
    }

    /// What a tenant is billed under by these contracts behind the standard terms.
    pub(crate) async fn under<B: BillingStore>(
        books: &Books<B>,
        tenant: &Tenant,
        agreed: Vec<Contract>,
        editions: Arc<Editions>,
    ) -> Result<Self, BillingError> {
        let mut contracts = editions.standard_contracts(tenant);
        contracts.extend(agreed);
        let mut named = HashMap::new();
        for contract in &contracts {
            if let CatalogueChoice::Version(version) = &contract.catalogue {
                let catalogue = books.catalogues.get(version.as_str()).await?;
                named.insert(version.clone(), catalogue);
            }
        }
        let (contracts, named) = (Arc::new(contracts), Arc::new(named));
        Ok(Self { tenant: tenant.clone(), contracts, editions, named })
    }

    /// The parts of a period, each with the catalogue that it is priced by.
    pub(crate) fn parts<'c>(
        &self,
        period: &BillingPeriod<'c>,
    ) -> Vec<(Stretch<'c>, Arc<Catalogue>)> {
        let named = |version: &Name| {
            Arc::clone(self.named.get(version).expect("holds all that the contracts name"))
        };
        self.editions.parts(period, named)
    }

    /// The catalogues of contracts that go by what is in effect.
    pub(crate) fn editions(&self) -> &Editions {
        &self.editions
    }

    /// The SKUs whose level may hold on from before a period, under any of its catalogues.
    pub(crate) fn held(&self) -> BTreeSet<Sku> {
        let catalogues = self.editions.catalogues().chain(self.named.values());
        let definitions = catalogues.flat_map(|catalogue| &catalogue.skus);
        let held = definitions.filter(|definition| definition.carry);
        held.map(|definition| definition.sku.clone()).collect()
    }
}

/// All tenants that have usage, or one of the first `count` contracts that were applied. Sorted.
pub(crate) async fn all_tenants<U: BlockStore, B: BillingStore>(
    books: &Books<B>,
    usage: &UsageReader<U>,
    count: u64,
) -> Result<BTreeSet<Tenant>, BillingError> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let contracts = books.contracts.all().await?;
    let mut tenants = usage.tenants().await?;
    tenants.extend(contracts.iter().take(count).map(|filed| filed.tenant().clone()));
    Ok(tenants)
}
