//! A broker whose clock jumped: append times that fall by a day and rise by minutes cost no pulse.
//!
//! A broker's clock cannot be set apart from its machine's, so this test writes what such a broker
//! would have written: while it is down, other append times into the batches of its log.

use std::{fs, path::Path};

use crate::harness::{
    Home, PATIENCE, Server, Settings,
    cluster::Cluster,
    load::{Difference, add, difference, send_plans, stored_totals},
};
use storage::conformance::servers::{Kind, Own, shared};

/// By how many seconds the clock was wrong, for some batches each. The first and the last are right.
/// Ahead of the consumer's clock by more than ten minutes it stops, which the fold's lane tests.
const JUMPS: [i64; 6] = [0, 240, -86_400, -3_600, 300, 0];

/// Places of fields in a batch, whose format is in Kafka's protocol guide ("Record Batch"): the
/// checksum covers all that is behind it.
mod field {
    pub(super) const LENGTH: usize = 8;
    pub(super) const CHECKSUM: usize = 17;
    pub(super) const ATTRIBUTES: usize = 21;
    pub(super) const TIME_MAX: usize = 35;
}
/// Bytes in front of what a batch's length counts.
const PREFIX: usize = 12;
/// The attribute of batches that have their append time, in `TIME_MAX`.
const LOG_APPEND_TIME: u8 = 1 << 3;

fn be<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().unwrap()
}

/// The batches of a partition's file, in order.
fn batches(mut rest: &mut [u8]) -> Vec<&mut [u8]> {
    let mut batches = Vec::new();
    while rest.len() > PREFIX {
        let length = PREFIX + u32::from_be_bytes(be(rest, field::LENGTH)) as usize;
        let (batch, others) = rest.split_at_mut(length);
        batches.push(batch);
        rest = others;
    }
    batches
}

/// Makes the clock jump in a partition; gives how many batches got another time.
fn make_jump(partition: &Path) -> usize {
    let path = partition.join("00000000000000000000.log");
    let mut bytes = fs::read(&path).unwrap();
    let mut batches = batches(&mut bytes);
    // One run in twenty has a partition to which nothing came.
    let (each, mut changed) = (batches.len().div_ceil(JUMPS.len()).max(1), 0);
    for (some, jump) in batches.chunks_mut(each).zip(JUMPS) {
        for batch in some.iter_mut().filter(|_| jump != 0) {
            assert_ne!(batch[field::ATTRIBUTES + 1] & LOG_APPEND_TIME, 0);
            let time = i64::from_be_bytes(be(batch, field::TIME_MAX)) + jump * 1_000;
            batch[field::TIME_MAX..][..8].copy_from_slice(&time.to_be_bytes());
            let checksum = crc32c::crc32c(&batch[field::ATTRIBUTES..]);
            batch[field::CHECKSUM..][..4].copy_from_slice(&checksum.to_be_bytes());
            changed += 1;
        }
    }
    fs::write(&path, bytes).unwrap();
    // The broker builds its indexes again.
    for entry in fs::read_dir(partition).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension.to_string_lossy().ends_with("index"))
        {
            fs::remove_file(path).unwrap();
        }
    }
    changed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_brokers_clock_that_jumps_costs_no_pulse() {
    let (Some(own), Some(cql)) = (Own::start(&[Kind::Kafka]), shared(Kind::Cassandra)) else {
        return;
    };
    let settings = Settings::default()
        .with("PULSO_CONSUMER__PARTITIONS", "all")
        .with("PULSO_LOG__SEGMENT_RECORDS_MAX", "64");
    let cluster = Cluster::new((own.server(Kind::Kafka), cql), settings).await;
    let homes = [Home::new(), Home::new()];
    let ingest = Server::start(&homes[0], &cluster.stages("ingest")).await;
    let mut sent = send_plans(&ingest, 1..4, PATIENCE).await;
    ingest.terminate().await;

    own.kill(Kind::Kafka);
    let topic = cluster.topic("resource-consumption");
    let data = own.home().join("kafka/data");
    let changed = (0..4).map(|partition| make_jump(&data.join(format!("{topic}-{partition}"))));
    let changed: usize = changed.sum();
    assert!(changed > 80, "{changed} batches");
    own.start_again(Kind::Kafka);

    let ingest = Server::start(&homes[0], &cluster.stages("ingest")).await;
    let consumer = Server::start(&homes[1], &cluster.stages("consume,query")).await;
    add(&mut sent, send_plans(&ingest, 4..5, PATIENCE).await);
    consumer.drained().await;
    assert_eq!(difference(&stored_totals(&consumer).await, &sent), Difference::default());
    consumer.audit_is_clean().await;
    let counts = consumer.status().await.pulses.unwrap();
    assert_eq!((counts.late, counts.dead_lettered), (0, 0), "{counts:?}");
    ingest.terminate().await;
    consumer.terminate().await;
}
