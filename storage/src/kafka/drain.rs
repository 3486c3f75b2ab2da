//! Drain: reads a partition of the topic in order, with a client of its own that reads ahead.
//!
//! It promises that no record below `until` is passed over, and that is harder than it looks. The
//! client says "end of partition" once for each end it meets, in the same queue as the records; by
//! the time that is read, later records may have come. So an end, and likewise a silence, is
//! believed only if the log itself says that it ends where this drain stands, or if a fresh start
//! from here meets the end again with nothing in between (the log then ends in offsets that hold no
//! record). After any failure the client may have skipped what it could not read, so the next read
//! starts afresh from here; and whenever the topic may have been made again (`seen.rs`), a record
//! that was lent is read again first.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{
    Offset, Partition, Timestamp,
    log::{LogBounds, LogDrain, LogError, LogRecord},
};
use rdkafka::{
    Message as _, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};

use super::{
    Inner,
    context::{self, Quiet},
    seen::Last,
};

/// A silence after which the log is asked where it ends.
const SILENCE: Duration = Duration::from_millis(200);

/// Reads one partition of a [`KafkaLog`](super::KafkaLog).
pub struct KafkaDrain {
    source: Source,
    /// Everything below was lent.
    position: Offset,
    /// The last record that was lent, here or by the reader before this one.
    last: Option<Last>,
    /// The doubts that were met so far.
    doubts: u64,
    step: Step,
    /// Whether the client has said "end of partition" since the last record.
    end: End,
    /// A record that was polled and is not below any `until` asked for so far.
    held: Option<Held>,
}

/// Whether the client goes on from `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    InStep,
    /// After a failure.
    Lost,
}

/// What the client has said about the end since the last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Unseen,
    /// It may have been true only when it was said.
    Seen,
    /// The client was started afresh from `position` after that.
    Questioned,
}

struct Held {
    offset: Offset,
    appended_at: Timestamp,
    body: Vec<u8>,
}

/// The client and where it reads.
struct Source {
    log: Arc<Inner>,
    consumer: BaseConsumer<Quiet>,
    partition: Partition,
}

/// What a poll gives.
enum Polled<'a> {
    Record(BorrowedMessage<'a>),
    End,
    /// Nothing, for [`SILENCE`].
    Silence,
    /// Nothing, and the client says why. It goes on trying by itself.
    Trouble(KafkaError),
}

impl KafkaDrain {
    /// Starts a client that reads ahead from `from`. Blocking, for at most some request timeouts.
    pub(super) fn open(
        log: &Arc<Inner>,
        partition: Partition,
        from: Offset,
    ) -> Result<Self, LogError> {
        let doubts = log.seen.doubts();
        let consumer: BaseConsumer<Quiet> = log
            .options
            .drain(log.generation.partitions)
            .create_with_context(Quiet)
            .map_err(|error| LogError::Unavailable(format!("no client starts: {error}")))?;
        let source = Source { log: Arc::clone(log), consumer, partition };
        let mut drain = Self {
            source,
            position: from,
            last: log.seen.before(partition, from),
            doubts,
            step: Step::Lost,
            end: End::Unseen,
            held: None,
        };
        drain.start(doubts)?;
        Ok(drain)
    }

