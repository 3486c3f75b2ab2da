//! The law of blocks over the memory adapters: however segments were merged, by whomever and however
//! often that failed, usage is counted once, and what was below an edge stays what it was.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicI64, Ordering},
};

use domain::{
    Epoch, NoFeed, Offset, PulseLog as _, SegmentId, Total, UsageCursor, UsageStore as _,
    blocks::{Level, Plan},
};
use proptest::prelude::*;
use prost::Message;
use proto::{record, v1};
use storage::memory::{MemoryLog, MemoryUsageStore};

use super::*;
use crate::{Consumer, ConsumerConfig, ConsumerPorts, Work, audit, replay, testing::HandClock};

mod retention;

const START: i64 = 2_000_073_600; // 2033-05-18T20:00:00Z
const PARTITIONS: u16 = 3;

struct World {
    log: Arc<MemoryLog>,
    store: Arc<MemoryUsageStore>,
    clock: HandClock,
    sent: u64,
    epoch: Epoch,
    /// The greatest number of an epoch.
    newest: Epoch,
    /// Edges with what was below them when they were marked.
    edges: Vec<(Vec<Offset>, Totals)>,
}

/// Count and sum by resource and window.
type Totals = BTreeMap<(String, i64), (u128, String)>;

/// What happens to a world.
#[derive(Clone, Debug)]
enum Step {
    /// Pulses reach the log: which partition, tenant, SKU, zone, how many minutes ago they were used.
    Send(Vec<(u16, u8, u8, u8, i64)>),
    Pass(i64),
    Consume,
    Mark,
    /// Makes and cleans, and dies at this write.
    Make(Option<u64>),
    /// Folds the log again from this long ago, and puts that to use.
    Replay(i64),
    /// Folds the log again from this long ago, puts that to use and makes blocks of it or not, and drops it.
    Drop(i64, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pulse = (0..PARTITIONS, 0u8..2, 0u8..2, 0u8..3, prop_oneof![0i64..60, 0i64..1_400]);
    let step = prop_oneof![
        4 => prop::collection::vec(pulse, 1..6).prop_map(Step::Send),
        3 => prop_oneof![1i64..20, 30i64..90, 300i64..1_500].prop_map(Step::Pass),
        3 => Just(Step::Consume),
        1 => Just(Step::Mark),
        3 => prop_oneof![Just(None), (0u64..12).prop_map(Some)].prop_map(Step::Make),
        1 => (0i64..3_000).prop_map(Step::Replay),
        1 => (0i64..3_000, any::<bool>()).prop_map(|(ago, is_used)| Step::Drop(ago, is_used)),
    ];
    prop::collection::vec(step, 8..40)
}

fn generation() -> Generation {
    let mut generation = Generation::new(domain::LogId([5; 16]), PARTITIONS, 77);
    generation.segment_records_max = 3;
    generation
}

impl World {
    fn new() -> Self {
        let clock = HandClock(Arc::new(AtomicI64::new(START)));
        let log = Arc::new(MemoryLog::new(generation(), Arc::new(clock.clone())));
        let store = Arc::new(MemoryUsageStore::new());
        Self { log, store, clock, sent: 0, epoch: Epoch(0), newest: Epoch(0), edges: Vec::new() }
    }

    async fn run(&mut self, step: &Step) {
        match step {
            Step::Send(pulses) => {
                for pulse in pulses {
                    self.send(*pulse).await;
                }
            }
            Step::Pass(minutes) => {
                self.clock.0.fetch_add(minutes * 60, Ordering::Relaxed);
            }
            Step::Consume => self.consume(Work::Live).await,
            Step::Mark => self.mark().await,
            Step::Make(dies_at) => self.make(*dies_at).await,
            Step::Replay(ago) => self.replay(*ago).await,
            Step::Drop(ago, is_used) => self.drop(*ago, *is_used).await,
        }
    }

