//! The CQL adapter against a real Cassandra, one that all tests share
//! (`storage::conformance::servers`).

#![cfg(feature = "scylla")]
#![allow(clippy::unwrap_used)] // In helpers of tests it is as good as in the tests.

#[cfg(feature = "scylla-tls")]
#[path = "../common/fronts.rs"]
mod fronts;

mod cost;
mod journals;
mod proxy;
mod schema;
mod server;
mod store;
mod timeouts;
#[cfg(feature = "scylla-tls")]
mod tls;

use server::OwnKeyspace;
use storage::{
    conformance::{Subject, servers::Server},
    scylla::{ScyllaBillingStore, ScyllaStore, ScyllaUsageStore},
};
use tokio::sync::OnceCell;

/// Empty tables for each law.
struct InKeyspace<P> {
    server: &'static Server,
    keyspace: OnceCell<OwnKeyspace>,
    port: fn(&ScyllaStore) -> P,
}

impl<P> InKeyspace<P> {
    fn new(server: &'static Server, port: fn(&ScyllaStore) -> P) -> Self {
        Self { server, keyspace: OnceCell::new(), port }
    }
}

impl<P> Subject for InKeyspace<P> {
    type Port = P;

    async fn fresh(&self) -> P {
        let keyspace = self.keyspace.get_or_init(|| OwnKeyspace::empty(self.server)).await;
        (self.port)(&ScyllaStore::open(keyspace.options.clone()).await.unwrap())
    }

    async fn reopen(&self, port: P) -> P {
        drop(port);
        self.fresh().await
    }
}

mod usage {
    use super::*;

    fn subject(server: &'static Server) -> InKeyspace<ScyllaUsageStore> {
        InKeyspace::new(server, ScyllaStore::usage)
    }

    storage::usage_conformance!(subject(cassandra_or_skip!()));
    storage::block_conformance!(subject(cassandra_or_skip!()));
}

mod billing {
    use super::*;

    fn subject(server: &'static Server) -> InKeyspace<ScyllaBillingStore> {
        InKeyspace::new(server, ScyllaStore::billing)
    }

    storage::billing_conformance!(subject(cassandra_or_skip!()));
}
