//! The trail over every store: added by several processes, read in pages over months.

use std::time::Duration;

use super::*;
use storage::memory::EntryFault;

use crate::{
    CorrelationId,
    access::{
        change::Change,
        principal::{Parts, Principal},
        samples::{NOW, SetClock, on_every_store},
        writes::WRITES_AT_ONCE_MAX,
    },
    problem::reasons,
};

on_every_store! {
    an_entry_says_who_did_what_to_what_and_how_it_ended
    entries_of_several_processes_are_all_there_once_in_one_order
    as_many_calls_as_may_be_begin_together
    a_range_is_read_in_pages_over_months
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_parts(seconds, 0).unwrap()
}

fn whole(limit: usize) -> TrailQuery {
    let (from, to) = (at(NOW - 86_400 * 365), at(NOW + 86_400 * 365));
    TrailQuery { from, to, who: None, method: None, after: None, limit }
}

async fn read(trail: &Trail<impl BillingStore>, mut query: TrailQuery) -> Vec<AuditEntry> {
    let mut entries = Vec::new();
    loop {
        let page = trail.page(&query).await.unwrap();
        assert!(page.entries.len() <= query.limit);
        entries.extend(page.entries);
        let Some(next) = page.next else { return entries };
        // A client keeps it as text.
        query.after = Some(next.to_string().parse().unwrap());
    }
}

fn request_id() -> CorrelationId {
    CorrelationId::parse("7f3c").unwrap()
}

fn begun(trail: &Trail<impl BillingStore>, who: &Principal, method: &str) -> Begun {
    Begun::new(trail.clock().now(), who, method, &request_id())
}

fn done(target: &str) -> Ended {
    Ended { target: Some(target.to_owned()), ..Ended::new(at(NOW + 1), Outcome::Done) }
}

async fn an_entry_says_who_did_what_to_what_and_how_it_ended(store: impl BillingStore) {
    let (store, clock) = (Arc::new(store), SetClock::new());
    let trail = Trail::new(Arc::clone(&store), clock.shared());
    let call = begun(&trail, &Principal::local(), "POST /v1/catalog");
    let place = trail.begin(&call).await.unwrap();
    assert_eq!(place.to_string(), "2026-01/0");
    let unknown = AuditEntry { begun: call.clone(), ended: None };
    assert_eq!(read(&trail, whole(10)).await, [unknown]);
    clock.pass(1);
    let reason = reasons::CATALOGUE_NOT_FOUND.to_owned();
    let ended = Ended {
        target: Some("2026-01".to_owned()),
        after: Some(Evidence::of("prices: []\n")),
        ..Ended::new(trail.clock().now(), Outcome::Refused { reason })
    };
    trail.end(place, &ended).await.unwrap();
    let entry = AuditEntry { begun: call.clone(), ended: Some(ended.clone()) };
    assert_eq!(read(&trail, whole(10)).await, std::slice::from_ref(&entry));
    trail.end(place, &done("another end")).await.unwrap();
    assert_eq!(read(&trail, whole(10)).await, [entry], "a call has one end");
    let line = serde_json::to_string(&Begun { id: "0".to_owned(), ..call }).unwrap();
    assert_eq!(
        line,
        r#"{"at":"2026-01-01T00:00:00Z","id":"0","#.to_owned()
            + r#""who":{"id":"local","name":"local","kind":"local","#
            + r#""roles":["admin","operator","analyst","viewer","writer"]},"#
            + r#""method":"POST /v1/catalog","request_id":"7f3c"}"#
    );
    assert_eq!(
        serde_json::to_string(&ended).unwrap(),
        r#"{"at":"2026-01-01T00:00:01Z","target":"2026-01","after":{"text":"prices: []\n"},"#
            .to_owned()
            + r#""outcome":"refused","reason":"CATALOGUE_NOT_FOUND"}"#
    );
}

async fn entries_of_several_processes_are_all_there_once_in_one_order(store: impl BillingStore) {
    let (store, clock) = (Arc::new(store), SetClock::new());
    let processes: Vec<_> =
        (0..3).map(|_| Trail::new(Arc::clone(&store), clock.shared())).collect();
    let mut added = Vec::new();
    for round in 0..5 {
        let calls: Vec<_> = processes
            .iter()
            .map(|trail| begun(trail, &Principal::local(), &format!("{round}")))
            .collect();
        let records = processes.iter().zip(&calls).map(async |(trail, call)| {
            let place = trail.begin(call).await?;
            trail.end(place, &done(&call.id)).await.map(|()| place)
        });
        let places = futures_util::future::try_join_all(records).await.unwrap();
        added.extend(places.into_iter().zip(calls));
    }
    added.sort_by_key(|(place, _)| *place);
    let expected = added.into_iter().map(|(_, begun)| {
        let ended = Some(done(&begun.id));
        AuditEntry { begun, ended }
    });
    let read = read(&processes[0], whole(4)).await;
    assert_eq!(read, expected.collect::<Vec<_>>());
    assert_eq!(read.len(), 15);
}

