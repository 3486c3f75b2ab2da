//! Stores for tests: both that need no server, and one that a test takes away.

use std::time::Duration;

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

/// A store in memory, where whoever runs beside an append has read what it has read.
pub(crate) fn fickle() -> MemoryBillingStore {
    let store = MemoryBillingStore::new();
    store.add_within(Duration::ZERO);
    store
}
