//! What the embedded log promises beyond its port: bounds, checkpoints, the clock, and its end.

#![allow(clippy::unwrap_used)] // In helpers of tests it is as good as in the tests.

mod common;

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use common::{FIRST, SECOND, directory, open_log, options, other_program, read_all};
use domain::{
    LogId, Offset, PulseLog, Timestamp, WindowLength,
    log::{AppendError, LogDrain as _, LogError},
};
use storage::{
    conformance::{samples::generation, together},
    embedded::{EmbeddedLog, FatalHook, LOG_FILE, LogOptions, OpenError},
};

#[tokio::test]
async fn a_record_that_is_too_large_is_refused_alone_and_ends_nothing() {
    let home = tempfile::tempdir().unwrap();
    let log = open_log(home.path()).unwrap();
    // Zeros that nobody touches cost no memory.
    let records = [vec![1], vec![0; (256 << 20) + 1], vec![2]];
    let answers = together(records.map(|record| log.append(FIRST, vec![record]))).await;
    let [Ok(_), Err(AppendError::Unavailable(why)), Ok(_)] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert!(why.contains("268435457 bytes") && why.contains("at most 268435456"), "{why}");
    let kept = read_all(&log, FIRST, Offset(2));
    assert_eq!(kept.into_iter().map(|(_, body)| body).collect::<Vec<_>>(), [[1], [2]]);
}

#[tokio::test]
async fn what_is_trimmed_is_gone_for_good_and_its_room_is_given_back() {
    let home = tempfile::tempdir().unwrap();
    let log = open_log(home.path()).unwrap();
    for _ in 0..1_000 {
        log.append(FIRST, vec![vec![7; 8_000]]).await.unwrap();
    }
    log.append(SECOND, vec![vec![1]]).await.unwrap();
    let mut reading = log.drain(FIRST, Offset(10)).unwrap();
    assert_eq!(log.trim(FIRST, Offset(900)).await.unwrap(), 900);
    assert_eq!(log.trim(FIRST, Offset(900)).await.unwrap(), 0);
    assert_eq!(log.trim(SECOND, Offset(9)).await.unwrap(), 0, "the last record stays");
    let read = reading.read(Offset(20), 1, &mut |record| panic!("{record:?} is gone"));
    assert!(matches!(read, Err(LogError::OutOfRange { low: Offset(900), .. })), "{read:?}");
    assert!(log.drain(FIRST, Offset(899)).is_err());
    log.close();
    drop((log, reading));
    let log = open_log(home.path()).unwrap();
    let bounds = log.bounds(FIRST).await.unwrap();
    assert_eq!((bounds.low, bounds.end), (Offset(900), Offset(1_000)));
    assert_eq!(log.append(FIRST, vec![vec![2]]).await.unwrap(), [Offset(1_000)]);
    assert_eq!(log.append(SECOND, vec![vec![2]]).await.unwrap(), [Offset(1)]);
    assert_eq!(log.trim(FIRST, Offset(u64::MAX)).await.unwrap(), 100);
    log.close();
    let bytes = std::fs::metadata(home.path().join(LOG_FILE)).unwrap().len();
    assert!(bytes < 4 << 20, "{bytes} bytes are left of 8 MB");
}

#[tokio::test]
async fn a_full_queue_hands_the_records_back_at_once() {
    for (bound, record_bytes, requests_max, bytes_max) in
        [("requests", 10, 2, usize::MAX), ("bytes", 1_000, 1_000, 2_500)]
    {
        let home = tempfile::tempdir().unwrap();
        let options = LogOptions {
            queue_requests_max: requests_max,
            queue_bytes_max: bytes_max,
            ..options()
        };
        let log = EmbeddedLog::open(&directory(home.path()).unwrap(), options).unwrap();
        // Another program holds the file, so the writer stands at its BEGIN and the queue fills.
        let other = other_program(home.path(), LOG_FILE);
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let record = vec![7; record_bytes];
        let mut waiting = Vec::new();
        let handed_back = loop {
            let mut append = Box::pin(log.append(FIRST, vec![record.clone()]));
            match append.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => waiting.push(append),
                Poll::Ready(Err(AppendError::Overloaded { records })) => break records,
                Poll::Ready(other) => panic!("{bound}: {other:?}"),
            }
            assert!(waiting.len() < 10, "{bound}: the queue has no bound");
        };
        assert_eq!(handed_back, std::slice::from_ref(&record));
        other.execute_batch("ROLLBACK").unwrap();
        let waited = waiting.len();
        for append in together(waiting).await {
            append.unwrap();
        }
        // There is room again, and what was handed back is not in the log.
        log.append(FIRST, handed_back).await.unwrap();
        let end = log.bounds(FIRST).await.unwrap().end;
        assert_eq!(end, Offset(waited as u64 + 1));
    }
}

