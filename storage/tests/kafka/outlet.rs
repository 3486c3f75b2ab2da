//! The topic that follows a queue of messages: the port's laws, and what only a broker can be asked.

use std::{collections::BTreeMap, time::Duration};

use domain::{
    Outlet as _,
    outlet::{Message, OutletError, OutletWriter as _},
};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    config::ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::Headers as _,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use storage::{
    conformance::Subject,
    kafka::{
        KafkaOutlet, OUTLET_BYTES_MAX,
        topics::{self, TopicSpec},
    },
};

use crate::broker::{Broker, fresh_name};

const PARTITIONS: u16 = 3;

struct InTopic {
    broker: Broker,
    topic: String,
}

impl InTopic {
    fn new(broker: &Broker) -> Self {
        Self { broker: broker.clone(), topic: fresh_name("outlet") }
    }

    async fn open(&self) -> KafkaOutlet {
        KafkaOutlet::open(&self.broker.options(&self.topic), &self.topic).await.unwrap()
    }
}

impl Subject for InTopic {
    type Port = KafkaOutlet;

    async fn fresh(&self) -> KafkaOutlet {
        let spec = TopicSpec {
            message_bytes_max: OUTLET_BYTES_MAX,
            ..TopicSpec::log(&self.topic, PARTITIONS)
        };
        topics::apply(&self.broker.options(&self.topic), &[spec]).await.unwrap();
        self.open().await
    }

    async fn reopen(&self, outlet: KafkaOutlet) -> KafkaOutlet {
        drop(outlet);
        self.open().await
    }
}

mod laws {
    use super::InTopic;

    storage::outlet_conformance!(InTopic::new(kafka_or_skip!()));
}

/// Number and bytes of each message, by key, as a reader of what is committed sees them.
fn read(subject: &InTopic) -> BTreeMap<String, Vec<(String, usize)>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &subject.broker.address)
        .set("group.id", &subject.topic)
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "10")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    let mut places = TopicPartitionList::new();
    for partition in 0..i32::from(PARTITIONS) {
        places.add_partition_offset(&subject.topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&places).unwrap();
    let (mut found, mut ends) = (BTreeMap::<_, Vec<_>>::new(), 0);
    while ends < PARTITIONS {
        match consumer.poll(Duration::from_secs(20)).expect("it comes to its end in time") {
            Err(KafkaError::PartitionEOF(_)) => ends += 1,
            record => {
                let record = record.unwrap();
                let key = String::from_utf8(record.key().unwrap().to_vec()).unwrap();
                let headers = record.headers().unwrap();
                let number = String::from_utf8(headers.get(0).value.unwrap().to_vec()).unwrap();
                found.entry(key).or_default().push((number, record.payload().unwrap().len()));
            }
        }
    }
    found
}

fn message(number: u64, key: &str, bytes: usize) -> Message {
    Message { number, key: key.to_owned(), body: vec![b'x'; bytes] }
}

#[tokio::test]
async fn a_reader_finds_each_key_in_order_and_large_messages_whole() {
    let subject = InTopic::new(kafka_or_skip!());
    let outlet = subject.fresh().await;
    let mut writer = outlet.take_over().await.unwrap();
    writer.append(vec![message(1, "a", 10), message(2, "b", 4 << 20)]).await.unwrap();
    writer.append(vec![message(3, "a", 11), message(4, "c", 12)]).await.unwrap();
    let found = read(&subject);
    assert_eq!(found["a"], [("1".to_owned(), 10), ("3".to_owned(), 11)]);
    assert_eq!(found["b"], [("2".to_owned(), 4 << 20)]);
    assert_eq!(found["c"], [("4".to_owned(), 12)]);
    let too_large = writer.append(vec![message(5, "a", OUTLET_BYTES_MAX + 1)]).await;
    assert!(
        matches!(&too_large, Err(OutletError::Unusable(why)) if why.contains("message 5 has")),
        "{too_large:?}"
    );
    assert_eq!(outlet.newest().await, Ok(4));
}

/// A writer that died in the middle of a batch, many times, so that nothing that is committed is near
/// the end.
#[tokio::test]
async fn what_was_under_way_is_ended_and_never_read() {
    let subject = InTopic::new(kafka_or_skip!());
    let outlet = subject.fresh().await;
    outlet.take_over().await.unwrap().append(vec![message(1, "a", 10)]).await.unwrap();
    for _ in 0..3 {
        let dies: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &subject.broker.address)
            .set("transactional.id", &subject.topic)
            .create()
            .unwrap();
        let (topic, within) = (subject.topic.clone(), Duration::from_secs(20));
        let dying = tokio::task::spawn_blocking(move || {
            dies.init_transactions(within).unwrap();
            dies.begin_transaction().unwrap();
            for partition in 0..i32::from(PARTITIONS) {
                for _ in 0..20 {
                    let record = BaseRecord::to(&topic).partition(partition).key("a");
                    dies.send(record.payload("half")).unwrap();
                }
            }
            dies.flush(within).unwrap();
        });
        dying.await.unwrap();
    }
    let mut writer = outlet.take_over().await.unwrap();
    assert_eq!(outlet.newest().await, Ok(1));
    writer.append(vec![message(2, "a", 11)]).await.unwrap();
    assert_eq!(read(&subject)["a"], [("1".to_owned(), 10), ("2".to_owned(), 11)]);
}

#[tokio::test]
async fn a_topic_that_others_write_to_or_that_is_too_small_is_refused() {
    let subject = InTopic::new(kafka_or_skip!());
    let missing = KafkaOutlet::open(&subject.broker.options("x"), &subject.topic).await;
    assert!(missing.err().unwrap().to_string().contains("pulso topics apply"));
    let small = InTopic::new(&subject.broker);
    let options = small.broker.options(&small.topic);
    topics::apply(&options, &[TopicSpec::log(&small.topic, 1)]).await.unwrap();
    let refused = KafkaOutlet::open(&options, &small.topic).await.err().unwrap().to_string();
    assert!(refused.contains("max.message.bytes is 1048588 and must be 5242880"), "{refused}");

    let outlet = subject.fresh().await;
    let other: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &subject.broker.address).create().unwrap();
    let record = BaseRecord::to(&subject.topic).partition(0).key("a").payload("{}");
    other.send(record).unwrap();
    other.flush(Duration::from_secs(20)).unwrap();
    let newest = outlet.newest().await;
    assert!(
        matches!(&newest, Err(OutletError::Unusable(why)) if why.contains("something else writes")),
        "{newest:?}"
    );
}
