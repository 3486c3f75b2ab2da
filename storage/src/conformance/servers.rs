//! Real Kafka and Cassandra servers for the tests of every crate.
//!
//! A test either uses [`shared`] servers, which it leaves alone and where it makes topics and tables
//! of its own; or it starts its [`Own`] and may break them. The shared ones are those that
//! `PULSO_TEST_KAFKA` (with `PULSO_TEST_KAFKA_SASL`) and `PULSO_TEST_CQL` name (host:port), as they
//! do under `make test` (under `make test-tls` also `PULSO_TEST_KAFKA_TLS`, `PULSO_TEST_CQL_TLS` and
//! the file `PULSO_TEST_TLS_CA`); else this process starts its own through `dev/services` when it first
//! needs them, and they end with it. Where that is impossible a test is skipped with a word, or
//! fails if `PULSO_TEST_REQUIRE=services`.
//!
//! ```ignore
//! let server = storage::server_or_skip!(Kafka);
//! ```

#[cfg(feature = "scylla")]
pub mod keyspaces;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Apache Kafka, one node.
    Kafka,
    /// Apache Cassandra, one node.
    Cassandra,
}

impl Kind {
    /// Its name on the command line of `dev/services`.
    fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Cassandra => "cassandra",
        }
    }

    /// The server that the environment names.
    fn named(self) -> Option<Server> {
        let variable = |name: &str| std::env::var(name).ok();
        let (address, sasl_address, tls_address) = match self {
            Self::Kafka => {
                ("PULSO_TEST_KAFKA", variable("PULSO_TEST_KAFKA_SASL"), "PULSO_TEST_KAFKA_TLS")
            }
            Self::Cassandra => ("PULSO_TEST_CQL", None, "PULSO_TEST_CQL_TLS"),
        };
        let tls = Secured::new(variable(tls_address), variable("PULSO_TEST_TLS_CA"));
        Some(Server { address: variable(address)?, sasl_address, tls })
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// As `host:port`.
    pub address: String,
    /// Kafka's listener with SASL, user `pulso` and password `pulso-test`, where there is one.
    pub sasl_address: Option<String>,
    /// Where it speaks TLS, if it does. Servers that tests start do in a build with `kafka-tls` or
    /// `scylla-tls`.
    pub tls: Option<Secured>,
}

/// Where a server speaks TLS, with a certificate for 127.0.0.1 and no other name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secured {
    /// As `host:port`.
    pub address: String,
    /// The authority's certificate, PEM.
    pub ca_file: PathBuf,
}

impl Secured {
    fn new(address: Option<String>, ca_file: Option<String>) -> Option<Self> {
        Some(Self { address: address?, ca_file: ca_file?.into() })
    }
}

/// The shared server of this kind. Whoever uses it leaves it running.
///
/// The first call may take half a minute, and blocks. `None`, after a word on stderr, where there is
/// none and none can be started.
///
/// # Panics
/// In that case, if `PULSO_TEST_REQUIRE=services`.
pub fn shared(kind: Kind) -> Option<&'static Server> {
    static SERVERS: [OnceLock<Result<Server, String>>; 2] = [const { OnceLock::new() }; 2];
    let server = SERVERS[kind as usize].get_or_init(|| match kind.named() {
        Some(server) => Ok(server),
        // A static is never dropped; the servers end because their parent does.
        None => start(&fresh_home(), &[kind]).map(|mut servers| servers.remove(0).1),
    });
    server.as_ref().map_err(|why| skip(kind.name(), why)).ok()
}

/// The shared Kafka and the shared Cassandra, started at the same time. As [`shared`] otherwise.
pub fn shared_pair() -> Option<(&'static Server, &'static Server)> {
    std::thread::scope(|scope| {
        let kafka = scope.spawn(|| shared(Kind::Kafka));
        let cassandra = shared(Kind::Cassandra);
        let kafka = kafka.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Some((kafka?, cassandra?))
    })
}

/// The shared server of a [`Kind`], or an early return from the test.
#[macro_export]
macro_rules! server_or_skip {
    ($kind:ident) => {
        match $crate::conformance::servers::shared($crate::conformance::servers::Kind::$kind) {
            Some(server) => server,
            None => return,
        }
    };
}

/// Servers that no other test uses, so that a test may break them. Dropped, they are gone at once,
/// with their data. All calls block.
#[derive(Debug)]
pub struct Own {
    home: PathBuf,
    servers: Vec<(Kind, Server)>,
}

