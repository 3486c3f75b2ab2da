//! Index: from a hash to a place in a list that no cache holds.
//!
//! Open addressing with linear probing. A slot of eight bytes keeps half of the hash beside the place,
//! so a search reads one line of memory before the entry, and growing reads no entry at all;
//! `hashbrown` reads two, and every entry to grow.

/// A place that is none.
pub(crate) const NO_PLACE: u32 = u32::MAX;

/// Slots of an index that is empty.
const SLOTS_MIN: usize = 64;

/// Hashes and places. Equal hashes may stand for several entries: the entry itself decides.
#[derive(Debug)]
pub(crate) struct Index {
    /// A power of two of them, at most half of them taken, so that a search ends after two or three.
    slots: Vec<Slot>,
    taken: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The upper half of the hash; its upper bits are where the search begins.
    hash: u32,
    place: u32,
}

const FREE: Slot = Slot { hash: 0, place: NO_PLACE };

impl Index {
    pub(crate) fn new() -> Self {
        Self { slots: vec![FREE; SLOTS_MIN], taken: 0 }
    }

    /// Reads the line of memory where the search for `hash` begins. Worth a call for each of a group
    /// before the first search: the processor waits for all of their lines at once.
    #[inline]
    pub(crate) fn touch(&self, hash: u64) -> u32 {
        self.slots[self.home(half(hash))].place
    }

    /// The first place under this hash, or [`NO_PLACE`]: it is the right one all but surely.
    #[inline]
    pub(crate) fn likely(&self, hash: u64) -> u32 {
        self.find(hash, |_| true).unwrap_or(NO_PLACE)
    }

    /// The place under this hash that is the right one.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_right: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = half(hash);
        let mut at = self.home(hash);
        loop {
            let slot = self.slots[at];
            if slot.place == NO_PLACE {
                return None;
            }
            if slot.hash == hash && is_right(slot.place) {
                return Some(slot.place);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// Takes a place that it does not hold yet.
    pub(crate) fn insert(&mut self, hash: u64, place: u32) {
        if (self.taken + 1) * 2 > self.slots.len() {
            self.grow();
        }
        self.taken += 1;
        self.put(Slot { hash: half(hash), place });
    }

    /// Forgets all places, and keeps the memory of at most so many slots.
    pub(crate) fn clear(&mut self, slots_kept_max: usize) {
        if self.slots.len() > slots_kept_max {
            *self = Self::new();
            return;
        }
        self.slots.fill(FREE);
        self.taken = 0;
    }

    /// Doubles. The slots stand in the order of their hashes, so both tables are passed once.
    #[cold]
    fn grow(&mut self) {
        let doubled = vec![FREE; self.slots.len() * 2];
        for slot in std::mem::replace(&mut self.slots, doubled) {
            if slot.place != NO_PLACE {
                self.put(slot);
            }
        }
    }

    #[inline]
    fn put(&mut self, slot: Slot) {
        let mut at = self.home(slot.hash);
        while self.slots[at].place != NO_PLACE {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = slot;
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.slots.len() as u64) >> 32) as usize
    }
}

const fn half(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_place_is_found_whatever_its_hash(hashes in proptest::collection::vec(
            prop_oneof![any::<u64>(), Just(u64::MAX), 0u64..4], 0..300)) {
            let mut index = Index::new();
            for round in 0..2 {
                for (place, hash) in hashes.iter().enumerate() {
                    let place = place as u32;
                    prop_assert_eq!(index.find(*hash, |other| other == place), None, "{}", round);
                    index.insert(*hash, place);
                }
                for (place, hash) in hashes.iter().enumerate() {
                    let place = place as u32;
                    prop_assert_eq!(index.find(*hash, |other| other == place), Some(place));
                    prop_assert_eq!(half(hashes[index.likely(*hash) as usize]), half(*hash));
                }
                index.clear(SLOTS_MIN * (1 + round));
            }
        }
    }
}
