//! What the CQL adapter costs. A measurement, not a test:
//! `cargo test --release -p storage --test scylla -- --ignored --nocapture`.

#![allow(clippy::float_arithmetic, clippy::print_stdout)]

use std::time::Instant;

use domain::{Timestamp, UsageRow, UsageStore, store::UsageFilter};
use storage::conformance::samples::{LOG, at, flush, generation, key, row, segment};

/// Rows of as many tenants as there are hundreds, in 24 hours of a day.
fn rows(count: u64, start: u64) -> Vec<UsageRow> {
    let mine = segment(0, start);
    let row_of = |i: u64| {
        let (tenant, sku) = (format!("tenant-{:04}", i / 100), format!("sku-{:02}", i % 100 / 24));
        row(key(&tenant, &sku, at((i % 24) as i64 * 3_600), mine), start + 5, 7)
    };
    (0..count).map(row_of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn of_flushing_and_reading() {
    let store = crate::server::OwnStore::open(crate::cassandra_or_skip!()).await;
    let usage = store.usage();
    usage.register(&generation(LOG), None).await.unwrap();
    let mut start = 0;
    for count in [20_000, 20_000, 20_000, 100_000, 100_000] {
        let flush = flush(segment(0, start), rows(count, start), start + 10).into();
        let started = Instant::now();
        usage.flush(flush).await.unwrap();
        let seconds = started.elapsed().as_secs_f64();
        println!("flush of {count} rows: {seconds:.2} s, {:.0} rows/s", count as f64 / seconds);
        start += 1_000;
    }
    let month = month(&usage, start).await;
    for limit in [1_000, 1_000, 10_000, 100_000] {
        let started = Instant::now();
        let mut found = 0;
        let mut after = None;
        loop {
            let page = usage.scan(&month, after.as_ref(), limit).await.unwrap();
            found += page.len();
            if page.len() < limit {
                break;
            }
            after = page.last().map(|row| row.key.clone());
        }
        let seconds = started.elapsed().as_secs_f64();
        println!("a month of {found} rows in pages of {limit}: {seconds:.2} s");
    }
}

/// A tenant's month of 60 resources an hour.
async fn month(usage: &impl UsageStore, start: u64) -> UsageFilter {
    let mine = segment(0, start);
    let rows: Vec<UsageRow> = (0..30 * 24 * 60)
        .map(|i| row(key("month", &format!("sku-{}", i % 60), at(i / 60 * 3_600), mine), start, 7))
        .collect();
    usage.flush(flush(mine, rows, start + 10).into()).await.unwrap();
    let tenant = domain::Tenant::new("month").ok();
    let (from, to) = (Timestamp::MIN, Timestamp::MAX);
    UsageFilter { tenant, product_sku: None, use_unity: None, from, to }
}
