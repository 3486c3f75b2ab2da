//! Deaths: one run of load into servers that die at a named point or from outside, and what the
//! totals are after a new start.
//!
//! A deployment is one process with every stage, or one for ingest and one for the rest; the run is
//! the same.

use std::{fmt::Write as _, os::unix::process::ExitStatusExt, pin::pin, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::{sync::mpsc, time::timeout};

use super::{
    Home, PATIENCE, Process, Random, Server, Settings,
    cluster::Cluster,
    load::{Difference, Load, difference, stored_totals},
};

/// How a server dies.
#[derive(Clone, Debug)]
pub(crate) enum Death {
    /// At the nth pass of a point.
    Point { point: &'static str, nth: u64 },
    /// From outside, so long after the first ack.
    FromOutside { after: Duration },
    /// From outside, and then again and again while it starts on what the kill before left.
    Recovering { after: Duration, again: [Duration; 3] },
}

/// A kind of death, for the report.
pub(crate) type Kind = &'static str;
const RANDOM: Kind = "from outside, at a random time";
const RECOVERING: Kind = "from outside, and three times while it recovers";

impl Death {
    /// One run of every kind, each with the seed that its moments follow from.
    pub(crate) fn all(points: &[&'static str], first_seed: u64) -> Vec<(Kind, u64, Self)> {
        let kinds = points.iter().copied().chain([RANDOM, RECOVERING]);
        let of = |(kind, seed)| (kind, seed, Self::of(kind, &mut Random(seed)));
        kinds.zip(first_seed..).map(of).collect()
    }

    fn of(kind: Kind, random: &mut Random) -> Self {
        let millis = |random: &mut Random, max| Duration::from_millis(random.below(max));
        match kind {
            RANDOM => Self::FromOutside { after: millis(random, 400) },
            RECOVERING => Self::Recovering {
                after: millis(random, 400),
                again: [60, 120, 240].map(|max| millis(random, max)),
            },
            point => Self::Point { point, nth: 1 + random.below(passes(point)) },
        }
    }

    fn fault(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Point { point, nth } => Some((point, format!("{point}:{nth}"))),
            _ => None,
        }
    }
}

/// About as often as a point is passed while the plan is sent: with each append, with each group
/// commit, with each closed segment, or with each tick in each partition.
fn passes(point: &str) -> u64 {
    match point.split_once('.') {
        Some(("ingest" | "kafka", _)) => 600,
        Some(("log", _)) => 200,
        // Once a second, and a plan takes some.
        Some(("blocks", _)) => 2,
        // Once a tick and partition, and on servers a tick with many closes takes seconds.
        Some(("consumer", "after_rows")) => 12,
        Some(("scylla", "after_manifest")) | Some(("consumer", "after_close")) => 24,
        _ => 80,
    }
}

/// What runs: its processes, in the order of a pulse's way.
pub(crate) struct Deployment {
    processes: Vec<(Home, Settings)>,
    /// Nobody else's for as long as they run.
    _cluster: Option<Cluster>,
}

impl Deployment {
    /// Every stage in one process.
    pub(crate) fn one(settings: Settings) -> Self {
        Self { processes: vec![(Home::new(), settings)], _cluster: None }
    }

    /// Ingest in a process of its own, everything else in another, on a cluster of their own.
    pub(crate) fn two(cluster: Cluster) -> Self {
        let process = |stages| (Home::new(), cluster.stages(stages));
        let processes = ["ingest", "consume,price,query"].map(process).into();
        Self { processes, _cluster: Some(cluster) }
    }

    /// Which process passes a point.
    fn passes(&self, point: &str) -> usize {
        let first = point.starts_with("ingest.") || point.starts_with("kafka.");
        if first { 0 } else { self.processes.len() - 1 }
    }

    async fn start(&self) -> Running {
        match self.start_to_die(None).await {
            Ok(running) => running,
            Err(process) => panic!("it ended before it was ready: {}", process.log()),
        }
    }

    /// Starts all, one of them to die at a point. Gives that one back if it died before it was
    /// ready.
    async fn start_to_die(&self, death: Option<&Death>) -> Result<Running, Process> {
        let fault = death.and_then(Death::fault);
        let mut servers = Vec::new();
        for (place, (home, settings)) in self.processes.iter().enumerate() {
            let settings = match &fault {
                Some((point, fault)) if self.passes(point) == place => {
                    settings.clone().with("PULSO_FAULT", fault.clone())
                }
                _ => settings.clone(),
            };
            servers.push(Server::try_start(home, &settings).await?);
        }
        Ok(Running { servers })
    }

    /// Streams until a server dies as told, makes sure that it did, and ends the others likewise.
    async fn stream_until_death(&self, load: &mut Load, death: &Death) {
        // A kill at the very first pass may come before it is ready; then nothing was acknowledged.
        let mut running = match self.start_to_die(Some(death)).await {
            Ok(running) => running,
            Err(mut process) => {
                return assert_eq!(process.end().await.signal(), Some(libc::SIGKILL));
            }
        };
        let (acks, mut acked) = mpsc::unbounded_channel();
        let address = running.ingest().grpc.clone();
        let dying = death.fault().map_or(0, |(point, _)| self.passes(point));
        let killing = async {
            if let Death::FromOutside { after } | Death::Recovering { after, .. } = death {
                acked.recv().await;
                tokio::time::sleep(*after).await;
                running.servers[dying].signal(libc::SIGKILL);
            }
            let status = running.servers[dying].end_status().await;
            assert_eq!(status.signal(), Some(libc::SIGKILL), "{death:?}");
            drop(running); // Kills the others, and with ingest ends the load.
        };
        let both = async { tokio::join!(killing, load.run(&address, &acks)) };
        timeout(PATIENCE, both).await.expect("the fault is met under load");
        if let Death::Recovering { again, .. } = death {
            for after in again {
                self.kill_while_starting(*after).await;
            }
        }
    }

    async fn kill_while_starting(&self, after: Duration) {
        let starting = self.processes.iter().map(|(home, settings)| Server::spawn(home, settings));
        let starting: Vec<Process> = starting.collect();
        tokio::time::sleep(after).await;
        for mut process in starting {
            process.signal(libc::SIGKILL);
            assert_eq!(process.end().await.signal(), Some(libc::SIGKILL));
        }
    }
}

/// Processes that are ready.
struct Running {
    servers: Vec<Server>,
}

impl Running {
    fn ingest(&self) -> &Server {
        &self.servers[0]
    }

    fn queries(&self) -> &Server {
        self.servers.last().unwrap()
    }

    async fn terminate(self) {
        for server in self.servers {
            server.terminate().await;
        }
    }
}

/// What a run found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    runs: u64,
    pulses: u64,
    batches_without_ack: u64,
    pub(crate) difference: Difference,
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

/// One run, from nothing to the comparison.
async fn run(deployment: &Deployment, seed: u64, death: &Death) -> Outcome {
    let mut load = Load::new(seed);
    deployment.stream_until_death(&mut load, death).await;
    let running = deployment.start().await;
    // After a kill there may be nothing to drain and the group still wait for the dead member.
    running.queries().drained().await;
    // What was acknowledged has to be there before anything is sent again.
    let acked = difference(&stored_totals(running.queries()).await, &load.acked_totals());
    let batches_without_ack = load.send_rest(running.ingest()).await;
    running.queries().drained().await;
    let expected = load.totals();
    let mut found = difference(&stored_totals(running.queries()).await, &expected);
    running.queries().audit_is_clean().await;
    running.terminate().await;
    // Everything is closed now; what a new start reads is what the manifests prove.
    let running = deployment.start().await;
    let server = running.queries();
    server.audit_is_clean().await;
    let closed = difference(&stored_totals(server).await, &expected);
    assert_eq!(found, closed, "a graceful end changed totals");
    let pulses = expected.values().map(|(count, _)| count).sum();
    found.lost = found.lost.max(acked.lost);
    if found == Difference::default() {
        let counts = server.status().await.pulses.unwrap();
        assert_eq!((counts.accepted, counts.dead_lettered, counts.late), (pulses, 0, 0));
        assert_eq!(counts.read, counts.control + counts.accepted + counts.duplicate);
    }
    running.terminate().await;
    Outcome { runs: 1, pulses, batches_without_ack, difference: found }
}

/// Runs them all, so many at a time, each on a deployment of its own, and sums up by kind.
pub(crate) async fn run_all(
    deaths: Vec<(Kind, u64, Death)>,
    together: usize,
    deploy: impl AsyncFn() -> Deployment,
) -> Vec<(Kind, Outcome)> {
    let kinds: Vec<Kind> = deaths.iter().map(|(kind, ..)| *kind).collect();
    let runs = stream::iter(deaths).map(async |(kind, seed, death)| {
        let deployment = deploy().await;
        eprintln!("seed {seed}: {death:?}");
        (kind, run(&deployment, seed, &death).await)
    });
    let mut runs = pin!(runs.buffer_unordered(together));
    let mut outcomes: Vec<(Kind, Outcome)> = Vec::new();
    while let Some((kind, outcome)) = runs.next().await {
        match outcomes.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, sum)) => sum.add(&outcome),
            None => outcomes.push((kind, outcome)),
        }
    }
    outcomes.sort_by_key(|(kind, _)| kinds.iter().position(|known| known == kind));
    outcomes
}

/// The outcomes as a table in Markdown.
pub(crate) fn table(outcomes: &[(Kind, Outcome)]) -> String {
    let mut text =
        "| killed at | runs | pulses | batches without an ack | lost | doubled | wrong sums |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
"
        .to_owned();
    for (kind, outcome) in outcomes {
        let Outcome { runs, pulses, batches_without_ack, difference } = outcome;
        let Difference { lost, doubled, wrong_sums } = difference;
        writeln!(
            text,
            "| {kind} | {runs} | {pulses} | {batches_without_ack} | {lost} | {doubled} | {wrong_sums} |"
        )
        .unwrap();
    }
    text
}
