//! What is deleted beside blocks, and that everything goes on without it.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_begin_from_goes_and_everything_goes_on() {
    let mut world = World::new();
    for number in 0..120u8 {
        let all = (0..PARTITIONS).map(|partition| (partition, number % 2, 0, number % 3, 5));
        world.run(&Step::Send(all.collect())).await;
        world.run(&Step::Pass(240)).await;
        world.consume(Work::Live).await;
        world.make(None).await;
        if number % 12 == 11 {
            world.mark().await;
        }
    }
    let expected = world.totals(None).await;
    let (states, runs) = (world.store.stored().states.len(), world.store.stored().runs.len());
    let two_days = Some(Duration::from_secs(2 * 86_400));
    let deleted = world.retain(two_days).await;
    let stored = world.store.stored();
    assert_eq!(deleted.states as usize, states - stored.states.len());
    assert_eq!(deleted.runs as usize, runs - stored.runs.len());
    let befores: Vec<_> =
        stored.states.values().filter_map(|state| crate::fold::state_before(state)).collect();
    assert!(befores.len() > 50 && befores.iter().all(|state| stored.states.contains_key(state)));
    assert!(deleted.states > 100 && deleted.runs > 50 && deleted.records > 150, "{deleted:?}");
    for partition in generation().partitions() {
        let low = world.log.bounds(partition).await.unwrap().low;
        assert!(low > Offset(40), "{low}");
    }
    assert_eq!(world.retain(two_days).await, crate::retention::Deleted::default());
    world.check(&expected).await;

    // What came before counts once, and what comes now counts.
    world.sent -= 3;
    world.run(&Step::Send(vec![(0, 1, 0, 2, 5)])).await;
    world.sent += 2;
    world.consume(Work::Live).await;
    world.check(&expected).await;
    world.run(&Step::Send(vec![(0, 1, 0, 2, 5)])).await;
    world.consume(Work::Live).await;
    assert_ne!(world.totals(None).await, expected);
    let room = SortRoom::in_temp_dir(2_000);
    let (log, store) = (Arc::clone(&world.log), Arc::clone(&world.store));
    let report = audit::audit(log, store, None, room).await.unwrap();
    assert_eq!(report.mismatches, []);
    assert!(report.refolded > 0 && report.refolded < report.segments, "{report:?}");
    assert!(report.blocks_remade > 0 && report.blocks_remade < report.blocks, "{report:?}");
    world.refolds_in_the_middle_of_a_day().await;
    world.run(&Step::Replay(600)).await;
    let _ = world.totals(None).await;
    // The edge in the middle of a day has no state any more: the end of the day before has.
    world.run(&Step::Replay(31 * 60)).await;
    let _ = world.totals(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_an_old_month_begins_where_the_month_before_ends() {
    let mut world = World::new();
    for _ in 0..60 {
        let all = (0..PARTITIONS).map(|partition| (partition, 0, 0, 0, 5));
        world.run(&Step::Send(all.collect())).await;
        world.run(&Step::Pass(20 * 60)).await;
        world.consume(Work::Live).await;
        world.make(None).await;
    }
    world.retain(None).await;
    let expected = world.totals(None).await;
    // It is July 7.
    world.run(&Step::Replay(25 * 24 * 60)).await;
    world.check(&expected).await;
    let journal = world.store.journal().await.unwrap();
    let starts = &journal.log(generation().log_id).opened(world.epoch).unwrap().starts;
    assert!(starts.iter().all(|start| *start > Offset(10)), "{starts:?}");
}

impl World {
    pub(super) async fn retain(&self, log: Option<Duration>) -> crate::retention::Deleted {
        let (logs, clock) = (vec![Arc::clone(&self.log)], Arc::new(self.clock.clone()));
        let config = crate::retention::RetentionConfig { log };
        let store = Arc::clone(&self.store);
        let mut retention =
            crate::retention::Retention::new(store, vec![generation()], logs, clock, config);
        retention.run().await.unwrap()
    }

    /// A segment whose state before it is gone is folded again from the last state that is kept.
    async fn refolds_in_the_middle_of_a_day(&self) {
        use domain::refold::{Question, Refold as _};
        let key = domain::store::PartitionKey {
            log_id: generation().log_id,
            partition: domain::Partition(0),
            epoch: Epoch(0),
        };
        let low = self.log.bounds(key.partition).await.unwrap().low;
        let manifests = self.store.manifests(key, low, 100).await.unwrap();
        let states = self.store.stored().states;
        let without = manifests.windows(2).find(|pair| !states.contains_key(&pair[0].state_digest));
        let segment = without.expect("states within a day are gone")[1].segment;
        let question = Question {
            tenant: domain::Tenant::new("tenant 0").unwrap(),
            window: domain::Window { start: Timestamp::MIN, end: Timestamp::MAX },
            stretches: vec![(key, segment.start..segment.start.next())],
            pulses_of: Vec::new(),
            pulses_max: 0,
        };
        let refolder =
            crate::refold::Refolder::new(vec![Arc::clone(&self.log)], Arc::clone(&self.store));
        let refolded = refolder.refold(question).await.unwrap();
        assert_eq!((refolded.segments, refolded.missing.len()), (1, 0));
    }
}
