//! A real Cassandra as these tests use it: a keyspace of a test's own, options with times that suit
//! one, and a way to the server that can be shut.

use std::{ops::Deref, time::Duration};

use storage::{
    conformance::servers::{Server, keyspaces::Keyspace},
    scylla::{ScyllaOptions, ScyllaStore},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// The shared server, or an early return from the test.
#[macro_export]
macro_rules! cassandra_or_skip {
    () => {
        storage::server_or_skip!(Cassandra)
    };
}

/// Options for a keyspace, with one replica, for there is one node.
pub(crate) fn options(server: &Server, keyspace: &str) -> ScyllaOptions {
    let mut options = ScyllaOptions::new([&server.address], keyspace);
    options.replication = 1;
    // A node that makes tables for several tests at once is slow.
    options.request_timeout = Duration::from_secs(30);
    options.connect_timeout = Duration::from_secs(60);
    options
}

/// A keyspace that is a test's own until it ends.
pub(crate) struct OwnKeyspace {
    pub(crate) options: ScyllaOptions,
    _keyspace: Keyspace,
}

impl OwnKeyspace {
    /// One with all tables and no row in them.
    pub(crate) async fn empty(server: &Server) -> Self {
        Self::of(server, Keyspace::empty(server).await)
    }

    /// One that is not there.
    pub(crate) async fn missing(server: &Server) -> Self {
        Self::of(server, Keyspace::missing(server).await)
    }

    fn of(server: &Server, keyspace: Keyspace) -> Self {
        Self { options: options(server, &keyspace.name), _keyspace: keyspace }
    }
}

/// A store in a keyspace of a test's own.
pub(crate) struct OwnStore {
    // Dropped in this order: the keyspace is another test's only after the store has ended.
    pub(crate) store: ScyllaStore,
    pub(crate) keyspace: OwnKeyspace,
}

impl OwnStore {
    pub(crate) async fn open(server: &Server) -> Self {
        let keyspace = OwnKeyspace::empty(server).await;
        Self { store: ScyllaStore::open(keyspace.options.clone()).await.unwrap(), keyspace }
    }
}

impl Deref for OwnStore {
    type Target = ScyllaStore;

    fn deref(&self) -> &ScyllaStore {
        &self.store
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