async fn as_many_calls_as_may_be_begin_together(store: impl BillingStore) {
    let trail = Trail::new(Arc::new(store), SetClock::new().shared());
    let calls: Vec<_> = (0..WRITES_AT_ONCE_MAX)
        .map(|call| begun(&trail, &Principal::local(), &call.to_string()))
        .collect();
    let begin = calls.iter().map(|call| trail.begin(call));
    futures_util::future::try_join_all(begin).await.unwrap();
    assert_eq!(read(&trail, whole(1_000)).await.len(), WRITES_AT_ONCE_MAX);
}

async fn a_range_is_read_in_pages_over_months(store: impl BillingStore) {
    let clock = SetClock::new();
    let trail = Trail::new(Arc::new(store), clock.shared());
    let other = Parts { name: "grace".to_owned(), ..Parts::clone(&Principal::local()) };
    let (ada, grace) = (Principal::local(), Principal::new(other));
    // Two calls a week, over five months, one of them empty. One of the two has no end.
    let mut added = Vec::new();
    for week in (0..20).filter(|week| !(9..14).contains(week)) {
        clock.set(NOW + week * 7 * 86_400);
        for (who, method, ended) in [(&ada, "publish", Some(done("c"))), (&grace, "apply", None)] {
            let begun = begun(&trail, who, method);
            let place = trail.begin(&begun).await.unwrap();
            if let Some(ended) = &ended {
                trail.end(place, ended).await.unwrap();
            }
            added.push(AuditEntry { begun, ended });
        }
    }
    for limit in [1, 7, 30, 1_000] {
        assert_eq!(read(&trail, whole(limit)).await, added, "{limit}");
    }
    let (from, to) = (at(NOW + 7 * 86_400), at(NOW + 28 * 86_400));
    let of_days = read(&trail, TrailQuery { from, to, ..whole(4) }).await;
    assert_eq!(of_days, added[2..8]);
    let of_grace = read(&trail, TrailQuery { who: Some("grace".into()), ..whole(4) }).await;
    let is_of_grace = |entry: &AuditEntry| entry.begun.who.name == "grace";
    assert!(of_grace.iter().all(is_of_grace) && of_grace.len() == 15);
    let published = TrailQuery { method: Some("publish".into()), ..whole(4) };
    assert_eq!(read(&trail, published).await.len(), 15);
    let nobody = TrailQuery { who: Some("' OR '1'='1".into()), ..whole(4) };
    assert_eq!(read(&trail, nobody).await, []);
}

#[tokio::test]
async fn a_page_ends_after_ten_thousand_entries_even_if_none_is_asked_for() {
    let store = Arc::new(storage::memory::MemoryBillingStore::new());
    let trail = Trail::new(Arc::clone(&store), SetClock::new().shared());
    let entry = begun(&trail, &Principal::local(), "publish");
    let bytes = serde_json::to_vec(&entry).unwrap();
    for place in 0..=ENTRIES_READ_MAX as u64 {
        store.append_entry("audit-2026-01", place, &bytes).await.unwrap();
    }
    let query = TrailQuery { who: Some("nobody".to_owned()), ..whole(10) };
    let page = trail.page(&query).await.unwrap();
    assert_eq!((page.entries.len(), page.next.unwrap().place), (0, ENTRIES_READ_MAX as u64));
    let rest = trail.page(&TrailQuery { after: page.next, ..query }).await.unwrap();
    assert_eq!(rest.next, None);
}

#[tokio::test]
async fn a_page_of_long_texts_ends_at_its_bound_and_the_next_one_goes_on() {
    let store = Arc::new(storage::memory::MemoryBillingStore::new());
    let trail = Trail::new(store, SetClock::new().shared());
    let text = "x".repeat(TEXT_BYTES_MAX);
    let (before, after) = (Some(Evidence::of(&text)), Some(Evidence::of(&text)));
    let ended = Ended { before, after, ..done("c") };
    for _ in 0..40 {
        let place = trail.begin(&begun(&trail, &Principal::local(), "apply")).await.unwrap();
        trail.end(place, &ended).await.unwrap();
    }
    let page = trail.page(&whole(1_000)).await.unwrap();
    assert_eq!(page.entries.len(), PAGE_BYTES_MAX / (2 * TEXT_BYTES_MAX));
    assert_eq!(read(&trail, whole(1_000)).await.len(), 40);
}

