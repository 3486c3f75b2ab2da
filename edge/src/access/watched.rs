//! Watched: the answer of a gRPC call, which ends when the credential of its call does.
//!
//! The gate is passed once, when a call begins, and a stream may last for days. So its credential is
//! looked at again every few seconds, which costs a hash and a look-up; when it has expired or was
//! revoked, the answer ends with that as its status. What the call brought and nobody acknowledged yet
//! is the client's to send again.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;

use super::{quota::Place, refusal::Refusal};
use crate::Problem;

/// Time between two looks at a credential.
pub(super) const LOOKED_AT_EVERY: Duration = Duration::from_secs(5);

pub(super) type Check = BoxFuture<'static, Result<(), Refusal>>;

/// Looks at the credential of one call.
pub(super) struct Watch {
    look: Box<dyn Fn() -> Check + Send + Sync>,
    next: Pin<Box<Sleep>>,
    looking: Option<Check>,
    /// Of a stream; it goes back when the answer's body is dropped.
    _place: Option<Place>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// Looks by this, and keeps the call's place.
    pub(super) fn new(
        look: impl Fn() -> Check + Send + Sync + 'static,
        place: Option<Place>,
    ) -> Self {
        let next = Box::pin(sleep(LOOKED_AT_EVERY));
        Self { look: Box::new(look), next, looking: None, _place: place }
    }

    #[cfg(test)]
    pub(super) fn look_now(&self) -> Check {
        (self.look)()
    }

    /// Why the credential does not count any more. A store that does not answer ends no stream.
    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<Problem> {
        loop {
            if let Some(looking) = &mut self.looking {
                let found = ready!(looking.as_mut().poll(context));
                self.looking = None;
                match found {
                    Err(refusal) if !matches!(refusal, Refusal::Unavailable(_)) => {
                        return Poll::Ready(refusal.into());
                    }
                    _ => self.next.as_mut().reset(Instant::now() + LOOKED_AT_EVERY),
                }
            }
            ready!(self.next.as_mut().poll(context));
            self.looking = Some((self.look)());
        }
    }
}

/// The body of an answer, with the watch of its call while it has one.
#[derive(Debug, Default)]
pub struct Watched<A> {
    inner: A,
    watch: Option<Box<Watch>>,
    is_over: bool,
}

impl<A> Watched<A> {
    pub(super) fn new(inner: A, watch: Option<Watch>) -> Self {
        Self { inner, watch: watch.map(Box::new), is_over: false }
    }

    #[cfg(test)]
    pub(super) fn into_inner(self) -> A {
        self.inner
    }
}

impl<A: Body + Unpin> Body for Watched<A> {
    type Data = A::Data;
    type Error = A::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<A::Data>, A::Error>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        if let Some(watch) = &mut this.watch
            && let Poll::Ready(problem) = watch.poll_ended(context)
        {
            this.is_over = true;
            let mut trailers = HeaderMap::new();
            // Not reached: its words are ASCII. The stream would then end without a status.
            let _ = Status::from(problem).add_header(&mut trailers);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut this.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_over { SizeHint::with_exact(0) } else { self.inner.size_hint() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::problem::{reason_of, reasons};

    /// An answer that never comes.
    #[derive(Default)]
    struct Endless;

    impl Body for Endless {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_when_its_credential_does_and_not_when_nobody_can_say() {
        let looks = AtomicUsize::new(0);
        let look = move || {
            let answer = match looks.fetch_add(1, Ordering::SeqCst) {
                0 => Ok(()),
                1 => Err(Refusal::Unavailable("the store is away")),
                _ => Err(Refusal::Revoked),
            };
            Box::pin(async move { answer }) as Check
        };
        let watch = Watch::new(look, None);
        let start = Instant::now();
        let mut answer = Watched::new(Endless, Some(watch));
        let trailers = answer.frame().await.unwrap().unwrap().into_trailers().unwrap();
        let status = Status::from_header_map(&trailers).unwrap();
        assert_eq!(reason_of(&status).as_deref(), Some(reasons::CREDENTIAL_REVOKED));
        assert_eq!(start.elapsed().as_secs(), 3 * LOOKED_AT_EVERY.as_secs());
        assert!(answer.frame().await.is_none() && answer.is_end_stream());
    }
}
