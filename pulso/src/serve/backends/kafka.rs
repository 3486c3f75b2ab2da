//! The log on Kafka: its topics, one for each generation, and those beside it.
//!
//! A Kafka topic says nothing about the generation of the log it holds, so the usage store does: the
//! first process that meets an empty registry draws one and registers it by compare-and-set, and all
//! others take what is registered.

use std::{sync::Arc, time::Duration};

use billing::outbox::Queue;
use domain::{LogId, Partition, UsageStore, generation::Generation, store::StoreError};
use storage::{
    choice::{Log, Usage},
    identity,
    kafka::{
        self, KafkaFeed, KafkaLog, KafkaOptions, KafkaOutlet, Membership, TopicSpec, TopicsError,
    },
};

use super::{OlderLog, store_failure};
use crate::{
    cli::serving::Stage,
    config::{
        Loaded, Origin,
        assignment::Assignment,
        urls::{LogUrl, Servers},
        value,
    },
    exit::{Exit, Failure},
};

/// The log's topic in its first generation; the later ones end in their number.
pub const PULSES: &str = "resource-consumption";
/// Where final totals are published.
pub const TOTALS: &str = "processor-storage-consumption";

/// Opens the newest generation of the log, after registering one where there is none.
pub(super) async fn open_log(
    loaded: &Loaded,
    brokers: &Servers,
    usage: &Usage,
    stages: &[Stage],
) -> Result<(KafkaLog, KafkaFeed), Failure> {
    loop {
        let known = usage.generations().await.map_err(|error| store_failure(&error))?;
        let fresh = || identity::fresh(loaded.generation());
        let generation = known.last().copied().unwrap_or_else(fresh);
        let number = known.len().max(1);
        let options = generation_options(loaded, brokers, number);
        let options = KafkaOptions { membership: membership(loaded, stages), ..options };
        // Before anything is registered: a topic with other partitions must not fix them for ever.
        let log = KafkaLog::open(options.clone(), generation).await.map_err(|e| log_failure(&e))?;
        match usage.register(&generation, None).await {
            Ok(()) => {
                warn_of_windows(loaded, &generation);
                let feed = KafkaFeed::open(&options, &topic(loaded, TOTALS)).await;
                return Ok((log, feed.map_err(|error| log_failure(&error))?));
            }
            // Another process was first; what it registered stands.
            Err(StoreError::Conflict(_)) if known.is_empty() => {}
            Err(error) => return Err(store_failure(&error)),
        }
    }
}

/// Says so where windows are configured that the log does not have.
fn warn_of_windows(loaded: &Loaded, generation: &Generation) {
    let (configured, windows) = (loaded.generation().window, generation.window);
    if loaded.origin("log.window") != Origin::Default && configured != windows {
        tracing::warn!(
            %configured,
            %windows,
            "log.window has no effect: a log keeps the windows that it was made with, until `pulso log grow --window` makes them shorter"
        );
    }
}

/// Opens the topics that follow the queues of billing.
pub(super) async fn open_outlets(
    loaded: &Loaded,
    brokers: &Servers,
) -> Result<Vec<(Queue, KafkaOutlet)>, Failure> {
    let options = options(loaded, brokers);
    let mut outlets = Vec::new();
    for queue in Queue::ALL {
        let opened = KafkaOutlet::open(&options, &topic(loaded, queue.name())).await;
        outlets.push((queue, opened.map_err(|error| log_failure(&error))?));
    }
    Ok(outlets)
}

/// The generations before `log_id`, oldest first, each opened if this process drains or shows it
/// and its topic is still there. A topic may be deleted once its log is sealed.
pub(super) async fn open_older(
    loaded: &Loaded,
    brokers: &Servers,
    usage: &Usage,
    stages: &[Stage],
    log_id: LogId,
) -> Result<Vec<OlderLog>, Failure> {
    let known = usage.generations().await.map_err(|error| store_failure(&error))?;
    let known = known.into_iter().take_while(|known| known.log_id != log_id);
    let is_needed = stages.contains(&Stage::Consume) || stages.contains(&Stage::Query);
    let mut older = Vec::new();
    for (number, generation) in (1..).zip(known) {
        let log = match is_needed {
            true => open_one_older(loaded, brokers, usage, stages, (number, generation)).await?,
            false => None,
        };
        older.push(OlderLog { generation, log });
    }
    Ok(older)
}

async fn open_one_older(
    loaded: &Loaded,
    brokers: &Servers,
    usage: &Usage,
    stages: &[Stage],
    (number, generation): (usize, Generation),
) -> Result<Option<Arc<Log>>, Failure> {
    let mut membership = membership(loaded, stages);
    if let Membership::Static(partitions) = &mut membership {
        partitions.retain(|partition| partition.0 < generation.partitions);
    }
    let options = KafkaOptions { membership, ..generation_options(loaded, brokers, number) };
    match KafkaLog::open(options, generation).await {
        Ok(log) => Ok(Some(Arc::new(Log::Kafka(log)))),
        Err(error) => {
            let journal = usage.journal().await.map_err(|error| store_failure(&error))?;
            let is_missing = matches!(
                error,
                kafka::OpenError::Topic(TopicsError::Missing { .. } | TopicsError::Differs(_))
            );
            match journal.log(generation.log_id).sealed() {
                Some(_) if is_missing => Ok(None),
                _ => Err(log_failure(&error)),
            }
        }
    }
}

/// How the topic of a generation of the log is reached, counted from 1. Each has a group of its own,
/// because members of one group must ask for the same topics.
#[must_use]
pub fn generation_options(loaded: &Loaded, brokers: &Servers, number: usize) -> KafkaOptions {
    let options = options(loaded, brokers);
    let group = numbered(&options.group, number);
    KafkaOptions { topic: topic(loaded, &numbered(PULSES, number)), group, ..options }
}

