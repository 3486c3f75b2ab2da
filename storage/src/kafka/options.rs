//! How the Kafka adapter is set up, and what each of its clients is told.
//!
//! A setting that would weaken a promise (fewer acks, a reset of offsets, no checksums) is no
//! option: it is set here for every client and cannot be overridden.

use std::{fmt, path::PathBuf, time::Duration};

use domain::Partition;
use rdkafka::{ClientConfig, config::RDKafkaLogLevel};

/// How a log in Kafka is reached and bounded.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// Brokers to start from, as `host:port,host:port`. The rest are learnt from them.
    pub brokers: String,
    /// The topic that is the log. It must be there; see [`topics::apply`](super::topics::apply).
    pub topic: String,
    /// Consumer group under which progress is shown, and partitions are shared out with
    /// [`Membership::Group`]. Default `pulso`.
    pub group: String,
    /// What the brokers' logs and quotas call this process. Default `pulso`.
    pub client_id: String,
    /// How the brokers are told who this is. Default plaintext.
    pub security: Security,
    /// Which partitions this process drains. Default all.
    pub membership: Membership,
    /// How records are packed on the wire and on the brokers' disks. Default none: pulses that
    /// compress well are better compressed by the disk's file system than on the hot path.
    pub compression: Compression,
    /// How long the producer waits for more records to share a request. Default 0; up to 5 ms saves
    /// requests where records are small, and is added to the time to every ack.
    pub linger: Duration,
    /// How long an append may take before its outcome is `Unknown`. Default 30 s. Too short, and a
    /// change of a partition's leader fails appends that would have been acknowledged.
    pub delivery_timeout: Duration,
    /// How long a question to the brokers may take: bounds, an open, a read that finds nothing.
    /// Default 10 s.
    pub request_timeout: Duration,
    /// How long the group waits for a member that is silent before its partitions go to others.
    /// Default 10 s; the brokers allow 6 s at the least. Longer delays the start after a kill,
    /// shorter moves partitions when a machine is only busy.
    pub session_timeout: Duration,
    /// Bytes of records appended and not yet acknowledged. Default 64 MiB. An append that would
    /// pass it is `Overloaded`, unless it is alone. The client holds them once.
    pub queue_bytes_max: usize,
    /// Bytes that one record may have. Default 1,000,000. The topic's `max.message.bytes` must be
    /// greater by [`RECORD_OVERHEAD_BYTES`].
    pub record_bytes_max: usize,
    /// Bytes that a drain asks for at once. Default 4 MiB.
    pub fetch_bytes: usize,
    /// Bytes that a drain reads ahead. Default 16 MiB; a fetch that is under way comes on top.
    pub prefetch_bytes_max: usize,
    /// Bytes that all drains read ahead together, shared evenly among those that may be open. Default
    /// 256 MiB. Fetches that are under way come on top, none larger than a share.
    pub prefetch_bytes_total: usize,
    /// Drains that may be open together. Default 64. A log of fewer partitions has fewer.
    pub drains_max: usize,
}

/// Bytes that a record takes in a batch of its own, beyond its body: a header of 61 and at most 30
/// for lengths and deltas.
pub const RECORD_OVERHEAD_BYTES: usize = 128;

/// Which partitions a process drains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Membership {
    /// All of them.
    #[default]
    All,
    /// These, whoever else runs. Ascending or not; without repetition.
    Static(Vec<Partition>),
    /// Those that the brokers assign to this member of the group.
    Group,
}

/// How records are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// LZ4 blocks.
    Lz4,
}

/// Who this process is to the brokers, and how the connection is guarded.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// What the brokers' listener speaks.
    pub protocol: Protocol,
    /// How the password is shown. Needed for the two `sasl` protocols.
    pub mechanism: Option<Mechanism>,
    /// User name for SASL.
    pub username: String,
    /// Password for SASL.
    pub password: Secret,
    /// Certificates (PEM) that the brokers' certificates must chain to. Default the system's.
    pub ca_file: Option<PathBuf>,
}

/// Whether this build has the feature `kafka-tls`: TLS to brokers, and SCRAM.
pub const HAS_TLS: bool = cfg!(feature = "kafka-tls");

/// What a listener speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Neither encrypted nor authenticated.
    #[default]
    Plaintext,
    /// TLS. Needs the feature `kafka-tls`.
    Ssl,
    /// A user and a password over a connection that anybody on the way can read.
    SaslPlaintext,
    /// A user and a password over TLS. Needs the feature `kafka-tls`.
    SaslSsl,
}

