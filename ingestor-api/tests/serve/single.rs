//! The origin's one-pulse call: compatible, durable, packed.

use crate::support::{Server, within};
use edge::problem::{reason_of, reasons};
use ingestor_api::{Limits, Packing};
use proto::v1::UsageInfoRequest;
use tokio::task::JoinSet;
use tonic::Code;

const CALLS: usize = 1_000;

fn usage(used_amount: i32) -> UsageInfoRequest {
    UsageInfoRequest {
        tenant: "acme".into(),
        product_sku: "vm.small".into(),
        used_amount,
        use_unity: "hour".into(),
    }
}

/// Makes the calls together and gives the number of records they took. `appends_max` of them may
/// be under way at once.
async fn records_of_concurrent_calls(packing: Packing, appends_max: usize) -> usize {
    let server = Server::start(Limits { packing, ..Limits::default() }, 1).await;
    let held = server.log.hold_acks();
    let client = server.usage_client().await;
    let mut calls = JoinSet::new();
    for amount in 0..CALLS {
        let mut client = client.clone();
        let amount = i32::try_from(amount).unwrap();
        calls.spawn(async move { client.consume(usage(amount)).await.map(drop) });
    }
    drop(client);
    // HTTP/2 lets some hundred calls run at once; the others follow as those are answered.
    server.has_taken(100).await;
    assert!(server.records().len() <= appends_max);
    drop(held);
    for answer in within(calls.join_all()).await {
        answer.unwrap();
    }
    let mut amounts: Vec<_> =
        server.pulses().into_iter().map(|pulse| pulse.used_amount.unwrap().unscaled).collect();
    amounts.sort_unstable();
    assert_eq!(amounts, (0..1_000).collect::<Vec<_>>());
    let records = server.records().len();
    server.stop().await;
    records
}

#[tokio::test]
async fn concurrent_calls_share_records() {
    let records = records_of_concurrent_calls(Packing::On, 4).await;
    assert!(records <= CALLS / 5, "{records} records");
}

#[tokio::test]
async fn without_packing_each_call_has_its_record() {
    assert_eq!(records_of_concurrent_calls(Packing::Off, 1).await, CALLS);
}

#[tokio::test]
async fn a_pulse_gets_the_time_of_its_arrival_by_its_envelope() {
    let server = Server::start(Limits::default(), 4).await;
    let mut client = server.usage_client().await;
    within(client.consume(usage(-5))).await.unwrap();
    let [record] = &server.records()[..] else { panic!("one call, one record") };
    assert_eq!((record.pulses[0].time, record.pulses[0].used_amount.unwrap().unscaled), (None, -5));
    let source = &record.envelope.as_ref().unwrap().sources[0];
    assert_eq!(source.received_at, Some(prost_types::Timestamp::default()));
    assert_eq!(source.correlation_id.len(), 32);
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_bad_pulse_is_the_status_of_the_call() {
    let server = Server::start(Limits::default(), 4).await;
    let mut client = server.usage_client().await;
    let bad = UsageInfoRequest { product_sku: String::new(), ..usage(1) };
    let status = within(client.consume(bad)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(reason_of(&status).as_deref(), Some(reasons::NAME_EMPTY));
    assert!(status.message().starts_with("product_sku: "), "{}", status.message());
    drop(client);
    server.stop().await;
}
