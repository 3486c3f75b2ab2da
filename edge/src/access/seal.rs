//! Seal: what a browser keeps for the deployment, and can neither read nor change.
//!
//! AES-256-GCM under a key that HKDF derives from the server secret for one purpose, so that every
//! process of a deployment opens what another one sealed, and what was sealed for one purpose opens for
//! no other. Nonces are random: one key may seal some 2^32 times, and a login seals twice.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};

use super::api_key::{ServerSecret, random};

/// Seals and opens texts of one purpose.
pub(crate) struct Seal(LessSafeKey);

impl Seal {
    /// A seal for what these words say together: what it is for, and whose.
    pub(crate) fn new(secret: &ServerSecret, purpose: &[&str]) -> Self {
        let mut context = Vec::new();
        for part in purpose {
            context.extend_from_slice(&(part.len() as u64).to_le_bytes());
            context.extend_from_slice(part.as_bytes());
        }
        Self(LessSafeKey::new(secret.sealing_key(&context)))
    }

    /// The sealed form, in base64url: 38 characters more than four thirds of the bytes.
    pub(crate) fn seal(&self, plain: &[u8]) -> String {
        let nonce: [u8; NONCE_LEN] = random();
        let mut sealed = plain.to_vec();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::empty(),
                &mut sealed,
            )
            .expect("a cookie is shorter than the cipher's bound of 64 GiB");
        URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat())
    }

    /// What was sealed; `None` for anything else.
    pub(crate) fn open(&self, text: &str) -> Option<Vec<u8>> {
        let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk_mut::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self.0.open_in_place(nonce, Aad::empty(), sealed).ok()?;
        Some(plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> ServerSecret {
        ServerSecret::new(&[byte; 32]).unwrap()
    }

    #[test]
    fn only_the_same_secret_and_purpose_open_what_was_sealed() {
        let seal = Seal::new(&secret(7), &["session", "issuer"]);
        let sealed = seal.seal(b"ada");
        assert_eq!(seal.open(&sealed).as_deref(), Some(&b"ada"[..]));
        let again = Seal::new(&secret(7), &["session", "issuer"]);
        assert_eq!(again.open(&sealed).as_deref(), Some(&b"ada"[..]), "another process");
        for other in [
            Seal::new(&secret(8), &["session", "issuer"]),
            Seal::new(&secret(7), &["login", "issuer"]),
            Seal::new(&secret(7), &["session"]),
            Seal::new(&secret(7), &["sessio", "nissuer"]),
        ] {
            assert_eq!(other.open(&sealed), None);
        }
        assert_ne!(seal.seal(b"ada"), sealed, "a nonce is never used twice");
    }

    #[test]
    fn a_change_of_any_character_is_seen() {
        let seal = Seal::new(&secret(7), &["session"]);
        let sealed = seal.seal(b"viewer of acme");
        for place in 0..sealed.len() {
            for other in ["A", "B", "_", "="] {
                let mut changed = sealed.clone();
                changed.replace_range(place..=place, other);
                assert!(changed == sealed || seal.open(&changed).is_none(), "{place} {other}");
            }
        }
        for length in 0..sealed.len() {
            assert_eq!(seal.open(&sealed[..length]), None);
        }
    }
}
