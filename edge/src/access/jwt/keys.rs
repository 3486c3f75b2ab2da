//! Keys: the public keys that tokens may be signed with, out of a JWKS document (RFC 7517).
//!
//! Each key is tied to one algorithm by its type, so a token cannot choose how it is checked. Keys
//! for other purposes, of other kinds, or too weak are left out with the reason; a document without
//! one usable key is refused.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{
        AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
        RSAKeyParameters,
    },
};
use serde::Deserialize;
use serde_json::Value;

/// Most bytes of a JWKS document. Public ones have 1 to 10 KiB.
pub const DOCUMENT_BYTES_MAX: usize = 256 << 10;

/// Most keys of a document. Issuers publish two or three while they rotate.
pub const KEYS_MAX: usize = 64;

/// Most bytes of a key's id, in documents and in tokens.
pub const KEY_ID_BYTES_MAX: usize = 256;

/// Fewest and most bits of an RSA modulus: below is weak, above costs more than it protects.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// A document of keys that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Too long to be read.
    #[error("the JWKS document has more than {DOCUMENT_BYTES_MAX} bytes")]
    TooLarge,
    /// Not the JSON of a set of keys.
    #[error("the JWKS document cannot be read: {0}")]
    Malformed(String),
    /// Too many keys.
    #[error("the JWKS document has {0} keys; at most {KEYS_MAX} are read")]
    TooMany(usize),
    /// Two keys under one id.
    #[error(
        "the JWKS document has two {algorithm:?} keys with the kid {kid:?}; make them distinct"
    )]
    Repeated {
        /// What both are for.
        algorithm: Algorithm,
        /// Their id.
        kid: Option<String>,
    },
    /// No key that tokens could be signed with.
    #[error("the JWKS document has no key for EdDSA, ES256 or RS256; left out: {0:?}")]
    Empty(Vec<LeftOut>),
}

/// A key of a document that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its id, if it has one.
    pub kid: Option<String>,
    /// What is wrong with it, for the log.
    pub why: &'static str,
}

/// The usable keys of one document.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    left_out: Vec<LeftOut>,
}

/// One public key, and the one algorithm that it is for.
#[derive(Clone, Debug)]
pub struct Key {
    /// What tokens call it.
    pub kid: Option<String>,
    /// The algorithm that its type implies.
    pub algorithm: Algorithm,
    /// The key itself.
    pub(super) key: DecodingKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a document.
    ///
    /// # Errors
    /// See [`KeySetError`].
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        if document.len() > DOCUMENT_BYTES_MAX {
            return Err(KeySetError::TooLarge);
        }
        let Document { keys } = serde_json::from_slice(document)
            .map_err(|error| KeySetError::Malformed(error.to_string()))?;
        if keys.len() > KEYS_MAX {
            return Err(KeySetError::TooMany(keys.len()));
        }
        let mut set = Self { keys: Vec::new(), left_out: Vec::new() };
        for value in keys {
            match Key::read(&value) {
                Ok(key) => set.add(key)?,
                Err(why) => {
                    let kid = value.get("kid").and_then(Value::as_str);
                    let kid = kid.map(|kid| kid.chars().take(64).collect());
                    set.left_out.push(LeftOut { kid, why });
                }
            }
        }
        if set.keys.is_empty() { Err(KeySetError::Empty(set.left_out)) } else { Ok(set) }
    }

    fn add(&mut self, key: Key) -> Result<(), KeySetError> {
        let is_same = |other: &Key| other.kid == key.kid && other.algorithm == key.algorithm;
        if self.keys.iter().any(is_same) {
            return Err(KeySetError::Repeated { algorithm: key.algorithm, kid: key.kid });
        }
        self.keys.push(key);
        Ok(())
    }

    /// The key that a token asks for. A token without an id can only mean the only key.
    #[must_use]
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let found = match (kid, self.keys.as_slice()) {
            (Some(kid), keys) => keys
                .iter()
                .find(|key| key.kid.as_deref() == Some(kid) && key.algorithm == algorithm),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        found.filter(|key| key.algorithm == algorithm)
    }

    /// The usable keys, in the order of the document.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The keys that are not used, with the reasons.
    #[must_use]
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }
}

impl Key {
    fn read(value: &Value) -> Result<Self, &'static str> {
        let jwk = Jwk::deserialize(value).map_err(|_| "it is of no known kind, or incomplete")?;
        let common = &jwk.common;
        if common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature)
        {
            return Err("it is not for signatures");
        }
        let operations = common.key_operations.as_ref();
        if operations.is_some_and(|operations| !operations.contains(&KeyOperations::Verify)) {
            return Err("it is not for verifying");
        }
        let kid = common.key_id.clone();
        if kid.as_ref().is_some_and(|kid| kid.len() > KEY_ID_BYTES_MAX) {
            return Err("its kid is too long");
        }
        let (algorithm, key) = match &jwk.algorithm {
            AlgorithmParameters::RSA(parameters) => (Algorithm::RS256, rsa(parameters)?),
            AlgorithmParameters::EllipticCurve(parameters)
                if parameters.curve == EllipticCurve::P256 =>
            {
                let (x, y) = (bytes32(&parameters.x)?, bytes32(&parameters.y)?);
                let point = [&[4][..], &x, &y].concat();
                (Algorithm::ES256, DecodingKey::from_ec_der(&point))
            }
            AlgorithmParameters::OctetKeyPair(parameters)
                if parameters.curve == EllipticCurve::Ed25519 =>
            {
                (Algorithm::EdDSA, DecodingKey::from_ed_der(&bytes32(&parameters.x)?))
            }
            AlgorithmParameters::OctetKey(_) => return Err("it is a shared secret"),
            _ => return Err("its curve or kind is not supported"),
        };
        if common.key_algorithm.is_some_and(|named| named != KeyAlgorithm::from(algorithm)) {
            return Err("it is for another algorithm");
        }
        Ok(Self { kid, algorithm, key })
    }
}

fn bytes32(text: &str) -> Result<[u8; 32], &'static str> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| "it is not base64url")?;
    bytes.try_into().map_err(|_| "a coordinate has not 32 bytes")
}

fn rsa(parameters: &RSAKeyParameters) -> Result<DecodingKey, &'static str> {
    let number = |text: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| "it is not base64url")?;
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        Ok::<_, &'static str>(bytes[start..].to_vec())
    };
    let (modulus, exponent) = (number(&parameters.n)?, number(&parameters.e)?);
    let zeros = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    let bits = modulus.len() * 8 - zeros;
    if bits < *RSA_BITS.start() {
        return Err("its modulus has fewer than 2048 bits");
    }
    if bits > *RSA_BITS.end() {
        return Err("its modulus has more than 8192 bits");
    }
    Ok(DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}
