//! Cache: what credentials were found to be, by their digest, so that a call costs a look-up.
//!
//! The credential itself is not kept. The cache holds at most a given number of entries in two halves:
//! when the young half is full it becomes the old one, and what was in the old one and not asked for
//! since is forgotten. So nothing has to be swept, and a flood of other credentials costs no memory.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use ring::digest::{SHA256, digest};

/// SHA-256 of a credential.
pub(super) type Digest = [u8; 32];

/// The digest of a credential.
pub(super) fn digest_of(credential: &str) -> Digest {
    let digest = digest(&SHA256, credential.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// At most so many values by digest.
#[derive(Debug)]
pub(super) struct Cache<V> {
    halves: Mutex<Halves<V>>,
    half_max: usize,
}

#[derive(Debug)]
struct Halves<V> {
    young: HashMap<Digest, V>,
    old: HashMap<Digest, V>,
}

impl<V: Clone> Cache<V> {
    /// A cache of at most `entries_max` entries, at least 2.
    pub(super) fn new(entries_max: usize) -> Self {
        let halves = Halves { young: HashMap::new(), old: HashMap::new() };
        Self { halves: Mutex::new(halves), half_max: (entries_max / 2).max(1) }
    }

    /// The value under a digest.
    pub(super) fn get(&self, digest: &Digest) -> Option<V> {
        let mut halves = self.lock();
        if let Some(value) = halves.young.get(digest) {
            return Some(value.clone());
        }
        let value = halves.old.remove(digest)?;
        halves.put(*digest, value.clone(), self.half_max);
        Some(value)
    }

    /// Puts a value under a digest.
    pub(super) fn put(&self, digest: Digest, value: V) {
        self.lock().put(digest, value, self.half_max);
    }

    /// Forgets what is under a digest.
    pub(super) fn remove(&self, digest: &Digest) {
        let mut halves = self.lock();
        halves.young.remove(digest);
        halves.old.remove(digest);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Halves<V>> {
        // Whatever a panic left is at worst an entry less.
        self.halves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Halves<V> {
    fn put(&mut self, digest: Digest, value: V, half_max: usize) {
        if self.young.len() >= half_max && !self.young.contains_key(&digest) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&digest);
        self.young.insert(digest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_a_flood_is_forgotten() {
        let cache = Cache::new(100);
        let kept = digest_of("kept");
        cache.put(kept, 0);
        for i in 1..10_000 {
            cache.put(digest_of(&i.to_string()), i);
            assert_eq!(cache.get(&kept), Some(0), "{i}");
            let halves = cache.lock();
            assert!(halves.young.len() + halves.old.len() <= 100);
        }
        assert_eq!(cache.get(&digest_of("1")), None);
        assert_eq!(cache.get(&digest_of("9999")), Some(9_999));
        cache.put(kept, 1);
        assert_eq!(cache.get(&kept), Some(1));
        cache.remove(&kept);
        assert_eq!(cache.get(&kept), None);
    }
}
