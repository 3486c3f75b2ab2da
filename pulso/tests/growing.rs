//! A log that grows on real servers while pulses come: none is lost, and none that comes again counts
//! twice, whoever is killed or asleep meanwhile.

use std::time::Duration;

use crate::harness::{
    self, Home, PATIENCE, Server, Settings,
    cluster::Cluster,
    load::{self, Difference, Load, Totals, difference, stored_totals},
};
use serde_json::{Value, json};
use storage::conformance::servers::shared_pair;

/// How long a sender goes on without any ack.
const SENDING: Duration = Duration::from_secs(120);

/// Small segments, so that a run closes many, and short waits for servers.
fn settings() -> Settings {
    Settings::default()
        .with("PULSO_LOG__PARTITIONS", "2")
        .with("PULSO_LOG__SEGMENT_RECORDS_MAX", "48")
        .with("PULSO_LOG__WATCH_INTERVAL", "500ms")
        .with("PULSO_SHUTDOWN__CALLS_TIMEOUT", "1s")
        .with("PULSO_KAFKA__DELIVERY_TIMEOUT", "4s")
        .with("PULSO_KAFKA__REQUEST_TIMEOUT", "3s")
        .with("PULSO_SCYLLA__REQUEST_TIMEOUT", "3s")
}

async fn show(cluster: &Cluster) -> Vec<Value> {
    let shown = cluster.run(&["log", "show", "-o", "json"]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    shown["generations"].as_array().unwrap().clone()
}

/// Runs a command that must be refused with this exit code; gives its words.
async fn refused(cluster: &Cluster, arguments: &[&str], code: i32) -> String {
    let home = Home::new();
    let mut process = Server::spawn(&home, &cluster.stages("ingest").command(arguments));
    assert_eq!(process.end().await.code(), Some(code), "{}", process.log());
    process.log()
}

/// Grows the log by a command that is killed once it has registered the generation, and then by one
/// that is not.
async fn grow(cluster: &Cluster) {
    let arguments = ["log", "grow", "--partitions", "5"];
    let home = Home::new();
    let mut process = Server::spawn(&home, &cluster.stages("ingest").command(&arguments));
    harness::until("the generation is registered", || process.log().contains("takes pulses")).await;
    process.signal(libc::SIGKILL);
    process.end().await;
    let shown = show(cluster).await;
    assert_eq!([&shown[0]["state"], &shown[1]["partitions"]], [&json!("ending"), &json!(5)]);
    let other = refused(cluster, &["log", "grow", "--partitions", "7"], 65).await;
    assert!(
        other.contains("the growth to 5 partitions and windows of 1h has not ended"),
        "{other}"
    );
    cluster.run(&arguments).await;
}

/// Sends one plan after the other until `meanwhile` is over.
async fn sending(server: &Server, plans: &mut Vec<Load>, meanwhile: impl Future<Output = ()>) {
    let (over, mut is_over) = tokio::sync::watch::channel(false);
    let sending = async {
        while !*is_over.borrow_and_update() {
            let mut plan = Load::new(100 + plans.len() as u64);
            plan.send_all(server, SENDING).await;
            plans.push(plan);
        }
    };
    let meanwhile = async {
        meanwhile.await;
        over.send(true).unwrap();
    };
    tokio::join!(sending, meanwhile);
}

async fn assert_totals(server: &Server, plans: &[Load], what: &str) {
    server.drained().await;
    let mut expected = Totals::new();
    plans.iter().for_each(|plan| load::add(&mut expected, plan.totals()));
    let found = difference(&stored_totals(server).await, &expected);
    assert_eq!(found, Difference::default(), "{what}");
}

/// Waits until the new generation is counted: only then is everything that is in the log.
async fn ended(cluster: &Cluster) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while show(cluster).await[0]["state"] != "ended" {
        assert!(tokio::time::Instant::now() < deadline, "the old generation does not end");
    }
}

