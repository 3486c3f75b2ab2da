//! The failures that the adapters in memory can be told to have.

#![allow(clippy::unwrap_used)] // In helpers of tests it is as good as in the tests.

mod common;

use std::{
    pin::pin,
    task::{Context, Waker},
};

use common::{FIRST, clock};
use domain::{
    BillingStore, Offset, PulseLog, UsageStore,
    billing::Appended,
    log::{AppendError, LogDrain as _, LogError},
    store::StoreError,
};
use storage::{
    conformance::samples::{LOG, at, close, dead_letters, flush, generation, key, row, segment},
    memory::{
        AppendFault, EntryFault, FlushFault, MemoryBillingStore, MemoryLog, MemoryUsageStore,
    },
};

fn log() -> MemoryLog {
    MemoryLog::new(generation(LOG), clock())
}

#[tokio::test]
async fn each_append_fault_answers_and_keeps_what_its_name_says() {
    for (fault, kept) in [
        (AppendFault::Overloaded, 0),
        (AppendFault::Unavailable, 0),
        (AppendFault::UnknownAndLost, 0),
        (AppendFault::UnknownButAppended, 1),
        (AppendFault::Replaced, 0),
    ] {
        let log = log();
        log.fail_next_append(fault);
        let error = log.append(FIRST, vec![b"a".to_vec()]).await.unwrap_err();
        assert!(
            match fault {
                AppendFault::Overloaded =>
                    matches!(&error, AppendError::Overloaded { records } if *records == [b"a"]),
                AppendFault::Unavailable => matches!(error, AppendError::Unavailable(_)),
                AppendFault::UnknownAndLost | AppendFault::UnknownButAppended =>
                    matches!(error, AppendError::Unknown(_)),
                AppendFault::Replaced => matches!(error, AppendError::Replaced(_)),
            },
            "{fault:?}: {error:?}"
        );
        assert_eq!(log.bounds(FIRST).await.unwrap().end, Offset(kept), "{fault:?}");
        log.append(FIRST, vec![b"b".to_vec()]).await.unwrap();
    }
}

#[tokio::test]
async fn held_acks_wait_and_fill_the_queue() {
    let log = log();
    log.set_queue_requests_max(1);
    let held = log.hold_acks();
    let mut waits = pin!(log.append(FIRST, vec![b"a".to_vec()]));
    assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let refused = log.append(FIRST, vec![b"b".to_vec()]).await;
    assert!(matches!(refused, Err(AppendError::Overloaded { .. })));
    drop(held);
    assert_eq!(waits.await.unwrap(), [Offset(0)]);
    log.append(FIRST, vec![b"c".to_vec()]).await.unwrap();
}

#[tokio::test]
async fn holes_expiry_and_damage_are_met_by_the_drain() {
    let log = log();
    log.append(FIRST, vec![b"a".to_vec(), b"b".to_vec()]).await.unwrap();
    log.skip_offsets(FIRST, 10);
    log.append(FIRST, vec![b"c".to_vec()]).await.unwrap();
    let mut drain = log.drain(FIRST, Offset(0)).unwrap();
    log.expire(FIRST, Offset(1));
    let gone = drain.read(Offset(13), 100, &mut |_| ());
    assert!(matches!(gone, Err(LogError::OutOfRange { wanted: Offset(0), low: Offset(1), .. })));
    let mut lent = Vec::new();
    let mut drain = log.drain(FIRST, Offset(1)).unwrap();
    drain.read(Offset(13), 100, &mut |record| lent.push(record.offset.0)).unwrap();
    assert_eq!(lent, [1, 12]);
    log.damage(FIRST, Offset(12));
    let mut drain = log.drain(FIRST, Offset(2)).unwrap();
    let damaged = drain.read(Offset(13), 100, &mut |_| ());
    assert!(matches!(damaged, Err(LogError::Damaged { offset: Offset(12), .. })));
}

#[tokio::test]
async fn each_flush_fault_stops_where_its_name_says_and_a_repeat_completes_it() {
    let mine = segment(0, 0);
    let rows = vec![row(key("a", "s", at(0), mine), 1, 1), row(key("b", "s", at(0), mine), 1, 1)];
    let mut whole = flush(mine, rows, 5);
    whole.close = Some(close(mine, 5));
    whole.dead_letters = vec![dead_letters(mine, domain::DeadLetterReason::TooLate, "a", (1, 1))];
    for (fault, written) in [
        (FlushFault::BeforeRows, [0, 0, 0, 0]),
        (FlushFault::HalfOfTheRows, [1, 0, 0, 0]),
        (FlushFault::BeforeManifest, [2, 1, 0, 0]),
        (FlushFault::BeforeProgress, [2, 1, 1, 0]),
        (FlushFault::AfterAll, [2, 1, 1, 1]),
    ] {
        let store = MemoryUsageStore::new();
        store.register(&generation(LOG), None).await.unwrap();
        store.fail_next_flush(fault);
        assert!(matches!(store.flush(whole.clone().into()).await, Err(StoreError::Unavailable(_))));
        let counts = |store: &MemoryUsageStore| {
            let stored = store.stored();
            [stored.rows.len(), stored.states.len(), stored.manifests.len(), stored.progress.len()]
        };
        assert_eq!(counts(&store), written, "{fault:?}");
        store.flush(whole.clone().into()).await.unwrap();
        assert_eq!(counts(&store), [2, 1, 1, 1], "{fault:?}");
        assert!(store.lose_row(&whole.rows[0].key));
        assert!(!store.lose_row(&whole.rows[0].key));
    }
}

#[tokio::test]
async fn each_entry_fault_answers_and_keeps_what_its_name_says() {
    for (fault, kept) in [(EntryFault::Lost, 0), (EntryFault::Added, 1)] {
        let store = MemoryBillingStore::new();
        store.fail_next_entry(fault);
        let unknown = store.append_entry("run", 0, b"a").await;
        assert!(matches!(unknown, Err(StoreError::Unavailable(_))), "{fault:?}: {unknown:?}");
        assert_eq!(store.entries("run", 0, 9).await.unwrap().len(), kept, "{fault:?}");
        let again = store.append_entry("run", 0, b"a").await.unwrap();
        assert_eq!(again == Appended::Added, kept == 0, "{fault:?}");
    }
}
