//! Port: the billing store, where catalogues are kept as immutable versions, and all that happens
//! in billing as entries of journals.
//!
//! A journal is a list that only grows, by compare-and-set on its next place. Contracts, runs, the
//! documents of a tenant, numbers and the outbox are journals: who has read a journal to its end and
//! adds to it knows that nobody has added in between, and state is what the entries say, in their
//! order. So two processes that do the same work end with one result, and a process that comes back
//! sees how far the work went.

use std::future::Future;

use crate::{Timestamp, store::StoreError};

/// Catalogues by version, and journals by name.
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

    /// All versions without their texts, newest sequence first. Costs the same however long the texts
    /// are, so it may be asked now and then.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn catalogues(&self) -> impl Future<Output = Result<Vec<CatalogueHead>, StoreError>> + Send;

    /// Adds an entry to a journal if `place` is its next one: 0 for the first entry, then the
    /// number of entries there are. Of all that add at one place, one is `Added`, whatever the bytes.
    /// `Taken` says that another entry stands there: read on from `place`, which gives at least one,
    /// and decide anew. An entry that was added is durable, is in every later read, and never changes.
    ///
    /// A journal's name is a text of 1 to 1,024 bytes, compared byte by byte. An entry is at most
    /// [`ENTRY_BYTES_MAX`] bytes and may be empty. Costs the same however long the journal is.
    ///
    /// # Errors
    /// `Unavailable` when it is not known whether the entry was added: read on from `place` to see.
    /// Where that shows nothing it may still come, until an entry stands at `place`; adding there
    /// again is safe, for one of the two is `Taken`. `Conflict` for an entry that is too large, or a
    /// place beyond the next one; nothing was added then.
    fn append_entry(
        &self,
        journal: &str,
        place: u64,
        entry: &[u8],
    ) -> impl Future<Output = Result<Appended, StoreError>> + Send;

    /// Entries of a journal from a place on, in order, at most `limit` (at least 1); fewer than that
    /// only at its end. A journal that nobody has written to is empty. It has every entry that any
    /// earlier read gave or any append said was added, of any process. What a process was about to
    /// add when it died comes whole or never, and never once an entry stands at its place.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn entries(
        &self,
        journal: &str,
        from: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Vec<u8>>, StoreError>> + Send;
}

/// Most bytes of a journal's entry: what every adapter can hold and send in one piece.
pub const ENTRY_BYTES_MAX: usize = 4 << 20;

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is the journal's entry at that place.
    Added,
    /// The place is another entry's.
    Taken,
}

/// What there is to know of a published catalogue but its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueHead {
    /// Its name, unique.
    pub version: String,
    /// As [`CatalogueVersion::sequence`].
    pub sequence: u64,
    /// When it was published.
    pub published_at: Timestamp,
    /// As [`CatalogueVersion::active`].
    pub active: bool,
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

impl CatalogueVersion {
    /// All but the text.
    #[must_use]
    pub fn head(&self) -> CatalogueHead {
        let Self { version, sequence, published_at, active, .. } = self;
        CatalogueHead {
            version: version.clone(),
            sequence: *sequence,
            published_at: *published_at,
            active: *active,
        }
    }
}
