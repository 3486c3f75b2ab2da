//! Replays over the memory adapters: they give what the log says, and disturb nothing.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use domain::{
    NoFeed, RowKey, SegmentId, UsageCursor, UsageStore as _, View, generation::Generation,
    store::UsageFilter,
};
use prost::Message;
use proto::{record, v1};
use storage::memory::{MemoryLog, MemoryUsageStore};

use super::*;
use crate::{
    Consumer, ConsumerConfig, ConsumerPorts, Work, audit, blocks::SortRoom, testing::HandClock,
};

const START: i64 = 2_000_000_000;

struct World {
    log: Arc<MemoryLog>,
    store: Arc<MemoryUsageStore>,
    clock: HandClock,
}

fn generation() -> Generation {
    let mut generation = Generation::new(domain::LogId([5; 16]), 2, 77);
    generation.segment_records_max = 3;
    generation
}

impl World {
    fn new() -> Self {
        let clock = HandClock(Arc::new(AtomicI64::new(START)));
        let log = Arc::new(MemoryLog::new(generation(), Arc::new(clock.clone())));
        Self { log, store: Arc::new(MemoryUsageStore::new()), clock }
    }

    /// A log of 20 records in each partition, a minute apart, each with one pulse whose id comes
    /// twice; consumed and closed.
    async fn consumed() -> Self {
        let world = Self::new();
        for id in 0..20 {
            world.send(id / 2).await;
            world.clock.0.fetch_add(60, Ordering::Relaxed);
        }
        world.consume(Work::Live).await;
        world
    }

    async fn send(&self, id: i64) {
        for partition in generation().partitions() {
            let pulse = v1::Pulse {
                tenant: format!("tenant {partition}"),
                product_sku: "vm".into(),
                use_unity: "hour".into(),
                used_amount: Some(v1::Decimal { unscaled: 1 + id, scale: 0 }),
                time: Some(proto::convert::wire_time(Timestamp::from_parts(START, 0).unwrap())),
                id: id.to_string(),
                properties: [("zone".to_owned(), format!("z{}", id % 3))].into(),
                ..v1::Pulse::default()
            };
            let fields = v1::LogRecord { envelope: None, pulses: vec![pulse] }.encode_to_vec();
            let source = v1::SourceBatch { sent: 1, ..v1::SourceBatch::default() };
            let body = record::encode(&generation(), vec![source], 1, [&fields[..]].into_iter());
            self.log.append(partition, vec![body]).await.unwrap();
        }
    }

    async fn consumer(&self, work: Work) -> Consumer<MemoryLog, MemoryUsageStore> {
        let ports = ConsumerPorts {
            log: Arc::clone(&self.log),
            store: Arc::clone(&self.store),
            feed: None::<Arc<NoFeed>>,
            clock: Arc::new(self.clock.clone()),
        };
        let config = ConsumerConfig { work, ..ConsumerConfig::for_cores(2) };
        Consumer::start(ports, config).await.unwrap()
    }

    /// Drains what is there; a live consumer closes its segments.
    async fn consume(&self, work: Work) {
        let mut consumer = self.consumer(work).await;
        match work {
            Work::Live => consumer.close_segments("test").await.unwrap(),
            Work::Rebuild(_) => consumer.tick().await.unwrap(),
        };
        consumer.shutdown().await;
    }

    async fn replay(&self, into: u16, from: ReplayFrom, declared: &[Declared]) -> OpenedEpoch {
        let plan = plan(into, from, declared);
        let opened = open(&*self.log, &*self.store, &plan).await.unwrap();
        self.consume(Work::Rebuild(opened.epoch)).await;
        opened
    }

    async fn differences(&self, before: u16, after: u16) -> (Comparison, Vec<Difference>) {
        let mut found = Vec::new();
        let epochs = [Epoch(before), Epoch(after)];
        let compared = compare(
            &*self.log,
            &*self.store,
            epochs,
            SortRoom::in_temp_dir(1 << 16),
            |found_one| found.push(found_one),
        );
        (compared.await.unwrap(), found)
    }

    async fn swap(&self, epoch: u16) -> Result<(), ReplayError> {
        swap(&*self.log, &*self.store, Epoch(epoch)).await
    }

