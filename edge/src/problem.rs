//! Problem: why a request was refused, said once and shown alike by gRPC, HTTP and the commands.
//!
//! A stage builds a [`Problem`]; [`grpc`] makes it a `tonic::Status` with `google.rpc` details,
//! [`http`] an RFC 9457 document. The reason is always a word of [`reasons::TABLE`], which is
//! also published as `docs/errors.md`. A good message says what was wrong, where, and what to do;
//! it goes to the client, so it never holds what the client may not know.

use std::{fmt, time::Duration};

use tonic::Code;

pub mod grpc;
pub mod reasons;
pub mod http;
pub mod layer;
mod store;

pub use grpc::{explain, reason_of, retry_after_of};
pub use http::ProblemJson;
pub use layer::RefusalLayer;

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The canonical code, which tells a program whether to retry.
    pub code: Code,
    /// A word of [`reasons::TABLE`].
    pub reason: &'static str,
    /// For a person: what was wrong and what to do.
    pub message: String,
    /// The fields that are wrong; empty when it is not about fields.
    pub violations: Vec<Violation>,
    /// How long to wait before the same request may succeed.
    pub retry_after: Option<Duration>,
}

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, for example `pulses[3].used_amount`.
    pub field: String,
    /// A word of [`reasons::TABLE`].
    pub reason: &'static str,
    /// For a person: what was wrong and what to do.
    pub message: String,
}

impl Violation {
    /// Says what is wrong with one field.
    pub fn new(field: impl Into<String>, reason: &'static str, message: impl Into<String>) -> Self {
        debug_assert!(reasons::meaning(reason).is_some(), "{reason} is missing from the table");
        Self { field: field.into(), reason, message: message.into() }
    }
}

impl Problem {
    /// A problem without violations or a time to retry.
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        debug_assert!(reasons::meaning(reason).is_some(), "{reason} is missing from the table");
        Self { code, reason, message: message.into(), violations: Vec::new(), retry_after: None }
    }

    /// INVALID_ARGUMENT: one field is wrong, and the client has to mend it.
    pub fn invalid(
        field: impl Into<String>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self::of_violation(Violation::new(field, reason, message))
    }

    /// INVALID_ARGUMENT with all that is wrong, or `Ok` when nothing is. The first violation gives
    /// the reason.
    ///
    /// # Errors
    /// The problem, when there is at least one violation.
    pub fn check(violations: Vec<Violation>) -> Result<(), Self> {
        let mut violations = violations.into_iter();
        let Some(first) = violations.next() else { return Ok(()) };
        let mut problem = violations.fold(Self::of_violation(first), Self::with_violation);
        if let more @ 1.. = problem.violations.len() - 1 {
            problem.message.push_str(&format!(" (and {more} more)"));
        }
        Err(problem)
    }

    /// RESOURCE_EXHAUSTED, `LOG_OVERLOADED`: the log's queue is full; nothing was taken.
    #[must_use]
    pub fn overloaded(retry_after: Duration) -> Self {
        let message = "the log's queue is full and nothing of this was taken; send it again \
                       unchanged after the given wait";
        Self::exhausted(reasons::LOG_OVERLOADED, message).with_retry_after(retry_after)
    }

    /// RESOURCE_EXHAUSTED: a limit is reached.
    pub fn exhausted(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::ResourceExhausted, reason, message)
    }

    /// UNAVAILABLE: a part behind the server does not answer now; a retry may succeed.
    pub fn unavailable(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, reason, message)
    }

    /// UNAVAILABLE, `OUTCOME_UNKNOWN`: it may or may not have been done; the same request again,
    /// unchanged, settles it.
    pub fn outcome_unknown(message: impl Into<String>) -> Self {
        Self::unavailable(reasons::OUTCOME_UNKNOWN, message)
    }

    /// UNAVAILABLE, `SHUTTING_DOWN`: this process takes no more work.
    #[must_use]
    pub fn shutting_down() -> Self {
        let message = "the server is shutting down and nothing of this was taken; send it again, \
                       to another server or to this one once it is back";
        Self::unavailable(reasons::SHUTTING_DOWN, message)
    }

    /// NOT_FOUND, `ROUTE_NOT_FOUND`: HTTP has nothing at this path.
    #[must_use]
    pub fn no_route(path: &str) -> Self {
        let message = format!("nothing is served under {path}; / lists what is");
        Self::not_found(reasons::ROUTE_NOT_FOUND, message)
    }

    /// UNIMPLEMENTED, `ROUTE_NOT_FOUND`: no running stage has this gRPC method.
    #[must_use]
    pub fn no_method(path: &str) -> Self {
        let message = format!("there is no method {path} in the stages that run here");
        Self::new(Code::Unimplemented, reasons::ROUTE_NOT_FOUND, message)
    }

    /// UNIMPLEMENTED, `METHOD_NOT_ALLOWED`: the path takes other verbs, which the `Allow` header lists.
    #[must_use]
    pub fn other_verb() -> Self {
        let message =
            "this address does not take this method; the Allow header lists those it takes";
        Self::new(Code::Unimplemented, reasons::METHOD_NOT_ALLOWED, message)
    }

    /// NOT_FOUND: what was asked for does not exist.
    pub fn not_found(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, reason, message)
    }

    /// ALREADY_EXISTS: something else stands where this would be put.
    pub fn already_exists(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::AlreadyExists, reason, message)
    }

    /// FAILED_PRECONDITION: the request is fine, the state does not allow it, and a retry alone
    /// will not help.
    pub fn failed_precondition(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, reason, message)
    }

    /// INTERNAL: our fault. Log the cause beside it; the message goes to the client.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, reasons::INTERNAL, message)
    }

    /// The same with one more wrong field.
    #[must_use]
    pub fn with_violation(mut self, violation: Violation) -> Self {
        self.violations.push(violation);
        self
    }

    /// The same with a time to wait before the next try.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    fn of_violation(violation: Violation) -> Self {
        let message = format!("{}: {}", violation.field, violation.message);
        Self::new(Code::InvalidArgument, violation.reason, message).with_violation(violation)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.reason)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests;
