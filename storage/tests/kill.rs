//! SIGKILL at named points: nothing acknowledged is lost, nothing is there twice.
//!
//! The test binary starts itself as a child that appends or flushes and prints each acknowledgement;
//! the child dies at the point its environment names; the parent opens what it left.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // Helpers of tests, and the children's word to the parent.

mod common;

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, Stdio},
};

use common::{FIRST, SECOND, open_log, open_store, read_all};
use domain::{Offset, Partition, PulseLog, UsageStore, store::Flush};
use storage::conformance::{
    samples::{LOG, Random, at, close, flush, generation, key, row, segment},
    together,
};

const HOME: &str = "STORAGE_KILL_TEST_HOME";
const ROLE: &str = "STORAGE_KILL_TEST_ROLE";
/// Kills at each point; `PULSO_FAULT_ROUNDS` asks for more.
const ROUNDS: u64 = 2;
const APPENDS: u64 = 400;
const FLUSHES: u64 = 100;

fn rounds() -> u64 {
    std::env::var("PULSO_FAULT_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap())
}

/// Runs a child until it is killed, and gives the lines it printed for the parent.
fn kill_child(role: &str, home: &Path, fault: &str) -> Vec<String> {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(ROLE, role)
        .env(HOME, home)
        .env("PULSO_FAULT", fault)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.signal(), Some(9), "{fault} did not kill the child: {errors}");
    let lines = String::from_utf8(child.stdout).unwrap();
    lines.lines().filter_map(|line| line.strip_prefix("acked ").map(str::to_owned)).collect()
}

/// Not a test of its own: what the children run.
#[tokio::test]
async fn child() {
    let Ok(home) = std::env::var(HOME) else { return };
    match std::env::var(ROLE).unwrap().as_str() {
        "append" => append_numbers(Path::new(&home)).await,
        "flush" => flush_rounds(Path::new(&home)).await,
        other => panic!("no role {other:?}"),
    }
}

/// A number and a filling of a length that depends on it.
fn body(number: u64) -> Vec<u8> {
    let filling = usize::try_from(number * 7_919 % 60_000).unwrap();
    [&number.to_be_bytes()[..], &vec![number.to_be_bytes()[7]; filling]].concat()
}

/// Eight appends in flight at a time, two records each, over two partitions.
async fn append_numbers(home: &Path) {
    let log = open_log(home).unwrap();
    for round in 0..APPENDS / 8 {
        let appends = (round * 8..round * 8 + 8).map(|number| {
            let partition = if number % 3 == 0 { SECOND } else { FIRST };
            let log = &log;
            async move {
                let bodies = vec![body(2 * number), body(2 * number + 1)];
                for (number, offset) in
                    (2 * number..).zip(log.append(partition, bodies).await.unwrap())
                {
                    println!("acked {} {} {number}", partition.0, offset.0);
                }
            }
        });
        together(appends).await;
    }
}

#[tokio::test]
async fn no_acknowledged_record_is_lost_or_doubled_by_a_kill() {
    let points =
        ["log.append.before_insert", "log.append.before_commit", "log.append.after_commit"];
    for (at, point) in points.into_iter().enumerate() {
        for round in 0..rounds() {
            let nth = 1 + Random(round * 100 + at as u64).below(40);
            let home = tempfile::tempdir().unwrap();
            let acked = kill_child("append", home.path(), &format!("{point}:{nth}"));
            check_log(home.path(), &acked, &format!("{point}:{nth}")).await;
        }
    }
}

