//! Attacks that reach the consumer: floods of what it has to remember, count or set aside.
//!
//! Each flood runs on a server of its own, beside an honest client. After it everything has to be
//! drained, what was decided has to be what the bound says, and the honest client's totals have to be
//! exact: at once, after a kill and a start on the same files, and after an orderly end and another
//! start. Then the audit has to be clean. Memory is measured throughout.

mod flood;
mod hard_limit;
mod identities;
mod keys;
mod refusals;

use std::{
    collections::BTreeMap,
    fmt::Write,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use proto::v1::PulseCounts;

use self::flood::Answered;
use super::{Scale, Watch, honest, honest::Honest, in_millis, mib, mib_peak};
use crate::harness::{Home, Server, Settings, until};

/// One flood.
struct Flood {
    name: &'static str,
    /// What holds it, for the report.
    bound: &'static str,
    /// Most MiB that the server may grow by, in full: while it runs, and at each start on its files.
    growth_mib_max: u64,
    /// Settings that it needs.
    settings: fn(Settings, Scale) -> Settings,
    /// Sends it and says what the server answered.
    send: for<'a> fn(&'a Server, Scale) -> BoxFuture<'a, Answered>,
    /// Says what became of it. Panics when the bound was not reached or did not hold.
    check: fn(&Counted, Scale) -> String,
}

fn floods() -> impl Iterator<Item = &'static Flood> {
    [identities::FLOODS, keys::FLOODS, refusals::FLOODS].into_iter().flatten()
}

/// What became of a flood.
#[derive(Debug)]
struct Counted {
    flooded: Answered,
    /// Of the flood and of the honest client.
    pulses: PulseCounts,
    /// Dead letters by reason.
    dead: BTreeMap<String, u64>,
    ids_held: u64,
    segments_closed: u64,
}

impl Counted {
    async fn of(server: &Server, flooded: Answered) -> Self {
        let metrics = server.get("/metrics").await;
        let values = |name: &'static str| metrics.lines().filter_map(move |line| value(line, name));
        let dead = values("pulso_dlq_records_total").filter_map(|(labels, count)| {
            Some((labels.split("reason=\"").nth(1)?.split('"').next()?.to_owned(), count))
        });
        Self {
            flooded,
            pulses: server.status().await.pulses.unwrap(),
            dead: dead.collect(),
            ids_held: values("pulso_ids_held").map(|(_, held)| held).sum(),
            segments_closed: values("pulso_segments_closed_total").map(|(_, count)| count).sum(),
        }
    }

    /// Dead letters of one reason.
    fn dead(&self, reason: &str) -> u64 {
        self.dead.get(reason).copied().unwrap_or(0)
    }

    /// Every pulse that was taken became something.
    fn is_whole(&self, honest: u64) {
        let PulseCounts { read, control, accepted, duplicate, late, dead_lettered, erased } =
            self.pulses;
        assert_eq!(read, control + accepted + duplicate + late + dead_lettered + erased);
        assert_eq!(read - control, self.flooded.accepted + honest, "{self:?}");
    }
}

/// Labels and value of a line of metrics, if it is one of this metric.
fn value<'a>(line: &'a str, name: &str) -> Option<(&'a str, u64)> {
    let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
    Some((labels, value.parse().ok()?))
}

/// A start on the files that a flood left.
struct Started {
    /// Until it was ready.
    ready: Duration,
    /// Until a pulse that was sent to it then was counted in every partition.
    drained: Duration,
    mib_most: u64,
}

/// What a flood did to the server.
struct Measured {
    mib_before: u64,
    mib_most: u64,
    p99_alone: Duration,
    p99_beside: Duration,
    flooded: Duration,
    drained: Duration,
    after_kill: Started,
    after_end: Started,
    audit: Duration,
    audit_mib_most: u64,
    seen: String,
}

async fn measure(flood: &Flood, scale: Scale) -> Measured {
    let home = Home::new();
    let settings = (flood.settings)(Settings::default().without_access(), scale);
    let server = Server::start(&home, &settings).await;
    let client = Honest::start(&server).await;
    tokio::time::sleep(scale.pick(Duration::from_millis(200), Duration::from_secs(2))).await;
    let (p99_alone, mib_before) = (client.p99(), mib(server.pid()));
    client.forget();
    let watch = Watch::start(server.pid());
    let start = Instant::now();
    let flooded_with = (flood.send)(&server, scale).await;
    let flooded = start.elapsed();
    let acked = client.acked();
    until(flood.name, || client.acked() >= acked + 10).await;
    let p99_beside = client.p99();
    let honest = client.end().await;
    let start = Instant::now();
    drained(&server).await;
    let drained = start.elapsed();
    let counted = Counted::of(&server, flooded_with).await;
    counted.is_whole(honest);
    let seen = (flood.check)(&counted, scale);
    honest::are_counted(honest, &server).await;
    let mib_most = watch.most();
    eprintln!(
        "{}: {mib_before} -> {mib_most} MiB, p99 {p99_alone:?} -> {p99_beside:?}, {flooded:?}, drained after {drained:?}; {seen}",
        flood.name
    );
    drop(server);
    let (server, after_kill) = start_again(&home, &settings, honest).await;
    server.terminate().await;
    let (server, after_end) = start_again(&home, &settings, honest).await;
    let start = Instant::now();
    server.audit_is_clean().await;
    let (audit, audit_mib_most) = (start.elapsed(), mib_peak(server.pid()));
    eprintln!("  audit {audit:?}, {audit_mib_most} MiB");
    server.terminate().await;
    Measured {
        mib_before,
        mib_most,
        p99_alone,
        p99_beside,
        flooded,
        drained,
        after_kill,
        after_end,
        audit,
        audit_mib_most,
        seen,
    }
}

