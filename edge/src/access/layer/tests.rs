//! The gate: every role at every rule, own and foreign tenants, every kind of wrong credential, at
//! both doors.

mod certified;

use std::convert::Infallible;

use domain::{Clock, Name, Tenant};
use storage::memory::MemoryBillingStore;
use tower::ServiceExt;

use http::header::{ALLOW, WWW_AUTHENTICATE};
use tonic::Status;

use super::*;
use crate::{
    access::{
        authenticator::ApiKeys,
        browser::Transport,
        keys::{KeyOptions, Keys, NewKey},
        pages::Hosts,
        principal::{Role, Roles, Tenants},
        quota::QuotaLimits,
        rate::{Rate, RateLimits},
        rules::{Rule, TenantRule},
        samples::{NOW, SetClock, fickle},
        trail::{AuditEntry, Outcome, Trail, TrailQuery},
    },
    listen::TlsPeer,
    problem::{http::HttpProblem, reason_of, reasons},
};

const READERS: Roles = Roles::of(&[Role::Admin, Role::Operator, Role::Analyst, Role::Viewer]);

const RULES: [Rule; 7] = [
    Rule::open("GET /livez"),
    Rule::open("/grpc.health.v1.Health/Check"),
    Rule::read("GET /v1/usage", READERS, TenantRule::FromRequest),
    Rule::write("POST /v1/catalog", Roles::of(&[Role::Admin]), TenantRule::AllTenants),
    Rule::read("/pulso.v1.QueryService/QueryUsage", READERS, TenantRule::FromRequest),
    Rule::write(
        "/pulso.v1.CatalogService/Publish",
        Roles::of(&[Role::Admin]),
        TenantRule::AllTenants,
    ),
    Rule::send_pulses(
        "/pulso.v1.IngestService/Ingest",
        Roles::of(&[Role::Writer]),
        TenantRule::Any,
    ),
];

struct Fixture {
    keys: Arc<Keys<MemoryBillingStore>>,
    clock: SetClock,
    /// What the trail is kept in.
    store: MemoryBillingStore,
    trail: Arc<Trail<MemoryBillingStore>>,
    access: Access,
}

/// What a handler saw of a request: its principal and the names of its headers.
type Seen = Option<(Option<Principal>, Vec<String>)>;

impl Fixture {
    async fn new() -> Self {
        Self::with(RateLimits::default()).await
    }

    async fn with(limits: RateLimits) -> Self {
        Self::with_quotas(limits, Quotas::default()).await
    }

    async fn with_quotas(limits: RateLimits, quotas: Quotas) -> Self {
        let clock = SetClock::new();
        let store = Arc::new(MemoryBillingStore::new());
        let keys = Keys::open(store, None, KeyOptions::default(), clock.shared()).await.unwrap();
        let keys = Arc::new(keys);
        let authenticator =
            Authenticator::new(clock.shared()).with_keys(Arc::clone(&keys) as Arc<dyn ApiKeys>);
        let rates = Rates::new(&limits, &clock.shared());
        let store = fickle();
        let trail = Arc::new(Trail::new(Arc::new(store.clone()), clock.shared()));
        let rules = Rules::new(RULES).unwrap();
        let access = Access::new(rules, authenticator, (rates, quotas), Arc::clone(&trail) as _);
        Self { keys, clock, store, trail, access }
    }

    async fn key(&self, roles: Roles, tenants: Tenants) -> String {
        // A name has one set of tenants.
        let name = if tenants.is_all() { "meter".to_owned() } else { tenants.to_string() };
        let name = Name::new(&name).unwrap();
        let expires_at = Some(self.clock.now().plus(std::time::Duration::from_secs(60)));
        let new = NewKey { name, roles, tenants, expires_at };
        self.keys.create(new, "ada").await.unwrap().0.reveal()
    }