    /// Dimensions and count of every row in use.
    async fn in_use(&self) -> Vec<(String, u64)> {
        let everything = UsageFilter {
            tenant: None,
            product_sku: None,
            use_unity: None,
            from: Timestamp::MIN,
            to: Timestamp::MAX,
        };
        let view: View = self.store.active_view().await.unwrap();
        let wanted = |segment: &SegmentId| view.counts(segment);
        let cursor = UsageCursor::open(&*self.store, everything, wanted).await.unwrap();
        let rows = cursor.all(&*self.store).await.unwrap();
        let text = |key: &RowKey| key.resource.dimensions.as_str().to_owned();
        rows.iter().map(|row| (text(&row.key), row.cell.aggregate.count)).collect()
    }

    async fn assert_sound(&self) {
        let report = audit::audit(
            Arc::clone(&self.log),
            Arc::clone(&self.store),
            None,
            SortRoom::in_temp_dir(1 << 16),
        )
        .await
        .unwrap();
        assert_eq!(report.mismatches, []);
        assert!(report.refolded >= 14, "{report:?}");
    }

    async fn count(&self) -> u64 {
        self.in_use().await.iter().map(|(_, count)| count).sum()
    }
}

fn plan(into: u16, from: ReplayFrom, declared: &[Declared]) -> ReplayPlan {
    ReplayPlan { into: Epoch(into), from, declared: declared.to_vec() }
}

fn minute(minute: i64) -> ReplayFrom {
    ReplayFrom::Time(Timestamp::from_parts(START + minute * 60, 0).unwrap())
}

