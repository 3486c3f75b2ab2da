//! Growth over the memory adapters: whatever was sent before it and comes again after it, or the
//! other way round, counts once.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use domain::{
    DeadLetterGroup, DeadLetterReason, LogId, NoFeed, Partition, PulseLog, Timestamp, UsageCursor,
    UsageRow, View, WindowLength,
    store::{DeadLetterFilter, UsageFilter},
};
use prost::Message;
use proto::{record, v1};
use storage::memory::{MemoryLog, MemoryUsageStore};

use super::*;
use crate::{Consumer, ConsumerConfig, ConsumerError, ConsumerPorts, audit, testing::HandClock};

const START: i64 = 2_000_000_000;

/// A pulse by the identity that it is sent under. Each has an amount of 1.
#[derive(Clone, Copy, Debug)]
enum Sent {
    Numbered { producer: u8, sequence: u64 },
    ById { tenant: u8, id: u32 },
    Backfill { name: u8, row: u64 },
}

struct World {
    /// One a generation, oldest first.
    logs: Vec<Arc<MemoryLog>>,
    store: Arc<MemoryUsageStore>,
    clock: HandClock,
}

impl World {
    async fn new(partitions: u16) -> Self {
        let clock = HandClock(Arc::new(AtomicI64::new(START)));
        let mut first = Generation::new(LogId([1; 16]), partitions, 77);
        first.segment_records_max = 3;
        let log = Arc::new(MemoryLog::new(first, Arc::new(clock.clone())));
        let world = Self { logs: vec![log], store: Arc::new(MemoryUsageStore::new()), clock };
        world.store.register(&first, None).await.unwrap();
        world
    }

    fn newest(&self) -> &Arc<MemoryLog> {
        self.logs.last().unwrap()
    }

    /// Registers the next generation. The one before still takes what is sent to it.
    async fn grow(&mut self, partitions: u16) {
        let window = self.newest().generation().window;
        self.grow_to(partitions, window).await;
    }

    /// The same with windows of this length.
    async fn grow_to(&mut self, partitions: u16, window: WindowLength) {
        let before = *self.newest().generation();
        let log_id = LogId([before.log_id.0[0] + 1; 16]);
        let next = before.grown(log_id, partitions).with_windows(window);
        self.store.register(&next, Some(before.log_id)).await.unwrap();
        self.logs.push(Arc::new(MemoryLog::new(next, Arc::new(self.clock.clone()))));
    }

    async fn seal(&self, log: usize) {
        let log = &self.logs[log];
        let seal = record::encode_seal(log.generation(), "test");
        for partition in log.generation().partitions() {
            log.append(partition, vec![seal.clone()]).await.unwrap();
        }
    }

    async fn send(&self, log: usize, sent: Sent) {
        let generation = self.logs[log].generation();
        let mut pulse = v1::Pulse {
            tenant: "acme".into(),
            product_sku: "vm".into(),
            use_unity: "hour".into(),
            used_amount: Some(v1::Decimal { unscaled: 1, scale: 0 }),
            time: Some(prost_types::Timestamp { seconds: START, nanos: 0 }),
            ..v1::Pulse::default()
        };
        let mut source = v1::SourceBatch { sent: 1, ..v1::SourceBatch::default() };
        let partition = match sent {
            Sent::Numbered { producer, sequence } => {
                source.producer_id = vec![producer; 16];
                source.first_sequence = sequence;
                generation.partition_of_batch("", &source.producer_id)
            }
            Sent::ById { tenant, id } => {
                pulse.tenant = format!("tenant {tenant}");
                pulse.id = id.to_string();
                generation.partition_of_tenant(pulse.tenant.as_bytes())
            }
            Sent::Backfill { name, row } => {
                source.first_sequence = row;
                let name = format!("backfill {name}");
                let content_digest = name.as_bytes().to_vec();
                source.backfill = Some(v1::Backfill { name: name.clone(), content_digest });
                generation.partition_of_batch("", name.as_bytes())
            }
        };
        let fields = v1::LogRecord { envelope: None, pulses: vec![pulse] }.encode_to_vec();
        let body = record::encode(generation, vec![source], 1, [&fields[..]].into_iter());
        self.logs[log].append(partition, vec![body]).await.unwrap();
    }

    async fn consumer(
        &self,
        log: usize,
    ) -> Result<Consumer<MemoryLog, MemoryUsageStore>, ConsumerError> {
        let ports = ConsumerPorts {
            log: Arc::clone(&self.logs[log]),
            store: Arc::clone(&self.store),
            feed: None::<Arc<NoFeed>>,
            clock: Arc::new(self.clock.clone()),
        };
        Consumer::start(ports, ConsumerConfig::for_cores(2)).await
    }

