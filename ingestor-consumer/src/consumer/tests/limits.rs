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