    fn lend(
        &mut self,
        until: Offset,
        bytes_max: usize,
        visit: &mut dyn FnMut(LogRecord<'_>),
    ) -> Result<Offset, LogError> {
        if self.position >= until {
            return Ok(self.position);
        }
        let doubts = self.source.doubts();
        if self.step == Step::Lost || self.doubts != doubts {
            self.start(doubts)?;
        }
        let mut bytes = 0;
        if let Some(held) = self.held.take() {
            if held.offset >= until {
                self.held = Some(held);
                return Ok(until);
            }
            let Held { offset, appended_at, body } = held;
            visit(LogRecord { offset, appended_at, body: &body });
            (self.position, self.last) = (offset.next(), Some(Last { offset, appended_at }));
            bytes += body.len();
            if bytes >= bytes_max {
                return Ok(self.position);
            }
        }
        let mut waiting: Option<Instant> = None;
        while self.position < until {
            let trouble = match self.source.poll()? {
                Polled::Record(message) => {
                    let (offset, appended_at) = self.source.place(&message)?;
                    (waiting, self.end) = (None, End::Unseen);
                    if offset < self.position {
                        continue; // Left over from before a restart.
                    }
                    let body = message.payload().unwrap_or_default();
                    if offset >= until {
                        self.held = Some(Held { offset, appended_at, body: body.to_vec() });
                        return Ok(until);
                    }
                    visit(LogRecord { offset, appended_at, body });
                    (self.position, self.last) =
                        (offset.next(), Some(Last { offset, appended_at }));
                    bytes += body.len();
                    if bytes >= bytes_max {
                        return Ok(self.position);
                    }
                    continue;
                }
                Polled::End if self.end == End::Questioned => {
                    // Said afresh, but by the next read it will be as old as any.
                    self.end = End::Seen;
                    return Ok(until);
                }
                Polled::End => {
                    self.end = End::Seen;
                    None
                }
                Polled::Silence => None,
                Polled::Trouble(error) => Some(error),
            };
            let since = *waiting.get_or_insert_with(Instant::now);
            let is_end = self.meet_silence(since, trouble)?;
            if is_end {
                return Ok(until);
            }
        }
        Ok(self.position)
    }

    /// Tells whether nothing came because there is nothing.
    fn meet_silence(
        &mut self,
        since: Instant,
        trouble: Option<KafkaError>,
    ) -> Result<bool, LogError> {
        let left = self.source.log.options.request_timeout.saturating_sub(since.elapsed());
        if left.is_zero() {
            return Err(self.source.nothing_came(self.position, trouble));
        }
        if let Some(trouble) = trouble {
            return self.source.judge(&trouble, self.position, left).map(|()| false);
        }
        let LogBounds { low, end } = self.source.bounds(left)?;
        if self.position < low || self.position > end {
            return Err(self.source.out_of_range(self.position, LogBounds { low, end }));
        }
        if self.position == end {
            return Ok(true);
        }
        // There is more of the log. Records, mostly, that are on their way here; but after an end
        // was said it may be offsets without a record, which the client passes over in silence.
        if self.end == End::Seen && since.elapsed() >= SILENCE {
            self.restart()?;
            self.end = End::Questioned;
        }
        Ok(false)
    }

    /// Begins again where it stands, once it is proved that this is still the log that was read.
    fn start(&mut self, doubts: u64) -> Result<(), LogError> {
        let timeout = self.source.log.options.request_timeout;
        let bounds = self.source.bounds(timeout)?;
        if self.position < bounds.low || self.position > bounds.end {
            return Err(self.source.out_of_range(self.position, bounds));
        }
        self.source.prove(self.last, timeout)?;
        self.doubts = doubts;
        self.restart()
    }

    /// Makes the client drop what it has read ahead and go on from `position`.
    fn restart(&mut self) -> Result<(), LogError> {
        self.source.assign(self.source.partition, self.position)?;
        (self.held, self.end, self.step) = (None, End::Unseen, Step::InStep);
        Ok(())
    }
}

impl LogDrain for KafkaDrain {
    fn read(
        &mut self,
        until: Offset,
        bytes_max: usize,
        visit: &mut dyn FnMut(LogRecord<'_>),
    ) -> Result<Offset, LogError> {
        let read = self.lend(until, bytes_max, visit);
        if read.is_err() {
            self.step = Step::Lost;
        }
        if let Some(last) = self.last {
            self.source.log.seen.lent(self.source.partition, last);
        }
        read
    }
}

impl Source {
    /// Reads a partition from `from` on; what was read ahead is dropped.
    fn assign(&self, partition: Partition, from: Offset) -> Result<(), LogError> {
        let unreadable = |error: KafkaError| {
            let topic = &self.log.options.topic;
            LogError::Unavailable(format!(
                "partition {partition} of topic {topic} cannot be read from {from} on: {error}"
            ))
        };
        let offset = i64::try_from(from.0)
            .map_err(|_| LogError::Fatal(format!("offset {from} is beyond what Kafka has")))?;
        let mut place = TopicPartitionList::with_capacity(1);
        let (topic, partition) = (&self.log.options.topic, i32::from(partition.0));
        place
            .add_partition_offset(topic, partition, rdkafka::Offset::Offset(offset))
            .and_then(|()| self.consumer.unassign())
            .and_then(|()| self.consumer.assign(&place))
            .map_err(unreadable)
    }

