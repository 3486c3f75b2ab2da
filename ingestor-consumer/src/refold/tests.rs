//! Folding again gives the stored rows, and of each the pulses that counted and no other.

use domain::{
    Clock, DeadLetterReason, Epoch, LogId, Partition, Quantity, Tenant, Timestamp, UsageRow,
    Window,
    generation::Generation,
    refold::{
        Identity, Outcomes, OutcomesPiece, Question, Refold, RefoldError, Refolded, RequestPlace,
        RowPulses,
    },
};
use prost::Message;
use proto::{record, v1};
use storage::memory::{MemoryLog, MemoryUsageStore};

use super::*;
use crate::{Consumer, ConsumerConfig, ConsumerPorts};

const NOW: i64 = 2_000_000_000;

fn now() -> Timestamp {
    Timestamp::from_parts(NOW, 0).unwrap()
}

fn generation() -> Generation {
    let mut generation = Generation::new(LogId([5; 16]), 1, 77);
    generation.segment_records_max = 4;
    generation
}

fn key() -> PartitionKey {
    PartitionKey { log_id: generation().log_id, partition: Partition(0), epoch: Epoch(0) }
}

fn pulse(tenant: &str, id: &str, amount: i64, seconds: i64) -> v1::Pulse {
    v1::Pulse {
        tenant: tenant.into(),
        product_sku: "vm".into(),
        use_unity: "hour".into(),
        used_amount: Some(v1::Decimal { unscaled: amount, scale: 0 }),
        time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        source: if id.is_empty() { String::new() } else { "meter".into() },
        id: id.into(),
        ..v1::Pulse::default()
    }
}

fn record_of(source: v1::SourceBatch, pulses: &[v1::Pulse]) -> Vec<u8> {
    let sent = pulses.len() as u32;
    let fields = v1::LogRecord { envelope: None, pulses: pulses.to_vec() }.encode_to_vec();
    let source = v1::SourceBatch { sent, correlation_id: "call".into(), ..source };
    record::encode(&generation(), vec![source], sent, [&fields[..]].into_iter())
}

fn by_id(pulses: &[v1::Pulse]) -> Vec<u8> {
    record_of(v1::SourceBatch::default(), pulses)
}

fn numbered(first_sequence: u64, pulses: &[v1::Pulse]) -> Vec<u8> {
    let producer_id = vec![1; 16];
    record_of(v1::SourceBatch { producer_id, first_sequence, ..Default::default() }, pulses)
}

fn backfill(first_sequence: u64, pulses: &[v1::Pulse]) -> Vec<u8> {
    let backfill = Some(v1::Backfill { name: "old".into(), content_digest: b"d".to_vec() });
    record_of(v1::SourceBatch { backfill, first_sequence, ..Default::default() }, pulses)
}

/// Pulses of every identity, each sent twice, in several segments; one is late, one another tenant's.
fn bodies() -> Vec<Vec<u8>> {
    let old = NOW - 100 * 86_400;
    let pairs = [
        by_id(&[pulse("acme", "a", 1, NOW), pulse("acme", "b", 2, NOW), pulse("zed", "c", 4, NOW)]),
        numbered(7, &[pulse("acme", "", 8, NOW), pulse("acme", "", 16, NOW - 3_600)]),
        backfill(3, &[pulse("acme", "", 32, old), pulse("acme", "", 64, old)]),
        by_id(&[pulse("acme", "late", 128, old), pulse("acme", "", 256, NOW)]),
    ];
    pairs.iter().chain(&pairs).cloned().collect()
}

/// Everything consumed and every segment closed.
async fn consumed(bodies: Vec<Vec<u8>>) -> (Arc<MemoryLog>, Arc<MemoryUsageStore>) {
    let clock: Arc<dyn Clock> = Arc::new(now);
    let log = Arc::new(MemoryLog::new(generation(), Arc::clone(&clock)));
    let store = Arc::new(MemoryUsageStore::new());
    for body in bodies {
        log.append(Partition(0), vec![body]).await.unwrap();
    }
    let boundary = record::encode_boundary(&generation(), "test");
    log.append(Partition(0), vec![boundary]).await.unwrap();
    let config = ConsumerConfig::for_cores(2);
    let feed = None::<Arc<domain::NoFeed>>;
    let ports = ConsumerPorts { log: Arc::clone(&log), store: Arc::clone(&store), feed, clock };
    let mut consumer = Consumer::start(ports, config).await.unwrap();
    consumer.tick().await.unwrap();
    consumer.shutdown().await;
    (log, store)
}

