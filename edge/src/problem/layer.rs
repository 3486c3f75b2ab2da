//! The layer that gives a reason to refusals which the gRPC library makes before any of our code
//! runs: a message that does not parse, is cut off or too large, and a method that does not exist.
//!
//! The library calls an undecodable message `INTERNAL`, which tells a client that the server is at
//! fault and an operator to go and look. It is the client who has to mend it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::{Problem, reasons};

/// Gives such refusals a code and a reason of the table. Refusals with details are ours already and
/// pass as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct RefusalLayer;

impl<S> Layer<S> for RefusalLayer {
    type Service = Refusing<S>;

    fn layer(&self, inner: S) -> Refusing<S> {
        Refusing { inner }
    }
}

/// A service under a [`RefusalLayer`].
#[derive(Clone, Debug)]
pub struct Refusing<S> {
    inner: S,
}

impl<S, B, A> Service<Request<B>> for Refusing<S>
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

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // Shares the request's bytes; nothing is copied.
        let uri = request.uri().clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            reword(response.headers_mut(), uri.path());
            Ok(response)
        })
    }
}

/// Rewords a refusal that the library made; errors within a stream of answers come later, in
/// trailers, and are their stream's to word.
fn reword(headers: &mut HeaderMap, path: &str) {
    if !headers.contains_key(Status::GRPC_STATUS)
        || headers.contains_key(Status::GRPC_STATUS_DETAILS)
    {
        return;
    }
    let Some(status) = Status::from_header_map(headers) else { return };
    let Some(problem) = of_library(&status, path) else { return };
    headers.remove(Status::GRPC_STATUS);
    headers.remove(Status::GRPC_MESSAGE);
    if Status::from(problem).add_header(headers).is_err() {
        // Not reached: messages are percent-encoded. The refusal would then go out as it was.
        let _ = status.add_header(headers);
    }
}

fn of_library(status: &Status, path: &str) -> Option<Problem> {
    let invalid =
        |reason, message: String| Some(Problem::new(Code::InvalidArgument, reason, message));
    let words = status.message();
    match status.code() {
        Code::Internal => invalid(
            reasons::REQUEST_UNDECODABLE,
            format!("the call's message cannot be read: {words}; encode it as {path} asks for"),
        ),
        Code::OutOfRange => invalid(
            reasons::REQUEST_TOO_LARGE,
            format!("the call's message is too large: {words}; send less in one call"),
        ),
        Code::Unimplemented if words.is_empty() => Some(Problem::no_method(path)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt;

    use super::*;
    use crate::problem::reason_of;

    async fn through_the_layer(status: Status) -> Status {
        let handler = tower::service_fn(move |_: Request<()>| {
            let status = status.clone();
            async move { Ok::<_, std::convert::Infallible>(status.into_http::<()>()) }
        });
        let request = Request::builder().uri("/pulso.v1.UsageService/Consume").body(()).unwrap();
        let response = RefusalLayer.layer(handler).oneshot(request).await.unwrap();
        Status::from_header_map(response.headers()).unwrap()
    }

    #[tokio::test]
    async fn the_librarys_refusals_get_a_code_and_a_reason() {
        for (code, message, expected, reason, part) in [
            (
                Code::Internal,
                "failed to decode Protobuf message",
                Code::InvalidArgument,
                reasons::REQUEST_UNDECODABLE,
                "failed to decode Protobuf message; encode it as /pulso.v1.UsageService/Consume",
            ),
            (
                Code::OutOfRange,
                "found 9 bytes, the limit is: 4 bytes",
                Code::InvalidArgument,
                reasons::REQUEST_TOO_LARGE,
                "the limit is: 4 bytes; send less",
            ),
            (
                Code::Unimplemented,
                "",
                Code::Unimplemented,
                reasons::ROUTE_NOT_FOUND,
                "no method /pulso.v1.UsageService/Consume",
            ),
        ] {
            let status = through_the_layer(Status::new(code, message)).await;
            assert_eq!(status.code(), expected, "{code:?}");
            assert_eq!(reason_of(&status).as_deref(), Some(reason), "{code:?}");
            assert!(status.message().contains(part), "{}", status.message());
        }
    }

    #[tokio::test]
    async fn our_own_refusals_and_other_codes_pass_as_they_are() {
        let ours = Status::from(Problem::internal("a fault"));
        let status = through_the_layer(ours).await;
        assert_eq!((status.code(), status.message()), (Code::Internal, "a fault"));
        assert_eq!(reason_of(&status).as_deref(), Some(reasons::INTERNAL));
        let theirs = through_the_layer(Status::new(Code::Unimplemented, "no gzip here")).await;
        assert_eq!((theirs.code(), theirs.message()), (Code::Unimplemented, "no gzip here"));
        assert_eq!(reason_of(&theirs), None);
    }
}
