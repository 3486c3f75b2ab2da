//! The billing store in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use domain::{BillingStore, billing::CatalogueVersion, store::StoreError};

use super::lock;
use crate::answers::unknown_catalogue;

/// Catalogues that live as long as their handles.
#[derive(Clone, Debug, Default)]
pub struct MemoryBillingStore {
    versions: Arc<Mutex<BTreeMap<String, CatalogueVersion>>>,
}

impl MemoryBillingStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl BillingStore for MemoryBillingStore {
    async fn publish_catalogue(
        &self,
        version: &CatalogueVersion,
    ) -> Result<CatalogueVersion, StoreError> {
        let mut versions = lock(&self.versions);
        let greatest = versions.values().map(|version| version.sequence).max().unwrap_or(0);
        let stands = versions
            .entry(version.version.clone())
            .or_insert_with(|| CatalogueVersion { sequence: greatest + 1, ..version.clone() });
        Ok(stands.clone())
    }

    async fn activate_catalogue(&self, version: &str) -> Result<(), StoreError> {
        let mut versions = lock(&self.versions);
        let found = versions.get_mut(version).ok_or_else(|| unknown_catalogue(version))?;
        found.active = true;
        Ok(())
    }

    async fn catalogue(&self, version: &str) -> Result<Option<CatalogueVersion>, StoreError> {
        Ok(lock(&self.versions).get(version).cloned())
    }

    async fn catalogues(&self) -> Result<Vec<CatalogueVersion>, StoreError> {
        let mut versions: Vec<_> = lock(&self.versions).values().cloned().collect();
        versions.sort_by_key(|version| std::cmp::Reverse(version.sequence));
        Ok(versions)
    }
}