/// Starts on the same files and checks that the honest client's totals are what they were.
async fn start_again(home: &Home, settings: &Settings, honest: u64) -> (Server, Started) {
    let start = Instant::now();
    let server = Server::start(home, settings).await;
    let ready = start.elapsed();
    // The store has all from before. Something new is stored only behind an open segment folded again.
    flood::reach_every_partition(&server).await;
    drained(&server).await;
    let (drained, mib_most) = (start.elapsed(), mib_peak(server.pid()));
    eprintln!("  started again: ready {ready:?}, drained {drained:?}, {mib_most} MiB");
    honest::are_counted(honest, &server).await;
    (server, Started { ready, drained, mib_most })
}

/// Waits until all of the log is in the store, which may be far behind.
async fn drained(server: &Server) {
    let output = server.pulso(&["status", "--wait-drained", "300s"]).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_reach_the_consumers_bounds_and_totals_stay_exact() {
    for flood in floods() {
        let measured = measure(flood, Scale::Small).await;
        assert_growth(flood, &measured, 100);
    }
}

fn assert_growth(flood: &Flood, measured: &Measured, growth_mib_max: u64) {
    let Measured { mib_before, mib_most, after_kill, after_end, .. } = measured;
    for (when, most) in [
        ("under attack", *mib_most),
        ("after a kill", after_kill.mib_most),
        ("after an orderly end", after_end.mib_most),
        ("audited", measured.audit_mib_most),
    ] {
        let growth = most.saturating_sub(*mib_before);
        assert!(
            growth <= growth_mib_max,
            "{}: {when} the server grew by {growth} of {growth_mib_max} MiB",
            flood.name
        );
    }
}

/// The rows of the report, and the floods that grew too far.
pub(super) struct InFull(Vec<(&'static Flood, Measured)>);

impl InFull {
    /// Runs the floods whose names are wanted.
    pub(super) async fn run(is_wanted: impl Fn(&str) -> bool) -> Self {
        let mut rows = Vec::new();
        for flood in floods().filter(|flood| is_wanted(flood.name)) {
            rows.push((flood, measure(flood, Scale::Full).await));
        }
        Self(rows)
    }

    pub(super) fn assert_growth(&self) {
        self.0.iter().for_each(|(flood, row)| assert_growth(flood, row, flood.growth_mib_max));
    }

    /// The second part of the report.
    pub(super) fn report(&self) -> String {
        let mut text = REPORT.to_owned();
        for (flood, row) in &self.0 {
            let Flood { name, bound, growth_mib_max, .. } = flood;
            let started = |Started { ready, drained, mib_most }: &Started| {
                format!("{ready:.1?}, {drained:.1?}, {mib_most}")
            };
            let Measured { mib_before, mib_most, audit_mib_most, seen, .. } = row;
            writeln!(
                text,
                "| {name} | {bound} | {:.0?} | {:.1?} | {mib_before} | {mib_most} | {} | {} | {} | {} | {} | {:.1?}, {audit_mib_most} | {seen} |",
                row.flooded,
                row.drained,
                mib_before + growth_mib_max,
                in_millis(row.p99_alone),
                in_millis(row.p99_beside),
                started(&row.after_kill),
                started(&row.after_end),
                row.audit,
            )
            .unwrap();
        }
        text
    }
}

const REPORT: &str = "
## On the consumer

Each flood runs on a fresh `pulso dev`, with default settings but for those that `bound` names, beside the same honest client. When it
is over, everything is drained, and what became of each pulse is compared with what was sent. Then the server is killed and started
on the same files, ended in order and started again, and its log is audited. The honest client's totals are exact each time. Memory
is in MiB: before, the most until all is drained, and the most that the test allows. A start is told by the time until it
is ready, the time until a pulse sent to it then is counted in every partition, and the most memory.

| flood | bound | sent in | drained after | before | most | allowed | p99 alone | p99 beside | start after a kill | start after an orderly end | audit: time, MiB | what became of it |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |
";
