//! Status, dead letters and probes, through both doors.

use std::sync::Arc;

use axum::http::StatusCode;
use domain::{DeadLetterReason, Offset, Partition};
use edge::{access::Principal, paging::TokenKey};
use proto::v1::{self, operations_service_client::OperationsServiceClient};
use query_api::{QueryApi, QueryConfig, dead_letters::DeadLettersRequest};
use serde_json::json;

use crate::{
    http::get,
    support::{Bench, SEPTEMBER, dead_letters, gated, hour, progress},
};

async fn status_of(bench: &Bench) -> v1::GetStatusResponse {
    let service = gated(query_api::grpc::operations_service(bench.api.clone()));
    let mut client = OperationsServiceClient::new(service);
    client.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner()
}

#[tokio::test]
async fn status_has_the_documented_shape_and_the_twin_agrees() {
    let bench = Bench::with(&[], |mut config| {
        config.versions.insert("pulso".to_owned(), "0.1.0".to_owned());
        config
    })
    .await;
    bench.log.skip_offsets(Partition(0), 12);
    bench.progress(progress(0, 10, hour(SEPTEMBER))).await;
    let answer = get(&bench, "/v1/status").await;
    let expected = json!({
        "healthy": true,
        "partitions": [
            {"generation": 1, "partition": 0, "log_end": "12", "folded_to": "10", "lag_records": "2", "folded_time": "2024-09-01T00:00:00Z"},
            {"generation": 1, "partition": 1, "log_end": "0", "folded_to": "0", "lag_records": "0", "folded_time": null},
        ],
        "pulses": {
            "read": "10", "control": "0", "accepted": "10", "duplicate": "0", "late": "0",
            "dead_lettered": "0", "erased": "0",
        },
        "versions": {"pulso": "0.1.0"},
        "problems": [],
    });
    assert_eq!(answer.json(), expected);
    let twin = status_of(&bench).await;
    assert!(twin.healthy && twin.problems.is_empty());
    assert_eq!((twin.partitions[0].log_end, twin.partitions[0].lag_records), (12, 2));
    assert_eq!(twin.partitions[1].folded_time, None);
    assert_eq!(twin.pulses.unwrap().accepted, 10);
    assert_eq!(twin.versions["pulso"], "0.1.0");
}

#[tokio::test]
async fn what_is_wrong_is_said_and_makes_it_unhealthy() {
    let bench = Bench::new(&[]).await;
    bench.ready.not_ready("disk full");
    // Partition 0 lost records that were not folded; the log of partition 1 was made again.
    bench.log.skip_offsets(Partition(0), 30);
    bench.log.expire(Partition(0), Offset(20));
    bench.progress(progress(0, 10, hour(SEPTEMBER))).await;
    bench.progress(progress(1, 10, hour(SEPTEMBER))).await;
    let status = status_of(&bench).await;
    assert!(!status.healthy);
    let [disk, lost, again] = &status.problems[..] else { panic!("{:?}", status.problems) };
    assert_eq!(disk, "store: disk full");
    assert!(lost.starts_with("partition 0: records 10 to 20 left the log"), "{lost}");
    assert!(again.starts_with("partition 1: the store holds records up to 10"), "{again}");
    assert_eq!(status.partitions[1].lag_records, 0);
    assert_eq!(get(&bench, "/v1/status").await.json()["healthy"], false);
}

