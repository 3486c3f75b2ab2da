//! A topic that was deleted and made again under its name, with other records: a consumer that had
//! counted the first one names the place and counts nothing of the second, and ingest acknowledges
//! nothing into it, whether they start or run.

use std::time::Duration;

use crate::harness::{
    Home, PATIENCE, Server, Settings,
    cluster::Cluster,
    http_get,
    load::{Difference, Load, Totals, difference, send_plans, stored_totals},
    now, until,
};
use prost_types::Timestamp;
use proto::v1::{
    Decimal, IngestAck, Pulse, PulseBatch, ingest_service_client::IngestServiceClient,
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use storage::conformance::servers::shared_pair;
use tonic::Status;

const LOG: &str = "resource-consumption";
/// Partitions of its topic.
const PARTITIONS: i32 = 4;
/// How long a sleep must be to be noticed, and less than a session's timeout.
const ASLEEP: Duration = Duration::from_secs(4);
/// More than a session's timeout.
const SESSION_OVER: Duration = Duration::from_secs(8);
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
    let sent = send_plans(&ingest, seeds, PATIENCE).await;
    ingest.terminate().await;
    sent
}

/// Deletes the log's topic and makes it again, empty. Returns where its partitions ended.
async fn make_again(cluster: &Cluster) -> Vec<i64> {
    let ended = ends(cluster);
    delete(cluster).await;
    cluster.run(&["topics", "apply"]).await;
    ended
}

fn admin(cluster: &Cluster) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", cluster.brokers()).create().unwrap()
}

/// The end of each partition of the log's topic.
fn ends(cluster: &Cluster) -> Vec<i64> {
    let (admin, topic) = (admin(cluster), cluster.topic(LOG));
    let end = |partition| admin.inner().fetch_watermarks(&topic, partition, PATIENCE).unwrap().1;
    (0..PARTITIONS).map(end).collect()
}

async fn delete(cluster: &Cluster) {
    let (admin, topic) = (admin(cluster), cluster.topic(LOG));
    admin.delete_topics(&[&topic], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    until("the topic is gone", || {
        let all = admin.inner().fetch_metadata(None, Duration::from_secs(10)).unwrap();
        all.topics().iter().all(|found| found.name() != topic)
    })
    .await;
}

/// Whether it says which partition cannot go on, and at which offset.
fn names_the_place(said: &str) -> bool {
    let other_record = said.contains("is not the one that was ");
    let out_of_range = said.contains("is needed: the log was truncated, expired or made again");
    said.contains("partition ") && (other_record || out_of_range)
}

/// Makes it again and fills it, by an ingest process whose store knows nothing of the first one.
async fn make_again_and_fill(cluster: &Cluster) {
    let ended = make_again(cluster).await;
    fill(cluster, &ended).await;
}

/// Sends until every partition goes further than those of the first topic, which ended at `ended`. How many
/// records a plan becomes depends on how busy the machine is, for what waits is packed together.
async fn fill(cluster: &Cluster, ended: &[i64]) {
    const PLANS_MAX: u64 = 50;
    let (cluster, home) = (cluster.with_empty_store().await, Home::new());
    let ingest = Server::start(&home, &cluster.stages("ingest")).await;
    let mut plans = 2..2 + PLANS_MAX;
    while !ends(&cluster).iter().zip(ended).all(|(end, ended)| end > ended) {
        let plan = plans.next().expect("plans reach every partition");
        send_plans(&ingest, [plan], PATIENCE).await;
    }
    ingest.terminate().await;
}

/// A process that starts now ends with the code for data that is not right, and says why.
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
    consumer.drained().await;
    consumer.terminate().await;

    let ended = make_again(&cluster).await;
    let serve = ["serve", "--stage", "consume"];
    let empty = is_refused(&cluster, &serve).await;
    assert!(empty.contains("holds offsets 0 to 0"), "{empty}");
    fill(&cluster, &ended).await;
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
    let mut consumer = Server::start(&home, &settings).await;
    consumer.drained().await;

    if meanwhile == Meanwhile::Asleep {
        consumer.signal(libc::SIGSTOP);
    }
    let asleep = tokio::time::sleep(ASLEEP);
    make_again_and_fill(&cluster).await;
    if meanwhile == Meanwhile::Asleep {
        asleep.await;
    }
    consumer.signal(libc::SIGCONT);
    goes_unready(&consumer).await;
    totals_are(&cluster, &expected).await;
    let status = consumer.pulso(&["status"]).await;
    assert_eq!(status.status.code(), Some(10));
    consumer.signal(libc::SIGTERM);
    assert_eq!(consumer.end_status().await.code(), Some(65), "{}", consumer.log());
}

