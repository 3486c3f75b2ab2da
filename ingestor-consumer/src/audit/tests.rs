//! The audit finds what was lost or changed, and nothing where all is well.

use domain::{
    Clock, LogId, Timestamp, UsageStore as _,
    generation::Generation,
    log::{AppendError, LogBounds, LogDrain, LogError, LogRecord},
};
use prost::Message;
use proto::{record, v1};
use storage::memory::{FlushFault, MemoryLog, MemoryUsageStore};

use super::*;
use crate::{Consumer, ConsumerConfig, ConsumerPorts};

fn now() -> Timestamp {
    Timestamp::from_parts(2_000_000_000, 0).unwrap()
}

fn generation() -> Generation {
    let mut generation = Generation::new(LogId([5; 16]), 2, 77);
    generation.segment_records_max = 3;
    generation
}

fn body(sku: &str, id: u64) -> Vec<u8> {
    let pulse = v1::Pulse {
        tenant: "acme".into(),
        product_sku: sku.into(),
        use_unity: "hour".into(),
        used_amount: Some(v1::Decimal { unscaled: 1, scale: 0 }),
        time: Some(proto::convert::wire_time(now())),
        id: id.to_string(),
        ..v1::Pulse::default()
    };
    let fields = v1::LogRecord { envelope: None, pulses: vec![pulse] }.encode_to_vec();
    let source = v1::SourceBatch { sent: 1, ..v1::SourceBatch::default() };
    record::encode(&generation(), vec![source], 1, [&fields[..]].into_iter())
}

