//! Port: the billing store, where catalogues are kept as immutable versions.
//!
//! Contracts, run journals and invoices join it with the billing run.

use std::future::Future;

use crate::{Timestamp, store::StoreError};

/// Catalogues by version.
pub trait BillingStore: Send + Sync + 'static {
    /// Stores a version if there is none of that name, by compare-and-set, and returns what stands
    /// there now: the given one or the one that was there before.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn publish_catalogue(
        &self,
        version: &CatalogueVersion,
    ) -> impl Future<Output = Result<CatalogueVersion, StoreError>> + Send;

    /// Marks a version as effective: every partition has its dimension declarations. Idempotent.
    ///
    /// # Errors
    /// `Conflict` when there is no such version.
    fn activate_catalogue(
        &self,
        version: &str,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// One version.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn catalogue(
        &self,
        version: &str,
    ) -> impl Future<Output = Result<Option<CatalogueVersion>, StoreError>> + Send;

    /// All versions, newest sequence first.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn catalogues(&self) -> impl Future<Output = Result<Vec<CatalogueVersion>, StoreError>> + Send;
}

/// A published catalogue file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueVersion {
    /// Its name, unique.
    pub version: String,
    /// Rises with each publication, from 1; also the version of its dimension declarations. The
    /// store draws it: it is ignored on the way in.
    pub sequence: u64,
    /// The YAML text as it was published.
    pub text: String,
    /// When.
    pub published_at: Timestamp,
    /// True once its declarations are in every partition. Only active versions rate usage.
    pub active: bool,
}
