//! A real Kafka for tests: the one that `PULSO_TEST_KAFKA` names, or one of this process's own.
#![allow(dead_code)] // Each test binary uses a part of it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use domain::place::Generation;
use storage::{
    conformance::samples::{LOG, generation},
    kafka::{
        KafkaLog, KafkaOptions,
        topics::{self, TopicSpec},
    },
};

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Without a password.
    pub(crate) address: String,
    /// With SASL, where this process started it.
    pub(crate) sasl_address: Option<String>,
    /// The directory that the script knows it by, where this process started it.
    pub(crate) home: Option<PathBuf>,
}

/// The server of this process, or an early return from the test that says how to get one.
macro_rules! kafka_or_skip {
    () => {
        match $crate::server::shared() {
            Ok(server) => server,
            Err(why) => {
                assert!(
                    std::env::var_os("PULSO_TEST_REQUIRE").is_none_or(|what| what != "services"),
                    "a Kafka server is required: {why}"
                );
                println!(
                    "skipped: no Kafka server ({why}). PULSO_TEST_KAFKA=host:port names one, or \
                     install Java 17 and Maven and run `services/services fetch`"
                );
                return;
            }
        }
    };
}

/// The one server of this process, started when it is first needed and ended with the process.
pub(crate) fn shared() -> Result<&'static Server, &'static str> {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    let server = SERVER.get_or_init(|| match std::env::var("PULSO_TEST_KAFKA") {
        Ok(address) => Ok(Server { address, sasl_address: None, home: None }),
        Err(_) => own(),
    });
    server.as_ref().map_err(String::as_str)
}

/// A server that no other test uses.
pub(crate) fn own() -> Result<Server, String> {
    let home = fresh_home();
    let told =
        run(&home, &["up", "kafka", "--kafka-sasl", "--parent", &std::process::id().to_string()])?;
    let address = |key: &str| {
        let after = told.split(&format!("\"{key}\": \"")).nth(1)?;
        after.split('"').next().map(str::to_owned)
    };
    let address_given = address("address").ok_or_else(|| format!("no address in {told}"))?;
    Ok(Server { address: address_given, sasl_address: address("sasl_address"), home: Some(home) })
}

/// Runs the project's script for servers and gives what it prints.
pub(crate) fn run(home: &Path, arguments: &[&str]) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/services");
    let output = Command::new(&script)
        .args(arguments)
        .arg("--dir")
        .arg(home)
        .output()
        .map_err(|error| format!("{}: {error}", script.display()))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A directory of this process, after those of processes that are gone were removed.
fn fresh_home() -> PathBuf {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka");
    for entry in std::fs::read_dir(&all).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(pid).exists() {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
    all.join(format!("{}-{}", std::process::id(), uuid::Uuid::new_v4().simple()))
}

impl Server {
    /// Options for a topic of this server, with times that suit a test.
    pub(crate) fn options(&self, topic: &str) -> KafkaOptions {
        let mut options = KafkaOptions::new(&self.address, topic);
        options.group = format!("{topic}-group");
        options.delivery_timeout = Duration::from_secs(20);
        options
    }

    /// A topic for a log of two partitions, made just now.
    pub(crate) async fn topic(&self, name: &str) -> String {
        let topic = fresh_name(name);
        topics::apply(&self.options(&topic), &[TopicSpec::log(&topic, 2)]).await.unwrap();
        topic
    }

    /// A log in a topic of its own.
    pub(crate) async fn log(&self, name: &str) -> KafkaLog {
        let topic = self.topic(name).await;
        KafkaLog::open(self.options(&topic), two_partitions()).await.unwrap()
    }
}

pub(crate) fn fresh_name(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::new_v4().simple())
}

pub(crate) fn two_partitions() -> Generation {
    generation(LOG)
}
