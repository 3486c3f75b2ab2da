//! Stores for tests: both that need no server, and one that a test takes away.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{
    BillingStore,
    billing::{Appended, CatalogueHead, CatalogueVersion},
    store::StoreError,
};
use storage::{
    embedded::{
        DataDirectory, EmbeddedBillingStore, EmbeddedStore, FatalHook, OpenOptions, StoreOptions,
    },
    memory::MemoryBillingStore,
};

/// An embedded store in a directory.
pub(in crate::access) fn embedded(directory: &std::path::Path) -> EmbeddedBillingStore {
    let directory = DataDirectory::open(directory, OpenOptions::default()).unwrap();
    let fatal = FatalHook::new(|what| panic!("{what}"));
    EmbeddedStore::open(&directory, &StoreOptions::new(fatal)).unwrap().billing()
}

/// Makes a test of each function for each store.
macro_rules! on_every_store {
    ($($name:ident)*) => {
        mod on_memory {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(storage::memory::MemoryBillingStore::new()).await;
                }
            )*
        }

        mod on_embedded {
            $(
                #[tokio::test]
                async fn $name() {
                    let directory = tempfile::tempdir().unwrap();
                    super::$name(crate::access::samples::embedded(directory.path())).await;
                }
            )*
        }
    };
}

pub(in crate::access) use on_every_store;

/// A store in memory that a test takes away and gives back.
#[derive(Clone, Default)]
pub(crate) struct Fickle {
    store: MemoryBillingStore,
    is_away: Arc<AtomicBool>,
    /// What it takes to add an entry.
    add_millis: Arc<AtomicU64>,
}

impl Fickle {
    pub(in crate::access) fn go_away(&self) {
        self.is_away.store(true, Ordering::SeqCst);
    }

    pub(in crate::access) fn come_back(&self) {
        self.is_away.store(false, Ordering::SeqCst);
    }

    pub(in crate::access) fn add_within(&self, wait: Duration) {
        self.add_millis.store(u64::try_from(wait.as_millis()).unwrap(), Ordering::SeqCst);
    }

    fn there(&self) -> Result<&MemoryBillingStore, StoreError> {
        match self.is_away.load(Ordering::SeqCst) {
            true => Err(StoreError::Unavailable("as the test asked".to_owned())),
            false => Ok(&self.store),
        }
    }
}

impl BillingStore for Fickle {
    async fn publish_catalogue(
        &self,
        version: &CatalogueVersion,
    ) -> Result<CatalogueVersion, StoreError> {
        self.there()?.publish_catalogue(version).await
    }

    async fn activate_catalogue(&self, version: &str) -> Result<(), StoreError> {
        self.there()?.activate_catalogue(version).await
    }

    async fn catalogue(&self, version: &str) -> Result<Option<CatalogueVersion>, StoreError> {
        self.there()?.catalogue(version).await
    }

    async fn catalogues(&self) -> Result<Vec<CatalogueHead>, StoreError> {
        self.there()?.catalogues().await
    }

    async fn append_entry(
        &self,
        journal: &str,
        place: u64,
        entry: &[u8],
    ) -> Result<Appended, StoreError> {
        // Whoever runs beside this one has read what it has read.
        tokio::task::yield_now().await;
        match self.add_millis.load(Ordering::SeqCst) {
            0 => {}
            millis => tokio::time::sleep(Duration::from_millis(millis)).await,
        }
        self.there()?.append_entry(journal, place, entry).await
    }

    async fn entries(
        &self,
        journal: &str,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        self.there()?.entries(journal, from, limit).await
    }
}
