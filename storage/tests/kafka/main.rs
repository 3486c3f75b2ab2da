//! The Kafka adapter against a real broker, one that all tests share
//! (`storage::conformance::servers`).

#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used)] // In helpers of tests it is as good as in the tests.

/// The shared broker, or an early return from the test.
macro_rules! kafka_or_skip {
    () => {
        &$crate::broker::Broker::new(storage::server_or_skip!(Kafka))
    };
}

#[cfg(feature = "kafka-tls")]
#[path = "../common/fronts.rs"]
mod fronts;

mod append;
mod broker;
mod cost;
mod drain;
mod group;
mod outlet;
#[cfg(feature = "kafka-tls")]
mod tls;
mod topics;

use broker::{Broker, fresh_name, two_partitions};
use storage::{conformance::Subject, kafka::KafkaLog};

/// A topic of its own for each law.
struct InTopic {
    broker: Broker,
    topic: String,
}

impl InTopic {
    fn new(broker: &Broker) -> Self {
        Self { broker: broker.clone(), topic: fresh_name("law") }
    }
}

impl Subject for InTopic {
    type Port = KafkaLog;

    async fn fresh(&self) -> KafkaLog {
        let options = self.broker.options(&self.topic);
        let spec = storage::kafka::topics::TopicSpec::log(&self.topic, 2);
        storage::kafka::topics::apply(&options, &[spec]).await.unwrap();
        self.open().await
    }

    async fn reopen(&self, log: KafkaLog) -> KafkaLog {
        drop(log);
        self.open().await
    }
}

impl InTopic {
    async fn open(&self) -> KafkaLog {
        let options = self.broker.options(&self.topic);
        KafkaLog::open(options, two_partitions()).await.unwrap()
    }
}

mod laws {
    use super::InTopic;

    storage::log_conformance!(InTopic::new(kafka_or_skip!()));
}