    /// A consumer that starts, drains what is there, and ends.
    async fn consume(&self, log: usize) {
        let mut consumer = self.consumer(log).await.unwrap();
        consumer.tick().await.unwrap();
        consumer.shutdown().await;
    }

    async fn count(&self) -> u64 {
        self.rows().await.iter().map(|row| row.cell.aggregate.count).sum()
    }

    async fn rows(&self) -> Vec<UsageRow> {
        let everything = UsageFilter {
            tenant: None,
            product_sku: None,
            use_unity: None,
            from: Timestamp::MIN,
            to: Timestamp::MAX,
        };
        let cursor = UsageCursor::open(&*self.store, everything, |_| true).await.unwrap();
        cursor.all(&*self.store).await.unwrap()
    }

    async fn letters(&self, log: usize) -> Vec<DeadLetterReason> {
        let log_id = self.logs[log].generation().log_id;
        let (view, filter) = (View::default(), DeadLetterFilter::default());
        let groups = self.store.dead_letters(&view, log_id, &filter, None, 1_000).await.unwrap();
        let each = |group: &DeadLetterGroup| vec![group.key.reason; group.count as usize];
        groups.iter().flat_map(each).collect()
    }

    async fn assert_sound(&self) {
        for log in &self.logs {
            let report = audit::audit(
                Arc::clone(log),
                Arc::clone(&self.store),
                None,
                crate::blocks::SortRoom::in_temp_dir(1 << 16),
            )
            .await
            .unwrap();
            assert_eq!(report.mismatches, []);
            assert!(report.segments > 0 && report.refolded == report.segments, "{report:?}");
        }
    }
}

/// A few of each kind, none of which was there in another round.
fn round(number: u32) -> impl Iterator<Item = Sent> {
    (0..15u8).flat_map(move |i| {
        let producer = i;
        [
            Sent::Numbered { producer, sequence: u64::from(number) },
            Sent::ById { tenant: i, id: number },
            Sent::Backfill { name: i, row: u64::from(number) },
        ]
    })
}

fn multi_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn what_was_known_of_clients_goes_on_over_two_growths() {
    multi_thread().block_on(async {
        let mut world = World::new(2).await;
        let (mut number, mut late) = (0, BTreeSet::new());
        for (log, partitions) in [(0, 5), (1, 10), (2, 10)] {
            // Twice, so that the second is judged by a consumer that started behind a segment.
            for _ in 0..2 {
                for sent in (0..=number).flat_map(round) {
                    world.send(log, sent).await;
                }
                number += 1;
                world.consume(log).await;
                let distinct = u64::from(number) * 45;
                assert_eq!(world.count().await, distinct, "round {number} in log {log}");
                world.clock.0.fetch_add(700, Ordering::Relaxed);
            }
            world.grow(partitions).await;
            // A server that has seen the growth, before the SEAL; one that missed it, behind it.
            for sent in (0..=number).flat_map(round) {
                world.send(log + 1, sent).await;
            }
            world.seal(log).await;
            for sent in round(number) {
                world.send(log, sent).await;
                late.insert(format!("{sent:?}"));
            }
            world.consume(log).await;
            assert_eq!(world.letters(log).await, [DeadLetterReason::AfterSeal; 45]);
            assert_eq!(world.count().await, u64::from(number) * 45);
            number += 1;
            world.consume(log + 1).await;
            assert_eq!(world.count().await, u64::from(number) * 45);
        }
        assert_eq!(late.len(), 135);
        world.assert_sound().await;
        assert_eq!(world.letters(3).await, []);
    });
}

/// START is 33 minutes and 20 seconds after a whole hour.
#[test]
fn shorter_windows_take_over_what_was_known_and_leave_the_old_rows_as_they_are() {
    multi_thread().block_on(async {
        let mut world = World::new(2).await;
        for sent in round(0) {
            world.send(0, sent).await;
        }
        world.grow_to(2, WindowLength::QUARTER_HOUR).await;
        world.seal(0).await;
        world.consume(0).await;
        for sent in round(0).chain(round(1)) {
            world.send(1, sent).await;
        }
        world.consume(1).await;
        assert_eq!(world.count().await, 90, "what came again is a duplicate");
        for row in world.rows().await {
            let minutes = (START - row.key.window_start.parts().0) / 60;
            let is_old = row.key.segment.log_id == world.logs[0].generation().log_id;
            assert_eq!(minutes, if is_old { 33 } else { 3 });
        }
        world.assert_sound().await;
    });
}

