//! The consumer over the memory adapters: ticks, boundaries, restarts, and what stops a partition.

mod limits;
mod memory;
mod shared;
mod troubles;

use std::sync::atomic::{AtomicI64, Ordering};

use prost::Message;
use proto::{record, v1};
pub(super) use storage::memory::{FlushFault, MemoryLog, MemoryUsageStore};

pub(super) use domain::{NoFeed, Offset, store::PartitionKey};

use super::*;
use crate::restart::anchors;
use crate::testing::HandClock;

const NOW: i64 = 2_000_000_000;
const IDLE_FLUSH_INTERVAL: Duration = Duration::from_secs(600);

/// A clock that a test moves.
pub(super) struct World {
    pub(super) log: Arc<MemoryLog>,
    pub(super) store: Arc<MemoryUsageStore>,
    pub(super) clock: HandClock,
}

fn generation() -> Generation {
    let mut generation = Generation::new(domain::LogId([5; 16]), 3, 77);
    generation.segment_records_max = 4;
    generation
}

impl World {
    pub(super) fn new() -> Self {
        Self::of(generation())
    }

    pub(super) fn of(generation: Generation) -> Self {
        let clock = HandClock(Arc::new(AtomicI64::new(NOW)));
        let log = MemoryLog::new(generation, Arc::new(clock.clone()));
        Self { log: Arc::new(log), store: Arc::new(MemoryUsageStore::new()), clock }
    }

    async fn consumer(&self) -> Consumer<MemoryLog, MemoryUsageStore> {
        self.try_consumer().await.unwrap()
    }

    async fn try_consumer(&self) -> Result<Consumer<MemoryLog, MemoryUsageStore>, ConsumerError> {
        self.consumer_of(self.config()).await
    }

    pub(super) async fn consumer_of(
        &self,
        config: ConsumerConfig,
    ) -> Result<Consumer<MemoryLog, MemoryUsageStore>, ConsumerError> {
        let ports = ConsumerPorts {
            log: Arc::clone(&self.log),
            store: Arc::clone(&self.store),
            feed: None::<Arc<NoFeed>>,
            clock: Arc::new(self.clock.clone()),
        };
        Consumer::start(ports, config).await
    }

    pub(super) fn config(&self) -> ConsumerConfig {
        ConsumerConfig {
            chunk_bytes: 100,
            chunks_in_flight: 2,
            flushes_in_flight: 1,
            readers: 2,
            idle_flush_interval: IDLE_FLUSH_INTERVAL,
            ..ConsumerConfig::for_cores(2)
        }
    }

    /// Appends a record of `count` pulses of amount 1.
    pub(super) async fn append(&self, partition: u16, count: usize) {
        let pulse = v1::Pulse {
            tenant: "acme".into(),
            product_sku: "vm".into(),
            use_unity: "hour".into(),
            used_amount: Some(v1::Decimal { unscaled: 1, scale: 0 }),
            time: Some(proto::convert::wire_time(self.clock.now())),
            ..v1::Pulse::default()
        };
        let fields = v1::LogRecord { envelope: None, pulses: vec![pulse; count] }.encode_to_vec();
        let count = u32::try_from(count).unwrap();
        let source = v1::SourceBatch { sent: count, ..v1::SourceBatch::default() };
        let body = record::encode(&generation(), vec![source], count, [&fields[..]].into_iter());
        self.log.append(Partition(partition), vec![body]).await.unwrap();
    }

    pub(super) fn stored_count(&self) -> u64 {
        self.store.stored().rows.values().map(|cell| cell.aggregate.count).sum()
    }

    async fn manifests(&self, partition: u16) -> Vec<(u64, u64)> {
        let partition = Partition(partition);
        let key = PartitionKey { log_id: generation().log_id, partition, epoch: Epoch(0) };
        let manifests = self.store.manifests(key, Offset(0), 100).await.unwrap();
        manifests.iter().map(|manifest| (manifest.segment.start.0, manifest.end.0)).collect()
    }
}

pub(super) fn multi_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn a_tick_returns_when_everything_it_found_is_stored() {
    multi_thread().block_on(async {
        let world = World::new();
        let mut consumer = world.consumer().await;
        for i in 0..30 {
            world.append(i % 3, 7).await;
        }
        let report = consumer.tick().await.unwrap();
        assert_eq!((report.records, world.stored_count()), (30, 210));
        let accepted: u64 = report.partitions.iter().map(|p| p.counts.accepted).sum();
        assert_eq!(accepted, 210);
        assert_eq!(world.manifests(1).await, [(0, 4), (4, 8)]);
        assert_eq!(consumer.tick().await.unwrap().records, 0);
        consumer.shutdown().await;
    });
}

