//! Every adapter of this crate through its port's suite.

#![allow(clippy::unwrap_used)] // In helpers of tests it is as good as in the tests.

use std::sync::Arc;

use domain::{Clock, Timestamp};
use storage::{
    conformance::{
        Subject,
        samples::{LOG, at, generation},
    },
    embedded::{
        DataDirectory, EmbeddedBillingStore, EmbeddedLog, EmbeddedStore, EmbeddedUsageStore,
        FatalHook, LogOptions, OpenOptions, StoreOptions,
    },
    memory::{MemoryBillingStore, MemoryLog, MemoryOutlet, MemoryUsageStore},
};

fn clock() -> Arc<dyn Clock> {
    Arc::new(|| -> Timestamp { at(1_700_000_000) })
}

struct InMemory<P>(fn() -> P);

impl<P> Subject for InMemory<P> {
    type Port = P;

    async fn fresh(&self) -> P {
        (self.0)()
    }

    async fn reopen(&self, port: P) -> P {
        port
    }
}

struct OnDisk<P> {
    directory: tempfile::TempDir,
    open: fn(&DataDirectory) -> P,
}

impl<P> OnDisk<P> {
    fn new(open: fn(&DataDirectory) -> P) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), open }
    }
}

impl<P> Subject for OnDisk<P> {
    type Port = P;

    async fn fresh(&self) -> P {
        (self.open)(&DataDirectory::open(self.directory.path(), OpenOptions::default()).unwrap())
    }

    async fn reopen(&self, port: P) -> P {
        drop(port); // The last handle: it closes, and lets go of the directory.
        self.fresh().await
    }
}

fn fatal() -> FatalHook {
    FatalHook::new(|what| panic!("{what}"))
}

fn log(directory: &DataDirectory) -> EmbeddedLog {
    EmbeddedLog::open(directory, LogOptions::new(generation(LOG), clock(), fatal())).unwrap()
}

fn usage(directory: &DataDirectory) -> EmbeddedUsageStore {
    EmbeddedStore::open(directory, &StoreOptions::new(fatal())).unwrap().usage()
}

fn billing(directory: &DataDirectory) -> EmbeddedBillingStore {
    EmbeddedStore::open(directory, &StoreOptions::new(fatal())).unwrap().billing()
}

mod memory_outlet {
    use super::*;
    storage::outlet_conformance!(InMemory(MemoryOutlet::new));
}

mod memory_log {
    use super::*;
    storage::log_conformance!(InMemory(|| MemoryLog::new(generation(LOG), clock())));
}

mod memory_usage {
    use super::*;
    storage::usage_conformance!(InMemory(MemoryUsageStore::new));
}

mod memory_blocks {
    use super::*;
    storage::block_conformance!(InMemory(MemoryUsageStore::new));
}

mod memory_billing {
    use super::*;
    storage::billing_conformance!(InMemory(MemoryBillingStore::new));
}

mod embedded_log {
    use super::*;
    storage::log_conformance!(OnDisk::new(log));
}

mod embedded_usage {
    use super::*;
    storage::usage_conformance!(OnDisk::new(usage));
}

mod embedded_blocks {
    use super::*;
    storage::block_conformance!(OnDisk::new(usage));
}

mod embedded_billing {
    use super::*;
    storage::billing_conformance!(OnDisk::new(billing));
}