#[test]
fn windows_that_do_not_divide_those_before_are_refused() {
    multi_thread().block_on(async {
        let mut world = World::new(2).await;
        world.send(0, Sent::ById { tenant: 0, id: 0 }).await;
        let window = WindowLength::new(std::time::Duration::from_secs(7_200)).unwrap();
        world.grow_to(2, window).await;
        world.seal(0).await;
        world.consume(0).await;
        let error = world.consumer(1).await.err().unwrap();
        assert!(
            error.to_string().contains("more than its partitions and shorter windows"),
            "{error}"
        );
    });
}

#[test]
fn a_generation_begins_only_once_the_one_before_has_wholly_ended() {
    multi_thread().block_on(async {
        let mut world = World::new(2).await;
        let old = *world.newest().generation();
        world.grow(5).await;
        for sent in round(0) {
            world.send(0, sent).await;
            world.send(1, sent).await;
        }
        let begun = async |world: &World| match world.consumer(1).await {
            Ok(consumer) => {
                consumer.shutdown().await;
                true
            }
            Err(ConsumerError::Restart(RestartError::NotSealed { .. })) => false,
            Err(error) => panic!("{error}"),
        };
        world.consume(0).await;
        assert!(!begun(&world).await);
        let seal = record::encode_seal(&old, "test");
        for partition in [0, 1] {
            assert!(!begun(&world).await);
            world.logs[0].append(Partition(partition), vec![seal.clone()]).await.unwrap();
            let noted = note_sealed(&old, &*world.store).await.unwrap();
            assert!(!noted, "the record is in the log and has no manifest");
            world.consume(0).await;
        }
        let sealed = world.store.journal().await.unwrap().log(old.log_id).sealed().cloned();
        let ends = sealed.unwrap().ends;
        let bounds = [0, 1].map(|partition| world.logs[0].bounds(Partition(partition)));
        let [one, two] = bounds.map(|bounds| async { bounds.await.unwrap().end });
        assert_eq!(ends, [one.await, two.await]);
        // Nobody notes it twice, whoever looks again.
        assert!(note_sealed(&old, &*world.store).await.unwrap());
        assert_eq!(world.store.log_events().await.unwrap().len(), 1);
        assert!(begun(&world).await);
        world.consume(1).await;
        assert_eq!(world.count().await, 45);
    });
}

#[test]
fn what_a_generation_leaves_is_read_once_for_all_partitions_of_the_next() {
    multi_thread().block_on(async {
        let mut world = World::new(2).await;
        for sent in round(0) {
            world.send(0, sent).await;
        }
        world.grow(5).await;
        world.seal(0).await;
        world.consume(0).await;
        let segments = world.store.stored().manifests.len() as u64;
        assert!(segments >= 10, "{segments}");
        let before = world.store.runs_read();
        world.consume(1).await;
        assert_eq!(world.store.runs_read() - before, segments);
    });
}

/// Partitions leave runs of ids side by side; each is forgotten in its own time.
#[test]
fn an_inherited_id_is_forgotten_after_its_horizon_whichever_partition_saw_it() {
    multi_thread().block_on(async {
        let mut world = World::new(2).await;
        let generation = *world.newest().generation();
        let [later, sooner] = [0, 1].map(|partition| {
            let goes_there = |tenant: &u8| {
                let name = format!("tenant {tenant}");
                generation.partition_of_tenant(name.as_bytes()) == Partition(partition)
            };
            let tenant = (0..).find(goes_there).unwrap();
            Sent::ById { tenant, id: 0 }
        });
        world.send(0, sooner).await;
        world.clock.0.fetch_add(3 * 3_600, Ordering::Relaxed);
        world.send(0, later).await;
        world.grow(3).await;
        world.seal(0).await;
        world.consume(0).await;
        // 27 hours after the first one, and 24 after the second.
        world.clock.0.fetch_add(24 * 3_600, Ordering::Relaxed);
        for sent in [sooner, later] {
            world.send(1, sent).await;
        }
        world.consume(1).await;
        assert_eq!(world.count().await, 2);
        assert_eq!(world.letters(1).await, [DeadLetterReason::TooLate]);
    });
}

#[test]
fn log_time_goes_on_so_that_what_is_forgotten_is_too_late() {
    multi_thread().block_on(async {
        let mut world = World::new(2).await;
        let sent = Sent::ById { tenant: 0, id: 0 };
        world.send(0, sent).await;
        world.grow(3).await;
        // Sent again at once to the new log, but the old one ends only a horizon later.
        world.send(1, sent).await;
        world.clock.0.fetch_add(27 * 3_600, Ordering::Relaxed);
        world.seal(0).await;
        world.consume(0).await;
        world.consume(1).await;
        assert_eq!(world.count().await, 1);
        assert_eq!(world.letters(1).await, [DeadLetterReason::TooLate]);
    });
}
