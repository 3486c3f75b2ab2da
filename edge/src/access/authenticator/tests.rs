//! Who a request's headers make its principal, what is remembered, and what a remembered one costs.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use domain::{Name, Tenant};
use http::{HeaderName, HeaderValue};
use serde_json::json;
use storage::memory::MemoryBillingStore;

use super::*;
use crate::access::{
    jwt::{
        TokenOptions,
        keyring::{KeyRing, ReloadOptions},
    },
    keys::{KeyOptions, NewKey},
    principal::{Role, Roles, Tenants},
    samples::{AUDIENCE, By, ISSUER, Issuer, NOW, SetClock, SetSource, claims, jwks},
};

struct Fixture {
    issuer: Issuer,
    source: SetSource,
    clock: SetClock,
    ring: Arc<KeyRing>,
    keys: Arc<Keys<MemoryBillingStore>>,
    authenticator: Authenticator,
}

impl Fixture {
    async fn new() -> Self {
        let (issuer, clock) = (Issuer::new(), SetClock::new());
        let source = SetSource::new(issuer.document());
        let ring = KeyRing::load(source.clone(), ReloadOptions::default(), clock.shared());
        let ring = Arc::new(ring.await.unwrap());
        let options = TokenOptions::new(ISSUER, AUDIENCE);
        let tokens = Tokens::new(options, Arc::clone(&ring), clock.shared());
        let store = Arc::new(MemoryBillingStore::new());
        let keys = Keys::open(store, None, KeyOptions::default(), clock.shared()).await.unwrap();
        let keys = Arc::new(keys);
        let authenticator = Authenticator::new(clock.shared())
            .with_tokens(tokens)
            .with_keys(Arc::clone(&keys) as Arc<dyn ApiKeys>);
        Self { issuer, source, clock, ring, keys, authenticator }
    }

    async fn key(&self) -> (String, String) {
        let new = NewKey {
            name: Name::new("meter").unwrap(),
            roles: Roles::of(&[Role::Writer]),
            tenants: Tenants::one(Tenant::new("acme").unwrap()),
            expires_at: None,
        };
        let (key, info) = self.keys.create(new, "ada").await.unwrap();
        (key.reveal(), info.id)
    }

    async fn with(&self, headers: &[(&str, &str)]) -> Result<Principal, Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        self.authenticator.authenticate(&map).await
    }

    async fn bearer(&self, credential: &str) -> Result<Principal, Refusal> {
        self.with(&[("authorization", &format!("Bearer {credential}"))]).await
    }
}

#[tokio::test]
async fn a_token_and_a_key_come_in_either_header() {
    let fixture = Fixture::new().await;
    let (key, id) = fixture.key().await;
    let token = fixture.issuer.token(&claims());
    for (credential, expected) in [(&key, &*id), (&token, "meter-7")] {
        for (name, value) in [
            ("authorization", format!("Bearer {credential}")),
            ("authorization", format!("bearer  {credential}")),
            ("x-api-key", credential.clone()),
        ] {
            let principal = fixture.with(&[(name, &value)]).await.unwrap();
            assert_eq!(principal.id, expected, "{name}");
        }
    }
}

#[tokio::test]
async fn headers_without_one_credential_are_refused() {
    let fixture = Fixture::new().await;
    let (key, _) = fixture.key().await;
    let token = fixture.issuer.token(&claims());
    let (with_key, with_token) = (format!("Bearer {key}"), format!("Bearer {token}"));
    let long = format!("Bearer {}", "x".repeat(TOKEN_BYTES_MAX + 1));
    let cases: [(&[(&str, &str)], &str); 14] = [
        (&[], "no credential"),
        (&[("authorization", "Bearer ")], "no credential"),
        (&[("x-api-key", "")], "no credential"),
        (&[("authorization", "Bearer")], "not Bearer"),
        (&[("authorization", &key)], "not Bearer"),
        (&[("authorization", "Basic YWRtaW46YWRtaW4=")], "not Bearer"),
        (&[("authorization", &format!("Bearer\t{key}"))], "not Bearer"),
        (&[("authorization", "Bearer é")], "plain ASCII"),
        (&[("authorization", &long)], "longer than 8192"),
        (&[("x-api-key", &long[7..])], "longer than 8192"),
        (&[("authorization", &with_key), ("authorization", &with_token)], "more than one"),
        (&[("authorization", &with_key), ("x-api-key", &key)], "more than one"),
        (&[("authorization", "Bearer secret")], "neither a token nor an API key"),
        (&[("cookie", &key)], "no credential"),
    ];
    for (headers, why) in cases {
        let refusal = fixture.with(headers).await.unwrap_err();
        assert!(refusal.to_string().contains(why), "{headers:?}: {refusal}");
    }
    let mistyped = key.replace(&key[30..34], "0000");
    let refusal = fixture.bearer(&mistyped).await.unwrap_err();
    assert!(refusal.to_string().contains("mistyped"), "{refusal}");
}

