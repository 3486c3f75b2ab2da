//! What the adapter costs this process, and how fast it is beside a broker on the same machine. A
//! measurement, not a test:
//! `cargo test --release -p storage --test kafka cost -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use domain::{Offset, Partition, PulseLog as _, log::LogDrain as _};
use storage::{
    conformance::{samples::Random, together},
    kafka::{Compression, KafkaLog, KafkaOptions},
};

use crate::broker::two_partitions;

const RECORD_BYTES: usize = 40_000;
const IN_FLIGHT: u64 = 64;

/// User and system time of this process so far, by the kernel's ticks of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 =
        [fields[11], fields[12]].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Runs and gives megabytes a second and CPU microseconds for each record.
fn measured(records: u64, work: impl FnOnce()) -> (u64, u64) {
    let (started, cpu_before) = (Instant::now(), cpu());
    work();
    let micros = started.elapsed().as_micros().max(1);
    let rate = u128::from(records) * RECORD_BYTES as u128 / micros;
    let each = (cpu() - cpu_before).as_micros() / u128::from(records);
    (u64::try_from(rate).unwrap(), u64::try_from(each).unwrap())
}

/// Bodies half of which is noise, so that they compress to about half.
fn bodies() -> Vec<Vec<u8>> {
    let body = |seed| {
        let mut random = Random(seed);
        let words = (0..RECORD_BYTES / 16).flat_map(|_| [random.number(), 7]);
        words.flat_map(u64::to_le_bytes).collect()
    };
    (0..64).map(body).collect()
}

#[test]
#[ignore = "a measurement"]
fn of_appending_and_draining() {
    let broker = kafka_or_skip!();
    let records: u64 = std::env::var("RECORDS").map_or(20_000, |records| records.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (compression, linger) in [
        (Compression::None, 0),
        (Compression::None, 1),
        (Compression::None, 5),
        (Compression::Lz4, 0),
        (Compression::None, 0),
    ] {
        let topic = runtime.block_on(broker.topic("cost"));
        let linger = Duration::from_millis(linger);
        let options = KafkaOptions { compression, linger, ..broker.options(&topic) };
        let log = runtime.block_on(KafkaLog::open(options, two_partitions())).unwrap();
        let appended = measured(records, || append(&runtime, &log, records));
        let drained = measured(records, || drain(&runtime, &log));
        println!(
            "{compression:?}, linger {linger:?}: append {} MB/s, {} CPU us a record | drain {} MB/s, {} CPU us a record",
            appended.0, appended.1, drained.0, drained.1
        );
    }
}

/// Appends to two partitions with a fixed number of appends under way, in turns.
fn append(runtime: &tokio::runtime::Runtime, log: &KafkaLog, records: u64) {
    let bodies = bodies();
    let append = async |lane: u64| {
        for turn in 0..records / IN_FLIGHT {
            let body = bodies[((lane + turn) % 64) as usize].clone();
            log.append(Partition((lane % 2) as u16), vec![body]).await.unwrap();
        }
    };
    // Tasks of one thread, each with one append under way.
    runtime.block_on(together((0..IN_FLIGHT).map(append)));
}

fn drain(runtime: &tokio::runtime::Runtime, log: &KafkaLog) {
    let mut bytes = 0;
    for partition in [Partition(0), Partition(1)] {
        let end = runtime.block_on(log.bounds(partition)).unwrap().end;
        let mut drain = log.drain(partition, Offset(0)).unwrap();
        while drain.read(end, 1 << 20, &mut |record| bytes += record.body.len()).unwrap() < end {}
    }
    assert!(bytes > 0);
}