/// It says which partition cannot go on and why, and goes on saying so.
async fn goes_unready(server: &Server) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (says_it, said) = says_the_place(server).await;
        if says_it {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{said}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for _ in 0..LOOKS {
        let (says_it, said) = says_the_place(server).await;
        assert!(says_it, "{said}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Whether it is not ready and says which partition cannot go on, with all that it says.
async fn says_the_place(server: &Server) -> (bool, String) {
    let (status, said) = http_get(&server.http, "/readyz?verbose").await;
    (status == 503 && names_the_place(&said), format!("{status}: {said}"))
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

/// A member whose session is over before it wakes has to join again, while there is no topic.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_wakes_to_a_topic_that_is_gone_is_never_ready() {
    let Some(servers) = shared_pair() else { return };
    let cluster = Cluster::new(servers, settings("auto")).await;
    let home = Home::new();
    let expected = send(&cluster, [1]).await;
    let consumer = Server::start(&home, &cluster.stages("consume,query")).await;
    consumer.drained().await;

    consumer.signal(libc::SIGSTOP);
    delete(&cluster).await;
    tokio::time::sleep(SESSION_OVER).await;
    consumer.signal(libc::SIGCONT);
    until("it says that the topic is gone", || consumer.log().contains("are not known")).await;
    is_unready(&consumer, "are not known").await;
    cluster.run(&["topics", "apply"]).await;
    is_unready(&consumer, "").await;
    goes_unready(&consumer).await;
    totals_are(&cluster, &expected).await;
}

/// It is not ready, at each of some looks, and comes to say why.
async fn is_unready(server: &Server, why: &str) {
    let mut said = String::new();
    for _ in 0..LOOKS {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let status;
        (status, said) = http_get(&server.http, "/readyz?verbose").await;
        assert_eq!(status, 503, "{said}");
    }
    assert!(said.contains(why), "{said}");
}

/// Batches of one pulse, of producers that reach every partition.
async fn answers(server: &Server) -> Vec<Result<IngestAck, Status>> {
    const PRODUCERS: u8 = 24;
    let mut client = IngestServiceClient::new(server.channel().await);
    let mut answers = Vec::new();
    for producer in 0..PRODUCERS {
        let pulse = Pulse {
            tenant: "late".to_owned(),
            product_sku: "sku".to_owned(),
            use_unity: "GiB".to_owned(),
            used_amount: Some(Decimal { unscaled: 1, scale: 0 }),
            time: Some(Timestamp { seconds: now(), nanos: 0 }),
            ..Pulse::default()
        };
        let producer_id = vec![producer; 16];
        let batch = PulseBatch { producer_id, pulses: vec![pulse], ..PulseBatch::default() };
        answers.push(client.ingest(batch).await.map(tonic::Response::into_inner));
    }
    answers
}

async fn acknowledges_nothing(ingest: &Server) {
    for answer in answers(ingest).await {
        let status = answer.expect_err("acknowledged into another log");
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_acknowledges_nothing_into_a_topic_that_was_made_again() {
    let Some(servers) = shared_pair() else { return };
    let cluster = Cluster::new(servers, settings("all")).await;
    let (home, consuming) = (Home::new(), Home::new());
    let ingest = Server::start(&home, &cluster.stages("ingest")).await;
    let mut plan = Load::new(1);
    plan.send_all(&ingest, PATIENCE).await;
    // Where nothing was, nothing can be missed, so something has to be in every partition.
    let everywhere = answers(&ingest).await;
    let mut totals = plan.totals();
    let count = everywhere.len() as u64;
    let sum = everywhere.len().to_string().parse().unwrap();
    totals.insert(("late".to_owned(), "sku".to_owned()), (count, sum));
    everywhere.into_iter().for_each(|answer| drop(answer.unwrap()));
    let consumer = Server::start(&consuming, &cluster.stages("consume,query")).await;
    consumer.drained().await;
    consumer.terminate().await;

    let ended = make_again(&cluster).await;
    // Ingest learns it from an append, and a broker may need longer for the new topic than one append waits.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !says_the_place(&ingest).await.0 {
        acknowledges_nothing(&ingest).await;
        assert!(tokio::time::Instant::now() < deadline, "{:?}", says_the_place(&ingest).await);
    }
    acknowledges_nothing(&ingest).await;
    goes_unready(&ingest).await;
    ingest.terminate().await;
    is_refused(&cluster, &["serve", "--stage", "ingest"]).await;
    fill(&cluster, &ended).await;
    let refilled = is_refused(&cluster, &["serve", "--stage", "ingest"]).await;
    assert!(refilled.contains("is not the one that was counted"), "{refilled}");
    totals_are(&cluster, &totals).await;
}
