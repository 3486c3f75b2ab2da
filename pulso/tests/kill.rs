//! SIGKILL and SIGTERM to the whole program under load: every acknowledged pulse is counted exactly
//! once, whatever the moment.
//!
//! A run streams a plan of batches, lets the server die, starts it again, sends what has no ack,
//! and compares the totals with the plan, before and after a graceful end. `PULSO_TEST_KILLS` asks
//! for more kills at each point than two and writes `docs/faults-report.md`; `PULSO_TEST_SEED`
//! chooses other moments.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests too; the lint only knows functions.

mod harness;

use std::{fmt::Write as _, os::unix::process::ExitStatusExt, time::Duration};

use harness::{
    Home, PATIENCE, Random, Server, Settings,
    load::{Difference, Load, difference, stored_totals},
    root,
};
use service::fault::POINTS;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

const KILLS: u64 = 2;
/// Runs under way together. More would only share the same disk and cores.
const RUNS_TOGETHER: usize = 3;

/// The points that a process on the embedded adapters passes.
fn points() -> impl Iterator<Item = &'static str> {
    let on_servers = |point: &str| point.starts_with("kafka.") || point.starts_with("scylla.");
    POINTS.iter().copied().filter(move |point| !on_servers(point))
}

fn kills() -> u64 {
    std::env::var("PULSO_TEST_KILLS").map_or(KILLS, |kills| kills.parse().unwrap())
}

fn seed() -> u64 {
    std::env::var("PULSO_TEST_SEED").map_or(1, |seed| seed.parse().unwrap())
}

/// Small segments, so that a run closes many.
fn settings() -> Settings {
    Settings::default().with("PULSO_LOG__SEGMENT_RECORDS_MAX", "16")
}

/// How a server dies.
#[derive(Clone, Debug)]
enum Death {
    /// At the nth pass of a point.
    Point { point: &'static str, nth: u64 },
    /// From outside, so long after the first ack.
    FromOutside { after: Duration },
    /// From outside, and then again and again while it starts on what the kill before left.
    Recovering { after: Duration, again: [Duration; 3] },
}

impl Death {
    const RANDOM: &'static str = "from outside, at a random time";
    const RECOVERING: &'static str = "from outside, and three times while it recovers";

    /// One run of every kind, with moments that follow from the seed.
    fn all(round: u64) -> Vec<(&'static str, u64, Self)> {
        let seeds = (0..).map(|place| seed() * 1_000_000 + round * 1_000 + place);
        let points = points().map(Some).chain([None, None]);
        let mut outside = [Self::RANDOM, Self::RECOVERING].into_iter();
        points
            .zip(seeds)
            .map(|(point, seed)| {
                let random = &mut Random(seed);
                match point {
                    Some(point) => (point, seed, Self::at(point, random)),
                    None => {
                        let name = outside.next().unwrap();
                        (name, seed, Self::outside(name, random))
                    }
                }
            })
            .collect()
    }

    fn at(point: &'static str, random: &mut Random) -> Self {
        // About as often as it is passed while the plan is sent: with each append, with each group
        // commit, with each closed segment, or with each tick in each partition.
        let passes = match point.split_once('.') {
            Some(("ingest", _)) => 600,
            Some(("log", _)) => 200,
            _ if point == "consumer.after_close" => 24,
            _ => 80,
        };
        Self::Point { point, nth: 1 + random.below(passes) }
    }

    fn outside(name: &str, random: &mut Random) -> Self {
        let mut millis = |max| Duration::from_millis(random.below(max));
        let after = millis(400);
        if name == Self::RANDOM {
            return Self::FromOutside { after };
        }
        Self::Recovering { after, again: [millis(60), millis(120), millis(240)] }
    }

    fn settings(&self) -> Settings {
        match self {
            Self::Point { point, nth } => settings().with("PULSO_FAULT", format!("{point}:{nth}")),
            _ => settings(),
        }
    }
}

/// What a run found.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    runs: u64,
    pulses: u64,
    batches_without_ack: u64,
    difference: Difference,
}

impl Outcome {
    fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.pulses += other.pulses;
        self.batches_without_ack += other.batches_without_ack;
        self.difference.lost += other.difference.lost;
        self.difference.doubled += other.difference.doubled;
        self.difference.wrong_sums += other.difference.wrong_sums;
    }
}

