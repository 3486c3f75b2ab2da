//! The pipeline on Kafka and a CQL server, stage by stage: the same totals as embedded, exact under
//! kills.

use crate::harness::{
    Home, Server, Settings,
    cluster::Cluster,
    deaths::{self, Death, Deployment},
    load::Difference,
    root,
};
use runtime::fault::POINTS;
use serde_json::Value;
use storage::conformance::servers::{keyspaces::Keyspace, shared_pair};

const SAMPLE: &str = "samples/focus-1.0-sample-1000.csv";
/// Kills at each point.
const KILLS: u64 = 2;
/// Runs under way together: more only share the same two servers.
const RUNS_TOGETHER: usize = 3;

/// Streams the sample to the stages ingest, price and query, and gives what analysts and accountants
/// see of it.
async fn story([ingest, price, query]: [&Server; 3], home: &Home) -> (Value, Value, Value) {
    let sample = root().join(SAMPLE);
    let sample = sample.to_str().unwrap();
    let catalogue = home.path("catalogue.yaml");
    let imported = price.pulso(&["catalog", "import", "--format", "focus", sample]).await;
    std::fs::write(&catalogue, imported.stdout).unwrap();
    price.json(&["catalog", "publish", catalogue.to_str().unwrap()]).await;
    let sent =
        ingest.json(&["ingest", sample, "--format", "focus", "--backfill", "focus-2024-09"]).await;
    assert_eq!((&sent["accepted"], &sent["rejected"]), (&sent["sent"], &Value::from("0")));
    query.drained().await;
    let period = ["--from", "2024-08", "--to", "2024-11"];
    let usage = [&["query", "usage", "--window", "PT1H"], &period[..]].concat();
    let usage = query.json(&usage).await;
    assert!(usage["rows"].as_array().unwrap().len() > 900, "{usage}");
    let bill = ["bill", "preview", "--tenant", "11353890204", "--period", "2024-09"];
    let bill = price.json(&bill).await;
    (sent, usage["rows"].clone(), bill)
}

/// A bill without where in the log it comes from, which is another log's in another run.
fn without_places(mut bill: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, _| name != "log_id" && name != "segments");
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut bill);
    bill
}

#[tokio::test(flavor = "multi_thread")]
async fn four_stage_processes_give_the_embedded_totals() {
    let Some(servers) = shared_pair() else { return };
    let tables = Keyspace::missing(servers.1).await;
    let cluster = Cluster::on(servers, tables, Settings::default()).await;
    let homes = [(); 5].map(|()| Home::new());
    let start = async |home, stage| Server::start(home, &cluster.stages(stage)).await;
    let ingest = start(&homes[0], "ingest").await;
    let consume = start(&homes[1], "consume").await;
    let price = start(&homes[2], "price").await;
    let query = start(&homes[3], "query").await;
    let on_servers = story([&ingest, &price, &query], &homes[0]).await;
    consume.audit_is_clean().await;
    for stage in [ingest, consume, price, query] {
        stage.terminate().await;
    }
    // A consumer keeps nothing but what is in log and store: another home is as good.
    let consume = start(&homes[4], "consume").await;
    consume.audit_is_clean().await;
    consume.terminate().await;

    let home = Home::new();
    let all = Server::start(&home, &Settings::default()).await;
    let (sent, usage, bill) = story([&all; 3], &home).await;
    assert_eq!(on_servers.0, sent);
    assert_eq!(on_servers.1, usage);
    assert_eq!(without_places(on_servers.2), without_places(bill));
}

/// The points that processes on these servers pass.
fn points() -> Vec<&'static str> {
    // Billing has runs of its own, in `billing_kill.rs`, `billing_refunds.rs` and `dated.rs`, and the
    // audit trail in `audit_log.rs`.
    let others =
        ["log.", "store.", "billing.", "invoice.", "audit.", "contract.", "catalogue.", "blocks."];
    let is_other = |point: &str| others.iter().any(|other| point.starts_with(other));
    POINTS.iter().copied().filter(|point| !is_other(point)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_of_a_stage_loses_or_doubles_a_pulse() {
    let Some(servers) = shared_pair() else { return };
    let number = |name, default| std::env::var(name).map_or(default, |n| n.parse().unwrap());
    let (kills, seed) = (number("PULSO_TEST_KILLS", KILLS), number("PULSO_TEST_SEED", 1));
    let first_seed = |round| seed * 1_000_000 + round * 1_000 + 500;
    let deaths = (0..kills).flat_map(|round| Death::all(&points(), first_seed(round))).collect();
    // Small segments, so that a run closes many; not smaller, because each close is some hundred
    // writes, which are most of what a run costs.
    let settings = Settings::default().with("PULSO_LOG__SEGMENT_RECORDS_MAX", "32");
    let deploy = async || Deployment::two(Cluster::new(servers, settings.clone()).await);
    let outcomes = deaths::run_all(deaths, RUNS_TOGETHER, deploy).await;
    if std::env::var_os("PULSO_TEST_KILLS").is_some() {
        let report = format!("{REPORT}{}", deaths::table(&outcomes));
        std::fs::write(root().join("reports/faults-cluster.md"), report).unwrap();
    }
    assert_eq!(outcomes.len(), points().len() + 2);
    for (name, outcome) in &outcomes {
        assert_eq!(outcome.difference, Difference::default(), "{name}: {outcome:?}");
    }
}

const REPORT: &str = "# Faults on servers: what kills of stages did to totals

Written by `make test-faults` (`pulso/tests/cluster.rs`). The runs are those of
[faults.md](faults.md), with two processes, ingest and the other stages, on a real
Kafka and a real CQL server (Apache Cassandra). The process that passes the point dies by SIGKILL,
and the other with it; both are started again.

";
