//! Topics: made where they are missing, compared where they are there, never altered or deleted.
//!
//! What a topic is, decides what the log promises: append times are the brokers' own, and the
//! number of partitions is fixed for a log's life. A difference is therefore an error that names
//! it, for a human to judge.

mod inspect;

use std::time::{Duration, Instant};

use rdkafka::{
    admin::{AdminOptions, NewTopic, TopicReplication},
    error::RDKafkaErrorCode,
};

pub(super) use self::inspect::{Admin, Found};
use super::{
    error::{Difference, TopicsError},
    options::KafkaOptions,
};

/// What a topic must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// Number of partitions, at least 1.
    pub partitions: u16,
    /// How long records are kept; `None` is for ever. A log must keep them longer than its horizon
    /// and than any outage of its consumers. Whole milliseconds.
    pub retention: Option<Duration>,
    /// Number of copies. 3 where records must outlive a machine.
    pub replication: u16,
    /// Copies that must have a record before it is acknowledged. 2 of 3 outlives one machine and
    /// still takes records while one is down.
    pub min_insync_replicas: u16,
    /// What becomes of old records.
    pub cleanup: Cleanup,
    /// Whose clock a record's time comes from.
    pub timestamps: TimestampType,
    /// Bytes that one batch of records may have (`max.message.bytes`). Kafka's default is 1,048,588.
    pub message_bytes_max: usize,
}

/// What becomes of old records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// They go when they are older than the retention.
    Delete,
    /// The last of each key stays.
    Compact,
}

/// Whose clock a record's time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The broker's, when it took the record. A log needs this.
    LogAppendTime,
    /// The producer's.
    CreateTime,
}

/// What was done about a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicReport {
    /// The topic's whole name.
    pub name: String,
    /// What was done.
    pub outcome: TopicOutcome,
}

/// What was done about a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicOutcome {
    /// It was missing and was made.
    Created,
    /// It was there, as it must be.
    Verified,
}

impl TopicSpec {
    /// A log's topic: append times, records deleted by age, Kafka's default message size.
    #[must_use]
    pub fn log(name: impl Into<String>, partitions: u16) -> Self {
        Self {
            name: name.into(),
            partitions,
            retention: None,
            replication: 1,
            min_insync_replicas: 1,
            cleanup: Cleanup::Delete,
            timestamps: TimestampType::LogAppendTime,
            message_bytes_max: 1_048_588,
        }
    }

