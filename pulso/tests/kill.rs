//! SIGKILL and SIGTERM to the whole program under load: every acknowledged pulse is counted exactly
//! once, whatever the moment.
//!
//! A run streams a plan of batches, lets the server die, starts it again, sends what has no ack,
//! and compares the totals with the plan, before and after a graceful end. `PULSO_TEST_KILLS` asks
//! for more kills at each point than two and writes `reports/faults.md`; `PULSO_TEST_SEED`
//! chooses other moments.

use crate::harness::{
    Home, PATIENCE, Server, Settings,
    deaths::{self, Death, Deployment},
    load::{Difference, Load, difference, stored_totals},
    root,
};
use runtime::fault::POINTS;
use tokio::{sync::mpsc, time::timeout};

const KILLS: u64 = 2;
/// Runs under way together. More would only share the same disk and cores.
const RUNS_TOGETHER: usize = 3;

/// The points that a process on the embedded adapters passes.
fn points() -> Vec<&'static str> {
    // Billing has runs of its own, in `billing_kill.rs`, `billing_refunds.rs` and `dated.rs`, and the
    // audit trail in `audit_log.rs`.
    let others = ["kafka.", "scylla.", "billing.", "invoice.", "audit.", "contract.", "catalogue."];
    let is_other = |point: &str| others.iter().any(|other| point.starts_with(other));
    POINTS.iter().copied().filter(|point| !is_other(point)).collect()
}

fn kills() -> u64 {
    std::env::var("PULSO_TEST_KILLS").map_or(KILLS, |kills| kills.parse().unwrap())
}

fn seed() -> u64 {
    std::env::var("PULSO_TEST_SEED").map_or(1, |seed| seed.parse().unwrap())
}

/// Small segments, so that a run closes many, and blocks of a second.
fn settings() -> Settings {
    Settings::default()
        .with("PULSO_LOG__SEGMENT_RECORDS_MAX", "16")
        .with("PULSO_BLOCKS__EVERY", "1s")
        .with("PULSO_BLOCKS__DELAY", "0s")
        .with("PULSO_BLOCKS__KEEP_REPLACED", "1s")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_at_any_point_loses_or_doubles_a_pulse() {
    let first_seed = |round| seed() * 1_000_000 + round * 1_000;
    let deaths = (0..kills()).flat_map(|round| Death::all(&points(), first_seed(round))).collect();
    let deploy = async || Deployment::one(settings());
    let outcomes = deaths::run_all(deaths, RUNS_TOGETHER, deploy).await;
    if std::env::var_os("PULSO_TEST_KILLS").is_some() {
        let report = format!("{REPORT}{}", deaths::table(&outcomes));
        std::fs::write(root().join("reports/faults.md"), report).unwrap();
    }
    assert_eq!(outcomes.len(), points().len() + 2);
    for (name, outcome) in &outcomes {
        assert_eq!(outcome.difference, Difference::default(), "{name}: {outcome:?}");
    }
}

const REPORT: &str = "# Faults: what kills did to totals

Written by `make test-faults` (`pulso/tests/kill.rs`). In each run five producers stream 1,000
batches (numbered, by id, and a backfill; some sent twice on purpose) to `pulso dev`, which dies by
SIGKILL at the point named; it is started again, batches without an ack are sent, those that were
sent before unchanged, and the totals are compared with the plan. Lost and doubled are pulses; a wrong sum is a
resource whose count is right and whose sum is not.

";

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_exits_with_0_and_all_that_was_acknowledged_is_final() {
    let home = Home::new();
    let mut load = Load::new(seed());
    let server = Server::start(&home, &settings()).await;
    let (acks, mut acked) = mpsc::unbounded_channel();
    let address = server.grpc.clone();
    let ending = async {
        for _ in 0..300 {
            acked.recv().await.expect("the load goes on");
        }
        server.terminate().await;
    };
    let both = async { tokio::join!(ending, load.run(&address, &acks)) };
    timeout(PATIENCE, both).await.expect("the server ends under load");

    let server = Server::start(&home, &settings()).await;
    let status = server.status().await;
    for partition in &status.partitions {
        assert_eq!(partition.lag_records, 0, "an orderly end leaves nothing to fold");
    }
    let stored = difference(&stored_totals(&server).await, &load.acked_totals());
    assert_eq!((stored.lost, stored.wrong_sums), (0, 0));
    load.send_rest(&server).await;
    server.drained().await;
    let found = difference(&stored_totals(&server).await, &load.totals());
    assert_eq!(found, Difference::default());
    server.audit_is_clean().await;
}
