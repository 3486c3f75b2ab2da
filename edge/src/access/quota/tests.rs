//! Quotas at their edges: streams of one client and of another, and how many clients are remembered.

use super::*;
use crate::access::principal::Parts;

const STREAM: &str = "/pulso.v1.IngestService/IngestStream";

fn client(name: &str) -> Principal {
    let kind = CredentialKind::ApiKey;
    let scope = IdentityScope::of(kind, "", name);
    let parts = Parts { name: name.to_owned(), kind, scope, ..Parts::clone(&Principal::local()) };
    Principal::new(parts)
}

fn quotas(streams: u32, bytes_per_second: u64, clients_max: usize) -> Quotas {
    let limits = QuotaLimits {
        streams: NonZeroU32::new(streams),
        bytes_per_second: NonZeroU64::new(bytes_per_second),
        clients_max,
    };
    Quotas::new(limits).with_streams([STREAM.to_owned()])
}

#[test]
fn a_client_has_so_many_streams_and_another_its_own() {
    let quotas = quotas(2, 0, 10);
    let (meter, other) = (client("meter"), client("other"));
    let place = |of: &Principal| quotas.place(of, STREAM);
    let (first, _second) = (place(&meter).unwrap().unwrap(), place(&meter).unwrap().unwrap());
    let refused = place(&meter).unwrap_err();
    assert_eq!(
        (refused.code, refused.reason),
        (tonic::Code::ResourceExhausted, reasons::QUOTA_EXCEEDED)
    );
    assert_eq!(refused.retry_after, Some(RETRY_AFTER));
    assert!(refused.message.contains("meter has 2 streams open"), "{}", refused.message);
    let _other = place(&other).unwrap().unwrap();
    assert!(quotas.place(&meter, "/pulso.v1.IngestService/Ingest").unwrap().is_none());
    assert!(place(&Principal::local()).unwrap().is_none(), "nobody is asked who they are");
    drop(first);
    assert!(place(&meter).unwrap().is_some());
}

#[test]
fn clients_without_open_streams_are_forgotten() {
    let quotas = quotas(1, 0, 10);
    for number in 0..1_000 {
        drop(quotas.place(&client(&number.to_string()), STREAM).unwrap());
    }
    assert_eq!(quotas.open.lock().unwrap().len(), 0);
}

#[test]
fn without_quotas_nothing_is_counted() {
    let quotas = quotas(0, 0, 10);
    let meter = client("meter");
    for _ in 0..3 {
        assert!(quotas.place(&meter, STREAM).unwrap().is_none());
    }
    assert!(quotas.pace(&meter).is_none());
    assert_eq!(quotas.open.lock().unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_clients_is_bounded_and_shares_one_pace() {
    let quotas = quotas(0, 1_000, 3);
    let pace = |name: &str| quotas.pace(&client(name)).unwrap();
    assert!(quotas.pace(&Principal::local()).is_none());
    for name in ["a", "b", "c"] {
        pace(name).count(2_000);
        assert_eq!(pace(name).wait(), Duration::from_secs(1), "{name}: its calls share a pace");
    }
    pace("d").count(1_500);
    assert_eq!(pace("e").wait(), Duration::from_millis(500), "those beyond share one");
    assert_eq!(quotas.paces.lock().unwrap().by_client.len(), 3);
    // The first three are paid for, and make room.
    tokio::time::advance(Duration::from_secs(2)).await;
    pace("f").count(1_000);
    assert_eq!(quotas.paces.lock().unwrap().by_client.len(), 1);
    assert!(pace("a").wait().is_zero());
}
