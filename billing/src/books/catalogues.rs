//! Catalogues in use, parsed once a process, and which of them is in effect when.

use std::{collections::HashMap, sync::Arc};

use domain::{
    BillingStore, Timestamp,
    billing::{CatalogueHead, CatalogueVersion},
    catalogue::Catalogue,
};
use pricing::{
    editions::{Editions, Published},
    file,
};
use tokio::sync::Mutex;

use crate::BillingError;

/// Sets of versions whose order is kept: runs that are open at once have seldom more than two.
const ORDERS_KEPT: usize = 8;

/// The catalogues in use. A version never changes, so none is read twice.
pub(crate) struct Catalogues<B> {
    store: Arc<B>,
    parsed: Mutex<HashMap<String, Arc<Catalogue>>>,
    /// By the versions that they are of, the one that was used last at the end.
    ordered: Mutex<Vec<(Vec<String>, Arc<Editions>)>>,
}

impl<B: BillingStore> Catalogues<B> {
    pub(super) fn new(store: Arc<B>) -> Self {
        Self { store, parsed: Mutex::default(), ordered: Mutex::default() }
    }

    /// The versions in use, in the order in which they were published: what a cut pins.
    pub(crate) async fn versions(&self) -> Result<Vec<String>, BillingError> {
        let heads = self.store.catalogues().await?;
        let active = heads.into_iter().rev().filter(|head| head.active);
        Ok(active.map(|head| head.version).collect())
    }

    /// These versions, each in effect from its date.
    ///
    /// # Errors
    /// `NoCatalogue` where there are none; when one is not in use, or the store fails.
    pub(crate) async fn editions(
        &self,
        versions: &[String],
    ) -> Result<Arc<Editions>, BillingError> {
        let mut ordered = self.ordered.lock().await;
        if let Some(place) = ordered.iter().position(|(known, _)| known == versions) {
            let found = ordered.remove(place);
            let editions = Arc::clone(&found.1);
            ordered.push(found);
            return Ok(editions);
        }
        let heads = self.store.catalogues().await?;
        let mut published = Vec::with_capacity(versions.len());
        for version in versions {
            let head = heads.iter().find(|head| head.version == *version);
            let head = head.ok_or_else(|| BillingError::UnknownCatalogue(version.clone()))?;
            published.push(Published {
                catalogue: self.get(version).await?,
                sequence: head.sequence,
                published_at: head.published_at,
            });
        }
        let editions = Arc::new(Editions::of(&published).ok_or(BillingError::NoCatalogue)?);
        if ordered.len() == ORDERS_KEPT {
            ordered.remove(0);
        }
        ordered.push((versions.to_vec(), Arc::clone(&editions)));
        Ok(editions)
    }

    /// The versions in use now, each in effect from its date.
    ///
    /// # Errors
    /// As [`Catalogues::editions`].
    pub(crate) async fn current(&self) -> Result<Arc<Editions>, BillingError> {
        self.editions(&self.versions().await?).await
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

/// First moment at which a version is in effect; `None` for the first that was published, which reaches
/// back without bound.
pub(crate) fn effective_from(
    version: &CatalogueVersion,
    catalogue: &Catalogue,
    is_first: bool,
) -> Option<Timestamp> {
    let default = (!is_first).then_some(version.published_at);
    catalogue.effective_from.or(default)
}
