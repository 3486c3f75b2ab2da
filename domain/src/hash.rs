//! Hashes: XXH3 keyed by the generation's seed. Not cryptographic; the seed is secret and random,
//! so that a client cannot aim collisions at another's ids or at a partition.
//!
//! Source of the algorithm: the xxHash specification, XXH3 64 and 128 bits.

use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed, xxh3_128_with_seed};

/// 64-bit hash of one slice.
#[inline]
#[must_use]
pub fn bytes64(seed: u64, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}

/// 128-bit hash of one slice.
#[inline]
#[must_use]
pub fn bytes128(seed: u64, bytes: &[u8]) -> u128 {
    xxh3_128_with_seed(bytes, seed)
}

/// 128-bit hash of several slices, each preceded by its length so that they cannot run together.
#[must_use]
pub fn parts<'a>(seed: u64, parts: impl IntoIterator<Item = &'a [u8]>) -> u128 {
    let mut hasher = Xxh3::with_seed(seed);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.digest128()
}

/// The 128-bit hash of a text that comes in pieces: that of the whole as one slice, wherever it is cut.
pub struct Text128(Xxh3);

impl Text128 {
    /// Begins with nothing.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Xxh3::with_seed(seed))
    }

    /// Adds the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The hash of all that was added.
    #[must_use]
    pub fn hash(&self) -> u128 {
        self.0.digest128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_hash_wherever_it_is_cut() {
        let text: Vec<u8> = (0..=255).cycle().take(5_000).collect();
        for cut in [0, 1, 16, 240, 241, 256, 1_024, 4_999, 5_000] {
            let mut pieces = Text128::new(7);
            pieces.push(&text[..cut]);
            pieces.push(&text[cut..]);
            assert_eq!(pieces.hash(), bytes128(7, &text), "{cut}");
        }
    }
}
