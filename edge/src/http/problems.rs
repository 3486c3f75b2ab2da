//! Errors on the wire: every answer from 400 up is `application/problem+json`, with the request's
//! id in it, whether a handler, the router or a layer made it.

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::Response,
};
use tonic::Code;

use crate::{
    correlation::CorrelationId,
    problem::{
        Problem, ProblemJson,
        http::{CONTENT_TYPE, HttpProblem, reason_of},
    },
    requests::Outcome,
};

/// Most bytes of a foreign error's text that become the detail.
const DETAIL_BYTES_MAX: usize = 4_096;

/// Marks an answer that is not an error for all its status: a probe that says no.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoError;

/// The answer of the router where it has no route.
pub(super) async fn route_not_found(request: Request) -> HttpProblem {
    HttpProblem(Problem::no_route(request.uri().path()))
}

/// Layer: writes problems out and turns all other errors into problems.
pub(super) async fn dress(request: Request, next: Next) -> Response {
    let id = request.extensions().get::<CorrelationId>().cloned();
    let mut response = next.run(request).await;
    if let Some(HttpProblem(problem)) = response.extensions_mut().remove() {
        return written(problem, response, id.as_ref());
    }
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_marked = response.extensions().get::<NoError>().is_some();
    if !is_error || is_marked || is_problem(&response) {
        return response;
    }
    let body = std::mem::replace(response.body_mut(), Body::empty());
    let text = to_bytes(body, DETAIL_BYTES_MAX).await.unwrap_or_default();
    let problem = problem_of(status, String::from_utf8_lossy(&text).trim());
    written(problem, response, id.as_ref())
}

fn is_problem(response: &Response) -> bool {
    response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == CONTENT_TYPE)
}

/// Replaces status and body and keeps the headers, such as `Allow` of a 405.
fn written(problem: Problem, mut response: Response, id: Option<&CorrelationId>) -> Response {
    let document = ProblemJson::new(problem, id.map(CorrelationId::as_str));
    *response.status_mut() =
        StatusCode::from_u16(document.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    if let Some(seconds) = document.retry_after_seconds {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    *response.body_mut() = Body::from(document.to_bytes());
    response.extensions_mut().insert(Outcome(document.reason));
    response
}

/// What a status without a problem means. `text` is what came with it.
fn problem_of(status: StatusCode, text: &str) -> Problem {
    let reason = reason_of(status);
    let or = |usual: &str| if text.is_empty() { usual.to_owned() } else { text.to_owned() };
    match status {
        StatusCode::METHOD_NOT_ALLOWED => Problem::other_verb(),
        StatusCode::NOT_FOUND => Problem::not_found(reason, or("not found")),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            Code::InvalidArgument,
            reason,
            "the body is larger than this address takes; send less at a time",
        ),
        status if status.is_client_error() => {
            Problem::new(Code::InvalidArgument, reason, or("the request cannot be read"))
        }
        StatusCode::SERVICE_UNAVAILABLE => Problem::unavailable(reason, or("try again later")),
        _ => Problem::internal("the server failed; its log says why"),
    }
}
