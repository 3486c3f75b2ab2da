//! The outlet: a topic that messages of a queue are forwarded to, each once.
//!
//! Kafka's transactions do what the port asks for. All processes write under one transactional id,
//! so a new producer fences the ones before it and ends what they had under way; a batch is one
//! transaction; the newest message that is committed says how far the topic has come. Readers with
//! `isolation.level=read_committed` see each message once; the others may see a batch that was
//! aborted, whose messages come again under the same numbers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use domain::outlet::{Message, Outlet, OutletError, OutletWriter};
use rdkafka::{
    ClientContext, Message as _, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, Headers as _, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext},
};

use super::{
    context::{self, Quiet},
    error::{Difference, OpenError, TopicsError},
    options::KafkaOptions,
    topics::{self, MESSAGE_BYTES_MAX},
};

/// Bytes that a message may have: one entry of a journal and what is around it.
pub const OUTLET_BYTES_MAX: usize = 5 << 20;
/// The header with a message's number.
const NUMBER: &str = "pulso-message";
/// Records from a partition's end that are looked at first for the newest message.
const TAIL: i64 = 16;

/// A topic that is forwarded to. Clones share it.
#[derive(Clone)]
pub struct KafkaOutlet {
    options: KafkaOptions,
    topic: String,
    partitions: u16,
}

impl KafkaOutlet {
    /// Opens a topic, which must be there and take the largest message.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(options: &KafkaOptions, topic: &str) -> Result<Self, OpenError> {
        let found = topics::existing(options, topic).await?;
        let taken = found.setting(MESSAGE_BYTES_MAX);
        if taken.parse::<usize>().is_ok_and(|bytes| bytes < OUTLET_BYTES_MAX) {
            let difference = Difference {
                topic: topic.to_owned(),
                setting: MESSAGE_BYTES_MAX,
                wanted: OUTLET_BYTES_MAX.to_string(),
                found: taken.to_owned(),
            };
            return Err(TopicsError::Differs(vec![difference]).into());
        }
        let (options, topic) = (options.clone(), topic.to_owned());
        Ok(Self { options, topic, partitions: found.partitions })
    }

    fn partition(&self, key: &str) -> i32 {
        let partition =
            domain::hash::bytes64(0, key.as_bytes()) % u64::from(self.partitions.max(1));
        i32::try_from(partition).expect("below the partitions")
    }

    /// Blocks.
    fn newest_of_all(&self) -> Result<u64, OutletError> {
        let mut config = self.options.consumer();
        config
            .set("enable.partition.eof", "true")
            // A broker holds a fetch that finds nothing for so long, and an end is such a fetch.
            .set("fetch.wait.max.ms", "10");
        let consumer: BaseConsumer<Quiet> =
            config.create_with_context(Quiet).map_err(|error| unavailable(&error))?;
        let mut newest =
            (0..i32::from(self.partitions)).map(|partition| self.newest_of(&consumer, partition));
        newest.try_fold(0, |newest, found| Ok(newest.max(found?)))
    }

    fn newest_of(
        &self,
        consumer: &BaseConsumer<Quiet>,
        partition: i32,
    ) -> Result<u64, OutletError> {
        let timeout = self.options.request_timeout;
        let (low, end) = consumer
            .fetch_watermarks(&self.topic, partition, timeout)
            .map_err(|error| unavailable(&error))?;
        let (mut from, mut tail) = (end, TAIL);
        while from > low {
            // The end of a transaction is a record too, and what was aborted is not read.
            from = low.max(end - tail);
            if let Some(newest) = self.newest_from(consumer, partition, from)? {
                return Ok(newest);
            }
            tail *= 16;
        }
        if low > 0 {
            return Err(OutletError::Unusable(format!(
                "partition {partition} of topic {} had messages and lost all of them, so how far it has come is not known: set its retention.ms to -1, and delete and make it again to have all messages forwarded anew",
                self.topic
            )));
        }
        Ok(0)
    }

    /// The number of the last message from an offset on.
    fn newest_from(
        &self,
        consumer: &BaseConsumer<Quiet>,
        partition: i32,
        from: i64,
    ) -> Result<Option<u64>, OutletError> {
        let mut place = TopicPartitionList::new();
        place
            .add_partition_offset(&self.topic, partition, rdkafka::Offset::Offset(from))
            .and_then(|()| consumer.assign(&place))
            .map_err(|error| unavailable(&error))?;
        let deadline = Instant::now() + self.options.request_timeout;
        let mut newest = None;
        while Instant::now() < deadline {
            match consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Ok(record)) => newest = newest.max(Some(self.number_of(&record)?)),
                Some(Err(KafkaError::PartitionEOF(at))) if at == partition => return Ok(newest),
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => return Err(unavailable(&error)),
            }
        }
        Err(OutletError::Unavailable(format!(
            "the end of partition {partition} of topic {} was not reached in time",
            self.topic
        )))
    }

    fn number_of(
        &self,
        record: &rdkafka::message::BorrowedMessage<'_>,
    ) -> Result<u64, OutletError> {
        let headers = record.headers().into_iter().flat_map(|headers| headers.iter());
        let number = headers
            .filter(|header| header.key == NUMBER)
            .find_map(|header| std::str::from_utf8(header.value?).ok()?.parse().ok());
        number.ok_or_else(|| {
            OutletError::Unusable(format!(
                "record {} of partition {} of topic {} has no number in its header {NUMBER}: something else writes to this topic, which is for invoices alone",
                record.offset(), record.partition(), self.topic
            ))
        })
    }
}

