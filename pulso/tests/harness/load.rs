//! Load with a ledger: producers whose batches are planned ahead, so that what every total must be
//! is known before the first one is sent.
//!
//! A producer streams its plan and, on purpose, some batches again and again, until the server is
//! gone. It notes what was acknowledged. A batch without ack is sent once more, unchanged, to the
//! next server; then every pulse of the plan has to be in the totals exactly once.

use std::{collections::BTreeMap, time::Duration};

use domain::Quantity;
use prost_types::Timestamp;
use proto::v1::{
    Backfill, Decimal, Pulse, PulseBatch, QueryUsageRequest,
    ingest_service_client::IngestServiceClient,
};
use pulso::client::{self, Batch, Identity, Pulses, Sender, SenderOptions};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;

use super::{Random, Server, access, now};

/// Batches of a producer: fewer than the 256 that the server remembers, so that each may be sent
/// again at any time.
const BATCHES: usize = 200;
const PULSES_PER_BATCH_MAX: u64 = 12;
/// Batches of a producer that wait for their ack.
const IN_FLIGHT: usize = 6;
/// One batch of this many is one that was sent before.
const REPEAT_ONE_IN: u64 = 6;

/// Count and sum by tenant and SKU.
pub(crate) type Totals = BTreeMap<(String, String), (u64, Quantity)>;

/// How totals differ from the ledger, in pulses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// Resources whose count is right and whose sum is not.
    pub(crate) wrong_sums: u64,
}

/// Producers with their plans.
pub(crate) struct Load {
    producers: Vec<Producer>,
}

struct Producer {
    batches: Vec<(Identity, Vec<Pulse>)>,
    acked: Vec<bool>,
    random: Random,
}

impl Load {
    /// Three producers of numbered batches, one that gives ids, and one backfill of old usage.
    pub(crate) fn new(seed: u64) -> Self {
        let producers = (0..5).map(|number| Producer::new(seed, number)).collect();
        Self { producers }
    }

    /// Streams to a server until it is gone. `started` hears of every ack.
    pub(crate) async fn run(&mut self, server: &str, acks: &mpsc::UnboundedSender<()>) {
        let mut running = JoinSet::new();
        for mut producer in self.producers.drain(..) {
            let (server, acks) = (server.to_owned(), acks.clone());
            running.spawn(async move {
                producer.stream(&server, &acks).await;
                producer
            });
        }
        self.producers = running.join_all().await;
    }

    /// Sends the whole plan, and again what gets no final ack, for as long as acks come within
    /// `patience`.
    pub(crate) async fn send_all(&mut self, server: &Server, patience: Duration) {
        self.send_unacked(server, SenderOptions { patience, ..SenderOptions::default() }).await;
    }

    /// Sends every batch that has no ack. Returns how many there were.
    pub(crate) async fn send_rest(&mut self, server: &Server) -> u64 {
        self.send_unacked(server, SenderOptions::default()).await
    }

    /// Sends the whole plan again, unchanged: every pulse is a duplicate.
    pub(crate) async fn send_again(&mut self, server: &Server, patience: Duration) {
        for producer in &mut self.producers {
            producer.acked.fill(false);
        }
        self.send_all(server, patience).await;
    }

    async fn send_unacked(&mut self, server: &Server, options: SenderOptions) -> u64 {
        let sender = Sender::start(server.channel().await, options);
        let mut sent = 0;
        for producer in &mut self.producers {
            let acked = producer.acked.iter_mut();
            let unacked = producer.batches.iter().zip(acked).filter(|(_, acked)| !**acked);
            let mut waiting = Vec::new();
            for ((identity, pulses), acked) in unacked {
                let receipt = sender.send(client_batch(identity, pulses)).await.unwrap();
                waiting.push((receipt, pulses.len(), acked));
            }
            sent += waiting.len() as u64;
            for (receipt, pulses, acked) in waiting {
                let answer = receipt.await.unwrap().ack;
                assert_eq!((answer.code, answer.accepted as usize), (0, pulses), "{answer:?}");
                *acked = true;
            }
        }
        sender.finish().await;
        sent
    }