/// Ticks once a second for some seconds, and tells how many flushes the store took.
async fn flushes_of(
    world: &World,
    consumer: &mut Consumer<MemoryLog, MemoryUsageStore>,
    seconds: u64,
) -> u64 {
    let before = world.store.flushes();
    for _ in 0..seconds {
        world.clock.0.fetch_add(1, Ordering::Relaxed);
        consumer.tick().await.unwrap();
    }
    world.store.flushes() - before
}

#[test]
fn a_consumer_to_which_nothing_comes_writes_nothing_for_an_interval() {
    multi_thread().block_on(async {
        let world = World::new();
        let mut consumer = world.consumer().await;
        assert_eq!(flushes_of(&world, &mut consumer, 1).await, 3, "all three are caught up");
        world.append(0, 1).await;
        assert_eq!(flushes_of(&world, &mut consumer, 2).await, 1, "the one that got a record");
        let interval = IDLE_FLUSH_INTERVAL.as_secs();
        assert_eq!(flushes_of(&world, &mut consumer, interval - 3).await, 0);
        assert_eq!(flushes_of(&world, &mut consumer, 1).await, 2, "an interval after their last");
        assert_eq!(flushes_of(&world, &mut consumer, 1).await, 1);
        let report = consumer.tick().await.unwrap();
        let known: Vec<_> = report.partitions.iter().map(|p| (p.partition.0, p.records)).collect();
        assert_eq!(known, [(0, 0), (1, 0), (2, 0)]);
        consumer.shutdown().await;
    });
}

#[test]
fn a_time_that_was_noted_by_a_wrong_clock_is_mended_once_the_clock_is_right() {
    multi_thread().block_on(async {
        let world = World::new();
        let noted = async || {
            let (log_id, partition) = (generation().log_id, Partition(1));
            let key = PartitionKey { log_id, partition, epoch: Epoch(0) };
            let progress = world.store.progress(key).await.unwrap();
            progress.and_then(|progress| progress.caught_up_at).map(|at| at.parts().0 - NOW)
        };
        let mut consumer = world.consumer().await;
        world.clock.0.fetch_add(172_800, Ordering::Relaxed);
        consumer.tick().await.unwrap();
        assert_eq!(noted().await, Some(172_800));
        world.clock.0.fetch_sub(172_790, Ordering::Relaxed);
        consumer.tick().await.unwrap();
        assert_eq!(noted().await, Some(10));
        consumer.shutdown().await;
    });
}

#[test]
fn closing_makes_all_totals_final_and_a_restart_goes_on_behind_them() {
    multi_thread().block_on(async {
        let world = World::new();
        let mut consumer = world.consumer().await;
        world.append(0, 1).await;
        world.append(1, 2).await;
        consumer.close_segments("test").await.unwrap();
        consumer.shutdown().await;
        assert_eq!(world.manifests(0).await, [(0, 2)]);
        assert_eq!(world.manifests(1).await, [(0, 2)]);
        assert_eq!(world.manifests(2).await, [(0, 1)]);
        let mut consumer = world.consumer().await;
        world.append(0, 4).await;
        assert_eq!(consumer.tick().await.unwrap().records, 1);
        assert_eq!(world.stored_count(), 7);
        consumer.shutdown().await;
    });
}

#[test]
fn a_crash_between_flushes_counts_nothing_twice() {
    multi_thread().block_on(async {
        let world = World::new();
        for round in 0..6 {
            let mut consumer = world.consumer().await;
            for i in 0..5 {
                world.append(i % 3, 10).await;
            }
            consumer.tick().await.unwrap();
            assert_eq!(world.stored_count(), (round + 1) * 50);
            // Dropped as a crash would leave it: no boundary, no last flush.
            drop(consumer);
        }
    });
}

