//! Drains against a real broker, beyond the port's laws: nothing is passed over, whatever the topic
//! holds and whenever it comes.

use std::time::{Duration, Instant};

use domain::{
    Offset, Partition, PulseLog as _,
    log::{LogDrain, LogError},
};
use rdkafka::{
    ClientConfig, TopicPartitionList,
    admin::{AdminOptions, AlterConfig, ResourceSpecifier},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use storage::{
    conformance::samples::Random,
    kafka::{KafkaDrain, KafkaLog},
};

use crate::broker::{Broker, two_partitions};

const FIRST: Partition = Partition(0);

async fn delete_below(broker: &Broker, topic: &str, low: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, rdkafka::Offset::Offset(low)).unwrap();
    broker.admin().delete_records(&list, &AdminOptions::new()).await.unwrap();
}

type Lent = Vec<(Offset, Vec<u8>)>;

/// One read: what it lent, and what it answered.
fn read(
    drain: &mut KafkaDrain,
    until: Offset,
    bytes_max: usize,
) -> (Lent, Result<Offset, LogError>) {
    let mut lent = Vec::new();
    let answer = drain.read(until, bytes_max, &mut |record| {
        lent.push((record.offset, record.body.to_vec()));
    });
    (lent, answer)
}

async fn append_each(log: &KafkaLog, count: u8, bytes: usize) {
    for i in 0..count {
        log.append(FIRST, vec![vec![i; bytes]]).await.unwrap();
    }
}

#[tokio::test]
async fn offsets_that_expired_are_out_of_range_at_the_start_and_on_the_way() {
    let broker = kafka_or_skip!();
    let topic = broker.topic("expired").await;
    let mut options = broker.options(&topic);
    (options.fetch_bytes, options.prefetch_bytes_max) = (1 << 10, 1 << 10);
    let log = KafkaLog::open(options, two_partitions()).await.unwrap();
    append_each(&log, 20, 40_000).await;
    let mut on_the_way = log.drain(FIRST, Offset(0)).unwrap();
    let (lent, answer) = read(&mut on_the_way, Offset(20), 1);
    assert_eq!((lent.len(), answer), (1, Ok(Offset(1))));
    delete_below(broker, &topic, 15).await;
    match log.drain(FIRST, Offset(0)).err() {
        Some(LogError::OutOfRange { low: Offset(15), end: Offset(20), .. }) => {}
        other => panic!("{other:?}"),
    }
    // What was read ahead is lent, and then it is said that the rest is gone.
    let (lent, answer) = read(&mut on_the_way, Offset(20), usize::MAX);
    let offsets: Vec<_> = lent.iter().map(|(offset, _)| offset.0).collect();
    assert!(offsets.iter().copied().eq(1..1 + offsets.len() as u64), "{offsets:?}");
    let wanted = Offset(1 + offsets.len() as u64);
    assert!(wanted < Offset(15), "read ahead too far for this test: {wanted}");
    let (partition, low, end) = (FIRST, Offset(15), Offset(20));
    assert_eq!(answer, Err(LogError::OutOfRange { partition, wanted, low, end }));
    let (lent, again) = read(&mut on_the_way, Offset(20), usize::MAX);
    assert!(lent.is_empty() && matches!(again, Err(LogError::OutOfRange { .. })), "{again:?}");
    let (lent, answer) = read(&mut log.drain(FIRST, Offset(15)).unwrap(), end, usize::MAX);
    assert_eq!((lent.len(), answer), (5, Ok(end)));
}

/// Bodies in a transaction, each a batch of its own; a marker takes the offset behind them.
fn transact(producer: &BaseProducer, topic: &str, bodies: &[&str], commits: Verdict) {
    let within = Duration::from_secs(10);
    producer.begin_transaction().unwrap();
    for body in bodies {
        producer.send(BaseRecord::<(), str>::to(topic).partition(0).payload(body)).unwrap();
        producer.flush(within).unwrap();
    }
    match commits {
        Verdict::Commit => producer.commit_transaction(within).unwrap(),
        Verdict::Abort => producer.abort_transaction(within).unwrap(),
    }
}

enum Verdict {
    Commit,
    Abort,
}

#[tokio::test]
async fn records_behind_gaps_are_found_and_a_gap_at_the_end_is_no_wait() {
    let broker = kafka_or_skip!();
    let topic = broker.topic("gaps").await;
    let log = KafkaLog::open(broker.options(&topic), two_partitions()).await.unwrap();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &broker.address)
        .set("transactional.id", &topic)
        .create()
        .unwrap();
    producer.init_transactions(Duration::from_secs(30)).unwrap();
    append_each(&log, 2, 10).await;
    transact(&producer, &topic, &["c2", "c3"], Verdict::Commit);
    transact(&producer, &topic, &["a5", "a6"], Verdict::Abort);
    append_each(&log, 1, 10).await;
    transact(&producer, &topic, &["c9"], Verdict::Commit);
    // Eight records and three markers; brokers write the markers a little later than they say.
    let end = Offset(11);
    let written = Instant::now();
    while log.bounds(FIRST).await.unwrap().end < end {
        assert!(written.elapsed() < Duration::from_secs(10), "no marker came");
    }
    let mut drain = log.drain(FIRST, Offset(0)).unwrap();
    let started = Instant::now();
    let (lent, answer) = read(&mut drain, end, usize::MAX);
    let bodies: Vec<_> = lent.iter().map(|(_, body)| &body[..]).collect();
    assert_eq!(bodies, [&[0; 10][..], &[1; 10], b"c2", b"c3", &[0; 10], b"c9"]);
    assert!(lent.is_sorted() && answer == Ok(end), "{answer:?}");
    // However it is cut, also within a gap.
    let (mut cut, mut pieces) = (log.drain(FIRST, Offset(0)).unwrap(), Vec::new());
    for until in 1..=end.0 {
        let (piece, answer) = read(&mut cut, Offset(until), usize::MAX);
        assert_eq!(answer, Ok(Offset(until)));
        pieces.extend(piece);
    }
    assert_eq!(pieces, lent);
    // The same end again, and an end far beyond it, though the client has said its word already.
    for until in [end, Offset(1_000)] {
        let (lent, answer) = read(&mut drain, until, usize::MAX);
        assert_eq!((lent.len(), answer), (0, Ok(until)));
    }
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    append_each(&log, 3, 10).await;
    let (lent, answer) = read(&mut drain, Offset(14), usize::MAX);
    assert_eq!((lent.len(), answer), (3, Ok(Offset(14))));
}

