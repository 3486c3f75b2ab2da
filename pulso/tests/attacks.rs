//! Attacks: what hostile clients can do to the process and to an honest client beside them.
//!
//! Each attack is a value: a name, the bound that holds it, how far the server may grow, and a
//! function. Hostile clients come from an address of loopback of their own. While an attack runs, an
//! honest client sends a batch at a time; all of its pulses must be acknowledged and counted.
//!
//! `PULSO_TEST_ATTACKS=1` (`make test-attacks`) runs every attack in full on a server with default
//! bounds and writes `reports/attacks.md`; part of a name instead of `1` runs those of that name.
//! Otherwise all run small, on one server with low bounds.

mod connections;
mod consumer;
mod disk;
mod honest;
mod http1;
mod messages;
mod streams;
mod wire;

use std::{
    fmt::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;

use crate::harness::{Home, Server, Settings, root, until};
pub(crate) use honest::Honest;

/// How much an attacker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Enough to reach the low bounds of [`low_bounds`], in some hundred milliseconds.
    Small,
    /// Enough to reach the default bounds.
    Full,
}

impl Scale {
    pub(crate) fn pick<T>(self, small: T, full: T) -> T {
        match self {
            Self::Small => small,
            Self::Full => full,
        }
    }
}

/// What is attacked.
pub(crate) struct Target {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
}

/// One attack.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// What holds it, for the report.
    pub(crate) bound: &'static str,
    /// Most MiB that the server may grow by while it runs in full.
    pub(crate) growth_mib_max: u64,
    /// Settings that it needs in full.
    pub(crate) settings: fn(Settings) -> Settings,
    /// Runs it and says what the attacker saw. Panics when a bound does not hold.
    pub(crate) run: for<'a> fn(&'a Target, Scale) -> BoxFuture<'a, String>,
}

/// What an attack did to the server.
struct Measured {
    mib_before: u64,
    mib_most: u64,
    mib_after: u64,
    p99_alone: Duration,
    p99_beside: Duration,
    seen: String,
}

fn attacks() -> Vec<&'static Attack> {
    [connections::ATTACKS, streams::ATTACKS, messages::ATTACKS, http1::ATTACKS]
        .into_iter()
        .flatten()
        .collect()
}

/// Bounds that a small attack reaches.
fn low_bounds() -> Settings {
    Settings::default()
        .without_access()
        .with("PULSO_EDGE__CONNECTIONS_MAX", "24")
        .with("PULSO_EDGE__CONNECTIONS_PER_PEER_MAX", "16")
        .with("PULSO_EDGE__FIRST_BYTE_TIMEOUT", "300ms")
        .with("PULSO_EDGE__HEADER_TIMEOUT", "1s")
        .with("PULSO_EDGE__MESSAGE_TIMEOUT", "500ms")
        .with("PULSO_EDGE__CALLS_PER_PEER_MAX", "64")
        .with("PULSO_INGEST__BYTES_IN_FLIGHT_MAX", "32 MiB")
        .with("PULSO_INGEST__BYTES_IN_FLIGHT_PER_PEER_MAX", "16 MiB")
}

fn target(server: &Server) -> Target {
    let address = |text: &str| text.trim_start_matches("http://").parse().unwrap();
    Target { grpc: address(&server.grpc), http: address(&server.http) }
}

/// Samples how much memory a process has in use, until it is dropped.
struct Watch {
    mib_most: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
}

