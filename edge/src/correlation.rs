//! Correlation: one id that follows a request from its answer's `x-request-id` through the logs and
//! the log record to the flush.
//!
//! A client may bring its own id; one that could harm logs or headers is replaced, never refused,
//! because an id must not be why usage is lost. The same [`CorrelationLayer`] serves the HTTP
//! router and the gRPC server.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tonic::metadata::MetadataMap;
use tower::{Layer, Service};
use tracing::{Instrument, info_span};
use uuid::Uuid;

/// The header and gRPC metadata key that carries the id, both ways.
pub const HEADER: HeaderName = HeaderName::from_static(HEADER_NAME);

/// Its name.
pub const HEADER_NAME: &str = "x-request-id";

/// Most bytes of an id.
pub const ID_BYTES_MAX: usize = 64;

/// Follows one request: 1 to 64 printable ASCII characters without spaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CorrelationId(Arc<str>);

impl CorrelationId {
    /// A new one: 32 hexadecimal digits, random.
    #[must_use]
    pub fn mint() -> Self {
        Self(Uuid::new_v4().simple().to_string().into())
    }

    /// Takes a client's, or `None` when it is not 1 to 64 printable ASCII characters, no spaces.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=ID_BYTES_MAX).contains(&text.len());
        (fits && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(text.into()))
    }

    /// The id of a gRPC call: the client's if it is fit, else a new one.
    #[must_use]
    pub fn of_metadata(metadata: &MetadataMap) -> Self {
        Self::of(metadata.get(HEADER.as_str()).and_then(|value| value.to_str().ok()))
    }

    /// The id of an HTTP request: the client's if it is fit, else a new one.
    #[must_use]
    pub fn of_headers(headers: &HeaderMap) -> Self {
        Self::of(headers.get(HEADER).and_then(|value| value.to_str().ok()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as a header's value.
    #[must_use]
    pub fn to_header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("printable ASCII is a header value")
    }

    fn of(text: Option<&str>) -> Self {
        text.and_then(Self::parse).unwrap_or_else(Self::mint)
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Gives each request its id: as an extension for handlers, as a span for logs, and as a header on
/// the answer. In gRPC handlers it is in `tonic::Request::extensions`.
#[derive(Clone, Copy, Debug, Default)]
pub struct CorrelationLayer;

impl<S> Layer<S> for CorrelationLayer {
    type Service = Correlated<S>;

    fn layer(&self, inner: S) -> Correlated<S> {
        Correlated { inner }
    }
}

/// A service under a [`CorrelationLayer`].
#[derive(Clone, Debug)]
pub struct Correlated<S> {
    inner: S,
}

impl<S, B, A> Service<Request<B>> for Correlated<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Future: Send + 'static,
{
    type Response = Response<A>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<A>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let id = CorrelationId::of_headers(request.headers());
        let span = info_span!("request", request_id = %id);
        request.extensions_mut().insert(id.clone());
        let answer = span.in_scope(|| self.inner.call(request)).instrument(span);
        Box::pin(async move {
            let mut response = answer.await?;
            response.headers_mut().insert(HEADER, id.to_header());
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt;

    use super::*;

    #[test]
    fn a_fit_id_is_kept_and_an_unfit_one_replaced() {
        let longest = "x".repeat(ID_BYTES_MAX);
        let too_long = "x".repeat(ID_BYTES_MAX + 1);
        for (text, kept) in [
            ("7f3c", true),
            ("order/17:retry-2", true),
            (&longest, true),
            (&too_long, false),
            ("", false),
            ("two words", false),
            ("tab\there", false),
            ("é", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_bytes(text.as_bytes()).unwrap());
            let metadata = MetadataMap::from_headers(headers.clone());
            for id in [CorrelationId::of_headers(&headers), CorrelationId::of_metadata(&metadata)] {
                assert_eq!(id.as_str() == text, kept, "{text:?} became {id}");
                assert_eq!(CorrelationId::parse(id.as_str()), Some(id));
            }
        }
    }

    #[test]
    fn a_request_without_an_id_gets_one_of_its_own() {
        let headers = HeaderMap::new();
        assert_ne!(CorrelationId::of_headers(&headers), CorrelationId::of_headers(&headers));
    }

    #[tokio::test]
    async fn the_handler_and_the_answer_see_the_same_id() {
        let handler = tower::service_fn(|request: Request<()>| async move {
            let id = request.extensions().get::<CorrelationId>().cloned();
            Ok::<_, std::convert::Infallible>(Response::new(id.unwrap()))
        });
        for brought in ["abc", "not fit"] {
            let request = Request::builder().header(HEADER, brought).body(()).unwrap();
            let answer = CorrelationLayer.layer(handler).oneshot(request).await.unwrap();
            assert_eq!(answer.headers()[HEADER], answer.body().as_str());
            assert_eq!(answer.body().as_str() == brought, brought == "abc");
        }
    }
}
