//! Appends against a real broker, beyond the port's laws.

use std::time::Duration;

use domain::{
    Offset, Partition, PulseLog as _,
    generation::Generation,
    log::{AppendError, LogDrain as _, LogError},
};
use storage::{
    conformance::together,
    kafka::{Compression, KafkaLog, KafkaOptions, OpenError, TopicsError, topics::TopicSpec},
};

use crate::broker::{Broker, fresh_name, two_partitions};

const FIRST: Partition = Partition(0);

/// Microseconds since 1970 by this machine's clock, which is the broker's too.
fn now_micros() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_micros()).unwrap()
}

#[tokio::test]
async fn append_times_are_the_brokers() {
    let log = kafka_or_skip!().log("times").await;
    let before = now_micros();
    log.append(FIRST, vec![b"pulse".to_vec()]).await.unwrap();
    let mut times = Vec::new();
    log.drain(FIRST, Offset(0))
        .unwrap()
        .read(Offset(1), 1, &mut |record| times.push(record.appended_at.micros()))
        .unwrap();
    let [time] = times[..] else { panic!("{times:?}") };
    // The broker's times are whole milliseconds.
    assert!((before - 1_000..=now_micros()).contains(&time), "{time} before {before}");
}

#[tokio::test]
async fn a_full_queue_hands_the_records_back_and_forgets_nothing_it_took() {
    let broker = kafka_or_skip!();
    let topic = broker.topic("full").await;
    let mut options = broker.options(&topic);
    options.queue_bytes_max = 300_000;
    let log = KafkaLog::open(options, two_partitions()).await.unwrap();
    let body = |i: usize| vec![u8::try_from(i).unwrap(); 40_000];
    let answers = together((0..50).map(|i| log.append(FIRST, vec![body(i)]))).await;
    let (mut taken, mut handed_back) = (Vec::new(), 0);
    for (i, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(offsets) => taken.push((offsets[0], body(i))),
            Err(AppendError::Overloaded { records }) => {
                assert_eq!(records, [body(i)]);
                handed_back += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(taken.len() >= 7 && handed_back > 0, "{} taken, {handed_back} back", taken.len());
    let end = log.bounds(FIRST).await.unwrap().end;
    let mut read = Vec::new();
    let visit = &mut |record: domain::log::LogRecord<'_>| {
        read.push((record.offset, record.body.to_vec()));
    };
    log.drain(FIRST, Offset(0)).unwrap().read(end, usize::MAX, visit).unwrap();
    assert_eq!(read, taken);
}

#[tokio::test]
async fn the_largest_record_fits_alone_and_among_others_and_compressed_or_not() {
    let broker = kafka_or_skip!();
    for compression in [Compression::None, Compression::Lz4] {
        let topic = broker.topic("largest").await;
        let mut options = broker.options(&topic);
        options.compression = compression;
        let log = KafkaLog::open(options, two_partitions()).await.unwrap();
        // Noise, so that compression cannot make it small.
        let mut random = storage::conformance::samples::Random(1);
        let words: Vec<u8> = (0..125_000).flat_map(|_| random.number().to_le_bytes()).collect();
        let bodies = vec![vec![1; 10], words.clone(), words, vec![2; 999_999]];
        assert_eq!(log.append(FIRST, bodies.clone()).await.unwrap().len(), 4);
        let mut read = Vec::new();
        let visit = &mut |record: domain::log::LogRecord<'_>| read.push(record.body.to_vec());
        log.drain(FIRST, Offset(0)).unwrap().read(Offset(4), usize::MAX, visit).unwrap();
        assert!(read == bodies, "{compression:?}");
        let answer = log.append(FIRST, vec![vec![0; 1_000_001]]).await;
        assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{answer:?}");
    }
}

async fn refusal(options: KafkaOptions, generation: Generation) -> OpenError {
    KafkaLog::open(options, generation).await.err().unwrap()
}

#[tokio::test]
async fn a_topic_that_is_not_as_the_log_is_refused_with_the_remedy() {
    let broker = kafka_or_skip!();
    let topic = broker.topic("three").await;
    let three = Generation { partitions: 3, ..two_partitions() };
    let words = refusal(broker.options(&topic), three).await.to_string();
    assert!(words.contains("partitions is 2 and must be 3"), "{words}");

    let missing = fresh_name("missing");
    let words = refusal(broker.options(&missing), two_partitions()).await.to_string();
    assert!(words.contains(&missing) && words.contains("pulso topics apply"), "{words}");

    let small = fresh_name("small");
    let spec = TopicSpec { message_bytes_max: 100_000, ..TopicSpec::log(&small, 2) };
    storage::kafka::topics::apply(&broker.options(&small), &[spec]).await.unwrap();
    let words = refusal(broker.options(&small), two_partitions()).await.to_string();
    assert!(words.contains("max.message.bytes is 100000"), "{words}");
}

#[tokio::test]
async fn a_topic_with_the_producers_clock_is_refused() {
    let broker = kafka_or_skip!();
    let name = fresh_name("clock");
    let spec = TopicSpec {
        timestamps: storage::kafka::topics::TimestampType::CreateTime,
        ..TopicSpec::log(&name, 2)
    };
    storage::kafka::topics::apply(&broker.options(&name), &[spec]).await.unwrap();
    let words = refusal(broker.options(&name), two_partitions()).await.to_string();
    assert!(
        words.contains("message.timestamp.type is CreateTime and must be LogAppendTime"),
        "{words}"
    );
}

#[tokio::test]
async fn brokers_that_do_not_answer_are_named_with_the_setting() {
    let mut options = KafkaOptions::new("127.0.0.1:1", "pulses");
    options.request_timeout = Duration::from_secs(1);
    let started = std::time::Instant::now();
    let error = refusal(options, two_partitions()).await;
    assert!(matches!(error, OpenError::Topic(TopicsError::Unreachable { .. })), "{error:?}");
    let words = error.to_string();
    assert!(words.contains("127.0.0.1:1") && words.contains("`log.url`"), "{words}");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

/// Deletes a topic and makes it again, empty.
async fn make_again(broker: &Broker, topic: &str) {
    broker.delete(topic).await;
    let (options, spec) = (broker.options(topic), [TopicSpec::log(topic, 2)]);
    while storage::kafka::topics::check(&options, &spec).await.is_ok() {}
    storage::kafka::topics::apply(&options, &spec).await.unwrap();
}

#[tokio::test]
async fn nothing_is_acknowledged_into_a_topic_that_was_made_again() {
    let broker = kafka_or_skip!();
    let topic = broker.topic("again").await;
    let open = || KafkaLog::open(broker.options(&topic), two_partitions());
    let (first, second) = (open().await.unwrap(), open().await.unwrap());
    let body = || vec![b"pulse".to_vec()];
    assert_eq!(first.append(FIRST, body()).await.unwrap(), [Offset(0)]);
    assert_eq!(second.bounds(FIRST).await.unwrap().end, Offset(1));

    let proof = LogError::Replaced { partition: FIRST, offset: Offset(0) };
    // The first was acknowledged at that offset, the second was told that there was a record.
    for log in [&first, &second] {
        make_again(broker, &topic).await;
        for partition in [FIRST, Partition(1), FIRST] {
            let answer = log.append(partition, body()).await;
            assert!(
                matches!(&answer, Err(AppendError::Replaced(error)) if *error == proof),
                "{answer:?}"
            );
        }
        assert_eq!(log.bounds(Partition(1)).await.unwrap().end, Offset(0), "nothing came after it");
    }
    let reopened = open().await.unwrap();
    assert_eq!(reopened.append(FIRST, body()).await.unwrap(), [Offset(1)]);
}

#[tokio::test]
async fn a_user_and_a_password_open_the_guarded_listener_and_a_wrong_one_does_not() {
    use storage::kafka::{Mechanism, Protocol, Secret, Security};
    let broker = kafka_or_skip!();
    let Some(address) = &broker.sasl_address else {
        println!("skipped: PULSO_TEST_KAFKA_SASL names no guarded listener of the server");
        return;
    };
    let topic = broker.topic("guarded").await;
    let with = |mechanism, password: &str| {
        let mut options = broker.options(&topic);
        options.brokers.clone_from(address);
        options.request_timeout = Duration::from_secs(3);
        options.security = Security {
            protocol: Protocol::SaslPlaintext,
            mechanism: Some(mechanism),
            username: "pulso".to_owned(),
            password: Secret::new(password),
            ca_file: None,
        };
        options
    };
    let scram = cfg!(feature = "kafka-tls").then_some(Mechanism::ScramSha256);
    for (before, mechanism) in (0..).zip([Some(Mechanism::Plain), scram].into_iter().flatten()) {
        let log = KafkaLog::open(with(mechanism, "pulso-test"), two_partitions()).await.unwrap();
        let offsets = log.append(FIRST, vec![b"pulse".to_vec()]).await.unwrap();
        assert_eq!(offsets, [Offset(before)], "{mechanism:?}");
        assert_eq!(log.bounds(FIRST).await.unwrap().end, Offset(before + 1));
        let words = refusal(with(mechanism, "wrong"), two_partitions()).await.to_string();
        let says_why =
            words.contains("SASL authentication error") && words.contains("settings of `kafka`");
        assert!(says_why && !words.contains("wrong"), "{mechanism:?}: {words}");
    }
}
