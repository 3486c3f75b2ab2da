//! A topic that was deleted and made again under its name, with other records: a consumer that had
//! counted the first one names the place and counts nothing of the second, whether it starts or
//! runs.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests too; the lint only knows functions.

mod harness;

use std::time::Duration;

use harness::{
    Home, PATIENCE, Server, Settings,
    cluster::Cluster,
    http_get,
    load::{Difference, Load, Totals, add, difference, stored_totals},
    until,
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use storage::conformance::servers::shared_pair;

const LOG: &str = "resource-consumption";
/// How long a sleep must be to be noticed, and less than a session's timeout.
const ASLEEP: Duration = Duration::from_secs(4);
/// Looks at a process that must go on saying the same: some ticks of 100 ms.
const LOOKS: usize = 20;

/// Small segments, so that many have closed.
fn settings(partitions: &str) -> Settings {
    Settings::default()
        .with("PULSO_LOG__SEGMENT_RECORDS_MAX", "64")
        .with("PULSO_KAFKA__REQUEST_TIMEOUT", "3s")
        .with("PULSO_CONSUMER__PARTITIONS", partitions)
}

/// Sends plans through an ingest process of their own.
async fn send(cluster: &Cluster, seeds: impl IntoIterator<Item = u64>) -> Totals {
    let home = Home::new();
    let ingest = Server::start(&home, &cluster.stages("ingest")).await;
    let mut sent = Totals::new();
    for seed in seeds {
        let mut plan = Load::new(seed);
        plan.send_all(&ingest, PATIENCE).await;
        add(&mut sent, plan.totals());
    }
    ingest.terminate().await;
    sent
}

/// Deletes the log's topic and makes it again, empty.
async fn make_again(cluster: &Cluster) {
    let topic = cluster.topic(LOG);
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", cluster.brokers()).create().unwrap();
    admin.delete_topics(&[&topic], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    until("the topic is gone", || {
        let all = admin.inner().fetch_metadata(None, Duration::from_secs(10)).unwrap();
        all.topics().iter().all(|found| found.name() != topic)
    })
    .await;
    cluster.run(&["topics", "apply"]).await;
}

/// Whether it says which partition cannot go on, and at which offset.
fn names_the_place(said: &str) -> bool {
    let other_record = said.contains("is not the one that was ");
    let out_of_range = said.contains("is needed: the log was truncated, expired or made again");
    said.contains("partition ") && (other_record || out_of_range)
}

/// A consumer that starts now ends with the code for data that is not right, and says why.
async fn is_refused(cluster: &Cluster, arguments: &[&str]) -> String {
    let home = Home::new();
    let mut process = Server::spawn(&home, &cluster.stages("consume").command(arguments));
    let status = process.end().await;
    assert_eq!(status.code(), Some(65), "{}", process.log());
    assert!(names_the_place(&process.log()), "{}", process.log());
    process.log()
}

/// What the store has is what was counted before.
async fn totals_are(cluster: &Cluster, expected: &Totals) {
    let home = Home::new();
    let query = Server::start(&home, &cluster.stages("query")).await;
    assert_eq!(difference(&stored_totals(&query).await, expected), Difference::default());
    query.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_does_not_start_on_a_topic_that_was_made_again() {
    let Some(servers) = shared_pair() else { return };
    let cluster = Cluster::new(servers, settings("all")).await;
    let home = Home::new();
    let expected = send(&cluster, [1]).await;
    let consumer = Server::start(&home, &cluster.stages("consume,query")).await;
    consumer.healthy_and_drained().await;
    consumer.terminate().await;

    make_again(&cluster).await;
    let serve = ["serve", "--stage", "consume"];
    let empty = is_refused(&cluster, &serve).await;
    assert!(empty.contains("holds offsets 0 to 0"), "{empty}");
    send(&cluster, 2..5).await;
    let refilled = is_refused(&cluster, &serve).await;
    assert!(refilled.contains("is not the one that was counted"), "{refilled}");
    is_refused(&cluster, &["consume", "--once"]).await;
    totals_are(&cluster, &expected).await;
}

/// Whether a running consumer sees that the topic goes and comes, or sleeps meanwhile.
#[derive(Clone, Copy, PartialEq)]
enum Meanwhile {
    Awake,
    Asleep,
}

async fn stops(partitions: &str, meanwhile: Meanwhile) {
    let Some(servers) = shared_pair() else { return };
    let cluster = Cluster::new(servers, settings(partitions)).await;
    let home = Home::new();
    let expected = send(&cluster, [1]).await;
    let settings = cluster.stages("consume,query").with("PULSO_KAFKA__SESSION_TIMEOUT", "40s");
    let consumer = Server::start(&home, &settings).await;
    consumer.healthy_and_drained().await;

    if meanwhile == Meanwhile::Asleep {
        consumer.signal(libc::SIGSTOP);
    }
    let asleep = tokio::time::sleep(ASLEEP);
    make_again(&cluster).await;
    send(&cluster, 2..5).await;
    if meanwhile == Meanwhile::Asleep {
        asleep.await;
    }
    consumer.signal(libc::SIGCONT);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (status, said) = http_get(&consumer.http, "/readyz?verbose").await;
        if status == 503 && names_the_place(&said) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{status}: {said}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for _ in 0..LOOKS {
        let (status, said) = http_get(&consumer.http, "/readyz?verbose").await;
        assert!(status == 503 && names_the_place(&said), "{status}: {said}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    totals_are(&cluster, &expected).await;
    let status = consumer.pulso(&["status"]).await;
    assert_eq!(status.status.code(), Some(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_member_of_a_group_stops_when_the_topic_is_made_again() {
    stops("auto", Meanwhile::Awake).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_a_group_that_slept_stops_when_it_wakes() {
    stops("auto", Meanwhile::Asleep).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_consumer_of_named_partitions_stops_when_the_topic_is_made_again() {
    stops("0-3", Meanwhile::Awake).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_named_partitions_that_slept_stops_when_it_wakes() {
    stops("0-3", Meanwhile::Asleep).await;
}
