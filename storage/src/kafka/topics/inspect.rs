//! Inspect: what a topic is, from the brokers' metadata and settings.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rdkafka::{
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::super::{
    context::{self, Quiet},
    error::TopicsError,
    options::{KafkaOptions, Security},
};

/// A client that asks the brokers about topics.
pub(in super::super) struct Admin {
    client: Arc<AdminClient<Quiet>>,
    brokers: String,
    security: Security,
    timeout: Duration,
}

/// A topic as it is.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Found {
    pub(in super::super) partitions: u16,
    /// Copies of its first partition.
    pub(super) replication: usize,
    /// Whether every partition has a leader, so that it can be used.
    pub(super) is_led: bool,
    settings: HashMap<String, String>,
}

impl Found {
    /// A setting's value; empty when the brokers do not know it.
    pub(in super::super) fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }
}

/// What the brokers' metadata says about a topic.
struct Shape {
    partitions: u16,
    replication: usize,
    is_led: bool,
}

impl Admin {
    /// Makes no connection yet.
    pub(in super::super) fn new(options: &KafkaOptions) -> Result<Self, TopicsError> {
        options.check().map_err(TopicsError::Options)?;
        let client = options
            .client()
            .create_with_context(Quiet)
            .map_err(|error: KafkaError| TopicsError::Options(error.to_string()))?;
        let (brokers, security) = (options.brokers.clone(), options.security.clone());
        let timeout = options.request_timeout;
        Ok(Self { client: Arc::new(client), brokers, security, timeout })
    }

    pub(super) fn client(&self) -> &AdminClient<Quiet> {
        &self.client
    }

    /// How long a question may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn unreachable(&self, error: &KafkaError) -> TopicsError {
        let cause = context::trouble(self.client.inner());
        let cause =
            self.security.explained(cause.unwrap_or_else(|| error.to_string()), &self.brokers);
        TopicsError::Unreachable { brokers: self.brokers.clone(), waited: self.timeout, cause }
    }

    /// The names of all topics.
    pub(super) async fn names(&self) -> Result<Vec<String>, TopicsError> {
        let (client, timeout) = (Arc::clone(&self.client), self.timeout);
        let asked = tokio::task::spawn_blocking(move || {
            let metadata = client.inner().fetch_metadata(None, timeout)?;
            Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
        });
        let asked = asked.await.expect("asking does not panic");
        asked.map_err(|error| self.unreachable(&error))
    }

    /// The topic as it is, `None` when it is not there.
    pub(in super::super) async fn find(&self, topic: &str) -> Result<Option<Found>, TopicsError> {
        let Some(shape) = self.shape(topic).await? else { return Ok(None) };
        let Some(settings) = self.settings(topic).await? else { return Ok(None) };
        let Shape { partitions, replication, is_led } = shape;
        Ok(Some(Found { partitions, replication, is_led, settings }))
    }

    async fn shape(&self, topic: &str) -> Result<Option<Shape>, TopicsError> {
        let (client, timeout, name) = (Arc::clone(&self.client), self.timeout, topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            let metadata = client.inner().fetch_metadata(Some(&name), timeout)?;
            let Some(topic) = metadata.topics().first() else { return Ok(None) };
            if let Some(error) = topic.error() {
                return Err(KafkaError::MetadataFetch(error.into()));
            }
            let partitions = topic.partitions();
            let replication = partitions.first().map_or(0, |first| first.replicas().len());
            let is_led = partitions.iter().all(|partition| partition.leader() >= 0);
            // Kafka allows more; no log has them, so whatever is compared with it differs.
            let partitions = u16::try_from(partitions.len()).unwrap_or(u16::MAX);
            Ok(Some(Shape { partitions, replication, is_led }))
        });
        match asked.await.expect("asking does not panic") {
            Ok(shape) => Ok(shape.filter(|shape| shape.partitions > 0)),
            Err(KafkaError::MetadataFetch(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::LeaderNotAvailable,
            )) => Ok(None),
            Err(KafkaError::MetadataFetch(code)) if !is_passing(code) => {
                Err(TopicsError::Refused {
                    what: "describe",
                    topic: topic.to_owned(),
                    cause: code.to_string(),
                })
            }
            Err(error) => Err(self.unreachable(&error)),
        }
    }

    async fn settings(&self, topic: &str) -> Result<Option<HashMap<String, String>>, TopicsError> {
        let options = AdminOptions::new().request_timeout(Some(self.timeout));
        let answers = self
            .client
            .describe_configs([&ResourceSpecifier::Topic(topic)], &options)
            .await
            .map_err(|error| self.unreachable(&error))?;
        match answers.into_iter().next() {
            Some(Ok(resource)) => {
                let entries = resource.entries.into_iter();
                Ok(Some(entries.filter_map(|entry| Some((entry.name, entry.value?))).collect()))
            }
            Some(Err(RDKafkaErrorCode::UnknownTopicOrPartition)) | None => Ok(None),
            Some(Err(code)) => {
                let (topic, cause) = (topic.to_owned(), code.to_string());
                Err(TopicsError::Refused { what: "describe", topic, cause })
            }
        }
    }
}

/// Whether a code means that nobody answered, not that somebody refused.
fn is_passing(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::TimedOutQueue
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::BrokerNotAvailable
            | RDKafkaErrorCode::NetworkException
    )
}
