//! Finding segments by bisection.

use std::sync::Arc;

use domain::{Epoch, log::LogRecord};
use storage::memory::MemoryUsageStore;

use super::*;

#[tokio::test]
async fn segments_behind_a_stretch_are_not_looked_at() {
    let mut generation = Generation::new(LogId([5; 16]), 1, 77);
    generation.segment_records_max = 3;
    let partition = Partition(0);
    let key = PartitionKey { log_id: generation.log_id, partition, epoch: Epoch(0) };
    let store = MemoryUsageStore::new();
    store.register(&generation, None).await.unwrap();
    let (mut fold, mut closed) = (Fold::new(generation, key), Vec::new());
    for offset in (0..10).map(Offset) {
        let record = LogRecord { offset, appended_at: Timestamp::EPOCH, body: b"any" };
        fold.record(record, &mut closed).unwrap();
    }
    assert_eq!(closed.len(), 3);
    for flush in closed {
        store.flush(Arc::new(flush)).await.unwrap();
    }
    for (from, to, wanted_from, expected) in
        [(0, 9, 99, 9), (0, 6, 99, 6), (0, 3, 99, 3), (3, 6, 99, 6), (0, 6, 3, 3), (0, 6, 6, 6)]
    {
        let is_wanted = |manifest: &Manifest| manifest.segment.start >= Offset(wanted_from);
        let found = first_from(&store, key, Offset(from), Offset(to), is_wanted).await;
        assert_eq!(found, Ok(Offset(expected)), "{from} to {to}, wanted from {wanted_from}");
    }
}
