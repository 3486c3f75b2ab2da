//! A clock of the log that was two days ahead for a moment, over the memory adapters.

use std::sync::atomic::{AtomicI64, Ordering};

use domain::{Clock, NoFeed, generation::Generation};
use prost::Message;
use proto::{record, v1};
use storage::memory::{MemoryLog, MemoryUsageStore};

use super::*;
use crate::{
    Consumer, ConsumerConfig, ConsumerError, ConsumerPorts, Work, audit,
    replay::{self, ReplayFrom, ReplayPlan},
    testing::HandClock,
};

const START: i64 = 2_000_000_000;
const TWO_DAYS: i64 = 172_800;
const ONLY: Partition = Partition(0);

impl HandClock {
    fn set(&self, seconds: i64) {
        self.0.store(START + seconds, Ordering::Relaxed);
    }
}

struct World {
    log: Arc<MemoryLog>,
    store: Arc<MemoryUsageStore>,
    clock: HandClock,
}

fn generation() -> Generation {
    Generation::new(domain::LogId([5; 16]), 1, 77)
}

impl World {
    fn new() -> Self {
        let clock = HandClock(Arc::new(AtomicI64::new(START)));
        let log = Arc::new(MemoryLog::new(generation(), Arc::new(clock.clone())));
        Self { log, store: Arc::new(MemoryUsageStore::new()), clock }
    }

    /// Appends a pulse of the start, at so many seconds after it by the log's clock.
    async fn append_at(&self, seconds: i64) {
        let pulse = v1::Pulse {
            tenant: "acme".into(),
            product_sku: "vm".into(),
            use_unity: "hour".into(),
            used_amount: Some(v1::Decimal { unscaled: 1, scale: 0 }),
            time: Some(proto::convert::wire_time(Timestamp::from_parts(START, 0).unwrap())),
            ..v1::Pulse::default()
        };
        let fields = v1::LogRecord { envelope: None, pulses: vec![pulse] }.encode_to_vec();
        let source = v1::SourceBatch { sent: 1, ..v1::SourceBatch::default() };
        let body = record::encode(&generation(), vec![source], 1, [&fields[..]].into_iter());
        self.clock.set(seconds);
        self.log.append(ONLY, vec![body]).await.unwrap();
    }

    /// A good record, one of a clock that is two days ahead, and a good one; a minute apart.
    async fn with_a_jump() -> Self {
        let world = Self::new();
        world.append_at(0).await;
        world.append_at(60 + TWO_DAYS).await;
        world.append_at(120).await;
        world
    }

    async fn consumer(&self, work: Work) -> Consumer<MemoryLog, MemoryUsageStore> {
        let ports = ConsumerPorts {
            log: Arc::clone(&self.log),
            store: Arc::clone(&self.store),
            feed: None::<Arc<NoFeed>>,
            clock: Arc::new(self.clock.clone()),
        };
        let config = ConsumerConfig { work, ..ConsumerConfig::for_cores(1) };
        Consumer::start(ports, config).await.unwrap()
    }

    async fn rebase(&self) -> Vec<Rebase> {
        let (now, reason) = (self.clock.now(), "the test's clock".to_owned());
        let asked = Asked { now, ahead: None, reason };
        let found = find(&self.log, &*self.store, ONLY, &asked).await.unwrap();
        note(&*self.store, &found).await.unwrap();
        found
    }

    /// Accepted and late pulses, and seconds of log time after the start.
    async fn standing(&self, epoch: u16) -> (u64, u64, i64) {
        let log_id = generation().log_id;
        let key = PartitionKey { log_id, partition: ONLY, epoch: Epoch(epoch) };
        let progress = self.store.progress(key).await.unwrap().unwrap();
        let counts = progress.counts;
        (counts.accepted, counts.late, progress.eff_ts.parts().0 - START)
    }

    async fn assert_audit_is_clean(&self) {
        let report = audit::audit(
            Arc::clone(&self.log),
            Arc::clone(&self.store),
            None,
            crate::blocks::SortRoom::in_temp_dir(1 << 16),
        )
        .await
        .unwrap();
        assert_eq!(report.mismatches, []);
        assert!(report.segments > 0);
    }
}