    fn poll(&self) -> Result<Polled<'_>, LogError> {
        match self.consumer.poll(SILENCE) {
            None => Ok(Polled::Silence),
            Some(Ok(message)) => Ok(Polled::Record(message)),
            Some(Err(KafkaError::PartitionEOF(_))) => Ok(Polled::End),
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                Err(LogError::Fatal(format!("the Kafka client has failed: {code}")))
            }
            Some(Err(error)) => Ok(Polled::Trouble(error)),
        }
    }

    /// Where and when the log took a record.
    fn place(&self, message: &BorrowedMessage<'_>) -> Result<(Offset, Timestamp), LogError> {
        let offset = u64::try_from(message.offset()).map(Offset);
        let at = match message.timestamp() {
            rdkafka::Timestamp::LogAppendTime(millis) => millis.checked_mul(1_000),
            _ => None,
        };
        match (offset, at.and_then(Timestamp::from_micros)) {
            (Ok(offset), Some(at)) => Ok((offset, at)),
            _ => Err(LogError::Fatal(format!(
                "record {} of partition {} of topic {} has no append time: the topic's \
                 message.timestamp.type must be LogAppendTime, and must have been when the record \
                 came",
                message.offset(),
                self.partition,
                self.log.options.topic
            ))),
        }
    }

    /// What the client could not read and will not try again; nothing where it goes on trying.
    fn judge(&self, trouble: &KafkaError, at: Offset, timeout: Duration) -> Result<(), LogError> {
        match trouble.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::OffsetOutOfRange
                | RDKafkaErrorCode::LogTruncation,
            ) => Err(self.out_of_range(at, self.bounds(timeout)?)),
            Some(
                code @ (RDKafkaErrorCode::BadMessage
                | RDKafkaErrorCode::BadCompression
                | RDKafkaErrorCode::InvalidMessage),
            ) => {
                let (partition, message) = (self.partition, code.to_string());
                Err(LogError::Damaged { partition, offset: at, message })
            }
            _ => Ok(()),
        }
    }

    /// Reads a record again that was read before: the one before this place, or where there is none
    /// one of another partition, for a topic is made again as a whole.
    fn prove(&self, last: Option<Last>, timeout: Duration) -> Result<(), LogError> {
        let own = last.map(|last| (self.partition, last));
        for (partition, last) in own.into_iter().chain(self.log.seen.all()) {
            let LogBounds { low, end } = self.log.group.bounds(partition, timeout)?;
            let wanted = last.offset.next();
            if wanted > end {
                return Err(LogError::OutOfRange { partition, wanted, low, end });
            }
            // What has expired is no proof, and was counted.
            if last.offset >= low {
                return self.read_again(partition, last, timeout);
            }
        }
        Ok(())
    }

    fn read_again(
        &self,
        partition: Partition,
        last: Last,
        timeout: Duration,
    ) -> Result<(), LogError> {
        self.assign(partition, last.offset)?;
        let since = Instant::now();
        while since.elapsed() < timeout {
            let message = match self.poll()? {
                Polled::Record(message) => message,
                Polled::End | Polled::Silence => continue,
                Polled::Trouble(trouble) => {
                    self.judge(&trouble, last.offset, timeout)?;
                    continue;
                }
            };
            let (offset, appended_at) = self.place(&message)?;
            if i32::from(partition.0) != message.partition() || offset < last.offset {
                continue; // Left over from before.
            }
            return match (Last { offset, appended_at }) == last {
                true => Ok(()),
                false => Err(self.log.seen.replaced(partition, last.offset)),
            };
        }
        Err(self.nothing_came(last.offset, None))
    }

    fn doubts(&self) -> u64 {
        self.log.seen.doubts()
    }

    fn bounds(&self, timeout: Duration) -> Result<LogBounds, LogError> {
        self.log.group.bounds(self.partition, timeout)
    }

    fn out_of_range(&self, wanted: Offset, LogBounds { low, end }: LogBounds) -> LogError {
        LogError::OutOfRange { partition: self.partition, wanted, low, end }
    }

    /// The next read starts afresh; it is to find brokers.
    fn nothing_came(&self, position: Offset, trouble: Option<KafkaError>) -> LogError {
        context::bootstrap_again(self.consumer.client(), &self.log.options.brokers);
        LogError::Unavailable(format!(
            "nothing came of partition {} of topic {} from {position} on within {:?}{}",
            self.partition,
            self.log.options.topic,
            self.log.options.request_timeout,
            trouble.map_or_else(String::new, |trouble| format!(": {trouble}"))
        ))
    }
}