fn by_zone() -> Vec<Declared> {
    vec![Declared { product_sku: "vm".into(), version: 1, dimensions: vec!["zone".into()] }]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_says_is_found_again_and_heals_what_was_lost() {
    let world = World::consumed().await;
    assert_eq!(world.count().await, 20);
    let lost = world.store.stored().rows.keys().nth(3).unwrap().0.clone();
    assert!(world.store.lose_row(&lost));
    world.replay(1, ReplayFrom::Start, &[]).await;
    assert_eq!(world.count().await, 19, "what is in use is not touched");
    let (compared, differences) = world.differences(0, 1).await;
    let [difference] = &differences[..] else { panic!("{differences:?}") };
    assert_eq!(
        (&difference.resource, difference.window_start),
        (&lost.resource, lost.window_start)
    );
    assert_eq!((compared.compared, compared.different), (2, 1));
    assert_eq!(compared.accounts, []);
    world.swap(1).await.unwrap();
    assert_eq!(world.count().await, 20);
    world.assert_sound().await;
    let (again, _) = world.differences(1, 1).await;
    assert!(again.is_equal());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_from_a_moment_goes_on_from_what_was_known_there() {
    for at in [0, 1, 9, 10, 11, 19, 25] {
        let world = World::consumed().await;
        let opened = world.replay(3, minute(at), &[]).await;
        assert_eq!(opened.starts[0] > Offset(0), at > 3, "{opened:?}");
        let (compared, differences) = world.differences(0, 3).await;
        assert_eq!(differences, [], "from minute {at}");
        assert!(compared.is_equal());
        world.swap(3).await.unwrap();
        assert_eq!(world.count().await, 20, "from minute {at}");
        // Ids from before the start are still duplicates after it.
        world.send(4).await;
        world.consume(Work::Live).await;
        assert_eq!(world.count().await, 20, "from minute {at}");
        world.assert_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dimensions_declared_for_a_replay_count_from_its_start() {
    let world = World::consumed().await;
    world.replay(1, ReplayFrom::Start, &by_zone()).await;
    let (compared, differences) = world.differences(0, 1).await;
    // One resource becomes three, in each partition.
    assert_eq!((compared.compared, compared.different), (8, 8));
    assert_eq!(differences.iter().filter(|d| d.after.is_none()).count(), 2);
    assert_eq!(world.in_use().await.len(), 16, "one row a segment");
    world.swap(1).await.unwrap();
    world.assert_sound().await;
    let in_use = world.in_use().await;
    assert!(in_use.iter().all(|(dimensions, _)| dimensions.contains("zone")), "{in_use:?}");
    assert_eq!(world.count().await, 20);
    // And back, and over a chain of epochs.
    world.replay(2, minute(10), &[]).await;
    world.swap(2).await.unwrap();
    world.assert_sound().await;
    assert_eq!(world.count().await, 20);
    world.swap(0).await.unwrap();
    assert_eq!(world.in_use().await.len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_consumer_follows_a_swap_and_counts_once() {
    let world = World::consumed().await;
    let mut live = world.consumer(Work::Live).await;
    world.replay(1, ReplayFrom::Start, &by_zone()).await;
    world.send(100).await;
    live.tick().await.unwrap();
    // Not closed yet, so the new epoch is not behind.
    world.swap(1).await.unwrap();
    assert_eq!(world.count().await, 20, "a pulse that only the old epoch has seen");
    world.send(101).await;
    live.close_segments("test").await.unwrap();
    assert_eq!(world.count().await, 24);
    world.assert_sound().await;
    live.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_is_behind_is_not_put_to_use() {
    let world = World::consumed().await;
    world.replay(1, ReplayFrom::Start, &[]).await;
    world.send(100).await;
    world.consume(Work::Live).await;
    let refused = world.swap(1).await.unwrap_err();
    assert!(matches!(refused, ReplayError::Behind { epoch: Epoch(1), .. }), "{refused}");
    assert!(matches!(world.swap(9).await, Err(ReplayError::Unknown(Epoch(9)))));
    world.consume(Work::Rebuild(Epoch(1))).await;
    world.swap(1).await.unwrap();
    world.swap(1).await.unwrap();
    let refused = world.swap(0).await;
    assert!(refused.is_ok(), "what was in use is as far: {refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_opened_once_and_in_one_way() {
    let world = World::consumed().await;
    let try_open = async |plan: ReplayPlan| open(&*world.log, &*world.store, &plan).await;
    let first = try_open(plan(5, ReplayFrom::Start, &[])).await.unwrap();
    assert_eq!(try_open(plan(5, ReplayFrom::Start, &[])).await.unwrap(), first);
    for other in [plan(5, ReplayFrom::Start, &by_zone())] {
        let refused = try_open(other).await.unwrap_err();
        assert!(matches!(refused, ReplayError::OpenedOtherwise(Epoch(5))), "{refused}");
    }
    let refused = try_open(plan(4, ReplayFrom::Start, &[])).await.unwrap_err();
    assert!(matches!(refused, ReplayError::Number { newest: Epoch(5), .. }), "{refused}");
    let refused = try_open(plan(0, ReplayFrom::Start, &[])).await.unwrap_err();
    assert!(matches!(refused, ReplayError::Active(Epoch(0))), "{refused}");
    let from_middle = try_open(plan(6, minute(10), &[])).await.unwrap();
    assert!(from_middle.starts.iter().all(|start| *start > Offset(0)));
    let refused = try_open(plan(6, ReplayFrom::Start, &[])).await.unwrap_err();
    assert!(matches!(refused, ReplayError::OpenedOtherwise(Epoch(6))), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_something_stands_on_is_not_dropped() {
    let world = World::consumed().await;
    let try_drop = async |epoch: u16, billed: &[u16]| {
        let billed = billed.iter().copied().map(Epoch).collect();
        super::drop(&*world.log, &*world.store, Epoch(epoch), &billed).await
    };
    let why = |result: Result<(), ReplayError>| match result {
        Err(ReplayError::Needed { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    assert!(why(try_drop(0, &[]).await).contains("in use"));
    assert!(matches!(try_drop(1, &[]).await, Err(ReplayError::Unknown(Epoch(1)))));
    world.replay(1, minute(10), &[]).await;
    world.swap(1).await.unwrap();
    assert!(why(try_drop(0, &[]).await).contains("epoch 1"));
    world.replay(2, ReplayFrom::Start, &[]).await;
    world.swap(2).await.unwrap();
    assert!(why(try_drop(1, &[0, 1]).await).contains("invoices"));
    try_drop(1, &[]).await.unwrap();
    try_drop(1, &[]).await.unwrap();
    try_drop(0, &[]).await.unwrap();
    assert!(matches!(world.swap(0).await, Err(ReplayError::Dropped(Epoch(0)))));
    let refused = open(&*world.log, &*world.store, &plan(1, ReplayFrom::Start, &[])).await;
    assert!(matches!(refused, Err(ReplayError::Dropped(Epoch(1)))), "{refused:?}");
    assert_eq!(world.count().await, 20);
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_start_expired_is_replayed_from_later_only() {
    let world = World::consumed().await;
    world.log.expire(Partition(1), Offset(7));
    let refused = open(&*world.log, &*world.store, &plan(1, ReplayFrom::Start, &[])).await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, ReplayError::Expired { partition: Partition(1), low: Offset(7), .. }),
        "{refused}"
    );
    world.replay(1, minute(10), &[]).await;
    world.swap(1).await.unwrap();
    assert_eq!(world.count().await, 20);
}
