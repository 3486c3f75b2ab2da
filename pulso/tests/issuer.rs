//! An issuer through the program: keys that are found at its address, a person who logs in by it, and a
//! start that cannot use it.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use axum::{
    Router,
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tonic::metadata::MetadataValue;

use proto::v1::{GetStatusRequest, operations_service_client::OperationsServiceClient};

use crate::harness::{Home, PATIENCE, Server, Settings, now};

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key of an issuer, under its id.
struct Key {
    kid: &'static str,
    pair: Ed25519KeyPair,
}

impl Key {
    fn new(kid: &'static str) -> Self {
        let bytes = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self { kid, pair: Ed25519KeyPair::from_pkcs8(bytes.as_ref()).unwrap() }
    }

    fn jwk(&self) -> Value {
        let x = base64url(self.pair.public_key());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": x})
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "EdDSA", "kid": self.kid}).to_string();
        let message = format!("{}.{}", base64url(header), base64url(claims.to_string()));
        let signature = self.pair.sign(message.as_bytes());
        format!("{message}.{}", base64url(signature))
    }
}

/// An issuer on loopback, whose keys a test rotates.
struct Issuer {
    url: String,
    keys: Arc<Mutex<Vec<Value>>>,
    /// The ID token that it gives for any code.
    token: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Issuer {
    async fn start(keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let keys = Arc::new(Mutex::new(keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()));
        let document = json!({
            "issuer": url,
            "jwks_uri": format!("{url}/keys"),
            "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"),
        });
        let held = Arc::clone(&keys);
        let token: Arc<Mutex<String>> = Arc::default();
        let granted = Arc::clone(&token);
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(async move || document.to_string()))
            .route("/keys", get(async move || json!({"keys": *held.lock().unwrap()}).to_string()))
            .route(
                "/token",
                post(async move || json!({"id_token": *granted.lock().unwrap()}).to_string()),
            );
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, keys, token, task }
    }

    fn rotate(&self, keys: &[&Key]) {
        *self.keys.lock().unwrap() = keys.iter().map(|key| key.jwk()).collect();
    }

    fn settings(&self) -> Settings {
        Settings::default()
            .without_access()
            .with("PULSO_ACCESS__MODE", "required")
            .with("PULSO_ACCESS__TOKEN_ISSUER", &self.url)
            .with("PULSO_ACCESS__TOKEN_AUDIENCES", "pulso")
    }

    fn claims(&self) -> Value {
        json!({
            "iss": self.url, "aud": "pulso", "sub": "ada", "exp": now() + 600,
            "roles": ["viewer"], "tenants": ["*"],
        })
    }
}

