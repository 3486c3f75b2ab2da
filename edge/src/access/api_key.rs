//! API keys: their text, and the hash that is all of the secret that is kept.
//!
//! ```text
//! pulso_0123456789abcdef_<64 digits: the secret><8 digits: CRC-32C of all before>
//! ```
//!
//! Digits are hexadecimal and lowercase. The id is not secret: it finds the key, and stands in logs
//! and in the audit trail. The checksum tells a typo from a wrong key without a look-up, and lets
//! scanners of repositories find keys without false alarms.

use std::{fmt, str::FromStr};

use ring::{
    aead, hkdf, hmac,
    rand::{SecureRandom, SystemRandom},
};

/// What every key begins with.
pub const PREFIX: &str = "pulso_";

/// Bytes of a key's text.
pub const KEY_TEXT_BYTES: usize = PREFIX.len() + 16 + 1 + 64 + 8;

/// Fewest bytes of a server secret that is given as text.
pub const SERVER_SECRET_BYTES_MIN: usize = 32;

/// The public part of an API key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u64);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        match (text.len(), digits(text)) {
            (16, true) => {
                u64::from_str_radix(text, 16).map(Self).map_err(|_| KeyTextError::NotAKey)
            }
            _ => Err(KeyTextError::NotAKey),
        }
    }
}

/// A text that is not an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// It has another form.
    #[error("not an API key: those begin with {PREFIX} and have {KEY_TEXT_BYTES} characters")]
    NotAKey,
    /// It has the form, and its checksum does not fit.
    #[error("the API key is mistyped: its checksum does not fit")]
    Mistyped,
}

/// An API key with its secret. Prints as its id, whichever way it is printed.
#[derive(Clone)]
pub struct ApiKey {
    id: KeyId,
    secret: [u8; 32],
}

impl ApiKey {
    /// A new key of 256 random bits.
    ///
    /// # Panics
    /// When the system has no random numbers.
    #[must_use]
    pub fn mint() -> Self {
        let (id, secret) = (random::<8>(), random::<32>());
        Self { id: KeyId(u64::from_be_bytes(id)), secret }
    }

    /// Reads a key's text.
    ///
    /// # Errors
    /// See [`KeyTextError`].
    pub fn parse(text: &str) -> Result<Self, KeyTextError> {
        let body = text.strip_prefix(PREFIX).filter(|_| text.len() == KEY_TEXT_BYTES);
        let (id, rest) = body.and_then(|body| body.split_once('_')).ok_or(KeyTextError::NotAKey)?;
        let id = id.parse()?;
        if !digits(rest) {
            return Err(KeyTextError::NotAKey);
        }
        let (secret, sum) = rest.split_at(64);
        let summed = &text[..KEY_TEXT_BYTES - sum.len()];
        if sum != format!("{:08x}", crc32c::crc32c(summed.as_bytes())) {
            return Err(KeyTextError::Mistyped);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(secret.as_bytes().chunks(2)) {
            let pair = str::from_utf8(pair).expect("digits are ASCII");
            *byte = u8::from_str_radix(pair, 16).expect("they are hexadecimal");
        }
        Ok(Self { id, secret: bytes })
    }

    /// The public part.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The whole text, for the one time that it is shown.
    #[must_use]
    pub fn reveal(&self) -> String {
        let text = format!("{PREFIX}{}_{}", self.id, hex(&self.secret));
        let sum = crc32c::crc32c(text.as_bytes());
        format!("{text}{sum:08x}")
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}_***", self.id)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What hashes of keys are made with, so that whoever reads the store alone cannot try keys. Never
/// printed.
#[derive(Clone)]
pub struct ServerSecret {
    hashing: hmac::Key,
    sealing: hkdf::Prk,
}

/// A server secret that protects nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server secret has {0} bytes; give at least {SERVER_SECRET_BYTES_MIN} random ones")]
pub struct SecretTooShort(usize);

impl ServerSecret {
    /// Takes a configured secret.
    ///
    /// # Errors
    /// When it has fewer than 32 bytes.
    pub fn new(secret: &[u8]) -> Result<Self, SecretTooShort> {
        match secret.len() {
            SERVER_SECRET_BYTES_MIN.. => Ok(Self {
                hashing: hmac::Key::new(hmac::HMAC_SHA256, secret),
                sealing: hkdf::Salt::new(hkdf::HKDF_SHA256, b"pulso sealing 1").extract(secret),
            }),
            short => Err(SecretTooShort(short)),
        }
    }

    /// A new secret as text, to be kept.
    pub(super) fn mint() -> String {
        hex(&random::<32>())
    }

    /// Tells secrets apart without giving them away: the first 8 bytes of a hash.
    pub(super) fn fingerprint(&self) -> String {
        let tag = hmac::sign(&self.hashing, b"pulso server secret 1");
        hex(&tag.as_ref()[..8])
    }

    /// A key for sealing, of its own for each context.
    pub(super) fn sealing_key(&self, context: &[u8]) -> aead::UnboundKey {
        let context = [context];
        let derived = self.sealing.expand(&context, &aead::AES_256_GCM);
        derived.expect("a key is shorter than 255 digests").into()
    }

    /// The hash under which a key is kept: HMAC-SHA-256, in 64 digits.
    pub(super) fn hash(&self, key: &ApiKey) -> String {
        hex(hmac::sign(&self.hashing, &message(key)).as_ref())
    }

    /// Compares a key with a kept hash, in time that does not depend on either.
    pub(super) fn is_hash(&self, key: &ApiKey, hash: &[u8]) -> bool {
        hmac::verify(&self.hashing, &message(key), hash).is_ok()
    }
}

impl fmt::Debug for ServerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerSecret(***)")
    }
}