/// A log of 14 records in each of two partitions, consumed; the last segment is open.
async fn consumed() -> (Arc<MemoryLog>, Arc<MemoryUsageStore>) {
    let clock: Arc<dyn Clock> = Arc::new(now);
    let log = Arc::new(MemoryLog::new(generation(), Arc::clone(&clock)));
    let store = Arc::new(MemoryUsageStore::new());
    for partition in generation().partitions() {
        for id in 0..14 {
            let sku = if id % 2 == 0 { "vm" } else { "disk" };
            log.append(partition, vec![body(sku, id / 2)]).await.unwrap();
        }
        log.append(partition, vec![b"rubbish".to_vec()]).await.unwrap();
    }
    let config = ConsumerConfig::for_cores(2);
    let feed = None::<Arc<domain::NoFeed>>;
    let ports = ConsumerPorts { log: Arc::clone(&log), store: Arc::clone(&store), feed, clock };
    let mut consumer = Consumer::start(ports, config).await.unwrap();
    consumer.tick().await.unwrap();
    consumer.shutdown().await;
    (log, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_store_has_no_mismatch() {
    let (log, store) = consumed().await;
    let report = audit(log, store, None, SortRoom::in_temp_dir(1 << 16)).await.unwrap();
    assert_eq!((report.segments, report.refolded), (8, 8));
    assert_eq!(report.mismatches, []);
}

/// A consumer that dies in or behind the flush of a segment leaves the record that cut it uncounted, and
/// progress at the segment's end or before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_segment_is_audited_wherever_progress_is() {
    for fault in [None, Some(FlushFault::BeforeProgress)] {
        let log = Arc::new(MemoryLog::new(generation(), Arc::new(now)));
        let store = Arc::new(MemoryUsageStore::new());
        store.register(&generation(), None).await.unwrap();
        let partition = Partition(0);
        for id in 0..4 {
            log.append(partition, vec![body("vm", id)]).await.unwrap();
        }
        let key = PartitionKey { log_id: generation().log_id, partition, epoch: domain::Epoch(0) };
        let (mut fold, mut closed) = (Fold::new(generation(), key), Vec::new());
        let mut reader = log.drain(partition, Offset(0)).unwrap();
        fold_on(&mut fold, &mut reader, Offset(4), &mut closed).unwrap().unwrap();
        let [flush] = &closed[..] else { panic!("{closed:?}") };
        fault.into_iter().for_each(|fault| store.fail_next_flush(fault));
        let flushed = store.flush(Arc::new(flush.clone())).await;
        assert_eq!(flushed.is_err(), fault.is_some());
        let report =
            audit(Arc::clone(&log), Arc::clone(&store), None, SortRoom::in_temp_dir(1 << 16))
                .await
                .unwrap();
        assert_eq!((report.segments, report.refolded), (1, 1), "{fault:?}");
        assert_eq!(report.mismatches, []);
        assert!(store.lose_row(&flush.rows[0].key));
        let mismatches =
            audit(log, store, None, SortRoom::in_temp_dir(1 << 16)).await.unwrap().mismatches;
        let [mismatch] = &mismatches[..] else { panic!("{mismatches:?}") };
        assert_eq!(mismatch.invariant, "I2");
    }
}

/// A log restored from an older copy: the same records, but for the last ones.
fn shortened(log: &MemoryLog, partition: Partition, end: Offset) -> Arc<MemoryLog> {
    let mut bodies = Vec::new();
    let mut reader = log.drain(partition, Offset(0)).unwrap();
    reader.read(end, usize::MAX, &mut |record| bodies.push(record.body.to_vec())).unwrap();
    let shortened = Arc::new(MemoryLog::new(generation(), Arc::new(now)));
    Handle::current().block_on(shortened.append(partition, bodies)).unwrap();
    shortened
}

/// Folds and stores the first closed segment of a log of partition 0.
async fn stored_first(log: &MemoryLog) -> (Arc<MemoryUsageStore>, Flush) {
    let store = Arc::new(MemoryUsageStore::new());
    store.register(&generation(), None).await.unwrap();
    let (log_id, partition, epoch) = (generation().log_id, Partition(0), domain::Epoch(0));
    let (mut closed, key) = (Vec::new(), PartitionKey { log_id, partition, epoch });
    let mut fold = Fold::new(generation(), key);
    let end = log.bounds(partition).await.unwrap().end;
    let mut reader = log.drain(partition, Offset(0)).unwrap();
    fold_on(&mut fold, &mut reader, end, &mut closed).unwrap().unwrap();
    let flush = closed.swap_remove(0);
    store.flush(Arc::new(flush.clone())).await.unwrap();
    (store, flush)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_where_the_last_segment_ends_or_before_is_found() {
    let log = MemoryLog::new(generation(), Arc::new(now));
    for id in 0..4 {
        log.append(Partition(0), vec![body("vm", id)]).await.unwrap();
    }
    let (store, flush) = stored_first(&log).await;
    for (end, is_row_lost, invariants) in [
        (4, false, &[][..]),
        (3, false, &["I7"][..]),
        (3, true, &["I7", "I2"]),
        (2, false, &["I7", "I7", "I5"]),
    ] {
        let log = tokio::task::block_in_place(|| shortened(&log, Partition(0), Offset(end)));
        if is_row_lost {
            assert!(store.lose_row(&flush.rows[0].key));
        }
        let report =
            audit(log, Arc::clone(&store), None, SortRoom::in_temp_dir(1 << 16)).await.unwrap();
        let found: Vec<_> = report.mismatches.iter().map(|found| found.invariant).collect();
        assert_eq!(found, invariants, "{end}: {report:?}");
        assert_eq!((report.segments, report.refolded), (1, u64::from(end == 4)));
        store.flush(Arc::new(flush.clone())).await.unwrap();
    }
}

/// A segment that a boundary ends is closed by its own record, and needs none behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_with_a_boundary_is_sound() {
    let log = Arc::new(MemoryLog::new(generation(), Arc::new(now)));
    log.append(Partition(0), vec![body("vm", 1)]).await.unwrap();
    let boundary = record::encode_boundary(&generation(), "test");
    log.append(Partition(0), vec![boundary]).await.unwrap();
    let (store, _) = stored_first(&log).await;
    let report = audit(log, store, None, SortRoom::in_temp_dir(1 << 16)).await.unwrap();
    assert_eq!((report.segments, report.refolded), (1, 1));
    assert_eq!(report.mismatches, []);
}

/// A log whose drains lend all that they have at a time.
struct Lavish(MemoryLog);

struct LavishDrain(storage::memory::MemoryDrain);

impl LogDrain for LavishDrain {
    fn read(
        &mut self,
        until: Offset,
        _bytes_max: usize,
        visit: &mut dyn FnMut(LogRecord<'_>),
    ) -> Result<Offset, LogError> {
        self.0.read(until, usize::MAX, visit)
    }
}

impl PulseLog for Lavish {
    type Drain = LavishDrain;

    fn generation(&self) -> &Generation {
        self.0.generation()
    }

    async fn append(
        &self,
        partition: Partition,
        records: Vec<Vec<u8>>,
    ) -> Result<Vec<Offset>, AppendError> {
        self.0.append(partition, records).await
    }

    async fn bounds(&self, partition: Partition) -> Result<LogBounds, LogError> {
        self.0.bounds(partition).await
    }

    fn drain(&self, partition: Partition, from: Offset) -> Result<LavishDrain, LogError> {
        Ok(LavishDrain(self.0.drain(partition, from)?))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_behind_the_last_segment_is_noted_though_more_was_lent() {
    let log = MemoryLog::new(generation(), Arc::new(now));
    for id in 0..4 {
        log.append(Partition(0), vec![body("vm", id)]).await.unwrap();
    }
    let (store, _) = stored_first(&log).await;
    let log = tokio::task::block_in_place(|| shortened(&log, Partition(0), Offset(3)));
    let envelope = v1::Envelope { version: u32::MAX, ..v1::Envelope::default() };
    let newer = v1::LogRecord { envelope: Some(envelope), pulses: vec![] }.encode_to_vec();
    for body in [newer, body("vm", 3)] {
        log.append(Partition(0), vec![body]).await.unwrap();
    }
    let log = Arc::new(Lavish((*log).clone()));
    let mismatches =
        audit(log, store, None, SortRoom::in_temp_dir(1 << 16)).await.unwrap().mismatches;
    let [mismatch] = &mismatches[..] else { panic!("{mismatches:?}") };
    assert_eq!((mismatch.invariant, mismatch.segment_start), ("I11", Offset(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lost_row_is_found() {
    let keys: Vec<RowKey> =
        consumed().await.1.stored().rows.keys().map(|key| key.0.clone()).collect();
    assert!(keys.len() > 4);
    for key in keys {
        let (log, store) = consumed().await;
        assert!(store.lose_row(&key));
        let mismatches =
            audit(log, store, None, SortRoom::in_temp_dir(1 << 16)).await.unwrap().mismatches;
        let [mismatch] = &mismatches[..] else { panic!("{mismatches:?}") };
        assert_eq!(mismatch.invariant, "I2");
        assert_eq!(mismatch.segment_start, key.segment.start);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_row_and_a_made_up_row_are_found() {
    let (log, store) = consumed().await;
    let row = store.stored().rows.into_iter().next().unwrap();
    let mut cell = row.1;
    cell.aggregate.count += 1;
    let changed = UsageRow { key: row.0.0.clone(), cell };
    let mut made_up = changed.clone();
    made_up.key.resource.product_sku = domain::Sku::new("made-up").unwrap();
    for (row, invariant) in [(changed, "I5"), (made_up, "I2")] {
        let (log, store) = (Arc::clone(&log), consumed().await.1);
        store.flush(Arc::new(with_row(&store, row).await)).await.unwrap();
        let mismatches =
            audit(log, store, None, SortRoom::in_temp_dir(1 << 16)).await.unwrap().mismatches;
        let [mismatch] = &mismatches[..] else { panic!("{mismatches:?}") };
        assert_eq!(mismatch.invariant, invariant);
    }
}

/// A flush of one foreign row that leaves progress as it is.
async fn with_row(store: &MemoryUsageStore, row: UsageRow) -> Flush {
    let segment = row.key.segment;
    let SegmentId { log_id, partition, epoch, .. } = segment;
    let progress = store.progress(PartitionKey { log_id, partition, epoch }).await.unwrap();
    Flush {
        segment,
        rows: vec![row],
        stored_before: vec![],
        dead_letters: vec![],
        close: None,
        progress,
    }
}
