//! The load generator: encodes pulses, streams them on connections of its own, and keeps a ledger.
//!
//! It runs on a runtime whose threads are named `load`, so that its CPU time is counted apart from
//! the server's. Pulses are about 70 bytes; their keys take turns, so that every key is as hot as
//! any other, which is the hardest case for caches.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{Clock, Quantity};
use proto::v1::{UsageInfoRequest, usage_service_client::UsageServiceClient};
use service::clock;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use uuid::Uuid;

use super::{in_flight, ledger::Ledger};
use crate::{
    cli::serving::{BenchIdentity, Mode, PipelineArgs},
    client::{self, Batch, Identity, Pulses, Receipt, Sender, SenderOptions},
    exit::Failure,
};

/// Streams, each with a producer and a connection of its own. Producers are spread over the
/// partitions by hash, and eight of them leave none of four empty most of the time.
const STREAMS: u64 = 8;
/// Amounts go around this many values.
const AMOUNTS: u64 = 1_000;

/// A load to be run.
pub(super) struct Load {
    server: String,
    args: PipelineArgs,
    keys: Arc<Vec<Key>>,
}

/// What a load has done.
#[derive(Debug, Default)]
pub(super) struct LoadReport {
    /// Pulses acknowledged as accepted: all of them, or the run fails.
    pub(super) pulses: u64,
    /// What they add up to.
    pub(super) ledger: Ledger,
    /// Batches, or calls, that were sent again.
    pub(super) resends: u64,
    /// From send to ack, sorted once the run has ended.
    latencies: Vec<Duration>,
}

impl LoadReport {
    /// The latency that this many in a thousand do not pass.
    pub(super) fn latency(&self, per_mille: usize) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get(last * per_mille / 1_000).copied().unwrap_or_default()
    }

    fn merge(&mut self, other: Self) {
        self.pulses += other.pulses;
        self.ledger.merge(&other.ledger);
        self.resends += other.resends;
        self.latencies.extend(other.latencies);
    }
}

/// A resource with its first three fields encoded.
struct Key {
    tenant: String,
    sku: String,
    encoded: Vec<u8>,
}

const UNIT: &str = "GiB-Hours";

impl Key {
    fn new(number: u64) -> Self {
        let (tenant, sku) =
            (format!("tenant-{:04}", number % 100), format!("compute.sku-{number:06}"));
        let mut encoded = Vec::new();
        for (field, text) in [(1, tenant.as_str()), (2, sku.as_str()), (3, UNIT)] {
            prost::encoding::string::encode(field, &text.to_owned(), &mut encoded);
        }
        Self { tenant, sku, encoded }
    }
}

impl Load {
    pub(super) fn new(server: SocketAddr, args: &PipelineArgs) -> Result<Self, Failure> {
        let keys = Arc::new((0..args.keys.get()).map(Key::new).collect());
        Ok(Self { server: format!("http://{server}"), args: args.clone(), keys })
    }

    /// Sends everything and waits for every ack. Blocking: it brings its own runtime.
    pub(super) fn run(self) -> Result<LoadReport, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("load")
            .enable_all()
            .build()
            .map_err(Failure::internal)?;
        runtime.block_on(async {
            let mut workers = JoinSet::new();
            let workers_count = match self.args.mode {
                Mode::Stream => STREAMS,
                Mode::Unary => self.args.in_flight.get(),
            };
            for number in 0..workers_count {
                let worker = Worker::new(&self, number, workers_count).await?;
                match self.args.mode {
                    Mode::Stream => workers.spawn(worker.stream()),
                    Mode::Unary => workers.spawn(worker.unary()),
                };
            }
            let mut report = LoadReport::default();
            while let Some(done) = workers.join_next().await {
                report.merge(done.map_err(Failure::internal)??);
            }
            report.latencies.sort_unstable();
            Ok(report)
        })
    }
}

/// One stream, or one caller.
struct Worker {
    channel: Channel,
    args: PipelineArgs,
    keys: Arc<Vec<Key>>,
    /// Numbers of this worker's pulses: first, and how many.
    first: u64,
    count: u64,
    workers: u64,
}

impl Worker {
    async fn new(load: &Load, number: u64, workers: u64) -> Result<Self, Failure> {
        let pulses = load.args.pulses.get();
        let (share, rest) = (pulses / workers, pulses % workers);
        let first = number * share + number.min(rest);
        let count = share + u64::from(number < rest);
        let channel = client::connect(&load.server).await?;
        let (args, keys) = (load.args.clone(), Arc::clone(&load.keys));
        Ok(Self { channel, args, keys, first, count, workers })
    }

    async fn stream(self) -> Result<LoadReport, Failure> {
        let options =
            SenderOptions { in_flight: in_flight(&self.args), ..SenderOptions::default() };
        let sender = Sender::start(self.channel.clone(), options);
        let mut report = LoadReport::default();
        let mut sums = Sums::new(self.keys.len());
        let mut encoder = Encoder::new(self.args.identity);
        let mut waiting = VecDeque::new();
        let producer_id = Uuid::new_v4().into_bytes();
        let (end, mut next) = (self.first + self.count, self.first);
        let started = Instant::now();
        while next < end {
            let count = self.args.batch_size.get().min(end - next);
            self.pace(started, next - self.first).await;
            let batch = encoder.batch(&self.keys, &mut sums, next, count, producer_id);
            next += count;
            waiting.push_back(sender.send(batch).await.map_err(Failure::internal)?);
            while waiting.len() >= self.args.in_flight.get() as usize {
                settle(&mut waiting, &mut report).await?;
            }
        }
        while !waiting.is_empty() {
            settle(&mut waiting, &mut report).await?;
        }
        sender.finish().await;
        sums.into_ledger(&self.keys, &mut report.ledger);
        Ok(report)
    }

