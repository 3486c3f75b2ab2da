//! Calls: how many are under way at once, and what a call may hold, at the gRPC door.
//!
//! A call counts until its answer has left. A client that takes no answers, because it closes its
//! flow-control windows, therefore holds its own share of calls and nothing more.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, header::HeaderName};
use http_body::{Body, Frame, SizeHint};
use metrics::gauge;
use tonic::{Code, Status, server::NamedService};
use tower::{Layer, Service};

use super::{
    EdgeLimits,
    budget::{Budget, Full, Held, Peer},
    frames::{Counting, Framed, Handover, Quiet, WhenFull},
};
use crate::problem::{Problem, reasons};

const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// The bounds on calls and requests that all doors of a process share.
#[derive(Clone, Debug)]
pub struct Calls {
    calls: Budget,
    request_bytes: Budget,
    limits: Arc<EdgeLimits>,
}

impl Calls {
    /// Bounds with nothing under way.
    #[must_use]
    pub fn new(limits: &EdgeLimits) -> Self {
        let bytes = limits.request_bytes_in_flight_max;
        Self {
            calls: Budget::new(
                limits.calls_max,
                limits.calls_per_peer_max,
                gauge!("pulso_edge_calls"),
            ),
            request_bytes: Budget::new(bytes, bytes / 2, gauge!("pulso_edge_request_bytes")),
            limits: Arc::new(limits.clone()),
        }
    }

    /// Room for one more call of a peer.
    ///
    /// # Errors
    /// `SERVER_BUSY`, with the bound that is reached.
    pub(super) fn begin(&self, peer: Peer) -> Result<Held, Problem> {
        self.calls.share(peer).try_take(1).map_err(|full| {
            let (whose, bound) = match full {
                Full::Peer => ("your address", self.limits.calls_per_peer_max),
                Full::All => ("all clients", self.limits.calls_max),
            };
            self.busy(format!("{bound} calls of {whose} are under way, as many as may be"))
        })
    }

    /// Room for a request's body of so many bytes.
    ///
    /// # Errors
    /// `SERVER_BUSY`.
    pub(super) fn request_bytes(&self, peer: Peer, bytes: u32) -> Result<Held, Problem> {
        let room = self.request_bytes.share(peer).try_take(bytes);
        room.map_err(|_| self.no_room())
    }

    pub(crate) fn limits(&self) -> &EdgeLimits {
        &self.limits
    }

    fn no_room(&self) -> Problem {
        self.busy("the server holds as many bytes of requests as it may".to_owned())
    }

    fn busy(&self, what: String) -> Problem {
        let message = format!("{what}; send it again after the given wait");
        Problem::exhausted(reasons::SERVER_BUSY, message).with_retry_after(self.limits.retry_after)
    }

    /// The peer of a request, as the door has left it among the extensions.
    fn peer<B>(request: &Request<B>) -> Peer {
        request.extensions().get::<Peer>().copied().unwrap_or_default()
    }

    /// A service whose messages are held within the bound, for those that do not count them
    /// themselves.
    #[must_use]
    pub fn metered<S>(&self, inner: S, message_bytes_max: usize, quiet: Quiet) -> Metered<S> {
        Metered { inner, calls: self.clone(), message_bytes_max, quiet }
    }
}

/// The refusal of a request whose body is compressed.
pub(super) fn compressed(encoding: &HeaderValue) -> Problem {
    let encoding = String::from_utf8_lossy(encoding.as_bytes()).into_owned();
    let message = format!(
        "the request is compressed with `{encoding}`; send it as it is, this server unpacks nothing"
    );
    Problem::new(Code::Unimplemented, reasons::COMPRESSION_UNSUPPORTED, message)
}

impl<S> Layer<S> for Calls {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded { inner, calls: self.clone() }
    }
}

/// A service under [`Calls`], which refuses calls over the bound and those it could not unpack.
#[derive(Clone, Debug)]
pub struct Bounded<S> {
    inner: S,
    calls: Calls,
}

impl<S, B, A> Service<Request<B>> for Bounded<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    A: Default + Send + 'static,
{
    type Response = Response<Answer<A>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let encoding = request.headers().get(ENCODING).filter(|encoding| *encoding != "identity");
        let refusal = encoding.map(compressed);
        let call = match refusal.map_or_else(|| self.calls.begin(Calls::peer(&request)), Err) {
            Ok(call) => call,
            Err(problem) => return Box::pin(async move { Ok(refused(problem)) }),
        };
        let answer = self.inner.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| Answer::new(body, Some(call)))) })
    }
}

fn refused<A: Default>(problem: Problem) -> Response<Answer<A>> {
    let mut response = Status::from(problem).into_http::<A>();
    response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    response.map(|body| Answer::new(body, None))
}

/// An answer's body. Its call is under way until its last bytes have left: they take it along, because
/// the library asks for them long before a client's windows let them go.
#[derive(Debug, Default)]
pub struct Answer<A> {
    body: A,
    call: Option<Arc<Held>>,
}

/// Bytes of an answer, which keep its call under way.
struct Leaving {
    bytes: Bytes,
    _call: Option<Arc<Held>>,
}

impl AsRef<[u8]> for Leaving {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<A> Answer<A> {
    pub(super) fn new(body: A, call: Option<Held>) -> Self {
        Self { body, call: call.map(Arc::new) }
    }
}

impl<A: Body<Data = Bytes> + Unpin> Body for Answer<A> {
    type Data = Bytes;
    type Error = A::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, A::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        let call = &this.call;
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| {
                frame.map_data(|bytes| Bytes::from_owner(Leaving { bytes, _call: call.clone() }))
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A gRPC service whose messages are held within the bound on request bytes.
#[derive(Clone, Debug)]
pub struct Metered<S> {
    inner: S,
    calls: Calls,
    message_bytes_max: usize,
    quiet: Quiet,
}

impl<S: NamedService> NamedService for Metered<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<tonic::body::Body>> for Metered<S>
where
    S: Service<Request<tonic::body::Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<S::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let counting = Counting {
            share: self.calls.request_bytes.share(Calls::peer(&request)),
            message_bytes_max: self.message_bytes_max,
            message_timeout: self.calls.limits.message_timeout,
            when_full: WhenFull::Refuse(self.calls.no_room()),
            handover: Handover::Next,
            quiet: self.quiet,
            pace: request.extensions().get().cloned(),
        };
        let (parts, body) = request.into_parts();
        let (body, room) = Framed::new(body, counting);
        let answer = self.inner.call(Request::from_parts(parts, tonic::body::Body::new(body)));
        Box::pin(async move {
            let answer = answer.await;
            // The message is done with once its call is answered.
            drop::<super::frames::Room>(room);
            answer
        })
    }
}

#[cfg(test)]
mod tests;
