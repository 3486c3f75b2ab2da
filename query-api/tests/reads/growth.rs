//! A log in two generations: what each holds back, and where its dead letters are.

use std::sync::Arc;

use domain::{
    Clock as _, DeadLetterReason, Epoch, LogId, Offset, Partition, Timestamp, UsageStore,
    WindowLength, epochs::LogEvent, segment::Progress, store::Flush,
};
use edge::{access::Principal, paging::TokenKey, problem::reasons};
use query_api::{
    QueryApi, QueryConfig, ReadGeneration,
    dead_letters::DeadLettersRequest,
    usage::request::{FieldNames, Moment, UsageRequest},
};
use storage::memory::{MemoryLog, MemoryUsageStore};

use crate::support::{Bench, Letters, SEPTEMBER, Usage, dead_letters, generation, hour, progress};

type Api = QueryApi<MemoryUsageStore, MemoryLog>;

const NEXT: LogId = LogId([8; 16]);

/// The bench's log with 2 partitions, and its next generation with 3.
async fn grown(bench: &Bench) -> (Api, MemoryLog) {
    let next = generation().grown(NEXT, 3);
    bench.store.register(&next, Some(generation().log_id)).await.unwrap();
    let newest = MemoryLog::new(next, Arc::new(|| Timestamp::EPOCH));
    let config = QueryConfig::new(TokenKey::new([3; 16]));
    let (ports, clock) =
        ((Arc::new(bench.store.clone()), Arc::new(newest.clone())), Arc::new(bench.clock.clone()));
    let older = ReadGeneration { generation: generation(), log: Some(Arc::new(bench.log.clone())) };
    let api = QueryApi::new(ports, clock, bench.health.clone(), config).after([older]);
    (api.folding_again(Arc::new(Letters)), newest)
}

/// The bench's log with windows of an hour, and its next generation with windows of 15 minutes.
async fn grown_shorter(bench: &Bench) -> Api {
    let next = generation().grown(NEXT, 2).with_windows(WindowLength::QUARTER_HOUR);
    bench.store.register(&next, Some(generation().log_id)).await.unwrap();
    let newest = Arc::new(MemoryLog::new(next, Arc::new(|| Timestamp::EPOCH)));
    let ports = (Arc::new(bench.store.clone()), newest);
    let config = QueryConfig::new(TokenKey::new([3; 16]));
    let older = ReadGeneration { generation: generation(), log: Some(Arc::new(bench.log.clone())) };
    let clock = Arc::new(bench.clock.clone());
    QueryApi::new(ports, clock, bench.health.clone(), config).after([older])
}

/// Days of Kolkata begin at 18:30 of the day before in UTC. On the 2nd that is inside an hour that the
/// log counted as one window; on the 4th it is an edge.
#[tokio::test]
async fn days_of_a_grown_log_are_told_apart_where_its_windows_let_them() {
    let bench = Bench::new(&[
        Usage::of("acme", "vm", 17, "1"),
        Usage::of("acme", "vm", 18, "2").from(0, 1),
        Usage::of("acme", "vm", 19, "4").from(0, 2),
    ])
    .await;
    let api = grown_shorter(&bench).await;
    for (hour, minute, amount) in [(66, 15, "8"), (66, 30, "16")] {
        let usage = Usage::of("acme", "vm", hour, amount);
        bench.store.flush(usage.flush_in(NEXT, minute).into()).await.unwrap();
    }
    let ask = async |from: &str, to: &str, window: &str| {
        let moment = |text: &str| Some(Moment::Text(text.to_owned()));
        let request = UsageRequest {
            from: moment(from),
            to: moment(to),
            window: window.to_owned(),
            time_zone: "Asia/Kolkata".to_owned(),
            ..UsageRequest::default()
        };
        let answered = api.usage(&request, FieldNames::HTTP, &Principal::local()).await;
        let row =
            |row: &query_api::usage::UsageTotal| format!("{} {}", row.window.start, row.total.sum);
        answered.map(|answer| answer.rows.iter().map(row).collect::<Vec<_>>())
    };
    for (from, to, window) in [
        ("2024-09-01", "2024-09-03", "P1D"),
        ("2024-09-01", "2024-09-02", "total"),
        ("2024-09-02", "2024-09-03", "total"),
        ("2024-09-01T18:45:00Z", "2024-09-01T20:00:00Z", "PT1H"),
    ] {
        let problem = ask(from, to, window).await.unwrap_err();
        assert_eq!(problem.reason, reasons::WINDOWS_TOO_LONG, "{from} {to} {window}");
        let said = "counted 2024-09-01T18:00:00Z to 2024-09-01T19:00:00Z as one window";
        assert!(problem.to_string().contains(said), "{problem}");
    }
    for (from, to, window, rows) in [
        (
            "2024-09-03",
            "2024-09-05",
            "P1D",
            &["2024-09-02T18:30:00Z 8", "2024-09-03T18:30:00Z 16"][..],
        ),
        ("2024-09-04", "2024-09-05", "total", &["2024-09-03T18:30:00Z 16"]),
        ("2024-09-01T18:00:00Z", "2024-09-05", "total", &["2024-09-01T18:00:00Z 30"]),
        (
            "2024-09-01T18:00:00Z",
            "2024-09-02T00:00:00Z",
            "PT1H",
            &["2024-09-01T18:00:00Z 2", "2024-09-01T19:00:00Z 4"],
        ),
        ("2024-09-03T18:15:00Z", "2024-09-03T18:45:00Z", "PT1H", &["2024-09-03T18:15:00Z 24"]),
    ] {
        assert_eq!(ask(from, to, window).await.unwrap(), rows, "{from} {to} {window}");
    }
}

