//! The log is told the limits of the configuration, once, and keeps to them.

use domain::{FoldLimits, log::LogDrain as _};

use super::*;

impl World {
    /// Control records in the log that set limits.
    async fn limit_records(&self) -> u64 {
        let mut count = 0;
        for partition in self.log.generation().partitions() {
            let end = self.log.bounds(partition).await.unwrap().end;
            let mut visit = |record: domain::log::LogRecord<'_>| {
                let view = record::open(generation().log_id, record.body).unwrap();
                let control = view.envelope.control.and_then(|control| control.kind);
                count += u64::from(matches!(control, Some(v1::control::Kind::SetLimits(_))));
            };
            let mut drain = self.log.drain(partition, Offset(0)).unwrap();
            drain.read(end, usize::MAX, &mut visit).unwrap();
        }
        count
    }
}

#[test]
fn the_log_is_told_the_limits_that_it_does_not_have_and_no_more_than_once() {
    multi_thread().block_on(async {
        let world = World::new();
        let partitions = u64::from(world.log.generation().partitions);
        let limits = FoldLimits { keys_per_tenant: 7, ..FoldLimits::FIRST };
        for (limits, times) in
            [(FoldLimits::FIRST, 0), (limits, 1), (limits, 1), (FoldLimits::FIRST, 2)]
        {
            let config = ConsumerConfig { limits, ..world.config() };
            let mut consumer = world.consumer_of(config).await.unwrap();
            consumer.tick().await.unwrap();
            consumer.close_segments("test").await.unwrap();
            consumer.tick().await.unwrap();
            assert_eq!(world.limit_records().await, times * partitions, "{limits:?}");
            consumer.shutdown().await;
        }
    });
}

#[test]
fn rows_beyond_the_pace_are_stored_once_nothing_more_comes_or_their_segment_closes() {
    multi_thread().block_on(async {
        let world = World::new();
        let config = ConsumerConfig { rows_per_second: Some(1), ..world.config() };
        let mut consumer = world.consumer_of(config).await.unwrap();
        for round in 1..4 {
            world.append(0, 5).await;
            let report = consumer.tick().await.unwrap();
            assert!(report.partitions.iter().any(|of| !of.is_stored && of.records == 1));
            assert_eq!(world.stored_count(), 0, "round {round}");
        }
        consumer.tick().await.unwrap();
        assert_eq!(world.stored_count(), 15);
        world.append(0, 5).await;
        consumer.tick().await.unwrap();
        assert_eq!(world.stored_count(), 15);
        consumer.close_segments("test").await.unwrap();
        assert_eq!(world.stored_count(), 20);
        // What was not stored is folded again.
        world.append(0, 5).await;
        consumer.tick().await.unwrap();
        consumer.shutdown().await;
        assert_eq!(world.stored_count(), 20);
        let mut consumer = world.consumer_of(world.config()).await.unwrap();
        consumer.tick().await.unwrap();
        assert_eq!(world.stored_count(), 25);
        consumer.shutdown().await;
    });
}
