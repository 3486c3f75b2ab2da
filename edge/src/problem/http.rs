//! Problems over HTTP: RFC 9457 `application/problem+json`, with the same reason and violations as
//! over gRPC.

use axum::http::StatusCode;
use serde::Serialize;
use tonic::Code;
use utoipa::ToSchema;

use super::{Problem, reasons};

/// Media type of the document.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// An RFC 9457 problem: the answer to everything that is refused or fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemJson {
    /// Identifies the kind of problem: `urn:pulso:reason:` and the reason.
    #[serde(rename = "type")]
    pub kind: String,
    /// The reason's meaning, the same for every occurrence.
    pub title: &'static str,
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// What was wrong here, and what to do.
    pub detail: String,
    /// Identifies this occurrence: `urn:pulso:request:` and the request id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// A stable word in UPPER_SNAKE.
    pub reason: &'static str,
    /// The fields that are wrong; empty when it is not about fields.
    pub violations: Vec<ViolationJson>,
    /// Value of the `Retry-After` header, in whole seconds, rounded up.
    #[serde(skip)]
    pub retry_after_seconds: Option<u64>,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Violation)]
pub struct ViolationJson {
    /// Path or parameter name, for example `group_by[1]`.
    pub field: String,
    /// A stable word in UPPER_SNAKE.
    pub reason: &'static str,
    /// What was wrong, and what to do.
    pub message: String,
}

impl ProblemJson {
    /// Puts a problem into its HTTP form. `request_id` is the correlation id of the request.
    #[must_use]
    pub fn new(problem: Problem, request_id: Option<&str>) -> Self {
        let violations = problem.violations.into_iter().map(|violation| ViolationJson {
            field: violation.field,
            reason: violation.reason,
            message: violation.message,
        });
        Self {
            kind: format!("urn:pulso:reason:{}", problem.reason),
            title: reasons::meaning(problem.reason).unwrap_or("A problem of its own kind."),
            status: status_of(problem.code, problem.reason),
            detail: problem.message,
            instance: request_id.map(|id| format!("urn:pulso:request:{id}")),
            reason: problem.reason,
            violations: violations.collect(),
            retry_after_seconds: problem
                .retry_after
                .map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
        }
    }

    /// The document as JSON bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always serialise")
    }
}

/// A problem as a handler's error. The layer of the HTTP door writes it out, because only there
/// the request's id is known.
#[derive(Clone, Debug)]
pub struct HttpProblem(pub Problem);

impl From<Problem> for HttpProblem {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl axum::response::IntoResponse for HttpProblem {
    fn into_response(self) -> axum::response::Response {
        // The status is set by `dress`; this one only shows if a router forgot that layer.
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Reason of an error's status that came without a problem.
#[must_use]
pub fn reason_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => reasons::METHOD_NOT_ALLOWED,
        StatusCode::NOT_FOUND => reasons::ROUTE_NOT_FOUND,
        StatusCode::PAYLOAD_TOO_LARGE => reasons::BODY_TOO_LARGE,
        StatusCode::SERVICE_UNAVAILABLE => reasons::STORE_UNAVAILABLE,
        status if status.is_client_error() => reasons::PARAMETER_INVALID,
        _ => reasons::INTERNAL,
    }
}

/// HTTP status of a problem. A few reasons have a status of their own; all others follow their code.
#[must_use]
pub fn status_of(code: Code, reason: &str) -> u16 {
    match reason {
        reasons::METHOD_NOT_ALLOWED => 405,
        reasons::NOT_ACCEPTABLE => 406,
        reasons::REQUEST_TIMEOUT => 408,
        reasons::BODY_TOO_LARGE => 413,
        reasons::COMPRESSION_UNSUPPORTED => 415,
        _ => status_of_code(code),
    }
}

/// The usual mapping, as google.rpc.Code documents it.
const fn status_of_code(code: Code) -> u16 {
    match code {
        Code::Ok => 200,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::ResourceExhausted => 429,
        Code::Cancelled => 499,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
    }
}
