//! Samples for tests: an issuer with a key of each kind, its tokens, and a clock that a test sets.

mod site;
mod store;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicI64, Ordering},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use domain::{Clock, Timestamp};
use futures_util::future::BoxFuture;
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RsaKeyPair, RsaPublicKeyComponents,
    },
};
use serde_json::{Value, json};

use super::jwt::source::{KeySource, SourceError};

pub(crate) use site::{Script, Site};
pub(crate) use store::fickle;
pub(super) use store::{embedded, on_every_store};

pub(super) const ISSUER: &str = "https://issuer.example";
pub(super) const AUDIENCE: &str = "pulso";

/// The moment at which tests begin: 2026-01-01T00:00:00Z.
pub(crate) const NOW: i64 = 1_767_225_600;

/// A clock that a test sets, in seconds.
#[derive(Clone, Debug)]
pub(crate) struct SetClock(Arc<AtomicI64>);

impl SetClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(NOW)))
    }

    pub(crate) fn set(&self, seconds: i64) {
        self.0.store(seconds, Ordering::SeqCst);
    }

    pub(crate) fn pass(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn shared(&self) -> Arc<dyn Clock> {
        Arc::new(self.clone())
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_parts(self.0.load(Ordering::SeqCst), 0).unwrap()
    }
}

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// How a token is signed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    Ed,
    Ec,
    Rsa,
    /// With HMAC under this secret.
    Secret(&'static [u8]),
    /// With HMAC under the RSA key's public modulus.
    RsaModulus,
}

/// Signs tokens with a key of each kind.
pub(crate) struct Issuer {
    ed: Ed25519KeyPair,
    ec: EcdsaKeyPair,
    rsa: RsaKeyPair,
    random: SystemRandom,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let by_p256 = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let ec = EcdsaKeyPair::generate_pkcs8(by_p256, &random).unwrap();
        // Made for these tests, and used nowhere else.
        let rsa: String = include_str!("samples/rsa_2048.pk8.base64").lines().collect();
        Self {
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
            ec: EcdsaKeyPair::from_pkcs8(by_p256, ec.as_ref(), &random).unwrap(),
            rsa: RsaKeyPair::from_pkcs8(&STANDARD.decode(rsa).unwrap()).unwrap(),
            random,
        }
    }

    pub(crate) fn ed_jwk(&self, kid: &str) -> Value {
        let x = base64url(self.ed.public_key());
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": kid, "x": x})
    }

    pub(crate) fn ec_jwk(&self, kid: &str) -> Value {
        let point = self.ec.public_key().as_ref();
        let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": kid, "x": x, "y": y})
    }

    pub(crate) fn rsa_jwk(&self, kid: &str) -> Value {
        let (n, e) = (base64url(self.modulus()), base64url([1, 0, 1]));
        json!({"kty": "RSA", "use": "sig", "key_ops": ["verify"], "kid": kid, "n": n, "e": e})
    }

    fn modulus(&self) -> Vec<u8> {
        RsaPublicKeyComponents::from(self.rsa.public()).n
    }

    /// All three keys: `ed`, `ec`, `rsa`.
    pub(crate) fn document(&self) -> String {
        jwks(&[self.ed_jwk("ed"), self.ec_jwk("ec"), self.rsa_jwk("rsa")])
    }

    /// A token of any texts, signed over what they are.
    pub(crate) fn sign(&self, header: &str, claims: &str, by: By) -> String {
        let message = format!("{}.{}", base64url(header), base64url(claims));
        let bytes = message.as_bytes();
        let hmac = |secret: &[u8]| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), bytes).as_ref().to_vec()
        };
        let signature = match by {
            By::Ed => self.ed.sign(bytes).as_ref().to_vec(),
            By::Ec => self.ec.sign(&self.random, bytes).unwrap().as_ref().to_vec(),
            By::Rsa => {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &self.random, bytes, &mut signature).unwrap();
                signature
            }
            By::Secret(secret) => hmac(secret),
            By::RsaModulus => hmac(&self.modulus()),
        };
        format!("{message}.{}", base64url(signature))
    }

    /// A good token with these claims, signed by Ed25519.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(r#"{"alg":"EdDSA","kid":"ed"}"#, &claims.to_string(), By::Ed)
    }
}

/// Claims of a good token, which ends an hour after [`NOW`].
pub(super) fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "meter-7",
        "exp": NOW + 3_600,
        "nbf": NOW - 5,
        "roles": ["viewer", "offline_access"],
        "tenants": ["acme"],
    })
}

pub(super) fn jwks(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

/// A document that a test changes, and that counts how often it was read.
#[derive(Clone, Debug, Default)]
pub(super) struct SetSource(Arc<Mutex<Served>>);

#[derive(Debug, Default)]
struct Served {
    document: Option<String>,
    loads: usize,
}

impl SetSource {
    pub(crate) fn new(document: impl Into<String>) -> Self {
        let source = Self::default();
        source.set(Some(document.into()));
        source
    }

    /// The document from now on; `None` when it cannot be had.
    pub(crate) fn set(&self, document: Option<String>) {
        self.0.lock().unwrap().document = document;
    }

    pub(crate) fn document(&self) -> Option<String> {
        self.0.lock().unwrap().document.clone()
    }

    pub(crate) fn loads(&self) -> usize {
        self.0.lock().unwrap().loads
    }
}

impl KeySource for SetSource {
    fn load(&self) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
        Box::pin(async {
            let mut served = self.0.lock().unwrap();
            served.loads += 1;
            let away = || SourceError::Timeout(self.place().to_owned());
            served.document.clone().map(String::into_bytes).ok_or_else(away)
        })
    }

    fn place(&self) -> &str {
        "the test's issuer"
    }
}
