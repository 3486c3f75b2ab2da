//! A real Cassandra for tests: the one that `PULSO_TEST_CQL` names, or one of this process's own.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock},
    time::Duration,
};

use scylla::client::{session::Session, session_builder::SessionBuilder};
use storage::scylla::{ScyllaOptions, ScyllaStore, schema};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, watch},
    task::JoinSet,
};

/// The port that a keyspace is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Half {
    Usage,
    Billing,
}

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) address: String,
}

/// The server of this process, or an early return from the test that says how to get one.
#[macro_export]
macro_rules! cassandra_or_skip {
    () => {
        match $crate::server::shared() {
            Ok(server) => server,
            Err(why) => {
                assert!(
                    std::env::var_os("PULSO_TEST_REQUIRE").is_none_or(|what| what != "services"),
                    "a Cassandra server is required: {why}"
                );
                println!(
                    "skipped: no Cassandra server ({why}). PULSO_TEST_CQL=host:port names one, or \
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
    let server = SERVER.get_or_init(|| match std::env::var("PULSO_TEST_CQL") {
        Ok(address) => {
            let server = Server { address };
            std::thread::scope(|scope| scope.spawn(|| server.tidy()).join()).unwrap();
            Ok(server)
        }
        Err(_) => own(),
    });
    server.as_ref().map_err(String::as_str)
}

/// A server that ends with this process.
fn own() -> Result<Server, String> {
    let home = fresh_home();
    let told = run(&home, &["up", "cassandra", "--parent", &std::process::id().to_string()])?;
    let after = told.split("\"address\": \"").nth(1);
    let address = after.and_then(|after| after.split('"').next());
    let address = address.ok_or_else(|| format!("no address in {told}"))?.to_owned();
    Ok(Server { address })
}

/// Runs the project's script for servers and gives what it prints.
fn run(home: &Path, arguments: &[&str]) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/services");
    let output = Command::new(&script).args(arguments).arg("--dir").arg(home).output();
    let output = output.map_err(|error| format!("{}: {error}", script.display()))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A directory of this process, after those of processes that are gone were removed.
fn fresh_home() -> PathBuf {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cassandra");
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
    /// Drops what test processes that are gone left behind on a server of this machine: some hundred
    /// tables of each run, of which a small server holds only a thousand.
    #[tokio::main(flavor = "current_thread")]
    async fn tidy(&self) {
        if !self.address.starts_with("127.0.0.1") {
            return;
        }
        let session = self.session().await;
        let all = "SELECT keyspace_name FROM system_schema.keyspaces";
        let all = session.query_unpaged(all, ()).await.unwrap().into_rows_result().unwrap();
        for name in all.rows::<(String,)>().unwrap() {
            let (name,) = name.unwrap();
            let pid = name.strip_prefix("test_").and_then(|rest| rest.split('_').next());
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                // Another process may do the same.
                let drop_it = format!("DROP KEYSPACE IF EXISTS {name}");
                session.query_unpaged(drop_it, ()).await.unwrap();
            }
        }
    }

    /// Options for a keyspace of this server, with one replica, for there is one node.
    pub(crate) fn options(&self, keyspace: &str) -> ScyllaOptions {
        let mut options = ScyllaOptions::new([&self.address], keyspace);
        options.replication = 1;
        // A node that makes tables for many tests at once is slow.
        options.request_timeout = Duration::from_secs(30);
        options.connect_timeout = Duration::from_secs(60);
        options
    }

    /// A keyspace whose tables of this port are empty. It may be the one whose tables of the other
    /// port some test uses: making tables is most of what these tests wait for.
    pub(crate) async fn half_a_keyspace(&self, half: Half) -> ScyllaOptions {
        static FREE: [Mutex<Vec<ScyllaOptions>>; 2] = [const { Mutex::new(Vec::new()) }; 2];
        let [mine, others] = match half {
            Half::Usage => [&FREE[0], &FREE[1]],
            Half::Billing => [&FREE[1], &FREE[0]],
        };
        let free = mine.lock().unwrap().pop();
        if let Some(options) = free {
            return options;
        }
        let options = self.keyspace().await;
        others.lock().unwrap().push(options.clone());
        options
    }

    /// A keyspace with all tables, made just now.
    async fn keyspace(&self) -> ScyllaOptions {
        /// The node makes one table at a time; more that wait only time out.
        static MAKING: Semaphore = Semaphore::const_new(2);
        let options = self.options(&fresh_name());
        let _turn = MAKING.acquire().await.unwrap();
        schema::apply(&options).await.unwrap();
        options
    }

    /// A store whose usage is its own.
    pub(crate) async fn store(&self) -> (ScyllaStore, ScyllaOptions) {
        let options = self.half_a_keyspace(Half::Usage).await;
        (ScyllaStore::open(options.clone()).await.unwrap(), options)
    }

    /// Another program's connection.
    pub(crate) async fn session(&self) -> Session {
        SessionBuilder::new().known_node(&self.address).build().await.unwrap()
    }
}

/// A way to the server that can be shut: what is sent then waits, as if the server hung.
pub(crate) struct Gate {
    pub(crate) address: String,
    pub(crate) open: watch::Sender<bool>,
    /// Ends with it.
    _listening: JoinSet<()>,
}

impl Gate {
    pub(crate) async fn before(server: &Server) -> Self {
        let (open, is_open) = watch::channel(true);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = server.address.clone();
        let mut listening = JoinSet::new();
        listening.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) =
                    TcpStream::connect(&server).await.unwrap().into_split();
                tokio::spawn(pass(from_client, to_server, is_open.clone()));
                tokio::spawn(pass(from_server, to_client, is_open.clone()));
            }
        });
        Self { address, open, _listening: listening }
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut open: watch::Receiver<bool>) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        let is_open = open.wait_for(|open| *open).await.is_ok();
        if !is_open || to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

pub(crate) fn fresh_name() -> String {
    format!("test_{}_{}", std::process::id(), uuid::Uuid::new_v4().simple())
}
