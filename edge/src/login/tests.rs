//! A whole login against a provider that runs, and the attacks on each step of it.

mod attacks;
mod provider;

use axum::{
    Router,
    body::{Body, to_bytes},
    response::Response,
};
use http::{HeaderMap, Request, StatusCode, header::SET_COOKIE};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use utoipa::OpenApi as _;

use self::provider::{CLIENT, Conduct, Provider, SECRET};
use super::{failure::LoginError, *};
use crate::{
    access::{
        Access, Authenticator, Principal, Roles, Rules, TenantRule,
        browser::Transport,
        issuer::DiscoveredKeys,
        jwt::{
            TokenOptions,
            keyring::{KeyRing, ReloadOptions},
        },
        quota::Quotas,
        samples::{By, NOW, SetClock, fickle},
        trail::Trail,
        web::{Client, Patience},
    },
    http::{Front, Hosts, described, router},
    problem::http::HttpProblem,
};

const PAGES: &str = "http://localhost:7080";

/// The HTTP door of a process with a login, two routes behind the gate, and a browser.
struct Fixture {
    provider: Provider,
    clock: SetClock,
    login: Arc<Login>,
    router: Router,
}

impl Fixture {
    async fn new(conduct: Conduct) -> Self {
        let provider = Provider::start(conduct).await;
        Self::with(provider, &secret(7), None).await
    }

    /// A process of a deployment with this secret, and of the client with this one.
    async fn with(provider: Provider, secret: &ServerSecret, client: Option<&str>) -> Self {
        Self::at(PAGES, provider, secret, client).await
    }

    async fn at(
        pages: &str,
        provider: Provider,
        secret: &ServerSecret,
        client: Option<&str>,
    ) -> Self {
        let clock = SetClock::new();
        let web = Client::new(None, Patience::default()).unwrap();
        let issuer = Issuer::new(&provider.url, web).unwrap();
        let source = DiscoveredKeys(issuer.clone());
        let ring = KeyRing::load(source, ReloadOptions::default(), clock.shared()).await.unwrap();
        let options = TokenOptions::new(&provider.url, CLIENT);
        let tokens = Tokens::new(options, Arc::new(ring), clock.shared());
        let sessions = Sessions::new(secret, &provider.url, pages.parse().unwrap()).unwrap();
        let sessions = Arc::new(sessions);
        let options = LoginOptions {
            client_id: CLIENT.to_owned(),
            client_secret: client.map(str::to_owned),
            scopes: "openid roles".to_owned(),
            session_max: Duration::from_secs(8 * 3_600),
        };
        let with = (Arc::clone(&sessions), secret);
        let login = Arc::new(Login::new(issuer, tokens, with, options, clock.shared()));
        let router = door(&login, sessions, &clock);
        Self { provider, clock, login, router }
    }

    fn browser(&self) -> Browser {
        Browser { router: self.router.clone(), cookies: Vec::new() }
    }
}

fn secret(byte: u8) -> ServerSecret {
    ServerSecret::new(&[byte; 32]).unwrap()
}

fn door(login: &Arc<Login>, sessions: Arc<Sessions>, clock: &SetClock) -> Router {
    let who = async |request: Request<Body>| {
        Principal::of(request.extensions()).map(|person| person.name.clone()).map_err(HttpProblem)
    };
    let page = axum::routing::get(who).post(who);
    let rules = [
        Rule::read("GET /who", Roles::ALL, TenantRule::Any),
        Rule::write("POST /who", Roles::ALL, TenantRule::Any),
    ];
    let rates = Rates::new(&RateLimits::default(), &clock.shared());
    let authenticator = Authenticator::new(clock.shared()).with_sessions(sessions);
    let rules = Rules::new([&rules[..], &crate::http::OWN_RULES, &RULES].concat()).unwrap();
    let description = described([routes::Description::openapi()], &rules);
    let trail = Trail::new(Arc::new(fickle()), clock.shared());
    let within = (rates, Quotas::default());
    let front = Front {
        health: runtime::Health::new(),
        render_metrics: Arc::new(String::new),
        access: Access::new(rules, authenticator, within, Arc::new(trail)),
        origins: Vec::new(),
        transport: Transport::Plain,
        hosts: Hosts::Any,
    };
    let own = Routes::new(Router::new().route("/who", page), BODY_BYTES_MAX);
    router([own, Arc::clone(login).doors().http], description, front)
}

/// A browser: it keeps cookies, and goes where it is sent.
#[derive(Clone)]
struct Browser {
    router: Router,
    cookies: Vec<(String, String)>,
}

