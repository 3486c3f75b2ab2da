//! What the fold decides, case by case, and the theorem: however the work is cut and wherever it
//! stops and starts again, the same log gives the same bytes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
    time::{Duration, Instant},
};

use domain::{
    Dimensions, Epoch, LogId, Manifest, Partition, Quantity, RowKey, SegmentId, UsageRow,
    dead_letter::DeadLetterKey, store::Touched,
};
use prost::Message;

use super::*;

const HOUR: i64 = 3_600;
const NOW: i64 = 1_000_000 * HOUR;

/// Time that this thread has computed for, whatever else the machine does; all the time that passed,
/// where the system does not tell.
pub(super) fn cpu_time() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let start = *START;
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let computed = statistics.and_then(|text| text.split_whitespace().next()?.parse().ok());
    computed.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

fn generation() -> Generation {
    let mut generation = Generation::new(LogId([9; 16]), 1, 42);
    generation.segment_records_max = 8;
    generation
}

fn partition() -> PartitionKey {
    PartitionKey { log_id: generation().log_id, partition: Partition(0), epoch: Epoch(0) }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_parts(seconds, 0).unwrap()
}

fn wire(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

fn pulse(sku: &str, amount: i64, seconds: i64) -> v1::Pulse {
    v1::Pulse {
        tenant: "acme".into(),
        product_sku: sku.into(),
        use_unity: "hour".into(),
        used_amount: Some(v1::Decimal { unscaled: amount, scale: 0 }),
        time: Some(wire(seconds)),
        ..v1::Pulse::default()
    }
}

fn with_id(id: &str, amount: i64, seconds: i64) -> v1::Pulse {
    v1::Pulse { id: id.into(), source: "test".into(), ..pulse("vm", amount, seconds) }
}

fn plain(sent: usize) -> v1::SourceBatch {
    v1::SourceBatch {
        sent: sent as u32,
        received_at: Some(wire(NOW)),
        ..v1::SourceBatch::default()
    }
}

fn numbered(producer: u8, first_sequence: u64, digest: u64, sent: usize) -> v1::SourceBatch {
    v1::SourceBatch { producer_id: vec![producer; 16], first_sequence, digest, ..plain(sent) }
}

fn backfill(name: &str, content: &[u8], first_sequence: u64, sent: usize) -> v1::SourceBatch {
    let backfill = v1::Backfill { name: name.into(), content_digest: content.to_vec() };
    v1::SourceBatch { backfill: Some(backfill), first_sequence, ..plain(sent) }
}

/// One record of one source; the source's refused places are left out of `pulses`.
fn record_of(source: v1::SourceBatch, pulses: &[v1::Pulse]) -> Vec<u8> {
    let fields = v1::LogRecord { envelope: None, pulses: pulses.to_vec() }.encode_to_vec();
    record::encode(&generation(), vec![source], pulses.len() as u32, [&fields[..]].into_iter())
}

fn boundary() -> Vec<u8> {
    record::encode_boundary(&generation(), "test")
}

fn seal() -> Vec<u8> {
    record::encode_seal(&generation(), "test")
}

fn declare(sku: &str, dimensions: &[&str], version: u64) -> Vec<u8> {
    let declare = v1::DeclareDimensions {
        product_sku: sku.into(),
        dimensions: dimensions.iter().map(|name| (*name).to_owned()).collect(),
        version,
    };
    let kind = Some(v1::control::Kind::DeclareDimensions(declare));
    record::encode_control(&generation(), &v1::Control { kind })
}

fn set_limits(limits: FoldLimits) -> Vec<u8> {
    record::encode_limits(&generation(), limits, "test")
}

/// A log of bodies, each with its append second.
type Log = Vec<(i64, Vec<u8>)>;

fn fold_on(fold: &mut Fold, log: &Log, from: usize, to: usize) -> Vec<Flush> {
    let mut closed = Vec::new();
    for (offset, (second, body)) in log.iter().enumerate().take(to).skip(from) {
        let offset = Offset(offset as u64);
        let record = LogRecord { offset, appended_at: at(*second), body };
        fold.record(record, &mut closed).unwrap();
    }
    closed
}

fn fold_all(log: &Log) -> (Fold, Vec<Flush>) {
    let mut fold = Fold::new(generation(), partition());
    let mut flushes = fold_on(&mut fold, log, 0, log.len());
    flushes.push(fold.flush());
    (fold, flushes)
}

/// What a store would hold after these flushes.
#[derive(Debug, Default, PartialEq)]
struct Stored {
    rows: HashMap<RowKey, Vec<u8>>,
    /// Manifest, run and state.
    manifests: BTreeMap<Offset, [Vec<u8>; 3]>,
    dead_letters: BTreeMap<DeadLetterKey, DeadLetterGroup>,
    touched: BTreeMap<Offset, Vec<Touched>>,
}

impl Stored {
    fn take(&mut self, flush: Flush) {
        for UsageRow { key, cell } in flush.rows {
            let newer = self.rows.get(&key).is_none_or(|known| {
                domain::Cell::decode(known).unwrap().offset_last <= cell.offset_last
            });
            if newer {
                self.rows.insert(key, cell.encode());
            }
        }
        for group in flush.dead_letters {
            let known = self.dead_letters.get(&group.key);
            if known.is_none_or(|known| known.offset_last <= group.offset_last) {
                self.dead_letters.insert(group.key.clone(), group);
            }
        }
        if let Some(close) = flush.close {
            let start = flush.segment.start;
            self.manifests.insert(start, [close.manifest.encode(), close.run, close.state]);
            self.touched.insert(start, close.touched);
        }
    }

    fn of(flushes: Vec<Flush>) -> Self {
        let mut stored = Self::default();
        flushes.into_iter().for_each(|flush| stored.take(flush));
        stored
    }

    /// A stored state, and before it those that it goes back to.
    fn states<'a>(&'a self, mut state: &'a [u8]) -> Vec<&'a [u8]> {
        let mut states = vec![state];
        while let Some(before) = state_before(state) {
            let mut all = self.manifests.values().map(|[.., state]| state);
            state = all.find(|state| digest(state) == before).expect("it is stored");
            states.insert(0, state);
        }
        states
    }

    fn total(&self) -> i128 {
        let cells = self.rows.values().map(|cell| domain::Cell::decode(cell).unwrap());
        cells.map(|cell| cell.aggregate.sum.raw() / Quantity::ONE.raw()).sum()
    }
}

fn counts(log: &Log) -> Conservation {
    let (_, flushes) = fold_all(log);
    flushes.last().unwrap().progress.unwrap().counts
}

fn letters(log: &Log) -> Vec<DeadLetter> {
    let mut fold = Fold::new(generation(), partition());
    fold.list_dead_letters();
    fold_on(&mut fold, log, 0, log.len());
    fold.take_dead_letters()
}

fn reasons(log: &Log) -> Vec<DeadLetterReason> {
    letters(log).iter().map(|letter| letter.reason).collect()
}

#[test]
fn totals_are_kept_by_resource_and_hour() {
    let pulses = [
        pulse("vm", 1, NOW),
        pulse("vm", 2, NOW + 10),
        pulse("vm", 4, NOW - 1),
        pulse("disk", 8, NOW),
    ];
    let stored = Stored::of(fold_all(&vec![(NOW, record_of(plain(4), &pulses))]).1);
    let mut rows: Vec<_> = stored
        .rows
        .iter()
        .map(|(key, cell)| {
            let cell = domain::Cell::decode(cell).unwrap();
            let sku = key.resource.product_sku.as_str().to_owned();
            (sku, key.window_start, cell.aggregate.count, cell.aggregate.sum.to_string())
        })
        .collect();
    rows.sort();
    let row =
        |sku: &str, start, count, sum: &str| (sku.to_owned(), at(start), count, sum.to_owned());
    assert_eq!(
        rows,
        [row("disk", NOW, 1, "8"), row("vm", NOW - HOUR, 1, "4"), row("vm", NOW, 2, "3")]
    );
}

#[test]
fn a_numbered_batch_counts_once_and_a_refused_pulse_can_come_again() {
    let all = [pulse("vm", 1, NOW), pulse("vm", 2, NOW), pulse("vm", 4, NOW)];
    let mut refused = numbered(1, 100, 7, 3);
    refused.refused = vec![1];
    let log = vec![
        (NOW, record_of(refused, &[all[0].clone(), all[2].clone()])),
        (NOW, record_of(numbered(1, 100, 7, 3), &all)),
        (NOW, record_of(numbered(1, 100, 7, 3), &all)),
        (NOW, record_of(numbered(2, 100, 7, 3), &all)),
    ];
    let counts = counts(&log);
    assert_eq!((counts.read, counts.accepted, counts.duplicate), (11, 6, 5));
    assert_eq!(Stored::of(fold_all(&log).1).total(), 14);
}

#[test]
fn a_sequence_used_for_another_batch_is_a_dead_letter() {
    let log = vec![
        (NOW, record_of(numbered(1, 0, 7, 1), &[pulse("vm", 1, NOW)])),
        (NOW, record_of(numbered(1, 0, 8, 1), &[pulse("vm", 2, NOW)])),
    ];
    assert_eq!(reasons(&log), [DeadLetterReason::SequenceReused]);
    assert_eq!(Stored::of(fold_all(&log).1).total(), 1);
}

#[test]
fn an_id_counts_once_within_the_horizon_and_a_conflict_is_noted() {
    let horizon = 26 * HOUR;
    let log = vec![
        (NOW, record_of(plain(2), &[with_id("a", 1, NOW), with_id("a", 1, NOW)])),
        (NOW + 60, record_of(plain(1), &[with_id("a", 2, NOW)])),
        (NOW + horizon + 1_200, record_of(plain(1), &[with_id("a", 4, NOW + horizon)])),
    ];
    let (mut fold, flushes) = fold_all(&log);
    assert_eq!(fold.take_conflicts(), 1);
    let counts = flushes.last().unwrap().progress.unwrap().counts;
    assert_eq!((counts.accepted, counts.duplicate), (2, 2));
    assert_eq!(Stored::of(flushes).total(), 5);
}

#[test]
fn an_id_that_a_clock_set_aside_counts_when_it_comes_again_mended() {
    for wrong in [NOW - 25 * HOUR, NOW + HOUR] {
        let mended = with_id("a", 1, NOW);
        let pulses = [with_id("a", 1, wrong), mended.clone(), mended];
        let counts = counts(&vec![(NOW, record_of(plain(3), &pulses))]);
        assert_eq!((counts.late + counts.dead_lettered, counts.accepted), (1, 1), "{wrong}");
        assert_eq!(counts.duplicate, 1);
    }
    // One that counted is a duplicate, whatever its time says now.
    let log = vec![
        (NOW, record_of(plain(1), &[with_id("a", 1, NOW)])),
        (NOW + 25 * HOUR, record_of(plain(1), &[with_id("a", 1, NOW)])),
    ];
    assert_eq!((counts(&log).accepted, counts(&log).duplicate), (1, 1));
}

#[test]
fn late_and_future_pulses_are_dead_letters_at_the_bounds_exactly() {
    for (second, reason) in [
        (NOW - 24 * HOUR, None),
        (NOW - 24 * HOUR - 1, Some(DeadLetterReason::TooLate)),
        (NOW + 300, None),
        (NOW + 301, Some(DeadLetterReason::InTheFuture)),
        (-62_135_596_800, Some(DeadLetterReason::TooLate)),
        (253_402_300_799, Some(DeadLetterReason::InTheFuture)),
    ] {
        let log = vec![(NOW, record_of(plain(1), &[pulse("vm", 1, second)]))];
        assert_eq!(reasons(&log), reason.into_iter().collect::<Vec<_>>(), "{second}");
        let counts = counts(&log);
        assert_eq!(counts.late, u64::from(reason == Some(DeadLetterReason::TooLate)));
    }
}

#[test]
fn a_backfill_counts_each_row_once_in_whatever_batches_it_comes() {
    let old = NOW - 1_000 * HOUR;
    let rows: Vec<_> = (0..6).map(|row| pulse("vm", 1 << row, old)).collect();
    let log = vec![
        (NOW, record_of(backfill("2024", b"digest", 0, 4), &rows[..4])),
        (NOW, record_of(backfill("2024", b"digest", 2, 4), &rows[2..])),
        (NOW, record_of(backfill("2024", b"other", 6, 1), &rows[..1])),
        (NOW, record_of(backfill("2025", b"digest", 0, 1), &rows[..1])),
    ];
    assert_eq!(Stored::of(fold_all(&log).1).total(), 63 + 1);
    assert_eq!(reasons(&log), [DeadLetterReason::BackfillReused]);
}

#[test]
fn an_overflowing_pulse_is_a_dead_letter_and_the_total_stays() {
    let pulses: Vec<_> = (0..20).map(|_| pulse("vm", i64::MAX, NOW)).collect();
    let log = vec![(NOW, record_of(plain(20), &pulses))];
    let counts = counts(&log);
    assert_eq!((counts.accepted, counts.dead_lettered), (18, 2));
    assert_eq!(reasons(&log), [DeadLetterReason::Overflow; 2]);
    assert_eq!(Stored::of(fold_all(&log).1).total(), 18 * i128::from(i64::MAX));
}

#[test]
fn declared_dimensions_stay_apart_from_their_declaration_on() {
    let in_region = |region: &str| {
        let properties =
            HashMap::from([("region".into(), region.into()), ("x".into(), "y".into())]);
        v1::Pulse { properties, ..pulse("vm", 1, NOW) }
    };
    let both = [in_region("a"), in_region("b"), pulse("vm", 1, NOW)];
    let log = vec![
        (NOW, record_of(plain(3), &both)),
        (NOW, declare("vm", &["region"], 2)),
        (NOW, record_of(plain(3), &both)),
        (NOW, declare("vm", &["x"], 1)),
        (NOW, record_of(plain(3), &both)),
    ];
    let stored = Stored::of(fold_all(&log).1);
    let mut found: Vec<_> = stored
        .rows
        .iter()
        .map(|(key, cell)| {
            let count = domain::Cell::decode(cell).unwrap().aggregate.count;
            (key.resource.dimensions.clone(), count)
        })
        .collect();
    found.sort();
    let region = |name| Dimensions::from_pairs([("region", name)]);
    assert_eq!(found, [(region("a"), 2), (region("b"), 2), (Dimensions::none(), 5)]);
    let counts = counts(&log);
    assert_eq!((counts.read, counts.control), (11, 2));
}

#[test]
fn what_does_not_parse_is_a_dead_letter_with_its_bytes() {
    let mut foreign = generation();
    foreign.log_id = LogId([1; 16]);
    let bad_name = v1::Pulse { tenant: "a\nb".into(), ..pulse("vm", 1, NOW) };
    let no_amount = v1::Pulse { used_amount: None, ..pulse("vm", 1, NOW) };
    let log = vec![
        (NOW, b"rubbish".to_vec()),
        (NOW, record::encode_boundary(&foreign, "test")),
        (NOW, record_of(plain(3), &[bad_name, no_amount, pulse("vm", 1, NOW)])),
    ];
    assert_eq!(reasons(&log), [DeadLetterReason::Undecodable; 4]);
    let counts = counts(&log);
    assert_eq!((counts.read, counts.accepted, counts.dead_lettered), (5, 1, 4));
    let letters = letters(&log);
    assert_eq!(letters[0].payload, b"rubbish");
    assert_eq!((letters[2].offset, letters[2].tenant.as_str()), (Offset(2), "a\nb"));
}

#[test]
fn segments_tile_and_end_by_records_time_and_boundary() {
    let one = |second| (second, record_of(plain(1), &[pulse("vm", 1, second)]));
    // Eight records; then log time crosses 600 s; then a boundary.
    let mut log: Log = (0..9).map(|_| one(NOW)).collect();
    log.push(one(NOW + 600));
    log.push((NOW + 600, boundary()));
    log.push(one(NOW + 601));
    let stored = Stored::of(fold_all(&log).1);
    let ends: Vec<_> = stored
        .manifests
        .iter()
        .map(|(start, [bytes, ..])| {
            let segment = SegmentId {
                log_id: partition().log_id,
                partition: Partition(0),
                epoch: Epoch(0),
                start: *start,
            };
            (start.0, Manifest::decode(segment, bytes).unwrap().end.0)
        })
        .collect();
    assert_eq!(ends, [(0, 8), (8, 9), (9, 11)]);
}

#[test]
fn a_record_that_comes_again_stops_the_fold() {
    let log = vec![(NOW, record_of(plain(1), &[pulse("vm", 1, NOW)]))];
    let mut fold = Fold::new(generation(), partition());
    fold_on(&mut fold, &log, 0, 1);
    let again = LogRecord { offset: Offset(0), appended_at: at(NOW), body: &log[0].1 };
    let error = fold.record(again, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, FoldError::OffsetsFall { .. }), "{error}");
}

