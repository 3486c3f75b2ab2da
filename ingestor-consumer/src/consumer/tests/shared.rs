//! Several consumers on one log, and the feed of final totals.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, atomic::Ordering},
};

use domain::{Cell, RowKey, TotalsFeed, UsageRow, WindowLength, log::LogBounds, totals::FeedError};
use storage::memory::MemoryDrain;

use super::*;

/// One process's view of a log that several share.
struct Share {
    log: MemoryLog,
    assigned: Mutex<BTreeSet<u16>>,
    noted: Mutex<BTreeMap<Partition, Offset>>,
}

impl PulseLog for Share {
    type Drain = MemoryDrain;

    fn generation(&self) -> &Generation {
        self.log.generation()
    }

    async fn append(
        &self,
        partition: Partition,
        records: Vec<Vec<u8>>,
    ) -> Result<Vec<Offset>, AppendError> {
        self.log.append(partition, records).await
    }

    async fn bounds(&self, partition: Partition) -> Result<LogBounds, LogError> {
        self.log.bounds(partition).await
    }

    fn drain(&self, partition: Partition, from: Offset) -> Result<MemoryDrain, LogError> {
        self.log.drain(partition, from)
    }

    fn assignment(&self) -> Result<Option<Vec<Partition>>, LogError> {
        Ok(Some(self.assigned.lock().unwrap().iter().copied().map(Partition).collect()))
    }

    fn note_stored(&self, partition: Partition, folded_to: Offset) {
        self.noted.lock().unwrap().insert(partition, folded_to);
    }
}

/// Keeps the newest row of each key, as any reader of the feed should.
#[derive(Default)]
struct Reader {
    rows: Mutex<BTreeMap<RowKey, Cell>>,
    failures: std::sync::atomic::AtomicU32,
}

impl TotalsFeed for Reader {
    async fn publish(&self, _: WindowLength, rows: &[UsageRow]) -> Result<(), FeedError> {
        let mut newest = self.rows.lock().unwrap();
        for UsageRow { key, cell } in rows {
            let stands = newest.entry(key.clone()).or_insert(*cell);
            if stands.offset_last < cell.offset_last {
                *stands = *cell;
            }
        }
        // What was published stays published: the whole of it comes again.
        match self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
        {
            Ok(_) => Err(FeedError("as the test asked".to_owned())),
            Err(_) => Ok(()),
        }
    }
}

async fn share(
    world: &World,
    assigned: &[u16],
    feed: &Arc<Reader>,
) -> Consumer<Share, MemoryUsageStore> {
    let log = Share {
        log: (*world.log).clone(),
        assigned: Mutex::new(assigned.iter().copied().collect()),
        noted: Mutex::default(),
    };
    let ports = ConsumerPorts {
        log: Arc::new(log),
        store: Arc::clone(&world.store),
        feed: Some(Arc::clone(feed)),
        clock: Arc::new(world.clock.clone()),
    };
    Consumer::start(ports, world.config()).await.unwrap()
}

/// Every row that the feed holds for closed segments is the stored one, and none is missing.
async fn assert_feed_is_whole(world: &World, feed: &Reader) {
    let stored = world.store.stored();
    let closed: BTreeSet<_> = stored.manifests.keys().copied().collect();
    let expected: BTreeMap<RowKey, Cell> = stored
        .rows
        .into_iter()
        .map(|(key, cell)| (key.0, cell))
        .filter(|(key, _)| closed.contains(&key.segment))
        .collect();
    let mut published = feed.rows.lock().unwrap().clone();
    published.retain(|key, _| closed.contains(&key.segment));
    assert_eq!(published, expected);
}

#[test]
fn partitions_move_between_consumers_and_nothing_is_lost_or_doubled() {
    multi_thread().block_on(async {
        let (world, feed) = (World::new(), Arc::new(Reader::default()));
        let mut a = share(&world, &[0, 1, 2], &feed).await;
        let mut b = share(&world, &[], &feed).await;
        let assign = |consumer: &Consumer<Share, _>, to: &[u16]| {
            *consumer.log.assigned.lock().unwrap() = to.iter().copied().collect();
        };
        let mut sent = 0;
        // Moves, a partition that nobody has for a while, and one that both have: the zombie.
        let moves: [(&[u16], &[u16]); 6] = [
            (&[0, 1, 2], &[]),
            (&[0], &[1, 2]),
            (&[0], &[2]),
            (&[0, 1, 2], &[0, 1, 2]),
            (&[], &[0, 1, 2]),
            (&[1, 2], &[0]),
        ];
        for (to_a, to_b) in moves {
            assign(&a, to_a);
            assign(&b, to_b);
            for i in 0..7 {
                world.append(i % 3, 3).await;
                sent += 3;
                a.tick().await.unwrap();
                b.tick().await.unwrap();
            }
        }
        assert_eq!(world.stored_count(), sent);
        a.close_segments("test").await.unwrap();
        b.close_segments("test").await.unwrap();
        let report = crate::audit::audit(
            Arc::clone(&world.log),
            Arc::clone(&world.store),
            None,
            crate::blocks::SortRoom::in_temp_dir(1 << 16),
        );
        let report = report.await.unwrap();
        assert_eq!(report.mismatches, []);
        assert!(report.segments >= 9, "{report:?}");
        assert_eq!(world.stored_count(), sent);
        assert_feed_is_whole(&world, &feed).await;
        a.shutdown().await;
        b.shutdown().await;
    });
}

#[test]
fn a_segment_is_published_before_its_manifest_and_the_log_hears_of_it_after() {
    multi_thread().block_on(async {
        let (world, feed) = (World::new(), Arc::new(Reader::default()));
        feed.failures.store(3, Ordering::Relaxed);
        let mut consumer = share(&world, &[0, 1, 2], &feed).await;
        // Open rows are stored by the tick and are no news yet.
        world.append(0, 5).await;
        consumer.tick().await.unwrap();
        assert_eq!(world.stored_count(), 5);
        assert!(feed.rows.lock().unwrap().is_empty());
        assert!(consumer.log.noted.lock().unwrap().is_empty());
        // The store fails before the manifest: the rows are published, and come again.
        world.store.fail_next_flush(FlushFault::BeforeManifest);
        consumer.close_segments("test").await.unwrap();
        assert_eq!(feed.failures.load(Ordering::Relaxed), 0);
        assert_feed_is_whole(&world, &feed).await;
        let count: u64 = feed.rows.lock().unwrap().values().map(|cell| cell.aggregate.count).sum();
        assert_eq!(count, 5, "a row that did not change since its last flush is published too");
        let noted = consumer.log.noted.lock().unwrap().clone();
        assert_eq!(noted.get(&Partition(0)), Some(&Offset(2)));
        consumer.shutdown().await;
    });
}
