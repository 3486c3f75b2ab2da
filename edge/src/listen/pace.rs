//! Pace: how many bytes per second one client may send, over all its calls.
//!
//! The gate leaves the pace of a request's client among its extensions. What reads the body counts the
//! bytes that come, and while the client is ahead of its rate a stream is read later and a call with
//! one message is refused. A stream that is not read holds its client by HTTP/2's flow control, so
//! nothing is lost and nobody has to send anything again.

use std::{
    num::NonZeroU64,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::Body as AxumBody,
    extract::Request,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use metrics::counter;
use tokio::time::{Instant, Sleep, sleep};

use crate::problem::{Problem, http::HttpProblem, reasons};

/// What a client may send at once after a pause: the bytes of so much time.
const BURST: Duration = Duration::from_secs(1);

/// A message or body of at most so many bytes is counted and never refused, so that a client whose
/// streams are at its rate can still ask questions. How many of them there are is bounded by the rate
/// of requests.
pub const SMALL_BYTES_MAX: usize = 1 << 10;

/// The rate of one client. Clones share it.
#[derive(Clone, Debug)]
pub struct Pace(Arc<State>);

#[derive(Debug)]
struct State {
    bytes_per_second: NonZeroU64,
    began_at: Instant,
    /// When what was sent would have come at the rate: nanoseconds since it began.
    paid_until: AtomicU64,
}

impl Pace {
    /// A pace at which nothing was sent yet.
    #[must_use]
    pub fn new(bytes_per_second: NonZeroU64) -> Self {
        let paid_until = AtomicU64::new(0);
        Self(Arc::new(State { bytes_per_second, began_at: Instant::now(), paid_until }))
    }

    /// Counts bytes that came. They may put the client ahead of its rate by any number.
    pub fn count(&self, bytes: usize) {
        let cost = bytes as u128 * 1_000_000_000 / u128::from(self.0.bytes_per_second.get());
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let now = self.now();
        let paid = |until: u64| Some(until.max(now).saturating_add(cost));
        // Always updates, and the order of additions does not matter.
        let _ = self.0.paid_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid);
    }

    /// Time until the client is within its rate again; zero while it is.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.ahead().saturating_sub(BURST)
    }

    /// Tells whether it is as it was at the start, and no call has it: to forget it changes nothing.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        Arc::strong_count(&self.0) == 1 && self.ahead().is_zero()
    }

    /// Refuses a message or body of so many bytes while the client is ahead of its rate.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED, `QUOTA_EXCEEDED`, with the time to wait.
    pub fn check(&self, bytes: u64) -> Result<(), Problem> {
        let wait = self.wait();
        if wait.is_zero() || usize::try_from(bytes).is_ok_and(|bytes| bytes <= SMALL_BYTES_MAX) {
            return Ok(());
        }
        over("refused");
        let message = format!(
            "the credential's client may send {} bytes per second (access.bytes_per_client) and has sent more; send it again after the given wait, or over a stream, which is read at that rate",
            self.0.bytes_per_second
        );
        Err(Problem::exhausted(reasons::QUOTA_EXCEEDED, message).with_retry_after(wait))
    }

    fn ahead(&self) -> Duration {
        let until = self.0.paid_until.load(Ordering::Relaxed);
        Duration::from_nanos(until.saturating_sub(self.now()))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.began_at.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

fn over(outcome: &'static str) {
    counter!("pulso_edge_over_quota_total", "outcome" => outcome).increment(1);
}

/// Waits until a client is within its rate.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Pacer {
    /// Resolves once the client is within its rate. Others of its calls may have come first, so it looks
    /// again.
    pub(super) fn poll_within(&mut self, pace: &Pace, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(context));
                self.waiting = None;
            }
            let wait = pace.wait();
            if wait.is_zero() {
                return Poll::Ready(());
            }
            over("slowed");
            self.waiting = Some(Box::pin(sleep(wait)));
        }
    }
}

/// A body whose bytes are counted.
#[derive(Debug)]
struct Counted<B> {
    inner: B,
    pace: Pace,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(Ok(data)) = frame.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref)) {
            self.pace.count(data.map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Layer of the HTTP door, behind the gate: refuses a body of a client that is ahead of its rate before
/// it is read, and counts the others.
pub(crate) async fn hold(request: Request, next: Next) -> Response {
    let Some(pace) = request.extensions().get::<Pace>().cloned() else {
        return next.run(request).await;
    };
    let declared = request.body().size_hint().upper().unwrap_or(u64::MAX);
    match pace.check(declared) {
        Ok(()) => {
            let counted = |inner| AxumBody::new(Counted { inner, pace });
            next.run(request.map(counted)).await
        }
        Err(problem) => HttpProblem(problem).into_response(),
    }
}

#[cfg(test)]
mod tests;
