//! An OpenID provider on loopback that a test makes honest or not.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::access::samples::{By, Issuer, NOW, base64url};

/// What the provider knows of a code.
#[derive(Clone, Debug)]
struct Code {
    challenge: String,
    redirect: String,
    nonce: String,
}

/// How it behaves.
pub(super) struct Conduct {
    /// Of its tokens: key id, algorithm, and how they are signed.
    pub(super) key: (&'static str, &'static str, By),
    /// Claims that it gives instead of the right ones.
    pub(super) claims: Value,
    /// How a client shows its secret; empty for public clients.
    pub(super) method: &'static str,
    /// Whether its answers name it.
    pub(super) names_itself: bool,
    /// An answer of its token endpoint instead of a token.
    pub(super) instead: Option<(StatusCode, String)>,
}

impl Default for Conduct {
    fn default() -> Self {
        Self {
            key: ("ed", "EdDSA", By::Ed),
            claims: json!({}),
            method: "",
            names_itself: false,
            instead: None,
        }
    }
}

#[derive(Default)]
struct Shared {
    conduct: Conduct,
    codes: HashMap<String, Code>,
    issued: usize,
    exchanges: usize,
}

pub(super) const CLIENT: &str = "page one";
pub(super) const SECRET: &str = "s:e/c ret";

pub(super) struct Provider {
    pub(super) url: String,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Provider {
    pub(super) async fn start(conduct: Conduct) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Mutex::new(Shared { conduct, ..Shared::default() }));
        let keys = Arc::new(Issuer::new());
        let document = keys.document();
        let (of_metadata, of_token) = (Arc::clone(&shared), Arc::clone(&shared));
        let (name, issuer) = (url.clone(), url.clone());
        let router = Router::new()
            .route(
                "/.well-known/openid-configuration",
                get(async move || metadata(&name, &of_metadata.lock().unwrap().conduct)),
            )
            .route("/keys", get(async move || document))
            .route(
                "/token",
                post(async move |headers: HeaderMap, body: Bytes| {
                    token(&issuer, &keys, &mut of_token.lock().unwrap(), &headers, &body)
                }),
            );
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, task }
    }

    /// From now on.
    pub(super) fn behave(&self, change: impl FnOnce(&mut Conduct)) {
        change(&mut self.shared.lock().unwrap().conduct);
    }

    pub(super) fn exchanges(&self) -> usize {
        self.shared.lock().unwrap().exchanges
    }

    /// The person logs in where the browser was sent to; gives the query that it is sent back with.
    pub(super) fn authorize(&self, location: &str) -> String {
        let (address, query) = location.split_once('?').unwrap();
        assert_eq!(address, format!("{}/authorize", self.url));
        let asked = fields(query);
        assert_eq!(asked["response_type"], "code");
        assert_eq!(asked["client_id"], CLIENT);
        assert_eq!(asked["scope"], "openid roles");
        assert_eq!(asked["code_challenge_method"], "S256");
        let mut shared = self.shared.lock().unwrap();
        shared.issued += 1;
        let code = format!("code {}", shared.issued);
        let [challenge, redirect, nonce] =
            ["code_challenge", "redirect_uri", "nonce"].map(|name| asked[name].clone());
        shared.codes.insert(code.clone(), Code { challenge, redirect, nonce });
        let iss = match shared.conduct.names_itself {
            true => format!("&iss={}", self.url),
            false => String::new(),
        };
        format!("code={}&state={}{iss}&session_state=x", code.replace(' ', "%20"), asked["state"])
    }
}

fn metadata(url: &str, conduct: &Conduct) -> String {
    json!({
        "issuer": url,
        "jwks_uri": format!("{url}/keys"),
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "token_endpoint_auth_methods_supported": [conduct.method],
        "authorization_response_iss_parameter_supported": conduct.names_itself,
    })
    .to_string()
}

fn token(
    issuer: &str,
    keys: &Issuer,
    shared: &mut Shared,
    headers: &HeaderMap,
    body: &[u8],
) -> (StatusCode, String) {
    shared.exchanges += 1;
    if let Some(instead) = &shared.conduct.instead {
        return instead.clone();
    }
    let denied = |error: &str| (StatusCode::BAD_REQUEST, json!({"error": error}).to_string());
    let sent = fields(std::str::from_utf8(body).unwrap());
    let credential = headers.get("authorization").map(|value| value.to_str().unwrap());
    let basic = format!("Basic {}", STANDARD.encode("page%20one:s%3Ae%2Fc%20ret"));
    let form = |name| sent.get(name).map(String::as_str);
    let is_client = match shared.conduct.method {
        "" => credential.is_none() && form("client_id") == Some(CLIENT),
        "client_secret_post" => {
            (form("client_id"), form("client_secret")) == (Some(CLIENT), Some(SECRET))
        }
        _ => credential == Some(&*basic) && form("client_secret").is_none(),
    };
    if !is_client {
        return denied("invalid_client");
    }
    // A code counts once, for whoever has its verifier.
    let Some(code) = shared.codes.remove(&sent["code"]) else { return denied("invalid_grant") };
    let challenge = base64url(digest(&SHA256, sent["code_verifier"].as_bytes()));
    if challenge != code.challenge || sent["redirect_uri"] != code.redirect {
        return denied("invalid_grant");
    }
    let mut claims = json!({
        "iss": issuer, "aud": CLIENT, "sub": "ada", "exp": NOW + 3_600, "nonce": code.nonce,
        "roles": ["viewer", "admin"], "tenants": ["acme"],
    });
    for (name, value) in shared.conduct.claims.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let (kid, algorithm, by) = shared.conduct.key;
    let header = json!({"alg": algorithm, "kid": kid, "typ": "JWT"}).to_string();
    let token = keys.sign(&header, &claims.to_string(), by);
    (
        StatusCode::OK,
        json!({"id_token": token, "access_token": "x", "token_type": "Bearer"}).to_string(),
    )
}

fn fields(form: &str) -> HashMap<String, String> {
    let decoded =
        |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
    let pairs = form.split('&').map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), decoded(value))).collect()
}
