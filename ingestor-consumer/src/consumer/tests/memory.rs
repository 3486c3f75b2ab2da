//! What open segments hold stays within the memory, and no total changes for it.

use proto::record::RecordView;
use storage::memory::AppendFault;

use super::*;
use crate::{
    TickReport,
    replay::{self, ReplayFrom, ReplayPlan},
};

const PULSES: usize = 20;

/// A log of so many partitions whose segments end by time or boundary only.
fn world(partitions: u16) -> World {
    World::of(Generation { partitions, segment_records_max: 1 << 20, ..generation() })
}

/// What the open segment of one record of [`PULSES`] holds.
async fn held_by_one() -> u64 {
    let world = world(1);
    let mut consumer = world.consumer().await;
    world.append(0, PULSES).await;
    let held = held(&consumer.tick().await.unwrap());
    assert!(held > 0);
    consumer.shutdown().await;
    held
}

fn held(report: &TickReport) -> u64 {
    report.partitions.iter().map(|partition| partition.held_bytes).sum()
}

impl World {
    async fn within(&self, memory_bytes: u64) -> Consumer<MemoryLog, MemoryUsageStore> {
        self.consumer_of(ConsumerConfig { memory_bytes, ..self.config() }).await.unwrap()
    }

    fn segments(&self) -> usize {
        self.store.stored().manifests.len()
    }

    /// Boundaries in the log that were asked for want of memory.
    async fn boundaries(&self) -> usize {
        let mut found = 0;
        for partition in self.log.generation().partitions() {
            let end = self.log.bounds(partition).await.unwrap().end;
            let mut drain = self.log.drain(partition, Offset(0)).unwrap();
            let mut visit = |record: domain::log::LogRecord<'_>| {
                let view: RecordView<'_> = record::open(generation().log_id, record.body).unwrap();
                let control = view.envelope.control.and_then(|control| control.kind);
                found += usize::from(matches!(
                    control,
                    Some(v1::control::Kind::Boundary(boundary)) if boundary.asked_by == "memory"
                ));
            };
            domain::log::LogDrain::read(&mut drain, end, 1 << 20, &mut visit).unwrap();
        }
        found
    }

    async fn assert_sound(&self) {
        let audited = crate::audit::audit(
            Arc::clone(&self.log),
            Arc::clone(&self.store),
            None,
            crate::blocks::SortRoom::in_temp_dir(1 << 16),
        )
        .await;
        assert_eq!(audited.unwrap().mismatches, []);
    }
}

#[test]
fn nothing_is_closed_at_the_bound_and_one_segment_just_above_it() {
    multi_thread().block_on(async {
        let memory = 5 * held_by_one().await;
        for (bound, closed) in [(memory, 0), (memory - 1, 1)] {
            let world = world(6);
            let mut consumer = world.within(bound).await;
            for partition in 0..5 {
                world.append(partition, PULSES).await;
            }
            let report = consumer.tick().await.unwrap();
            assert_eq!((world.segments(), world.boundaries().await), (closed, closed));
            assert!(held(&report) <= bound, "{report:?}");
            assert_eq!(world.stored_count(), 100);
            consumer.shutdown().await;
        }
    });
}

#[test]
fn what_is_held_stays_within_the_memory_and_totals_are_exact() {
    multi_thread().block_on(async {
        let one = held_by_one().await;
        let world = world(40);
        let (memory, mut sent) = (5 * one + one / 2, 0);
        let mut consumer = world.within(memory).await;
        for round in 0..4 {
            for partition in 0..40 {
                world.append(partition, PULSES).await;
                sent += PULSES as u64;
            }
            let report = consumer.tick().await.unwrap();
            assert_eq!(report.partitions.len(), 40);
            assert!(held(&report) <= memory, "round {round}: {}", held(&report));
            assert_eq!(world.stored_count(), sent);
        }
        // Each round but for what may stay open, and no more than one a partition and round.
        let boundaries = world.boundaries().await;
        assert!((100..=160).contains(&boundaries), "{boundaries}");
        assert_eq!(world.segments(), boundaries);
        // With nothing new there is nothing to close.
        consumer.tick().await.unwrap();
        assert_eq!(world.boundaries().await, boundaries);
        consumer.close_segments("test").await.unwrap();
        consumer.shutdown().await;
        assert_eq!(world.stored_count(), sent);
        world.assert_sound().await;
    });
}