/// What a browser got.
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Got {
    fn location(&self) -> &str {
        assert!(self.status.is_redirection(), "{} {}", self.status, self.body);
        self.headers["location"].to_str().unwrap()
    }

    /// The reason of a refusal, and what it says.
    fn refusal(&self) -> (u16, &str, &str) {
        let text = |name: &str| self.body[name].as_str().unwrap_or_default();
        (self.status.as_u16(), text("reason"), text("detail"))
    }
}

impl Browser {
    async fn get(&mut self, path: &str) -> Got {
        self.send("GET", path, &[]).await
    }

    async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> Got {
        let mut request =
            Request::builder().method(method).uri(path).header("host", "localhost:7080");
        let cookies: Vec<_> = self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let response: Response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        for set in parts.headers.get_all(SET_COOKIE) {
            self.keep(set.to_str().unwrap());
        }
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        let body = serde_json::from_slice(&body).unwrap_or_else(|_| text());
        Got { status: parts.status, headers: parts.headers, body }
    }

    fn keep(&mut self, set: &str) {
        let (pair, attributes) = set.split_once("; ").unwrap();
        assert!(attributes.starts_with("Path=/; HttpOnly; SameSite=Lax; "), "{set}");
        assert_eq!(pair.starts_with("__Host-"), attributes.contains("; Secure; "), "{set}");
        let (name, value) = pair.split_once('=').unwrap();
        self.cookies.retain(|(kept, _)| kept != name);
        if !attributes.ends_with("Max-Age=0") {
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Begins a login for a page; gives the query with which the issuer sends the person back.
    async fn begin(&mut self, provider: &Provider, to: &str) -> String {
        let path = if to.is_empty() { "/login".to_owned() } else { format!("/login?return={to}") };
        let got = self.get(&path).await;
        provider.authorize(got.location())
    }

    async fn finish(&mut self, answer: &str) -> Got {
        self.get(&format!("/login/callback?{answer}")).await
    }

    /// A whole login.
    async fn log_in(&mut self, fixture: &Fixture, to: &str) -> Got {
        let answer = self.begin(&fixture.provider, to).await;
        self.finish(&answer).await
    }

    fn cookie(&self, name: &str) -> Option<String> {
        self.cookies.iter().find(|(kept, _)| kept == name).map(|(_, value)| value.clone())
    }

    fn set(&mut self, name: &str, value: &str) {
        self.cookies.retain(|(kept, _)| kept != name);
        self.cookies.push((name.to_owned(), value.to_owned()));
    }
}

#[tokio::test]
async fn a_person_logs_in_by_every_kind_of_key_and_client_and_out_again() {
    for (key, method) in [
        (("ed", "EdDSA", By::Ed), ""),
        (("ec", "ES256", By::Ec), "client_secret_post"),
        (("rsa", "RS256", By::Rsa), "client_secret_basic"),
    ] {
        let conduct = Conduct { key, method, names_itself: key.0 == "ec", ..Conduct::default() };
        let client = (!method.is_empty()).then_some(SECRET);
        let provider = Provider::start(conduct).await;
        let fixture = Fixture::with(provider, &secret(7), client).await;
        let mut browser = fixture.browser();
        assert_eq!(browser.get("/who").await.refusal().1, "CREDENTIAL_MISSING");
        let got = browser.log_in(&fixture, "/v1/usage%3Ftenant=acme").await;
        assert_eq!(got.location(), "/v1/usage?tenant=acme", "{method}");
        assert_eq!(got.headers["cache-control"], "no-store");
        assert_eq!(browser.cookie("pulso_login"), None, "a ticket is for one login");
        assert_eq!(browser.get("/who").await.body, json!("ada"));
        let own = [("origin", PAGES)];
        assert_eq!(browser.send("POST", "/who", &own).await.body, json!("ada"));
        let got = browser.send("POST", "/logout", &own).await;
        assert_eq!((got.location(), browser.cookies.len()), ("/", 0));
        assert_eq!(browser.get("/who").await.refusal().1, "CREDENTIAL_MISSING");
    }
}

#[tokio::test]
async fn over_tls_every_cookie_is_bound_to_the_host_and_to_tls() {
    const SECURE: &str = "https://usage.example";
    let provider = Provider::start(Conduct::default()).await;
    let fixture = Fixture::at(SECURE, provider, &secret(7), None).await;
    let mut browser = fixture.browser();
    let got = browser.get("/login").await;
    assert!(got.location().contains("redirect_uri=https%3A%2F%2Fusage.example%2Flogin%2Fcallback"));
    let names: Vec<_> = browser.cookies.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, ["__Host-pulso_login"]);
    assert_eq!(browser.log_in(&fixture, "").await.location(), "/");
    let names: Vec<_> = browser.cookies.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, ["__Host-pulso_session"]);
    assert_eq!(browser.get("/who").await.body, json!("ada"));
    for (origin, is_let_in) in [(SECURE, true), (PAGES, false)] {
        let got = browser.send("POST", "/who", &[("origin", origin)]).await;
        assert_eq!(got.status == StatusCode::OK, is_let_in, "{origin}");
    }
    // A cookie that a page of a neighbouring name planted has no such name.
    let session = browser.cookie("__Host-pulso_session").unwrap();
    let mut planted = fixture.browser();
    planted.set("pulso_session", &session);
    assert_eq!(planted.get("/who").await.refusal().1, "CREDENTIAL_MISSING");
}

