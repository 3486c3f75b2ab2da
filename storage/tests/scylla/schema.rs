//! The schema's own promises.

use std::time::{Duration, Instant};

use domain::UsageStore as _;
use storage::{
    conformance::{
        samples::{LOG, generation},
        servers::{Server, keyspaces},
    },
    scylla::{Credentials, SchemaError, ScyllaOptions, ScyllaStore, schema},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::server::OwnKeyspace;

/// Every migration.
const ALL: [&str; 6] = [
    "0001_usage_store",
    "0002_billing_store",
    "0003_epochs",
    "0004_journals",
    "0005_dead_letter_groups",
    "0006_blocks",
];

/// Runs a statement as another program would.
async fn meddle(server: &Server, options: &ScyllaOptions, statement: &str) {
    let statement = statement.replace("{keyspace}", &options.keyspace);
    keyspaces::session(server).await.query_unpaged(statement, ()).await.unwrap();
}

async fn open_error(options: &ScyllaOptions) -> SchemaError {
    match ScyllaStore::open(options.clone()).await {
        Err(error) => error,
        Ok(_) => panic!("it opened"),
    }
}

#[tokio::test]
async fn two_applies_at_once_both_end_with_the_schema() {
    let server = crate::cassandra_or_skip!();
    let keyspace = OwnKeyspace::missing(server).await;
    let options = keyspace.options.clone();
    let started = Instant::now();
    let (one, other) = tokio::join!(schema::apply(&options), schema::apply(&options));
    println!("two applies took {:?}", started.elapsed());
    let (one, other) = (one.unwrap(), other.unwrap());
    let mut applied = [one.applied, other.applied].concat();
    applied.sort();
    assert_eq!(applied, ALL);
    let again = schema::apply(&options).await.unwrap();
    assert_eq!((again.applied.len(), again.version), (0, schema::VERSION));
    assert_eq!(schema::check(&options).await.unwrap(), again);
}

/// Makes the keyspace say that only migrations up to a version were applied.
async fn forget_above(server: &Server, options: &ScyllaOptions, version: u32) {
    for version in version + 1..=schema::VERSION {
        let applied = format!(
            "DELETE FROM {{keyspace}}.schema_version WHERE registry = 0 AND version = {version} IF EXISTS"
        );
        meddle(server, options, &applied).await;
    }
}

#[tokio::test]
async fn totals_of_an_earlier_version_are_refused_by_every_command_and_left_alone() {
    let server = crate::cassandra_or_skip!();
    let keyspace = OwnKeyspace::empty(server).await;
    let options = keyspace.options.clone();
    let store = ScyllaStore::open(options.clone()).await.unwrap();
    store.usage().register(&generation(LOG), None).await.unwrap();
    store.close().await;
    forget_above(server, &options, 4).await;
    let refused = open_error(&options).await;
    assert!(
        matches!(refused, SchemaError::Unreadable { found: 4, wanted: schema::VERSION, .. }),
        "{refused}"
    );
    for word in [options.keyspace.as_str(), "version 4", "another keyspace in `store.url`"] {
        assert!(refused.to_string().contains(word), "{refused}");
    }
    assert_eq!(schema::apply(&options).await, Err(refused.clone()));
    assert_eq!(schema::check(&options).await, Err(refused.clone()));
    assert_eq!(schema::migrate(&options).await, Err(refused));
    let log = "DELETE FROM {keyspace}.log_generation WHERE registry = 0 AND sequence = 0 IF EXISTS";
    meddle(server, &options, log).await;
    assert_eq!(schema::migrate(&options).await.unwrap().applied, ALL[4..]);
}

#[tokio::test]
async fn a_keyspace_of_another_version_is_refused_with_what_to_do() {
    let server = crate::cassandra_or_skip!();
    let keyspace = OwnKeyspace::missing(server).await;
    let options = keyspace.options.clone();
    let words = open_error(&options).await.to_string();
    assert!(words.contains("run `pulso schema apply`"), "{words}");
    let missing = schema::migrate(&options).await.unwrap_err();
    assert!(matches!(missing, SchemaError::Missing { .. }), "{missing}");

    schema::apply(&options).await.unwrap();
    forget_above(server, &options, 1).await;
    let older = open_error(&options).await;
    assert!(
        matches!(older, SchemaError::Older { found: 1, wanted: schema::VERSION, .. }),
        "{older}"
    );
    assert!(older.to_string().contains("run `pulso schema migrate`"), "{older}");
    assert_eq!(schema::apply(&options).await, Err(older));
    let migrated = schema::migrate(&options).await.unwrap();
    assert_eq!(migrated.applied, ALL[1..]);
    ScyllaStore::open(options.clone()).await.unwrap().close().await;

    let changed = "UPDATE {keyspace}.schema_version SET checksum = 'x' WHERE registry = 0 AND \
                   version = 1 IF EXISTS";
    meddle(server, &options, changed).await;
    let changed = open_error(&options).await;
    assert!(matches!(changed, SchemaError::Changed { version: 1, .. }), "{changed}");
    assert_eq!(schema::apply(&options).await, Err(changed.clone()));
    assert_eq!(schema::migrate(&options).await, Err(changed));

    let newer = "INSERT INTO {keyspace}.schema_version (registry, version, checksum) VALUES \
                 (0, 99, 'x') IF NOT EXISTS";
    meddle(server, &options, newer).await;
    let newer = open_error(&options).await;
    assert!(
        matches!(newer, SchemaError::Newer { found: 99, known: schema::VERSION, .. }),
        "{newer}"
    );
    assert_eq!(schema::migrate(&options).await, Err(newer));
}

#[tokio::test]
async fn another_number_of_replicas_is_said_and_left_alone() {
    let server = crate::cassandra_or_skip!();
    let keyspace = OwnKeyspace::empty(server).await;
    let mut options = keyspace.options.clone();
    assert_eq!(schema::check(&options).await.unwrap().notes, [""; 0]);
    options.replication = 3;
    let report = schema::apply(&options).await.unwrap();
    let [note] = &report.notes[..] else { panic!("{report:?}") };
    assert!(note.contains("keeps 1 replicas") && note.contains("ask for 3"), "{note}");
    options.replication = 1;
    assert_eq!(schema::check(&options).await.unwrap().notes, [""; 0]);
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_named_in_time() {
    // Nobody listens on the one; the other takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_address = silent.local_addr().unwrap().to_string();
    for host in ["127.0.0.1:1".to_owned(), silent_address] {
        let mut options = ScyllaOptions::new([&host], "pulso");
        options.connect_timeout = Duration::from_secs(3);
        let started = Instant::now();
        let words = open_error(&options).await.to_string();
        assert!(words.contains(&host) && words.contains("`store.url`"), "{words}");
        assert!(started.elapsed() < options.connect_timeout + Duration::from_secs(1));
    }
}

/// A server that answers every request with the protocol's error 0x0100, as one does to a user or a
/// password that it does not know.
async fn unfriendly() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut header = [0; 9];
                while client.read_exact(&mut header).await.is_ok() {
                    let length = u32::from_be_bytes(header[5..].try_into().unwrap());
                    client.read_exact(&mut vec![0; length as usize]).await?;
                    let words = b"no such user";
                    let error = [&[0, 0, 1, 0, 0, words.len() as u8], &words[..]].concat();
                    let answer = [0x84, 0, header[2], header[3], 0, 0, 0, 0, error.len() as u8];
                    client.write_all(&[&answer[..], &error].concat()).await?;
                }
                std::io::Result::Ok(())
            });
        }
    });
    address
}

#[tokio::test]
async fn a_user_who_is_not_let_in_is_named_with_the_settings() {
    let mut options = ScyllaOptions::new([unfriendly().await], "pulso");
    let (username, password) = ("alice".to_owned(), "hunter2".to_owned());
    options.credentials = Some(Credentials { username, password });
    let refused = open_error(&options).await;
    assert!(matches!(refused, SchemaError::Refused { .. }), "{refused:?}");
    let words = refused.to_string();
    for word in ["\"alice\"", "`scylla.username`", "`scylla.password`", "no such user"] {
        assert!(words.contains(word), "{words}");
    }
    assert!(!words.contains("hunter2"), "{words}");
}
