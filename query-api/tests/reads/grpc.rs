//! `QueryService.QueryUsage`, the twin of `GET /v1/usage`.

use edge::{
    Compute,
    compute::ComputeConfig,
    problem::{explain, reason_of},
};
use proto::v1::{self, query_service_client::QueryServiceClient};
use tonic::Code;

use crate::support::{Bench, SEPTEMBER, Usage, gated, hour, progress};

fn question() -> v1::QueryUsageRequest {
    let time = |hour: i64| Some(proto::convert::wire_time(crate::support::hour(hour)));
    v1::QueryUsageRequest {
        from: time(SEPTEMBER),
        to: time(SEPTEMBER + 24),
        window: "P1D".to_owned(),
        ..v1::QueryUsageRequest::default()
    }
}

async fn ask(
    bench: &Bench,
    question: v1::QueryUsageRequest,
) -> Result<v1::QueryUsageResponse, tonic::Status> {
    let service = gated(query_api::grpc::query_service(bench.api.clone()));
    let mut client = QueryServiceClient::new(service);
    client.query_usage(question).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn rows_freshness_and_pages_come_over_grpc() {
    let bench = Bench::new(&[
        Usage::of("acme", "vm", 0, "2.5").with(&[("region", "a")]),
        Usage::of("acme", "vm", 23, "-3").with(&[("region", "a")]),
        Usage::of("bolt", "vm", 23, "1"),
    ])
    .await;
    bench.progress(progress(0, 3, hour(SEPTEMBER + 48))).await;
    let first = ask(&bench, v1::QueryUsageRequest { page_size: 1, ..question() }).await.unwrap();
    let [row] = &first.rows[..] else { panic!("one row: {first:?}") };
    assert_eq!((row.tenant.as_str(), row.count, row.sum.as_str()), ("acme", 2, "-0.5"));
    assert_eq!((row.min.as_str(), row.max.as_str(), row.last.as_str()), ("-3", "2.5", "-3"));
    assert_eq!(row.dimensions["region"], "a");
    assert_eq!(row.window_end, Some(proto::convert::wire_time(hour(SEPTEMBER + 24))));
    let freshness = first.freshness.unwrap();
    assert_eq!(freshness.as_of, Some(proto::convert::wire_time(hour(SEPTEMBER + 48))));
    assert_eq!(freshness.complete_until, Some(proto::convert::wire_time(hour(SEPTEMBER + 24))));
    let page_token = first.next_page_token;
    let second = v1::QueryUsageRequest { page_token, ..question() };
    let second = ask(&bench, second).await.unwrap();
    assert_eq!(second.rows[0].tenant, "bolt");
    assert_eq!(second.next_page_token, "");
}

#[tokio::test]
async fn wrong_fields_are_named_as_the_proto_names_them() {
    let bench = Bench::new(&[]).await;
    let wrong = v1::QueryUsageRequest {
        product_sku: "a\n".to_owned(),
        use_unity: "b\n".to_owned(),
        page_size: -1,
        from: Some(prost_types::Timestamp { seconds: 0, nanos: -1 }),
        ..question()
    };
    let status = ask(&bench, wrong).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(reason_of(&status).as_deref(), Some("NAME_CONTROL_CHARACTER"));
    let said = explain(&status);
    for field in ["product_sku", "use_unity", "page_size", "from"] {
        assert!(said.contains(field), "{field} is not in {said}");
    }
}

#[tokio::test]
async fn what_takes_too_long_is_a_failed_precondition() {
    // So many that they are grouped on the one thread for that, which is taken.
    let of = |hour: i64, segment| Usage { segment, ..Usage::of("acme", "vm", hour, "1") };
    let usage: Vec<_> =
        (0..720).map(|number| of(number % 24, number.unsigned_abs() / 24)).collect();
    let compute = Compute::new(ComputeConfig { threads: 1, ..ComputeConfig::default() });
    let (release, taken) = std::sync::mpsc::channel::<()>();
    let (began, begun) = tokio::sync::oneshot::channel();
    let taking = compute.clone();
    let held = tokio::spawn(async move {
        let hold = move || (began.send(()).is_ok(), taken.recv().is_err());
        taking.run(hold).await
    });
    begun.await.unwrap();
    let bench = Bench::with(&usage, |mut config| {
        config.timeout = std::time::Duration::from_millis(1);
        config.compute = compute;
        config
    })
    .await;
    let status = ask(&bench, question()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(reason_of(&status).as_deref(), Some("RESULT_TOO_LARGE"));
    drop(release);
    assert!(held.await.unwrap().is_ok());
}