/// The bytes of a hash that was written as digits.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    (text.len().is_multiple_of(2) && digits(text))
        .then(|| {
            pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect()
        })
        .flatten()
}

fn message(key: &ApiKey) -> Vec<u8> {
    [&b"pulso api key 1"[..], &key.id.0.to_be_bytes(), &key.secret].concat()
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the system has random numbers");
    bytes
}

fn digits(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Bytes in lowercase hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> ServerSecret {
        ServerSecret::new(&[7; 32]).unwrap()
    }

    #[test]
    fn a_key_is_read_as_it_is_revealed() {
        let key = ApiKey::mint();
        let text = key.reveal();
        assert_eq!(text.len(), KEY_TEXT_BYTES);
        let read = ApiKey::parse(&text).unwrap();
        assert_eq!((read.id, read.secret), (key.id, key.secret));
        assert_eq!(key.id.to_string().parse(), Ok(key.id));
        assert_ne!(ApiKey::mint().reveal(), text);
    }

    #[test]
    fn the_form_of_keys_never_changes() {
        let key = ApiKey { id: KeyId(0x0123_4567_89ab_cdef), secret: [0xa5; 32] };
        let expected = format!("pulso_0123456789abcdef_{}82f2dcfe", "a5".repeat(32));
        assert_eq!(key.reveal(), expected);
    }

    #[test]
    fn every_typo_of_one_character_is_seen_without_a_look_up() {
        let text = ApiKey::mint().reveal();
        for place in 0..text.len() {
            for other in ["0", "f", "x", "_", "A", " "] {
                let mut typo = text.clone();
                typo.replace_range(place..=place, other);
                let read = ApiKey::parse(&typo);
                assert!(typo == text || read.is_err(), "{place} {other}");
                let is_digit = place >= text.len() - 72 && digits(other);
                let expected =
                    if is_digit { KeyTextError::Mistyped } else { KeyTextError::NotAKey };
                let is_id = (PREFIX.len()..PREFIX.len() + 16).contains(&place) && digits(other);
                assert!(typo == text || is_id || read.unwrap_err() == expected, "{place} {other}");
            }
        }
        let cut = &text[..text.len() - 1];
        for text in ["", "pulso_", "a.b.c", cut, &format!("{text}0"), &format!(" {text}")] {
            assert_eq!(ApiKey::parse(text).unwrap_err(), KeyTextError::NotAKey, "{text}");
        }
        let accented = format!("pulso_{}", "é".repeat((KEY_TEXT_BYTES - 6) / 2));
        assert_eq!(ApiKey::parse(&accented).unwrap_err(), KeyTextError::NotAKey);
    }

    #[test]
    fn nothing_prints_a_secret() {
        let key = ApiKey::mint();
        let (text, secret) = (key.reveal(), secret());
        for printed in [
            format!("{key}"),
            format!("{key:?}"),
            format!("{:?}", Some(&key)),
            format!("{secret:?}"),
            format!("{:?}", ApiKey::parse(&text.replace('a', "b"))),
        ] {
            assert!(!printed.contains(&text[23..40]), "{printed}");
        }
        assert_eq!(key.to_string(), format!("pulso_{}_***", key.id));
    }

    #[test]
    fn a_hash_fits_its_key_under_its_secret_only() {
        let (key, other) = (ApiKey::mint(), ApiKey::mint());
        let hash = unhex(&secret().hash(&key)).unwrap();
        assert!(secret().is_hash(&key, &hash));
        assert!(!secret().is_hash(&other, &hash));
        assert!(!secret().is_hash(&ApiKey { id: other.id, ..key.clone() }, &hash));
        let another = ServerSecret::new(&[8; 32]).unwrap();
        assert!(!another.is_hash(&key, &hash));
        assert!(!secret().is_hash(&key, &hash[..31]) && !secret().is_hash(&key, &[]));
        assert_ne!(another.fingerprint(), secret().fingerprint());
        assert_eq!(ServerSecret::new(&[7; 31]).unwrap_err(), SecretTooShort(31));
        for text in ["0", "0g", "é", "A0"] {
            assert_eq!(unhex(text), None, "{text}");
        }
    }
}
