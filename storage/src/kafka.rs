//! The pulse log in a Kafka topic: appended to by any number of processes, drained by any number.
//!
//! What it promises beyond the port is what the topic is made for: an append is acknowledged when
//! every replica in sync has it, so how many machines may be lost is the topic's replication and
//! `min.insync.replicas`. Times are the brokers' (`LogAppendTime`); a topic with another clock is
//! refused, here and again by the drain, record by record.
//!
//! The client does not tell that a topic was made again under its name. Within a process the drains
//! and the appends find out (`seen.rs`); from one process to the next the stages do, by the consumer's
//! anchors.
//!
//! One producer, one group consumer for questions and progress, and one client for each drain that
//! is open: a client is some three threads, and reads ahead by its share of `prefetch_bytes_total`.

mod assignment;
mod context;
mod delivery;
mod appender;
mod error;
mod options;
mod group;
mod seen;
mod drain;
pub mod topics;
mod feed;
mod outlet;

use std::{sync::Arc, time::Instant};

use domain::{
    Offset, Partition, PulseLog,
    generation::Generation,
    log::{AppendError, LogBounds, LogError},
};
use metrics::{counter, histogram};
use runtime::fault;
use tracing::info;

use self::{
    appender::{Appender, Message},
    group::Group,
    seen::Seen,
    topics::{Admin, Found, LOG_APPEND_TIME, MESSAGE_BYTES_MAX, TIMESTAMP_TYPE},
};
pub use self::{
    drain::KafkaDrain,
    error::{Difference, OpenError, TopicsError},
    feed::KafkaFeed,
    options::{
        Compression, HAS_TLS, KafkaOptions, Mechanism, Membership, Protocol, RECORD_OVERHEAD_BYTES,
        Secret, Security,
    },
    outlet::{KafkaOutlet, KafkaOutletWriter, OUTLET_BYTES_MAX},
    topics::{Cleanup, TimestampType, TopicOutcome, TopicReport, TopicSpec},
};
use crate::answers::no_partition;

/// Bytes of a batch that is filled before it is sent, where the topic takes more. The client's own
/// default; a record that is larger travels alone.
const BATCH_BYTES_TARGET: usize = 1_000_000;

/// A pulse log in a topic. Clones are handles of the same log; dropping the last leaves the group
/// and ends the clients, which blocks for up to a second.
#[derive(Clone)]
pub struct KafkaLog {
    inner: Arc<Inner>,
}

struct Inner {
    options: KafkaOptions,
    generation: Generation,
    appender: Appender,
    group: Group,
    seen: Seen,
}

impl KafkaLog {
    /// Opens the log that a topic is. The topic must be there, with exactly the generation's
    /// partitions and with append times.
    ///
    /// # Errors
    /// See [`OpenError`]. A broker that does not answer is an error within the request timeout.
    pub async fn open(options: KafkaOptions, generation: Generation) -> Result<Self, OpenError> {
        let admin = Admin::new(&options)?;
        let missing = || TopicsError::Missing { topic: options.topic.clone() };
        let found = admin.find(&options.topic).await?.ok_or_else(missing)?;
        check_topic(&options, &generation, &found)?;
        let batch_bytes_max = batch_bytes_max(&options, &found)?;
        let starting = tokio::task::spawn_blocking(move || {
            drop(admin); // It waits for its thread.
            start(options, generation, batch_bytes_max)
        });
        let inner = starting.await.expect("starting does not panic")?;
        let KafkaOptions { topic, brokers, .. } = &inner.options;
        info!(topic, brokers, log_id = %generation.log_id, partitions = generation.partitions, "log opened");
        Ok(Self { inner: Arc::new(inner) })
    }

    fn check_partition(&self, partition: Partition) -> Result<(), LogError> {
        match partition.0 < self.inner.generation.partitions {
            true => Ok(()),
            false => Err(no_partition(partition)),
        }
    }
}

