//! Reads that would never end, and what becomes of the write-ahead log meanwhile.

use std::{
    fs,
    sync::mpsc::{Sender, channel},
    time::Duration,
};

use domain::{Timestamp, generation::Generation, store::StoreError};
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::embedded::OpenOptions;

const WITHOUT_END: &str = "
    WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number)
    SELECT count(*) FROM number";

const TARGET: u64 = 1 << 20;
/// What it reaches where the checkpoints fall behind, and the commit that does; four times the target
/// otherwise.
const BYTES_MAX: u64 = 17 * TARGET;

fn open(directory: &TempDir, read_timeout: Duration) -> EmbeddedStore {
    let options = StoreOptions {
        read_timeout,
        wal_bytes_target: TARGET,
        ..StoreOptions::new(FatalHook::new(|what| panic!("{what}")))
    };
    let directory = DataDirectory::open(directory.path(), OpenOptions::default()).unwrap();
    EmbeddedStore::open(&directory, &options).unwrap()
}

async fn read_without_end(store: EmbeddedStore, begun: Sender<()>) -> StoreError {
    let count = move |connection: &Connection| {
        let mut statement = connection.prepare("SELECT count(*) FROM log_event")?;
        let mut rows = statement.query([])?;
        rows.next()?;
        // It has its snapshot, and keeps it.
        begun.send(()).unwrap();
        Ok(connection.query_row(WITHOUT_END, [], |_| Ok(()))?)
    };
    store.read(count).await.unwrap_err()
}

fn assert_was_ended(error: &StoreError) {
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(error.to_string().contains("store.read_timeout"), "{error}");
}

/// Writes of a few bytes, each a page.
async fn write(store: &EmbeddedStore, count: u64) {
    let generation = Generation::new(LogId([1; 16]), 1, 1);
    store.usage().register(&generation, None).await.unwrap();
    for number in 0..count {
        let at = Timestamp::from_micros(i64::try_from(number).unwrap());
        let progress = Progress {
            log_id: generation.log_id,
            partition: domain::Partition(0),
            epoch: domain::Epoch(0),
            folded_to: Offset(0),
            eff_ts: Timestamp::MIN,
            counts: domain::Conservation::default(),
            anchor: None,
            caught_up_at: at,
        };
        let Progress { log_id, partition, epoch, .. } = progress;
        let segment = SegmentId { log_id, partition, epoch, start: Offset(0) };
        let flush = Flush {
            segment,
            rows: vec![],
            stored_before: vec![],
            dead_letters: vec![],
            close: None,
            progress: Some(progress),
        };
        store.usage().flush(flush.into()).await.unwrap();
    }
}

fn wal_bytes(directory: &TempDir) -> u64 {
    fs::metadata(directory.path().join("store.db-wal")).unwrap().len()
}

#[tokio::test]
async fn a_read_without_end_is_ended_after_its_time() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory, Duration::from_millis(20));
    let (begun, _begins) = channel();
    assert_was_ended(&read_without_end(store.clone(), begun).await);
    // The next one has its time from its own beginning.
    assert_eq!(store.usage().log_events().await.unwrap(), []);
}

#[tokio::test]
async fn many_tiny_writes_grow_the_write_ahead_log_to_its_bound_only() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory, Duration::from_secs(3_600));
    // 47 MiB of pages.
    write(&store, 3_000).await;
    let bytes = wal_bytes(&directory);
    assert!(bytes <= BYTES_MAX, "{bytes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_holds_up_the_write_ahead_log_is_ended_when_that_is_too_long() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory, Duration::from_secs(3_600));
    write(&store, 1).await;
    let (begun, begins) = channel();
    let reading = tokio::spawn(read_without_end(store.clone(), begun));
    begins.recv().unwrap();
    write(&store, 3_000).await;
    assert_was_ended(&reading.await.unwrap());
    let bytes = wal_bytes(&directory);
    assert!(bytes <= BYTES_MAX, "{bytes}");
    // Nor does it grow any further.
    write(&store, 1_000).await;
    let bytes = wal_bytes(&directory);
    assert!(bytes <= BYTES_MAX, "{bytes}");
}