/// Folds `log`, flushing after the offsets of `flushes` and crashing after those of `crashes`: a
/// crash loses everything since the last flush and starts again from the newest manifest.
fn fold_with_crashes(log: &Log, flushes: &[usize], crashes: &[usize]) -> Stored {
    let mut stored = Stored::default();
    let mut fold = Fold::new(generation(), partition());
    for end in 1..=log.len() {
        for flush in fold_on(&mut fold, log, end - 1, end) {
            stored.take(flush);
        }
        if flushes.contains(&end) {
            stored.take(fold.flush());
        }
        if crashes.contains(&end) {
            fold = restart(&stored);
            let from = usize::try_from(fold.folded_to().0).unwrap();
            for flush in fold_on(&mut fold, log, from, end) {
                stored.take(flush);
            }
        }
    }
    stored.take(fold.flush());
    stored
}

fn restart(stored: &Stored) -> Fold {
    let Some((start, [manifest, _, state])) = stored.manifests.last_key_value() else {
        return Fold::new(generation(), partition());
    };
    let PartitionKey { log_id, partition: number, epoch } = partition();
    let segment = SegmentId { log_id, partition: number, epoch, start: *start };
    let manifest = Manifest::decode(segment, manifest).unwrap();
    let states = stored.states(state);
    let mut fold = Fold::resume(generation(), partition(), &manifest, &states).unwrap();
    stored.manifests.values().for_each(|[_, run, _]| fold.remember(run).unwrap());
    fold
}