#[tokio::test]
async fn groups_of_dead_letters_come_in_pages_by_reason_and_tenant() {
    let bench = Bench::new(&[]).await;
    let late = |start, tenant| dead_letters(start, DeadLetterReason::TooLate, tenant, 1_000_000);
    let ahead = dead_letters(0, DeadLetterReason::InTheFuture, "acme", 2);
    bench
        .dead_letters(vec![late(10, "b"), late(10, "acme"), ahead, late(0, ""), late(0, "b")])
        .await;
    for (filter, expected) in [
        (
            "",
            &[
                "0 in_the_future acme",
                "0 too_late ",
                "0 too_late b",
                "10 too_late acme",
                "10 too_late b",
            ][..],
        ),
        ("&reason=too_late", &["0 too_late ", "0 too_late b", "10 too_late acme", "10 too_late b"]),
        ("&tenant=acme", &["0 in_the_future acme", "10 too_late acme"]),
        ("&tenant=b&reason=too_late", &["0 too_late b", "10 too_late b"]),
        ("&tenant=nobody", &[]),
    ] {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let page = get(&bench, &format!("/v1/dlq?page_size=2{filter}{token}")).await.json();
            assert!(page["entries"].as_array().unwrap().len() <= 2);
            for entry in page["entries"].as_array().unwrap() {
                let text = |name: &str| entry[name].as_str().unwrap().to_owned();
                found.push([text("segment_start"), text("reason"), text("tenant")].join(" "));
            }
            match page["next_page_token"].as_str().unwrap() {
                "" => break,
                next => token = format!("&page_token={next}"),
            }
        }
        assert_eq!(found, expected, "{filter}");
        if !token.is_empty() {
            let other = get(&bench, &format!("/v1/dlq?tenant=other{token}")).await;
            assert_eq!(other.json()["reason"], "PAGE_TOKEN_INVALID");
        }
    }
}

#[tokio::test]
async fn a_group_says_how_many_it_has_and_shows_the_first() {
    let bench = Bench::new(&[]).await;
    bench.dead_letters(vec![dead_letters(5, DeadLetterReason::TooLate, "acme", 1_000_000)]).await;
    let expected = json!({
        "partition": 1, "offset": "7", "index": 3, "reason": "too_late", "tenant": "acme",
        "product_sku": "", "time": "2024-09-01T00:00:00Z", "message": "older than 24 h",
        "count": "1000000", "offset_last": "14", "time_first": "2024-08-31T23:00:00Z",
        "time_last": "2024-09-01T01:00:00Z", "segment_start": "5",
    });
    assert_eq!(get(&bench, "/v1/dlq").await.json()["entries"], json!([expected]));
    let one = get(&bench, "/v1/dlq/1/7/3").await;
    let expected = json!({
        "partition": 1, "offset": "7", "index": 3, "reason": "too_late", "tenant": "acme",
        "product_sku": "", "time": "2024-09-01T00:00:00Z", "message": "older than 24 h",
        "count": "1", "offset_last": "7", "time_first": "2024-09-01T00:00:00Z",
        "time_last": "2024-09-01T00:00:00Z", "payload": "cHVsc2U=",
    });
    assert_eq!((one.status, one.json()), (StatusCode::OK, expected));
}

#[tokio::test]
async fn the_twin_lists_groups_without_bytes_and_gives_one_letter_with_them() {
    let bench = Bench::new(&[]).await;
    let others = dead_letters(5, DeadLetterReason::TooLate, "other", 1);
    let group = dead_letters(5, DeadLetterReason::TooLate, "acme", 9);
    bench.dead_letters(vec![group, others]).await;
    let service = gated(query_api::grpc::operations_service(bench.api.clone()));
    let mut client = OperationsServiceClient::new(service);
    let (reason, tenant) = ("too_late".to_owned(), "acme".to_owned());
    let list = v1::ListDeadLettersRequest { reason, tenant, ..Default::default() };
    let listed = client.list_dead_letters(list).await.unwrap().into_inner();
    let [group] = &listed.entries[..] else { panic!("{listed:?}") };
    assert!(group.payload.is_empty() && listed.next_page_token.is_empty());
    assert_eq!((group.count, group.offset_last, group.segment_start), (9, 14, Some(5)));
    let place = v1::GetDeadLetterRequest { partition: 1, offset: 7, index: 3, generation: 0 };
    let one = client.get_dead_letter(place).await.unwrap().into_inner();
    assert_eq!((one.reason.as_str(), one.payload.as_slice()), ("too_late", &b"pulse"[..]));
    let nowhere = v1::GetDeadLetterRequest { index: 4, ..place };
    let status = client.get_dead_letter(nowhere).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    assert_eq!(edge::problem::reason_of(&status).as_deref(), Some("DEAD_LETTER_NOT_FOUND"));
    let early = v1::GetDeadLetterRequest { offset: 100, ..place };
    let status = client.get_dead_letter(early).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert_eq!(edge::problem::reason_of(&status).as_deref(), Some("LOG_NOT_READABLE"));
    assert!(status.message().contains("was not folded yet"), "{status}");
}