#[tokio::test]
async fn a_remembered_credential_ends_when_it_would_have_ended() {
    let fixture = Fixture::new().await;
    let mut short = claims();
    short["exp"] = json!(NOW + 10);
    let token = fixture.issuer.token(&short);
    for (now, expected) in [(0, None), (39, None), (40, Some(Refusal::Expired))] {
        fixture.clock.set(NOW + now);
        assert_eq!(fixture.bearer(&token).await.err(), expected, "{now}");
    }
}

#[tokio::test]
async fn a_revoked_key_and_a_removed_signing_key_are_not_remembered() {
    let fixture = Fixture::new().await;
    let (key, id) = fixture.key().await;
    let token = fixture.issuer.token(&claims());
    for credential in [&key, &token] {
        assert!(fixture.bearer(credential).await.is_ok());
    }
    fixture.keys.revoke(&id, "ada").await.unwrap();
    assert_eq!(fixture.bearer(&key).await.unwrap_err(), Refusal::Revoked);
    fixture.source.set(Some(jwks(&[Issuer::new().ed_jwk("ed")])));
    assert!(fixture.bearer(&token).await.is_ok(), "not loaded yet");
    fixture.ring.reload().await.unwrap();
    let refusal = fixture.bearer(&token).await.unwrap_err();
    assert!(refusal.to_string().contains("signature"), "{refusal}");
}

#[tokio::test]
async fn a_remembered_credential_is_checked_again_after_a_minute() {
    let fixture = Fixture::new().await;
    let (key, id) = fixture.key().await;
    assert!(fixture.bearer(&key).await.is_ok());
    let remembered = fixture.authenticator.remembered.get(&digest_of(&key)).unwrap();
    for (passed, is_held) in [(59, true), (60, false)] {
        fixture.clock.set(NOW + passed);
        assert_eq!(fixture.authenticator.holds(&remembered, fixture.clock.now()), is_held);
    }
    assert!(fixture.bearer(&key).await.is_ok());
    fixture.clock.pass(30);
    assert!(fixture.bearer(&key).await.is_ok());
    fixture.keys.write_uses().await.unwrap();
    let used = fixture.keys.last_used(&id).await.unwrap().unwrap();
    assert_eq!(used.parts(), (NOW + 90, 0), "a remembered one counts as used");
}

#[tokio::test]
async fn a_kind_that_is_not_configured_is_refused() {
    let fixture = Fixture::new().await;
    let (key, _) = fixture.key().await;
    let token = fixture.issuer.sign(r#"{"alg":"none"}"#, &claims().to_string(), By::Ed);
    let nothing = Authenticator::new(fixture.clock.shared());
    for (credential, why) in [(key, "API keys are not"), (token, "tokens are not")] {
        let mut headers = HeaderMap::new();
        headers.insert(API_KEY_HEADER, HeaderValue::from_str(&credential).unwrap());
        let refusal = nothing.authenticate(&headers).await.unwrap_err();
        assert!(refusal.to_string().contains(why), "{refusal}");
    }
}

/// Keys that count how often they are asked.
struct Counted {
    keys: Arc<Keys<MemoryBillingStore>>,
    checks: AtomicUsize,
}

impl ApiKeys for Counted {
    fn verify<'a>(&'a self, key: &'a ApiKey) -> BoxFuture<'a, Result<Known, Refusal>> {
        self.checks.fetch_add(1, Ordering::SeqCst);
        ApiKeys::verify(&*self.keys, key)
    }

    fn generation(&self) -> u64 {
        ApiKeys::generation(&*self.keys)
    }
}

/// Prints what a remembered one costs. Measured optimised, on two shared cores: 210 ns for a key, 350
/// for a token of 325 bytes, most of it the digest. A build for tests takes twenty times as long.
#[tokio::test]
async fn a_credential_is_checked_once_and_then_costs_a_look_up() {
    const CALLS: u32 = 10_000;
    let fixture = Fixture::new().await;
    let (key, _) = fixture.key().await;
    let counted =
        Arc::new(Counted { keys: Arc::clone(&fixture.keys), checks: AtomicUsize::new(0) });
    let keys = Arc::clone(&counted) as Arc<dyn ApiKeys>;
    let authenticator = fixture.authenticator.with_keys(keys);
    for (kind, credential) in [("key", key), ("token", fixture.issuer.token(&claims()))] {
        let mut headers = HeaderMap::new();
        headers.insert(API_KEY_HEADER, HeaderValue::from_str(&credential).unwrap());
        let begun = Instant::now();
        for _ in 0..CALLS {
            authenticator.authenticate(&headers).await.unwrap();
        }
        let nanos = (begun.elapsed() / CALLS).as_nanos();
        println!("a remembered {kind} of {} bytes: {nanos} ns", credential.len());
    }
    assert_eq!(counted.checks.load(Ordering::SeqCst), 1);
}