    /// What the totals must be once everything is acknowledged.
    pub(crate) fn totals(&self) -> Totals {
        let producers = self.producers.iter();
        totals_of(producers.flat_map(|producer| &producer.batches).flat_map(|(_, pulses)| pulses))
    }

    /// What was acknowledged so far, which has to be in the totals whatever happens.
    pub(crate) fn acked_totals(&self) -> Totals {
        let producers = self.producers.iter();
        let acked = producers.flat_map(|producer| producer.batches.iter().zip(&producer.acked));
        totals_of(acked.filter(|(_, acked)| **acked).flat_map(|((_, pulses), _)| pulses))
    }
}

fn totals_of<'a>(pulses: impl Iterator<Item = &'a Pulse>) -> Totals {
    let mut totals = Totals::new();
    for pulse in pulses {
        let amount = proto::convert::quantity(pulse.used_amount.as_ref().unwrap()).unwrap();
        let total = totals.entry((pulse.tenant.clone(), pulse.product_sku.clone())).or_default();
        *total = (total.0 + 1, total.1.checked_add(amount).unwrap());
    }
    totals
}

/// Adds the totals of another plan.
pub(crate) fn add(sum: &mut Totals, other: Totals) {
    for (resource, (count, amount)) in other {
        let total = sum.entry(resource).or_default();
        *total = (total.0 + count, total.1.checked_add(amount).unwrap());
    }
}

/// Sends one plan after the other, each whole as [`Load::send_all`] does, and gives what they add up to.
pub(crate) async fn send_plans(
    server: &Server,
    seeds: impl IntoIterator<Item = u64>,
    patience: Duration,
) -> Totals {
    let mut sent = Totals::new();
    for seed in seeds {
        let mut plan = Load::new(seed);
        plan.send_all(server, patience).await;
        add(&mut sent, plan.totals());
    }
    sent
}

/// Compares what is stored with what must be.
pub(crate) fn difference(stored: &Totals, expected: &Totals) -> Difference {
    let mut difference = Difference::default();
    let keys: std::collections::BTreeSet<_> = stored.keys().chain(expected.keys()).collect();
    for key in keys {
        let of = |totals: &Totals| totals.get(key).copied().unwrap_or_default();
        let ((count, sum), (expected_count, expected_sum)) = (of(stored), of(expected));
        difference.lost += expected_count.saturating_sub(count);
        difference.doubled += count.saturating_sub(expected_count);
        difference.wrong_sums += u64::from(count == expected_count && sum != expected_sum);
    }
    difference
}

/// What a server has stored, over all time.
pub(crate) async fn stored_totals(server: &Server) -> Totals {
    let request = QueryUsageRequest {
        from: Some(Timestamp { seconds: 1_577_836_800, nanos: 0 }),
        to: Some(Timestamp { seconds: 4_102_444_800, nanos: 0 }),
        window: "total".to_owned(),
        group_by: vec!["tenant".to_owned(), "product_sku".to_owned()],
        ..QueryUsageRequest::default()
    };
    let rows = server.usage(request).await.into_iter();
    rows.map(|row| ((row.tenant, row.product_sku), (row.count, row.sum.parse().unwrap()))).collect()
}

