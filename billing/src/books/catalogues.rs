//! Catalogues in use, parsed once a process.

use std::{collections::HashMap, sync::Arc};

use domain::{
    BillingStore,
    billing::{CatalogueHead, CatalogueVersion},
    catalogue::Catalogue,
};
use pricing::file;
use tokio::sync::Mutex;

use crate::BillingError;

/// The catalogues in use. A version never changes, so none is read twice.
pub(crate) struct Catalogues<B> {
    store: Arc<B>,
    parsed: Mutex<HashMap<String, Arc<Catalogue>>>,
}

impl<B: BillingStore> Catalogues<B> {
    pub(super) fn new(store: Arc<B>) -> Self {
        Self { store, parsed: Mutex::default() }
    }

    /// The version of the newest catalogue in use.
    pub(crate) async fn latest(&self) -> Result<Option<String>, BillingError> {
        let mut versions = self.store.catalogues().await?.into_iter();
        Ok(versions.find(|version| version.active).map(|version| version.version))
    }

    /// A catalogue in use, parsed once a process.
    pub(crate) async fn get(&self, version: &str) -> Result<Arc<Catalogue>, BillingError> {
        let mut known = self.parsed.lock().await;
        if let Some(found) = known.get(version) {
            return Ok(Arc::clone(found));
        }
        let found = self.store.catalogue(version).await?.filter(|found| found.active);
        let found = found.ok_or_else(|| BillingError::UnknownCatalogue(version.to_owned()))?;
        let parsed = file::parse(version, found.text.as_bytes());
        let parsed = parsed.map_err(|error| BillingError::Unreadable {
            what: format!("catalogue {version:?}"),
            message: error.to_string(),
        })?;
        let catalogue = Arc::new(parsed.catalogue);
        known.insert(version.to_owned(), Arc::clone(&catalogue));
        Ok(catalogue)
    }

    /// All published versions without their texts, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn heads(&self) -> Result<Vec<CatalogueHead>, BillingError> {
        Ok(self.store.catalogues().await?)
    }

    /// A published version as it is stored, in use or not.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn stored(
        &self,
        version: &str,
    ) -> Result<Option<CatalogueVersion>, BillingError> {
        Ok(self.store.catalogue(version).await?)
    }
}
