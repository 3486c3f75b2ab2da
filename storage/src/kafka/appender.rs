//! Appender: hands records to the client's producer, in the order of the calls.
//!
//! Idempotent and with acks from all replicas in sync, so that the client's own retries neither
//! repeat nor reorder. Everything is handed over before the first wait of an append, which makes
//! the order of first polls the order of the log. The bodies are copied once, by the client.
//!
//! A producer that has failed for good (it lost step with the broker, or was fenced) is replaced by
//! a fresh one at the next append. What the old one had not delivered is `Unknown`.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};

use domain::{Partition, log::AppendError};
use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
};
use tokio::sync::oneshot;
use tracing::{error, warn};

use super::{
    context,
    delivery::{Answer, Append, Budget, Delivery},
};

type Producer = ThreadedProducer<Reports>;

/// What is appended.
#[derive(Debug)]
pub(super) struct Message {
    /// What it is about, where readers want to know; nothing is decided by it here.
    pub(super) key: Option<Vec<u8>>,
    pub(super) body: Vec<u8>,
}

impl From<Vec<u8>> for Message {
    fn from(body: Vec<u8>) -> Self {
        Self { key: None, body }
    }
}

impl Message {
    fn len(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.body.len()
    }
}

/// Why the client did not take all records of an append.
enum Stop {
    /// There is no room. It took none.
    Full,
    /// The producer has failed for good. It took none.
    Failed(KafkaError),
    /// It took none.
    Refused(KafkaError),
    /// It took some.
    Midway(KafkaError),
}

/// Appends to one topic.
pub(super) struct Appender {
    topic: String,
    record_bytes_max: usize,
    config: ClientConfig,
    budget: Arc<Budget>,
    producer: RwLock<Arc<Producer>>,
}

impl Appender {
    /// Starts a producer. Makes no connection yet.
    pub(super) fn new(
        topic: &str,
        config: ClientConfig,
        queue_bytes_max: usize,
        record_bytes_max: usize,
    ) -> Result<Self, KafkaError> {
        let producer = RwLock::new(Arc::new(start(&config)?));
        let budget = Budget::new(queue_bytes_max);
        Ok(Self { topic: topic.to_owned(), record_bytes_max, config, budget, producer })
    }

    /// Hands all messages, at least one, to the client and gives where the answer comes. Does not block.
    pub(super) fn hand_over(
        &self,
        partition: Partition,
        messages: Vec<Message>,
    ) -> Result<oneshot::Receiver<Answer>, AppendError> {
        let bytes = messages.iter().map(Message::len).max().unwrap_or(0);
        if bytes > self.record_bytes_max {
            return Err(AppendError::Unavailable(format!(
                "a record of {bytes} bytes; the topic {} takes at most {}",
                self.topic, self.record_bytes_max
            )));
        }
        let sent = match self.send(&*self.producer()?, partition, &messages) {
            // It has failed for good and took nothing, which this call is the first to see.
            Err(Stop::Failed(_)) => self.send(&*self.producer()?, partition, &messages),
            sent => sent,
        };
        sent.map_err(|stop| match stop {
            Stop::Full => AppendError::Overloaded {
                records: messages.into_iter().map(|message| message.body).collect(),
            },
            Stop::Failed(error) | Stop::Refused(error) => {
                AppendError::Unavailable(error.to_string())
            }
            Stop::Midway(error) => {
                AppendError::Unknown(format!("only some of the records were taken: {error}"))
            }
        })
    }

    fn send(
        &self,
        producer: &Producer,
        partition: Partition,
        messages: &[Message],
    ) -> Result<oneshot::Receiver<Answer>, Stop> {
        let lengths: Vec<usize> = messages.iter().map(Message::len).collect();
        let rooms = self.budget.take(&lengths).ok_or(Stop::Full)?;
        if producer.context().lost.swap(false, Ordering::AcqRel) {
            let brokers = self.config.get("bootstrap.servers").unwrap_or_default();
            context::bootstrap_again(producer.client(), brokers);
        }
        let (append, answered) = Append::new(messages.len());
        for (place, (message, room)) in messages.iter().zip(rooms).enumerate() {
            let delivery = append.record(place, room);
            let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(&self.topic, delivery)
                .partition(i32::from(partition.0))
                .payload(&message.body);
            record.key = message.key.as_deref();
            let Err((error, _)) = producer.send(record) else { continue };
            producer.context().meet(&error);
            return Err(match place {
                0 if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => Stop::Full,
                0 if producer.context().has_failed() => Stop::Failed(error),
                0 => Stop::Refused(error),
                _ => Stop::Midway(error),
            });
        }
        Ok(answered)
    }

    /// Learns where the topic's partitions are, so that the first append need not. Blocking.
    pub(super) fn warm_up(&self, timeout: std::time::Duration) -> Result<(), KafkaError> {
        let producer = Arc::clone(&self.producer.read().unwrap_or_else(PoisonError::into_inner));
        producer.client().fetch_metadata(Some(&self.topic), timeout).map(drop)
    }

    /// The producer, or a fresh one where it has failed for good.
    fn producer(&self) -> Result<Arc<Producer>, AppendError> {
        let current = Arc::clone(&self.producer.read().unwrap_or_else(PoisonError::into_inner));
        if !current.context().has_failed() {
            return Ok(current);
        }
        let mut place = self.producer.write().unwrap_or_else(PoisonError::into_inner);
        if !place.context().has_failed() {
            return Ok(Arc::clone(&place)); // Another append has replaced it.
        }
        let fresh = start(&self.config).map_err(|error| {
            AppendError::Unavailable(format!("the producer failed and no other starts: {error}"))
        })?;
        let old = std::mem::replace(&mut *place, Arc::new(fresh));
        warn!(topic = self.topic, "the failed Kafka producer was replaced by a fresh one");
        // Ending it waits for its thread and for the reports on what it had not delivered. The
        // runtime owns this work and waits for it when it ends.
        drop(tokio::task::spawn_blocking(move || drop(old)));
        Ok(Arc::clone(&place))
    }
}

fn start(config: &ClientConfig) -> Result<Producer, KafkaError> {
    let (failed, lost) = (AtomicBool::new(false), AtomicBool::new(false));
    config.create_with_context(Reports { failed, lost })
}

/// What the producer reports, on its own thread.
struct Reports {
    /// Set once the producer has failed for good.
    failed: AtomicBool,
    /// Set while nothing was delivered in time, as where it has lost every broker.
    lost: AtomicBool,
}

impl Reports {
    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    fn meet(&self, error: &KafkaError) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageTimedOut) {
            self.lost.store(true, Ordering::Release);
        }
        let is_fatal = matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::Fenced)
        );
        if is_fatal && !self.failed.swap(true, Ordering::AcqRel) {
            error!(
                %error,
                "the Kafka producer has failed for good; the outcome of appends under way is \
                 unknown, and the next append starts a fresh one"
            );
        }
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        context::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka producer");
        self.meet(&error);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Delivery>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Box<Delivery>) {
        if let Err((error, _)) = result {
            self.meet(error);
        }
        delivery.report(result);
    }
}

#[cfg(test)]
mod tests;