    /// Waits until the wanted rate allows another batch.
    #[allow(clippy::float_arithmetic, clippy::cast_precision_loss)] // A rate, not an amount.
    async fn pace(&self, started: Instant, sent: u64) {
        let Some(rate) = self.args.rate else { return };
        let due = sent as f64 * self.workers as f64 / rate.get() as f64;
        tokio::time::sleep_until((started + Duration::from_secs_f64(due)).into()).await;
    }

    /// The origin's way: one call for each pulse, the next once it is answered.
    async fn unary(self) -> Result<LoadReport, Failure> {
        let mut client = UsageServiceClient::new(self.channel.clone());
        let mut report = LoadReport::default();
        let mut sums = Sums::new(self.keys.len());
        for number in self.first..self.first + self.count {
            let place = key_of(number, self.keys.len());
            let key = &self.keys[place];
            let amount = amount_of(number);
            let request = UsageInfoRequest {
                tenant: key.tenant.clone(),
                product_sku: key.sku.clone(),
                used_amount: i32::try_from(amount).expect("amounts are below 1,000"),
                use_unity: UNIT.to_owned(),
            };
            let sent_at = Instant::now();
            client.consume(request).await.map_err(|status| Failure::status(&status))?;
            report.latencies.push(sent_at.elapsed());
            report.pulses += 1;
            sums.add(place, amount);
        }
        sums.into_ledger(&self.keys, &mut report.ledger);
        Ok(report)
    }
}

fn key_of(number: u64, keys: usize) -> usize {
    usize::try_from(number % keys as u64).expect("below a usize")
}

fn amount_of(number: u64) -> i64 {
    i64::try_from(number % AMOUNTS).expect("below 1,000")
}

async fn settle(waiting: &mut VecDeque<Receipt>, report: &mut LoadReport) -> Result<(), Failure> {
    let Some(receipt) = waiting.pop_front() else { return Ok(()) };
    let sent = receipt.await.map_err(Failure::internal)?;
    if sent.ack.code != 0 || sent.ack.rejected != 0 {
        return Err(Failure::internal(format_args!("a batch was refused: {:?}", sent.ack)));
    }
    report.pulses += u64::from(sent.ack.accepted);
    report.resends += u64::from(sent.resends);
    report.latencies.push(sent.latency);
    Ok(())
}

/// What one worker has sent, by the key's place.
struct Sums(Vec<(u64, i64)>);

impl Sums {
    fn new(keys: usize) -> Self {
        Self(vec![(0, 0); keys])
    }

    fn add(&mut self, place: usize, amount: i64) {
        let sum = &mut self.0[place];
        sum.0 += 1;
        sum.1 += amount;
    }

    fn into_ledger(self, keys: &[Key], ledger: &mut Ledger) {
        for (key, (count, sum)) in keys.iter().zip(self.0).filter(|(_, (count, _))| *count > 0) {
            let sum = Quantity::from_decimal(sum, 0).expect("scale 0 is allowed");
            ledger.add(&key.sku, count, sum);
        }
    }
}

/// Encodes pulses from parts that are encoded already.
struct Encoder {
    identity: BenchIdentity,
    /// Fields 4 for each amount.
    amounts: Vec<Vec<u8>>,
    pulse: Vec<u8>,
}

impl Encoder {
    fn new(identity: BenchIdentity) -> Self {
        let amounts = (0..AMOUNTS).map(|number| {
            let decimal = proto::v1::Decimal { unscaled: amount_of(number), scale: 0 };
            let mut bytes = Vec::new();
            prost::encoding::message::encode(4, &decimal, &mut bytes);
            bytes
        });
        Self { identity, amounts: amounts.collect(), pulse: Vec::new() }
    }

    /// Pulses `first..first + count`, all at this moment.
    fn batch(
        &mut self,
        keys: &[Key],
        sums: &mut Sums,
        first: u64,
        count: u64,
        producer_id: [u8; 16],
    ) -> Batch {
        let mut time = Vec::new();
        prost::encoding::message::encode(
            5,
            &proto::convert::wire_time(clock::system().now()),
            &mut time,
        );
        let mut pulses = Pulses::default();
        for number in first..first + count {
            let place = key_of(number, keys.len());
            self.pulse.clear();
            self.pulse.extend_from_slice(&keys[place].encoded);
            self.pulse.extend_from_slice(&self.amounts[(number % AMOUNTS) as usize]);
            self.pulse.extend_from_slice(&time);
            if self.identity == BenchIdentity::Ids {
                prost::encoding::string::encode(6, &format!("{number:016x}"), &mut self.pulse);
            }
            pulses.push_encoded(&self.pulse);
            sums.add(place, amount_of(number));
        }
        pulses.into_batch(match self.identity {
            BenchIdentity::Numbered => Identity::Numbered { producer_id, first_sequence: first },
            BenchIdentity::Ids => Identity::ById,
        })
    }
}
