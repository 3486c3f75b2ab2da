//! Partitions in trouble: each cause stops its own partition, says why, and is tried again.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::{
    log::{LogBounds, LogDrain, LogRecord},
    store::{Flush, SegmentClose},
};
use storage::memory::MemoryDrain;

use super::*;
use crate::fold;

/// A log of which partitions can be away, and which counts what is asked of it at the same time.
pub(super) struct Shaky {
    pub(super) log: Arc<MemoryLog>,
    pub(super) away: Mutex<BTreeSet<u16>>,
    assigned: Mutex<BTreeSet<u16>>,
    asked: AtMost,
    /// Readers that are open.
    readers: Arc<AtMost>,
    opened: AtomicUsize,
}

/// A count and the greatest it ever was.
#[derive(Default)]
struct AtMost {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl AtMost {
    fn begin(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
    }

    fn end(&self) {
        self.now.fetch_sub(1, Ordering::SeqCst);
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

pub(super) struct CountedDrain {
    drain: MemoryDrain,
    readers: Arc<AtMost>,
}

impl Drop for CountedDrain {
    fn drop(&mut self) {
        self.readers.end();
    }
}

impl LogDrain for CountedDrain {
    fn read(
        &mut self,
        until: Offset,
        bytes_max: usize,
        visit: &mut dyn FnMut(LogRecord<'_>),
    ) -> Result<Offset, LogError> {
        self.drain.read(until, bytes_max, visit)
    }
}

impl Shaky {
    pub(super) fn over(log: &Arc<MemoryLog>) -> Arc<Self> {
        let all = log.generation().partitions().map(|partition| partition.0).collect();
        Arc::new(Self {
            log: Arc::clone(log),
            away: Mutex::default(),
            assigned: Mutex::new(all),
            asked: AtMost::default(),
            readers: Arc::default(),
            opened: AtomicUsize::new(0),
        })
    }

    fn reach(&self, partition: Partition) -> Result<(), LogError> {
        match self.away.lock().unwrap().contains(&partition.0) {
            true => Err(LogError::Unavailable(format!("partition {partition} has no leader"))),
            false => Ok(()),
        }
    }
}

impl PulseLog for Shaky {
    type Drain = CountedDrain;

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
        self.asked.begin();
        // Others get their turn to ask.
        tokio::task::yield_now().await;
        self.asked.end();
        self.reach(partition)?;
        self.log.bounds(partition).await
    }

    fn assignment(&self) -> Result<Option<Vec<Partition>>, LogError> {
        Ok(Some(self.assigned.lock().unwrap().iter().copied().map(Partition).collect()))
    }

    fn drain(&self, partition: Partition, from: Offset) -> Result<CountedDrain, LogError> {
        self.reach(partition)?;
        let drain = self.log.drain(partition, from)?;
        self.readers.begin();
        self.opened.fetch_add(1, Ordering::SeqCst);
        Ok(CountedDrain { drain, readers: Arc::clone(&self.readers) })
    }
}

pub(super) async fn start(
    world: &World,
    log: &Arc<Shaky>,
    config: ConsumerConfig,
) -> Result<Consumer<Shaky, MemoryUsageStore>, ConsumerError> {
    let ports = ConsumerPorts {
        log: Arc::clone(log),
        store: Arc::clone(&world.store),
        feed: None::<Arc<NoFeed>>,
        clock: Arc::new(world.clock.clone()),
    };
    Consumer::start(ports, config).await
}

/// Partitions in trouble, and what they say.
fn troubled(error: ConsumerError) -> (Vec<u16>, String) {
    let text = error.to_string();
    let ConsumerError::Partitions(troubles) = error else { panic!("{text}") };
    (troubles.iter().map(|trouble| trouble.partition.0).collect(), text)
}

/// A world of which each partition was counted and closed once: 10 pulses in each.
async fn counted() -> World {
    let world = World::new();
    let mut consumer = world.consumer().await;
    for partition in 0..3 {
        world.append(partition, 10).await;
    }
    consumer.close_segments("test").await.unwrap();
    consumer.shutdown().await;
    world
}

/// What is appended now is counted but in partition 1, which says `why`.
async fn only_1_is_in_trouble(world: &World, why: &str) {
    let before = world.stored_count();
    let mut consumer = world.consumer().await;
    for partition in 0..3 {
        world.append(partition, 7).await;
    }
    let (partitions, text) = troubled(consumer.troubles().expect("the start says so too"));
    assert_eq!(partitions, [1]);
    assert!(text.contains(why) && text.contains("partition 1"), "{text}");
    assert_eq!(troubled(consumer.tick().await.unwrap_err()), (vec![1], text));
    assert_eq!(world.stored_count(), before + 14);
    consumer.shutdown().await;
}

#[test]
fn a_partition_without_a_leader_stops_no_other_and_goes_on_by_itself() {
    multi_thread().block_on(async {
        let world = World::new();
        let log = Shaky::over(&world.log);
        log.away.lock().unwrap().insert(1);
        let mut consumer = start(&world, &log, world.config()).await.unwrap();
        for partition in 0..3 {
            world.append(partition, 7).await;
        }
        let (partitions, text) = troubled(consumer.tick().await.unwrap_err());
        assert_eq!(partitions, [1]);
        assert!(text.contains("partition 1 has no leader"), "{text}");
        assert_eq!(world.stored_count(), 14);
        // It is tried again after a second and not before.
        log.away.lock().unwrap().clear();
        consumer.tick().await.unwrap_err();
        world.clock.0.fetch_add(1, Ordering::Relaxed);
        consumer.tick().await.unwrap();
        assert_eq!(world.stored_count(), 21);
        // While it runs, likewise.
        log.away.lock().unwrap().insert(1);
        for partition in 0..3 {
            world.append(partition, 7).await;
        }
        assert_eq!(troubled(consumer.tick().await.unwrap_err()).0, [1]);
        assert_eq!(world.stored_count(), 35);
        log.away.lock().unwrap().clear();
        world.clock.0.fetch_add(1, Ordering::Relaxed);
        consumer.tick().await.unwrap();
        assert_eq!(world.stored_count(), 42);
        consumer.shutdown().await;
    });
}

#[test]
fn a_rebalance_takes_the_partitions_that_it_can() {
    multi_thread().block_on(async {
        let world = World::new();
        let log = Shaky::over(&world.log);
        *log.assigned.lock().unwrap() = [0].into();
        log.away.lock().unwrap().insert(1);
        let mut consumer = start(&world, &log, world.config()).await.unwrap();
        for partition in 0..3 {
            world.append(partition, 7).await;
        }
        consumer.tick().await.unwrap();
        *log.assigned.lock().unwrap() = [0, 1, 2].into();
        assert_eq!(troubled(consumer.tick().await.unwrap_err()).0, [1]);
        assert_eq!(world.stored_count(), 14);
        // What another process has is no trouble of this one.
        *log.assigned.lock().unwrap() = [0, 2].into();
        consumer.tick().await.unwrap();
        consumer.shutdown().await;
    });
}

#[test]
fn an_anchor_that_differs_stops_its_partition_while_others_prove_the_log() {
    multi_thread().block_on(async {
        let world = counted().await;
        let other = World { store: Arc::clone(&world.store), ..World::new() };
        for partition in [0, 2] {
            other.append(partition, 10).await;
            let boundary = record::encode_boundary(&generation(), "test");
            other.log.append(Partition(partition), vec![boundary]).await.unwrap();
        }
        other.append(1, 10).await;
        other.append(1, 11).await;
        only_1_is_in_trouble(&other, "the record at offset 1 is not the one").await;
        let world = counted().await;
        world.log.damage(Partition(1), Offset(1));
        only_1_is_in_trouble(&world, "record 1 of partition 1 is damaged").await;
    });
}

/// Where the store fails first, because a flush of memory would be done before anybody could look.
#[test]
fn a_tick_that_ends_in_trouble_has_stored_what_it_had_folded() {
    multi_thread().block_on(async {
        for damaged in [true, false] {
            let world = World::new();
            let mut consumer = world.consumer().await;
            for _ in 0..5 {
                world.append(1, 1).await;
            }
            world.clock.0.fetch_add(601, Ordering::Relaxed);
            world.append(1, 1).await;
            // A record that cannot be read, or one that is ahead of the consumer's clock.
            match damaged {
                true => world.log.damage(Partition(1), Offset(5)),
                false => drop(world.clock.0.fetch_sub(601, Ordering::Relaxed)),
            }
            for _ in 0..4 {
                world.store.fail_next_flush(FlushFault::BeforeRows);
            }
            assert_eq!(troubled(consumer.tick().await.unwrap_err()).0, [1]);
            assert_eq!(world.manifests(1).await, [(0, 4)], "damaged: {damaged}");
            // The open segment of a partition that stopped is folded again by its next try.
            let (folded_to, counted) = if damaged { (5, 5) } else { (4, 4) };
            assert_eq!(progress_of(&world, 1).await, folded_to, "damaged: {damaged}");
            assert_eq!(world.stored_count(), counted, "damaged: {damaged}");
            consumer.shutdown().await;
        }
    });
}

async fn progress_of(world: &World, partition: u16) -> u64 {
    let (log_id, partition) = (generation().log_id, Partition(partition));
    let key = PartitionKey { log_id, partition, epoch: Epoch(0) };
    world.store.progress(key).await.unwrap().unwrap().folded_to.0
}

#[test]
fn a_read_that_fails_again_stores_nothing_again() {
    multi_thread().block_on(async {
        let world = World::new();
        let mut consumer = world.consumer().await;
        world.append(1, 1).await;
        world.append(1, 1).await;
        world.log.damage(Partition(1), Offset(1));
        consumer.tick().await.unwrap_err();
        assert_eq!((progress_of(&world, 1).await, world.stored_count()), (1, 1));
        let flushes = world.store.flushes();
        for _ in 0..3 {
            world.clock.0.fetch_add(16, Ordering::Relaxed);
            consumer.tick().await.unwrap_err();
        }
        assert_eq!(world.store.flushes(), flushes);
        consumer.shutdown().await;
    });
}

/// A record ahead of the clock stops the partition, and one behind it cannot be read. Once the clock is
/// set, all that is before the latter counts.
#[test]
fn a_partition_that_stopped_is_let_go_though_a_later_record_cannot_be_read() {
    multi_thread().block_on(async {
        let world = World::new();
        let mut consumer = world.consumer().await;
        world.clock.0.fetch_add(601, Ordering::Relaxed);
        world.append(1, 1).await;
        world.append(1, 1).await;
        world.log.damage(Partition(1), Offset(1));
        world.clock.0.fetch_sub(601, Ordering::Relaxed);
        let (partitions, text) = troubled(consumer.tick().await.unwrap_err());
        assert_eq!(partitions, [1]);
        assert!(text.contains("ahead of this machine's clock"), "{text}");
        world.clock.0.fetch_add(601, Ordering::Relaxed);
        let (_, text) = troubled(consumer.tick().await.unwrap_err());
        assert!(text.contains("record 1 of partition 1 is damaged"), "{text}");
        assert_eq!(world.stored_count(), 1);
        consumer.shutdown().await;
    });
}

#[test]
fn a_partition_without_anchors_is_not_drained_out_of_another_log() {
    multi_thread().block_on(async {
        let world = World::new();
        let mut consumer = world.consumer().await;
        for partition in [0, 0, 0, 0, 0, 1] {
            world.append(partition, 1).await;
        }
        consumer.tick().await.unwrap();
        consumer.shutdown().await;
        let other = World { store: Arc::clone(&world.store), ..World::new() };
        for partition in 1..3 {
            other.append(partition, 5).await;
        }
        let error = other.try_consumer().await.err().unwrap();
        assert!(
            error.to_string().contains("partition 0 holds offsets 0 to 0, but 4 is needed"),
            "{error}"
        );
        assert_eq!(other.stored_count(), 6);
        // Nor by a member of a group, which hears of its share while it runs.
        let log = Shaky::over(&other.log);
        log.assigned.lock().unwrap().clear();
        let mut consumer = start(&other, &log, other.config()).await.unwrap();
        consumer.tick().await.unwrap();
        *log.assigned.lock().unwrap() = [0, 1, 2].into();
        for second in 0..20 {
            // One of them says something else each other second, so that their waits differ.
            match second % 2 {
                1 => drop(log.away.lock().unwrap().insert(0)),
                _ => log.away.lock().unwrap().clear(),
            }
            assert_eq!(troubled(consumer.tick().await.unwrap_err()).0, [0, 1, 2]);
            other.clock.0.fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(other.stored_count(), 6);
        consumer.shutdown().await;
    });
}

#[test]
fn a_state_that_does_not_parse_or_is_missing_stops_its_partition() {
    multi_thread().block_on(async {
        for (state, digest, why) in [
            (&b"junk"[..], fold::digest(b"junk"), "the stored fold state is damaged"),
            (&[], 7, "the fold state of the segment that starts at 2 is missing or damaged"),
        ] {
            let world = counted().await;
            world.append(1, 1).await;
            let stored = world.store.stored();
            let newest = stored.manifests.values().rfind(|m| m.segment.partition == Partition(1));
            let mut manifest = *newest.unwrap();
            manifest.segment.start = Offset(2);
            (manifest.end, manifest.state_digest) = (Offset(3), digest);
            let key = PartitionKey {
                log_id: manifest.segment.log_id,
                partition: Partition(1),
                epoch: Epoch(0),
            };
            let progress = world.store.progress(key).await.unwrap();
            let close = SegmentClose {
                manifest,
                run: Vec::new(),
                state: state.to_vec(),
                touched: Vec::new(),
            };
            let flush = Flush {
                segment: manifest.segment,
                rows: Vec::new(),
                stored_before: Vec::new(),
                dead_letters: Vec::new(),
                progress,
                close: Some(close),
            };
            world.store.flush(Arc::new(flush)).await.unwrap();
            only_1_is_in_trouble(&world, why).await;
        }
    });
}

#[test]
fn records_that_expired_before_they_were_counted_stop_their_partition() {
    multi_thread().block_on(async {
        let world = counted().await;
        world.append(1, 1).await;
        world.append(1, 1).await;
        world.log.expire(Partition(1), Offset(3));
        only_1_is_in_trouble(&world, "holds offsets 3 to 4, but 2 is needed").await;
        anchors::check_log(&world.log, &*world.store).await.expect("more may be appended to it");
    });
}

#[test]
fn a_partition_that_cannot_be_asked_does_not_keep_ingest_from_a_log_that_is_proved() {
    multi_thread().block_on(async {
        let world = counted().await;
        let log = Shaky::over(&world.log);
        log.away.lock().unwrap().insert(0);
        anchors::check_log(&log, &*world.store).await.unwrap();
        log.away.lock().unwrap().extend([1, 2]);
        let error = anchors::check_log(&log, &*world.store).await.unwrap_err();
        assert!(error.to_string().contains("partition 0 has no leader"), "{error}");
    });
}

#[test]
fn the_wait_doubles_up_to_its_bound_and_the_first_cause_is_kept() {
    let mut troubles = Troubles::default();
    let at = |seconds| Timestamp::from_parts(NOW + seconds, 0).unwrap();
    let (away, mut now) = (Partition(3), 0);
    for wait in [1, 2, 4, 8, 15, 15] {
        let cause = ConsumerError::Log(LogError::Unavailable(format!("try at {now}")));
        troubles.met(away, cause, at(now));
        assert!(!troubles.is_due(away, at(now + wait - 1)), "{wait}");
        assert!(troubles.is_due(away, at(now + wait)), "{wait}");
        assert!(troubles.is_due(away, at(now - 1)), "the clock was set back");
        now += wait;
    }
    let (partitions, text) = troubled(troubles.error().unwrap());
    assert_eq!((partitions, text.contains("try at 0")), (vec![3], true), "{text}");
    let another = LogError::Replaced { partition: away, offset: Offset(1) };
    troubles.met(away, ConsumerError::Log(another), at(now));
    assert!(troubles.is_due(away, at(now + 1)), "another cause waits from the start");
    assert!(troubles.error().unwrap().to_string().contains("offset 1 is not the one"));
    for partition in 10..30 {
        let cause = ConsumerError::Log(LogError::Fatal("gone".to_owned()));
        troubles.met(Partition(partition), cause, at(now));
    }
    let (partitions, text) = troubled(troubles.error().unwrap());
    assert_eq!(partitions.len(), 21);
    assert!(text.ends_with("partition 16: gone; and 13 partitions more"), "{text}");
}

#[test]
fn two_hundred_partitions_are_asked_together_and_few_readers_are_open() {
    multi_thread().block_on(async {
        let wide = Generation { partitions: 200, ..generation() };
        let world = World::of(wide);
        let log = Shaky::over(&world.log);
        let config = ConsumerConfig { readers: 6, ..world.config() };
        let mut consumer = start(&world, &log, config.clone()).await.unwrap();
        let mut sent = 0;
        for round in 0..3 {
            for partition in 0..200 {
                world.append(partition, usize::from(partition % 3) + 1).await;
                sent += u64::from(partition % 3) + 1;
            }
            let report = consumer.tick().await.unwrap();
            assert_eq!((report.records, report.partitions.len()), (200, 200));
            assert_eq!(world.stored_count(), sent, "round {round}");
        }
        assert_eq!(log.asked.most(), 64, "as many as may be");
        assert_eq!(log.readers.most(), 6);
        // Of those that are read again and again, none is closed.
        let opened = log.opened.load(Ordering::SeqCst);
        for _ in 0..10 {
            for partition in [0, 1, 2, 3, 4, 5] {
                world.append(partition, 1).await;
            }
            consumer.tick().await.unwrap();
        }
        let opened = log.opened.load(Ordering::SeqCst) - opened;
        assert!(opened <= 6, "{opened}");
        consumer.close_segments("test").await.unwrap();
        consumer.shutdown().await;
        let audited = crate::audit::audit(
            Arc::clone(&world.log),
            Arc::clone(&world.store),
            None,
            crate::blocks::SortRoom::in_temp_dir(1 << 16),
        )
        .await;
        assert_eq!(audited.unwrap().mismatches, []);
        assert_eq!(world.stored_count(), sent + 60);
        assert!(
            tokio::time::timeout(Duration::from_secs(60), start(&world, &log, config))
                .await
                .is_ok()
        );
    });
}
