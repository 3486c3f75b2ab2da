//! The seeded simulation: one seed decides everything that happens, and is all that is needed to see
//! it again.
//!
//! A run is a world (`world.rs`) of clients (`clients.rs`), ingest processes (`serving.rs`) and
//! consumer processes (`consuming.rs`) over the memory adapters. All of them are the product's own code; only
//! clients, clocks and failures are made up. The driver (`steps.rs`, `operator.rs`) lets one of them do something at a
//! time and decides what goes wrong. After every write `watch.rs` looks at the store. At the end
//! (`ending.rs`) faults stop, everything is drained, and `oracle.rs` compares the store with a model
//! (`model.rs`) that shares no code with the fold.
//!
//! `PULSO_TEST_SEED` is the first seed (1), `PULSO_TEST_ROUNDS` how many there are (2,000), and
//! `PULSO_TEST_TRACE=1` prints what happens.

// Helpers of tests are tests too; the lints only know functions.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod clients;
mod consuming;
mod ending;
mod model;
mod operator;
mod oracle;
mod planted;
mod ports;
mod process;
mod random;
mod serving;
mod steps;
mod swarm;
mod watch;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::mpsc,
    time::{Duration, Instant},
};

use world::World;

/// A run, or what was wrong in it.
async fn run(seed: u64, scratch: &Path, prints: bool) -> Result<World, String> {
    let mut world = World::new(seed, scratch, prints).await;
    let failed = |world: &World| world.watch.violation().map_or(Ok(()), Err);
    for _ in 0..world.swarm.steps {
        world.step().await;
        failed(&world)?;
    }
    world.end().await;
    failed(&world)?;
    world.judge().await;
    failed(&world)?;
    world.replay().await;
    failed(&world)?;
    world.judge().await;
    failed(&world)?;
    Ok(world)
}

/// Runs a seed on a runtime of its own, whose time passes only in the world.
fn run_alone(seed: u64, scratch: &Path, prints: bool) -> Result<World, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let running = AssertUnwindSafe(|| runtime.block_on(run(seed, scratch, prints)));
    let ran = catch_unwind(running).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", message.unwrap_or("no message")))
    });
    // What hangs in dead processes never ends by itself.
    runtime.shutdown_background();
    ran
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |number| number.parse().unwrap())
}

/// How long a run may take, which takes milliseconds, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ends the process with a word if a seed, of which it hears when it begins, does not come to its end.
fn end_if_one_hangs(begun: &mpsc::Receiver<u64>) {
    let mut running = None;
    loop {
        match begun.recv_timeout(PATIENCE) {
            Ok(seed) => running = Some(seed),
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                println!("seed {}: a hang: no end after {PATIENCE:?}", running.unwrap_or_default());
                std::process::abort();
            }
        }
    }
}

#[test]
fn no_seed_breaks_a_law() {
    let (first, rounds) = (number("PULSO_TEST_SEED", 1), number("PULSO_TEST_ROUNDS", 2_000));
    let prints = number("PULSO_TEST_TRACE", 0) > 0;
    let scratch = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let (begins, begun) = mpsc::channel();
    std::thread::spawn(move || end_if_one_hangs(&begun));
    for seed in first..first + rounds {
        begins.send(seed).unwrap();
        if let Err(wrong) = run_alone(seed, scratch.path(), prints) {
            panic!(
                "seed {seed}: {wrong}\nTo repeat it: PULSO_TEST_SEED={seed} PULSO_TEST_ROUNDS=1 \
                 PULSO_TEST_TRACE=1 cargo test --locked -p simulation no_seed -- --nocapture"
            );
        }
        if (seed - first + 1).is_multiple_of(10_000) {
            println!("{} seeds in {:.1?}", seed - first + 1, started.elapsed());
        }
    }
    println!("{rounds} seeds from {first} in {:.1?}", started.elapsed());
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let scratch = tempfile::tempdir().unwrap();
    let (first, rounds) = (number("PULSO_TEST_SEED", 1), number("PULSO_TEST_ROUNDS", 2_000));
    for seed in first..first + rounds.div_ceil(100) {
        let [one, other] = [(), ()].map(|()| run_alone(seed, scratch.path(), false).unwrap());
        for (one, other) in one.history().iter().zip(other.history()) {
            assert_eq!(one, other, "seed {seed}");
        }
        assert_eq!(one.history().len(), other.history().len(), "seed {seed}");
        assert_eq!(one.store.stored(), other.store.stored(), "seed {seed}");
    }
}
