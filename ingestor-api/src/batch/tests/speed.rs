//! How long the way from message to record takes, step by step, in CPU time. Not a test: run with
//! `cargo test --release -p ingestor-api -- --ignored --nocapture nanoseconds_a_pulse`.

use std::{hint::black_box, time::Duration};

use prost::Message;
use proto::{record, walk};

use super::*;
use crate::{
    check::{Rules, TimeRule, check},
    scope::Scope,
};

const PULSES: u32 = 500;
const REPEATS: u32 = 5_000;
const ROUNDS: usize = 7;

fn measured_pulses() -> Vec<v1::Pulse> {
    let pulses = (0..PULSES).map(|i| v1::Pulse {
        tenant: format!("tenant-{:03}", i % 40),
        product_sku: format!("compute.instance.m{}", i % 25),
        use_unity: "GiB-hour".into(),
        used_amount: Some(v1::Decimal { unscaled: i64::from(i) * 7_919 + 1, scale: 6 }),
        time: Some(prost_types::Timestamp { seconds: SECONDS + i64::from(i), nanos: 500_000_000 }),
        ..v1::Pulse::default()
    });
    pulses.collect()
}

/// Time this thread has spent on a processor, so that other work on the machine does not count.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Prints median and range over the rounds.
#[allow(clippy::float_arithmetic)] // A measurement is no amount.
fn measure(step: &str, mut run: impl FnMut()) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let before = cpu_time();
            (0..REPEATS).for_each(|_| run());
            let spent = cpu_time() - before;
            spent.as_nanos() as f64 / f64::from(PULSES) / f64::from(REPEATS)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    let (median, least, most) = (rounds[ROUNDS / 2], rounds[0], rounds[ROUNDS - 1]);
    println!("{step:<38} {median:6.1} ns a pulse ({least:.1} to {most:.1})");
}

#[test]
#[ignore = "a measurement, not a test"]
fn nanoseconds_a_pulse_from_message_to_record() {
    let edge = Edge::default();
    let message = Bytes::from(numbered(measured_pulses()).encode_to_vec());
    println!("{} bytes a pulse, {PULSES} a batch", message.len() / PULSES as usize);
    measure("walk the batch", || {
        black_box(walk::batch(black_box(&message)).unwrap().pulses().count());
    });
    let each = |visit: &mut dyn FnMut(walk::PulseWire<'_>)| {
        let batch = walk::batch(black_box(&message)).unwrap();
        batch.pulses().for_each(|pulse| visit(walk::pulse(pulse.body).unwrap()));
    };
    measure("walk its pulses", || {
        each(&mut |pulse| {
            black_box(pulse);
        });
    });
    let mut scratch = Vec::new();
    measure("walk and digest", || {
        each(&mut |pulse| {
            black_box(record::pulse_digest(1, &pulse, &mut scratch));
        });
    });
    let allow_all: &dyn NegativePolicy = &|_: &str| false;
    let scope = Scope::ALL;
    let rules = Rules { scope: &scope, negative: allow_all, time: TimeRule::Required };
    measure("walk and check", || {
        each(&mut |pulse| {
            black_box(check(&pulse, &rules).unwrap());
        });
    });
    for (name, batch) in
        [("numbered", numbered(measured_pulses())), ("by tenant", plain(measured_pulses()))]
    {
        let message = Bytes::from(batch.encode_to_vec());
        measure(&format!("{name}: all, without the copy"), || {
            black_box(edge.plan_bytes(black_box(message.clone())).unwrap());
        });
        measure(&format!("{name}: all, copied into records"), || {
            for part in edge.plan_bytes(black_box(message.clone())).unwrap().parts {
                let stretches = part.stretches.iter().map(|s| &part.message[s.clone()]);
                black_box(record::encode(
                    &edge.generation,
                    vec![part.source],
                    part.pulses,
                    stretches,
                ));
            }
        });
    }
}
