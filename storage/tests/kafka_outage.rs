//! The Kafka adapter while its broker hangs or dies or its files are damaged: nothing is acknowledged
//! that is not there, nothing is skipped, and nobody waits for ever. Each test breaks a broker of its
//! own, at the same time as the others theirs.

#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used)] // In helpers of tests it is as good as in the tests.

#[path = "kafka/broker.rs"]
mod broker;

use std::{
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    time::{Duration, Instant},
};

use broker::{Broker, two_partitions};

use domain::{
    Offset, Partition, PulseLog as _,
    log::{AppendError, LogDrain as _, LogError},
};
use storage::{
    conformance::{
        servers::{Kind, Own},
        together,
    },
    kafka::{KafkaDrain, KafkaLog},
};

const FIRST: Partition = Partition(0);
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(4);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a broker that is back may take until it answers for good.
const RECOVERY: Duration = Duration::from_secs(90);
/// What a timeout may be overrun by on a busy machine.
const SLACK: Duration = Duration::from_secs(4);

/// A broker to break.
fn start() -> Option<(Own, Broker)> {
    let own = Own::start(&[Kind::Kafka])?;
    let broker = Broker::new(own.server(Kind::Kafka));
    Some((own, broker))
}

/// A log in a topic of its own, with short timeouts.
async fn log(broker: &Broker, name: &str) -> KafkaLog {
    let mut options = broker.options(&broker.topic(name).await);
    (options.delivery_timeout, options.request_timeout) = (DELIVERY_TIMEOUT, REQUEST_TIMEOUT);
    KafkaLog::open(options, two_partitions()).await.unwrap()
}

fn body(i: u32) -> Vec<u8> {
    i.to_be_bytes().repeat(500)
}

fn read(drain: &mut KafkaDrain, until: Offset) -> (Vec<Vec<u8>>, Result<Offset, LogError>) {
    let mut lent = Vec::new();
    let answer = drain.read(until, usize::MAX, &mut |record| lent.push(record.body.to_vec()));
    (lent, answer)
}

/// Waits for the log to answer again. It may be away once more: a broker that hung for so long that its
/// controller gives it up is told so only when it is back.
async fn recovered(log: &KafkaLog) -> Offset {
    let started = Instant::now();
    loop {
        match log.bounds(FIRST).await {
            Ok(bounds) => return bounds.end,
            Err(error) => assert!(started.elapsed() < RECOVERY, "{error}"),
        }
    }
}

/// Reads to an end, again where the log is away meanwhile.
fn read_all(drain: &mut KafkaDrain, end: Offset) -> Vec<Vec<u8>> {
    let (started, mut all) = (Instant::now(), Vec::new());
    loop {
        let (lent, answer) = read(drain, end);
        all.extend(lent);
        match answer {
            Err(LogError::Unavailable(error)) => assert!(started.elapsed() < RECOVERY, "{error}"),
            answer => {
                assert_eq!(answer, Ok(end));
                return all;
            }
        }
    }
}

#[tokio::test]
async fn a_broker_that_hangs_is_told_in_time_and_nothing_is_acknowledged() {
    let Some((own, broker)) = start() else { return };
    let log = log(&broker, "hangs").await;
    log.append(FIRST, vec![body(0)]).await.unwrap();
    let mut drain = log.drain(FIRST, Offset(0)).unwrap();
    assert_eq!(read(&mut drain, Offset(1)), (vec![body(0)], Ok(Offset(1))));

    own.pause(Kind::Kafka);
    let started = Instant::now();
    let answers = together((1..=5).map(|i| log.append(FIRST, vec![body(i)]))).await;
    assert!(started.elapsed() < DELIVERY_TIMEOUT + SLACK, "{:?}", started.elapsed());
    for answer in answers {
        assert!(matches!(answer, Err(AppendError::Unknown(_))), "{answer:?}");
    }
    let started = Instant::now();
    let answer = log.bounds(FIRST).await;
    assert!(matches!(answer, Err(LogError::Unavailable(_))), "{answer:?}");
    let (lent, answer) = read(&mut drain, Offset(2));
    assert!(lent.is_empty() && matches!(answer, Err(LogError::Unavailable(_))), "{answer:?}");
    assert!(log.drain(FIRST, Offset(0)).is_err());
    assert!(started.elapsed() < 3 * REQUEST_TIMEOUT + SLACK, "{:?}", started.elapsed());
    own.resume(Kind::Kafka);

    // The outcomes were unknown: the records may be there or not, once, and what follows is.
    recovered(&log).await;
    let (started, mut last) = (Instant::now(), 6);
    while let Err(error) = log.append(FIRST, vec![body(last)]).await {
        assert!(started.elapsed() < RECOVERY, "{error}");
        last += 1;
    }
    let lent = read_all(&mut drain, recovered(&log).await);
    assert_eq!(lent.last(), Some(&body(last)));
    assert!(lent.is_sorted_by(|one, next| one < next), "once and in order: {} records", lent.len());
}

