//! What the laws do not ask: interruptions, many generations and tenants, long bytes, a server that does
//! not answer.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use domain::{
    BillingStore as _, Epoch, LogId, Partition, RowKey, Tenant, Timestamp, UsageRow, UsageStore,
    store::{DeadLetterFilter, Flush, PartitionKey, StoreError, UsageFilter},
};
use storage::{
    conformance::{
        samples::{LOG, at, close, dead_letters, flush, generation, key, progress, row, segment},
        servers::{self, Kind, Server},
    },
    order,
    scylla::{ScyllaOptions, ScyllaStore},
};

use crate::server::{self, Gate, OwnKeyspace, OwnStore};

const EVERYTHING: UsageFilter = UsageFilter {
    tenant: None,
    product_sku: None,
    use_unity: None,
    from: Timestamp::MIN,
    to: Timestamp::MAX,
};

const FIRST: PartitionKey = PartitionKey { log_id: LOG, partition: Partition(0), epoch: Epoch(0) };

/// A closing flush with some of everything.
fn closing_flush() -> Flush {
    let mine = segment(0, 100);
    let rows = (0..200)
        .map(|i| row(key(&format!("t{}", i % 7), "s", at(i * 3_600), mine), 105, 7))
        .collect();
    let mut flush = flush(mine, rows, 110);
    flush.dead_letters =
        vec![dead_letters(mine, domain::DeadLetterReason::TooLate, "acme", (2, 107))];
    flush.close = Some(close(mine, 110));
    flush.rows.sort_by(|a, b| order::compare(&a.key, &b.key));
    flush
}

/// Set in a process that is to be killed: the keyspace it flushes to.
const VICTIM: &str = "PULSO_TEST_SCYLLA_VICTIM";

/// Flushes to the store that `VICTIM` names and is killed at the point that `PULSO_FAULT` names.
#[tokio::test]
#[ignore = "a process that another test starts"]
async fn victim() {
    let keyspace = std::env::var(VICTIM).unwrap();
    let server = servers::shared(Kind::Cassandra).unwrap();
    let store = ScyllaStore::open(server::options(server, &keyspace)).await.unwrap();
    store.usage().flush(closing_flush().into()).await.unwrap();
}

fn kill_a_victim_at(server: &Server, options: &ScyllaOptions, point: &str) {
    use std::os::unix::process::ExitStatusExt as _;
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "store::victim"])
        .env(VICTIM, &options.keyspace)
        .env("PULSO_TEST_CQL", &server.address)
        .env("PULSO_FAULT", point)
        .output()
        .unwrap()
        .status;
    assert_eq!(status.signal(), Some(9), "{point}: {status}");
}

#[tokio::test]
async fn a_flush_that_was_killed_anywhere_is_completed_by_repeating_it() {
    let server = crate::cassandra_or_skip!();
    let store = OwnStore::open(server).await;
    let options = &store.keyspace.options;
    let usage = store.usage();
    usage.register(&generation(LOG), None).await.unwrap();
    let flush = closing_flush();
    let manifest = flush.close.as_ref().unwrap().manifest;

    kill_a_victim_at(server, options, "scylla.before_rows");
    assert_eq!(usage.scan(&EVERYTHING, None, 1_000).await.unwrap(), []);
    assert_eq!(usage.newest_manifest(FIRST).await.unwrap(), None);

    kill_a_victim_at(server, options, "scylla.after_rows");
    assert_eq!(usage.scan(&EVERYTHING, None, 1_000).await.unwrap(), flush.rows);
    assert_eq!(usage.newest_manifest(FIRST).await.unwrap(), None, "rows come first");

    kill_a_victim_at(server, options, "scylla.after_manifest");
    assert_eq!(usage.newest_manifest(FIRST).await.unwrap(), Some(manifest));
    assert_eq!(usage.progress(FIRST).await.unwrap(), None, "the manifest comes first");

    usage.flush(flush.clone().into()).await.unwrap();
    assert_eq!(usage.scan(&EVERYTHING, None, 1_000).await.unwrap(), flush.rows);
    assert_eq!(usage.newest_manifest(FIRST).await.unwrap(), Some(manifest));
    assert_eq!(usage.progress(FIRST).await.unwrap(), flush.progress);
    assert_eq!(
        usage.scan_dead_letters(LOG, &DeadLetterFilter::default(), None, 9).await.unwrap(),
        flush.dead_letters
    );
}

async fn in_pages(usage: &impl UsageStore, filter: &UsageFilter, limit: usize) -> Vec<UsageRow> {
    let mut all: Vec<UsageRow> = Vec::new();
    loop {
        let after: Option<RowKey> = all.last().map(|row| row.key.clone());
        let page = usage.scan(filter, after.as_ref(), limit).await.unwrap();
        let last = page.len() < limit;
        all.extend(page);
        if last {
            return all;
        }
    }
}

