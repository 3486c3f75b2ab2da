//! Many batches from one hostile address, over several streams, and what became of them.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use proto::v1::{Decimal, Pulse};
use pulso::client::{Batch, Identity, Pulses, Sender, SenderOptions};
use tokio::task::JoinSet;
use tonic::transport::Endpoint;

use super::super::wire::HOSTILE;
use crate::harness::{Server, now};

/// Streams that the attacker keeps busy.
const STREAMS: u64 = 4;
/// Batches of a stream that wait for their ack.
const IN_FLIGHT: usize = 200;
/// How long the attacker waits for any ack: a server that is busy with the flood is slow, not gone.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the server answered, in pulses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answered {
    /// Durable in the log.
    pub(crate) accepted: u64,
    /// Refused at the edge, one by one or with their whole batch.
    pub(crate) refused: u64,
}

impl Answered {
    pub(super) fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
    }
}

/// Sends the batches with the numbers from 0 to `count`, as `batch` makes them, and waits for every ack.
pub(crate) async fn send(
    server: &Server,
    count: u64,
    batch: impl Fn(u64) -> Batch + Clone + Send + 'static,
) -> Answered {
    let mut streams = JoinSet::new();
    for stream in 0..STREAMS {
        let endpoint = Endpoint::from_shared(server.grpc.clone()).unwrap();
        let channel = endpoint.local_address(Some(IpAddr::V4(HOSTILE))).connect().await.unwrap();
        let options = SenderOptions {
            in_flight: IN_FLIGHT.try_into().unwrap(),
            patience: PATIENCE,
            ..SenderOptions::default()
        };
        let sender = Sender::start(channel.into(), options);
        let batch = batch.clone();
        streams.spawn(async move {
            let (mut answered, mut waiting) = (Answered::default(), VecDeque::new());
            for number in (stream..count).step_by(usize::try_from(STREAMS).unwrap()) {
                let batch = batch(number);
                let pulses = u64::from(batch.count());
                waiting.push_back((sender.send(batch).await.unwrap(), pulses));
                if waiting.len() > IN_FLIGHT {
                    answered.add(one(waiting.pop_front().unwrap()).await);
                }
            }
            for receipt in waiting {
                answered.add(one(receipt).await);
            }
            sender.finish().await;
            answered
        });
    }
    let mut answered = Answered::default();
    streams.join_all().await.into_iter().for_each(|one| answered.add(one));
    answered
}

/// Sends a few pulses, of so many producers that each partition gets some.
pub(crate) async fn reach_every_partition(server: &Server) {
    const PRODUCERS: u64 = 64;
    let one = pulse();
    send(server, PRODUCERS, move |number| batch(numbered(b'q', number, 0), [one.clone()])).await;
}

async fn one((receipt, pulses): (pulso::client::Receipt, u64)) -> Answered {
    let accepted = u64::from(receipt.await.unwrap().ack.accepted);
    Answered { accepted, refused: pulses - accepted }
}

/// A pulse of the attacker.
pub(crate) fn pulse() -> Pulse {
    Pulse {
        tenant: "mallory".to_owned(),
        product_sku: "vm.small".to_owned(),
        use_unity: "hour".to_owned(),
        used_amount: Some(Decimal { unscaled: 1, scale: 0 }),
        time: Some(prost_types::Timestamp { seconds: now(), nanos: 0 }),
        ..Pulse::default()
    }
}

/// The same, older than the log takes.
pub(crate) fn late_pulse() -> Pulse {
    let time = prost_types::Timestamp { seconds: now() - 25 * 3_600, nanos: 0 };
    Pulse { time: Some(time), ..pulse() }
}

/// A batch of these pulses.
pub(crate) fn batch(identity: Identity, pulses: impl IntoIterator<Item = Pulse>) -> Batch {
    let mut encoded = Pulses::default();
    pulses.into_iter().for_each(|pulse| encoded.push(&pulse));
    encoded.into_batch(identity)
}

/// The identity of a producer's batch. Each flood has producers of its own, named by a letter.
pub(crate) fn numbered(flood: u8, producer: u64, first_sequence: u64) -> Identity {
    let mut producer_id = [flood; 16];
    producer_id[..8].copy_from_slice(&producer.to_be_bytes());
    Identity::Numbered { producer_id, first_sequence }
}
