//! Laws of the pulse log.

use std::future::Future as _;

use domain::{
    Offset, Partition, PulseLog,
    log::{LogBounds, LogDrain, LogError},
};

use super::{Subject, together};

const FIRST: Partition = Partition(0);
const SECOND: Partition = Partition(1);

/// Bodies of very different lengths, each recognisable.
fn bodies(count: usize, salt: u8) -> Vec<Vec<u8>> {
    let lengths = [0, 1, 70, 5_000, 40_000, 300_000];
    let body = |i: usize| {
        let length = lengths[i % lengths.len()];
        (0..length).map(|at| (at * 31 + i * 7) as u8 ^ salt).collect()
    };
    (0..count).map(body).collect()
}

/// Everything below `until`, read in steps of `bytes_max`.
fn read_all<L: PulseLog>(
    log: &L,
    partition: Partition,
    until: Offset,
    bytes_max: usize,
) -> Vec<(Offset, Vec<u8>)> {
    let low = Offset(0);
    let mut drain = log.drain(partition, low).unwrap();
    let (mut records, mut next) = (Vec::new(), low);
    while next < until {
        let visit = &mut |record: domain::log::LogRecord<'_>| {
            records.push((record.offset, record.body.to_vec()));
        };
        let on = drain.read(until, bytes_max, visit).unwrap();
        assert!(on > next, "a read must get on: {on} after {next}");
        next = on;
    }
    records
}

async fn all_of<L: PulseLog>(log: &L, partition: Partition) -> Vec<(Offset, Vec<u8>)> {
    read_all(log, partition, log.bounds(partition).await.unwrap().end, 1 << 20)
}

/// See the name.
pub async fn records_come_back_in_order_with_their_bytes<S: Subject<Port: PulseLog>>(subject: &S) {
    let log = subject.fresh().await;
    let sent = bodies(14, 1);
    let mut offsets = log.append(FIRST, sent[..5].to_vec()).await.unwrap();
    offsets.extend(log.append(FIRST, sent[5..].to_vec()).await.unwrap());
    let expected: Vec<_> = offsets.into_iter().zip(sent).collect();
    assert_eq!(all_of(&log, FIRST).await, expected);
    assert_eq!(log.append(FIRST, Vec::new()).await.unwrap(), []);
}

/// See the name.
pub async fn offsets_rise_and_partitions_are_apart<S: Subject<Port: PulseLog>>(subject: &S) {
    let log = subject.fresh().await;
    let mut last: Option<Offset> = None;
    for round in 0..5 {
        for offset in log.append(FIRST, bodies(3, round)).await.unwrap() {
            assert!(last.is_none_or(|last| offset > last), "{offset} after {last:?}");
            last = Some(offset);
        }
        log.append(SECOND, bodies(1, 100 + round)).await.unwrap();
    }
    assert_eq!(all_of(&log, FIRST).await.len(), 15);
    assert_eq!(all_of(&log, SECOND).await.len(), 5);
}

/// See the name.
pub async fn appends_first_polled_in_order_keep_their_order<S: Subject<Port: PulseLog>>(
    subject: &S,
) {
    let log = subject.fresh().await;
    let numbered = |i: u32| vec![i.to_be_bytes().to_vec()];
    let answers = together((0..200).map(|i| log.append(FIRST, numbered(i)))).await;
    let offsets: Vec<Offset> = answers.into_iter().flat_map(Result::unwrap).collect();
    assert!(offsets.is_sorted());
    let read = all_of(&log, FIRST).await;
    let expected = offsets.into_iter().zip((0u32..).map(|i| i.to_be_bytes().to_vec()));
    assert_eq!(read, expected.collect::<Vec<_>>());
}

/// See the name.
pub async fn a_dropped_append_harms_no_other<S: Subject<Port: PulseLog>>(subject: &S) {
    let log = subject.fresh().await;
    let dropped = async {
        let mut append = Box::pin(log.append(FIRST, vec![b"dropped".to_vec()]));
        std::future::poll_fn(|context| {
            let _ = append.as_mut().poll(context);
            std::task::Poll::Ready(())
        })
        .await;
    };
    dropped.await;
    log.append(FIRST, vec![b"kept".to_vec()]).await.unwrap();
    let read: Vec<_> = all_of(&log, FIRST).await.into_iter().map(|(_, body)| body).collect();
    let with = [b"dropped".to_vec(), b"kept".to_vec()];
    assert!(read == with || read == with[1..], "{read:?}");
}

/// See the name.
pub async fn acknowledged_records_are_there_after_a_restart<S: Subject<Port: PulseLog>>(
    subject: &S,
) {
    let log = subject.fresh().await;
    log.append(FIRST, bodies(7, 3)).await.unwrap();
    log.append(SECOND, bodies(2, 4)).await.unwrap();
    let before = (all_of(&log, FIRST).await, all_of(&log, SECOND).await, *log.generation());
    let log = subject.reopen(log).await;
    let after = (all_of(&log, FIRST).await, all_of(&log, SECOND).await, *log.generation());
    assert_eq!(before, after);
    let next = log.append(FIRST, bodies(1, 5)).await.unwrap()[0];
    assert!(next > before.0.last().unwrap().0, "offsets rise over a restart");
}

