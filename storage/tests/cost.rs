//! What the embedded adapters cost, in CPU and wall time. A measurement, not a test:
//! `cargo test --release -p storage --test cost -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::float_arithmetic, clippy::print_stdout)]

mod common;

use std::time::{Duration, Instant};

use common::{open_log, open_store};
use domain::{
    BillingStore, Offset, Partition, PulseLog, UsageStore, billing::Appended, log::LogDrain as _,
    store::UsageFilter,
};
use storage::conformance::{
    samples::{LOG, Random, at, flush, generation, key, row, segment},
    together,
};

const PULSES_PER_RECORD: u64 = 500;
const PULSE_BYTES: usize = 71;
const IN_FLIGHT: u64 = 32;
const ROUNDS: usize = 5;

/// User and system time of the process so far.
fn cpu() -> Duration {
    let time = |time: libc::timeval| {
        let micros = time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_usec.unsigned_abs();
        Duration::from_micros(micros)
    };
    // SAFETY: getrusage fills the whole struct, for which all zeroes are a value.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &raw mut usage), 0);
        usage
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Runs and gives thousands (of pulses, of rows) a second and CPU nanoseconds for each one.
fn measured<T>(count: u64, work: impl FnOnce() -> T) -> (T, f64, f64) {
    let (started, cpu_before) = (Instant::now(), cpu());
    let value = work();
    let rate = count as f64 / started.elapsed().as_secs_f64() / 1e3;
    (value, rate, (cpu() - cpu_before).as_nanos() as f64 / count as f64)
}

fn body(random: &mut Random) -> Vec<u8> {
    let words = PULSES_PER_RECORD as usize * PULSE_BYTES / 8;
    (0..words).flat_map(|_| random.number().to_le_bytes()).collect()
}

#[test]
#[ignore = "a measurement"]
fn of_appending_and_draining() {
    let pulses: u64 = std::env::var("PULSES").map_or(16_000_000, |pulses| pulses.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let bodies: Vec<Vec<u8>> = (0..64).map(|seed| body(&mut Random(seed))).collect();
    let records = pulses / PULSES_PER_RECORD;
    for _ in 0..ROUNDS {
        let home = tempfile::tempdir().unwrap();
        let log = open_log(home.path()).unwrap();
        let append = async |record: u64| {
            let body = bodies[record as usize % bodies.len()].clone();
            log.append(Partition((record % 2) as u16), vec![body]).await.unwrap();
        };
        let ((), append_rate, append_cpu) = measured(pulses, || {
            runtime.block_on(async {
                for group in 0..records / IN_FLIGHT {
                    together((0..IN_FLIGHT).map(|i| append(group * IN_FLIGHT + i))).await;
                }
            });
        });
        let (bytes, drain_rate, drain_cpu) = measured(pulses, || {
            [Partition(0), Partition(1)].map(|partition| {
                let end = runtime.block_on(log.bounds(partition)).unwrap().end;
                let mut bytes = 0;
                let visit = &mut |record: domain::log::LogRecord<'_>| bytes += record.body.len();
                let mut drain = log.drain(partition, Offset(0)).unwrap();
                while drain.read(end, 4 << 20, visit).unwrap() < end {}
                bytes
            })
        });
        assert!(bytes[0] > 0);
        let wal = std::fs::metadata(home.path().join("log.db-wal")).map_or(0, |wal| wal.len());
        println!(
            "append {append_rate:>7.0} k/s {append_cpu:>5.0} CPU ns | drain {drain_rate:>8.0} k/s {drain_cpu:>4.0} CPU ns | WAL {} MiB",
            wal >> 20
        );
    }
}

#[test]
#[ignore = "a measurement"]
fn of_flushing_and_scanning() {
    const ROWS: u64 = 100_000;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let home = tempfile::tempdir().unwrap();
    let usage = open_store(home.path()).unwrap().usage();
    runtime.block_on(usage.register(&generation(LOG), None)).unwrap();
    for round in 0..ROUNDS as u64 {
        let mine = segment(0, round * 1_000);
        let rows = (0..ROWS).map(|i| {
            let window = at((i % 24) as i64 * 3_600);
            row(
                key(
                    &format!("tenant-{:03}", i % 1_000),
                    &format!("sku-{}", i / 1_000),
                    window,
                    mine,
                ),
                round * 1_000,
                7,
            )
        });
        let flush = std::sync::Arc::new(flush(mine, rows.collect(), (round + 1) * 1_000));
        let (first, first_rate, first_cpu) =
            measured(ROWS, || runtime.block_on(usage.flush(flush.clone())));
        let (again, again_rate, again_cpu) =
            measured(ROWS, || runtime.block_on(usage.flush(flush.clone())));
        first.and(again).unwrap();
        let filter = UsageFilter {
            tenant: domain::Tenant::new("tenant-007").ok(),
            product_sku: None,
            use_unity: None,
            from: at(0),
            to: at(86_400),
        };
        let count = (round + 1) * 100;
        let (found, scan_rate, _) =
            measured(count, || runtime.block_on(usage.scan(&filter, None, 100_000)).unwrap());
        assert_eq!(found.len() as u64, count);
        println!(
            "flush {first_rate:>4.0} k/s {first_cpu:>5.0} CPU ns | again {again_rate:>4.0} k/s {again_cpu:>5.0} CPU ns | a tenant's day {scan_rate:>4.0} k rows/s"
        );
    }
}

/// A billing run: tenants one after another, of which some are worked on at once, each with a
/// journal that is read and then added to entry by entry.
#[test]
#[ignore = "a measurement"]
fn of_adding_to_journals() {
    const TENANTS: u64 = 10_000;
    const ENTRIES: u64 = 6;
    const TASKS: u64 = 64;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for entry_bytes in [200, 2_000] {
        let home = tempfile::tempdir().unwrap();
        let billing = open_store(home.path()).unwrap().billing();
        let entry = vec![7; entry_bytes];
        let bill = async |tenant: u64| {
            let journal = format!("tenant/tenant-{tenant:05}");
            assert!(billing.entries(&journal, 0, 1_000).await.unwrap().is_empty());
            for place in 0..ENTRIES {
                let added = billing.append_entry(&journal, place, &entry).await.unwrap();
                assert_eq!(added, Appended::Added);
            }
        };
        let task = async |task: u64| {
            for tenant in (task..TENANTS).step_by(TASKS as usize) {
                bill(tenant).await;
            }
        };
        let (_, rate, cpu) = measured(TENANTS * ENTRIES, || {
            runtime.block_on(together((0..TASKS).map(task)));
        });
        let wal = std::fs::metadata(home.path().join("store.db-wal")).map_or(0, |wal| wal.len());
        println!(
            "entries of {entry_bytes} bytes: {rate:.1} k/s, {:.1} CPU us each | WAL {} MiB",
            cpu / 1e3,
            wal >> 20
        );
    }
}
