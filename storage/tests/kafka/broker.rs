//! A real broker as these tests use it: topics of a test's own, and options with times that suit one.
#![allow(dead_code)] // Each test binary uses a part of it.

use std::time::Duration;

use domain::generation::Generation;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use storage::{
    conformance::{
        samples::{LOG, generation},
        servers::Server,
    },
    kafka::{
        KafkaLog, KafkaOptions,
        topics::{self, TopicSpec},
    },
};

/// Where it listens.
#[derive(Clone, Debug)]
pub(crate) struct Broker {
    pub(crate) address: String,
    /// With SASL, where the server has such a listener.
    pub(crate) sasl_address: Option<String>,
}

impl Broker {
    pub(crate) fn new(server: &Server) -> Self {
        let Server { address, sasl_address, .. } = server.clone();
        Self { address, sasl_address }
    }

    /// Options for a topic, with times that suit a test.
    pub(crate) fn options(&self, topic: &str) -> KafkaOptions {
        let mut options = KafkaOptions::new(&self.address, topic);
        options.group = format!("{topic}-group");
        options.delivery_timeout = Duration::from_secs(20);
        options
    }

    /// A topic for a log of two partitions, made just now.
    pub(crate) async fn topic(&self, name: &str) -> String {
        let topic = fresh_name(name);
        topics::apply(&self.options(&topic), &[TopicSpec::log(&topic, 2)]).await.unwrap();
        topic
    }

    /// Deletes a topic.
    pub(crate) async fn delete(&self, topic: &str) {
        let deleted = self.admin().delete_topics(&[topic], &AdminOptions::new()).await.unwrap();
        deleted[0].as_ref().unwrap();
    }

    /// For what the adapter does not do.
    pub(crate) fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.address).create().unwrap()
    }

    /// A log in a topic of its own.
    pub(crate) async fn log(&self, name: &str) -> KafkaLog {
        let topic = self.topic(name).await;
        KafkaLog::open(self.options(&topic), two_partitions()).await.unwrap()
    }
}

pub(crate) fn fresh_name(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::new_v4().simple())
}

pub(crate) fn two_partitions() -> Generation {
    generation(LOG)
}
