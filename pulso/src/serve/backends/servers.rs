//! Backends on servers: Kafka for the log, ScyllaDB or another that speaks CQL for the stores.
//!
//! A Kafka topic says nothing about the generation of the log it holds, so the usage store does: the
//! first process that meets an empty registry draws one and registers it by compare-and-set, and all
//! others take what stands there.

use domain::{LogId, Partition, PulseLog as _, UsageStore, place::Generation, store::StoreError};
use storage::{
    choice::Usage,
    kafka::{self, KafkaFeed, KafkaLog, KafkaOptions, Membership, TopicsError},
    scylla::{self, SchemaError, ScyllaOptions, ScyllaStore},
};

use crate::{
    cli::serving::Stage,
    config::{
        Loaded,
        place::{Assignment, LogUrl, Servers, StoreUrl},
        value,
    },
    exit::{Exit, Failure},
};

/// The log's topic in its first generation; the later ones end in their number.
pub const PULSES: &str = "resource-consumption";
/// Where final totals are published.
pub const TOTALS: &str = "processor-storage-consumption";

/// A generation with an identity and a seed of its own, from the configuration's numbers.
pub(super) fn fresh_generation(loaded: &Loaded) -> Generation {
    // The fixed bits of one half meet random bits of the other, so all 64 are random.
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    loaded.generation(LogId(uuid::Uuid::new_v4().into_bytes()), high ^ low)
}

/// Opens the newest generation of the log, after registering one where there is none.
pub(super) async fn open_log(
    loaded: &Loaded,
    brokers: &Servers,
    usage: &Usage,
    stages: &[Stage],
) -> Result<(KafkaLog, KafkaFeed), Failure> {
    let options =
        KafkaOptions { membership: membership(loaded, stages), ..kafka_options(loaded, brokers) };
    loop {
        let known = usage.generations().await.map_err(|error| store_failure(&error))?;
        let generation = known.last().copied().unwrap_or_else(|| fresh_generation(loaded));
        let name = topic(loaded, &pulses(known.len()));
        let options = KafkaOptions { topic: name, ..options.clone() };
        // Before anything is registered: a topic with other partitions must not fix them for ever.
        let log = KafkaLog::open(options.clone(), generation).await.map_err(|e| log_failure(&e))?;
        match usage.register(&generation, None).await {
            Ok(()) => {
                let (totals, window) = (topic(loaded, TOTALS), log.generation().window);
                let feed = KafkaFeed::open(&options, &totals, window).await;
                return Ok((log, feed.map_err(|error| log_failure(&error))?));
            }
            // Another process was first; what it registered stands.
            Err(StoreError::Conflict(_)) if known.is_empty() => {}
            Err(error) => return Err(store_failure(&error)),
        }
    }
}

/// Topic of a generation of the log, counted from 1, without its prefix.
fn pulses(generation: usize) -> String {
    if generation <= 1 { PULSES.to_owned() } else { format!("{PULSES}-{generation}") }
}

/// A topic's whole name.
#[must_use]
pub fn topic(loaded: &Loaded, name: &str) -> String {
    format!("{}{name}", loaded.config.kafka.topic_prefix)
}

/// How the brokers are reached.
#[must_use]
pub fn kafka_options(loaded: &Loaded, brokers: &Servers) -> KafkaOptions {
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

/// Opens the stores.
pub(super) async fn open_store(loaded: &Loaded) -> Result<ScyllaStore, Failure> {
    ScyllaStore::open(scylla_options(loaded)?).await.map_err(|error| {
        let scylla::OpenError::Schema(schema) = &error;
        schema_failure(schema)
    })
}

/// How the store's servers are reached.
///
/// # Errors
/// When `store.url` names none.
pub fn scylla_options(loaded: &Loaded) -> Result<ScyllaOptions, Failure> {
    let (config, url) = (&loaded.config.scylla, &loaded.config.store.url);
    let StoreUrl::Scylla { servers, keyspace, replication } = url else {
        return Err(Failure::new(
            Exit::Config,
            format_args!(
                "store.url = `{url}`: an embedded store keeps its schema by itself; this command needs scylla://HOST:PORT"
            ),
        ));
    };
    let credentials = config.username.get().zip(config.password.reveal());
    Ok(ScyllaOptions {
        replication: *replication,
        credentials: credentials.map(|(username, password)| scylla::Credentials {
            username: username.to_owned(),
            password: password.to_owned(),
        }),
        tls: (config.tls == value::Tls::On)
            .then(|| scylla::Tls { ca_file: config.ca_file.get().map(Into::into) }),
        local_dc: config.datacenter.get().map(str::to_owned),
        request_timeout: config.request_timeout.duration(),
        connect_timeout: config.connect_timeout.duration(),
        writes_in_flight: config.writes_in_flight.as_usize(),
        ..ScyllaOptions::new(servers.list(), keyspace)
    })
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

fn store_failure(error: &StoreError) -> Failure {
    let exit = match error {
        StoreError::Unavailable(_) => Exit::Unavailable,
        StoreError::Conflict(_) | StoreError::Damaged(_) => Exit::Data,
        StoreError::Fatal(_) => Exit::Internal,
    };
    Failure::new(exit, format_args!("store.url: {error}"))
}

fn log_failure(error: &kafka::OpenError) -> Failure {
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

/// The exit for what is wrong with the schema or the servers that hold it.
#[must_use]
pub fn schema_failure(error: &SchemaError) -> Failure {
    let exit = match error {
        SchemaError::Unreachable { .. } => Exit::Unavailable,
        SchemaError::Locked { .. } => Exit::Retry,
        SchemaError::Refused { .. } => Exit::Permission,
        _ => Exit::Config,
    };
    Failure::new(exit, error)
}
