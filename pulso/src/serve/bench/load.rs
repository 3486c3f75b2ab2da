//! The load generator: encodes pulses, streams them on connections of its own, and keeps a ledger.
//!
//! It runs on a runtime whose threads are named `load`, so that its CPU time is counted apart from
//! the server's. Pulses are about 70 bytes, with random keys, amounts of nine digits and times to the
//! microsecond, so that neither caches nor compression see more order than real usage has.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::client::Channel;
use domain::{Clock, Quantity, Timestamp};
use proto::v1::{UsageInfoRequest, usage_service_client::UsageServiceClient};
use runtime::clock;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{cpu::CpuTimes, in_flight, ledger::Ledger};
use crate::{
    cli::serving::{BenchIdentity, Mode, PipelineArgs},
    client::{self, Batch, Identity, Pulses, Receipt, Sender, SenderOptions, Target},
    exit::Failure,
};

/// Streams, each with a producer and a connection of its own. Producers are spread over the
/// partitions by hash, and eight of them leave none of four empty most of the time.
const STREAMS: u64 = 8;
/// Name of the generator's threads.
const THREAD_NAME: &str = "load";
/// Amounts are below this many millionths.
const AMOUNT_MICROS_MAX: u64 = 1_000_000_000;

/// A load to be run.
pub(super) struct Load {
    server: Target,
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
    /// CPU time that the generator took, in nanoseconds.
    pub(super) cpu_nanos: u64,
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
        self.cpu_nanos += other.cpu_nanos;
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
    pub(super) fn new(server: Target, args: &PipelineArgs) -> Self {
        let keys = Arc::new((0..args.keys.get()).map(Key::new).collect());
        Self { server, args: args.clone(), keys }
    }

    /// Sends everything and waits for every ack. Blocking: it brings its own runtime.
    pub(super) fn run(self) -> Result<LoadReport, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(THREAD_NAME)
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
            // Read before the runtime ends, because ended threads are no longer listed.
            let spent = CpuTimes::now()?;
            report.cpu_nanos = spent.steps.get(THREAD_NAME).copied().unwrap_or_default();
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
        let channel = client::connect(load.server.clone()).await?;
        let (args, keys) = (load.args.clone(), Arc::clone(&load.keys));
        Ok(Self { channel, args, keys, first, count, workers })
    }

    async fn stream(self) -> Result<LoadReport, Failure> {
        let in_flight = in_flight(&self.args);
        let options = SenderOptions { in_flight, ..SenderOptions::default() };
        let sender = Sender::start(self.channel.clone(), options);
        let mut report = LoadReport::default();
        let mut sums = Sums::new(self.keys.len());
        let mut encoder = Encoder::new(&self.args, self.first + 1);
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
            while waiting.len() >= in_flight.get() {
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
        let mut random = Random(self.first + 1);
        for _ in 0..self.count {
            let place = random.below(self.keys.len() as u64) as usize;
            let key = &self.keys[place];
            let amount = random.below(1_000) as i32;
            let request = UsageInfoRequest {
                tenant: key.tenant.clone(),
                product_sku: key.sku.clone(),
                used_amount: amount,
                use_unity: UNIT.to_owned(),
            };
            let sent_at = Instant::now();
            client.consume(request).await.map_err(|status| Failure::status(&status))?;
            report.latencies.push(sent_at.elapsed());
            report.pulses += 1;
            sums.add(place, i64::from(amount) * 1_000_000);
        }
        sums.into_ledger(&self.keys, &mut report.ledger);
        Ok(report)
    }
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

/// Count and sum in millionths of what one worker has sent, by the key's place.
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
            let sum = Quantity::from_decimal(sum, 6).expect("scale 6 is allowed");
            ledger.add(&key.sku, count, sum);
        }
    }
}

/// Encodes pulses: the key from parts that are encoded already, amount and time anew for each.
struct Encoder {
    identity: BenchIdentity,
    /// Microseconds before now over which times are spread.
    micros_back: u64,
    random: Random,
    pulse: Vec<u8>,
}

impl Encoder {
    fn new(args: &PipelineArgs, seed: u64) -> Self {
        let micros_back = (args.hours * 3_600).max(1) * 1_000_000;
        Self { identity: args.identity, micros_back, random: Random(seed), pulse: Vec::new() }
    }

    /// Pulses `first..first + count`, each of a random key and amount, at a random microsecond of
    /// the last second, or of the hours asked for.
    fn batch(
        &mut self,
        keys: &[Key],
        sums: &mut Sums,
        first: u64,
        count: u64,
        producer_id: [u8; 16],
    ) -> Batch {
        let now = clock::system().now();
        let mut pulses = Pulses::default();
        for number in first..first + count {
            let place = self.random.below(keys.len() as u64) as usize;
            let micros = self.random.below(AMOUNT_MICROS_MAX) as i64;
            let time = now.minus(Duration::from_micros(self.random.below(self.micros_back)));
            self.encode(&keys[place], micros, time, number);
            pulses.push_encoded(&self.pulse);
            sums.add(place, micros);
        }
        pulses.into_batch(match self.identity {
            BenchIdentity::Numbered => Identity::Numbered { producer_id, first_sequence: first },
            BenchIdentity::Ids => Identity::ById,
        })
    }

    fn encode(&mut self, key: &Key, micros: i64, time: Timestamp, number: u64) {
        let pulse = &mut self.pulse;
        pulse.clear();
        pulse.extend_from_slice(&key.encoded);
        let amount = proto::v1::Decimal { unscaled: micros, scale: 6 };
        prost::encoding::message::encode(4, &amount, pulse);
        prost::encoding::message::encode(5, &proto::convert::wire_time(time), pulse);
        if self.identity == BenchIdentity::Ids {
            prost::encoding::string::encode(6, &format!("{number:016x}"), pulse);
        }
    }
}

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled",
/// 2016): a few cycles a number, so that the generator's cost stays small beside the server's.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = u128::from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d));
        ((mixed * u128::from(bound)) >> 64) as u64
    }
}