async fn status(server: &Server, token: &str) -> Option<i32> {
    server.pulso_with(&["status"], Some(token)).await.status.code()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_count_by_the_keys_that_the_issuer_serves_and_rotates() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let issuer = Issuer::start(&[&old]).await;
    let keys = format!("{}/keys", issuer.url);
    // By the issuer's own document, and by the address of its keys.
    for settings in [issuer.settings(), issuer.settings().with("PULSO_ACCESS__TOKEN_KEYS", &keys)] {
        issuer.rotate(&[&old]);
        let home = Home::new();
        let server = Server::start(&home, &settings).await;
        assert_eq!(status(&server, &old.sign(&issuer.claims())).await, Some(0));
        issuer.rotate(&[&old, &new]);
        assert_eq!(status(&server, &new.sign(&issuer.claims())).await, Some(0));
        assert_eq!(status(&server, &Key::new("new").sign(&issuer.claims())).await, Some(77));
        server.terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_keys_says_which_setting_and_whether_it_may_pass() {
    let issuer = Issuer::start(&[]).await;
    let moved = format!("{}/elsewhere", issuer.url);
    let away = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let home = Home::new();
    for (issuer, keys, ca, code, words) in [
        (&*issuer.url, "", "", 78, "access.token_issuer: http://127.0.0.1"),
        (&*issuer.url, &*moved, "", 78, "gives no keys: it answers 404"),
        (&*issuer.url, "http://issuer.example/keys", "", 78, "access.token_keys: \"http://issuer"),
        ("not an address", "", "", 78, "access.token_keys is empty, and the keys cannot be"),
        (&*issuer.url, &*moved, "no such file", 78, "access.issuer_ca_file: no such file cannot"),
        (&*issuer.url, "no such file", "", 78, "access.token_keys: no such file cannot be read"),
        (&*away, "", "", 69, "access.token_issuer: http://127.0.0.1"),
        (&*away, "", "", 69, "access.issuer_wait says how long it waits"),
    ] {
        let begun = Instant::now();
        let mut command = home.command(&["serve", "--stage", "query"]);
        command
            .env("PULSO_LISTEN__GRPC", "127.0.0.1:0")
            .env("PULSO_LISTEN__HTTP", "127.0.0.1:0")
            .env("PULSO_ACCESS__MODE", "required")
            .env("PULSO_ACCESS__TOKEN_ISSUER", issuer)
            .env("PULSO_ACCESS__TOKEN_AUDIENCES", "pulso")
            .env("PULSO_ACCESS__TOKEN_KEYS", keys)
            .env("PULSO_ACCESS__ISSUER_CA_FILE", ca)
            .env("PULSO_ACCESS__ISSUER_WAIT", "1500ms");
        let output = crate::harness::output(command).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{issuer} {keys}: {said}");
        assert!(said.contains(words), "{issuer} {keys}: {said}");
        assert_eq!(said.contains("tried again"), code == 69, "{said}");
        assert!(code == 78 || begun.elapsed().as_millis() >= 1_000, "it did not wait");
    }
}

/// Where browsers reach the deployment, as it was told. The test connects to where the server is.
const PAGES: &str = "http://localhost:7080";

/// Head and body of what an HTTP route answers to a method and path with headers.
async fn browse(server: &Server, what: &str, headers: &[(&str, &str)]) -> (String, String) {
    let mut connection = TcpStream::connect(&server.http).await.unwrap();
    let headers: String = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
    let request =
        format!("{what} HTTP/1.0\r\nhost: localhost:7080\r\ncontent-length: 0\r\n{headers}\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, connection.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn header<'h>(head: &'h str, name: &str) -> &'h str {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(found, _)| *found == name).unwrap_or_else(|| panic!("no {name} in {head}")).1
}

/// The pair of a cookie that was set.
fn cookie(head: &str) -> &str {
    header(head, "set-cookie").split_once(';').unwrap().0
}

fn query(url: &str, name: &str) -> String {
    let (_, query) = url.split_once('?').unwrap();
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(found, _)| *found == name).unwrap().1.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_reads_and_logs_out() {
    let key = Key::new("key");
    let issuer = Issuer::start(&[&key]).await;
    let home = Home::new();
    let settings = issuer
        .settings()
        .with("PULSO_ACCESS__LOGIN_CLIENT_ID", "page")
        .with("PULSO_ACCESS__LOGIN_CLIENT_SECRET", "hush-hush")
        .with("PULSO_ACCESS__PUBLIC_URL", PAGES);
    let server = Server::start(&home, &settings).await;

    let (head, _) = browse(&server, "GET /login?return=/v1/status", &[]).await;
    let location = header(&head, "location");
    assert!(location.starts_with(&format!("{}/authorize?response_type=code&", issuer.url)));
    assert_eq!(query(location, "redirect_uri"), "http%3A%2F%2Flocalhost%3A7080%2Flogin%2Fcallback");
    let mut claims = issuer.claims();
    claims["aud"] = "page".into();
    claims["nonce"] = query(location, "nonce").into();
    let token = key.sign(&claims);
    *issuer.token.lock().unwrap() = token.clone();
    let callback = format!("GET /login/callback?code=c0de&state={}", query(location, "state"));
    let ticket = cookie(&head).to_owned();
    let (head, _) = browse(&server, &callback, &[("cookie", &ticket)]).await;
    assert_eq!(header(&head, "location"), "/v1/status", "{head}");
    let session = cookie(&head).to_owned();

    let with = [("cookie", &*session)];
    let (head, body) = browse(&server, "GET /v1/status", &with).await;
    assert!(head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200"), "{head}: {body}");
    let reason = |body: String| {
        let body: Value = serde_json::from_str(&body).unwrap();
        body["reason"].as_str().unwrap().to_owned()
    };
    let (_, body) = browse(&server, "POST /v1/catalog", &with).await;
    assert_eq!(reason(body), "ORIGIN_FORBIDDEN");
    let of_page = [("cookie", &*session), ("origin", PAGES)];
    let (_, body) = browse(&server, "POST /v1/catalog", &of_page).await;
    assert_eq!(reason(body), "ROLE_MISSING", "the person is a viewer");
    // A browser adds cookies to any request, so gRPC does not count by them.
    let mut client = OperationsServiceClient::new(server.channel_of_nobody().await);
    let mut request = tonic::Request::new(GetStatusRequest::default());
    request.metadata_mut().insert("cookie", MetadataValue::try_from(&session).unwrap());
    let status = client.get_status(request).await.unwrap_err();
    let refused = edge::problem::reason_of(&status);
    assert_eq!(refused.as_deref(), Some("CREDENTIAL_MISSING"), "{status:?}");
    // The ID token is for the page, and no token of a program.
    assert_eq!(self::status(&server, &token).await, Some(77));

    let (head, _) = browse(&server, "POST /logout", &of_page).await;
    assert_eq!((header(&head, "location"), cookie(&head)), ("/", "pulso_session="));
    let (_, page) = browse(&server, "GET /", &[]).await;
    assert!(page.contains("<a href=\"/login\">"), "{page}");
    let log = server.log();
    let (_, value) = session.split_once('=').unwrap();
    for secret in [value, &token, "c0de", "hush-hush"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
    assert!(log.contains("logged in"), "{log}");
    server.terminate().await;

    // Another run of the deployment takes the session; one without a login has no such routes.
    let server = Server::start(&home, &settings).await;
    let (head, _) = browse(&server, "GET /v1/status", &with).await;
    assert!(head.contains(" 200 "), "{head}");
    server.terminate().await;
    let server = Server::start(&home, &issuer.settings()).await;
    for what in ["GET /login", "GET /login/callback", "POST /logout"] {
        let (_, body) = browse(&server, what, &[]).await;
        assert_eq!(reason(body), "ROUTE_NOT_FOUND");
    }
    let (_, body) = browse(&server, "GET /v1/status", &with).await;
    assert_eq!(reason(body), "CREDENTIAL_MISSING");
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_cannot_be_safe_ends_the_start() {
    let issuer = Issuer::start(&[&Key::new("key")]).await;
    let home = Home::new();
    let client = ("PULSO_ACCESS__LOGIN_CLIENT_ID", "page");
    let pages = ("PULSO_ACCESS__PUBLIC_URL", PAGES);
    let named = ("PULSO_ACCESS__TOKEN_ISSUER", &*issuer.url);
    for (variables, words) in [
        (&[client, pages][..], "access.token_issuer is empty, and access.login_client_id needs it"),
        (&[named, client], "access.public_url: it is empty"),
        (
            &[named, client, ("PULSO_ACCESS__PUBLIC_URL", "http://usage.example")],
            "access.public_url: http://usage.example is reached in plain text",
        ),
        (
            &[named, client, ("PULSO_ACCESS__PUBLIC_URL", "https://usage.example/pulso")],
            "access.public_url: \"https://usage.example/pulso\" is no origin",
        ),
        (
            &[named, client, pages, ("PULSO_ACCESS__LOGIN_SCOPES", "profile")],
            "access.login_scopes: `openid` is not among them",
        ),
        (&[named], "access.token_audiences is empty, and access.token_issuer needs it"),
    ] {
        let mut command = home.command(&["serve", "--stage", "query"]);
        command
            .env("PULSO_LISTEN__GRPC", "127.0.0.1:0")
            .env("PULSO_LISTEN__HTTP", "127.0.0.1:0")
            .env("PULSO_ACCESS__MODE", "required")
            .envs(variables.iter().copied());
        let output = crate::harness::output(command).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{words}: {said}");
        assert!(said.contains(words), "{words}: {said}");
    }
}