/// See the name.
pub async fn bounds_are_those_of_the_records<S: Subject<Port: PulseLog>>(subject: &S) {
    let log = subject.fresh().await;
    let LogBounds { low, end } = log.bounds(FIRST).await.unwrap();
    assert_eq!(low, end, "an empty partition");
    let offsets = log.append(FIRST, bodies(4, 1)).await.unwrap();
    let bounds = log.bounds(FIRST).await.unwrap();
    assert!(bounds.low <= offsets[0] && bounds.end > offsets[3], "{bounds:?} of {offsets:?}");
    assert_eq!(log.bounds(SECOND).await.unwrap(), LogBounds { low, end });
}

/// See the name.
pub async fn however_a_drain_is_cut_it_lends_the_same<S: Subject<Port: PulseLog>>(subject: &S) {
    let log = subject.fresh().await;
    log.append(FIRST, bodies(23, 9)).await.unwrap();
    let end = log.bounds(FIRST).await.unwrap().end;
    let whole = all_of(&log, FIRST).await;
    for bytes_max in [0, 1, 71, 45_000, 700_000, usize::MAX] {
        assert_eq!(read_all(&log, FIRST, end, bytes_max), whole, "bytes_max {bytes_max}");
    }
    for (cut, (at, _)) in whole.iter().enumerate() {
        let mut drain = log.drain(FIRST, *at).unwrap();
        let mut read = Vec::new();
        let visit = &mut |record: domain::log::LogRecord<'_>| read.push(record.offset);
        // One record, nothing because `until` is where it stands already, then the rest.
        let next = drain.read(at.next(), usize::MAX, visit).unwrap();
        assert_eq!(drain.read(next, usize::MAX, visit).unwrap(), next);
        assert_eq!(drain.read(end, usize::MAX, visit).unwrap(), end);
        let expected: Vec<Offset> = whole[cut..].iter().map(|(offset, _)| *offset).collect();
        assert_eq!(read, expected);
    }
}

/// See the name.
pub async fn a_read_lends_at_least_one_record_and_about_what_it_may<S: Subject<Port: PulseLog>>(
    subject: &S,
) {
    let log = subject.fresh().await;
    log.append(FIRST, vec![vec![7; 1_000]; 50]).await.unwrap();
    let end = log.bounds(FIRST).await.unwrap().end;
    for (bytes_max, most) in [(0, 1), (999, 1), (10_000, 11)] {
        let mut count = 0;
        let mut drain = log.drain(FIRST, Offset(0)).unwrap();
        let next = drain.read(end, bytes_max, &mut |_| count += 1).unwrap();
        assert!((1..=most).contains(&count), "{count} records for {bytes_max} bytes");
        assert!(next < end);
    }
}

/// See the name.
pub async fn a_read_past_the_end_loses_nothing_that_comes_later<S: Subject<Port: PulseLog>>(
    subject: &S,
) {
    let log = subject.fresh().await;
    log.append(FIRST, bodies(2, 1)).await.unwrap();
    let mut drain = log.drain(FIRST, Offset(0)).unwrap();
    let mut count = 0;
    let far = Offset(1_000);
    assert_eq!(drain.read(far, usize::MAX, &mut |_| count += 1).unwrap(), far);
    log.append(FIRST, bodies(3, 2)).await.unwrap();
    assert_eq!(drain.read(far, usize::MAX, &mut |_| count += 1).unwrap(), far);
    assert_eq!(count, 5);
}

/// See the name.
pub async fn a_drain_beyond_the_end_is_out_of_range<S: Subject<Port: PulseLog>>(subject: &S) {
    let log = subject.fresh().await;
    log.append(FIRST, bodies(2, 1)).await.unwrap();
    let end = log.bounds(FIRST).await.unwrap().end;
    assert!(log.drain(FIRST, end).is_ok(), "the end itself is where the next record comes");
    match log.drain(FIRST, end.next()).err() {
        Some(LogError::OutOfRange { partition: FIRST, wanted, end: found, .. }) => {
            assert_eq!((wanted, found), (end.next(), end));
        }
        other => panic!("{other:?}"),
    }
}

/// See the name.
pub async fn a_partition_that_is_not_there_is_an_error<S: Subject<Port: PulseLog>>(subject: &S) {
    let log = subject.fresh().await;
    let beyond = Partition(log.generation().partitions);
    assert!(log.append(beyond, bodies(1, 1)).await.is_err());
    assert!(log.bounds(beyond).await.is_err());
    assert!(log.drain(beyond, Offset(0)).is_err());
}
