//! A cluster for tests: real Kafka and CQL servers, and for each test topics and a keyspace of its
//! own on them.
//!
//! `PULSO_TEST_KAFKA` and `PULSO_TEST_CQL` (host:port) name servers; else this process starts its
//! own once, through `services/services`, and they end with it.

use std::{
    path::PathBuf,
    process::{Command, Output},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use scylla::client::{session::Session, session_builder::SessionBuilder};
use serde_json::Value;

use super::{Settings, program, root};

/// Where the servers listen.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    pub(crate) kafka: String,
    pub(crate) cql: String,
    /// The directory that `services/services` knows them by, where this process started them.
    pub(crate) directory: Option<PathBuf>,
}

/// The servers, or an early return from the test that says how to get them.
#[macro_export]
macro_rules! servers_or_skip {
    () => {
        match $crate::harness::cluster::servers() {
            Ok(servers) => servers,
            Err(why) => {
                assert!(
                    std::env::var_os("PULSO_TEST_REQUIRE").is_none_or(|what| what != "services"),
                    "Kafka and a CQL server are required: {why}"
                );
                eprintln!(
                    "skipped: no Kafka or no CQL server ({why}). PULSO_TEST_KAFKA=host:port and \
                     PULSO_TEST_CQL=host:port name them, or install Java 17 and Maven and run \
                     `services/services fetch`"
                );
                return;
            }
        }
    };
}

/// The servers of this process, started when they are first needed.
pub(crate) fn servers() -> Result<&'static Servers, &'static str> {
    static SERVERS: OnceLock<Result<Servers, String>> = OnceLock::new();
    let named =
        || Some((std::env::var("PULSO_TEST_KAFKA").ok()?, std::env::var("PULSO_TEST_CQL").ok()?));
    let servers = SERVERS.get_or_init(|| match named() {
        Some((kafka, cql)) => Ok(Servers { kafka, cql, directory: None }),
        None => start("shared"),
    });
    servers.as_ref().map_err(String::as_str)
}

/// Servers that no other test uses, so that a test may break them.
pub(crate) fn start_own() -> Result<Servers, String> {
    start("own")
}

fn start(name: &str) -> Result<Servers, String> {
    let directory = fresh_directory(name);
    services(&directory, &["up", "--parent", &std::process::id().to_string()])?;
    let listed =
        std::fs::read(directory.join("services.json")).map_err(|error| error.to_string())?;
    let listed: Value = serde_json::from_slice(&listed).map_err(|error| error.to_string())?;
    let address = |name: &str| listed[name]["address"].as_str().unwrap_or_default().to_owned();
    let (kafka, cql) = (address("kafka"), address("cassandra"));
    Ok(Servers { kafka, cql, directory: Some(directory) })
}

/// A directory of this process, after those of processes that are gone were removed: no destructor
/// runs for a static.
fn fresh_directory(name: &str) -> PathBuf {
    let all = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("services");
    for entry in std::fs::read_dir(&all).into_iter().flatten().flatten() {
        if !std::path::Path::new("/proc").join(entry.file_name()).exists() {
            // Another process may be doing the same.
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
    all.join(std::process::id().to_string()).join(name)
}

/// Runs `services/services` on a directory.
pub(crate) fn services(directory: &std::path::Path, arguments: &[&str]) -> Result<Output, String> {
    let mut command = Command::new(root().join("services/services"));
    // Tests make many tables, each of which takes heap.
    command.env("PULSO_CASSANDRA_HEAP", "2g");
    let output = command.args(arguments).arg("--dir").arg(directory).output();
    let output = output.map_err(|error| format!("services/services does not start: {error}"))?;
    match output.status.success() {
        true => Ok(output),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Topics and a keyspace of a test's own, made by the program's own commands.
pub(crate) struct Cluster {
    servers: Servers,
    keyspace: String,
    /// Prefix of the topics' names, and the group's name.
    topics: String,
    settings: Settings,
}

/// A name that no other test uses, good for a keyspace too.
fn fresh_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("t{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

impl Cluster {
    /// Makes them, with a log of 4 partitions. `settings` are those of every process.
    pub(crate) async fn new(servers: &Servers, settings: Settings) -> Self {
        let (servers, keyspace) = (servers.clone(), fresh_name());
        let cluster = Self { servers, keyspace, topics: fresh_name(), settings };
        cluster.run(&["topics", "apply"]).await;
        cluster.run(&["schema", "apply"]).await;
        cluster
    }

    /// The same tables without a row, with other topics: much faster than other tables.
    pub(crate) async fn emptied(self) -> Self {
        let session = self.session().await;
        let tables = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
        let tables = session.query_unpaged(tables, (&self.keyspace,)).await.unwrap();
        for row in tables.into_rows_result().unwrap().rows::<(String,)>().unwrap() {
            let (table,) = row.unwrap();
            if table != "schema_version" {
                let truncate = format!("TRUNCATE {}.{table}", self.keyspace);
                session.query_unpaged(truncate, ()).await.unwrap();
            }
        }
        let cluster = Self { topics: fresh_name(), ..self };
        cluster.run(&["topics", "apply"]).await;
        cluster
    }

    /// Drops the keyspace: every table takes the server's memory for as long as it is there.
    pub(crate) async fn drop_keyspace(&self) {
        let drop = format!("DROP KEYSPACE {}", self.keyspace);
        self.session().await.query_unpaged(drop, ()).await.unwrap();
    }

    async fn session(&self) -> Session {
        SessionBuilder::new().known_node(&self.servers.cql).build().await.unwrap()
    }

    fn settings(&self) -> Settings {
        let (Servers { kafka, cql, .. }, keyspace) = (&self.servers, &self.keyspace);
        let store = format!("scylla://{cql}?keyspace={keyspace}&replication=1");
        self.settings
            .clone()
            .with("PULSO_LOG__URL", format!("kafka://{kafka}"))
            .with("PULSO_STORE__URL", store)
            .with("PULSO_KAFKA__TOPIC_PREFIX", format!("{}.", self.topics))
            .with("PULSO_KAFKA__GROUP", &self.topics)
            .with("PULSO_KAFKA__SESSION_TIMEOUT", "6s")
            .with("PULSO_KAFKA__REPLICATION", "1")
            .with("PULSO_KAFKA__MIN_INSYNC_REPLICAS", "1")
    }

    /// Settings of a process on this cluster: `serve` with these stages.
    pub(crate) fn stages(&self, stages: &str) -> Settings {
        self.settings().command(&["serve", "--stage", stages])
    }

    /// Runs a command on this cluster; it must exit with 0.
    pub(crate) async fn run(&self, arguments: &[&str]) -> String {
        let mut command = program();
        command.args(arguments);
        self.settings().variables().for_each(|(name, value)| {
            command.env(name, value);
        });
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }
}