#[test]
fn a_flush_that_fails_is_tried_until_it_is_stored() {
    multi_thread().block_on(async {
        let world = World::new();
        let mut consumer = world.consumer().await;
        for fault in [
            FlushFault::BeforeRows,
            FlushFault::HalfOfTheRows,
            FlushFault::BeforeManifest,
            FlushFault::BeforeProgress,
            FlushFault::AfterAll,
        ] {
            world.store.fail_next_flush(fault);
        }
        world.append(0, 3).await;
        consumer.tick().await.unwrap();
        assert_eq!(world.stored_count(), 3);
        consumer.shutdown().await;
    });
}

#[test]
fn a_silent_partition_is_closed_after_a_window() {
    multi_thread().block_on(async {
        let world = World::new();
        let mut consumer = world.consumer().await;
        world.append(2, 1).await;
        consumer.tick().await.unwrap();
        world.clock.0.fetch_add(3_599, Ordering::Relaxed);
        consumer.tick().await.unwrap();
        consumer.tick().await.unwrap();
        assert_eq!(world.manifests(2).await, []);
        world.clock.0.fetch_add(2, Ordering::Relaxed);
        consumer.tick().await.unwrap();
        consumer.tick().await.unwrap();
        // The boundary crosses an interval of log time, so it stands in a segment of its own.
        assert_eq!(world.manifests(2).await, [(0, 1), (1, 2)]);
        let written = world.log.bounds(Partition(2)).await.unwrap().end;
        consumer.tick().await.unwrap();
        assert_eq!(world.log.bounds(Partition(2)).await.unwrap().end, written);
        consumer.shutdown().await;
    });
}

#[test]
fn a_record_from_the_future_stops_its_partition_and_no_other() {
    multi_thread().block_on(async {
        let world = World::new();
        world.clock.0.fetch_add(601, Ordering::Relaxed);
        world.append(0, 1).await;
        world.clock.0.fetch_sub(601, Ordering::Relaxed);
        world.append(1, 1).await;
        let mut consumer = world.consumer().await;
        let error = consumer.tick().await.unwrap_err();
        let ConsumerError::Partitions(troubles) = &error else { panic!("{error}") };
        let [trouble] = &troubles[..] else { panic!("{error}") };
        assert!(matches!(*trouble.cause, ConsumerError::Stopped { partition: Partition(0), .. }));
        assert!(error.to_string().contains("pulso log rebase --partition 0"), "{error}");
        assert_eq!(world.stored_count(), 1);
        consumer.shutdown().await;
        // With the clock set, the record is there and counts.
        world.clock.0.fetch_add(601, Ordering::Relaxed);
        let mut consumer = world.consumer().await;
        consumer.tick().await.unwrap();
        assert_eq!(world.stored_count(), 2);
        consumer.shutdown().await;
    });
}

#[test]
fn another_log_under_the_same_name_stops_the_start_and_names_the_offset() {
    multi_thread().block_on(async {
        let world = World::new();
        let mut consumer = world.consumer().await;
        world.append(0, 1).await;
        consumer.close_segments("test").await.unwrap();
        consumer.shutdown().await;
        let other = World { store: Arc::clone(&world.store), ..World::new() };
        for count in [2, 3] {
            other.append(0, count).await;
        }
        let error = other.try_consumer().await.err().unwrap();
        assert!(error.to_string().contains("record at offset 1 is not the one"), "{error}");
        let appends = async |world: &World| anchors::check_log(&world.log, &*world.store).await;
        assert_eq!(appends(&other).await.unwrap_err().to_string(), error.to_string());
        let empty = World { store: Arc::clone(&world.store), ..World::new() };
        let error = empty.try_consumer().await.err().unwrap();
        assert!(error.to_string().contains("truncated, expired or made again"), "{error}");
        assert_eq!(appends(&empty).await.unwrap_err().to_string(), error.to_string());
        appends(&world).await.unwrap();
    });
}

#[test]
fn a_damaged_record_fails_the_tick_and_loses_nothing_before_it() {
    multi_thread().block_on(async {
        let world = World::new();
        let mut consumer = world.consumer().await;
        world.append(0, 1).await;
        world.append(0, 1).await;
        world.log.damage(Partition(0), Offset(1));
        world.append(1, 3).await;
        let error = consumer.tick().await.unwrap_err();
        assert!(error.to_string().contains("record 1 of partition 0 is damaged"), "{error}");
        assert_eq!(world.stored_count(), 4, "what was read before it is stored");
        world.clock.0.fetch_add(1, Ordering::Relaxed);
        consumer.tick().await.unwrap_err();
        consumer.shutdown().await;
    });
}
