//! Replays end to end: the log folded again beside the totals in use, on files and on servers.

use std::{os::unix::process::ExitStatusExt, process::Output};

use crate::harness::{
    Home, PATIENCE, Server, Settings,
    cluster::Cluster,
    load::{self, Difference, Load, Totals, difference, stored_totals},
};
use runtime::fault::POINTS;
use storage::conformance::servers::shared_pair;

/// Small segments, so that a run closes many.
fn settings() -> Settings {
    Settings::default().with("PULSO_LOG__SEGMENT_RECORDS_MAX", "16")
}

async fn on_files(home: &Home, fault: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = home.command(&[&["replay"], arguments].concat());
    command.envs(fault.map(|fault| ("PULSO_FAULT", fault)));
    crate::harness::output(command).await
}

async fn assert_on_files(home: &Home, arguments: &[&str]) -> String {
    let output = on_files(home, None, arguments).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// The totals are exactly the plans', and stay so when all of them are sent again; then every pulse
/// is a duplicate, and nothing else became of any.
async fn assert_exact(ingest: &Server, query: &Server, plans: &mut [Load]) {
    let mut expected = Totals::new();
    plans.iter().for_each(|plan| load::add(&mut expected, plan.totals()));
    for again in [false, true] {
        if again {
            for plan in &mut *plans {
                plan.send_again(ingest, PATIENCE).await;
            }
        }
        query.drained().await;
        let found = difference(&stored_totals(query).await, &expected);
        assert_eq!(found, Difference::default(), "sent again: {again}");
    }
    let counts = query.status().await.pulses.unwrap();
    assert_eq!((counts.late, counts.dead_lettered), (0, 0), "{counts:?}");
    assert_eq!(counts.duplicate, counts.accepted, "{counts:?}");
    query.audit_is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_killed_goes_on_and_is_put_to_use_on_files() {
    let home = Home::new();
    let server = Server::start(&home, &settings()).await;
    let mut plans = [Load::new(7)];
    plans[0].send_all(&server, PATIENCE).await;
    let refused = on_files(&home, None, &["--from-start", "--into", "1"]).await;
    assert_eq!(refused.status.code(), Some(75), "a server holds the directory");
    server.terminate().await;

    let replay = ["--from-start", "--into", "1"];
    let points = POINTS
        .iter()
        .filter(|point| point.starts_with("consumer.") || point.starts_with("store.flush"));
    let mut killed = 0;
    for point in points {
        let output = on_files(&home, Some(&format!("{point}:2")), &replay).await;
        killed += u32::from(output.status.signal() == Some(libc::SIGKILL));
    }
    assert!(killed >= 4, "only {killed} of the points were passed twice");
    assert_on_files(&home, &replay).await;
    assert_on_files(&home, &["compare", "1"]).await;
    assert_on_files(&home, &["swap", "1"]).await;
    assert!(assert_on_files(&home, &["list", "-o", "csv"]).await.contains("1,true,0"));

    let server = Server::start(&home, &settings()).await;
    assert_exact(&server, &server, &mut plans).await;
    server.terminate().await;
}

/// What `pulso doctor` says, with its exit code; `rows of usage` are first.
async fn doctor(home: &Home) -> (Option<i32>, u64, String) {
    let output = crate::harness::output(home.command(&["doctor", "-o", "json"])).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).expect("a document");
    let mut holdings = document["holdings"].as_array().unwrap().iter();
    let rows = holdings.find(|holding| holding["kind"] == "rows of usage").unwrap();
    let rows = rows["entries"].as_str().unwrap().parse().unwrap();
    (output.status.code(), rows, document["advice"].to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_nobody_needs_is_dropped_and_what_was_stored_of_it_goes() {
    let home = Home::new();
    let server = Server::start(&home, &settings()).await;
    let mut plans = [Load::new(17)];
    plans[0].send_all(&server, PATIENCE).await;
    server.terminate().await;
    let (code, rows, _) = doctor(&home).await;
    assert_eq!(code, Some(0));
    for epoch in ["1", "2"] {
        assert_on_files(&home, &["--from-start", "--into", epoch]).await;
    }
    assert_on_files(&home, &["swap", "1"]).await;
    let (code, of_three, advice) = doctor(&home).await;
    assert_eq!((code, of_three), (Some(1), 3 * rows));
    assert!(advice.contains("replay drop 2") && !advice.contains("drop 1"), "{advice}");
    let refused = on_files(&home, None, &["drop", "1"]).await;
    assert_eq!(refused.status.code(), Some(65), "it is in use");
    for epoch in ["0", "2", "2"] {
        assert_on_files(&home, &["drop", epoch]).await;
    }
    let refused = on_files(&home, None, &["swap", "0"]).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("dropped"));
    assert_eq!(assert_on_files(&home, &["list", "-o", "csv"]).await.lines().count(), 2);

    let server = Server::start(&home, &settings()).await;
    let started = tokio::time::Instant::now();
    while doctor(&home).await.1 > rows {
        assert!(started.elapsed() < PATIENCE, "{:?}", doctor(&home).await);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_exact(&server, &server, &mut plans).await;
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_pipeline_is_replayed_on_servers() {
    let Some(servers) = shared_pair() else { return };
    let cluster = Cluster::new(servers, settings()).await;
    let homes = [Home::new(), Home::new()];
    let ingest = Server::start(&homes[0], &cluster.stages("ingest")).await;
    let rest = Server::start(&homes[1], &cluster.stages("consume,price,query")).await;
    let mut plans = [Load::new(11), Load::new(12)];
    plans[0].send_all(&ingest, PATIENCE).await;
    rest.drained().await;
    let replaying = async {
        cluster.run(&["replay", "--from-start", "--into", "1"]).await;
        cluster.run(&["replay", "compare", "1"]).await;
        cluster.run(&["replay", "swap", "1"]).await;
        cluster.run(&["replay", "list", "-o", "csv"]).await
    };
    let (_, listed) = tokio::join!(plans[1].send_all(&ingest, PATIENCE), replaying);
    assert!(listed.contains("1,true,0"), "{listed}");
    assert_exact(&ingest, &rest, &mut plans).await;
    ingest.terminate().await;
    rest.terminate().await;
}