/// A drain stays open while records come at random moments, as the consumer stage keeps it: every
/// read up to an end that the log told lends every record below it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_stays_open_passes_nothing_over() {
    let broker = kafka_or_skip!();
    for seed in 0..4 {
        let log = broker.log("open").await;
        let appending = tokio::spawn(append_at_random(log.clone(), seed));
        let draining = tokio::task::spawn_blocking(move || drain_at_random(&log, seed));
        let (appended, drained) = (appending.await.unwrap(), draining.await.unwrap());
        assert_eq!(drained, appended, "seed {seed}");
    }
}

const ROUNDS: u64 = 40;
const LAST: &[u8] = b"the last";

/// Appends small and large, singly and together, with pauses from none to longer than a silence.
async fn append_at_random(log: KafkaLog, seed: u64) -> Lent {
    let mut random = Random(seed);
    let mut appended = Vec::new();
    for round in 0..ROUNDS {
        let mut bodies: Vec<Vec<u8>> = (0..=random.below(4))
            .map(|i| vec![(round + i) as u8; random.pick(&[0, 3, 900, 70_000])])
            .collect();
        if round + 1 == ROUNDS {
            bodies = vec![LAST.to_vec()];
        }
        let offsets = log.append(FIRST, bodies.clone()).await.unwrap();
        appended.extend(offsets.into_iter().zip(bodies));
        let pause = random.pick(&[0, 0, 5, 40, 160, 260]);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    appended
}

fn drain_at_random(log: &KafkaLog, seed: u64) -> Lent {
    let mut random = Random(seed ^ 0xdead);
    let runtime = tokio::runtime::Handle::current();
    let mut drain = log.drain(FIRST, Offset(0)).unwrap();
    let (mut drained, mut next) = (Vec::new(), Offset(0));
    while drained.last().is_none_or(|(_, body): &(_, Vec<u8>)| body != LAST) {
        let end = runtime.block_on(log.bounds(FIRST)).unwrap().end;
        // Sometimes further than the log goes; what comes meanwhile may be lent or not.
        let until = Offset(end.0 + random.pick(&[0, 0, 0, 3]));
        while next < until {
            let (lent, answer) = read(&mut drain, until, random.pick(&[1, 5_000, 1 << 20]));
            drained.extend(lent);
            next = answer.unwrap();
        }
        let all = drained.iter().map(|(offset, _)| offset.0);
        assert!(all.eq(0..drained.len() as u64), "seed {seed}: something is missing");
        assert!(drained.len() as u64 >= end.0, "seed {seed}: nothing below {end} is left out");
        next = Offset(drained.len() as u64);
        std::thread::sleep(Duration::from_millis(random.pick(&[0, 0, 10, 200, 420])));
    }
    drained
}

#[tokio::test]
async fn a_record_without_an_append_time_stops_the_drain_and_names_the_setting() {
    let broker = kafka_or_skip!();
    let topic = broker.topic("altered").await;
    let log = KafkaLog::open(broker.options(&topic), two_partitions()).await.unwrap();
    log.append(FIRST, vec![b"first".to_vec()]).await.unwrap();
    let change = AlterConfig::new(ResourceSpecifier::Topic(&topic))
        .set("message.timestamp.type", "CreateTime");
    broker.admin().alter_configs([&change], &AdminOptions::new()).await.unwrap();
    log.append(FIRST, vec![b"second".to_vec()]).await.unwrap();
    let (lent, answer) = read(&mut log.drain(FIRST, Offset(0)).unwrap(), Offset(2), usize::MAX);
    assert_eq!(lent.len(), 1);
    match answer {
        Err(LogError::Fatal(words)) => assert!(words.contains("message.timestamp.type"), "{words}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_record_without_a_body_is_an_empty_one() {
    let broker = kafka_or_skip!();
    let topic = broker.topic("tombstone").await;
    let log = KafkaLog::open(broker.options(&topic), two_partitions()).await.unwrap();
    let other: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &broker.address).create().unwrap();
    other.send(BaseRecord::<(), ()>::to(&topic).partition(0)).unwrap();
    other.flush(Duration::from_secs(10)).unwrap();
    let (lent, answer) = read(&mut log.drain(FIRST, Offset(0)).unwrap(), Offset(1), 1);
    assert_eq!((lent, answer), (vec![(Offset(0), Vec::new())], Ok(Offset(1))));
}