impl Producer {
    fn new(seed: u64, number: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(1_000).wrapping_add(number));
        let mut first_sequence = 0;
        let batches = (0..BATCHES).map(|batch| {
            let count = 1 + random.below(PULSES_PER_BATCH_MAX);
            let identity = identity(seed, number, first_sequence);
            let pulses = (0..count).map(|_| pulse(&mut random, &identity, batch)).collect();
            // Gaps in the numbers are legal.
            first_sequence += count + random.below(3);
            (identity, pulses)
        });
        let batches = batches.collect();
        Self { batches, acked: vec![false; BATCHES], random }
    }

    /// Sends until the server is gone: first the plan, with repeats in between, then only repeats.
    async fn stream(&mut self, server: &str, acks: &mpsc::UnboundedSender<()>) {
        let Ok(channel) = client::connect(access::target(server)).await else { return };
        let (outbound, frames) = mpsc::channel(IN_FLIGHT);
        let mut client = IngestServiceClient::new(channel);
        // The first message opens the call.
        let mut next = 0;
        outbound.send(self.message(next)).await.unwrap();
        next += 1;
        let Ok(answers) = client.ingest_stream(ReceiverStream::new(frames)).await else { return };
        let mut answers = answers.into_inner();
        let mut in_flight = 1;
        loop {
            while in_flight < IN_FLIGHT {
                let repeat = next == BATCHES || self.random.below(REPEAT_ONE_IN) == 0;
                let place = if repeat { self.random.below(next as u64) as usize } else { next };
                if outbound.send(self.message(place)).await.is_err() {
                    return;
                }
                next += usize::from(!repeat);
                in_flight += 1;
            }
            // A stream that ends, in whatever way, says nothing about what is still in flight.
            let Ok(Some(answer)) = answers.message().await else { return };
            in_flight -= 1;
            // Anything but OK means: not known, or not taken; both are sent again later.
            if answer.code == 0 {
                let place = usize::try_from(answer.batch).unwrap();
                assert_eq!(answer.accepted as usize, self.batches[place].1.len(), "{answer:?}");
                self.acked[place] = true;
                // Nobody listens once the test has seen enough.
                let _ = acks.send(());
            }
        }
    }

    fn message(&self, place: usize) -> PulseBatch {
        let (identity, pulses) = &self.batches[place];
        let message =
            PulseBatch { batch: place as u64, pulses: pulses.clone(), ..PulseBatch::default() };
        match identity.clone() {
            Identity::Numbered { producer_id, first_sequence } => {
                PulseBatch { producer_id: producer_id.to_vec(), first_sequence, ..message }
            }
            Identity::Backfill { name, content_digest, first_row } => PulseBatch {
                backfill: Some(Backfill { name, content_digest: content_digest.to_vec() }),
                first_sequence: first_row,
                ..message
            },
            Identity::ById | Identity::None => message,
        }
    }
}

fn identity(seed: u64, producer: u64, first_sequence: u64) -> Identity {
    match producer {
        3 => Identity::ById,
        4 => Identity::Backfill {
            name: format!("old-{seed}"),
            content_digest: vec![7; 32].into(),
            first_row: first_sequence,
        },
        _ => {
            let mut producer_id = [1; 16];
            producer_id[..8].copy_from_slice(&(seed * 10 + producer).to_be_bytes());
            Identity::Numbered { producer_id, first_sequence }
        }
    }
}

/// A pulse of one of 28 resources, with an amount of up to 18 decimals that may be negative.
fn pulse(random: &mut Random, identity: &Identity, batch: usize) -> Pulse {
    let back = i64::try_from(random.below(7_200)).unwrap();
    let (seconds, id) = match identity {
        // September 2024: far too late for anything but a backfill.
        Identity::Backfill { .. } => (1_726_000_000 + back, String::new()),
        Identity::ById => (now() - back, format!("{batch}-{:016x}", random.below(u64::MAX))),
        _ => (now() - back, String::new()),
    };
    let unscaled = i64::try_from(random.below(2_000_000_000_000)).unwrap() - 500_000_000_000;
    let scale = u32::try_from(random.below(19)).unwrap();
    Pulse {
        tenant: format!("tenant-{}", random.below(7)),
        product_sku: format!("sku-{}", random.below(4)),
        use_unity: "GiB-Hours".to_owned(),
        used_amount: Some(Decimal { unscaled, scale }),
        time: Some(Timestamp { seconds, nanos: 0 }),
        source: if id.is_empty() { String::new() } else { "load".to_owned() },
        id,
        ..Pulse::default()
    }
}

fn client_batch(identity: &Identity, pulses: &[Pulse]) -> Batch {
    let mut encoded = Pulses::default();
    pulses.iter().for_each(|pulse| encoded.push(pulse));
    encoded.into_batch(identity.clone())
}