    async fn send(&mut self, (partition, tenant, sku, zone, ago): (u16, u8, u8, u8, i64)) {
        let used_at = self.clock.now().minus(Duration::from_secs(ago as u64 * 60));
        self.sent += 1;
        let pulse = v1::Pulse {
            tenant: format!("tenant {tenant}"),
            product_sku: format!("sku {sku}"),
            use_unity: "hour".into(),
            used_amount: Some(v1::Decimal { unscaled: 3 + self.sent as i64, scale: 1 }),
            time: Some(proto::convert::wire_time(used_at)),
            id: if tenant % 2 == 1 { String::new() } else { self.sent.to_string() },
            properties: [("zone".to_owned(), format!("z{zone}"))].into(),
            ..v1::Pulse::default()
        };
        let fields = v1::LogRecord { envelope: None, pulses: vec![pulse] }.encode_to_vec();
        // Tenants with odd numbers number their pulses.
        let producer_id = if tenant % 2 == 1 { vec![7; 16] } else { Vec::new() };
        let first_sequence = if tenant % 2 == 1 { self.sent } else { 0 };
        let source =
            v1::SourceBatch { sent: 1, producer_id, first_sequence, ..v1::SourceBatch::default() };
        let body = record::encode(&generation(), vec![source], 1, [&fields[..]].into_iter());
        self.log.append(domain::Partition(partition), vec![body]).await.unwrap();
    }

    async fn consume(&self, work: Work) {
        let ports = ConsumerPorts {
            log: Arc::clone(&self.log),
            store: Arc::clone(&self.store),
            feed: None::<Arc<NoFeed>>,
            clock: Arc::new(self.clock.clone()),
        };
        let limits = domain::FoldLimits { state_deltas: 5, ..domain::FoldLimits::FIRST };
        let config = ConsumerConfig { work, limits, ..ConsumerConfig::for_cores(1) };
        let mut consumer = Consumer::start(ports, config).await.unwrap();
        match work {
            Work::Live => consumer.close_segments("test").await.unwrap(),
            Work::Rebuild(_) => consumer.tick().await.unwrap(),
        };
        consumer.shutdown().await;
    }

    /// As a billing run takes its cut.
    async fn mark(&mut self) {
        self.consume(Work::Live).await;
        let mut ends = Vec::new();
        for partition in generation().partitions() {
            let log_id = generation().log_id;
            let key = domain::store::PartitionKey { log_id, partition, epoch: self.epoch };
            ends.push(self.store.newest_manifest(key).await.unwrap().unwrap().end);
        }
        let edge = self.store.mark_edge(generation().log_id, self.epoch, &ends).await.unwrap();
        assert_eq!(edge, ends, "nothing is blocked beyond what is closed");
        let totals = self.totals(Some(&edge)).await;
        self.edges.push((edge, totals));
    }

    fn maker(&self) -> BlockMaker<MemoryUsageStore> {
        let config = BlocksConfig {
            room: SortRoom::in_temp_dir(2_000),
            keep_replaced: Duration::ZERO,
            ..BlocksConfig::new(std::env::temp_dir().into())
        };
        BlockMaker::new(Arc::clone(&self.store), generation(), Arc::new(self.clock.clone()), config)
    }

    async fn make(&self, dies_at: Option<u64>) {
        self.store.fail_block_writes_after(dies_at);
        let made = self.maker().run().await;
        assert!(made.is_ok() || dies_at.is_some(), "{made:?}");
        self.store.fail_block_writes_after(None);
    }

    async fn fold_again(&mut self, ago: i64) -> Epoch {
        self.consume(Work::Live).await;
        let from = self.clock.now().minus(Duration::from_secs(ago as u64 * 60));
        let into = Epoch(self.newest.0 + 1);
        let from = replay::ReplayFrom::Time(from);
        let plan = replay::ReplayPlan { into, from, declared: Vec::new() };
        replay::open(&*self.log, &*self.store, &plan).await.unwrap();
        self.consume(Work::Rebuild(into)).await;
        self.newest = into;
        into
    }

    async fn replay(&mut self, ago: i64) {
        let into = self.fold_again(ago).await;
        replay::swap(&*self.log, &*self.store, into).await.unwrap();
        self.epoch = into;
    }

