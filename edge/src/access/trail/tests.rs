//! The trail over every store: added by several processes, read in pages over months.

use std::time::Duration;

use super::*;
use crate::{
    Problem,
    access::{
        principal::Parts,
        samples::{NOW, SetClock, on_every_store},
    },
    problem::reasons,
};

on_every_store! {
    an_entry_says_who_did_what_to_what_and_how_it_ended
    entries_of_several_processes_are_all_there_once_in_one_order
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

async fn an_entry_says_who_did_what_to_what_and_how_it_ended(store: impl BillingStore) {
    let (store, clock) = (Arc::new(store), SetClock::new());
    let trail = Trail::new(Arc::clone(&store), clock.shared());
    let refused = Err::<(), _>(Problem::not_found(reasons::CATALOGUE_NOT_FOUND, "no such version"));
    let entry = trail
        .entry(&Principal::local(), "POST /v1/catalog", &request_id())
        .about("2026-01")
        .changing(None, Some("prices: []\n"))
        .ended(&refused);
    assert_eq!(trail.record(&entry).await.unwrap().to_string(), "2026-01/0");
    assert_eq!(read(&trail, whole(10)).await, std::slice::from_ref(&entry));
    let line = serde_json::to_string(&AuditEntry { id: "0".to_owned(), ..entry }).unwrap();
    assert_eq!(
        line,
        r#"{"at":"2026-01-01T00:00:00Z","id":"0","#.to_owned()
            + r#""who":{"id":"local","name":"local","kind":"local","#
            + r#""roles":["admin","operator","analyst","viewer","writer"]},"#
            + r#""method":"POST /v1/catalog","request_id":"7f3c","target":"2026-01","#
            + r#""after":{"text":"prices: []\n"},"#
            + r#""outcome":{"result":"refused","reason":"CATALOGUE_NOT_FOUND"}}"#
    );
}

async fn entries_of_several_processes_are_all_there_once_in_one_order(store: impl BillingStore) {
    let (store, clock) = (Arc::new(store), SetClock::new());
    let processes: Vec<_> =
        (0..3).map(|_| Trail::new(Arc::clone(&store), clock.shared())).collect();
    let mut added = Vec::new();
    for round in 0..5 {
        let entries: Vec<_> = processes
            .iter()
            .map(|trail| trail.entry(&Principal::local(), &format!("{round}"), &request_id()))
            .collect();
        let records = processes.iter().zip(&entries).map(|(trail, entry)| trail.record(entry));
        let places = futures_util::future::try_join_all(records).await.unwrap();
        added.extend(places.into_iter().zip(entries));
    }
    added.sort_by_key(|(place, _)| *place);
    let read = read(&processes[0], whole(4)).await;
    assert_eq!(read, added.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>());
    assert_eq!(read.len(), 15);
}

async fn a_range_is_read_in_pages_over_months(store: impl BillingStore) {
    let clock = SetClock::new();
    let trail = Trail::new(Arc::new(store), clock.shared());
    let other = Parts { name: "grace".to_owned(), ..Parts::clone(&Principal::local()) };
    let (ada, grace) = (Principal::local(), Principal::new(other));
    // Two entries a week, over five months, one of them empty.
    let mut added = Vec::new();
    for week in (0..20).filter(|week| !(9..14).contains(week)) {
        clock.set(NOW + week * 7 * 86_400);
        for (who, method) in [(&ada, "publish"), (&grace, "apply")] {
            let entry = trail.entry(who, method, &request_id());
            trail.record(&entry).await.unwrap();
            added.push(entry);
        }
    }
    for limit in [1, 7, 30, 1_000] {
        assert_eq!(read(&trail, whole(limit)).await, added, "{limit}");
    }
    let (from, to) = (at(NOW + 7 * 86_400), at(NOW + 28 * 86_400));
    let of_days = read(&trail, TrailQuery { from, to, ..whole(4) }).await;
    assert_eq!(of_days, added[2..8]);
    let of_grace = read(&trail, TrailQuery { who: Some("grace".into()), ..whole(4) }).await;
    assert!(of_grace.iter().all(|entry| entry.who.name == "grace") && of_grace.len() == 15);
    let published = TrailQuery { method: Some("publish".into()), ..whole(4) };
    assert_eq!(read(&trail, published).await.len(), 15);
    let nobody = TrailQuery { who: Some("' OR '1'='1".into()), ..whole(4) };
    assert_eq!(read(&trail, nobody).await, []);
}

#[tokio::test]
async fn a_page_ends_after_ten_thousand_entries_even_if_none_is_asked_for() {
    let store = Arc::new(storage::memory::MemoryBillingStore::new());
    let trail = Trail::new(Arc::clone(&store), SetClock::new().shared());
    let entry = trail.entry(&Principal::local(), "publish", &request_id());
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
    let entry = AuditEntry::new(at(NOW), &Principal::local(), "m", &request_id());
    assert_eq!(entry.about(&"é".repeat(1_024)).target.unwrap().len(), 1_024);
}
