//! Page tokens: where the next page starts, as opaque text that only fits the question it came from.
//!
//! A token is a position, not a snapshot and not a permission: access is checked on every page
//! anew. So the seal needs to stop accidents and tinkering, not an attacker with a computer farm,
//! and a keyed XXH3 does. Its key is the token's own and never the log's hash seed, which a client
//! must not be able to work out from what it is shown.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::hash;

const VERSION: u8 = 1;
const SEAL_BYTES: usize = 16;

/// Secret that seals page tokens.
#[derive(Clone, Copy)]
pub struct TokenKey([u8; 16]);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

impl TokenKey {
    /// Takes 16 random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The key for answers under one view of the epochs: a token does not outlive a swap, because a
    /// page of the old totals and one of the new would not add up.
    #[must_use]
    pub fn under(&self, view: &domain::View) -> Self {
        let mut key = self.0;
        for (byte, other) in key.iter_mut().zip(view.activations().to_le_bytes()) {
            *byte ^= other;
        }
        Self(key)
    }

    /// Wraps a position for the question with this fingerprint.
    #[must_use]
    pub fn seal(&self, question: u128, position: &[u8]) -> String {
        let mut bytes = Vec::with_capacity(1 + SEAL_BYTES + position.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.digest(question, position));
        bytes.extend_from_slice(position);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Unwraps the position, or `None` where the text was not sealed with this key for this
    /// question.
    #[must_use]
    pub fn open(&self, question: u128, token: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (&version, rest) = bytes.split_first()?;
        let (seal, position) = rest.split_at_checked(SEAL_BYTES)?;
        (version == VERSION && seal == self.digest(question, position)).then(|| position.to_vec())
    }

    fn digest(&self, question: u128, position: &[u8]) -> [u8; SEAL_BYTES] {
        let (seed, salt) = self.0.split_at(8);
        let seed = u64::from_le_bytes(seed.try_into().expect("8 of 16 bytes"));
        hash::parts(seed, [salt, &question.to_le_bytes(), position]).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_only_for_its_question_and_its_key() {
        let key = TokenKey::new([7; 16]);
        let token = key.seal(1, b"position");
        assert_eq!(key.open(1, &token).as_deref(), Some(&b"position"[..]));
        assert_eq!(key.open(2, &token), None);
        assert_eq!(TokenKey::new([8; 16]).open(1, &token), None);
        for damaged in ["", "A", "====", "not a token", &token[1..], &token[..token.len() - 1]] {
            assert_eq!(key.open(1, damaged), None, "{damaged:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_that_was_not_sealed_opens(token in ".{0,80}") {
            proptest::prop_assert_eq!(TokenKey::new([7; 16]).open(1, &token), None);
        }
    }
}