#[tokio::test]
async fn a_session_has_the_roles_and_tenants_of_the_token_and_ends_with_it() {
    let fixture = Fixture::new(Conduct::default()).await;
    for (expires, until) in [(3_600, 3_630), (100 * 3_600, 8 * 3_600)] {
        fixture.clock.set(NOW);
        fixture.provider.behave(|conduct| conduct.claims = json!({"exp": NOW + expires}));
        let mut browser = fixture.browser();
        assert_eq!(browser.log_in(&fixture, "").await.location(), "/");
        let value = browser.cookie("pulso_session").unwrap();
        let session = fixture.login.sessions.open(&value, &fixture.clock).unwrap();
        assert_eq!(session.principal.roles.to_string(), "admin, viewer");
        assert_eq!(session.principal.tenants.to_string(), "acme");
        assert_eq!(session.until.parts(), (NOW + until, 0), "a token's skew counts");
        fixture.clock.set(NOW + until - 1);
        assert_eq!(browser.get("/who").await.body, json!("ada"));
        fixture.clock.set(NOW + until);
        assert_eq!(browser.get("/who").await.refusal().1, "CREDENTIAL_EXPIRED");
    }
}

#[tokio::test]
async fn the_issuers_addresses_are_asked_for_every_few_minutes_and_kept_while_it_is_away() {
    let fixture = Fixture::new(Conduct::default()).await;
    let known = fixture.login.metadata().await.unwrap();
    fixture.provider.behave(|conduct| conduct.names_itself = true);
    fixture.clock.pass(299);
    assert_eq!(fixture.login.metadata().await.unwrap(), known);
    fixture.clock.pass(1);
    let changed = fixture.login.metadata().await.unwrap();
    assert_ne!(changed, known);
    let Fixture { provider, clock, login, router } = fixture;
    drop(provider);
    clock.pass(300);
    assert_eq!(login.metadata().await.unwrap(), changed);
    // A process that never had an answer says so, and asks again soon.
    *login.metadata.lock().await = None;
    let got = Browser { router, cookies: Vec::new() }.get("/login").await;
    assert_eq!((got.refusal().0, got.refusal().1), (503, "ISSUER_UNAVAILABLE"));
}

#[tokio::test]
async fn logins_are_counted_by_address_and_the_issuer_is_asked_by_a_few_at_a_time() {
    let fixture = Fixture::new(Conduct::default()).await;
    let mut browser = fixture.browser();
    let answer = browser.begin(&fixture.provider, "").await;
    let all = fixture.login.exchanges.acquire_many(16).await.unwrap();
    let got = browser.finish(&answer).await;
    assert_eq!((got.refusal().0, got.refusal().1), (429, "SERVER_BUSY"));
    drop(all);
    for _ in 2..50 {
        assert_eq!(fixture.browser().get("/login/callback").await.refusal().1, "LOGIN_FAILED");
    }
    for path in ["/login", "/login/callback"] {
        let got = fixture.browser().get(path).await;
        assert_eq!((got.refusal().0, got.refusal().1), (429, "RATE_LIMITED"), "{path}");
    }
    fixture.clock.pass(1);
    assert_eq!(browser.finish(&answer).await.location(), "/", "the login goes on");
}

#[tokio::test]
async fn a_page_of_others_logs_nobody_out() {
    let fixture = Fixture::new(Conduct::default()).await;
    let mut browser = fixture.browser();
    browser.log_in(&fixture, "").await;
    for headers in [&[][..], &[("origin", "https://evil.example")]] {
        let got = browser.send("POST", "/logout", headers).await;
        assert_eq!(got.refusal().1, "ORIGIN_FORBIDDEN");
    }
    assert_eq!(browser.get("/logout").await.refusal().1, "METHOD_NOT_ALLOWED");
    assert_eq!(browser.get("/who").await.body, json!("ada"));
}
