//! Why a log in Kafka cannot be opened, and why topics are not as they must be.

use std::{fmt, time::Duration};

use thiserror::Error;

/// One setting of a topic that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The topic's whole name.
    pub topic: String,
    /// The setting, by Kafka's name; `partitions` and `replication factor` are no settings and have
    /// these names.
    pub setting: &'static str,
    /// What it must be.
    pub wanted: String,
    /// What it is.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, setting, wanted, found } = self;
        write!(f, "topic {topic}: {setting} is {found} and must be {wanted}")
    }
}

/// Why topics were not applied or checked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TopicsError {
    /// The options cannot be used.
    #[error("the Kafka settings cannot be used: {0}")]
    Options(String),
    /// No broker answered in time.
    #[error(
        "no broker of {brokers} answered within {} s ({cause}): check `log.url`, the settings of `kafka` for TLS and users, and that the brokers run and can be reached from here",
        waited.as_secs_f32()
    )]
    Unreachable {
        /// The brokers tried.
        brokers: String,
        /// For how long.
        waited: Duration,
        /// What the client says.
        cause: String,
    },
    /// The topic is not there.
    #[error("there is no topic {topic}: run `pulso topics apply`")]
    Missing {
        /// The topic's whole name.
        topic: String,
    },
    /// Topics are there and are not as they must be. Nothing was changed.
    #[error(
        "{}. Nothing was changed: settings can be altered with Kafka's own tools; the partitions of a log are fixed for its life, so another number needs another topic and a new log",
        list(.0)
    )]
    Differs(Vec<Difference>),
    /// The brokers refused.
    #[error("the brokers refused to {what} topic {topic}: {cause}")]
    Refused {
        /// What was asked of them.
        what: &'static str,
        /// The topic's whole name.
        topic: String,
        /// Their words.
        cause: String,
    },
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(Difference::to_string).collect::<Vec<_>>().join("; ")
}

/// Why a log in Kafka cannot be opened. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The topic or the brokers are not as they must be.
    #[error(transparent)]
    Topic(#[from] TopicsError),
    /// The topic takes smaller records than this process writes.
    #[error(
        "topic {topic}: max.message.bytes is {found} and must be at least {wanted}, or large records would be refused: raise it, or lower `ingest.record_bytes_max`"
    )]
    RecordsTooLarge {
        /// The topic's whole name.
        topic: String,
        /// The least that it must be.
        wanted: usize,
        /// What it is.
        found: usize,
    },
    /// The client could not be started.
    #[error("the Kafka client does not start: {0}")]
    Client(String),
}