#[tokio::test]
async fn a_request_larger_than_the_queue_passes_when_it_is_alone() {
    let home = tempfile::tempdir().unwrap();
    let options = LogOptions { queue_bytes_max: 100, ..options() };
    let log = EmbeddedLog::open(&directory(home.path()).unwrap(), options).unwrap();
    assert_eq!(log.append(FIRST, vec![vec![0; 1_000]]).await.unwrap(), [Offset(0)]);
}

#[tokio::test]
async fn a_clock_more_than_ten_minutes_behind_the_last_append_is_refused() {
    const NOW: i64 = 1_700_000_000_000_000;
    const TEN_MINUTES: i64 = 600_000_000;
    let home = tempfile::tempdir().unwrap();
    let micros = Arc::new(AtomicI64::new(NOW));
    let open = || {
        let micros = micros.clone();
        let clock = move || Timestamp::from_micros(micros.load(Ordering::Relaxed)).unwrap();
        let options = LogOptions { clock: Arc::new(clock), ..options() };
        EmbeddedLog::open(&directory(home.path()).unwrap(), options).unwrap()
    };
    let mut log = open();
    log.append(SECOND, vec![b"first".to_vec()]).await.unwrap();
    for reopened in [false, true] {
        if reopened {
            drop(log);
            log = open();
        }
        micros.store(NOW - TEN_MINUTES - 1, Ordering::Relaxed);
        let refused = log.append(FIRST, vec![b"no".to_vec()]).await;
        assert!(matches!(&refused, Err(AppendError::Unavailable(why)) if why.contains("clock")));
        micros.store(NOW - TEN_MINUTES, Ordering::Relaxed);
        log.append(FIRST, vec![b"yes".to_vec()]).await.unwrap();
    }
    let mut times = Vec::new();
    let mut drain = log.drain(FIRST, Offset(0)).unwrap();
    drain.read(Offset(2), 1_000, &mut |record| times.push(record.appended_at.micros())).unwrap();
    assert_eq!(times, [NOW - TEN_MINUTES; 2], "the log says what its clock said");
}

#[tokio::test]
async fn after_a_failure_every_caller_is_told_unknown_and_the_process_is_told_to_end() {
    let home = tempfile::tempdir().unwrap();
    let (hook, reasons) = mpsc::channel();
    let fatal = FatalHook::new(move |what| hook.send(what.to_owned()).unwrap());
    let log =
        EmbeddedLog::open(&directory(home.path()).unwrap(), LogOptions { fatal, ..options() })
            .unwrap();
    log.append(FIRST, vec![b"kept".to_vec()]).await.unwrap();
    let other = other_program(home.path(), LOG_FILE);
    other.execute_batch("ALTER TABLE record RENAME TO elsewhere").unwrap();
    let failed = log.append(FIRST, vec![b"lost".to_vec()]).await;
    assert!(matches!(failed, Err(AppendError::Unknown(_))), "{failed:?}");
    assert!(reasons.recv().unwrap().contains("no such table"));
    assert!(reasons.recv().is_err(), "the hook is called once, and its writer has ended");
    let after = log.append(FIRST, vec![b"refused".to_vec()]).await;
    assert!(matches!(after, Err(AppendError::Unavailable(_))), "{after:?}");
    other.execute_batch("ALTER TABLE elsewhere RENAME TO record").unwrap();
    drop(log);
    let log = open_log(home.path()).unwrap();
    assert_eq!(read_all(&log, FIRST, Offset(1)), [(Offset(0), b"kept".to_vec())]);
}