#[test]
fn the_horizon_outlasts_a_restart() {
    let log = vec![
        (NOW, record_of(plain(1), &[with_id("a", 1, NOW)])),
        (NOW, boundary()),
        (NOW + 25 * HOUR, record_of(plain(1), &[with_id("a", 1, NOW + 25 * HOUR)])),
    ];
    assert_eq!(fold_with_crashes(&log, &[], &[2]).total(), 1);
}

#[test]
fn behind_a_seal_nothing_counts_and_no_identity_is_kept() {
    let one = |id: &str| record_of(plain(1), &[with_id(id, 1, NOW)]);
    let batch = |first| record_of(numbered(1, first, 5, 1), &[pulse("vm", 1, NOW)]);
    let rows = record_of(backfill("old", b"content", 0, 1), &[pulse("vm", 1, NOW)]);
    let log = vec![(NOW, one("a")), (NOW, seal()), (NOW, one("a")), (NOW, batch(0)), (NOW, rows)];
    let (fold, flushes) = fold_all(&log);
    assert_eq!(fold.sealed_at(), Some(Offset(2)));
    assert_eq!(flushes[0].close.as_ref().unwrap().manifest.end, Offset(2));
    assert_eq!(reasons(&log), [DeadLetterReason::AfterSeal; 3]);
    let counts = counts(&log);
    assert_eq!((counts.read, counts.control, counts.accepted), (5, 1, 1));
    assert_eq!((counts.dead_lettered, counts.duplicate), (3, 0));
    assert!(fold.state.producers.bytes() == 0 && fold.state.backfills.bytes() == 0);

    // A further one ends its segment and changes nothing, also behind a restart.
    let mut longer = log;
    longer.extend([(NOW, seal()), (NOW, one("b"))]);
    let (fold, flushes) = fold_all(&longer);
    assert_eq!(fold.sealed_at(), Some(Offset(2)));
    let close = flushes[1].close.as_ref().unwrap();
    let again = Fold::resume(generation(), partition(), &close.manifest, &[&close.state]).unwrap();
    assert_eq!(again.sealed_at(), Some(Offset(2)));
    assert_eq!(sealed_at(&close.state), Ok(Some(Offset(2))));
    assert_eq!(reasons(&longer), [DeadLetterReason::AfterSeal; 4]);
}

mod bounds;
mod clients;
mod groups;
mod theorem;
