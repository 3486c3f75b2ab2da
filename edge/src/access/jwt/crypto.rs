//! Crypto: checks the signatures of tokens by ring, for the library that reads them.
//!
//! The library brings two backends; one needs cmake, the other a second implementation of what TLS
//! has in ring already. So it is given this provider, which verifies EdDSA, ES256 and RS256 and
//! knows nothing else: no HMAC, so a public key cannot serve as a secret, and no signing.

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    crypto::{CryptoProvider, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
    signature::{self, Verifier},
};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: verifier,
    // For thumbprints and for JWKs made of private keys, which nothing here asks for.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes the library verify by ring. Without a provider it panics at its first use.
pub(super) fn install() {
    // It fails where a provider is there already, which is this one: no backend is built in.
    let _ = PROVIDER.install_default();
}

/// Checks signatures by one key.
struct ByRing {
    algorithm: Algorithm,
    key: Key,
}

enum Key {
    Raw(UnparsedPublicKey<Vec<u8>>),
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let raw = |by: &'static dyn VerificationAlgorithm, bytes: &[u8]| {
        Key::Raw(UnparsedPublicKey::new(by, bytes.to_vec()))
    };
    let key = match (algorithm, key.kind()) {
        (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(bytes)) => raw(&ED25519, bytes),
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(bytes)) => {
            raw(&ECDSA_P256_SHA256_FIXED, bytes)
        }
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            Key::Rsa(RsaPublicKeyComponents { n: n.clone(), e: e.clone() })
        }
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    Ok(Box::new(ByRing { algorithm: *algorithm, key }))
}

impl Verifier<Vec<u8>> for ByRing {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = match &self.key {
            Key::Raw(key) => key.verify(message, signature),
            Key::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for ByRing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
