//! An issuer through the program: keys that are found at its address, and a start without them.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use axum::{Router, routing::get};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::harness::{Home, Server, Settings, now};

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
        let document = json!({"issuer": url, "jwks_uri": format!("{url}/keys")});
        let held = Arc::clone(&keys);
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(async move || document.to_string()))
            .route("/keys", get(async move || json!({"keys": *held.lock().unwrap()}).to_string()));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, keys, task }
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
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{issuer} {keys}: {said}");
        assert!(said.contains(words), "{issuer} {keys}: {said}");
        assert_eq!(said.contains("tried again"), code == 69, "{said}");
        assert!(code == 78 || begun.elapsed().as_millis() >= 1_000, "it did not wait");
    }
}