#[tokio::test]
async fn what_a_broker_acknowledged_before_it_was_killed_is_there_once_and_in_order() {
    let Some((own, broker)) = start() else { return };
    let log = log(&broker, "killed").await;
    let mut drain = log.drain(FIRST, Offset(0)).unwrap();
    let (first_ack, acked) = tokio::sync::oneshot::channel();
    let appending = tokio::spawn(append_until_it_fails(log.clone(), first_ack));
    acked.await.unwrap();
    own.kill(Kind::Kafka);
    let acknowledged = appending.await.unwrap();
    own.start_again(Kind::Kafka);

    // Where the broker died on its way to the drain, the first read may say so.
    let lent = read_all(&mut drain, recovered(&log).await);
    let numbers: Vec<u32> =
        lent.iter().map(|body| u32::from_be_bytes(body[..4].try_into().unwrap())).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "once and in order: {numbers:?}");
    for number in &acknowledged {
        assert!(numbers.contains(number), "{number} was acknowledged and is lost");
    }
    assert!(log.append(FIRST, vec![body(u32::MAX)]).await.is_ok());
}

/// Appends eight at a time until an outcome is unknown, and gives what was acknowledged.
async fn append_until_it_fails(
    log: KafkaLog,
    first_ack: tokio::sync::oneshot::Sender<()>,
) -> Vec<u32> {
    let mut acknowledged = Vec::new();
    let mut first_ack = Some(first_ack);
    let started = Instant::now();
    for round in 0.. {
        assert!(started.elapsed() < Duration::from_secs(60), "acknowledged by a dead broker");
        let numbers = round * 8..(round + 1) * 8;
        let answers = together(numbers.clone().map(|i| log.append(FIRST, vec![body(i)]))).await;
        let failed = answers.iter().any(Result::is_err);
        let landed = numbers.zip(answers).filter(|(_, answer)| answer.is_ok());
        acknowledged.extend(landed.map(|(number, _)| number));
        if failed {
            break;
        }
        if let Some(first_ack) = first_ack.take() {
            first_ack.send(()).unwrap();
        }
    }
    acknowledged
}

#[tokio::test]
async fn a_damaged_record_is_named_and_never_skipped() {
    let Some((own, broker)) = start() else { return };
    let topic = broker.topic("damaged").await;
    let log = KafkaLog::open(broker.options(&topic), two_partitions()).await.unwrap();
    for i in 0..3 {
        log.append(FIRST, vec![vec![i; 1_000]]).await.unwrap();
    }
    let path = own.home().join(format!("kafka/data/{topic}-0/00000000000000000000.log"));
    let mut file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    let at = bytes.windows(8).position(|window| window == [1; 8]).unwrap() + 500;
    file.seek(SeekFrom::Start(at as u64)).unwrap();
    file.write_all(&[9]).unwrap();
    let mut drain = log.drain(FIRST, Offset(0)).unwrap();
    let mut all = 0;
    for _ in 0..4 {
        let (lent, answer) = read(&mut drain, Offset(3));
        all += lent.len();
        match answer {
            Err(LogError::Damaged { partition: FIRST, offset: Offset(1), .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(all, 1, "only the record before it was lent");
}