    /// Sends a request of a method, as the rules name it.
    async fn send(&self, method: &str, credential: Option<&str>) -> Answer {
        send(&self.access, method, credential).await
    }
}

/// What came of a request: the reason of its refusal, the answer's headers, and what the handler saw.
struct Answer {
    reason: Option<String>,
    headers: http::HeaderMap,
    seen: Seen,
}

fn guests() -> Guests {
    Guests { hosts: Hosts::Any, origins: [].into(), transport: Transport::Tls }
}

async fn send(access: &Access, method: &str, credential: Option<&str>) -> Answer {
    send_with(access, method, credential, None).await
}

async fn send_with(
    access: &Access,
    method: &str,
    credential: Option<&str>,
    certificate: Option<TlsPeer>,
) -> Answer {
    let (layer, verb, path) = match method.split_once(' ') {
        Some((verb, path)) => (AccessLayer::http(access.clone(), guests()), verb, path),
        None => (AccessLayer::grpc(access.clone()), "POST", method),
    };
    let mut request = Request::builder().method(verb).uri(path).header("x-other", "kept");
    if verb == "POST" && path == method {
        request = request.header("content-type", "application/grpc");
    }
    if let Some(credential) = credential {
        request = request.header("authorization", format!("Bearer {credential}"));
    }
    if let Some(certificate) = certificate {
        request = request.extension(certificate);
    }
    let handler = tower::service_fn(async |request: Request<()>| {
        let principal = request.extensions().get::<Principal>().cloned();
        let headers = request.headers().keys().filter(|name| *name != "content-type");
        let headers = headers.map(ToString::to_string).collect();
        Ok::<_, Infallible>(Response::new(Some((principal, headers))))
    });
    let response = layer.layer(handler).oneshot(request.body(()).unwrap()).await.unwrap();
    let response: Response<Seen> = response.map(Watched::into_inner);
    let http =
        response.extensions().get::<HttpProblem>().map(|problem| problem.0.reason.to_owned());
    let grpc = Status::from_header_map(response.headers()).and_then(|status| reason_of(&status));
    let reason = http.or(grpc);
    Answer { reason, headers: response.headers().clone(), seen: response.into_body() }
}

#[tokio::test]
async fn every_role_at_every_rule_for_its_own_and_for_all_tenants() {
    let fixture = Fixture::new().await;
    for role in Role::ALL {
        for tenants in [Tenants::ALL, Tenants::one(Tenant::new("acme").unwrap())] {
            let key = fixture.key(Roles::of(&[role]), tenants.clone()).await;
            for rule in RULES {
                let answer = fixture.send(rule.method, Some(&key)).await;
                let expected = match rule.tenants {
                    TenantRule::Open => None,
                    _ if !rule.roles.contains(role) => Some(reasons::ROLE_MISSING),
                    TenantRule::AllTenants if !tenants.is_all() => Some(reasons::TENANT_FORBIDDEN),
                    _ => None,
                };
                assert_eq!(answer.reason.as_deref(), expected, "{role} {tenants} {rule:?}");
                assert_eq!(answer.seen.is_some(), expected.is_none());
                if let Some((principal, _)) = answer.seen {
                    assert_eq!(principal.is_none(), rule.is_open());
                    let Some(principal) = principal else { continue };
                    assert_eq!(principal.roles, Roles::of(&[role]));
                    assert_eq!(principal.tenants, tenants);
                }
            }
        }
    }
}

