//! The lock under which migrations run, one process at a time.
//!
//! A row that is drawn by compare-and-set and goes by itself a minute after its owner last renewed
//! it. It only saves two from changing the schema against one another: every statement may be run
//! twice, so a lock that was lost does no harm beyond words in a server's log.

use std::time::{Duration, Instant};

use super::cluster::Cluster;
use crate::scylla::error::SchemaError;

/// How long the lock outlives its owner.
const LIFE: Duration = Duration::from_secs(60);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Lock<'a> {
    cluster: &'a Cluster<'a>,
    owner: String,
    renewed: Instant,
}

impl<'a> Lock<'a> {
    /// Waits until it is free, a little longer than it can outlive an owner.
    ///
    /// # Errors
    /// `Locked` when it does not become free.
    pub(super) async fn take(cluster: &'a Cluster<'a>) -> Result<Self, SchemaError> {
        let (owner, started) = (uuid::Uuid::new_v4().to_string(), Instant::now());
        let statement = format!(
            "INSERT INTO {{keyspace}}.schema_lock (name, owner) VALUES ('schema', ?) IF NOT EXISTS \
             USING TTL {}",
            LIFE.as_secs()
        );
        while !cluster.decide(&statement, (owner.as_str(),)).await? {
            let waited = started.elapsed();
            if waited > LIFE + cluster.options.connect_timeout {
                let keyspace = cluster.options.keyspace.clone();
                return Err(SchemaError::Locked { keyspace, waited });
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(Self { cluster, owner, renewed: Instant::now() })
    }

    /// Keeps it for another while, where half of its life is over.
    ///
    /// # Errors
    /// `Locked` when somebody else has it.
    pub(super) async fn renew(&mut self) -> Result<(), SchemaError> {
        if self.renewed.elapsed() < LIFE / 2 {
            return Ok(());
        }
        let statement = format!(
            "UPDATE {{keyspace}}.schema_lock USING TTL {} SET owner = ? WHERE name = 'schema' IF \
             owner = ?",
            LIFE.as_secs()
        );
        let owner = self.owner.as_str();
        if !self.cluster.decide(&statement, (owner, owner)).await? {
            let keyspace = self.cluster.options.keyspace.clone();
            return Err(SchemaError::Locked { keyspace, waited: self.renewed.elapsed() });
        }
        self.renewed = Instant::now();
        Ok(())
    }

    /// Lets the next one have it.
    pub(super) async fn release(self) -> Result<(), SchemaError> {
        let statement = "DELETE FROM {keyspace}.schema_lock WHERE name = 'schema' IF owner = ?";
        self.cluster.decide(statement, (self.owner.as_str(),)).await.map(drop)
    }
}