#[tokio::test]
async fn a_page_of_long_names_ends_at_its_bound() {
    let store = Arc::new(storage::memory::MemoryBillingStore::new());
    let trail = Trail::new(store, SetClock::new().shared());
    let long = "x".repeat(TARGET_BYTES_MAX);
    let parts = Parts { id: long.clone(), name: long.clone(), ..Parts::clone(&Principal::local()) };
    let reason = reasons::STORE_UNAVAILABLE.to_owned();
    let of_end =
        Ended { target: Some(long.clone()), ..Ended::new(at(NOW), Outcome::Refused { reason }) };
    let call = Begun { ended: Some(of_end), ..begun(&trail, &Principal::new(parts), &long) };
    // Four names, a UUID, the kind, five roles, the request's id, and the reason.
    let bytes = 4 * TARGET_BYTES_MAX
        + 36
        + "local".len()
        + "adminoperatoranalystviewerwriter".len()
        + "7f3c".len()
        + "STORE_UNAVAILABLE".len();
    let most = PAGE_BYTES_MAX.div_ceil(bytes);
    for _ in 0..=most {
        trail.begin(&Begun { id: uuid::Uuid::new_v4().to_string(), ..call.clone() }).await.unwrap();
    }
    let page = trail.page(&whole(1_000)).await.unwrap();
    assert_eq!(page.entries.len(), most);
    assert_eq!(read(&trail, whole(1_000)).await.len(), most + 1);
}

#[tokio::test]
async fn an_end_whose_answer_was_lost_is_added_once() {
    for fault in [EntryFault::Lost, EntryFault::Added] {
        let store = Arc::new(storage::memory::MemoryBillingStore::new());
        let trail = Trail::new(Arc::clone(&store), SetClock::new().shared());
        let call = begun(&trail, &Principal::local(), "publish");
        let place = trail.begin(&call).await.unwrap();
        (1..END_TRIES_MAX).for_each(|_| store.fail_next_entry(fault));
        trail.end(place, &done("c")).await.unwrap();
        assert_eq!(store.entries("audit-2026-01/0", 0, 9).await.unwrap().len(), 1, "{fault:?}");
        let other = trail.begin(&call).await.unwrap();
        (0..END_TRIES_MAX).for_each(|_| store.fail_next_entry(EntryFault::Lost));
        assert!(matches!(trail.end(other, &done("c")).await, Err(StoreError::Unavailable(_))));
    }
}

#[tokio::test]
async fn a_range_is_at_most_twenty_years() {
    let store = Arc::new(storage::memory::MemoryBillingStore::new());
    let trail = Trail::new(store, SetClock::new().shared());
    let from = at(NOW);
    for (to, is_read) in [
        (at(NOW), false),
        (at(NOW - 1), false),
        (at(NOW + 1), true),
        (from.plus(Duration::from_secs(86_400 * 7_304)), true),
        (from.plus(Duration::from_secs(86_400 * 7_305)), false),
        (Timestamp::MAX, false),
    ] {
        let page = trail.page(&TrailQuery { from, to, ..whole(1) }).await;
        assert_eq!(page.is_ok(), is_read, "{to}");
    }
}

#[test]
fn places_are_read_as_they_are_printed_and_nothing_else_is() {
    for text in ["2026-01/0", "9999-12/18446744073709551615", "0001-01/7"] {
        assert_eq!(text.parse::<TrailPlace>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "/",
        "2026-01",
        "2026-01/",
        "2026-13/0",
        "2026-00/0",
        "0000-01/0",
        "2026-1/0",
        "+026-01/0",
        "2026-01/-1",
        "2026-01/+1",
        "2026-01/18446744073709551616",
        "2026-01/0/0",
        "../../x/0",
        "20260-1/0",
        "2026-01/ 1",
    ] {
        assert_eq!(text.parse::<TrailPlace>(), Err(NotAPlace), "{text:?}");
    }
    assert!("2026-09/9".parse::<TrailPlace>().unwrap() < "2026-10/0".parse().unwrap());
}

#[test]
fn a_long_text_is_kept_as_its_digest() {
    let text = "x".repeat(TEXT_BYTES_MAX);
    assert_eq!(Evidence::of(&text), Evidence::Text(text.clone()));
    let Evidence::Digest { sha256, bytes } = Evidence::of(&format!("{text}x")) else { panic!() };
    assert_eq!((sha256.len(), bytes), (64, TEXT_BYTES_MAX as u64 + 1));
    let change = Change::default();
    change.about(&"é".repeat(TARGET_BYTES_MAX));
    assert_eq!(change.ended(at(NOW), None).target.unwrap().len(), TARGET_BYTES_MAX);
}
