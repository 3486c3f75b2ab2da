//! What the embedded store promises beyond its ports.

#![allow(clippy::unwrap_used)] // In helpers of tests it is as good as in the tests.

mod common;

use std::{sync::mpsc, time::Duration};

use common::{directory, no_fatal, open_store, other_program};
use domain::{
    BillingStore, BlockStore as _, Epoch, Offset, Timestamp, UsageStore,
    blocks::{Level, Plan},
    epochs::{LogEvent, OpenedEpoch},
    store::StoreError,
};
use storage::{
    conformance::{
        samples::{LOG, at, flush, generation, key, row, segment},
        together,
    },
    embedded::{EmbeddedStore, FatalHook, OpenError, STORE_FILE, StoreOptions, inventory},
    memory::MemoryUsageStore,
};

#[tokio::test]
async fn a_flush_for_a_log_that_is_not_registered_is_refused() {
    async fn refuses(usage: impl UsageStore) {
        let refused = usage.flush(flush(segment(0, 0), Vec::new(), 1).into()).await;
        assert!(matches!(refused, Err(StoreError::Conflict(why)) if why.contains("register")));
    }
    let home = tempfile::tempdir().unwrap();
    refuses(open_store(home.path()).unwrap().usage()).await;
    refuses(MemoryUsageStore::new()).await;
}

#[tokio::test]
async fn offsets_that_sqlite_cannot_hold_are_refused_and_harm_no_other_flush() {
    let home = tempfile::tempdir().unwrap();
    let usage = open_store(home.path()).unwrap().usage();
    usage.register(&generation(LOG), None).await.unwrap();
    let mine = segment(0, 0);
    let flush_to =
        |offset: u64| flush(mine, vec![row(key("a", "s", at(0), mine), offset, 1)], offset);
    let flushes = [flush_to(1), flush_to(1 << 63), flush_to(2)];
    let answers = together(flushes.map(|flush| usage.flush(flush.into()))).await;
    assert!(matches!(&answers[1], Err(StoreError::Fatal(why)) if why.contains("offset")));
    assert_eq!((&answers[0], &answers[2]), (&Ok(()), &Ok(())));
}

#[tokio::test]
async fn parameters_that_the_file_cannot_keep_exactly_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let usage = open_store(home.path()).unwrap().usage();
    let mut odd = generation(LOG);
    odd.segment_records_max = u64::MAX;
    usage.register(&odd, None).await.unwrap();
    usage.register(&odd, None).await.unwrap();
    odd.future_tolerance += Duration::from_nanos(1);
    assert!(matches!(usage.register(&odd, None).await, Err(StoreError::Fatal(_))));
}

#[tokio::test]
async fn a_closed_store_answers_that_it_is() {
    let home = tempfile::tempdir().unwrap();
    let store = open_store(home.path()).unwrap();
    store.usage().register(&generation(LOG), None).await.unwrap();
    store.close();
    store.close();
    let closed = |answer| matches!(answer, Err(StoreError::Unavailable(_)));
    assert!(closed(store.usage().register(&generation(LOG), None).await));
    assert!(closed(store.billing().catalogues().await.map(drop)));
    let wal = std::fs::metadata(home.path().join("store.db-wal")).map_or(0, |wal| wal.len());
    assert_eq!(wal, 0, "the write-ahead log is in the file");
}

#[tokio::test]
async fn after_a_failure_the_process_is_told_to_end() {
    let home = tempfile::tempdir().unwrap();
    let (hook, reasons) = mpsc::channel();
    let fatal = FatalHook::new(move |what| hook.send(what.to_owned()).unwrap());
    let options = StoreOptions::new(fatal);
    let store = EmbeddedStore::open(&directory(home.path()).unwrap(), &options).unwrap();
    drop(options);
    other_program(home.path(), STORE_FILE).execute_batch("DROP TABLE generation").unwrap();
    let failed = store.usage().register(&generation(LOG), None).await;
    assert!(matches!(failed, Err(StoreError::Fatal(_))), "{failed:?}");
    assert!(reasons.recv().unwrap().contains("no such table"));
    assert!(reasons.recv().is_err(), "the hook is called once, and its writer has ended");
    let after = store.usage().register(&generation(LOG), None).await;
    assert!(matches!(after, Err(StoreError::Unavailable(_))), "{after:?}");
}

