//! The order of a flush: the store has it before anybody hears of it.

use domain::{
    Epoch, LogId, NoFeed, Offset, Partition, Timestamp, generation::Generation, store::PartitionKey,
};
use runtime::{Health, Shutdown};
use storage::memory::{FlushFault, MemoryLog, MemoryUsageStore};
use tokio::sync::oneshot;

use super::*;
use crate::{fold::Fold, handover::PartitionReport};

#[tokio::test(start_paused = true)]
async fn flush_stores_before_it_commits() {
    let store = Arc::new(MemoryUsageStore::new());
    let generation = Generation::new(LogId([1; 16]), 1, 0);
    let key = PartitionKey { log_id: generation.log_id, partition: Partition(0), epoch: Epoch(0) };
    let report = PartitionReport {
        partition: Partition(0),
        records: 0,
        folded_to: Offset(0),
        is_stored: true,
        open_since: None,
        ids_held: 0,
        held_bytes: 0,
        id_conflicts: 0,
        dead_letters: Default::default(),
        counts: domain::Conservation::default(),
        sealed_at: None,
    };
    store.register(&generation, None).await.unwrap();
    let (health, trouble, shutdown) = (Health::new(), Trouble::default(), Shutdown::new());
    let (check, following, until) = (health.register("store"), trouble.clone(), shutdown.clone());
    let follower = tokio::spawn(async move { following.follow(check, &until).await });
    let (jobs, received) = mpsc::channel(4);
    let flusher = tokio::spawn(run(
        Flusher {
            progress_log: Some(Arc::new(MemoryLog::new(generation, Arc::new(|| Timestamp::EPOCH)))),
            store: Arc::clone(&store),
            feed: None::<Arc<NoFeed>>,
            window: generation.window,
            trouble,
        },
        received,
    ));
    for _ in 0..5 {
        store.fail_next_flush(FlushFault::BeforeRows);
    }
    let mut flush = Fold::new(generation, key).flush();
    flush.progress.as_mut().unwrap().caught_up_at = Some(Timestamp::EPOCH);
    let (done, mut answer) = oneshot::channel();
    let job = FlushJob::store(flush, Some((done, report)));
    assert!(jobs.send(job).await.is_ok());
    let mut is_reported = false;
    // The paused clock only moves while all tasks wait, so this runs between the tries.
    while store.progress(key).await.unwrap().is_none() {
        assert!(answer.try_recv().is_err(), "the tick heard of a flush that is not stored");
        is_reported |=
            health.report().to_string().contains("[-]store failed: the store does not answer");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(is_reported, "readiness did not say what the store failed at");
    assert!(answer.await.unwrap().is_ok());
    drop(jobs);
    flusher.await.unwrap();
    shutdown.request();
    follower.await.unwrap();
}