#[tokio::test]
async fn every_wrong_credential_is_refused_at_every_rule_but_the_open_ones() {
    let fixture = Fixture::new().await;
    let all = || Tenants::ALL;
    let revoked = fixture.key(Roles::ALL, all()).await;
    let expired = fixture.key(Roles::ALL, all()).await;
    fixture.keys.revoke(&revoked[6..22], "ada").await.unwrap();
    fixture.clock.set(NOW + 60);
    let malformed = revoked[..80].to_owned();
    let other = crate::access::api_key::ApiKey::mint().reveal();
    for (credential, expected) in [
        (None, reasons::CREDENTIAL_MISSING),
        (Some(&revoked), reasons::CREDENTIAL_REVOKED),
        (Some(&expired), reasons::CREDENTIAL_EXPIRED),
        (Some(&malformed), reasons::CREDENTIAL_INVALID),
        (Some(&other), reasons::CREDENTIAL_INVALID),
        (Some(&"a.b.c".to_owned()), reasons::CREDENTIAL_INVALID),
    ] {
        for rule in RULES {
            let answer = fixture.send(rule.method, credential.map(String::as_str)).await;
            let expected = (!rule.is_open()).then_some(expected);
            assert_eq!(answer.reason.as_deref(), expected, "{credential:?} {rule:?}");
            assert_eq!(answer.seen.is_some(), rule.is_open());
            let printed = format!("{:?}", answer.headers);
            assert!(credential.is_none_or(|text| !printed.contains(text.as_str())), "{printed}");
            let is_challenged = answer.headers.contains_key(WWW_AUTHENTICATE);
            assert_eq!(is_challenged, expected.is_some() && rule.method.contains(' '));
        }
    }
}

#[tokio::test]
async fn what_has_no_rule_is_refused_whoever_asks() {
    let fixture = Fixture::new().await;
    let key = fixture.key(Roles::ALL, Tenants::ALL).await;
    for (method, expected) in [
        ("GET /v1/new", reasons::ROUTE_NOT_FOUND),
        ("GET /v1/usage/", reasons::ROUTE_NOT_FOUND),
        ("GET //livez", reasons::ROUTE_NOT_FOUND),
        ("POST /v1/usage", reasons::METHOD_NOT_ALLOWED),
        ("OPTIONS /v1/usage", reasons::METHOD_NOT_ALLOWED),
        ("POST /livez", reasons::METHOD_NOT_ALLOWED),
        ("/pulso.v1.QueryService/New", reasons::ROUTE_NOT_FOUND),
        ("/livez", reasons::ROUTE_NOT_FOUND),
    ] {
        for credential in [None, Some(&*key)] {
            let answer = fixture.send(method, credential).await;
            assert_eq!(answer.reason.as_deref(), Some(expected), "{method}");
            assert!(answer.seen.is_none());
        }
    }
    let answer = fixture.send("POST /v1/usage", None).await;
    assert_eq!(answer.headers[ALLOW], "GET,HEAD");
}

#[tokio::test]
async fn handlers_see_the_principal_and_never_the_credential() {
    let fixture = Fixture::new().await;
    let key = fixture.key(READERS, Tenants::ALL).await;
    for (method, expected) in
        [("GET /v1/usage", Some("meter")), ("HEAD /v1/usage", Some("meter")), ("GET /livez", None)]
    {
        let (principal, headers) = fixture.send(method, Some(&key)).await.seen.unwrap();
        assert_eq!(principal.as_ref().map(|principal| &*principal.name), expected, "{method}");
        assert_eq!(headers, ["x-other"], "{method}");
    }
}

#[tokio::test]
async fn while_access_is_off_every_request_is_local() {
    let rates = Rates::new(&RateLimits::default(), &SetClock::new().shared());
    let trail = Arc::new(Trail::new(Arc::new(fickle()), SetClock::new().shared()));
    let access = Access::off(Rules::new(RULES).unwrap(), rates, Arc::clone(&trail) as _);
    assert!(!access.is_on() && Fixture::new().await.access.is_on());
    for method in ["GET /v1/usage", "POST /v1/catalog", "/pulso.v1.IngestService/Ingest"] {
        for credential in [None, Some("whatever")] {
            let (principal, headers) = send(&access, method, credential).await.seen.unwrap();
            assert_eq!(principal, Some(Principal::local()));
            assert_eq!(headers, ["x-other"], "{method}");
        }
    }
    // The router answers for what it has not got.
    assert!(send(&access, "GET /v1/new", None).await.seen.is_some());
    assert!(Principal::of(&http::Extensions::new()).is_err(), "a handler without a gate");
    assert!(Change::of(&http::Extensions::new()).is_err(), "a handler that nobody records");
    let recorded = entries(&trail).await;
    assert_eq!(recorded.len(), 2, "{recorded:?}");
    assert_eq!(
        (&*recorded[0].begun.who.id, &*recorded[0].begun.method),
        ("local", "POST /v1/catalog")
    );
}