async fn as_of(api: &Api) -> Option<Timestamp> {
    let moment = |at: Timestamp| Some(Moment::Text(at.to_string()));
    let (from, to) = (moment(hour(SEPTEMBER)), moment(hour(SEPTEMBER + 1)));
    let window = "PT1H".to_owned();
    let request = UsageRequest { from, to, window, ..UsageRequest::default() };
    api.usage(&request, FieldNames::HTTP, &Principal::local()).await.unwrap().freshness.as_of
}

#[tokio::test]
async fn a_generation_holds_back_what_waits_in_it_and_nothing_once_it_has_ended() {
    let bench = Bench::new(&[]).await;
    bench.log.skip_offsets(Partition(0), 12);
    for (partition, at) in [(0, 5), (1, 6)] {
        bench.progress(progress(partition, 10, hour(SEPTEMBER + at))).await;
    }
    let (api, newest) = grown(&bench).await;
    assert_eq!(as_of(&api).await, Some(hour(SEPTEMBER + 5)), "nothing is in the new one");
    // It takes pulses, and waits for the end of the one before.
    newest.skip_offsets(Partition(2), 4);
    assert_eq!(as_of(&api).await, None);
    let lag = |status: &query_api::status::Status| {
        let partitions = status.partitions.iter();
        partitions.map(|p| (p.generation, p.partition.0, p.lag_records())).collect::<Vec<_>>()
    };
    let waiting = [(1, 0, 2), (1, 1, 0), (2, 0, 0), (2, 1, 0), (2, 2, 4)];
    assert_eq!(lag(&api.status().await), waiting);

    let sealed = LogEvent::Sealed {
        log_id: generation().log_id,
        epoch: Epoch(0),
        ends: vec![Offset(10), Offset(0)],
    };
    bench.store.append_log_event(0, &sealed).await.unwrap();
    for partition in 0..3 {
        let progress = Progress { log_id: NEXT, ..progress(partition, 4, hour(SEPTEMBER + 7)) };
        let segment = domain::SegmentId {
            log_id: NEXT,
            partition: Partition(partition),
            epoch: Epoch(0),
            start: Offset(0),
        };
        let progress = Some(progress);
        let flush = Flush {
            segment,
            rows: vec![],
            stored_before: vec![],
            dead_letters: vec![],
            close: None,
            progress,
        };
        bench.store.flush(flush.into()).await.unwrap();
    }
    newest.skip_offsets(Partition(0), 4);
    newest.skip_offsets(Partition(1), 4);
    assert_eq!(as_of(&api).await, Some(bench.clock.now()), "all of the new one is counted");
    // What may stand behind its end is no lag; what was counted of it still counts.
    let status = api.status().await;
    assert!(status.is_healthy(), "{:?}", status.problems);
    assert_eq!(lag(&status).iter().map(|(.., lag)| lag).sum::<u64>(), 0);
    assert_eq!(status.pulses.accepted, 2 * 10 + 3 * 4);
}

#[tokio::test]
async fn dead_letters_of_a_generation_are_asked_for_by_its_number() {
    let bench = Bench::new(&[]).await;
    bench.dead_letters(vec![dead_letters(7, DeadLetterReason::AfterSeal, "a", 3)]).await;
    let (api, _) = grown(&bench).await;
    let list = async |generation: &str| {
        let generation = generation.to_owned();
        api.dead_letters(
            &DeadLettersRequest { generation, ..Default::default() },
            &Principal::local(),
        )
        .await
    };
    for (generation, letters) in [("", 0), ("1", 1), ("2", 0)] {
        assert_eq!(list(generation).await.unwrap().entries.len(), letters, "{generation:?}");
        let one = api.dead_letter((1, 7, 3), generation, &Principal::local()).await;
        assert_eq!(one.is_ok(), letters == 1, "{generation:?}");
    }
    for wrong in ["0", "3", "-1", "x"] {
        let problem = list(wrong).await.unwrap_err();
        assert!(problem.to_string().contains("1 to 2"), "{problem}");
        assert_eq!(problem.violations[0].field, "generation");
        assert_eq!(problem.violations[0].reason, reasons::PARAMETER_INVALID);
    }
}
