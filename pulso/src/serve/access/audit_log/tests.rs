//! How far back a question goes, and that a full page fits an ordinary client.

use edge::{
    CorrelationId,
    access::{
        Principal,
        trail::{Begun, PAGE_BYTES_MAX, TEXT_BYTES_MAX},
    },
};
use prost::Message as _;
use storage::memory::MemoryBillingStore;

use super::*;

/// The most bytes of an answer that clients of gRPC take unless told otherwise.
const ANSWER_BYTES_DEFAULT: usize = 4 << 20;

fn now() -> Timestamp {
    "2026-11-30T12:00:00Z".parse().unwrap()
}

fn begun(at: Timestamp) -> Begun {
    Begun::new(at, &Principal::local(), "POST /v1/catalog", &CorrelationId::mint())
}

fn audit_log() -> AuditLog {
    let billing = Arc::new(Billing::Memory(MemoryBillingStore::new()));
    AuditLog::new(Arc::new(Trail::new(billing, Arc::new(now))))
}

#[tokio::test]
async fn a_question_that_does_not_say_goes_back_400_days() {
    let audit_log = audit_log();
    let to = now().plus(Duration::from_secs(1));
    let second = Duration::from_secs(1);
    let first = to.minus(BACK_DEFAULT);
    let before = audit_log.trail.begin(&begun(first.minus(second))).await;
    audit_log.trail.begin(&begun(first)).await.unwrap();
    audit_log.trail.begin(&begun(now())).await.unwrap();
    let found = async |from: Option<Timestamp>| {
        let (from, to) = (from.map(wire_time), Some(wire_time(to)));
        let request = v1::ListAuditLogRequest { from, to, ..v1::ListAuditLogRequest::default() };
        audit_log.list(&request).await.unwrap().entries.len()
    };
    assert!(before.is_ok());
    assert_eq!(found(None).await, 2);
    assert_eq!(found(Some(first.minus(second))).await, 3);
}

#[tokio::test]
async fn a_full_page_fits_what_clients_take_by_default() {
    let audit_log = audit_log();
    // A thousand entries just below the bound, the last with all the text that one may have.
    let each = PAGE_BYTES_MAX / paging::SIZE_MAX - 150;
    for number in 0..paging::SIZE_MAX {
        let place = audit_log.trail.begin(&begun(now())).await.unwrap();
        let bytes = if number + 1 < paging::SIZE_MAX { each } else { 2 * TEXT_BYTES_MAX };
        let text = |bytes| Some(Evidence::Text("x".repeat(bytes)));
        let (before, after) = (text(bytes / 2), text(bytes / 2));
        let ended = Ended { before, after, ..Ended::new(now(), Outcome::Done) };
        audit_log.trail.end(place, &ended).await.unwrap();
    }
    let request =
        v1::ListAuditLogRequest { page_size: 1_000, ..v1::ListAuditLogRequest::default() };
    let page = audit_log.list(&request).await.unwrap();
    assert_eq!(page.entries.len(), paging::SIZE_MAX);
    let bytes = page.encoded_len();
    assert!((PAGE_BYTES_MAX..ANSWER_BYTES_DEFAULT).contains(&bytes), "{bytes}");
}