/// All that was recorded.
async fn entries(trail: &Trail<MemoryBillingStore>) -> Vec<AuditEntry> {
    let moment = |seconds| domain::Timestamp::from_parts(seconds, 0).unwrap();
    let (from, to) = (moment(NOW - 1), moment(NOW + 86_400));
    let query = TrailQuery { from, to, who: None, method: None, after: None, limit: 1_000 };
    trail.page(&query).await.unwrap().entries
}

#[tokio::test]
async fn each_write_of_a_known_client_is_recorded_once_and_nothing_of_an_unknown_one() {
    let fixture = Fixture::new().await;
    let admin = fixture.key(Roles::of(&[Role::Admin]), Tenants::ALL).await;
    let viewer = fixture.key(Roles::of(&[Role::Viewer]), Tenants::ALL).await;
    let writer = fixture.key(Roles::of(&[Role::Writer]), Tenants::ALL).await;
    for key in [Some(&*admin), Some(&*viewer), Some(&*writer), Some("guess"), None] {
        for rule in RULES {
            fixture.send(rule.method, key).await;
        }
    }
    let found: Vec<_> = entries(&fixture.trail)
        .await
        .into_iter()
        .map(|AuditEntry { begun, ended }| {
            (begun.who.roles.to_string(), begun.who.kind, begun.method, ended.unwrap().outcome)
        })
        .collect();
    let expected: Vec<_> = ["admin", "viewer", "writer"]
        .into_iter()
        .flat_map(|role| {
            ["POST /v1/catalog", "/pulso.v1.CatalogService/Publish"].map(|method| {
                let reason = reasons::ROLE_MISSING.to_owned();
                let outcome = match role {
                    "admin" => Outcome::Done,
                    _ => Outcome::Refused { reason },
                };
                (role.to_owned(), "api_key".to_owned(), method.to_owned(), outcome)
            })
        })
        .collect();
    assert_eq!(found, expected);
    let secrets = [&admin, &viewer, &writer].map(|key| key[23..].to_owned());
    let recorded = format!("{:?}", entries(&fixture.trail).await);
    assert!(secrets.iter().all(|secret| !recorded.contains(secret.as_str())), "a key is recorded");
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_written_and_can_still_be_read() {
    let fixture = Fixture::new().await;
    let key = fixture.key(Roles::of(&[Role::Admin]), Tenants::ALL).await;
    fixture.store.go_away();
    for rule in RULES {
        let answer = fixture.send(rule.method, Some(&key)).await;
        let expected = match rule.effect {
            Effect::Writes => Some(reasons::STORE_UNAVAILABLE),
            Effect::SendsPulses => Some(reasons::ROLE_MISSING),
            Effect::Reads => None,
        };
        assert_eq!(answer.reason.as_deref(), expected, "{rule:?}");
        assert_eq!(answer.seen.is_some(), expected.is_none(), "{rule:?}");
    }
}

#[tokio::test]
async fn a_client_and_an_address_are_bounded_and_probes_are_not() {
    let rate = Rate::new(1, 3);
    let limits = RateLimits { per_address: rate, ..RateLimits::default() };
    let fixture = Fixture::with(limits).await;
    // Guesses empty the bucket of the address as well.
    for left in ["2", "1", "0"] {
        let answer = fixture.send("GET /v1/usage", Some("guess")).await;
        assert_eq!(answer.reason.as_deref(), Some(reasons::CREDENTIAL_INVALID), "{left}");
    }
    let key = fixture.key(READERS, Tenants::ALL).await;
    let answer = fixture.send("GET /v1/usage", Some(&key)).await;
    assert_eq!(answer.reason.as_deref(), Some(reasons::RATE_LIMITED));
    assert_eq!(answer.headers["ratelimit-remaining"], "0");
    let answer = fixture.send("/pulso.v1.QueryService/QueryUsage", Some(&key)).await;
    assert_eq!(answer.reason.as_deref(), Some(reasons::RATE_LIMITED));
    assert!(fixture.send("GET /livez", None).await.seen.is_some());
    fixture.clock.pass(3);
    let limits = RateLimits { per_credential: rate, ..limits };
    let fixture = Fixture::with(limits).await;
    let key = fixture.key(READERS, Tenants::ALL).await;
    let answer = fixture.send("GET /v1/usage", Some(&key)).await;
    let headers = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"];
    assert_eq!(headers.map(|name| answer.headers[name].to_str().unwrap()), ["3", "2", "1"]);
}

#[tokio::test]
async fn a_refused_request_is_told_what_is_left_of_the_rate_of_its_address() {
    let limits = RateLimits { per_address: Rate::new(10, 10), ..RateLimits::default() };
    let fixture = Fixture::with(limits).await;
    let viewer = fixture.key(Roles::of(&[Role::Viewer]), Tenants::ALL).await;
    let cases = [
        ("GET /v1/usage", None, reasons::CREDENTIAL_MISSING),
        ("GET /v1/usage", Some("guess"), reasons::CREDENTIAL_INVALID),
        ("POST /v1/catalog", Some(&*viewer), reasons::ROLE_MISSING),
        ("GET /v1/new", Some(&*viewer), reasons::ROUTE_NOT_FOUND),
        ("POST /v1/usage", Some(&*viewer), reasons::METHOD_NOT_ALLOWED),
    ];
    for (left, (method, credential, reason)) in ["9", "8", "7", "6", "5"].into_iter().zip(cases) {
        let answer = fixture.send(method, credential).await;
        assert_eq!(answer.reason.as_deref(), Some(reason), "{method}");
        let headers = ["ratelimit-limit", "ratelimit-remaining"];
        let found = headers.map(|name| answer.headers[name].to_str().unwrap());
        assert_eq!(found, ["10", left], "{method}");
    }
}

#[tokio::test]
async fn a_stream_has_a_place_until_its_answer_is_dropped() {
    let streams = std::num::NonZeroU32::new(1);
    let quotas = Quotas::new(QuotaLimits { streams, ..QuotaLimits::default() });
    let path = "/pulso.v1.QueryService/QueryUsage";
    let quotas = quotas.with_streams([path.to_owned()]);
    let fixture = Fixture::with_quotas(RateLimits::default(), quotas).await;
    let (own, other) = (
        fixture.key(READERS, Tenants::ALL).await,
        fixture.key(READERS, Tenants::one(Tenant::new("acme").unwrap())).await,
    );
    let handler =
        tower::service_fn(async |_| Ok::<_, Infallible>(Response::new(tonic::body::Body::empty())));
    let gate = AccessLayer::grpc(fixture.access.clone()).layer(handler);
    let send = async |key: &str| {
        let request = Request::post(path).header("x-api-key", key);
        let request = request.header(CONTENT_TYPE, "application/grpc").body(()).unwrap();
        let response = gate.clone().oneshot(request).await.unwrap();
        let status = Status::from_header_map(response.headers());
        (response, status.and_then(|status| reason_of(&status)))
    };
    let (open, refused) = send(&own).await;
    assert_eq!(refused, None);
    let (_, refused) = send(&own).await;
    assert_eq!(refused.as_deref(), Some(reasons::QUOTA_EXCEEDED));
    let (_, refused) = send(&other).await;
    assert_eq!(refused, None, "another client has its own");
    drop(open);
    let (_, refused) = send(&own).await;
    assert_eq!(refused, None);
}

#[tokio::test]
async fn bytes_that_a_page_can_send_to_the_grpc_port_are_no_call() {
    let fixture = Fixture::new().await;
    let key = fixture.key(Roles::ALL, Tenants::ALL).await;
    let off = Access::off(
        Rules::new(RULES).unwrap(),
        Rates::new(&RateLimits::default(), &fixture.clock.shared()),
        Arc::clone(&fixture.trail) as _,
    );
    let handler =
        tower::service_fn(async |_| Ok::<_, Infallible>(Response::new(tonic::body::Body::empty())));
    for access in [fixture.access.clone(), off] {
        let gate = AccessLayer::grpc(access).layer(handler);
        for (kind, is_call) in [
            (Some("application/grpc"), true),
            (Some("application/grpc+proto"), true),
            // What a page may send without asking first.
            (Some("text/plain"), false),
            (Some("application/x-www-form-urlencoded"), false),
            (Some("multipart/form-data; boundary=x"), false),
            (None, false),
        ] {
            let mut request = Request::post("/pulso.v1.QueryService/QueryUsage")
                .header("x-api-key", &key)
                .header("origin", "https://evil.example");
            if let Some(kind) = kind {
                request = request.header(CONTENT_TYPE, kind);
            }
            let response = gate.clone().oneshot(request.body(()).unwrap()).await.unwrap();
            let status = Status::from_header_map(response.headers());
            let refused = status.and_then(|status| reason_of(&status));
            let expected = (!is_call).then_some(reasons::REQUEST_UNDECODABLE);
            assert_eq!(refused.as_deref(), expected, "{kind:?}");
        }
    }
}

#[tokio::test]
async fn the_gate_stands_in_a_router_and_in_a_grpc_server() {
    let fixture = Fixture::new().await;
    let key = fixture.key(READERS, Tenants::ALL).await;
    let answer = async |request: axum::extract::Request| {
        Principal::of(request.extensions())
            .map(|principal| principal.name.clone())
            .map_err(HttpProblem)
    };
    let http = axum::Router::new()
        .route("/v1/usage", axum::routing::get(answer))
        .layer(AccessLayer::http(fixture.access.clone(), guests()));
    let grpc =
        axum::Router::new().route("/pulso.v1.QueryService/QueryUsage", axum::routing::post(answer));
    let grpc = tonic::service::Routes::from(grpc);
    let gate = AccessLayer::grpc(fixture.access.clone());
    // It compiles: what a server needs of its layers.
    let _ = tonic::transport::Server::builder().layer(gate.clone()).add_routes(grpc.clone());
    let grpc = gate.layer(grpc);
    for (credential, is_let_in) in [(Some(&key), true), (None, false)] {
        let request = |verb: &str, path: &str| {
            let request = Request::builder().method(verb).uri(path);
            let request = request.header(CONTENT_TYPE, "application/grpc");
            match credential {
                Some(key) => request.header("x-api-key", key),
                None => request,
            }
        };
        let call = request("POST", "/pulso.v1.QueryService/QueryUsage");
        let response = grpc.clone().oneshot(call.body(tonic::body::Body::empty()).unwrap());
        let status = Status::from_header_map(response.await.unwrap().headers());
        assert_eq!(status.is_none(), is_let_in, "{status:?}");
        let read = request("GET", "/v1/usage").body(axum::body::Body::empty()).unwrap();
        let response = http.clone().oneshot(read).await.unwrap();
        assert_eq!(response.extensions().get::<HttpProblem>().is_none(), is_let_in);
        if is_let_in {
            let body = axum::body::to_bytes(response.into_body(), 99).await.unwrap();
            assert_eq!(body, "meter");
        }
    }
}