fn stored(store: &MemoryUsageStore) -> Vec<UsageRow> {
    let rows = store.stored().rows.into_iter();
    let mut rows: Vec<UsageRow> = rows.map(|(key, cell)| UsageRow { key: key.0, cell }).collect();
    rows.retain(|row| row.key.resource.tenant.as_str() == "acme");
    rows.sort_by(|one, other| one.key.cmp(&other.key));
    rows
}

fn question(rows: &[UsageRow]) -> Question {
    Question {
        tenant: Tenant::new("acme").unwrap(),
        window: Window { start: Timestamp::MIN, end: Timestamp::MAX },
        stretches: vec![(key(), Offset(0)..Offset(u64::MAX))],
        pulses_of: rows.iter().map(|row| row.key.clone()).collect(),
        pulses_max: 1_000,
    }
}

async fn ask(log: &Arc<MemoryLog>, store: &Arc<MemoryUsageStore>, question: Question) -> Refolded {
    let mut found =
        Refolder::new(vec![Arc::clone(log)], Arc::clone(store)).refold(question).await.unwrap();
    found.rows.sort_by(|one, other| one.key.cmp(&other.key));
    found
}

fn sum(pulses: &RowPulses) -> i128 {
    pulses.listed.iter().map(|pulse| pulse.amount.raw() / Quantity::ONE.raw()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_again_and_their_pulses_add_up_to_them() {
    let (log, store) = consumed(bodies()).await;
    let rows = stored(&store);
    assert_eq!(rows.len(), 4, "two segments now and a part of each, an hour ago, and long ago");
    let found = ask(&log, &store, question(&rows)).await;
    assert_eq!((&found.rows, found.segments, &found.missing[..]), (&rows, 3, &[][..]));
    for row in &rows {
        let (pulses, aggregate) = (&found.pulses[&row.key], row.cell.aggregate);
        assert_eq!((pulses.count, pulses.listed.len() as u64), (aggregate.count, aggregate.count));
        assert_eq!(sum(pulses), aggregate.sum.raw() / Quantity::ONE.raw(), "{:?}", row.key);
    }
    let identities: Vec<Identity> =
        found.pulses.into_values().flat_map(|row| row.listed).map(|pulse| pulse.identity).collect();
    let id = |id: &str| Identity::Id { source: "meter".into(), id: id.into() };
    let producer_id = u128::from_be_bytes([1; 16]);
    for expected in [
        id("a"),
        id("b"),
        Identity::Numbered { producer_id, sequence: 7 },
        Identity::Numbered { producer_id, sequence: 8 },
        Identity::Backfill { name: "old".into(), row: 3 },
        Identity::Backfill { name: "old".into(), row: 4 },
    ] {
        assert_eq!(
            identities.iter().filter(|found| **found == expected).count(),
            1,
            "{expected:?}"
        );
    }
    // A pulse without identity counts each time it is sent.
    assert_eq!(identities.iter().filter(|found| **found == Identity::None).count(), 2);
    assert_eq!(identities.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pulse_that_would_overflow_its_total_is_none_of_its_pulses() {
    let pulses: Vec<_> = (0..20).map(|_| pulse("acme", "", i64::MAX, NOW)).collect();
    let (log, store) = consumed(vec![by_id(&pulses)]).await;
    let rows = stored(&store);
    let found = ask(&log, &store, question(&rows)).await;
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((row.cell.aggregate.count, found.pulses[&row.key].count), (18, 18));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_segment_alone_gives_what_it_gives_among_all() {
    let (log, store) = consumed(bodies()).await;
    let rows = stored(&store);
    for start in rows.iter().map(|row| row.key.segment.start) {
        let one = start..Offset(start.0 + 1);
        let found =
            ask(&log, &store, Question { stretches: vec![(key(), one)], ..question(&rows) });
        let found = found.await;
        let expected: Vec<&UsageRow> =
            rows.iter().filter(|row| row.key.segment.start == start).collect();
        assert_eq!(found.rows.iter().collect::<Vec<_>>(), expected);
        assert_eq!(found.segments, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_that_are_apart_do_not_run_into_one() {
    let (log, store) = consumed([bodies(), bodies()].concat()).await;
    let rows = stored(&store);
    let stretches = [0, 8].map(|start| (key(), Offset(start)..Offset(start + 1))).to_vec();
    let found = ask(&log, &store, Question { stretches, ..question(&rows) }).await;
    let expected: Vec<&UsageRow> =
        rows.iter().filter(|row| [0, 8].contains(&row.key.segment.start.0)).collect();
    assert_eq!((found.rows.iter().collect::<Vec<_>>(), found.segments), (expected, 2));
    let last = rows.iter().find(|row| row.key.segment.start == Offset(8)).unwrap();
    assert_eq!((found.pulses[&last.key].count, last.cell.aggregate.count), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_most_pulses_are_counted_and_not_listed() {
    let (log, store) = consumed(bodies()).await;
    let rows = stored(&store);
    let found = ask(&log, &store, Question { pulses_max: 3, ..question(&rows) }).await;
    let listed: usize = found.pulses.values().map(|row| row.listed.len()).sum();
    let count: u64 = found.pulses.values().map(|row| row.count).sum();
    assert_eq!((listed, count), (3, 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_has_no_more_is_named() {
    let (log, store) = consumed(bodies()).await;
    let rows = stored(&store);
    log.expire(Partition(0), Offset(5));
    let found = ask(&log, &store, question(&rows)).await;
    let missing: Vec<Offset> = found.missing.iter().map(|segment| segment.start).collect();
    assert_eq!((missing, found.segments), (vec![Offset(0), Offset(4)], 1));
    let elsewhere = Refolder::<MemoryLog, _>::new(Vec::new(), Arc::clone(&store));
    let found = elsewhere.refold(question(&rows)).await.unwrap();
    assert_eq!((found.missing.len(), found.segments), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_log_in_its_place_is_refused() {
    let (_, store) = consumed(bodies()).await;
    let mut others = bodies();
    others.swap(1, 3);
    let (other, _) = consumed(others).await;
    let refused = Refolder::new(vec![other], Arc::clone(&store)).refold(question(&[])).await;
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("offset 3 is not the one that was counted"), "{message}");
}

type Consumed = (Arc<MemoryLog>, Arc<MemoryUsageStore>);

async fn piece(
    (log, store): &Consumed,
    request_id: &str,
    offsets: Range<u64>,
) -> Result<OutcomesPiece, RefoldError> {
    let offsets = Offset(offsets.start)..Offset(offsets.end);
    let request = RequestPlace { key: key(), offsets, request_id: request_id.to_owned() };
    Refolder::new(vec![Arc::clone(log)], Arc::clone(store)).outcomes(request).await
}

/// Of a stretch that lies in one segment.
async fn outcomes(consumed: &Consumed, request_id: &str, offsets: Range<u64>) -> Outcomes {
    let end = Offset(offsets.end);
    let OutcomesPiece { outcomes, next } = piece(consumed, request_id, offsets).await.unwrap();
    assert_eq!(next, end);
    outcomes
}

/// Counted, duplicate, and the reasons with their counts.
fn numbers(outcomes: &Outcomes) -> (u64, u64, Vec<(DeadLetterReason, u64)>) {
    let set_aside = outcomes.set_aside.iter().map(|(reason, set_aside)| (*reason, set_aside.count));
    (outcomes.counted, outcomes.duplicate, set_aside.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_brought_is_counted_a_duplicate_or_set_aside() {
    let consumed = consumed(bodies()).await;
    let late = |count| vec![(DeadLetterReason::TooLate, count)];
    // Everything is sent twice; a late id is late again, and a pulse without identity counts again.
    assert_eq!(numbers(&outcomes(&consumed, "call", 0..4).await), (8, 0, late(1)));
    assert_eq!(numbers(&outcomes(&consumed, "call", 4..8).await), (1, 7, late(1)));
    // From the middle of a segment, what came before it is known.
    assert_eq!(numbers(&outcomes(&consumed, "call", 5..6).await), (0, 2, vec![]));
    // A stretch over segments is answered one by one.
    let first = piece(&consumed, "call", 1..u64::MAX).await.unwrap();
    assert_eq!((numbers(&first.outcomes), first.next), ((5, 0, late(1)), Offset(4)));
    // Behind all that is folded nothing is known.
    let error = piece(&consumed, "call", 9..u64::MAX).await.unwrap_err().to_string();
    assert!(error.contains("record 9 was not folded yet"), "{error}");
    let set_aside = &outcomes(&consumed, "call", 0..4).await.set_aside[&DeadLetterReason::TooLate];
    let time = Timestamp::from_parts(NOW - 100 * 86_400, 0).unwrap();
    assert_eq!(set_aside.times, Some((time, time)));
    assert!(set_aside.message.contains("send old usage as a backfill"), "{}", set_aside.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_request_brought_in_the_same_record_is_not_counted() {
    let source = |correlation_id: &str, sent| v1::SourceBatch {
        sent,
        correlation_id: correlation_id.into(),
        ..v1::SourceBatch::default()
    };
    // Of three that were sent the second was refused, so that it is not in the record.
    let one = v1::SourceBatch { refused: vec![1], ..source("one", 3) };
    let pulses = ["a", "b", "a", "c", "d"].map(|id| pulse("acme", id, i64::MAX, NOW));
    let fields = v1::LogRecord { envelope: None, pulses: pulses.to_vec() }.encode_to_vec();
    let fields = [&fields[..]].into_iter();
    let body = record::encode(&generation(), vec![one, source("other", 3)], 5, fields);
    let consumed = consumed(vec![body]).await;
    assert_eq!(numbers(&outcomes(&consumed, "one", 0..1).await), (2, 0, vec![]));
    assert_eq!(numbers(&outcomes(&consumed, "other", 0..1).await), (2, 1, vec![]));
    assert_eq!(outcomes(&consumed, "neither", 0..1).await, Outcomes::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pulse_that_would_overflow_its_total_is_set_aside() {
    let pulses: Vec<_> = (0..20).map(|_| pulse("acme", "", i64::MAX, NOW)).collect();
    let consumed = consumed(vec![by_id(&pulses)]).await;
    let overflow = vec![(DeadLetterReason::Overflow, 2)];
    assert_eq!(numbers(&outcomes(&consumed, "call", 0..1).await), (18, 0, overflow));
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_memory_has_no_room_for_change_no_answer() {
    let (log, store) = consumed(bodies()).await;
    let scratch = tempfile::tempdir().unwrap();
    let nowhere = scratch.path().join("nothing was written here");
    let ids = IdsMemory { bytes_max: 0, scratch: nowhere.as_path().into() };
    let refolder = Refolder::new(vec![Arc::clone(&log)], Arc::clone(&store));
    let refolder = refolder.keeping_ids_in(ids.clone());
    let offsets = Offset(4)..Offset(8);
    let request = RequestPlace { key: key(), offsets, request_id: "call".to_owned() };
    let found = refolder.outcomes(request).await.unwrap();
    assert_eq!(numbers(&found.outcomes), (1, 7, vec![(DeadLetterReason::TooLate, 1)]));
    assert!(nowhere.exists(), "the ids of the first segment are in a scratch file");
    let report =
        crate::audit::audit(log, store, Some(ids), crate::blocks::SortRoom::in_temp_dir(1 << 16))
            .await
            .unwrap();
    assert_eq!((report.segments, report.refolded, report.mismatches.len()), (3, 3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_without_room_for_ids_fails_and_says_nothing_about_the_log() {
    let record = |record: u32| {
        let ids: Vec<String> = (0..50).map(|id| format!("{record} {id}")).collect();
        by_id(&ids.iter().map(|id| pulse("acme", id, 1, NOW)).collect::<Vec<_>>())
    };
    let (log, store) = consumed((0..12).map(record).collect()).await;
    let scratch = tempfile::tempdir().unwrap();
    let audit = |scratch: &std::path::Path| {
        let ids = IdsMemory { bytes_max: 0, scratch: scratch.into() };
        crate::audit::audit(
            Arc::clone(&log),
            Arc::clone(&store),
            Some(ids),
            crate::blocks::SortRoom::in_temp_dir(1 << 16),
        )
    };
    assert_eq!(audit(&scratch.path().join("new")).await.unwrap().mismatches, []);
    let no_directory = scratch.path().join("file");
    std::fs::write(&no_directory, "").unwrap();
    let error = audit(&no_directory).await.unwrap_err().to_string();
    assert!(error.contains("the scratch file for ids failed"), "{error}");
}