impl Own {
    /// Starts servers of these kinds and waits until they answer. `None` as for [`shared`].
    ///
    /// # Panics
    /// As [`shared`].
    pub fn start(kinds: &[Kind]) -> Option<Self> {
        let home = fresh_home();
        let servers = start(&home, kinds).map_err(|why| skip("server of its own", &why)).ok()?;
        Some(Self { home, servers })
    }

    /// Where the server of a kind listens; the same after [`Self::start_again`].
    ///
    /// # Panics
    /// When none of this kind was started.
    pub fn server(&self, kind: Kind) -> &Server {
        let found = self.servers.iter().find(|(started, _)| *started == kind);
        &found.expect("a server of a kind that was started").1
    }

    /// The directory of their data and logs, each under its name.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The server dies by SIGKILL.
    pub fn kill(&self, kind: Kind) {
        self.run(&["kill", kind.name()]);
    }

    /// A server that was killed starts on its data again, and answers.
    pub fn start_again(&self, kind: Kind) {
        let parent = std::process::id().to_string();
        self.run(&["up", kind.name(), "--for-tests", "--parent", &parent]);
    }

    /// The server hangs: its port is open and nothing is answered.
    pub fn pause(&self, kind: Kind) {
        self.run(&["pause", kind.name()]);
    }

    /// A server that hangs goes on.
    pub fn resume(&self, kind: Kind) {
        self.run(&["resume", kind.name()]);
    }

    fn run(&self, arguments: &[&str]) {
        services(&self.home, arguments).unwrap();
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Nobody needs what they would write on a graceful end. Where this fails the servers end
        // with the process, and the next one removes the directory.
        for (kind, _) in &self.servers {
            drop(services(&self.home, &["kill", kind.name()]));
        }
        drop(std::fs::remove_dir_all(&self.home));
    }
}

/// Says why a test is skipped, or fails it.
fn skip(what: &str, why: &str) {
    let is_required = std::env::var_os("PULSO_TEST_REQUIRE").is_some_and(|all| all == "services");
    assert!(!is_required, "required: {what}: {why}");
    eprintln!(
        "skipped: no {what} ({why}). PULSO_TEST_KAFKA and PULSO_TEST_CQL (host:port) name servers, \
         or install Java 17 and Maven and run `dev/services fetch`"
    );
}

fn start(home: &Path, kinds: &[Kind]) -> Result<Vec<(Kind, Server)>, String> {
    let parent = std::process::id().to_string();
    let names = kinds.iter().map(|kind| kind.name());
    let tls = cfg!(any(feature = "kafka-tls", feature = "scylla-tls")).then_some("--tls");
    let options = ["--for-tests", "--kafka-sasl", "--parent", &parent].into_iter().chain(tls);
    let arguments: Vec<&str> = ["up"].into_iter().chain(names).chain(options).collect();
    let listing = services(home, &arguments)?;
    let found = kinds.iter().map(|kind| {
        let server =
            listed(&listing, kind.name()).ok_or_else(|| format!("no address in {listing}"))?;
        Ok((*kind, server))
    });
    found.collect()
}

/// One server out of `services.json`, in which no value holds a bracket or a quote.
fn listed(json: &str, name: &str) -> Option<Server> {
    let entry = json.split_once(&format!("\"{name}\": {{"))?.1.split('}').next()?;
    let value = |key: &str| {
        let after = entry.split_once(&format!("\"{key}\": \""))?.1;
        after.split('"').next().map(str::to_owned)
    };
    let tls = Secured::new(value("tls_address"), value("tls_ca"));
    Some(Server { address: value("address")?, sasl_address: value("sasl_address"), tls })
}

/// Runs the project's script for servers on a directory and gives what it prints.
fn services(home: &Path, arguments: &[&str]) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dev/services");
    let output = Command::new(&script).args(arguments).arg("--dir").arg(home).output();
    let output = output.map_err(|error| format!("{}: {error}", script.display()))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// A new directory of this process, after those of processes that are gone were removed: no
/// destructor runs for the shared servers.
fn fresh_home() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let all = scratch().join("servers");
    for entry in std::fs::read_dir(&all).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(process).exists() {
            // Another process may be doing the same.
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
    all.join(format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// Cargo's directory for what tests write: the tests run as `target/debug/deps/NAME`.
fn scratch() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.ancestors().nth(3).unwrap_or(Path::new("/tmp")).join("tmp")
}