    /// Its settings, by Kafka's names.
    fn settings(&self) -> [(&'static str, String); 5] {
        let retention =
            self.retention.map_or_else(|| "-1".to_owned(), |kept| kept.as_millis().to_string());
        let cleanup = match self.cleanup {
            Cleanup::Delete => "delete",
            Cleanup::Compact => "compact",
        };
        let timestamps = match self.timestamps {
            TimestampType::LogAppendTime => LOG_APPEND_TIME,
            TimestampType::CreateTime => "CreateTime",
        };
        [
            (TIMESTAMP_TYPE, timestamps.to_owned()),
            ("retention.ms", retention),
            ("cleanup.policy", cleanup.to_owned()),
            ("min.insync.replicas", self.min_insync_replicas.to_string()),
            (MESSAGE_BYTES_MAX, self.message_bytes_max.to_string()),
        ]
    }

    /// Where a topic differs, all of it.
    fn differences(&self, found: &Found) -> Vec<Difference> {
        let counts = [
            ("partitions", self.partitions.to_string(), found.partitions.to_string()),
            ("replication factor", self.replication.to_string(), found.replication.to_string()),
        ];
        let settings = self
            .settings()
            .map(|(setting, wanted)| (setting, wanted, found.setting(setting).to_owned()));
        let differs = |(setting, wanted, found): (&'static str, String, String)| {
            let topic = self.name.clone();
            (wanted != found).then_some(Difference { topic, setting, wanted, found })
        };
        counts.into_iter().chain(settings).filter_map(differs).collect()
    }
}

/// A topic that must be there, as it is.
pub(super) async fn existing(options: &KafkaOptions, topic: &str) -> Result<Found, TopicsError> {
    let admin = Admin::new(options)?;
    let found = admin.find(topic).await;
    // The admin's end waits for its thread.
    drop(tokio::task::spawn_blocking(move || drop(admin)));
    found?.ok_or_else(|| TopicsError::Missing { topic: topic.to_owned() })
}

/// Kafka's name of the setting that says whose clock it is.
pub(super) const TIMESTAMP_TYPE: &str = "message.timestamp.type";
/// Its value for the broker's.
pub(super) const LOG_APPEND_TIME: &str = "LogAppendTime";
/// Kafka's name of the setting that bounds a batch of records.
pub(super) const MESSAGE_BYTES_MAX: &str = "max.message.bytes";

/// Makes the topics that are missing and compares those that are there, in the order given. Two
/// processes may do it at once.
///
/// # Errors
/// Any [`TopicsError`] but `Missing`. Topics made before it stay.
pub async fn apply(
    options: &KafkaOptions,
    specs: &[TopicSpec],
) -> Result<Vec<TopicReport>, TopicsError> {
    compare(options, specs, Missing::Made).await
}

/// Compares topics, in the order given, and makes none.
///
/// # Errors
/// Any [`TopicsError`]; `Missing` names the first that is not there.
pub async fn check(
    options: &KafkaOptions,
    specs: &[TopicSpec],
) -> Result<Vec<TopicReport>, TopicsError> {
    compare(options, specs, Missing::Refused).await
}

/// The names of all topics that the brokers show to this client, in no particular order.
///
/// # Errors
/// See [`TopicsError`].
pub async fn names(options: &KafkaOptions) -> Result<Vec<String>, TopicsError> {
    Admin::new(options)?.names().await
}

/// What is done about a topic that is not there.
#[derive(Clone, Copy)]
enum Missing {
    Made,
    Refused,
}

async fn compare(
    options: &KafkaOptions,
    specs: &[TopicSpec],
    missing: Missing,
) -> Result<Vec<TopicReport>, TopicsError> {
    let admin = Admin::new(options)?;
    let mut reports = Vec::with_capacity(specs.len());
    let mut differences = Vec::new();
    for spec in specs {
        let (found, outcome) = match (admin.find(&spec.name).await?, missing) {
            (Some(found), _) => (found, TopicOutcome::Verified),
            (None, Missing::Made) => {
                let outcome = create(&admin, spec).await?;
                (await_topic(&admin, spec).await?, outcome)
            }
            (None, Missing::Refused) => {
                return Err(TopicsError::Missing { topic: spec.name.clone() });
            }
        };
        differences.extend(spec.differences(&found));
        reports.push(TopicReport { name: spec.name.clone(), outcome });
    }
    if differences.is_empty() { Ok(reports) } else { Err(TopicsError::Differs(differences)) }
}

/// Makes a topic; `Verified` when another process was faster.
async fn create(admin: &Admin, spec: &TopicSpec) -> Result<TopicOutcome, TopicsError> {
    let settings = spec.settings();
    let replication = TopicReplication::Fixed(i32::from(spec.replication));
    let new = NewTopic::new(&spec.name, i32::from(spec.partitions), replication);
    let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
    let options = AdminOptions::new()
        .request_timeout(Some(admin.timeout()))
        .operation_timeout(Some(admin.timeout()));
    let answers = admin
        .client()
        .create_topics([&new], &options)
        .await
        .map_err(|error| admin.unreachable(&error))?;
    match answers.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(TopicOutcome::Verified),
        Some(Err((topic, code))) => {
            Err(TopicsError::Refused { what: "create", topic, cause: code.to_string() })
        }
        Some(Ok(_)) | None => Ok(TopicOutcome::Created),
    }
}

/// A topic that was made is known to all brokers a little later.
async fn await_topic(admin: &Admin, spec: &TopicSpec) -> Result<Found, TopicsError> {
    const BETWEEN: Duration = Duration::from_millis(50);
    let started = Instant::now();
    loop {
        match admin.find(&spec.name).await? {
            Some(found) if found.is_led => return Ok(found),
            _ if started.elapsed() > admin.timeout() => {
                return Err(TopicsError::Refused {
                    what: "lead all partitions of",
                    topic: spec.name.clone(),
                    cause: format!("not within {:?}", admin.timeout()),
                });
            }
            _ => tokio::time::sleep(BETWEEN).await,
        }
    }
}
