//! Access as the suite uses it: every server asks for credentials, and every client has a token of one
//! issuer, made for this run. No output of any program may hold it.

use std::{fs, path::PathBuf, sync::LazyLock};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use pulso::client::Target;
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};

const ISSUER: &str = "https://suite.example";
const AUDIENCE: &str = "suite";

/// 2100-01-01T00:00:00Z: later than any clock that a test sets.
const EXPIRES_AT: u64 = 4_102_444_800;

/// Keys the hashes of API keys. Planted: whoever prints it fails the test that started it.
const KEY_SECRET: &str = "planted-server-secret-of-the-suite";

/// What may read and do everything, for all tenants.
static SUITE: LazyLock<Suite> = LazyLock::new(Suite::new);

struct Suite {
    token: String,
    keys: PathBuf,
}

impl Suite {
    fn new() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let key = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let part = |value: Value| encoded(value.to_string().as_bytes());
        let header = part(json!({"alg": "EdDSA", "kid": "suite"}));
        let claims = part(json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "suite", "exp": EXPIRES_AT,
            "roles": ["admin", "operator", "analyst", "viewer", "writer"], "tenants": "*",
        }));
        let signed = format!("{header}.{claims}");
        let signature = encoded(key.sign(signed.as_bytes()).as_ref());
        let x = encoded(key.public_key().as_ref());
        let keys = json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": "suite", "x": x}
        ]});
        let directory = tempfile::Builder::new().prefix("suite").tempdir().unwrap();
        // Every test of the process reads it, so nobody knows when the last one has.
        let path = directory.keep().join("jwks.json");
        fs::write(&path, keys.to_string()).unwrap();
        Self { token: format!("{signed}.{signature}"), keys: path }
    }
}

/// The token of every client of the suite.
pub(crate) fn token() -> &'static str {
    &SUITE.token
}

/// A server's address with that token.
pub(crate) fn target(server: &str) -> Target {
    Target { key: token().parse().ok(), ..Target::from(server) }
}

/// The settings of a server that asks for credentials and takes that token.
pub(super) fn required() -> [(String, String); 5] {
    let keys = SUITE.keys.display().to_string();
    [
        ("MODE", "required"),
        ("TOKEN_ISSUER", ISSUER),
        ("TOKEN_AUDIENCES", AUDIENCE),
        ("TOKEN_KEYS", &keys),
        ("KEY_SECRET", KEY_SECRET),
    ]
    .map(|(name, value)| (format!("{PREFIX}{name}"), value.to_owned()))
}

/// What the names of such settings begin with.
pub(super) const PREFIX: &str = "PULSO_ACCESS__";

/// Checks that none of the suite's secrets is in what a program printed.
///
/// # Panics
/// When one is.
pub(crate) fn holds_no_secret(output: &str) {
    let signature = token().rsplit('.').next().unwrap();
    for secret in [signature, KEY_SECRET] {
        let found = output.lines().find(|line| line.contains(secret));
        assert_eq!(found, None, "a secret is printed");
    }
}
