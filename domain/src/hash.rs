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
