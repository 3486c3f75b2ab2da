//! Tokens that count, key sets and their rotation. Attacks are in `tests/attacks.rs`.

use serde_json::{Value, json};

use super::{
    keyring::ReloadOptions,
    keys::{DOCUMENT_BYTES_MAX, KEYS_MAX, KeySet, KeySetError},
    *,
};
use crate::access::{
    principal::{CredentialKind, IdentityScope, Role, Roles, Tenants},
    samples::{AUDIENCE, By, ISSUER, Issuer, NOW, SetClock, SetSource, base64url, claims, jwks},
};

mod addresses;
mod attacks;

struct Fixture {
    issuer: Issuer,
    source: SetSource,
    clock: SetClock,
    tokens: Tokens,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(TokenOptions::new(ISSUER, AUDIENCE)).await
    }

    async fn with(options: TokenOptions) -> Self {
        let (issuer, clock) = (Issuer::new(), SetClock::new());
        let source = SetSource::new(issuer.document());
        let ring = KeyRing::load(source.clone(), ReloadOptions::default(), clock.shared());
        let tokens = Tokens::new(options, Arc::new(ring.await.unwrap()), clock.shared());
        Self { issuer, source, clock, tokens }
    }

    /// What becomes of a token with good claims but for these.
    async fn verify_with(&self, changes: Value) -> Result<Verified, Refusal> {
        let mut claims = claims();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        self.tokens.verify(&self.issuer.token(&claims)).await
    }
}

fn tenant(name: &str) -> domain::Tenant {
    domain::Tenant::new(name).unwrap()
}

#[tokio::test]
async fn a_token_of_each_algorithm_counts_until_it_expires() {
    let fixture = Fixture::new().await;
    for (algorithm, kid, by) in
        [("EdDSA", "ed", By::Ed), ("ES256", "ec", By::Ec), ("RS256", "rsa", By::Rsa)]
    {
        let header = json!({"alg": algorithm, "kid": kid, "typ": "at+jwt"}).to_string();
        let token = fixture.issuer.sign(&header, &claims().to_string(), by);
        let verified = fixture.tokens.verify(&token).await.unwrap();
        assert_eq!(verified.until.parts(), (NOW + 3_630, 0), "{algorithm}: with the skew");
        let principal = &verified.principal;
        assert_eq!(principal.id, "meter-7");
        assert_eq!(principal.kind, CredentialKind::Token);
        assert_eq!(principal.roles, Roles::of(&[Role::Viewer]), "others are ignored");
        assert_eq!(principal.tenants, Tenants::one(tenant("acme")));
        let scope = IdentityScope::of(CredentialKind::Token, ISSUER, "meter-7");
        assert_eq!(principal.scope, scope);
    }
}

#[tokio::test]
async fn a_token_counts_from_its_beginning_to_its_end_give_or_take_the_skew() {
    let fixture = Fixture::new().await;
    for (now, expected) in [
        (NOW - 36, Some(Refusal::NotYet)),
        (NOW - 35, None),
        (NOW + 3_629, None),
        (NOW + 3_630, Some(Refusal::Expired)),
    ] {
        fixture.clock.set(now);
        assert_eq!(fixture.verify_with(json!({})).await.err(), expected, "{now}");
    }
}

#[tokio::test]
async fn roles_and_tenants_come_from_the_claims_that_are_configured() {
    let options = TokenOptions {
        role_claims: vec!["/realm_access/roles".into(), "role".into()],
        tenants_claim: "https://pulso/tenants".into(),
        ..TokenOptions::new(ISSUER, AUDIENCE)
    };
    let fixture = Fixture::with(options).await;
    let changes = json!({
        "realm_access": {"roles": ["analyst"]},
        "role": "writer",
        "roles": ["admin"],
        "tenants": ["others"],
        "https://pulso/tenants": "acme",
    });
    let principal = fixture.verify_with(changes).await.unwrap().principal;
    assert_eq!(principal.roles, Roles::of(&[Role::Analyst, Role::Writer]));
    assert_eq!(principal.tenants, Tenants::one(tenant("acme")));
}