#[tokio::test]
async fn outcomes_of_a_request_are_counted_segment_by_segment_in_a_partition_that_is_there() {
    let bench = Bench::new(&[]).await;
    let service = gated(query_api::grpc::operations_service(bench.api.clone()));
    let mut client = OperationsServiceClient::new(service);
    let request = v1::CountOutcomesRequest {
        request_id: "call".to_owned(),
        partition: 1,
        offset_start: 5,
        offset_end: 5 + (1 << 20),
        generation: 1,
    };
    let found = client.count_outcomes(request.clone()).await.unwrap().into_inner();
    let [late] = &found.set_aside[..] else { panic!("{found:?}") };
    assert_eq!((found.counted, found.duplicate, found.next_offset), (995, 0, 1_000));
    assert_eq!((late.reason.as_str(), late.count), ("too_late", 1));
    assert_eq!(late.time_first, late.time_last);
    let refused = [
        ("request_id", v1::CountOutcomesRequest { request_id: String::new(), ..request.clone() }),
        (
            "request_id",
            v1::CountOutcomesRequest { request_id: "a b".to_owned(), ..request.clone() },
        ),
        ("partition", v1::CountOutcomesRequest { partition: 2, ..request.clone() }),
        ("partition", v1::CountOutcomesRequest { partition: 65_537, ..request.clone() }),
        ("generation", v1::CountOutcomesRequest { generation: 2, ..request.clone() }),
        ("offset_end", v1::CountOutcomesRequest { offset_end: 5, ..request.clone() }),
        ("offset_end", v1::CountOutcomesRequest { offset_start: u64::MAX, ..request.clone() }),
    ];
    for (field, request) in refused {
        let status = client.count_outcomes(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{field}: {status}");
        let explained = edge::problem::explain(&status);
        assert!(explained.contains(field), "{field}: {explained}");
    }
}

#[tokio::test]
async fn without_a_log_to_read_the_list_is_given_and_one_letter_is_refused() {
    let bench = Bench::new(&[]).await;
    bench.dead_letters(vec![dead_letters(5, DeadLetterReason::TooLate, "acme", 1)]).await;
    let (store, log) = (Arc::new(bench.store.clone()), Arc::new(bench.log.clone()));
    let config = QueryConfig::new(TokenKey::new([3; 16]));
    let clock = Arc::new(bench.clock.clone());
    let api = QueryApi::new((store, log), clock, bench.health.clone(), config);
    assert_eq!(
        api.dead_letters(&DeadLettersRequest::default(), &Principal::local())
            .await
            .unwrap()
            .entries
            .len(),
        1
    );
    let problem = api.dead_letter((1, 7, 3), "", &Principal::local()).await.unwrap_err();
    assert_eq!(problem.reason, "LOG_NOT_READABLE");
    assert!(problem.to_string().contains("ask one that does"), "{problem}");
}

#[tokio::test]
async fn probes_say_yes_and_no_in_plain_text() {
    let bench = Bench::new(&[]).await;
    let live = get(&bench, "/livez").await;
    assert_eq!((live.status, live.body.as_str()), (StatusCode::OK, "ok\n"));
    for (address, text) in [("/readyz", "ready\n"), ("/readyz?verbose", "[+]store ok\nready\n")] {
        let answer = get(&bench, address).await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, text));
    }
    bench.ready.not_ready("disk full");
    let answer = get(&bench, "/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.body, "[-]store failed: disk full\nnot ready\n");
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    assert!(!bench.health.report().is_ready());
    let metrics = get(&bench, "/metrics").await;
    assert_eq!(metrics.body, "up 1\n");
}