/// How a password is shown to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// As it is.
    Plain,
    /// By a challenge. Needs the feature `kafka-tls`.
    ScramSha256,
    /// By a challenge. Needs the feature `kafka-tls`.
    ScramSha512,
}

/// A text that is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Protocol {
    const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }

    const fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    const fn has_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

impl Mechanism {
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl Security {
    /// What keeps this from being used, in words for an operator.
    fn check(&self) -> Result<(), String> {
        let without_tls = !HAS_TLS;
        if without_tls && self.protocol.has_tls() {
            return Err(format!(
                "this build speaks no TLS, which {} needs: build it with the feature kafka-tls",
                self.protocol.name()
            ));
        }
        match self.mechanism {
            Some(mechanism) if without_tls && mechanism != Mechanism::Plain => Err(format!(
                "this build does not know {}: build it with the feature kafka-tls",
                mechanism.name()
            )),
            None if self.protocol.has_sasl() => Err(format!(
                "{} needs a mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
                self.protocol.name()
            )),
            _ => Ok(()),
        }
    }

    /// The cause of a failed start, with the reason why a broker's certificate is not taken, if that is
    /// it. Blocks for some seconds then: nothing else is under way at a start that fails.
    #[cfg(feature = "kafka-tls")]
    pub(super) fn explained(&self, cause: String, brokers: &str) -> String {
        use crate::distrust::{Names, explained};
        let brokers: Vec<&str> = brokers.split(',').collect();
        explained(cause, &brokers, self.ca_file.as_deref(), Names::Host)
    }

    /// The cause of a failed start as it is: this build speaks no TLS.
    #[cfg(not(feature = "kafka-tls"))]
    pub(super) fn explained(&self, cause: String, _: &str) -> String {
        cause
    }

    fn apply(&self, config: &mut ClientConfig) {
        config.set("security.protocol", self.protocol.name());
        if let Some(mechanism) = self.mechanism.filter(|_| self.protocol.has_sasl()) {
            config
                .set("sasl.mechanism", mechanism.name())
                .set("sasl.username", &self.username)
                .set("sasl.password", &self.password.0);
        }
        if let Some(file) = self.ca_file.as_ref().filter(|_| self.protocol.has_tls()) {
            config.set("ssl.ca.location", file.to_string_lossy());
        }
    }
}

impl KafkaOptions {
    /// The options for these brokers and this topic, with defaults else.
    #[must_use]
    pub fn new(brokers: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic: topic.into(),
            group: "pulso".to_owned(),
            client_id: "pulso".to_owned(),
            security: Security::default(),
            membership: Membership::default(),
            compression: Compression::default(),
            linger: Duration::ZERO,
            delivery_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(10),
            session_timeout: Duration::from_secs(10),
            queue_bytes_max: 64 << 20,
            record_bytes_max: 1_000_000,
            fetch_bytes: 4 << 20,
            prefetch_bytes_max: 16 << 20,
            prefetch_bytes_total: 256 << 20,
            drains_max: 64,
        }
    }

    /// What keeps these from being used, in words for an operator.
    pub(super) fn check(&self) -> Result<(), String> {
        for (name, value) in
            [("brokers", &self.brokers), ("topic", &self.topic), ("group", &self.group)]
        {
            if value.is_empty() {
                return Err(format!("{name} is empty"));
            }
        }
        self.security.check()
    }