#[tokio::test]
async fn more_reads_and_writes_than_may_wait_are_refused_at_once() {
    let home = tempfile::tempdir().unwrap();
    let options = StoreOptions { writes_queued_max: 2, ..StoreOptions::new(no_fatal()) };
    let store = EmbeddedStore::open(&directory(home.path()).unwrap(), &options).unwrap();
    let other = other_program(home.path(), STORE_FILE);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let usage = store.usage();
    let registered = generation(LOG);
    let mut waiting = Vec::new();
    let refused = loop {
        let mut write = Box::pin(usage.register(&registered, None));
        let waker = std::task::Waker::noop();
        match write.as_mut().poll(&mut std::task::Context::from_waker(waker)) {
            std::task::Poll::Pending => waiting.push(write),
            std::task::Poll::Ready(answer) => break answer,
        }
        assert!(waiting.len() < 10, "the queue has no bound");
    };
    assert!(matches!(refused, Err(StoreError::Unavailable(why)) if why.contains("writes")));
    other.execute_batch("ROLLBACK").unwrap();
    assert!(together(waiting).await.into_iter().all(|answer| answer.is_ok()));
}

#[tokio::test]
async fn an_analyst_reads_totals_with_plain_sql() {
    const ONE: i128 = 1_000_000_000_000_000_000;
    let home = tempfile::tempdir().unwrap();
    let usage = open_store(home.path()).unwrap().usage();
    usage.register(&generation(LOG), None).await.unwrap();
    let (mine, window) = (segment(0, 0), Timestamp::from_parts(1_726_696_800, 0).unwrap());
    let rows = vec![row(key("a", "s", window, mine), 1, 10 * ONE + ONE / 2)];
    usage.flush(flush(mine, rows, 2).into()).await.unwrap();
    let next = segment(1, 0);
    let rows = vec![row(key("a", "s", window, next), 1, -ONE / 4)];
    usage.flush(flush(next, rows, 2).into()).await.unwrap();
    let found: (String, i64, f64) = other_program(home.path(), STORE_FILE)
        .query_row("SELECT window, count, sum_approximate FROM usage", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!(found, ("2024-09-18T22:00:00Z".to_owned(), 2, 10.25));

    let mut map = usage.block_map().await.unwrap().next_version();
    let plan = Plan {
        number: 0,
        level: Level::First,
        until: window,
        ends: vec![Offset(1), Offset(0)],
        edges: Vec::new(),
        ends_at_edge: false,
        merges: Vec::new(),
    };
    map.plan((LOG, Epoch(0)), vec![Offset(0); 2], plan);
    map.swap((LOG, Epoch(0)), 0, (false, None)).unwrap();
    usage.replace_block_map(&map).await.unwrap();
    let left = other_program(home.path(), STORE_FILE)
        .query_row("SELECT count, sum_approximate FROM usage", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, f64>(1)?))
        })
        .unwrap();
    assert_eq!(left, (1, -0.25), "what a block has is in no row");
}

#[tokio::test]
async fn a_store_of_an_earlier_version_is_refused_with_what_to_do_and_left_as_it_is() {
    for version in 1..=3u32 {
        let home = tempfile::tempdir().unwrap();
        drop(open_store(home.path()).unwrap());
        let pragma = format!("PRAGMA user_version = {version}");
        other_program(home.path(), STORE_FILE).execute_batch(&pragma).unwrap();
        let before = std::fs::read(home.path().join(STORE_FILE)).unwrap();
        let error = open_store(home.path()).err().unwrap();
        assert!(
            matches!(error, OpenError::Older { found, supported: 5, .. } if found == version),
            "{error:?}"
        );
        let words = error.to_string();
        for word in ["store.db has format version", "keep log.db", "move store.db", "invoices"] {
            assert!(words.contains(word), "{words}");
        }
        assert_eq!(std::fs::read(home.path().join(STORE_FILE)).unwrap(), before);
    }
}

