//! Faults of the servers and of consumers that share a log: whatever hangs, dies or comes back, every
//! acknowledged pulse is counted exactly once.
//!
//! `PULSO_TEST_OUTAGE_SECONDS` says for how long a server is away: 8 by default, 60 in
//! `make test-faults`.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests too; the lint only knows functions.

mod harness;

use std::{path::Path, time::Duration};

use harness::{
    Home, Server, Settings,
    cluster::{self, Cluster, Servers},
    load::{Difference, Load, Totals, add, difference, stored_totals},
};

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
        let mut plans: Vec<Load> = (0..PLANS).map(|plan| Load::new(self.seed + plan)).collect();
        self.seed += PLANS;
        let sending = async {
            for plan in &mut plans {
                plan.send_all(&self.ingest, PATIENCE).await;
            }
        };
        tokio::join!(sending, fault(&self.consumers));
        plans.iter().for_each(|plan| add(&mut self.expected, plan.totals()));
        let queries = self.consumers.last().unwrap();
        queries.healthy_and_drained().await;
        let found = difference(&stored_totals(queries).await, &self.expected);
        assert_eq!(found, Difference::default(), "{what}");
        queries.audit_is_clean().await;
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
        .with("PULSO_LOG__SEGMENT_RECORDS_MAX", "16")
        .with("PULSO_KAFKA__DELIVERY_TIMEOUT", "5s")
        .with("PULSO_KAFKA__REQUEST_TIMEOUT", "3s")
        .with("PULSO_SCYLLA__REQUEST_TIMEOUT", "3s")
}

/// Runs `services/services` without blocking the test's load.
async fn services(directory: &Path, arguments: &[&str]) {
    let directory = directory.to_owned();
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let run = move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        cluster::services(&directory, &arguments).unwrap();
    };
    tokio::task::spawn_blocking(run).await.unwrap();
}

/// A server hangs, with its port open, and goes on.
async fn pause(directory: &Path, name: &str) {
    tokio::time::sleep(Duration::from_millis(300)).await;
    services(directory, &["pause", name]).await;
    tokio::time::sleep(outage()).await;
    services(directory, &["resume", name]).await;
}

/// A server dies and is started again.
async fn kill(directory: &Path, name: &str) {
    tokio::time::sleep(Duration::from_millis(300)).await;
    services(directory, &["kill", name]).await;
    let parent = std::process::id().to_string();
    services(directory, &["up", name, "--parent", &parent]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_hang_or_die_cost_time_and_no_pulse() {
    let _others = servers_or_skip!();
    // Of this test's own: no other test may lose them.
    let Servers { kafka, cql, directory } = cluster::start_own().unwrap();
    let own = Servers { kafka, cql, directory: None };
    let directory = directory.unwrap();
    let cluster = Cluster::new(&own, settings()).await;
    let mut pipeline = Pipeline::start(&cluster, 1).await;
    pipeline.survives("nothing happens", async |_| {}).await;
    for name in ["kafka", "cassandra"] {
        pipeline.survives(&format!("{name} hangs"), async |_| pause(&directory, name).await).await;
        pipeline.survives(&format!("{name} dies"), async |_| kill(&directory, name).await).await;
    }
    pipeline.end().await;
    services(&directory, &["down"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_sleeps_past_its_session_comes_back_as_a_harmless_zombie() {
    let servers = servers_or_skip!();
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
    pipeline.end().await;
    cluster.drop_keyspace().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_consumers_of_every_partition_count_nothing_twice() {
    let servers = servers_or_skip!();
    let settings = settings().with("PULSO_CONSUMER__PARTITIONS", "all");
    let cluster = Cluster::new(servers, settings).await;
    let mut pipeline = Pipeline::start(&cluster, 2).await;
    pipeline.survives("both fold everything", async |_| {}).await;
    pipeline.survives("and go on", async |_| {}).await;
    pipeline.end().await;
    cluster.drop_keyspace().await;
}
