//! Browsers: which pages of others may read answers, and what a browser may make of ours.
//!
//! Closed unless listed: without origins no answer allows another page anything, and OPTIONS is
//! refused like any verb without a rule. A browser adds two credentials by itself, a session and a
//! client certificate. The gate refuses writes from pages of other origins with either;
//! [`session`](super::session) describes the check of a session.

use std::time::Duration;

use axum::{Router, response::Response};
use http::{
    HeaderName, HeaderValue, Method,
    header::{
        AUTHORIZATION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER,
        STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use tower_http::{cors::CorsLayer, set_header::SetResponseHeaderLayer};

use super::shown::API_KEY_HEADER;
use crate::correlation;

pub use super::origin::{NotAnOrigin, Origin};

/// How long a browser may remember what a preflight said.
const PREFLIGHT_AGE: Duration = Duration::from_secs(600);

/// How a door is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Without TLS.
    Plain,
    /// With TLS: browsers are told to keep to it for a year.
    Tls,
}

/// Puts both around all routes of the HTTP door. It goes outside of everything else: preflights come
/// without credentials, and refusals need the headers too.
pub fn guard(router: Router, origins: &[Origin], transport: Transport) -> Router {
    let router = with_security_headers(router, transport);
    // The layer answers every OPTIONS, so where no origin is listed there is none.
    if origins.is_empty() { router } else { router.layer(cors(origins)) }
}

fn cors(origins: &[Origin]) -> CorsLayer {
    const RATE_LIMIT: [HeaderName; 3] = [
        HeaderName::from_static("ratelimit-limit"),
        HeaderName::from_static("ratelimit-remaining"),
        HeaderName::from_static("ratelimit-reset"),
    ];
    let exposed = RATE_LIMIT.into_iter().chain([RETRY_AFTER, correlation::HEADER]);
    CorsLayer::new()
        .allow_origin(origins.iter().map(|origin| origin.header().clone()).collect::<Vec<_>>())
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([AUTHORIZATION, API_KEY_HEADER, CONTENT_TYPE, correlation::HEADER])
        .expose_headers(exposed.collect::<Vec<_>>())
        .max_age(PREFLIGHT_AGE)
}

/// Headers that a handler may set itself; where it does not, the strict ones hold.
fn with_security_headers(router: Router, transport: Transport) -> Router {
    let fixed =
        |name, value| SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value));
    let router = router
        .layer(fixed(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(fixed(X_FRAME_OPTIONS, "DENY"))
        .layer(fixed(REFERRER_POLICY, "no-referrer"))
        .layer(SetResponseHeaderLayer::if_not_present(CONTENT_SECURITY_POLICY, policy));
    match transport {
        Transport::Plain => router,
        Transport::Tls => router.layer(fixed(STRICT_TRANSPORT_SECURITY, "max-age=31536000")),
    }
}

/// Data is never to be run. A page may hold scripts and styles of its own, and loads them from here.
fn policy(response: &Response) -> Option<HeaderValue> {
    let kind = response.headers().get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    let policy = match kind.starts_with(b"text/html") {
        true => {
            "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
             img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; \
             frame-ancestors 'none'"
        }
        false => "default-src 'none'; frame-ancestors 'none'",
    };
    Some(HeaderValue::from_static(policy))
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, response::Html, routing::get};
    use http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn send(origins: &[&str], transport: Transport, verb: &str, origin: &str) -> Response {
        let origins: Vec<_> = origins.iter().map(|origin| origin.parse().unwrap()).collect();
        let own = [(X_FRAME_OPTIONS, "SAMEORIGIN")];
        let router = Router::new()
            .route("/data", get(async || "{}"))
            .route("/page", get(async move || (own, Html("<h1>Pulso</h1>"))));
        let path = if verb == "PAGE" { "/page" } else { "/data" };
        let verb = if verb == "PAGE" { "GET" } else { verb };
        let request = Request::builder()
            .method(verb)
            .uri(path)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .body(Body::empty())
            .unwrap();
        guard(router, &origins, transport).oneshot(request).await.unwrap()
    }

    fn header<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
        response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[tokio::test]
    async fn pages_of_others_read_nothing_unless_their_origin_is_listed() {
        const ALLOWED: &str = "access-control-allow-origin";
        let (app, evil) = ("https://app.example", "https://evil.example");
        for (listed, origin, expected) in [
            (&[][..], app, None),
            (&[app], app, Some(app)),
            (&[app], evil, None),
            (&[app], "null", None),
            (&[app], "https://app.example.evil.example", None),
            (&[app], "https://app.example:8443", None),
            (&[app], "http://app.example", None),
            (&["http://localhost:3000", app], app, Some(app)),
        ] {
            for verb in ["GET", "OPTIONS"] {
                let response = send(listed, Transport::Plain, verb, origin).await;
                assert_eq!(header(&response, ALLOWED), expected, "{verb} {listed:?} {origin}");
                assert_eq!(header(&response, "access-control-allow-credentials"), None);
            }
        }
        let preflight = send(&[app], Transport::Plain, "OPTIONS", app).await;
        let allowed = header(&preflight, "access-control-allow-headers").unwrap();
        assert_eq!(allowed, "authorization,x-api-key,content-type,x-request-id");
        let closed = send(&[], Transport::Plain, "OPTIONS", app).await;
        assert_eq!(closed.status(), 405, "the router's own answer");
    }

    #[tokio::test]
    async fn every_answer_has_the_headers_and_a_handlers_own_stay() {
        for (transport, hsts) in
            [(Transport::Plain, None), (Transport::Tls, Some("max-age=31536000"))]
        {
            let response = send(&[], transport, "GET", "https://app.example").await;
            assert_eq!(header(&response, "x-content-type-options"), Some("nosniff"));
            assert_eq!(header(&response, "x-frame-options"), Some("DENY"));
            assert_eq!(header(&response, "referrer-policy"), Some("no-referrer"));
            assert_eq!(header(&response, "strict-transport-security"), hsts);
            let policy = header(&response, "content-security-policy");
            assert_eq!(policy, Some("default-src 'none'; frame-ancestors 'none'"));
        }
        let page = send(&[], Transport::Plain, "PAGE", "https://app.example").await;
        assert_eq!(header(&page, "x-frame-options"), Some("SAMEORIGIN"));
        assert!(header(&page, "content-security-policy").unwrap().contains("script-src 'self';"));
    }
}