fn multi_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn a_partition_goes_on_by_itself_once_the_consumers_clock_is_right() {
    multi_thread().block_on(async {
        let world = World::new();
        world.append_at(0).await;
        world.append_at(1_000).await;
        world.clock.set(1_000 - 601);
        let mut consumer = world.consumer(Work::Live).await;
        for _ in 0..2 {
            let error = consumer.tick().await.unwrap_err();
            let ConsumerError::Partitions(troubles) = &error else { panic!("{error}") };
            let [trouble] = &troubles[..] else { panic!("{error}") };
            assert!(matches!(*trouble.cause, ConsumerError::Stopped { partition: ONLY, .. }));
        }
        // When it is tried again.
        world.clock.set(1_000 - 590);
        // Folded on from the last closed segment: there is none.
        assert_eq!(consumer.tick().await.unwrap().records, 2);
        assert_eq!(world.standing(0).await, (2, 0, 1_000));
        consumer.shutdown().await;
    });
}

#[test]
fn a_partition_that_stopped_goes_on_after_the_operators_word_and_log_time_stays() {
    multi_thread().block_on(async {
        let world = World::with_a_jump().await;
        let mut consumer = world.consumer(Work::Live).await;
        let error = consumer.tick().await.unwrap_err().to_string();
        assert!(error.contains("pulso log rebase --partition 0 --reason"), "{error}");
        let found = world.rebase().await;
        let [rebase] = &found[..] else { panic!("{found:?}") };
        assert_eq!((rebase.from, rebase.to, rebase.epoch), (Offset(1), Offset(2), Epoch(0)));
        assert_eq!(rebase.ahead, Duration::from_secs(TWO_DAYS.unsigned_abs() - 60));
        // When it is tried again.
        world.clock.set(122);
        consumer.tick().await.unwrap();
        assert_eq!(world.standing(0).await, (3, 0, 120));
        assert_eq!(world.rebase().await, [], "it is known");
        consumer.close_segments("test").await.unwrap();
        consumer.shutdown().await;
        world.assert_audit_is_clean().await;
        // The next start decides the same.
        world.append_at(180).await;
        let mut consumer = world.consumer(Work::Live).await;
        consumer.tick().await.unwrap();
        assert_eq!(world.standing(0).await, (4, 0, 180));
        consumer.shutdown().await;
    });
}

#[test]
fn what_was_counted_at_a_wrong_time_is_put_right_by_a_replay() {
    multi_thread().block_on(async {
        let world = World::new();
        world.append_at(0).await;
        world.append_at(60 + TWO_DAYS).await;
        // The consumer's clock was wrong too.
        let mut consumer = world.consumer(Work::Live).await;
        consumer.tick().await.unwrap();
        world.append_at(120).await;
        consumer.tick().await.unwrap();
        assert_eq!(world.standing(0).await, (1, 2, TWO_DAYS + 60), "all is late for two days");
        let found = world.rebase().await;
        assert_eq!(found.iter().map(|rebase| rebase.epoch).collect::<Vec<_>>(), [Epoch(1)]);
        consumer.close_segments("test").await.unwrap();
        let from = ReplayFrom::Time(world.clock.now());
        let plan = ReplayPlan { into: Epoch(1), from, declared: Vec::new() };
        let opened = replay::open(&*world.log, &*world.store, &plan).await.unwrap();
        assert!(opened.starts[0] <= Offset(1), "{opened:?}");
        let mut rebuilding = world.consumer(Work::Rebuild(Epoch(1))).await;
        rebuilding.tick().await.unwrap();
        rebuilding.shutdown().await;
        replay::swap(&*world.log, &*world.store, Epoch(1)).await.unwrap();
        consumer.tick().await.unwrap();
        assert_eq!(world.standing(1).await, (3, 0, 120));
        assert_eq!(world.standing(0).await, (1, 2, TWO_DAYS + 60), "the old epoch stays as it is");
        world.assert_audit_is_clean().await;
        consumer.shutdown().await;
    });
}

#[test]
fn each_stretch_is_taken_back_by_as_much_as_it_was_ahead() {
    multi_thread().block_on(async {
        let world = World::new();
        for seconds in [0, 10 + TWO_DAYS, 20 + TWO_DAYS, 30, 40 + 3_600, 45] {
            world.append_at(seconds).await;
        }
        let found = world.rebase().await;
        let stretch = |rebase: &Rebase| (rebase.from.0, rebase.to.0, rebase.ahead.as_secs());
        let two_days = TWO_DAYS.unsigned_abs();
        let stretches: Vec<_> = found.iter().map(stretch).collect();
        assert_eq!(stretches, [(1, 3, two_days - 10), (4, 5, 3_595)]);
        let mut consumer = world.consumer(Work::Live).await;
        consumer.tick().await.unwrap();
        assert_eq!(world.standing(0).await, (6, 0, 45));
        consumer.shutdown().await;
    });
}
