//! The two doors of the gate: how methods are named there, refusals written and outcomes read.

use http::{
    HeaderValue, Method, Response,
    header::{ALLOW, WWW_AUTHENTICATE},
};
use metrics::counter;
use tonic::{Code, Status};

use crate::{
    Problem,
    access::rate::{Remaining, TooMany},
    problem::http::{HttpProblem, reason_of},
    requests::{OK, grpc_outcome},
};

/// Which door a layer is for: how methods are named, and refusals written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Grpc,
    Http,
}

impl Door {
    /// Why a handler refused, by the head of its answer: methods that write answer with one message,
    /// so nothing comes behind it.
    pub(super) fn refused<A>(self, answer: &Response<A>) -> Option<&'static str> {
        if self == Self::Grpc {
            return grpc_outcome(answer.headers()).filter(|outcome| *outcome != OK);
        }
        let status = answer.status();
        let is_error = status.is_client_error() || status.is_server_error();
        let problem = answer.extensions().get::<HttpProblem>();
        let reason = problem.map(|HttpProblem(problem)| problem.reason);
        reason.or_else(|| is_error.then(|| reason_of(status)))
    }

    /// What it answers where it has nothing.
    pub(super) fn no_such(self, path: &str) -> Problem {
        match self {
            Self::Grpc => Problem::no_method(path),
            Self::Http => Problem::no_route(path),
        }
    }

    /// A refusal as the door's clients read it. Counts it.
    pub(super) fn write<A: Default>(self, refused: Refused) -> Response<A> {
        let Refused { problem, remaining, verbs } = refused;
        counter!("pulso_access_refusals_total", "reason" => problem.reason).increment(1);
        if self == Self::Grpc {
            return Status::from(problem).into_http();
        }
        let mut response = Response::new(A::default());
        // The status is set by the layer that writes problems out; without it, this one shows.
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        let headers = response.headers_mut();
        if problem.code == Code::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"pulso\""));
        }
        if !verbs.is_empty() {
            let verbs: Vec<_> = verbs.iter().map(Method::as_str).collect();
            let allow = HeaderValue::from_str(&verbs.join(",")).expect("verbs are letters");
            headers.insert(ALLOW, allow);
        }
        if let Some(remaining) = remaining {
            remaining.write(headers);
        }
        response.extensions_mut().insert(HttpProblem(problem));
        response
    }
}

/// A request that does not come in.
pub(super) struct Refused {
    pub(super) problem: Problem,
    pub(super) remaining: Option<Remaining>,
    /// The verbs that the path takes, where another one came.
    pub(super) verbs: Vec<Method>,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self { problem, remaining: None, verbs: Vec::new() }
    }
}

impl From<Problem> for Box<Refused> {
    fn from(problem: Problem) -> Self {
        Self::new(problem.into())
    }
}

impl From<Box<TooMany>> for Box<Refused> {
    fn from(too_many: Box<TooMany>) -> Self {
        let TooMany { problem, remaining } = *too_many;
        Self::new(Refused { problem, remaining: Some(remaining), verbs: Vec::new() })
    }
}