    /// What every client is told.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            .set("socket.keepalive.enable", "true")
            // A broker that comes back is used again within a second, not within ten.
            .set("reconnect.backoff.max.ms", "1000")
            // Brokers close idle connections; that is no news.
            .set("log.connection.close", "false")
            .set_log_level(RDKafkaLogLevel::Notice);
        self.security.apply(&mut config);
        config
    }

    /// What the producer is told. A batch holds no more than the topic takes.
    pub(super) fn producer(&self, batch_bytes_max: usize) -> ClientConfig {
        let mut config = self.client();
        let compression = match self.compression {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
        };
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", compression)
            .set("linger.ms", self.linger.as_millis().to_string())
            .set("message.timeout.ms", self.delivery_timeout.as_millis().to_string())
            // A topic that was deleted is gone. The client would make it again, as brokers that allow
            // it make topics by themselves: with another clock, and not as the log that it was.
            .set("allow.auto.create.topics", "false")
            .set("message.max.bytes", batch_bytes_max.to_string())
            .set("batch.size", batch_bytes_max.to_string())
            // The budget of this adapter is the bound. The client's own would strike in the middle
            // of an append, when some of its records are on their way.
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", i32::MAX.to_string());
        config
    }

    /// What every consumer is told.
    pub(super) fn consumer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // An offset that is gone is for the consumer stage to judge, never to be passed over.
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("allow.auto.create.topics", "false");
        config
    }

    /// What the consumer of a drain is told, for a log of so many partitions.
    pub(super) fn drain(&self, partitions: u16) -> ClientConfig {
        let mut config = self.consumer();
        let share = self.prefetch_bytes_total / self.drains_max.clamp(1, partitions.max(1).into());
        let prefetch_bytes = self.prefetch_bytes_max.min(share);
        let fetch_bytes = self.fetch_bytes.min(share).clamp(1 << 10, 512 << 20);
        let prefetch_kilobytes = (prefetch_bytes >> 10).clamp(1, 2_000_000);
        config
            .set("check.crcs", "true")
            .set("enable.partition.eof", "true")
            .set("fetch.message.max.bytes", fetch_bytes.to_string())
            .set("fetch.max.bytes", fetch_bytes.max(50 << 20).to_string())
            .set("receive.message.max.bytes", (fetch_bytes.max(50 << 20) + (1 << 20)).to_string())
            .set("queued.max.messages.kbytes", prefetch_kilobytes.to_string())
            .set("queued.min.messages", "1000000")
            // After its read-ahead is full, the client waits this long before it looks again; its
            // default of a second would hold a drain to 16 MiB a second.
            .set("fetch.queue.backoff.ms", "2")
            // How long a broker holds a fetch that finds nothing: half a dozen questions a second
            // for each idle partition, and the least time in which an end is noticed.
            .set("fetch.wait.max.ms", "150")
            .set("fetch.error.backoff.ms", "100");
        config
    }

    /// What the group's consumer is told.
    pub(super) fn group(&self) -> ClientConfig {
        let mut config = self.consumer();
        // Partitions that stay where they are go on without a pause while others move.
        config
            .set("partition.assignment.strategy", "cooperative-sticky")
            // A member whose topic was not there when the group shared it out hears of it so late at the
            // most; the client's own 5 minutes would let a log stand for as long.
            .set("topic.metadata.refresh.interval.ms", "15000")
            .set("session.timeout.ms", self.session_timeout.as_millis().to_string())
            .set("heartbeat.interval.ms", (self.session_timeout / 4).as_millis().to_string());
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_printed() {
        let mut options = KafkaOptions::new("b:9092", "pulses");
        options.security.password = Secret::new("hunter2");
        assert!(!format!("{options:?}").contains("hunter2"));
    }

    #[test]
    fn drains_share_what_they_read_ahead() {
        let options = KafkaOptions::new("b:9092", "pulses");
        let setting_of = |partitions, setting| {
            options.drain(partitions).get(setting).unwrap().parse::<usize>().unwrap()
        };
        let queue = |partitions| setting_of(partitions, "queued.max.messages.kbytes");
        assert_eq!([1, 16, 17, 64, 1_024].map(queue), [16_384, 16_384, 15_420, 4_096, 4_096]);
        assert_eq!(setting_of(16, "fetch.message.max.bytes"), 4 << 20);
        let shared = KafkaOptions { prefetch_bytes_total: 64 << 20, ..options.clone() };
        let share = shared.drain(200);
        assert_eq!(share.get("fetch.message.max.bytes"), Some("1048576"), "no more than a share");
        assert_eq!(share.get("queued.max.messages.kbytes"), Some("1024"));
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_remedy() {
        let with = |protocol, mechanism| {
            let mut options = KafkaOptions::new("b:9092", "pulses");
            options.security = Security { protocol, mechanism, ..Security::default() };
            options.check()
        };
        assert_eq!(with(Protocol::Plaintext, None), Ok(()));
        assert_eq!(with(Protocol::SaslPlaintext, Some(Mechanism::Plain)), Ok(()));
        assert!(with(Protocol::SaslPlaintext, None).unwrap_err().contains("needs a mechanism"));
        for (protocol, mechanism) in [
            (Protocol::Ssl, None),
            (Protocol::SaslSsl, Some(Mechanism::Plain)),
            (Protocol::SaslPlaintext, Some(Mechanism::ScramSha256)),
        ] {
            let answer = with(protocol, mechanism);
            match cfg!(feature = "kafka-tls") {
                true => assert_eq!(answer, Ok(())),
                false => assert!(answer.unwrap_err().contains("the feature kafka-tls")),
            }
        }
        assert!(KafkaOptions::new("", "pulses").check().unwrap_err().contains("brokers"));
    }
}