/// Streams until the server dies as told, and makes sure that it did.
async fn stream_until_death(home: &Home, load: &mut Load, death: &Death) {
    // A kill at the very first pass may come before it is ready; then nothing was acknowledged.
    let mut server = match Server::try_start(home, &death.settings()).await {
        Ok(server) => server,
        Err(mut process) => return assert_eq!(process.end().await.signal(), Some(libc::SIGKILL)),
    };
    let (acks, mut acked) = mpsc::unbounded_channel();
    let address = server.grpc.clone();
    let killing = async {
        if let Death::FromOutside { after } | Death::Recovering { after, .. } = death {
            acked.recv().await;
            tokio::time::sleep(*after).await;
            server.signal(libc::SIGKILL);
        }
        server.end_status().await
    };
    let both = async { tokio::join!(killing, load.run(&address, &acks)).0 };
    let status = timeout(PATIENCE, both).await.expect("the fault is met under load");
    assert_eq!(status.signal(), Some(libc::SIGKILL), "{death:?}");
    if let Death::Recovering { again, .. } = death {
        for after in again {
            let mut process = Server::spawn(home, &settings());
            tokio::time::sleep(*after).await;
            process.signal(libc::SIGKILL);
            assert_eq!(process.end().await.signal(), Some(libc::SIGKILL));
        }
    }
}

/// One run, from an empty directory to the comparison.
async fn run(seed: u64, death: Death) -> Outcome {
    let home = Home::new();
    let mut load = Load::new(seed);
    stream_until_death(&home, &mut load, &death).await;
    let server = Server::start(&home, &settings()).await;
    server.drained().await;
    // What was acknowledged has to be there before anything is sent again.
    let acked = difference(&stored_totals(&server).await, &load.acked_totals());
    let batches_without_ack = load.send_rest(&server).await;
    server.drained().await;
    let expected = load.totals();
    let mut found = difference(&stored_totals(&server).await, &expected);
    server.audit_is_clean().await;
    server.terminate().await;
    // Everything is closed now; what a new start reads is what the manifests prove.
    let server = Server::start(&home, &settings()).await;
    server.audit_is_clean().await;
    let closed = difference(&stored_totals(&server).await, &expected);
    assert_eq!(found, closed, "a graceful end changed totals");
    let pulses = expected.values().map(|(count, _)| count).sum();
    found.lost = found.lost.max(acked.lost);
    if found == Difference::default() {
        let counts = server.status().await.pulses.unwrap();
        assert_eq!((counts.accepted, counts.dead_lettered, counts.late), (pulses, 0, 0));
        assert_eq!(counts.read, counts.control + counts.accepted + counts.duplicate);
    }
    Outcome { runs: 1, pulses, batches_without_ack, difference: found }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_at_any_point_loses_or_doubles_a_pulse() {
    let mut waiting: Vec<_> = (0..kills()).flat_map(Death::all).rev().collect();
    let mut running = JoinSet::new();
    let mut outcomes: Vec<(&str, Outcome)> = Vec::new();
    loop {
        while running.len() < RUNS_TOGETHER
            && let Some((name, seed, death)) = waiting.pop()
        {
            running.spawn(async move {
                eprintln!("seed {seed}: {death:?}");
                (name, run(seed, death).await)
            });
        }
        let Some(ended) = running.join_next().await else { break };
        let (name, outcome) = ended.expect("the run's own words are above");
        match outcomes.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => sum.add(&outcome),
            None => outcomes.push((name, outcome)),
        }
    }
    let order = |name: &str| points().position(|point| point == name).unwrap_or(usize::MAX);
    outcomes.sort_by_key(|(name, _)| (order(name), *name));
    if std::env::var_os("PULSO_TEST_KILLS").is_some() {
        std::fs::write(root().join("docs/faults-report.md"), report(&outcomes)).unwrap();
    }
    assert_eq!(outcomes.len(), points().count() + 2);
    for (name, outcome) in &outcomes {
        assert_eq!(outcome.difference, Difference::default(), "{name}: {outcome:?}");
    }
}

fn report(outcomes: &[(&str, Outcome)]) -> String {
    let mut text = "# Faults: what kills did to totals

Written by `make test-faults` (`pulso/tests/kill.rs`). In each run five producers stream 1,000
batches (numbered, by id, and a backfill; some sent twice on purpose) to `pulso dev`, which dies by
SIGKILL at the point named; it is started again, batches without an ack are sent, those that were
sent before unchanged, and the totals are compared with the plan. Lost and doubled are pulses; a wrong sum is a
resource whose count is right and whose sum is not.

| killed at | runs | pulses | batches without an ack | lost | doubled | wrong sums |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
"
    .to_owned();
    for (name, outcome) in outcomes {
        let Outcome { runs, pulses, batches_without_ack, difference } = outcome;
        let Difference { lost, doubled, wrong_sums } = difference;
        writeln!(
            text,
            "| {name} | {runs} | {pulses} | {batches_without_ack} | {lost} | {doubled} | {wrong_sums} |"
        )
        .unwrap();
    }
    text
}

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
