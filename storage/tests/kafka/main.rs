//! The Kafka adapter against a real broker. `server.rs` says where it comes from.

#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used)] // In helpers of tests it is as good as in the tests.

#[macro_use]
mod server;

mod append;
mod cost;
mod drain;
mod group;
mod topics;

use server::Server;
use storage::{conformance::Subject, kafka::KafkaLog};

/// A topic of its own for each law.
struct InTopic {
    server: &'static Server,
    topic: String,
}

impl InTopic {
    fn new(server: &'static Server) -> Self {
        Self { server, topic: server::fresh_name("law") }
    }
}

impl Subject for InTopic {
    type Port = KafkaLog;

    async fn fresh(&self) -> KafkaLog {
        let options = self.server.options(&self.topic);
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
        let options = self.server.options(&self.topic);
        KafkaLog::open(options, server::two_partitions()).await.unwrap()
    }
}

mod laws {
    use super::InTopic;

    storage::log_conformance!(InTopic::new(kafka_or_skip!()));
}