    async fn drop(&mut self, ago: i64, is_used: bool) {
        let dropped = self.fold_again(ago).await;
        if is_used {
            replay::swap(&*self.log, &*self.store, dropped).await.unwrap();
            self.make(None).await;
            replay::swap(&*self.log, &*self.store, self.epoch).await.unwrap();
        }
        let none = std::collections::BTreeSet::new();
        replay::drop(&*self.log, &*self.store, dropped, &none).await.unwrap();
        self.retain(None).await;
        let stored = self.store.stored();
        assert!(stored.rows.keys().all(|key| key.0.segment.epoch != dropped));
        assert!(stored.manifests.keys().all(|segment| segment.epoch != dropped));
        let map = self.store.block_map().await.unwrap();
        assert!(map.epochs().all(|(_, epoch, _)| epoch != dropped));
    }

    /// What is counted now, below an edge or all.
    async fn totals(&self, below: Option<&[Offset]>) -> Totals {
        let view = self.store.active_view().await.unwrap();
        let wanted = |segment: &SegmentId| {
            let end = below.map(|ends| ends[usize::from(segment.partition.0)]);
            view.counts(segment) && end.is_none_or(|end| segment.start < end)
        };
        let cursor = UsageCursor::open(&*self.store, make::EVERYTHING, wanted).await.unwrap();
        let mut totals: BTreeMap<(String, i64), Total> = BTreeMap::new();
        for row in cursor.all(&*self.store).await.unwrap() {
            let of = &row.key.resource;
            let name = format!("{} {} {}", of.tenant, of.product_sku, of.dimensions);
            let place = (name, row.key.window_start.micros());
            let total = Total::from(&row.cell.aggregate);
            totals.entry(place).and_modify(|all| all.merge(&total)).or_insert(total);
        }
        totals.into_iter().map(|(key, total)| (key, (total.count, total.sum.to_string()))).collect()
    }

    async fn check(&self, expected: &Totals) {
        assert_eq!(&self.totals(None).await, expected);
        for (edge, below) in &self.edges {
            assert_eq!(&self.totals(Some(edge)).await, below, "below {edge:?}");
        }
    }

    async fn audited(&self) {
        let room = SortRoom::in_temp_dir(2_000);
        let (log, store) = (Arc::clone(&self.log), Arc::clone(&self.store));
        let report = audit::audit(log, store, None, room).await.unwrap();
        assert_eq!(report.mismatches, []);
        assert_eq!(report.blocks, report.blocks_remade, "{report:?}");
    }
}

fn on_a_runtime(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(test());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn usage_is_counted_once_whatever_is_merged_and_whatever_fails(steps in steps()) {
        on_a_runtime(async || {
            let mut world = World::new();
            // A world without blocks says what is right.
            let mut plain = World::new();
            for step in &steps {
                world.run(step).await;
                if matches!(step, Step::Make(_)) {
                    plain.make_nothing();
                } else {
                    plain.run(step).await;
                }
                let expected = plain.totals(None).await;
                world.check(&expected).await;
            }
            world.clock.0.fetch_add(40 * 86_400, Ordering::Relaxed);
            for _ in 0..2 {
                world.make(None).await;
                world.check(&plain.totals(None).await).await;
            }
            world.audited().await;
            let maker = &mut world.maker();
            for _ in 0..2 {
                maker.run().await.unwrap();
            }
            let left = world.store.stored().rows.into_keys().filter(|key| {
                key.0.segment.epoch == world.epoch
            });
            let map = world.store.block_map().await.unwrap();
            for key in left {
                assert!(!map.covers(&key.0.segment), "what is in a block is deleted");
            }
            let stored = world.store.stored_blocks().await.unwrap();
            assert!(stored.iter().all(|block| map.has(*block)), "{stored:?}");
        });
    }

    /// However many merges came between, the same stretch with the same edges is the same bytes.
    #[test]
    fn a_block_has_the_same_bytes_by_whatever_merges_it_was_made(
        steps in prop::collection::vec(prop_oneof![
            3 => prop::collection::vec((0..PARTITIONS, 0u8..2, 0u8..2, 0u8..3, 0i64..1_400), 1..6).prop_map(Step::Send),
            3 => (20i64..400).prop_map(Step::Pass),
            1 => Just(Step::Mark),
        ], 10..30),
        made_after: Vec<bool>,
    ) {
        on_a_runtime(async || {
            let (mut often, mut once) = (World::new(), World::new());
            for (place, step) in steps.iter().enumerate() {
                often.run(step).await;
                once.run(step).await;
                often.consume(Work::Live).await;
                once.consume(Work::Live).await;
                if made_after.get(place).copied().unwrap_or(true) {
                    often.make(None).await;
                }
            }
            for world in [&often, &once] {
                world.clock.0.fetch_add(86_400, Ordering::Relaxed);
                world.make(None).await;
            }
            // All of each world as one block, in the place of those that the calendar asks for.
            often.merge_all().await;
            once.merge_all().await;
            let (one, other) = (often.only_block().await, once.only_block().await);
            assert_eq!(one, other);
        });
    }
}

/// The manifest and the pages of a block.
type Bytes = (Vec<u8>, Vec<Vec<u8>>);

impl World {
    const fn make_nothing(&self) {}

