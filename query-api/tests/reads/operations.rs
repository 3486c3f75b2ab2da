//! Status, dead letters and probes, through both doors.

use axum::http::StatusCode;
use domain::{DeadLetterReason, Offset, Partition};
use proto::v1::{self, operations_service_client::OperationsServiceClient};
use serde_json::json;

use crate::{
    http::get,
    support::{Bench, SEPTEMBER, dead_letter, hour, progress},
};

async fn status_of(bench: &Bench) -> v1::GetStatusResponse {
    let service = query_api::grpc::operations_service(bench.api.clone());
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
async fn dead_letters_come_in_pages_and_alone_with_their_bytes() {
    let bench = Bench::new(&[]).await;
    let late = |offset, index| dead_letter(offset, index, DeadLetterReason::TooLate);
    let ahead = dead_letter(8, 0, DeadLetterReason::InTheFuture);
    bench.dead_letters(vec![late(9, 1), late(9, 0), ahead, late(7, 3)]).await;
    let mut places = Vec::new();
    let mut token = String::new();
    loop {
        let address = format!("/v1/dlq?reason=too_late&page_size=2{token}");
        let page = get(&bench, &address).await.json();
        assert!(page["entries"].as_array().unwrap().len() <= 2);
        for entry in page["entries"].as_array().unwrap() {
            assert_eq!(entry.get("payload"), None);
            places.push(format!("{}/{}", entry["offset"].as_str().unwrap(), entry["index"]));
        }
        match page["next_page_token"].as_str().unwrap() {
            "" => break,
            next => token = format!("&page_token={next}"),
        }
    }
    assert_eq!(places, ["7/3", "9/0", "9/1"]);
    let other = get(&bench, &format!("/v1/dlq?page_size=2{token}")).await;
    assert_eq!(other.json()["reason"], "PAGE_TOKEN_INVALID");

    let one = get(&bench, "/v1/dlq/1/7/3").await;
    let expected = json!({
        "partition": 1, "offset": "7", "index": 3, "reason": "too_late", "tenant": "acme",
        "product_sku": "", "time": "2024-09-01T00:00:00Z", "message": "older than 24 h",
        "payload": "cHVsc2U=",
    });
    assert_eq!((one.status, one.json()), (StatusCode::OK, expected));
}

#[tokio::test]
async fn the_twin_lists_dead_letters_without_bytes_and_gives_one_with_them() {
    let bench = Bench::new(&[]).await;
    bench.dead_letters(vec![dead_letter(7, 3, DeadLetterReason::Overflow)]).await;
    let service = query_api::grpc::operations_service(bench.api.clone());
    let mut client = OperationsServiceClient::new(service);
    let list = v1::ListDeadLettersRequest { reason: "overflow".to_owned(), ..Default::default() };
    let listed = client.list_dead_letters(list).await.unwrap().into_inner();
    assert_eq!(listed.entries.len(), 1);
    assert!(listed.entries[0].payload.is_empty() && listed.next_page_token.is_empty());
    let place = v1::GetDeadLetterRequest { partition: 1, offset: 7, index: 3, generation: 0 };
    let one = client.get_dead_letter(place).await.unwrap().into_inner();
    assert_eq!((one.reason.as_str(), one.payload.as_slice()), ("overflow", &b"pulse"[..]));
    let nowhere = v1::GetDeadLetterRequest { index: 4, ..place };
    let status = client.get_dead_letter(nowhere).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    assert_eq!(service::problem::reason_of(&status).as_deref(), Some("DEAD_LETTER_NOT_FOUND"));
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
