//! Keyspaces for tests on a shared CQL server: emptied and used again, by one test at a time.
//!
//! Making the tables takes a node seconds, and each takes its heap for as long as it is there; to
//! empty them is much cheaper. So there are as many keyspaces as tests ever ran at the same time,
//! over all processes of this checkout: who holds the lock of a keyspace's file has the keyspace.

use std::{
    fs::{self, File},
    time::Duration,
};

use scylla::client::{session::Session, session_builder::SessionBuilder};
use tokio::sync::Semaphore;

use super::{Server, scratch};
use crate::scylla::{ScyllaOptions, schema};

/// A keyspace that is one test's own. It is given back when this is dropped; nobody may still write
/// to it then.
#[derive(Debug)]
pub struct Keyspace {
    /// Its name.
    pub name: String,
    /// The system gives it up with the process, however that ends.
    _lock: File,
}

impl Keyspace {
    /// Takes one with all tables and no row in them.
    ///
    /// # Panics
    /// When the server does not do as told.
    pub async fn empty(server: &Server) -> Self {
        let (name, lock) = free_name(server, "test");
        let mut options = ScyllaOptions::new([&server.address], &name);
        options.replication = 1;
        // A node that makes tables for several tests at once is slow.
        options.request_timeout = Duration::from_secs(30);
        options.connect_timeout = Duration::from_secs(60);
        let session = session(server).await;
        if schema::check(&options).await.is_ok() {
            delete_rows(&session, &name).await;
        } else {
            /// The node makes one table at a time; more that wait only time out.
            static MAKING: Semaphore = Semaphore::const_new(2);
            let _turn = MAKING.acquire().await.unwrap();
            // It is not there, or another version of the program made it.
            ask(&session, &format!("DROP KEYSPACE IF EXISTS {name}")).await;
            schema::apply(&options).await.unwrap();
        }
        Self { name, _lock: lock }
    }

    /// Takes the name of one that is not there, for a test of how tables are made.
    ///
    /// # Panics
    /// As [`Self::empty`].
    pub async fn missing(server: &Server) -> Self {
        let (name, lock) = free_name(server, "missing");
        ask(&session(server).await, &format!("DROP KEYSPACE IF EXISTS {name}")).await;
        Self { name, _lock: lock }
    }
}

/// A connection to a server, as another program's.
///
/// # Panics
/// When the server does not answer.
pub async fn session(server: &Server) -> Session {
    SessionBuilder::new().known_node(&server.address).build().await.unwrap()
}

/// The first name whose lock nobody holds. Names and locks are those of this checkout and server.
fn free_name(server: &Server, series: &str) -> (String, File) {
    let locks = scratch().join("keyspaces");
    fs::create_dir_all(&locks).unwrap();
    let whose = crc32c::crc32c(format!("{} {}", locks.display(), server.address).as_bytes());
    let mut names = (0..).map(|number| format!("{series}_{whose:08x}_{number}"));
    let free = names.find_map(|name| {
        let lock = File::create(locks.join(&name)).unwrap();
        lock.try_lock().is_ok().then_some((name, lock))
    });
    free.expect("names do not run out")
}

/// Removes every row but those about the schema. A table without rows is left as it is, which is
/// faster than to empty it again.
async fn delete_rows(session: &Session, keyspace: &str) {
    let tables =
        format!("SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{keyspace}'");
    let tables = session.query_unpaged(tables, ()).await.unwrap().into_rows_result().unwrap();
    for row in tables.rows::<(String,)>().unwrap() {
        let (table,) = row.unwrap();
        if table.starts_with("schema_") {
            continue;
        }
        let first = format!("SELECT * FROM {keyspace}.{table} LIMIT 1");
        let first = session.query_unpaged(first, ()).await.unwrap().into_rows_result().unwrap();
        if first.rows_num() > 0 {
            ask(session, &format!("TRUNCATE {keyspace}.{table}")).await;
        }
    }
}

async fn ask(session: &Session, statement: &str) {
    session.query_unpaged(statement, ()).await.unwrap();
}
