//! The billing store in memory.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use domain::{
    BillingStore,
    billing::{Appended, CatalogueHead, CatalogueVersion},
    store::StoreError,
};

use super::lock;
use crate::answers::{beyond_next, check_entry, unknown_catalogue};

/// Catalogues and journals that live as long as their handles.
#[derive(Clone, Debug, Default)]
pub struct MemoryBillingStore {
    versions: Arc<Mutex<BTreeMap<String, CatalogueVersion>>>,
    journals: Arc<Mutex<Journals>>,
}

#[derive(Debug, Default)]
struct Journals {
    entries: BTreeMap<String, Vec<Vec<u8>>>,
    faults: VecDeque<EntryFault>,
}

/// What becomes of an entry whose append is told to answer `Unavailable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryFault {
    /// It is not added.
    Lost,
    /// It is added, if its place is the next one.
    Added,
}

impl MemoryBillingStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next append of an entry fail that no earlier call of this was for.
    pub fn fail_next_entry(&self, fault: EntryFault) {
        lock(&self.journals).faults.push_back(fault);
    }
}

impl Journals {
    fn append(&mut self, journal: &str, place: u64, entry: &[u8]) -> Result<Appended, StoreError> {
        let next = self.entries.get(journal).map_or(0, |entries| entries.len() as u64);
        if place > next {
            return Err(beyond_next(journal, place, next));
        }
        if place < next {
            return Ok(Appended::Taken);
        }
        self.entries.entry(journal.to_owned()).or_default().push(entry.to_vec());
        Ok(Appended::Added)
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

    async fn catalogues(&self) -> Result<Vec<CatalogueHead>, StoreError> {
        let mut versions: Vec<_> =
            lock(&self.versions).values().map(CatalogueVersion::head).collect();
        versions.sort_by_key(|version| std::cmp::Reverse(version.sequence));
        Ok(versions)
    }

    async fn append_entry(
        &self,
        journal: &str,
        place: u64,
        entry: &[u8],
    ) -> Result<Appended, StoreError> {
        check_entry(journal, entry)?;
        let mut journals = lock(&self.journals);
        let unknown = || Err(StoreError::Unavailable("as the test asked".to_owned()));
        match journals.faults.pop_front() {
            None => journals.append(journal, place, entry),
            Some(EntryFault::Lost) => unknown(),
            Some(EntryFault::Added) => {
                journals.append(journal, place, entry).and_then(|_| unknown())
            }
        }
    }

    async fn entries(
        &self,
        journal: &str,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let journals = lock(&self.journals);
        let all = journals.entries.get(journal).map_or(&[][..], Vec::as_slice);
        let rest = usize::try_from(from).ok().and_then(|from| all.get(from..)).unwrap_or(&[]);
        Ok(rest.iter().take(limit).cloned().collect())
    }
}
