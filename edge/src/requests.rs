//! Requests: counts and times every call and HTTP request by its method and outcome.

use std::{
    collections::HashSet,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::extract::MatchedPath;
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use prost::Message as _;
use prost_types::MethodDescriptorProto;
use tonic::Status;
use tower::{Layer, Service};

use crate::problem::{reason_of, reasons};

/// The label of what no method has.
const UNKNOWN: &str = "unknown";
pub(crate) const OK: &str = "ok";
/// The outcome of an answer that its client did not wait for.
const CANCELLED: &str = "cancelled";

/// The methods that have a label of their own, so that a client cannot make labels up.
#[derive(Clone, Debug)]
pub enum Methods {
    /// Full names of gRPC methods, such as `/pulso.v1.QueryService/QueryUsage`.
    Grpc(Arc<HashSet<String>>),
    /// Whatever the HTTP router has a route for.
    Http,
}

impl Methods {
    /// Every gRPC method of the named services, by their encoded descriptors. Reflection and health are
    /// not told apart.
    #[must_use]
    pub fn of(services: &[&str], descriptors: &[u8]) -> Self {
        Self::Grpc(Arc::new(grpc_methods(services, descriptors).into_iter().collect()))
    }

    fn label<B>(&self, request: &Request<B>) -> String {
        match self {
            Self::Grpc(names) => {
                names.get(request.uri().path()).map_or(UNKNOWN, String::as_str).to_owned()
            }
            Self::Http => {
                let route = request.extensions().get::<MatchedPath>();
                let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE];
                match route {
                    Some(route) if known.contains(request.method()) => {
                        format!("{} {}", request.method(), route.as_str())
                    }
                    _ => UNKNOWN.to_owned(),
                }
            }
        }
    }
}

/// The full names of every method of the named services, by their encoded descriptors.
pub(crate) fn grpc_methods(services: &[&str], descriptors: &[u8]) -> Vec<String> {
    described(services, descriptors).into_iter().map(|(name, _)| name).collect()
}

/// The full names of those that are streams, in either direction.
pub(crate) fn grpc_streams(services: &[&str], descriptors: &[u8]) -> Vec<String> {
    let described = described(services, descriptors).into_iter();
    let is_stream = |(_, method): &(String, MethodDescriptorProto)| {
        method.client_streaming() || method.server_streaming()
    };
    described.filter(is_stream).map(|(name, _)| name).collect()
}

fn described(services: &[&str], descriptors: &[u8]) -> Vec<(String, MethodDescriptorProto)> {
    let files = prost_types::FileDescriptorSet::decode(descriptors).unwrap_or_default().file;
    let mut methods = Vec::new();
    for file in files {
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            if services.contains(&name.as_str()) {
                let named = |method: &MethodDescriptorProto| format!("/{name}/{}", method.name());
                methods.extend(service.method.iter().map(|method| (named(method), method.clone())));
            }
        }
    }
    methods
}

/// The outcome of an HTTP answer that is a problem: its reason.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome(pub(crate) &'static str);

/// Counts what passes.
#[derive(Clone, Debug)]
pub struct RequestsLayer {
    methods: Methods,
}

impl RequestsLayer {
    /// Labels requests by these methods.
    #[must_use]
    pub const fn new(methods: Methods) -> Self {
        Self { methods }
    }
}

impl<S> Layer<S> for RequestsLayer {
    type Service = Requests<S>;

    fn layer(&self, inner: S) -> Requests<S> {
        Requests { inner, methods: self.methods.clone() }
    }
}

/// A service under a [`RequestsLayer`].
#[derive(Clone, Debug)]
pub struct Requests<S> {
    inner: S,
    methods: Methods,
}

impl<S, B, A> Service<Request<B>> for Requests<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Future: Send + 'static,
{
    type Response = Response<Counted<A>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut count = Count { method: self.methods.label(&request), outcome: Some(CANCELLED) };
        let start = Instant::now();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            metrics::histogram!("pulso_edge_request_seconds", "method" => count.method.clone())
                .record(start.elapsed());
            let refused = response.extensions().get::<Outcome>().map(|outcome| outcome.0);
            if let Some(reason) = refused.or_else(|| grpc_outcome(response.headers())) {
                count.ends(reason);
            }
            Ok(response.map(|inner| Counted { inner, count }))
        })
    }
}

/// The outcome that the headers or trailers of a gRPC answer tell, if they do.
pub(crate) fn grpc_outcome(headers: &HeaderMap) -> Option<&'static str> {
    let status = Status::from_header_map(headers)?;
    if status.code() == tonic::Code::Ok {
        return Some(OK);
    }
    let reason = reason_of(&status)
        .and_then(|reason| reasons::TABLE.iter().find(|(known, _)| *known == reason));
    Some(reason.map_or(UNKNOWN, |(known, _)| known))
}

/// One request, counted once: by its first outcome, or as cancelled when it is dropped before.
#[derive(Debug)]
struct Count {
    method: String,
    outcome: Option<&'static str>,
}

impl Count {
    fn ends(&mut self, outcome: &'static str) {
        if self.outcome.take().is_some() {
            let method = self.method.clone();
            metrics::counter!("pulso_edge_requests_total", "method" => method, "outcome" => outcome)
                .increment(1);
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.ends(CANCELLED);
    }
}

/// The body of an answer, whose end is the end of its request.
#[derive(Debug)]
pub struct Counted<A> {
    inner: A,
    count: Count,
}

impl<A: Body + Unpin> Body for Counted<A> {
    type Data = A::Data;
    type Error = A::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<A::Data>, A::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(outcome) = frame.trailers_ref().and_then(grpc_outcome) {
                    this.count.ends(outcome);
                }
            }
            Some(Err(_)) => this.count.ends(reasons::INTERNAL),
            None => this.count.ends(OK),
        }
        if this.inner.is_end_stream() {
            this.count.ends(OK);
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
