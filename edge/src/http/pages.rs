//! Pages of others: where a browser sends all that a request needs by itself, because nobody is asked for a
//! credential or a client certificate is one, no page that a person has open elsewhere may act in their
//! place.
//!
//! A browser sends `Origin` with what a page of another origin posts, and it cannot be left out. A page can
//! bring its own name to point here instead (DNS rebinding), and then sends that name as `Host`; so a
//! process that serves loopback only answers to addresses and `localhost` alone.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Method, header::HOST, header::ORIGIN, uri::Authority};
use tonic::Code;

use crate::{
    Problem,
    access::{CredentialKind, Principal, browser::Origin},
    host,
    problem::{http::HttpProblem, reasons},
};

/// By which names requests may call the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// Any: a gateway or a credential says who comes.
    Any,
    /// Addresses and `localhost`.
    Local,
}

/// Who may come without a credential.
#[derive(Clone, Debug)]
pub(super) struct Guests {
    pub(super) hosts: Hosts,
    /// Origins whose pages may do what anybody may.
    pub(super) origins: Arc<[Origin]>,
}

/// Layer: refuses what a page of others asks for in somebody's place.
pub(super) async fn refuse(State(guests): State<Guests>, request: Request, next: Next) -> Response {
    match guests.check(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => HttpProblem(problem).into_response(),
    }
}

/// Layer behind the gate: the same for requests whose credential is the connection's certificate, which a
/// browser shows for every page.
pub(super) async fn refuse_certified(
    State(guests): State<Guests>,
    request: Request,
    next: Next,
) -> Response {
    let principal = request.extensions().get::<Principal>();
    let is_certified =
        principal.is_some_and(|principal| principal.kind == CredentialKind::Certificate);
    match is_certified {
        true => refuse(State(guests), request, next).await,
        false => next.run(request).await,
    }
}

impl Guests {
    fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let host = text(HOST).unwrap_or_default();
        if self.hosts == Hosts::Local && !host.is_empty() && !is_local(host) {
            return Err(forbidden(format!(
                "`{host}` is not a name of this process, which serves loopback only; call it by 127.0.0.1 or localhost"
            )));
        }
        // Reading is what the rules of CORS are for.
        let is_read = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
        let of_page = text(ORIGIN).filter(|_| !is_read);
        let is_own = |origin: &str| origin.split_once("://").is_some_and(|(_, from)| from == host);
        match of_page.filter(|origin| !is_own(origin) && !self.lists(origin)) {
            Some(origin) => Err(forbidden(format!(
                "the page is of `{origin}` and brings no credential of its own; list it in access.origins, or set access.mode = `required` and let it send one"
            ))),
            None => Ok(()),
        }
    }

    fn lists(&self, origin: &str) -> bool {
        origin.parse().is_ok_and(|origin: Origin| self.origins.contains(&origin))
    }
}

fn is_local(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    name.eq_ignore_ascii_case("localhost") || host::address(name).is_some()
}

fn forbidden(message: String) -> Problem {
    Problem::new(Code::PermissionDenied, reasons::ORIGIN_FORBIDDEN, message)
}

#[cfg(test)]
mod tests {
    use axum::{Extension, Router, body::Body, middleware, routing::post};
    use http::HeaderValue;
    use tower::ServiceExt as _;

    use super::*;
    use crate::access::principal::Parts;

    #[test]
    fn a_page_of_others_reads_by_the_rules_of_browsers_and_writes_nothing() {
        for (hosts, method, host, origin, is_in) in [
            (Hosts::Local, Method::GET, "127.0.0.1:7080", None, true),
            (Hosts::Local, Method::GET, "localhost:7080", None, true),
            (Hosts::Local, Method::GET, "[::1]:7080", None, true),
            (Hosts::Local, Method::GET, "", None, true),
            (Hosts::Local, Method::GET, "evil.example", None, false),
            (Hosts::Local, Method::GET, "127.0.0.1.evil.example", None, false),
            (Hosts::Local, Method::GET, "localhost.evil.example:7080", None, false),
            (Hosts::Any, Method::GET, "usage.example", None, true),
            (Hosts::Local, Method::POST, "127.0.0.1:7080", None, true),
            (Hosts::Local, Method::POST, "127.0.0.1:7080", Some("http://127.0.0.1:7080"), true),
            (Hosts::Local, Method::POST, "127.0.0.1:7080", Some("https://evil.example"), false),
            (Hosts::Local, Method::POST, "127.0.0.1:7080", Some("null"), false),
            (Hosts::Any, Method::POST, "usage.example", Some("https://evil.example"), false),
            (Hosts::Any, Method::POST, "usage.example", Some("https://usage.example"), true),
            (Hosts::Local, Method::GET, "127.0.0.1:7080", Some("https://evil.example"), true),
            (Hosts::Local, Method::POST, "127.0.0.1:7080", Some("https://listed.example"), true),
        ] {
            let mut headers = HeaderMap::new();
            if !host.is_empty() {
                headers.insert(HOST, HeaderValue::from_static(host));
            }
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            let origins = ["https://listed.example".parse().unwrap()].into();
            let found = Guests { hosts, origins }.check(&method, &headers).is_ok();
            assert_eq!(found, is_in, "{method} {host:?} {origin:?}");
        }
    }

    #[tokio::test]
    async fn a_page_of_others_does_not_write_with_a_browsers_certificate() {
        let of = |kind, origin: &'static str| async move {
            let parts = Parts { kind, ..Parts::clone(&Principal::local()) };
            let guests = Guests { hosts: Hosts::Any, origins: [].into() };
            let router = Router::new()
                .route("/v1/catalog", post(async || "written"))
                .layer(middleware::from_fn_with_state(guests, refuse_certified))
                .layer(Extension(Principal::new(parts)));
            let request = Request::post("/v1/catalog").header(HOST, "usage.example");
            let request = request.header(ORIGIN, origin).body(Body::empty()).unwrap();
            let response = router.oneshot(request).await.unwrap();
            response.extensions().get::<HttpProblem>().map(|problem| problem.0.reason)
        };
        let (own, evil) = ("https://usage.example", "https://evil.example");
        let refused = of(CredentialKind::Certificate, evil).await;
        assert_eq!(refused, Some(reasons::ORIGIN_FORBIDDEN));
        assert_eq!(of(CredentialKind::Certificate, own).await, None);
        assert_eq!(of(CredentialKind::ApiKey, evil).await, None, "no browser adds a header");
    }
}