#[tokio::test]
async fn generations_and_many_tenants_are_one_order() {
    let store = OwnStore::open(crate::cassandra_or_skip!()).await;
    let usage = store.usage();
    // A day has rows of both generations.
    usage.register(&generation(LOG), None).await.unwrap();
    let second = generation(LogId([9; 16]));
    usage.register(&second, Some(LOG)).await.unwrap();
    let mut all = Vec::new();
    for log_id in [LOG, second.log_id] {
        let mut mine = segment(0, 0);
        mine.log_id = log_id;
        // More tenants than are listed at once.
        let many = (0..300).map(|i| row(key(&format!("t{i:03}"), "s", at(0), mine), 1, i));
        let dense = (0..300).map(|i| {
            let start = at(i / 10 * 3_600);
            row(key("dense", &format!("s{}", i % 10), start, mine), 1, i.into())
        });
        let rows: Vec<UsageRow> = many.chain(dense).collect();
        usage.flush(flush(mine, rows.clone(), 9).into()).await.unwrap();
        all.extend(rows);
    }
    all.sort_by(|a, b| order::compare(&a.key, &b.key));
    for limit in [37, 256, 10_000] {
        assert_eq!(in_pages(&usage, &EVERYTHING, limit).await, all, "limit {limit}");
    }
    let mut tenants: Vec<Tenant> = all.iter().map(|row| row.key.resource.tenant.clone()).collect();
    tenants.dedup();
    assert_eq!(tenants.len(), 301);
    assert_eq!(usage.tenants(None, 1_000).await.unwrap(), tenants);
    assert_eq!(usage.tenants(Some(&tenants[4]), 290).await.unwrap(), tenants[5..295]);
    let tenant = Tenant::new("dense").ok();
    let filter = UsageFilter { tenant, from: at(7_200), to: at(90_000), ..EVERYTHING };
    let expected: Vec<UsageRow> =
        all.iter().filter(|row| order::passes(&filter, &row.key)).cloned().collect();
    assert_eq!(expected.len(), 460);
    assert_eq!(in_pages(&usage, &filter, 41).await, expected);
    // A key between two milliseconds and one of a tenant that is not there.
    let mut between = expected[20].key.clone();
    between.window_start = between.window_start.plus(Duration::from_micros(1));
    let behind = |row: &&UsageRow| order::compare(&row.key, &between).is_gt();
    let rest: Vec<UsageRow> = expected.iter().filter(behind).cloned().collect();
    assert_eq!(usage.scan(&filter, Some(&between), 1_000).await.unwrap(), rest);

    let mut mine = segment(0, 0);
    mine.log_id = second.log_id;
    let places = [(Tenant::new("dense").unwrap(), 0), (Tenant::new("t001").unwrap(), 0)];
    let found = usage.segment_rows(mine, &places).await.unwrap();
    assert_eq!(found.len(), 241, "24 hours of the one, and the one row of the other");
    assert!(found.iter().all(|row| row.key.segment == mine));
}

#[tokio::test]
async fn progress_after_a_close_replaces_progress_before_it_at_the_same_place() {
    let store = OwnStore::open(crate::cassandra_or_skip!()).await;
    let usage = store.usage();
    usage.register(&generation(LOG), None).await.unwrap();
    // Of equal times the greater bytes would win, so many places are tried.
    for folded_to in 100..120 {
        let open = progress(segment(0, 0), folded_to);
        let closed = domain::segment::Progress { anchor: None, ..open };
        let mut flush = flush(segment(0, 0), Vec::new(), folded_to);
        for step in [open, closed, open] {
            flush.progress = Some(step);
            usage.flush(flush.clone().into()).await.unwrap();
        }
        assert_eq!(usage.progress(FIRST).await.unwrap(), Some(closed));
    }
}

#[tokio::test]
async fn a_closed_store_takes_no_more_writes() {
    let OwnStore { store, keyspace: _keyspace } = OwnStore::open(crate::cassandra_or_skip!()).await;
    let usage = store.usage();
    usage.register(&generation(LOG), None).await.unwrap();
    store.close().await;
    let refused = usage.flush(closing_flush().into()).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_server_that_hangs_is_unavailable_in_time_and_then_goes_on() {
    let server = crate::cassandra_or_skip!();
    let gate = Gate::before(server).await;
    let keyspace = OwnKeyspace::empty(server).await;
    let mut options = keyspace.options.clone();
    options.hosts = vec![gate.address.clone()];
    options.request_timeout = Duration::from_secs(1);
    let store = ScyllaStore::open(options).await.unwrap();
    let usage = store.usage();
    let registers = async || usage.register(&generation(LOG), None).await;
    until_available(registers).await;

    gate.open.send_replace(false);
    let started = Instant::now();
    let hangs = usage.flush(closing_flush().into()).await;
    let asked = store.billing().catalogues().await;
    let waited = started.elapsed();
    gate.open.send_replace(true);
    assert!(matches!(hangs, Err(StoreError::Unavailable(_))), "{hangs:?}");
    assert!(matches!(asked, Err(StoreError::Unavailable(_))), "{asked:?}");
    assert!(waited < Duration::from_secs(10), "{waited:?}");

    let flush = closing_flush();
    until_available(async || usage.flush(flush.clone().into()).await).await;
    let found = || usage.scan(&EVERYTHING, None, 1_000);
    assert_eq!(until_available(found).await, flush.rows);
}

/// Tries for a minute, as the consumer does for ever: a busy machine is slow for its short timeout.
pub(crate) async fn until_available<T>(mut what: impl AsyncFnMut() -> Result<T, StoreError>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match what().await {
            Ok(value) => return value,
            // What fails at once would otherwise keep the driver from connecting again.
            Err(StoreError::Unavailable(_)) if Instant::now() < until => {
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}