#[tokio::test]
async fn a_token_names_its_tenants_and_none_never_means_all() {
    let fixture = Fixture::new().await;
    let many: Vec<_> = (0..65).map(|i| format!("t{i}")).collect();
    for (value, expected) in [
        (json!("*"), Some(Tenants::ALL)),
        (json!(["*"]), Some(Tenants::ALL)),
        (json!("acme"), Some(Tenants::one(tenant("acme")))),
        (json!(["a", "b"]), Some(Tenants::these([tenant("a"), tenant("b")]).unwrap())),
        (json!([]), None),
        (json!(""), None),
        (json!(null), None),
        (json!(["*", "acme"]), None),
        (json!(["acme", 7]), None),
        (json!({"acme": true}), None),
        (json!(["acme "]), None),
        (json!(many), None),
    ] {
        let verified = fixture.verify_with(json!({"tenants": value})).await;
        let found = verified.as_ref().ok().map(|verified| verified.principal.tenants.clone());
        assert_eq!(found, expected, "{value}");
    }
    let mut without = claims();
    without.as_object_mut().unwrap().remove("tenants");
    let token = fixture.issuer.token(&without);
    assert!(matches!(fixture.tokens.verify(&token).await, Err(Refusal::Invalid(_))));
}

#[tokio::test]
async fn a_rotated_key_is_loaded_when_it_is_first_named_and_not_too_often() {
    let fixture = Fixture::new().await;
    let next = Issuer::new();
    let token = next.sign(r#"{"alg":"EdDSA","kid":"next"}"#, &claims().to_string(), By::Ed);
    fixture.clock.pass(100);
    // Ten tokens with ids that nobody knows cost one load.
    for i in 0..10 {
        let header = json!({"alg": "EdDSA", "kid": format!("made up {i}")}).to_string();
        let unknown = next.sign(&header, &claims().to_string(), By::Ed);
        assert!(fixture.tokens.verify(&unknown).await.is_err());
    }
    assert_eq!(fixture.source.loads(), 2);
    fixture.source.set(Some(jwks(&[next.ed_jwk("next")])));
    assert!(fixture.tokens.verify(&token).await.is_err(), "it was loaded just now");
    fixture.clock.pass(10);
    let before = fixture.tokens.ring().generation();
    let verified = fixture.tokens.verify(&token).await.unwrap();
    assert_eq!((fixture.source.loads(), verified.generation), (3, before + 1));
    // The removed key is gone.
    assert!(fixture.verify_with(json!({})).await.is_err());
}

#[tokio::test]
async fn keys_stay_while_the_issuer_does_not_answer() {
    let fixture = Fixture::new().await;
    for document in [None, Some("{}".to_owned())] {
        fixture.source.set(document);
        assert!(fixture.tokens.ring().reload().await.is_err());
        assert!(fixture.verify_with(json!({})).await.is_ok());
    }
    assert_eq!(fixture.tokens.ring().generation(), 0);
    let nothing = SetSource::default();
    let clock = SetClock::new().shared();
    let error = KeyRing::load(nothing, ReloadOptions::default(), clock).await.unwrap_err();
    assert_eq!(error.to_string(), "the test's issuer did not answer in time");
}

#[tokio::test]
async fn an_issuer_that_withdraws_every_key_leaves_none_that_counts() {
    let fixture = Fixture::new().await;
    let document = fixture.source.document();
    fixture.source.set(Some(jwks(&[])));
    fixture.tokens.ring().reload().await.unwrap();
    assert!(fixture.verify_with(json!({})).await.is_err());
    assert_eq!(fixture.tokens.ring().generation(), 1);
    fixture.source.set(document);
    fixture.tokens.ring().reload().await.unwrap();
    assert!(fixture.verify_with(json!({})).await.is_ok());
}

#[test]
fn keys_that_tokens_cannot_be_signed_with_are_left_out_with_the_reason() {
    let issuer = Issuer::new();
    let modulus = |bytes: usize| base64url([&[0xff][..], &vec![1; bytes - 1]].concat());
    let rsa = |n: String| json!({"kty": "RSA", "n": n, "e": "AQAB"});
    let with = |mut jwk: Value, name: &str, value: Value| {
        jwk[name] = value;
        jwk
    };
    for (jwk, why) in [
        (rsa(modulus(128)), "fewer than 2048 bits"),
        (rsa(modulus(255)), "fewer than 2048 bits"),
        (rsa(base64url([&[0; 129][..], &[0xff; 128]].concat())), "fewer than 2048 bits"),
        (rsa(base64url([&[0x7f][..], &[0xff; 255]].concat())), "fewer than 2048 bits"),
        (rsa(modulus(1_025)), "more than 8192 bits"),
        (rsa(String::new()), "fewer than 2048 bits"),
        (rsa("***".to_owned()), "not base64url"),
        (json!({"kty": "oct", "k": base64url("secret")}), "a shared secret"),
        (with(issuer.ed_jwk("x"), "use", json!("enc")), "not for signatures"),
        (with(issuer.ed_jwk("x"), "key_ops", json!(["sign"])), "not for verifying"),
        (with(issuer.ed_jwk("x"), "alg", json!("ES256")), "for another algorithm"),
        (with(issuer.rsa_jwk("x"), "alg", json!("PS256")), "for another algorithm"),
        (with(issuer.ed_jwk("x"), "kid", json!("k".repeat(257))), "kid is too long"),
        (with(issuer.ed_jwk("x"), "crv", json!("X25519")), "curve or kind"),
        (with(issuer.ec_jwk("x"), "crv", json!("P-384")), "curve or kind"),
        (with(issuer.ed_jwk("x"), "x", json!("AAAA")), "not 32 bytes"),
        (json!({"kid": "x"}), "kind"),
        (json!(7), "kind"),
    ] {
        let document = jwks(&[issuer.ec_jwk("ec"), jwk.clone()]);
        let set = KeySet::parse(document.as_bytes()).unwrap();
        assert_eq!(set.keys().len(), 1, "{jwk}");
        assert!(set.left_out()[0].why.contains(why), "{jwk}: {}", set.left_out()[0].why);
        let alone = KeySet::parse(jwks(&[jwk]).as_bytes());
        assert!(matches!(alone, Err(KeySetError::Empty(_))));
    }
    let strong = KeySet::parse(jwks(&[rsa(modulus(256)), rsa_of_most_bits()]).as_bytes());
    assert!(matches!(strong, Err(KeySetError::Repeated { kid: None, .. })), "both are read");
}

fn rsa_of_most_bits() -> Value {
    json!({"kty": "RSA", "n": base64url([0xff; 1_024]), "e": "AQAB"})
}

#[test]
fn a_document_is_bounded_in_bytes_and_keys() {
    let issuer = Issuer::new();
    let keys: Vec<_> = (0..=KEYS_MAX).map(|i| issuer.ed_jwk(&i.to_string())).collect();
    assert_eq!(KeySet::parse(jwks(&keys).as_bytes()).unwrap_err(), KeySetError::TooMany(65));
    let set = KeySet::parse(jwks(&keys[..KEYS_MAX]).as_bytes()).unwrap();
    assert_eq!(set.keys().len(), KEYS_MAX);
    let mut document = jwks(&keys[..1]);
    document.push_str(&" ".repeat(DOCUMENT_BYTES_MAX - document.len()));
    assert!(KeySet::parse(document.as_bytes()).is_ok());
    document.push(' ');
    assert_eq!(KeySet::parse(document.as_bytes()).unwrap_err(), KeySetError::TooLarge);
    for text in ["", "[]", "{}", r#"{"keys": {}}"#, "not JSON", r#"{"keys":[],"keys":[]}"#] {
        let parsed = KeySet::parse(text.as_bytes());
        assert!(matches!(parsed, Err(KeySetError::Malformed(_))), "{text}");
    }
}