#[tokio::test]
async fn a_closed_log_takes_nothing_and_leaves_one_whole_file() {
    let home = tempfile::tempdir().unwrap();
    let log = open_log(home.path()).unwrap();
    let mut queued = pin!(log.append(FIRST, vec![b"queued".to_vec()]));
    assert!(queued.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    // A reader's connection keeps SQLite from doing it by itself.
    let _reader = log.drain(FIRST, Offset(0)).unwrap();
    log.close();
    log.close();
    assert_eq!(queued.await.unwrap(), [Offset(0)], "what was queued is done first");
    let after = log.append(FIRST, vec![b"late".to_vec()]).await;
    assert!(matches!(after, Err(AppendError::Unavailable(_))), "{after:?}");
    let wal = std::fs::metadata(home.path().join("log.db-wal")).map_or(0, |wal| wal.len());
    assert_eq!(wal, 0, "the write-ahead log is in the file");
    assert_eq!(read_all(&log, FIRST, Offset(1)).len(), 1, "it can still be read");
}

#[tokio::test]
async fn the_write_ahead_log_is_begun_anew_under_load() {
    const MIB: usize = 1 << 20;
    let home = tempfile::tempdir().unwrap();
    let options = LogOptions { wal_bytes_target: MIB as u64, ..options() };
    let log = EmbeddedLog::open(&directory(home.path()).unwrap(), options).unwrap();
    for _ in 0..96 {
        log.append(FIRST, vec![vec![1; MIB]]).await.unwrap();
    }
    let wal = std::fs::metadata(home.path().join("log.db-wal")).unwrap().len();
    assert!(wal < 64 * MIB as u64, "the write-ahead log has {wal} bytes after 96 MiB");
}

#[test]
fn a_log_keeps_the_generation_it_was_made_with() {
    let home = tempfile::tempdir().unwrap();
    let first = *open_log(home.path()).unwrap().generation();
    assert_eq!(first.partitions, 2);
    assert_ne!(first.log_id, LogId([0; 16]), "the identity is drawn, not given");
    assert_ne!(first.hash_seed, generation(LogId([0; 16])).hash_seed, "and so is the seed");
    let open = |partitions, defaults| {
        let options = LogOptions { partitions, defaults, ..options() };
        EmbeddedLog::open(&directory(home.path()).unwrap(), options).map(|log| *log.generation())
    };
    let mut other = generation(LogId([9; 16]));
    other.partitions = 8;
    other.segment_records_max = 5;
    assert_eq!(open(None, other).unwrap(), first);
    assert_eq!(open(Some(2), other).unwrap(), first);
    let error = open(Some(8), other).unwrap_err();
    assert!(matches!(&error, OpenError::Partitions { wanted: 8, stored: 2, .. }));
    assert!(error.to_string().contains("has 2 partitions, but 8 are configured"), "{error}");
}

#[test]
fn a_log_keeps_the_windows_it_was_made_with_and_refuses_others_that_are_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let quarter = WindowLength::new(Duration::from_secs(900)).unwrap();
    let open = |window, defaults| {
        let options = LogOptions { window, defaults, ..options() };
        EmbeddedLog::open(&directory(home.path()).unwrap(), options).map(|log| *log.generation())
    };
    let hours = generation(LogId([0; 16]));
    let first = open(Some(quarter), hours).unwrap();
    assert_eq!(first.window, quarter);
    for window in [None, Some(quarter)] {
        assert_eq!(open(window, hours).unwrap(), first, "a default is not asked for");
    }
    let error = open(Some(WindowLength::HOUR), hours).unwrap_err();
    assert!(matches!(error, OpenError::Windows { .. }));
    assert!(error.to_string().contains("has windows of 15m, but 1h are configured"), "{error}");
}

#[test]
fn parameters_that_do_not_fit_together_make_no_log() {
    let home = tempfile::tempdir().unwrap();
    let mut defaults = generation(LogId([0; 16]));
    defaults.lateness = defaults.horizon;
    let options = LogOptions { defaults, ..options() };
    let error = EmbeddedLog::open(&directory(home.path()).unwrap(), options).err().unwrap();
    assert!(matches!(error, OpenError::Generation(_)), "{error}");
    // Nothing was decided: the next try may bring better ones.
    open_log(home.path()).unwrap();
}