impl Watch {
    fn start(pid: u32) -> Self {
        let (mib_most, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (most, over) = (Arc::clone(&mib_most), Arc::clone(&is_over));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(mib(pid), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { mib_most, is_over }
    }

    fn most(&self) -> u64 {
        self.mib_most.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Resident memory of a process in MiB.
fn mib(pid: u32) -> u64 {
    memory_of(pid, "VmRSS:")
}

/// The most that a process has had resident, in MiB.
fn mib_peak(pid: u32) -> u64 {
    memory_of(pid, "VmHWM:")
}

fn memory_of(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1_024
}

/// Runs one attack beside an honest client.
async fn measure(server: &Server, honest: &Honest, attack: &Attack, scale: Scale) -> Measured {
    let target = target(server);
    honest.forget();
    tokio::time::sleep(scale.pick(Duration::from_millis(200), Duration::from_secs(2))).await;
    let p99_alone = honest.p99();
    let mib_before = mib(server.pid());
    let watch = Watch::start(server.pid());
    honest.forget();
    let acked = honest.acked();
    let start = Instant::now();
    let seen = (attack.run)(&target, scale).await;
    let elapsed = start.elapsed();
    until(attack.name, || honest.acked() >= acked + 10).await;
    let p99_beside = honest.p99();
    let mib_most = watch.most();
    tokio::time::sleep(scale.pick(Duration::ZERO, Duration::from_secs(2))).await;
    let mib_after = mib(server.pid());
    eprintln!(
        "{}: {mib_before} -> {mib_most} -> {mib_after} MiB, p99 {p99_alone:?} -> {p99_beside:?}, {elapsed:?}; {seen}",
        attack.name
    );
    Measured { mib_before, mib_most, mib_after, p99_alone, p99_beside, seen }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_clients_reach_bounds_and_honest_ones_go_on() {
    let home = Home::new();
    let server = Server::start(&home, &low_bounds()).await;
    let honest = Honest::start(&server).await;
    for attack in attacks() {
        let measured = measure(&server, &honest, attack, Scale::Small).await;
        let growth = measured.mib_most.saturating_sub(measured.mib_before);
        assert!(growth < 80, "{}: the server grew by {growth} MiB", attack.name);
    }
    honest.all_is_counted(&server).await;
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attacks_in_full_stay_within_their_bounds() {
    let Ok(wanted) = std::env::var("PULSO_TEST_ATTACKS") else { return };
    let is_all = wanted == "1";
    let is_wanted = |name: &str| is_all || name.contains(&wanted);
    let mut rows = Vec::new();
    for attack in attacks().into_iter().filter(|attack| is_wanted(attack.name)) {
        let home = Home::new();
        let server =
            Server::start(&home, &(attack.settings)(Settings::default().without_access())).await;
        let honest = Honest::start(&server).await;
        let measured = measure(&server, &honest, attack, Scale::Full).await;
        honest.all_is_counted(&server).await;
        server.terminate().await;
        rows.push((attack, measured));
    }
    let floods = consumer::InFull::run(is_wanted).await;
    if is_wanted(disk::ATTACK.name) {
        rows.extend(disk::fill().await.map(|measured| (&disk::ATTACK, measured)));
    }
    if is_all {
        let report = report(&rows) + &floods.report();
        std::fs::write(root().join("reports/attacks.md"), report).unwrap();
    }
    floods.assert_growth();
    for (attack, Measured { mib_before, mib_most, .. }) in rows {
        let growth = mib_most.saturating_sub(mib_before);
        let Attack { name, growth_mib_max, .. } = attack;
        assert!(growth <= *growth_mib_max, "{name}: grew by {growth} of {growth_mib_max} MiB");
    }
}

/// A latency, or a dash where none was measured.
fn in_millis(latency: Duration) -> String {
    if latency.is_zero() { "–".to_owned() } else { latency.as_millis().to_string() }
}

fn report(rows: &[(&Attack, Measured)]) -> String {
    let mut text = "# Attacks

Written by `make test-attacks`. Each attack runs on a fresh `pulso dev` with default bounds, over loopback, from an address of its
own. Memory is what the process has resident, in MiB: before, the most while the attack ran, and two seconds after its end.
Beside it an honest client sends a numbered batch of 100 pulses at a time; p99 is how long its acks took, without and with the
attack, in ms. All of its pulses were acknowledged and counted. Server (a debug build), attacker and honest client share the
machine's cores, and under a flood all three are busy.

| attack | bound | before | most | after | p99 alone | p99 beside | what the attacker saw |
| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |
"
    .to_owned();
    for (attack, measured) in rows {
        let Measured { mib_before, mib_most, mib_after, p99_alone, p99_beside, seen } = measured;
        let Attack { name, bound, .. } = attack;
        writeln!(
            text,
            "| {name} | {bound} | {mib_before} | {mib_most} | {mib_after} | {} | {} | {seen} |",
            in_millis(*p99_alone),
            in_millis(*p99_beside),
        )
        .unwrap();
    }
    text
}