fn pulses(plan: &Load) -> u64 {
    plan.totals().values().map(|(count, _)| count).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_grows_under_load_and_counts_everything_once() {
    let Some(servers) = shared_pair() else { return };
    let cluster = Cluster::new(servers, settings()).await;
    let homes = [(); 4].map(|()| Home::new());
    let ingest = Server::start(&homes[0], &cluster.stages("ingest")).await;
    // Looks for a growth too seldom to see this one, and sleeps through it besides.
    let forgetful = cluster.stages("ingest").with("PULSO_LOG__WATCH_INTERVAL", "1h");
    let asleep = Server::start(&homes[1], &forgetful).await;
    let consuming = cluster.stages("consume,query");
    let dying = Server::start(&homes[2], &consuming).await;
    let queries = Server::start(&homes[3], &consuming).await;

    let mut plans = vec![Load::new(1), Load::new(2)];
    plans[0].send_all(&ingest, SENDING).await;
    plans[1].send_all(&asleep, SENDING).await;
    assert_totals(&queries, &plans, "before").await;
    asleep.signal(libc::SIGSTOP);
    sending(&ingest, &mut plans, async {
        grow(&cluster).await;
        dying.signal(libc::SIGKILL);
    })
    .await;
    drop(dying);
    let again = Server::start(&homes[2], &consuming).await;
    ended(&cluster).await;
    assert_totals(&queries, &plans, "after").await;

    // What the sleeper takes when it wakes is set aside, each pulse with its place.
    asleep.signal(libc::SIGCONT);
    let mut late = Load::new(3);
    late.send_all(&asleep, SENDING).await;
    let list = ["dlq", "list", "--generation", "1", "--reason", "after_seal"];
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let groups = queries.json(&list).await;
        let counts = groups["entries"].as_array().unwrap().iter().map(|group| &group["count"]);
        let letters: u64 =
            counts.map(|count| count.as_str().unwrap().parse::<u64>().unwrap()).sum();
        if letters == pulses(&late) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{letters} of {} letters", pulses(&late));
    }
    assert_totals(&queries, &plans, "what came behind the end counts in no total").await;
    asleep.terminate().await;

    // Sent again it is new; everything else is a duplicate.
    let awake = Server::start(&homes[1], &forgetful).await;
    plans.push(late);
    for plan in &mut plans {
        plan.send_again(&awake, SENDING).await;
    }
    assert_totals(&again, &plans, "sent again").await;
    let counts = again.status().await.pulses.unwrap();
    let sent: u64 = plans.iter().map(pulses).sum();
    assert_eq!((counts.accepted, counts.late), (sent, 0), "{counts:?}");
    assert_eq!(counts.dead_lettered, pulses(plans.last().unwrap()), "{counts:?}");
    assert_eq!(
        counts.read,
        counts.control + counts.accepted + counts.duplicate + counts.dead_lettered
    );
    again.audit_is_clean().await;
    assert_eq!(again.json(&["dlq", "list"]).await["entries"], json!([]));

    let shown = show(&cluster).await;
    let states: Vec<_> = shown.iter().map(|log| (&log["state"], &log["partitions"])).collect();
    assert_eq!(states, [(&json!("ended"), &json!(2)), (&json!("takes pulses"), &json!(5))]);
    cluster.run(&["topics", "check"]).await;
    let fewer = refused(&cluster, &["log", "grow", "--partitions", "4"], 65).await;
    assert!(fewer.contains("cannot be taken away"), "{fewer}");
    assert!(cluster.run(&["log", "grow", "--partitions", "5"]).await.contains('5'));
    assert_eq!(show(&cluster).await.len(), 2);
    for server in [ingest, awake, again, queries] {
        server.terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_log_does_not_grow_and_says_why() {
    let home = Home::new();
    let command = home.command(&["log", "grow", "--partitions", "8"]);
    let output = crate::harness::output(command).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{stderr}");
    assert!(stderr.contains("embedded"), "{stderr}");
}
