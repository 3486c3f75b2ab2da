//! The CQL adapter against a real Cassandra. `server.rs` says where it comes from.

#![cfg(feature = "scylla")]
#![allow(clippy::unwrap_used)] // In helpers of tests it is as good as in the tests.

mod cost;
mod schema;
mod server;
mod store;

use server::{Half, Server};
use storage::{
    conformance::Subject,
    scylla::{ScyllaBillingStore, ScyllaOptions, ScyllaStore, ScyllaUsageStore},
};
use tokio::sync::OnceCell;

/// Tables of its own for each law.
struct InKeyspace<P> {
    server: &'static Server,
    options: OnceCell<ScyllaOptions>,
    half: Half,
    port: fn(&ScyllaStore) -> P,
}

impl<P> InKeyspace<P> {
    fn new(server: &'static Server, half: Half, port: fn(&ScyllaStore) -> P) -> Self {
        Self { server, options: OnceCell::new(), half, port }
    }
}

impl<P> Subject for InKeyspace<P> {
    type Port = P;

    async fn fresh(&self) -> P {
        let options =
            self.options.get_or_init(|| self.server.half_a_keyspace(self.half)).await.clone();
        (self.port)(&ScyllaStore::open(options).await.unwrap())
    }

    async fn reopen(&self, port: P) -> P {
        drop(port);
        self.fresh().await
    }
}

mod usage {
    use super::*;

    fn subject(server: &'static Server) -> InKeyspace<ScyllaUsageStore> {
        InKeyspace::new(server, Half::Usage, ScyllaStore::usage)
    }

    storage::usage_conformance!(subject(cassandra_or_skip!()));
}

mod billing {
    use super::*;

    fn subject(server: &'static Server) -> InKeyspace<ScyllaBillingStore> {
        InKeyspace::new(server, Half::Billing, ScyllaStore::billing)
    }

    storage::billing_conformance!(subject(cassandra_or_skip!()));
}
