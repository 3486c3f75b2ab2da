//! Faults of the servers and of consumers that share a log: whatever hangs, dies or comes back, every
//! acknowledged pulse is counted exactly once.
//!
//! `PULSO_TEST_OUTAGE_SECONDS` says for how long a server is away: 8 by default, 60 in
//! `make test-faults`, where the client library has been seen to forget every broker.

use std::{sync::Arc, time::Duration};

use crate::harness::{
    Home, Server, Settings,
    cluster::Cluster,
    load::{Difference, Totals, add, difference, send_plans, stored_totals},
};
use storage::conformance::servers::{Kind, Own, shared_pair};

/// Plans sent while a fault happens: some seconds of work, so that the fault falls into it.
const PLANS: u64 = 3;
/// How long a sender goes on without any ack: longer than every outage and what follows it.
const PATIENCE: Duration = Duration::from_secs(180);

fn outage() -> Duration {
    let seconds = std::env::var("PULSO_TEST_OUTAGE_SECONDS");
    Duration::from_secs(seconds.map_or(8, |seconds| seconds.parse().unwrap()))
}

/// A pipeline that runs on while plan after plan goes through it.
struct Pipeline {
    homes: Vec<Home>,
    ingest: Server,
    /// Each answers queries too.
    consumers: Vec<Server>,
    expected: Totals,
    seed: u64,
}

impl Pipeline {
    async fn start(cluster: &Cluster, consumers: usize) -> Self {
        let homes: Vec<Home> = (0..=consumers).map(|_| Home::new()).collect();
        let ingest = Server::start(&homes[0], &cluster.stages("ingest")).await;
        let mut started = Vec::new();
        for home in &homes[1..] {
            started.push(Server::start(home, &cluster.stages("consume,query")).await);
        }
        let (expected, seed) = (Totals::new(), 7_000);
        Self { homes, ingest, consumers: started, expected, seed }
    }

    /// Sends plans while `fault` happens, then compares every total with all plans so far.
    async fn survives(&mut self, what: &str, fault: impl AsyncFnOnce(&[Server])) {
        self.send_during(fault).await;
        self.is_exact(what).await;
    }

    async fn send_during(&mut self, fault: impl AsyncFnOnce(&[Server])) {
        let seeds = self.seed..self.seed + PLANS;
        self.seed = seeds.end;
        let sending = send_plans(&self.ingest, seeds, PATIENCE);
        let (sent, ()) = tokio::join!(sending, fault(&self.consumers));
        add(&mut self.expected, sent);
    }

    async fn is_exact(&self, what: &str) {
        let queries = self.consumers.last().unwrap();
        queries.drained().await;
        let found = difference(&stored_totals(queries).await, &self.expected);
        assert_eq!(found, Difference::default(), "{what}");
    }

    /// Compares every row and manifest with the log, of all faults at once: an audit begins with the
    /// first segment, whatever was audited before.
    async fn audit(&self) {
        self.consumers.last().unwrap().audit_is_clean().await;
    }

    async fn end(self) {
        for server in [self.ingest].into_iter().chain(self.consumers) {
            server.terminate().await;
        }
        drop(self.homes);
    }
}

/// Small segments, so that many close, and an append's outcome is unknown within an outage.
fn settings() -> Settings {
    Settings::default()
        .with("PULSO_LOG__SEGMENT_RECORDS_MAX", "64")
        .with("PULSO_KAFKA__DELIVERY_TIMEOUT", "5s")
        .with("PULSO_KAFKA__REQUEST_TIMEOUT", "3s")
        .with("PULSO_SCYLLA__REQUEST_TIMEOUT", "3s")
}

/// Does something to the servers without blocking the test's load.
async fn blocking(own: &Arc<Own>, what: impl FnOnce(&Own) + Send + 'static) {
    let own = Arc::clone(own);
    tokio::task::spawn_blocking(move || what(&own)).await.unwrap();
}

/// A server hangs, with its port open, and goes on.
async fn pause(own: &Arc<Own>, kind: Kind) {
    tokio::time::sleep(Duration::from_millis(300)).await;
    blocking(own, move |own| own.pause(kind)).await;
    tokio::time::sleep(outage()).await;
    blocking(own, move |own| own.resume(kind)).await;
}

/// A server dies and is started again.
async fn kill(own: &Arc<Own>, kind: Kind) {
    tokio::time::sleep(Duration::from_millis(300)).await;
    blocking(own, move |own| own.kill(kind)).await;
    blocking(own, move |own| own.start_again(kind)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_hang_or_die_cost_time_and_no_pulse() {
    let Some(own) = Own::start(&[Kind::Kafka, Kind::Cassandra]) else { return };
    let own = Arc::new(own);
    let servers = (own.server(Kind::Kafka), own.server(Kind::Cassandra));
    let cluster = Cluster::new(servers, settings()).await;
    let mut pipeline = Pipeline::start(&cluster, 1).await;
    pipeline.survives("nothing happens", async |_| {}).await;
    // One after the other, each under load, and the second while the first is recovered from.
    for kind in [Kind::Kafka, Kind::Cassandra] {
        pipeline.send_during(async |_| pause(&own, kind).await).await;
    }
    pipeline.is_exact("each hung").await;
    for kind in [Kind::Kafka, Kind::Cassandra] {
        pipeline.send_during(async |_| kill(&own, kind).await).await;
    }
    pipeline.is_exact("each died").await;
    pipeline.audit().await;
    pipeline.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_sleeps_past_its_session_comes_back_as_a_harmless_zombie() {
    let Some(servers) = shared_pair() else { return };
    let cluster = Cluster::new(servers, settings()).await;
    let mut pipeline = Pipeline::start(&cluster, 2).await;
    pipeline.survives("both work", async |_| {}).await;
    // Asleep in the middle of its work; the other takes its partitions over and finishes them.
    let sleep = async |consumers: &[Server]| {
        tokio::time::sleep(Duration::from_millis(300)).await;
        consumers[0].signal(libc::SIGSTOP);
    };
    pipeline.survives("one sleeps", sleep).await;
    let wake = async |consumers: &[Server]| consumers[0].signal(libc::SIGCONT);
    pipeline.survives("it wakes", wake).await;
    pipeline.survives("both work again", async |_| {}).await;
    pipeline.audit().await;
    pipeline.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_consumers_of_every_partition_count_nothing_twice() {
    let Some(servers) = shared_pair() else { return };
    let settings = settings().with("PULSO_CONSUMER__PARTITIONS", "all");
    let cluster = Cluster::new(servers, settings).await;
    let mut pipeline = Pipeline::start(&cluster, 2).await;
    pipeline.survives("both fold everything", async |_| {}).await;
    pipeline.survives("and go on", async |_| {}).await;
    pipeline.audit().await;
    pipeline.end().await;
}
