//! The billing store in memory.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
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
    temper: Arc<Mutex<Temper>>,
}

/// How it answers.
#[derive(Clone, Copy, Debug, Default)]
struct Temper {
    is_away: bool,
    leaves_after_write: bool,
    adds_within: Option<Duration>,
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

    /// Answers `Unavailable` to everything from now on.
    pub fn go_away(&self) {
        lock(&self.temper).is_away = true;
    }

    /// Answers again.
    pub fn come_back(&self) {
        lock(&self.temper).is_away = false;
    }

    /// Goes away each time that an entry was added or a catalogue has become active.
    pub fn go_away_after_writes(&self) {
        lock(&self.temper).leaves_after_write = true;
    }

    /// Lets whoever runs beside an append go on before an entry is added, and takes so long for it.
    pub fn add_within(&self, wait: Duration) {
        lock(&self.temper).adds_within = Some(wait);
    }

    fn check_there(&self) -> Result<(), StoreError> {
        match lock(&self.temper).is_away {
            true => Err(as_asked()),
            false => Ok(()),
        }
    }

    fn has_written(&self) {
        let mut temper = lock(&self.temper);
        temper.is_away |= temper.leaves_after_write;
    }

    /// Makes the next append of an entry fail that no earlier call of this was for.
    pub fn fail_next_entry(&self, fault: EntryFault) {
        lock(&self.journals).faults.push_back(fault);
    }
}

fn as_asked() -> StoreError {
    StoreError::Unavailable("as the test asked".to_owned())
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
        self.check_there()?;
        let mut versions = lock(&self.versions);
        let greatest = versions.values().map(|version| version.sequence).max().unwrap_or(0);
        let stands = versions
            .entry(version.version.clone())
            .or_insert_with(|| CatalogueVersion { sequence: greatest + 1, ..version.clone() });
        Ok(stands.clone())
    }

    async fn activate_catalogue(&self, version: &str) -> Result<(), StoreError> {
        self.check_there()?;
        let mut versions = lock(&self.versions);
        let found = versions.get_mut(version).ok_or_else(|| unknown_catalogue(version))?;
        found.active = true;
        self.has_written();
        Ok(())
    }

    async fn catalogue(&self, version: &str) -> Result<Option<CatalogueVersion>, StoreError> {
        self.check_there()?;
        Ok(lock(&self.versions).get(version).cloned())
    }

    async fn catalogues(&self) -> Result<Vec<CatalogueHead>, StoreError> {
        self.check_there()?;
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
        let wait = lock(&self.temper).adds_within;
        if let Some(wait) = wait {
            tokio::task::yield_now().await;
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
        self.check_there()?;
        let mut journals = lock(&self.journals);
        match journals.faults.pop_front() {
            None => {
                let appended = journals.append(journal, place, entry)?;
                if appended == Appended::Added {
                    self.has_written();
                }
                Ok(appended)
            }
            Some(EntryFault::Lost) => Err(as_asked()),
            Some(EntryFault::Added) => {
                journals.append(journal, place, entry).and_then(|_| Err(as_asked()))
            }
        }
    }

    async fn entries(
        &self,
        journal: &str,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        self.check_there()?;
        let journals = lock(&self.journals);
        let all = journals.entries.get(journal).map_or(&[][..], Vec::as_slice);
        let rest = usize::try_from(from).ok().and_then(|from| all.get(from..)).unwrap_or(&[]);
        Ok(rest.iter().take(limit).cloned().collect())
    }
}