/// A name of the first generation, or with its number of a later one.
fn numbered(name: &str, generation: usize) -> String {
    if generation <= 1 { name.to_owned() } else { format!("{name}-{generation}") }
}

/// A topic's whole name.
#[must_use]
pub fn topic(loaded: &Loaded, name: &str) -> String {
    format!("{}{name}", loaded.config.kafka.topic_prefix)
}

/// The generations of the log that these names of topics show, but for the first.
#[must_use]
pub fn later_generations(loaded: &Loaded, topics: &[String]) -> Vec<String> {
    let prefix = format!("{}-", topic(loaded, PULSES));
    let numbered = |name: &&String| {
        name.strip_prefix(&prefix).is_some_and(|number| number.parse::<u32>().is_ok())
    };
    topics.iter().filter(numbered).cloned().collect()
}

/// What a topic must be; without a retention it is kept for ever.
#[must_use]
pub fn topic_spec(
    loaded: &Loaded,
    name: String,
    partitions: u16,
    retention: Option<Duration>,
) -> TopicSpec {
    let small = |number: u64| u16::try_from(number).expect("its type bounds it");
    let kafka = &loaded.config.kafka;
    TopicSpec {
        retention,
        replication: small(kafka.replication.get()),
        min_insync_replicas: small(kafka.min_insync_replicas.get()),
        ..TopicSpec::log(name, partitions)
    }
}

/// How the brokers are reached.
#[must_use]
pub fn options(loaded: &Loaded, brokers: &Servers) -> KafkaOptions {
    let kafka = &loaded.config.kafka;
    KafkaOptions {
        group: kafka.group.to_string(),
        security: security(kafka),
        compression: match kafka.compression {
            value::Compression::None => kafka::Compression::None,
            value::Compression::Lz4 => kafka::Compression::Lz4,
        },
        delivery_timeout: kafka.delivery_timeout.duration(),
        request_timeout: kafka.request_timeout.duration(),
        session_timeout: kafka.session_timeout.duration(),
        queue_bytes_max: loaded.config.log.queue_bytes_max.as_usize(),
        prefetch_bytes_total: kafka.read_ahead_bytes_max.as_usize(),
        drains_max: loaded.config.consumer.readers.as_usize(),
        record_bytes_max: loaded.config.ingest.record_bytes_max.as_usize(),
        ..KafkaOptions::new(brokers.to_string(), topic(loaded, PULSES))
    }
}

fn security(kafka: &crate::config::keys::Kafka) -> kafka::Security {
    use value::{SaslMechanism, SecurityProtocol};
    let protocol = match kafka.security_protocol {
        SecurityProtocol::Plaintext => kafka::Protocol::Plaintext,
        SecurityProtocol::Ssl => kafka::Protocol::Ssl,
        SecurityProtocol::SaslPlaintext => kafka::Protocol::SaslPlaintext,
        SecurityProtocol::SaslSsl => kafka::Protocol::SaslSsl,
    };
    let mechanism = match kafka.sasl_mechanism {
        SaslMechanism::Plain => kafka::Mechanism::Plain,
        SaslMechanism::ScramSha256 => kafka::Mechanism::ScramSha256,
        SaslMechanism::ScramSha512 => kafka::Mechanism::ScramSha512,
    };
    kafka::Security {
        protocol,
        // Without a user there is nothing to prove.
        mechanism: kafka.username.get().map(|_| mechanism),
        username: kafka.username.to_string(),
        password: kafka::Secret::new(kafka.password.reveal().unwrap_or_default()),
        ca_file: kafka.ca_file.get().map(Into::into),
    }
}

/// A process that consumes nothing must not hold partitions that nobody drains then.
fn membership(loaded: &Loaded, stages: &[Stage]) -> Membership {
    match &loaded.config.consumer.partitions {
        _ if !stages.contains(&Stage::Consume) => Membership::All,
        Assignment::Auto | Assignment::Group => Membership::Group,
        Assignment::All => Membership::All,
        Assignment::These(these) => {
            Membership::Static(these.iter().copied().map(Partition).collect())
        }
    }
}

/// The brokers of the log.
///
/// # Errors
/// When `log.url` names none.
pub fn brokers(loaded: &Loaded) -> Result<&Servers, Failure> {
    match &loaded.config.log.url {
        LogUrl::Kafka(brokers) => Ok(brokers),
        url @ LogUrl::Embedded(_) => Err(Failure::new(
            Exit::Config,
            format_args!(
                "log.url = `{url}`: an embedded log has no topics; this command needs kafka://HOST:PORT"
            ),
        )),
    }
}

/// The exit for a log that cannot be opened.
#[must_use]
pub fn log_failure(error: &kafka::OpenError) -> Failure {
    match error {
        kafka::OpenError::Topic(error) => topics_failure(error),
        kafka::OpenError::RecordsTooLarge { .. } => Failure::new(Exit::Config, error),
        kafka::OpenError::Client(_) => Failure::new(Exit::Internal, error),
    }
}

/// The exit for what is wrong with topics or brokers.
#[must_use]
pub fn topics_failure(error: &TopicsError) -> Failure {
    let exit = match error {
        TopicsError::Unreachable { .. } => Exit::Unavailable,
        TopicsError::Options(_) | TopicsError::Missing { .. } | TopicsError::Differs(_) => {
            Exit::Config
        }
        TopicsError::Refused { .. } => Exit::Permission,
    };
    Failure::new(exit, error)
}
