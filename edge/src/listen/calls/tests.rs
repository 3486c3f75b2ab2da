//! Calls over the bound, calls whose answers nobody reads, and calls that would have to be unpacked.

use http_body_util::{BodyExt, Full as Whole};
use tower::{ServiceExt, service_fn};

use super::*;
use crate::problem::reason_of;

type Request_ = Request<()>;

fn limits() -> EdgeLimits {
    EdgeLimits { calls_max: 2, calls_per_peer_max: 1, ..EdgeLimits::default() }
}

fn request(peer: u8) -> Request_ {
    let mut request = Request::new(());
    request.extensions_mut().insert(Peer::of([10, 0, 0, peer].into()));
    request
}

async fn call(calls: &Calls, request: Request_) -> Result<Answer<Whole<bytes::Bytes>>, Status> {
    let handler = service_fn(|_: Request_| async {
        Ok::<_, Infallible>(Response::new(Whole::new(bytes::Bytes::from_static(b"answer"))))
    });
    let answer = calls.layer(handler).oneshot(request).await.unwrap();
    match Status::from_header_map(answer.headers()) {
        Some(status) => Err(status),
        None => Ok(answer.into_body()),
    }
}

fn reason(refused: Result<Answer<Whole<bytes::Bytes>>, Status>) -> Option<String> {
    reason_of(&refused.expect_err("it was let in"))
}

#[tokio::test]
async fn a_call_is_under_way_until_its_answer_has_left() {
    let calls = Calls::new(&limits());
    let unread = call(&calls, request(1)).await.unwrap();
    assert_eq!(reason(call(&calls, request(1)).await).as_deref(), Some(reasons::SERVER_BUSY));
    let other = call(&calls, request(2)).await.unwrap();
    assert_eq!(reason(call(&calls, request(3)).await).as_deref(), Some(reasons::SERVER_BUSY));
    // Taken by the library, and not yet let go.
    let leaving = unread.collect().await.unwrap().to_bytes();
    assert_eq!(leaving, "answer");
    assert_eq!(reason(call(&calls, request(1)).await).as_deref(), Some(reasons::SERVER_BUSY));
    drop(leaving);
    assert!(call(&calls, request(1)).await.is_ok());
    drop(other);
    assert!(call(&calls, request(3)).await.is_ok());
}

#[tokio::test]
async fn a_compressed_call_is_refused_and_told_what_is_taken() {
    let calls = Calls::new(&limits());
    for (encoding, is_refused) in [("gzip", true), ("identity", false), ("zstd", true)] {
        let mut request = request(1);
        request.headers_mut().insert(ENCODING, HeaderValue::from_static(encoding));
        let answer = call(&calls, request).await;
        assert_eq!(answer.is_err(), is_refused, "{encoding}");
        if let Err(status) = answer {
            assert_eq!(status.code(), Code::Unimplemented);
            assert_eq!(reason_of(&status).as_deref(), Some(reasons::COMPRESSION_UNSUPPORTED));
            assert!(status.message().contains(encoding), "{}", status.message());
        }
    }
}