    /// Plans and makes one block of all blocks there are.
    async fn merge_all(&self) {
        let key = (generation().log_id, self.epoch);
        let map = self.store.block_map().await.unwrap();
        let Some(blocks) = map.epoch(key.0, key.1) else { return };
        if blocks.blocks.len() < 2 {
            return;
        }
        let maker = self.maker();
        let last = blocks.blocks.last().unwrap();
        let range = (Level::Month, last.until, 0..blocks.blocks.len());
        let plan: Plan = maker.merge(blocks, range).await.unwrap();
        let mut next = map.next_version();
        next.plan(key, blocks.from.clone(), plan);
        self.store.replace_block_map(&next).await.unwrap();
        self.make(None).await;
    }

    async fn only_block(&self) -> Option<Bytes> {
        let map = self.store.block_map().await.unwrap();
        let blocks = &map.epoch(generation().log_id, self.epoch)?.blocks;
        assert_eq!(blocks.len(), 1);
        let number = blocks[0].number;
        let manifest = self.store.block_manifest(number).await.unwrap().unwrap();
        let pages = self.store.block_pages(number, 0, 10_000).await.unwrap();
        Some((manifest.encode(), pages.into_iter().map(|page| page.bytes).collect()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_lost_a_row_is_made_no_block_of() {
    let mut world = World::new();
    world.run(&Step::Send(vec![(0, 0, 0, 0, 0), (1, 1, 1, 1, 0)])).await;
    world.consume(Work::Live).await;
    let lost = world.store.stored().rows.keys().next().unwrap().0.clone();
    assert!(world.store.lose_row(&lost));
    world.clock.0.fetch_add(7_200, Ordering::Relaxed);
    let error = world.maker().run().await.unwrap_err().to_string();
    assert!(error.contains("0 rows of the segment") && error.contains("manifest has 1"), "{error}");
    let kept = world.store.stored().rows.len();
    assert_eq!(kept, 1, "what is left stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn days_and_months_that_are_over_become_one_block() {
    let mut world = World::new();
    let levels = async |world: &World| {
        let map = world.store.block_map().await.unwrap();
        let blocks = map.epoch(generation().log_id, Epoch(0)).unwrap();
        blocks.blocks.iter().map(|block| block.level).collect::<Vec<_>>()
    };
    let hour = async |world: &mut World| {
        world.run(&Step::Send(vec![(0, 0, 0, 0, 0), (1, 0, 0, 0, 30)])).await;
        world.run(&Step::Pass(60)).await;
        world.consume(Work::Live).await;
        world.run(&Step::Pass(6)).await;
        world.make(None).await;
    };
    for _ in 0..3 {
        hour(&mut world).await;
    }
    assert_eq!(levels(&world).await, [Level::First; 3]);
    for _ in 0..22 {
        hour(&mut world).await;
    }
    let found = levels(&world).await;
    assert_eq!(found.iter().filter(|level| **level == Level::Day).count(), 1, "{found:?}");
    let expected = world.totals(None).await;
    world.run(&Step::Pass(30 * 24 * 60)).await;
    world.make(None).await;
    assert_eq!(levels(&world).await, [Level::Month]);
    world.check(&expected).await;
    world.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_slower_than_what_it_reads_is_kept_is_told_so() {
    let mut world = World::new();
    world.run(&Step::Send(vec![(0, 0, 0, 0, 0)])).await;
    world.consume(Work::Live).await;
    let mut slow =
        UsageCursor::open(&*world.store, make::EVERYTHING, |_: &SegmentId| true).await.unwrap();
    world.run(&Step::Pass(66)).await;
    world.make(None).await;
    let told = loop {
        match slow.next(&*world.store, 1).await {
            Ok(Some(_)) => {}
            told => break told,
        }
    };
    let error = told.unwrap_err().to_string();
    assert!(error.contains("read it again"), "{error}");
    assert_eq!(world.totals(None).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_finds_what_is_wrong_in_a_block() {
    let mut world = World::new();
    world.run(&Step::Send(vec![(0, 0, 0, 0, 0), (1, 0, 1, 0, 0)])).await;
    world.consume(Work::Live).await;
    world.run(&Step::Pass(66)).await;
    world.make(None).await;
    world.audited().await;
    // The same block with a cell less, and with another amount.
    for wrong in [0, 1] {
        let (number, pages) = {
            let map = world.store.block_map().await.unwrap();
            let number = map.epoch(generation().log_id, Epoch(0)).unwrap().blocks[0].number;
            (number, world.store.block_pages(number, 0, 10).await.unwrap())
        };
        let mut entries = Vec::new();
        for page in &pages {
            domain::blocks::page::read(&page.bytes, |_| true, |entry| entries.push(entry)).unwrap();
        }
        if wrong == 0 {
            entries.remove(0);
        } else {
            let total = entries[0].cells[0].total;
            entries[0].cells[0].total.merge(&total);
        }
        let mut writer = domain::blocks::PageWriter::new(generation().window);
        let mut made: Vec<_> = entries.iter().filter_map(|entry| writer.push(entry)).collect();
        made.extend(writer.finish());
        world.store.write_block_pages(number, made, Vec::new()).await.unwrap();
        let room = SortRoom::in_temp_dir(1 << 16);
        let (log, store) = (Arc::clone(&world.log), Arc::clone(&world.store));
        let report = audit::audit(log, store, None, room).await.unwrap();
        assert!(report.mismatches.iter().any(|found| found.invariant == "I13"), "{report:?}");
        world.store.write_block_pages(number, pages, Vec::new()).await.unwrap();
        world.audited().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_ahead_keeps_nothing_from_being_made_or_deleted() {
    const YEAR: i64 = 365 * 24 * 60;
    let mut world = World::new();
    let mut maker = world.maker();
    world.run(&Step::Pass(YEAR)).await;
    assert_eq!(maker.run().await.unwrap(), BlocksMade::default());
    world.run(&Step::Pass(-YEAR)).await;
    for hours in 1..=2 {
        world.run(&Step::Send(vec![(0, 0, 0, 0, 0)])).await;
        world.consume(Work::Live).await;
        world.run(&Step::Pass(66)).await;
        let made = maker.run().await.unwrap();
        assert_eq!((made.blocks, made.deleted), (1, 1), "after {hours} hours");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_from_before_the_last_one_counts_nothing_twice() {
    let mut world = World::new();
    for hour in 0..30u8 {
        let all = (0..PARTITIONS).map(|partition| (partition, hour % 2, 0, hour % 3, 5));
        world.run(&Step::Send(all.collect())).await;
        world.run(&Step::Pass(60)).await;
        world.consume(Work::Live).await;
        world.make(None).await;
    }
    let expected = world.totals(None).await;
    // Each begins inside the blocks of the first epoch, before the epoch in between has one.
    for hours_ago in [3, 9, 15, 4] {
        world.run(&Step::Replay(hours_ago * 60)).await;
        world.check(&expected).await;
    }
    world.run(&Step::Pass(66)).await;
    world.make(None).await;
    world.check(&expected).await;
}