#[test]
fn a_segment_that_cannot_be_closed_is_let_go() {
    multi_thread().block_on(async {
        let one = held_by_one().await;
        let world = world(2);
        let mut consumer = world.within(one).await;
        for partition in 0..2 {
            world.append(partition, PULSES).await;
        }
        world.log.fail_next_append(AppendFault::Unavailable);
        let error = consumer.tick().await.unwrap_err();
        assert!(error.to_string().contains("takes no records"), "{error}");
        assert_eq!(consumer.memory.held(), one, "the other one's");
        assert_eq!(world.stored_count(), 2 * PULSES as u64, "it was stored before");
        world.clock.0.fetch_add(1, Ordering::Relaxed);
        let report = consumer.tick().await.unwrap();
        assert_eq!((report.partitions.len(), world.boundaries().await), (2, 1));
        assert!(held(&report) <= one);
        assert_eq!(world.stored_count(), 2 * PULSES as u64);
        consumer.shutdown().await;
        world.assert_sound().await;
    });
}

#[test]
fn a_rebuild_lets_go_and_adds_nothing_to_the_log() {
    multi_thread().block_on(async {
        let one = held_by_one().await;
        let world = world(6);
        let mut consumer = world.consumer().await;
        for _ in 0..3 {
            for partition in 0..6 {
                world.append(partition, PULSES).await;
            }
            consumer.close_segments("test").await.unwrap();
        }
        for partition in 0..6 {
            world.append(partition, PULSES).await;
        }
        consumer.tick().await.unwrap();
        consumer.shutdown().await;
        let plan = ReplayPlan { into: Epoch(1), from: ReplayFrom::Start, declared: Vec::new() };
        replay::open(&*world.log, &*world.store, &plan).await.unwrap();
        let config = ConsumerConfig {
            work: Work::Rebuild(Epoch(1)),
            memory_bytes: 2 * one,
            ..world.config()
        };
        let mut rebuild = world.consumer_of(config).await.unwrap();
        for _ in 0..3 {
            rebuild.tick().await.unwrap();
            assert!(rebuild.memory.held() <= 2 * one);
        }
        rebuild.shutdown().await;
        assert_eq!(world.boundaries().await, 0);
        let epochs = [Epoch(0), Epoch(1)];
        let compared = replay::compare(
            &*world.log,
            &*world.store,
            epochs,
            crate::blocks::SortRoom::in_temp_dir(1 << 16),
            |_| {},
        )
        .await
        .unwrap();
        assert!(compared.is_equal() && compared.compared > 0, "{compared:?}");
    });
}

#[test]
fn a_partition_that_is_let_go_before_its_turn_is_drained_by_the_next_tick() {
    multi_thread().block_on(async {
        let one = held_by_one().await;
        let world = world(2);
        let plan = ReplayPlan { into: Epoch(1), from: ReplayFrom::Start, declared: Vec::new() };
        replay::open(&*world.log, &*world.store, &plan).await.unwrap();
        let (work, memory_bytes) = (Work::Rebuild(Epoch(1)), one);
        let config = ConsumerConfig { work, memory_bytes, ..world.config() };
        let mut rebuild = world.consumer_of(config).await.unwrap();
        world.append(1, 2 * PULSES).await;
        rebuild.tick().await.unwrap();
        // Partition 1 holds all there may be when partition 0 has been drained, and waits for its turn.
        world.append(0, PULSES).await;
        world.append(1, PULSES).await;
        rebuild.tick().await.unwrap();
        assert_eq!((world.stored_count(), rebuild.memory.held()), (3 * PULSES as u64, one));
        rebuild.tick().await.unwrap();
        assert_eq!(world.stored_count(), 4 * PULSES as u64);
        assert!(rebuild.memory.held() <= one);
        rebuild.shutdown().await;
    });
}
