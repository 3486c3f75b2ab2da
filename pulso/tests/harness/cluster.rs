//! A cluster for tests: topics and a keyspace of a test's own on real Kafka and CQL servers, which are
//! mostly those that all tests share (`storage::conformance::servers`).

use domain::UsageStore as _;
use storage::{
    conformance::servers::{Server, keyspaces::Keyspace},
    scylla::{ScyllaOptions, ScyllaStore},
};

use super::{Settings, program};

/// Topics and a keyspace of a test's own.
pub(crate) struct Cluster {
    kafka: Server,
    cql: Server,
    keyspace: Keyspace,
    /// Prefix of the topics' names, and the group's name.
    topics: String,
    settings: Settings,
}

impl Cluster {
    /// Takes empty tables and makes topics for a log of 4 partitions. `settings` are those of every
    /// process.
    pub(crate) async fn new((kafka, cql): (&Server, &Server), settings: Settings) -> Self {
        Self::on((kafka, cql), Keyspace::empty(cql).await, settings).await
    }

    /// The same on a keyspace that need not be there: the program's own command makes its tables.
    pub(crate) async fn on(
        (kafka, cql): (&Server, &Server),
        keyspace: Keyspace,
        settings: Settings,
    ) -> Self {
        let topics = format!("t{}", uuid::Uuid::new_v4().simple());
        let cluster = Self { kafka: kafka.clone(), cql: cql.clone(), keyspace, topics, settings };
        tokio::join!(cluster.run(&["topics", "apply"]), cluster.run(&["schema", "apply"]));
        cluster
    }

    /// The same topics and a store that knows the generations of the log and has counted nothing of them.
    pub(crate) async fn with_empty_store(&self) -> Self {
        let (kafka, cql) = (self.kafka.clone(), self.cql.clone());
        let (topics, settings) = (self.topics.clone(), self.settings.clone());
        let keyspace = Keyspace::empty(&cql).await;
        let other = Self { kafka, cql, keyspace, topics, settings };
        let (known, empty) = (self.store().await, other.store().await);
        for generation in known.usage().generations().await.unwrap() {
            empty.usage().register(&generation, None).await.unwrap();
        }
        known.close().await;
        empty.close().await;
        other
    }

    /// Its store, beside the processes.
    pub(crate) async fn store(&self) -> ScyllaStore {
        let mut options = ScyllaOptions::new([&self.cql.address], &self.keyspace.name);
        options.replication = 1;
        ScyllaStore::open(options).await.unwrap()
    }

    fn settings(&self) -> Settings {
        let store = &self.cql.address;
        let store = format!("scylla://{store}?keyspace={}&replication=1", self.keyspace.name);
        self.settings
            .clone()
            .with("PULSO_LOG__URL", format!("kafka://{}", self.kafka.address))
            .with("PULSO_STORE__URL", store)
            .with("PULSO_KAFKA__TOPIC_PREFIX", format!("{}.", self.topics))
            .with("PULSO_KAFKA__GROUP", &self.topics)
            .with("PULSO_KAFKA__SESSION_TIMEOUT", "6s")
            // A tick here is round trips to two servers.
            .with("PULSO_CONSUMER__FOLLOW_INTERVAL", "100ms")
            .with("PULSO_KAFKA__REPLICATION", "1")
            .with("PULSO_KAFKA__MIN_INSYNC_REPLICAS", "1")
    }

    /// Settings of a process on this cluster: `serve` with these stages.
    pub(crate) fn stages(&self, stages: &str) -> Settings {
        self.settings().command(&["serve", "--stage", stages])
    }

    /// Where the brokers are.
    pub(crate) fn brokers(&self) -> &str {
        &self.kafka.address
    }

    /// The whole name of a topic of this cluster.
    pub(crate) fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.topics)
    }

    /// Runs a command on this cluster; it must exit with 0.
    pub(crate) async fn run(&self, arguments: &[&str]) -> String {
        let mut command = program();
        command.args(arguments);
        self.settings().variables().for_each(|(name, value)| {
            command.env(name, value);
        });
        let output = crate::harness::output(command).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }
}