async fn check_log(home: &Path, acked: &[String], fault: &str) {
    let log = open_log(home).unwrap();
    let mut place_of = BTreeMap::new();
    for partition in [FIRST, SECOND] {
        let end = log.bounds(partition).await.unwrap().end;
        for (expected, (offset, found)) in (0..).zip(read_all(&log, partition, end)) {
            assert_eq!(offset, Offset(expected), "{fault}: a hole");
            let number = u64::from_be_bytes(*found.first_chunk().unwrap());
            assert_eq!(found, body(number), "{fault}: record {offset} is not what was sent");
            let before = place_of.insert(number, (partition, offset));
            assert_eq!(before, None, "{fault}: {number} is there twice");
        }
    }
    for line in acked {
        let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
        let place = (Partition(u16::try_from(numbers[0]).unwrap()), Offset(numbers[1]));
        assert_eq!(place_of.get(&numbers[2]), Some(&place), "{fault}: acknowledged, and not there");
    }
    // And it goes on where it stopped.
    let end = log.bounds(FIRST).await.unwrap().end;
    assert_eq!(log.append(FIRST, vec![body(1)]).await.unwrap(), [end]);
}

/// Round `number` says so in all of its rows; every fifth closes a segment.
fn flush_of(number: u64) -> Flush {
    let mine = segment(0, (number - 1) / 5 * 5);
    let rows = (0..40).map(|i| row(key(&format!("t{i}"), "s", at(0), mine), number, number.into()));
    let mut flush = flush(mine, rows.collect(), number);
    flush.close = number.is_multiple_of(5).then(|| close(mine, number));
    flush
}

async fn flush_rounds(home: &Path) {
    let usage = open_store(home).unwrap().usage();
    usage.register(&generation(LOG), None).await.unwrap();
    for number in 1..=FLUSHES {
        usage.flush(flush_of(number).into()).await.unwrap();
        println!("acked {number}");
    }
}

#[tokio::test]
async fn a_killed_flush_is_there_whole_or_not_at_all() {
    for (at, point) in
        ["store.flush.before_commit", "store.flush.after_commit"].into_iter().enumerate()
    {
        for round in 0..rounds() {
            // The first commit is the registration's.
            let nth = 2 + Random(round * 100 + at as u64).below(30);
            let home = tempfile::tempdir().unwrap();
            let acked = kill_child("flush", home.path(), &format!("{point}:{nth}"));
            let acked = acked.last().map_or(0, |number| number.parse().unwrap());
            check_store(home.path(), acked, &format!("{point}:{nth}")).await;
        }
    }
}

async fn check_store(home: &Path, acked: u64, fault: &str) {
    let usage = open_store(home).unwrap().usage();
    let partition =
        domain::store::PartitionKey { log_id: LOG, partition: FIRST, epoch: domain::Epoch(0) };
    let progress = usage.progress(partition).await.unwrap();
    let stored = progress.map_or(0, |progress| progress.folded_to.0);
    assert!(stored == acked || stored == acked + 1, "{fault}: acked {acked}, stored {stored}");
    check_round(&usage, stored, fault).await;
    // The consumer that starts again repeats what it does not know of, and goes on.
    for number in acked.max(1)..=stored + 1 {
        usage.flush(flush_of(number).into()).await.unwrap();
    }
    check_round(&usage, stored + 1, fault).await;
}

/// The store is as after round `number`, all of it.
async fn check_round(usage: &impl UsageStore, number: u64, fault: &str) {
    if number == 0 {
        return;
    }
    let newest = flush_of(number);
    let tenants: Vec<_> =
        newest.rows.iter().map(|row| (row.key.resource.tenant.clone(), 0)).collect();
    let mut rows = usage.segment_rows(newest.segment, &tenants).await.unwrap();
    let mut expected = newest.rows.clone();
    rows.sort_by(|a, b| storage::order::compare(&a.key, &b.key));
    expected.sort_by(|a, b| storage::order::compare(&a.key, &b.key));
    assert_eq!(rows, expected, "{fault}");
    let partition =
        domain::store::PartitionKey { log_id: LOG, partition: FIRST, epoch: domain::Epoch(0) };
    let manifests = usage.manifests(partition, Offset(0), 100).await.unwrap();
    let ends: Vec<u64> = manifests.iter().map(|manifest| manifest.end.0).collect();
    assert_eq!(ends, (1..=number / 5).map(|n| n * 5).collect::<Vec<_>>(), "{fault}");
}