fn start(
    options: KafkaOptions,
    generation: Generation,
    batch_bytes_max: usize,
) -> Result<Inner, OpenError> {
    let client = |error: rdkafka::error::KafkaError| OpenError::Client(error.to_string());
    let appender = Appender::new(
        &options.topic,
        options.producer(batch_bytes_max),
        options.queue_bytes_max,
        options.record_bytes_max,
    )
    .map_err(client)?;
    appender.warm_up(options.request_timeout).map_err(client)?;
    let group = Group::start(&options, generation.partitions).map_err(client)?;
    let seen = Seen::new(generation.partitions);
    Ok(Inner { options, generation, appender, group, seen })
}

fn check_topic(
    options: &KafkaOptions,
    generation: &Generation,
    found: &Found,
) -> Result<(), TopicsError> {
    let wanted = [
        ("partitions", generation.partitions.to_string(), found.partitions.to_string()),
        (TIMESTAMP_TYPE, LOG_APPEND_TIME.to_owned(), found.setting(TIMESTAMP_TYPE).to_owned()),
    ];
    let differs = |(setting, wanted, found)| {
        let topic = options.topic.clone();
        (wanted != found).then_some(Difference { topic, setting, wanted, found })
    };
    let differences: Vec<_> = wanted.into_iter().filter_map(differs).collect();
    if differences.is_empty() { Ok(()) } else { Err(TopicsError::Differs(differences)) }
}

/// How large a batch of records may be, so that the topic takes it and every record fits.
fn batch_bytes_max(options: &KafkaOptions, found: &Found) -> Result<usize, OpenError> {
    let found = found.setting(MESSAGE_BYTES_MAX).parse().unwrap_or(0);
    let wanted = options.record_bytes_max + RECORD_OVERHEAD_BYTES;
    if found < wanted {
        let topic = options.topic.clone();
        return Err(OpenError::RecordsTooLarge { topic, wanted, found });
    }
    Ok(found.min(wanted.max(BATCH_BYTES_TARGET)))
}

impl PulseLog for KafkaLog {
    type Drain = KafkaDrain;

    fn generation(&self) -> &Generation {
        &self.inner.generation
    }

    async fn append(
        &self,
        partition: Partition,
        records: Vec<Vec<u8>>,
    ) -> Result<Vec<Offset>, AppendError> {
        self.check_partition(partition)
            .map_err(|error| AppendError::Unavailable(error.to_string()))?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let end = self.inner.seen.end(partition).map_err(AppendError::Replaced)?;
        fault::point("kafka.before_append");
        let (started, bytes) = (Instant::now(), records.iter().map(Vec::len).sum::<usize>());
        let messages = records.into_iter().map(Message::from).collect();
        let answered = self.inner.appender.hand_over(partition, messages)?;
        let offsets = answered.await.unwrap_or_else(|_| {
            Err(AppendError::Unknown("the client ended before it answered".to_owned()))
        })?;
        let noted = self.inner.seen.acknowledged(partition, end, &offsets);
        noted.map_err(AppendError::Replaced)?;
        fault::point("kafka.after_append");
        histogram!("pulso_log_append_seconds").record(started.elapsed());
        counter!("pulso_log_append_bytes_total").increment(bytes as u64);
        Ok(offsets)
    }

    async fn bounds(&self, partition: Partition) -> Result<LogBounds, LogError> {
        self.check_partition(partition)?;
        let inner = Arc::clone(&self.inner);
        let asked = tokio::task::spawn_blocking(move || {
            let bounds = inner.group.bounds(partition, inner.options.request_timeout);
            inner.seen.compare(partition, bounds)
        });
        asked.await.expect("asking does not panic")
    }

    fn assignment(&self) -> Result<Option<Vec<Partition>>, LogError> {
        match &self.inner.options.membership {
            Membership::All => Ok(Some(self.inner.generation.partitions().collect())),
            Membership::Static(partitions) => {
                let mut partitions = partitions.clone();
                partitions.sort_unstable();
                partitions.iter().try_for_each(|partition| self.check_partition(*partition))?;
                Ok(Some(partitions))
            }
            Membership::Group => Ok(self.inner.group.assigned()),
        }
    }

    fn note_stored(&self, partition: Partition, folded_to: Offset) {
        self.inner.group.commit(partition, folded_to);
    }

    fn drain(&self, partition: Partition, from: Offset) -> Result<KafkaDrain, LogError> {
        self.check_partition(partition)?;
        KafkaDrain::open(&self.inner, partition, from)
    }
}
