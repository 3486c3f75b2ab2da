//! The usage store and the billing store in ScyllaDB or Cassandra: as many nodes as totals need, and
//! as many processes as write and read them.
//!
//! What it promises beyond the ports is what a quorum is good for: an acknowledged write is on most
//! replicas of the data centre. What it has not is transactions. So each value is one cell, written
//! with a time that is a place in the log, where the one that was folded further wins whoever writes
//! last; a flush keeps the port's order; and numbers that must have no gaps are drawn by
//! compare-and-set. Only CQL that both servers know is used; the suites run on Cassandra.
//!
//! What it leaves to others: trying again (the consumer's flush does, for ever), backups, and how
//! durable a node's own acknowledgement is (`commitlog_sync`).

mod error;
mod known;
mod options;
mod session;
pub mod schema;
mod statements;
mod client;
mod entries;
mod billing;
mod journal;
mod letters;
mod records;
mod registry;
mod rows;
mod tenants;
mod scan;
mod usage;
mod blocks;

use std::{sync::Arc, time::Instant};

use tracing::info;

use self::client::Client;
pub use self::{
    billing::ScyllaBillingStore,
    error::SchemaError,
    options::{Credentials, HAS_TLS, ScyllaOptions, Tls},
    usage::ScyllaUsageStore,
};

/// A keyspace that is the store: gives out the two ports it serves. Clones are handles of the same
/// connections.
#[derive(Clone)]
pub struct ScyllaStore {
    client: Arc<Client>,
}

impl ScyllaStore {
    /// Connects, and checks that the keyspace has exactly the tables of this version.
    ///
    /// # Errors
    /// See [`SchemaError`]. A cluster that does not answer is an error within the connect timeout.
    pub async fn open(options: ScyllaOptions) -> Result<Self, SchemaError> {
        let session = session::connect(&options).await?;
        schema::check_with(&session, &options).await?;
        let ScyllaOptions { keyspace, writes_in_flight, .. } = &options;
        let started = Instant::now();
        let failed = |failure: error::Failure| {
            let what = format!("prepare the statements for keyspace {keyspace}");
            SchemaError::of(what, failure, options.hosts_listed(), started.elapsed())
        };
        let client = Client::new(session, keyspace, *writes_in_flight).await.map_err(failed)?;
        info!(hosts = options.hosts_listed(), keyspace, "store opened");
        Ok(Self { client: Arc::new(client) })
    }

    /// The usage store in it.
    #[must_use]
    pub fn usage(&self) -> ScyllaUsageStore {
        ScyllaUsageStore::new(Arc::clone(&self.client))
    }

    /// The billing store in it.
    #[must_use]
    pub fn billing(&self) -> ScyllaBillingStore {
        ScyllaBillingStore::new(Arc::clone(&self.client))
    }

    /// Waits until every write that was begun is answered. Writes are `Unavailable` afterwards, on
    /// every handle; connections end with the last of these.
    pub async fn close(self) {
        self.client.link.close().await;
    }
}
