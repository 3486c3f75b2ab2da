//! The HTTP door's server: HTTP/1.1, or HTTP/2 for those who begin with it, behind a
//! [`super::Listener`], with a bound and a deadline for each part of a request.
//!
//! `axum::serve` sets no deadline for a request's head and no bound on its size, so the connections
//! are served here by hyper itself.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::{Router, body::Body as AxumBody};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::CONTENT_ENCODING};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::task::JoinSet;
use tower::ServiceExt;
use tracing::debug;

use super::{
    EdgeLimits,
    accept::{Listener, Source},
    budget::{Held, Peer},
    calls::{Answer, Calls, compressed},
    connection::Connection,
    frames::too_slow,
    origin::Origin,
    patience::Patience,
};
use runtime::Shutdown;

use crate::{
    CorrelationId, Problem, correlation,
    problem::{ProblemJson, http::CONTENT_TYPE, reasons},
};

/// What answers requests, within bounds.
#[derive(Clone, Debug)]
pub struct HttpDoor {
    router: Router,
    calls: Calls,
    body_bytes_max: u32,
}

impl HttpDoor {
    /// A door to these routes. `body_bytes_max` is the most that any of them takes: what is kept for
    /// a body whose length its client does not say.
    #[must_use]
    pub const fn new(router: Router, calls: Calls, body_bytes_max: u32) -> Self {
        Self { router, calls, body_bytes_max }
    }

    /// Serves until shutdown is requested and every request that was begun is answered. Dropping it
    /// closes its connections.
    pub async fn serve<S: Source>(self, mut listener: Listener<S>, shutdown: Shutdown) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                connection = listener.accept() => {
                    connections.spawn(self.clone().serve_one(connection, shutdown.clone()));
                }
                Some(_) = connections.join_next() => {}
                () = shutdown.requested() => break,
            }
        }
        // Nobody may connect any longer and then wait.
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    async fn serve_one(self, connection: Connection, shutdown: Shutdown) {
        let (peer, origin) = (connection.peer(), connection.origin().clone());
        let server = server(self.calls.limits());
        let service = service_fn(move |request: Request<Incoming>| {
            let (door, origin) = (self.clone(), origin.clone());
            async move { Ok::<_, Infallible>(door.answer(request, &origin).await) }
        });
        let mut connection = pin!(server.serve_connection(TokioIo::new(connection), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.requested() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            // A client that goes away, is too slow or speaks something else is its own affair.
            debug!(%error, ?peer, "an HTTP connection ended early");
        }
    }

    async fn answer<B>(self, request: Request<B>, origin: &Origin) -> Response<Answer<AxumBody>>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let id = CorrelationId::of_headers(request.headers());
        let (call, room) = match self.admit(&request, origin.peer) {
            Ok(admitted) => admitted,
            Err(problem) => return Answer::without_call(written(problem, &id)),
        };
        let timeout = self.calls.limits().message_timeout;
        let (mut parts, body) = request.into_parts();
        // One that was made for an unfit header is the one that the routes use as well.
        parts.headers.insert(correlation::HEADER, id.to_header());
        origin.put_into(&mut parts.extensions);
        let is_too_slow = Arc::new(AtomicBool::new(false));
        let patience = Patience::new(timeout);
        let body = Timed { inner: body, patience, is_too_slow: Arc::clone(&is_too_slow) };
        let request = Request::from_parts(parts, AxumBody::new(body));
        let answer = self.router.oneshot(request).await.unwrap_or_else(|never| match never {});
        drop(room);
        // Whatever a handler made of a body that broke off, this is why it did.
        let answer = match is_too_slow.load(Ordering::Relaxed) {
            true => written(too_slow(timeout), &id),
            false => answer,
        };
        answer.map(|body| Answer::new(body, Some(call)))
    }

    fn admit<B: Body>(&self, request: &Request<B>, peer: Peer) -> Result<(Held, Held), Problem> {
        if let Some(encoding) = is_compressed(request.headers()) {
            return Err(encoding);
        }
        let call = self.calls.begin(peer)?;
        let declared = request.body().size_hint().upper().unwrap_or(u64::MAX);
        // One that is too large for its route is refused there, by its length.
        let bytes = u32::try_from(declared).unwrap_or(u32::MAX).min(self.body_bytes_max);
        Ok((call, self.calls.request_bytes(peer, bytes)?))
    }
}

fn server(limits: &EdgeLimits) -> auto::Builder<TokioExecutor> {
    /// The least that the library takes for a buffer.
    const BUFFER_BYTES_MIN: usize = 8 << 10;
    let header_bytes_max = usize::try_from(limits.header_bytes_max).unwrap_or(usize::MAX);
    let mut server = auto::Builder::new(TokioExecutor::new());
    // A head has to fit into the buffer, so the buffer's bound is the head's.
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(header_bytes_max.max(BUFFER_BYTES_MIN));
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.keep_alive)
        .keep_alive_timeout(limits.keep_alive)
        .initial_stream_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes)
        .max_concurrent_streams(limits.streams_per_connection_max)
        .max_header_list_size(limits.header_bytes_max)
        .max_pending_accept_reset_streams(limits.resets_pending_max);
    server
}

fn is_compressed(headers: &HeaderMap) -> Option<Problem> {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    encodings.find(|encoding| *encoding != "identity").map(compressed)
}

impl Answer<AxumBody> {
    fn without_call(response: Response<AxumBody>) -> Response<Self> {
        response.map(|body| Self::new(body, None))
    }
}

/// A refusal that no route has seen.
fn written(problem: Problem, id: &CorrelationId) -> Response<AxumBody> {
    let document = ProblemJson::new(problem, Some(id.as_str()));
    let mut response = Response::new(AxumBody::from(document.to_bytes()));
    *response.status_mut() =
        http::StatusCode::from_u16(document.status).expect("a problem's status is 400 to 599");
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(CONTENT_TYPE));
    headers.insert(correlation::HEADER, id.to_header());
    if let Some(seconds) = document.retry_after_seconds {
        headers.insert(http::header::RETRY_AFTER, http::HeaderValue::from(seconds));
    }
    if document.reason == reasons::COMPRESSION_UNSUPPORTED {
        headers.insert(http::header::ACCEPT_ENCODING, http::HeaderValue::from_static("identity"));
    }
    response
}

/// A body that has to come in time.
struct Timed<B> {
    inner: B,
    patience: Patience,
    is_too_slow: Arc<AtomicBool>,
}

impl<B> Body for Timed<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(read) = Pin::new(&mut self.inner).poll_frame(context) {
            self.patience.came();
            return Poll::Ready(read.map(|read| read.map_err(Into::into)));
        }
        ready!(self.patience.poll_used_up(context));
        self.is_too_slow.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err("the body did not come in time".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests;
