//! Credentials: tokens, key sets, API keys, and what a client says of places in the audit trail.

use std::{sync::Arc, thread::LocalKey};

use domain::{Clock, Timestamp};
use edge::{
    access::{
        Refusal,
        api_key::{ApiKey, KEY_TEXT_BYTES, ServerSecret},
        browser::Origin,
        jwt::{
            TOKEN_BYTES_MAX, TokenOptions, Tokens, Verified,
            keyring::{KeyRing, ReloadOptions},
            keys::{DOCUMENT_BYTES_MAX, KEYS_MAX, KeySet},
            source::{KeySource, SourceError},
        },
        session::Sessions,
        trail::TrailPlace,
        web::Address,
    },
    listen::PeerName,
};
use futures_util::{FutureExt, future::BoxFuture};
use ring::signature::{Ed25519KeyPair, KeyPair};

/// Signs what the fuzz makes up.
fn signer() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes are a seed")
}

fn base64url(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The issuer's document.
struct Document(String);

impl KeySource for Document {
    fn load(&self) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
        Box::pin(async { Ok(self.0.clone().into_bytes()) })
    }

    fn place(&self) -> &str {
        "the fuzz"
    }
}

/// 2026-01-01T00:00:00Z, for ever.
fn now() -> Timestamp {
    Timestamp::from_parts(1_767_225_600, 0).expect("a moment of this century")
}

thread_local! {
    /// The sessions of a deployment.
    static SESSIONS: Sessions = {
        let secret = ServerSecret::new(&[7; 32]).expect("32 bytes are enough");
        let origin = "https://a.example".parse().expect("an origin");
        Sessions::new(&secret, "https://i.example", origin).expect("pages by TLS")
    };
    /// What checks tokens, made once because it holds a set of keys.
    static TOKENS: (Tokens, tokio::runtime::Runtime) = {
        let x = base64url(signer().public_key().as_ref());
        let document = format!(
            r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"k","x":"{x}"}}]}}"#
        );
        let clock: Arc<dyn Clock> = Arc::new(now);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime on this thread");
        let ring = KeyRing::load(Document(document), ReloadOptions::default(), Arc::clone(&clock));
        let ring = runtime.block_on(ring).expect("one usable key");
        let options = TokenOptions::new("i", "a");
        (Tokens::new(options, Arc::new(ring), clock), runtime)
    };
}

fn verify(token: &str) -> Result<Verified, Refusal> {
    let tokens: &'static LocalKey<_> = &TOKENS;
    tokens.with(|(tokens, runtime)| runtime.block_on(tokens.verify(token).boxed()))
}

/// No bytes are a token that somebody signed; signed claims of any bytes count only for an issuer, an
/// audience and tenants that they name, and end; a refusal holds nothing of the token.
pub(super) fn token(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        refused(text);
    }
    let good = br#"{"alg":"EdDSA","kid":"k"}"#;
    refused(&format!("{}.{}.{}", base64url(good), base64url(bytes), base64url(&[1; 64])));
    for (header, claims) in [(&good[..], bytes), (bytes, &br#"{"iss":"i","aud":"a"}"#[..])] {
        let message = format!("{}.{}", base64url(header), base64url(claims));
        let signature = signer().sign(message.as_bytes());
        let token = format!("{message}.{}", base64url(signature.as_ref()));
        match verify(&token) {
            Err(refusal) => says_nothing_of(&refusal, &token),
            Ok(verified) => counts(&verified, claims),
        }
    }
}

fn refused(token: &str) {
    let refusal = verify(token).expect_err("nobody signed it");
    says_nothing_of(&refusal, token);
}

fn says_nothing_of(refusal: &Refusal, token: &str) {
    let words = refusal.to_string();
    let parts = token.split('.').filter(|part| part.len() > 16);
    parts.for_each(|part| assert!(!words.contains(part), "{words}"));
}

fn counts(verified: &Verified, claims: &[u8]) {
    assert!(claims.len() < TOKEN_BYTES_MAX);
    assert!(verified.until > now());
    let claims: serde_json::Value = serde_json::from_slice(claims).expect("claims are JSON");
    assert_eq!(claims["iss"], "i");
    assert_eq!(claims["sub"], verified.principal.id);
    assert!(domain::name::check_plain(verified.principal.id.as_bytes()).is_ok());
    let tenants = &claims["tenants"];
    match verified.principal.tenants.named() {
        None => assert!(*tenants == "*" || *tenants == serde_json::json!(["*"]), "{tenants}"),
        Some(named) => assert!((1..=64).contains(&named.len())),
    }
}

/// A document is refused in words, or gives at most 64 keys, each told apart from the others.
pub(super) fn key_set(bytes: &[u8]) {
    match KeySet::parse(bytes) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(set) => {
            assert!(bytes.len() <= DOCUMENT_BYTES_MAX);
            assert!((1..=KEYS_MAX).contains(&(set.keys().len() + set.left_out().len())));
            for key in set.keys() {
                let same = |other: &&edge::access::jwt::keys::Key| {
                    other.kid == key.kid && other.algorithm == key.algorithm
                };
                assert_eq!(set.keys().iter().filter(same).count(), 1);
                let is_found = set.find(key.kid.as_deref(), key.algorithm).is_some();
                assert!(is_found || key.kid.is_none());
            }
        }
    }
}

/// A key reads only as it was revealed and prints without its secret; an origin, a place in the audit
/// trail and a name in a certificate print as they are read; an issuer is asked where nobody on the way
/// can answer; no text is a session that nobody sealed.
pub(super) fn texts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // With a checksum that fits, so that more than the checksum is read.
    let summed = format!("pulso_{text}{:08x}", crc32c::crc32c(format!("pulso_{text}").as_bytes()));
    for text in [text, &summed] {
        if let Ok(key) = ApiKey::parse(text) {
            assert_eq!(key.reveal(), text);
            assert!(text.len() == KEY_TEXT_BYTES && key.id().to_string() == text[6..22]);
            assert!(!format!("{key} {key:?}").contains(&text[23..40]));
        }
    }
    if let Ok(place) = text.parse::<TrailPlace>() {
        assert_eq!(place.to_string().parse(), Ok(place));
    }
    if let Ok(name) = text.parse::<PeerName>() {
        assert_eq!(name.to_string(), text);
        assert!((1..=256).contains(&name.as_str().len()) && !text.chars().any(char::is_control));
        assert!(matches!(name, PeerName::CommonName(_)) || !text.contains('*'), "{text}");
    }
    if let Ok(address) = Address::parse(text) {
        let is_secure = text.get(..8).is_some_and(|begin| begin.eq_ignore_ascii_case("https://"));
        assert_eq!((address.as_str(), address.is_secure()), (text, is_secure));
        assert!(is_secure || text.contains("127.") || text.contains(":1]"), "{text}");
        assert!(!text.contains('#') && text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
    }
    SESSIONS.with(|sessions| assert!(sessions.open(text, &now).is_err(), "{text}"));
    if text.parse::<Origin>().is_ok() {
        assert!(text.starts_with("http") && !text.contains(['*', '@', ',', ' ']), "{text}");
    }
}
