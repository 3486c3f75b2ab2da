//! Account: what a tenant is billed under, as of some moment of the books.

use std::{collections::BTreeSet, sync::Arc};

use domain::{
    BillingStore, Sku, Tenant, UsageStore,
    catalogue::Catalogue,
    contract::{CatalogueChoice, Contract},
};
use pricing::invoice;

use crate::{
    BillingError,
    books::{Books, runs::Run},
    usage::UsageReader,
};

/// What a tenant is billed under, read once for all of its periods.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) tenant: Tenant,
    /// In the order of application, behind the standard terms.
    pub(crate) contracts: Arc<Vec<Contract>>,
    /// The catalogue of each contract.
    pub(crate) catalogues: Arc<Vec<Arc<Catalogue>>>,
}

impl Account {
    /// What a tenant is billed under as of a run's cut.
    pub(crate) async fn of_run<B: BillingStore>(
        books: &Books<B>,
        run: &Run,
        tenant: &Tenant,
    ) -> Result<Self, BillingError> {
        let cut = run.cut.as_ref();
        let latest = match cut.and_then(|cut| cut.catalogue.as_deref()) {
            Some(version) => Some(books.catalogues.get(version).await?),
            None => None,
        };
        Self::of(books, tenant, cut.map_or(0, |cut| cut.contracts), latest).await
    }

    /// What a tenant is billed under by the first `count` contracts that were applied, with this
    /// catalogue where they want the latest.
    pub(crate) async fn of<B: BillingStore>(
        books: &Books<B>,
        tenant: &Tenant,
        count: u64,
        latest: Option<Arc<Catalogue>>,
    ) -> Result<Self, BillingError> {
        let latest = || latest.clone().ok_or(BillingError::NoCatalogue);
        let mut contracts = vec![invoice::standard_contract(tenant, &*latest()?)];
        let applied = books.contracts.of_tenant(tenant, count).await?;
        contracts.extend(applied.iter().map(|applied| applied.contract.clone()));
        let mut catalogues = Vec::with_capacity(contracts.len());
        for contract in &contracts {
            catalogues.push(match &contract.catalogue {
                CatalogueChoice::Version(version) => books.catalogues.get(version.as_str()).await?,
                CatalogueChoice::Latest => latest()?,
            });
        }
        let (contracts, catalogues) = (Arc::new(contracts), Arc::new(catalogues));
        Ok(Self { tenant: tenant.clone(), contracts, catalogues })
    }
}

impl Account {
    /// The SKUs whose level may hold on from before a period, under any of its catalogues.
    pub(crate) fn held(&self) -> BTreeSet<Sku> {
        let definitions = self.catalogues.iter().flat_map(|catalogue| &catalogue.skus);
        let held = definitions.filter(|definition| definition.carry);
        held.map(|definition| definition.sku.clone()).collect()
    }
}

/// All tenants that have usage, or one of the first `count` contracts that were applied. Sorted.
pub(crate) async fn all_tenants<U: UsageStore, B: BillingStore>(
    books: &Books<B>,
    usage: &UsageReader<U>,
    count: u64,
) -> Result<BTreeSet<Tenant>, BillingError> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let contracts = books.contracts.all().await?.into_iter().take(count);
    let mut tenants = usage.tenants().await?;
    tenants.extend(contracts.map(|known| known.contract.tenant.clone()));
    Ok(tenants)
}
