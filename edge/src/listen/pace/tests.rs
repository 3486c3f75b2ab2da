//! Paces with a clock that the test moves: bursts, debts, many calls of one client, and bodies over
//! HTTP.

use std::future::poll_fn;

use axum::{Extension, Router, middleware, routing::post};
use tower::ServiceExt as _;

use super::*;

fn pace(bytes_per_second: u64) -> Pace {
    Pace::new(NonZeroU64::new(bytes_per_second).unwrap())
}

async fn pass(milliseconds: u64) {
    tokio::time::advance(Duration::from_millis(milliseconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_sends_a_seconds_bytes_at_once_and_then_its_rate() {
    let pace = pace(1_000);
    for (passes, sends, waits) in [
        (0, 999, 0),
        (0, 1, 0),
        (0, 1, 1),
        (0, 499, 500),
        (499, 0, 1),
        (1, 0, 0),
        (0, 500, 500),
        // After any pause it is a second's bytes again, and no more.
        (60_000, 1_000, 0),
        (0, 100, 100),
        // What came is paid for, however much it was.
        (0, 100_000, 100_100),
        (100_100, 0, 0),
    ] {
        pass(passes).await;
        pace.count(sends);
        assert_eq!(pace.wait(), Duration::from_millis(waits), "after {passes} ms and {sends} B");
    }
}

#[tokio::test(start_paused = true)]
async fn numbers_at_their_edges_do_not_overflow() {
    let (slow, fast) = (pace(1), pace(u64::MAX));
    slow.count(usize::MAX);
    slow.count(usize::MAX);
    assert!(slow.wait() > Duration::from_secs(1 << 30));
    fast.count(usize::MAX);
    assert!(fast.wait().is_zero());
}

#[tokio::test(start_paused = true)]
async fn a_message_is_refused_while_its_client_is_ahead_unless_it_is_small() {
    let pace = pace(1_000);
    pace.count(1_000);
    assert_eq!(pace.check(u64::MAX), Ok(()), "it is within its rate");
    pace.count(250);
    assert_eq!(pace.check(SMALL_BYTES_MAX as u64), Ok(()));
    let refused = pace.check(SMALL_BYTES_MAX as u64 + 1).unwrap_err();
    assert_eq!(
        (refused.code, refused.reason),
        (tonic::Code::ResourceExhausted, reasons::QUOTA_EXCEEDED)
    );
    assert_eq!(refused.retry_after, Some(Duration::from_millis(250)));
    pass(250).await;
    assert_eq!(pace.check(u64::MAX), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_woken_when_the_client_is_within_its_rate() {
    let (pace, mut pacer) = (pace(1_000), Pacer::default());
    let start = Instant::now();
    poll_fn(|context| pacer.poll_within(&pace, context)).await;
    assert!(start.elapsed().is_zero());
    pace.count(3_000);
    let other = async {
        // Another call of the client sends while this one waits.
        tokio::time::sleep(Duration::from_secs(1)).await;
        pace.count(500);
    };
    tokio::join!(poll_fn(|context| pacer.poll_within(&pace, context)), other);
    let waited = start.elapsed();
    let expected = Duration::from_millis(2_500);
    assert!((expected..expected + Duration::from_millis(10)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pace_that_nobody_has_and_that_is_paid_is_idle() {
    let pace = pace(1_000);
    assert!(pace.is_idle());
    let call = pace.clone();
    assert!(!pace.is_idle());
    call.count(500);
    drop(call);
    assert!(!pace.is_idle(), "to forget it would give the bytes back");
    pass(500).await;
    assert!(pace.is_idle());
}

#[tokio::test(start_paused = true)]
async fn bodies_over_http_are_counted_and_refused_before_they_are_read() {
    let pace = pace(4_000);
    let router = Router::new()
        .route("/", post(async |body: Bytes| body.len().to_string()))
        .layer(middleware::from_fn(hold))
        .layer(Extension(pace.clone()));
    let send = async |body: AxumBody| {
        let request = Request::post("/").body(body).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        response.extensions().get::<HttpProblem>().map(|problem| problem.0.reason)
    };
    let sized = |bytes: usize| AxumBody::from(vec![7; bytes]);
    let unsized_body = |bytes: usize| {
        let chunk = Ok::<_, std::io::Error>(Bytes::from(vec![7; bytes]));
        AxumBody::from_stream(futures_util::stream::iter([chunk]))
    };
    assert_eq!(send(sized(3_000)).await, None);
    assert_eq!(send(unsized_body(2_000)).await, None);
    assert_eq!(pace.wait(), Duration::from_millis(250));
    assert_eq!(send(sized(2_000)).await, Some(reasons::QUOTA_EXCEEDED));
    assert_eq!(send(unsized_body(1)).await, Some(reasons::QUOTA_EXCEEDED), "who knows how long");
    assert_eq!(pace.wait(), Duration::from_millis(250), "what was refused was not read");
    assert_eq!(send(sized(400)).await, None);
    assert_eq!(pace.wait(), Duration::from_millis(350));
}