/// What a person sees who asks the file by SQL.
fn sums_by_sql(home: &std::path::Path) -> Vec<(String, i64)> {
    let connection = other_program(home, STORE_FILE);
    let mut statement =
        connection.prepare("SELECT product_sku, sum(count) FROM usage GROUP BY 1").unwrap();
    let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    found.collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn the_view_for_people_counts_the_active_epoch_only() {
    let home = tempfile::tempdir().unwrap();
    let usage = open_store(home.path()).unwrap().usage();
    usage.register(&generation(LOG), None).await.unwrap();
    for (epoch, sku, start) in [(0, "kept", 0), (0, "old", 10), (1, "new", 10), (1, "new", 20)] {
        let mine = domain::SegmentId { epoch: Epoch(epoch), ..segment(0, start) };
        let rows = vec![row(key("a", sku, at(0), mine), start, 7)];
        let mut flush = flush(mine, rows, start + 1);
        flush.progress.as_mut().unwrap().epoch = Epoch(epoch);
        usage.flush(flush.into()).await.unwrap();
    }
    let counts = |all: &[(&str, i64)]| -> Vec<(String, i64)> {
        all.iter().map(|(sku, count)| ((*sku).to_owned(), *count)).collect()
    };
    assert_eq!(sums_by_sql(home.path()), counts(&[("kept", 1), ("old", 1)]));
    let opened = OpenedEpoch {
        log_id: LOG,
        epoch: Epoch(1),
        base: Epoch(0),
        starts: vec![Offset(10), Offset(0)],
        declared: Vec::new(),
    };
    usage.append_log_event(0, &LogEvent::Opened(opened)).await.unwrap();
    assert_eq!(sums_by_sql(home.path()), counts(&[("kept", 1), ("old", 1)]));
    let activated = LogEvent::Activated { log_id: LOG, epoch: Epoch(1) };
    usage.append_log_event(1, &activated).await.unwrap();
    assert_eq!(sums_by_sql(home.path()), counts(&[("kept", 1), ("new", 2)]));
}

#[tokio::test]
async fn what_is_kept_is_listed_by_kind_beside_its_writer_and_after_it() {
    let home = tempfile::tempdir().unwrap();
    let store = open_store(home.path()).unwrap();
    let usage = store.usage();
    usage.register(&generation(LOG), None).await.unwrap();
    let mine = segment(0, 0);
    let rows = (0..500).map(|hour| row(key("a", "s", at(hour * 3_600), mine), 9, 1)).collect();
    usage.flush(flush(mine, rows, 10).into()).await.unwrap();
    let starts = vec![Offset(0); 2];
    for epoch in [1, 2, 3].map(Epoch) {
        let (starts, declared) = (starts.clone(), Vec::new());
        let opened = OpenedEpoch { log_id: LOG, epoch, base: Epoch(0), starts, declared };
        let place = usage.journal().await.unwrap().entries;
        usage.append_log_event(place, &LogEvent::Opened(opened)).await.unwrap();
    }
    for event in [
        LogEvent::Activated { log_id: LOG, epoch: Epoch(1) },
        LogEvent::Dropped { log_id: LOG, epoch: Epoch(2) },
    ] {
        let place = usage.journal().await.unwrap().entries;
        usage.append_log_event(place, &event).await.unwrap();
    }
    let beside = inventory::of_store(home.path()).unwrap();
    let of = |kind: &str| beside.holdings.iter().find(|of| of.kind == kind).unwrap();
    let of_rows = of("rows of usage");
    assert_eq!((of_rows.entries, of_rows.oldest), (Some(500), Some(at(0))));
    assert!(of_rows.bytes >= 500 * 50 && of("write-ahead log").bytes > 0, "{beside:?}");
    assert_eq!((beside.unused, beside.is_billed), (vec![(LOG, Epoch(3))], false));
    store.close();
    let after = inventory::of_store(home.path()).unwrap();
    let all: u64 = after.holdings.iter().map(|holding| holding.bytes).sum();
    // And the page that says where the others are.
    let file = std::fs::metadata(home.path().join(STORE_FILE)).unwrap().len();
    assert_eq!(all + 16_384, file);
    assert!(inventory::of_log(home.path()).is_err(), "there is none");
}
