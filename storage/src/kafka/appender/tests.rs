//! The appender without a real broker: nobody there, and a broker that puts the producer out of
//! step.

use std::time::{Duration, Instant};

use domain::Offset;
use rdkafka::{mocking::MockCluster, types::RDKafkaRespErr};

use super::*;
use crate::kafka::KafkaOptions;

fn messages(bodies: &[Vec<u8>]) -> Vec<Message> {
    bodies.iter().cloned().map(Message::from).collect()
}

const FIRST: Partition = Partition(0);

fn appender(brokers: &str, queue_bytes_max: usize, timeout: Duration) -> Appender {
    let mut options = KafkaOptions::new(brokers, "pulses");
    options.delivery_timeout = timeout;
    Appender::new("pulses", options.producer(1_000_000), queue_bytes_max, 1_000_000).unwrap()
}

/// Port 1 (tcpmux) is closed on every machine that runs these tests.
const NOBODY: &str = "127.0.0.1:1";

#[tokio::test]
async fn without_a_broker_the_outcome_is_unknown_in_time_and_the_room_comes_back() {
    let timeout = Duration::from_millis(1_500);
    let appender = appender(NOBODY, 100_000, timeout);
    let started = Instant::now();
    let first = appender.hand_over(FIRST, messages(&[vec![1; 60_000], Vec::new()])).unwrap();
    let sent = vec![vec![2; 60_000], vec![3; 5]];
    match appender.hand_over(FIRST, messages(&sent)) {
        Err(AppendError::Overloaded { records }) => assert_eq!(records, sent),
        other => panic!("{other:?}"),
    }
    let answer = first.await.unwrap();
    assert!(matches!(answer, Err(AppendError::Unknown(_))), "{answer:?}");
    assert!(started.elapsed() < timeout + Duration::from_secs(3), "{:?}", started.elapsed());
    assert!(appender.hand_over(FIRST, messages(&sent)).is_ok(), "the room was given back");
}

#[tokio::test]
async fn a_record_that_the_topic_cannot_take_is_refused_before_anything_is_sent() {
    let appender = appender(NOBODY, 1 << 20, Duration::from_secs(60));
    let answer = appender.hand_over(FIRST, messages(&[vec![0; 10], vec![0; 1_000_001]]));
    match answer {
        Err(AppendError::Unavailable(why)) => assert!(why.contains("1000001 bytes"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_producer_that_has_failed_for_good_is_replaced_by_the_next_append() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("pulses", 1, 1).unwrap();
    let appender = appender(&cluster.bootstrap_servers(), 1 << 20, Duration::from_secs(20));
    let append = async |body: &[u8]| {
        appender.hand_over(FIRST, messages(&[body.to_vec()])).unwrap().await.unwrap()
    };
    assert_eq!(append(b"before").await.unwrap(), [Offset(0)]);
    let out_of_step = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER; 3];
    cluster.request_errors(rdkafka::types::RDKafkaApiKey::Produce, &out_of_step);
    let answer = append(b"out of step").await;
    assert!(matches!(answer, Err(AppendError::Unknown(_))), "{answer:?}");
    cluster.clear_request_errors(rdkafka::types::RDKafkaApiKey::Produce);
    assert!(append(b"after").await.is_ok());
}

#[tokio::test]
async fn a_topic_that_is_gone_is_not_made_by_an_append() {
    let cluster = MockCluster::new(1).unwrap(); // It lets clients make topics.
    let appender = appender(&cluster.bootstrap_servers(), 1 << 20, Duration::from_secs(2));
    let answer = appender.hand_over(FIRST, messages(&[vec![1]])).unwrap().await.unwrap();
    assert!(matches!(answer, Err(AppendError::Unknown(_))), "{answer:?}");
}