impl Outlet for KafkaOutlet {
    type Writer = KafkaOutletWriter;

    async fn newest(&self) -> Result<u64, OutletError> {
        let outlet = self.clone();
        blocking(move || outlet.newest_of_all()).await
    }

    async fn take_over(&self) -> Result<KafkaOutletWriter, OutletError> {
        let outlet = self.clone();
        blocking(move || {
            let mut config = outlet.options.producer(OUTLET_BYTES_MAX);
            let within = outlet.options.delivery_timeout + Duration::from_secs(30);
            config
                .set("transactional.id", &outlet.topic)
                .set("transaction.timeout.ms", within.as_millis().to_string());
            let producer: Arc<BaseProducer<Failures>> = Arc::new(
                config.create_with_context(Failures).map_err(|error| unavailable(&error))?,
            );
            producer
                .init_transactions(outlet.options.delivery_timeout)
                .map_err(|error| of_transaction(&error))?;
            Ok(KafkaOutletWriter { outlet, producer })
        })
        .await
    }
}

/// Appends to the topic until another process takes it over.
pub struct KafkaOutletWriter {
    outlet: KafkaOutlet,
    producer: Arc<BaseProducer<Failures>>,
}

impl OutletWriter for KafkaOutletWriter {
    async fn append(&mut self, messages: Vec<Message>) -> Result<(), OutletError> {
        let (outlet, producer) = (self.outlet.clone(), Arc::clone(&self.producer));
        blocking(move || {
            producer.begin_transaction().map_err(|error| of_transaction(&error))?;
            for message in &messages {
                let number = message.number.to_string();
                let header = Header { key: NUMBER, value: Some(&number) };
                let record = BaseRecord::to(&outlet.topic)
                    .partition(outlet.partition(&message.key))
                    .key(&message.key)
                    .payload(&message.body)
                    .headers(OwnedHeaders::new().insert(header));
                producer.send(record).map_err(|(error, _)| of_sending(&error, message))?;
            }
            let within = outlet.options.delivery_timeout;
            producer.commit_transaction(within).map_err(|error| of_transaction(&error))
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OutletError> + Send + 'static,
) -> Result<T, OutletError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| OutletError::Unavailable(error.to_string()))?
}

fn unavailable(error: &KafkaError) -> OutletError {
    OutletError::Unavailable(error.to_string())
}

fn of_transaction(error: &KafkaError) -> OutletError {
    let code = match error {
        KafkaError::Transaction(error) => error.code(),
        error => error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown),
    };
    match code {
        RDKafkaErrorCode::Fenced
        | RDKafkaErrorCode::ProducerFenced
        | RDKafkaErrorCode::InvalidProducerEpoch => OutletError::TakenOver,
        _ => unavailable(error),
    }
}

fn of_sending(error: &KafkaError, message: &Message) -> OutletError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => OutletError::Unusable(format!(
            "message {} has {} bytes, and a message of a topic at most {OUTLET_BYTES_MAX}",
            message.number,
            message.body.len()
        )),
        _ => of_transaction(error),
    }
}

/// The context of a producer whose transactions say what became of its messages.
struct Failures;

impl ClientContext for Failures {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        context::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka outlet");
    }
}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = delivered {
            tracing::debug!(%error, "a message was not delivered; its transaction will say so");
        }
    }
}
