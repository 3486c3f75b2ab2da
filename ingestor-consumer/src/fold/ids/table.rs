//! Table of ids: open addressing in 256 shards, 16 bytes a slot, four slots a line of memory.
//!
//! A shard grows by a quarter once four fifths of it are taken, so an id costs 20 to 25 bytes and
//! growing moves a 256th of the ids at a time. Slots are in the order of their hashes, but for the few
//! that a neighbour pushed on, so what a segment saw is collected nearly sorted.

/// Shards; the first byte of a hash chooses one.
const SHARDS: usize = 256;
/// Slots of a shard that was just begun.
const SLOTS_MIN: usize = 16;
/// Greatest ordinal that a slot can hold.
pub(super) const ORDINAL_MAX: u32 = (1 << 24) - 1;

/// An id, hashed to 80 bits: among 10^9 ids within a horizon two meet by chance once in two million
/// horizons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(super) high: u64,
    pub(super) low: u16,
}

/// What is remembered of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seen {
    pub(super) id: Id,
    /// The low bits of its tenant's hash, so that a log with other partitions can take its own ids.
    pub(super) tenant: u16,
    /// Of what the first occurrence said.
    pub(super) payload: u8,
    /// Number of the segment that saw it last, 1 to [`ORDINAL_MAX`].
    pub(super) ordinal: u32,
}

/// `high`; then, from the top, `low`, tenant, payload, ordinal. A free slot has ordinal 0.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(16))]
struct Slot {
    high: u64,
    rest: u64,
}

impl Slot {
    const fn of(seen: Seen) -> Self {
        let Seen { id, tenant, payload, ordinal } = seen;
        let rest =
            (id.low as u64) << 48 | (tenant as u64) << 32 | (payload as u64) << 24 | ordinal as u64;
        Self { high: id.high, rest }
    }

    const fn seen(self) -> Seen {
        Seen {
            id: self.id(),
            tenant: (self.rest >> 32) as u16,
            payload: (self.rest >> 24) as u8,
            ordinal: self.ordinal(),
        }
    }

    #[inline]
    const fn id(self) -> Id {
        Id { high: self.high, low: (self.rest >> 48) as u16 }
    }

    #[inline]
    const fn ordinal(self) -> u32 {
        self.rest as u32 & ORDINAL_MAX
    }
}

/// All ids that are remembered in memory.
#[derive(Debug)]
pub(super) struct Table {
    shards: Vec<Shard>,
    len: usize,
}

#[derive(Clone, Debug, Default)]
struct Shard {
    slots: Vec<Slot>,
    taken: usize,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { shards: vec![Shard::default(); SHARDS], len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes that its slots take.
    pub(super) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.slots.len() * size_of::<Slot>()).sum()
    }

    /// Reads the line of memory where the search for an id begins. Worth a call for each of a group
    /// before the first search: the processor waits for all of their lines at once.
    #[inline]
    pub(super) fn touch(&self, id: Id) -> u64 {
        let shard = &self.shards[shard_of(id)];
        shard.slots.get(shard.home(id)).map_or(0, |slot| slot.rest)
    }

    /// What is known of an id.
    #[inline]
    pub(super) fn get(&self, id: Id) -> Option<Seen> {
        let shard = &self.shards[shard_of(id)];
        shard.find(id).ok().map(|at| shard.slots[at].seen())
    }

    /// Puts what is known of an id in the place of what was, and gives that.
    #[inline]
    pub(super) fn replace(&mut self, seen: Seen) -> Option<Seen> {
        let shard = &mut self.shards[shard_of(seen.id)];
        match shard.find(seen.id) {
            Ok(at) => Some(std::mem::replace(&mut shard.slots[at], Slot::of(seen)).seen()),
            Err(at) => {
                self.len += 1;
                shard.insert(at, seen);
                None
            }
        }
    }

    /// Keeps the ids whose ordinals are wanted. Costs a pass over the table.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(u32) -> bool) {
        for shard in &mut self.shards {
            shard.retain(&is_wanted);
        }
        self.len = self.shards.iter().map(|shard| shard.taken).sum();
    }

    /// Lowers every ordinal. Costs a pass over the table.
    pub(super) fn renumber(&mut self, by: u32) {
        let slots = self.shards.iter_mut().flat_map(|shard| &mut shard.slots);
        slots.filter(|slot| slot.ordinal() > 0).for_each(|slot| slot.rest -= u64::from(by));
    }

    /// Gives the ids whose ordinals are wanted in the order of their hashes. Costs a pass over the table.
    pub(super) fn each(&self, is_wanted: impl Fn(u32) -> bool, mut take: impl FnMut(&Seen)) {
        let mut found = Vec::new();
        for shard in &self.shards {
            let taken = shard.slots.iter().filter(|slot| slot.ordinal() > 0);
            let wanted = taken.filter(|slot| is_wanted(slot.ordinal()));
            found.extend(wanted.map(|slot| slot.seen()));
            found.sort_unstable();
            found.drain(..).for_each(|seen| take(&seen));
        }
    }

    /// How many ids have each of the ordinals `first` to `last`.
    pub(super) fn count(&self, first: u32, last: u32) -> Vec<usize> {
        let mut counts = vec![0; (last - first) as usize + 1];
        for slot in self.shards.iter().flat_map(|shard| &shard.slots) {
            if let Some(at) = slot.ordinal().checked_sub(first) {
                counts[at as usize] += 1;
            }
        }
        counts
    }
}

#[inline]
const fn shard_of(id: Id) -> usize {
    (id.high >> 56) as usize
}

impl Shard {
    /// Where the search for an id begins.
    #[inline]
    fn home(&self, id: Id) -> usize {
        let within = u64::from((id.high >> 24) as u32);
        ((within * self.slots.len() as u64) >> 32) as usize
    }

    /// The place of an id, or the free place where it belongs.
    #[inline]
    fn find(&self, id: Id) -> Result<usize, usize> {
        if self.slots.is_empty() {
            return Err(0);
        }
        let mut at = self.home(id);
        loop {
            let slot = self.slots[at];
            if slot.ordinal() == 0 {
                return Err(at);
            }
            if slot.id() == id {
                return Ok(at);
            }
            at += 1;
            if at == self.slots.len() {
                at = 0;
            }
        }
    }

    fn insert(&mut self, at: usize, seen: Seen) {
        if (self.taken + 1) * 5 <= self.slots.len() * 4 {
            self.slots[at] = Slot::of(seen);
            self.taken += 1;
            return;
        }
        let slots = (self.slots.len() + self.slots.len() / 4).max(SLOTS_MIN);
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); slots]);
        old.into_iter().filter(|slot| slot.ordinal() > 0).for_each(|slot| self.put(slot));
        self.put(Slot::of(seen));
        self.taken += 1;
    }

    /// Takes a slot whose id is not here; there is room.
    fn put(&mut self, slot: Slot) {
        let at = self.find(slot.id()).expect_err("an id has one slot");
        self.slots[at] = slot;
    }

    fn retain(&mut self, is_wanted: &impl Fn(u32) -> bool) {
        let goes = |slot: &&Slot| slot.ordinal() > 0 && !is_wanted(slot.ordinal());
        if !self.slots.iter().any(|slot| goes(&slot)) {
            return;
        }
        let stays = |slot: &Slot| slot.ordinal() > 0 && is_wanted(slot.ordinal());
        let kept: Vec<Slot> = self.slots.iter().copied().filter(stays).collect();
        self.taken = kept.len();
        self.slots = match kept.len() {
            0 => Vec::new(),
            // Room for a tenth more, so that the next ids do not grow it at once.
            kept => vec![Slot::default(); (kept + kept / 2).max(SLOTS_MIN)],
        };
        kept.into_iter().for_each(|slot| self.put(slot));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn seen(high: u64, low: u16, ordinal: u32) -> Seen {
        Seen { id: Id { high, low }, tenant: low, payload: 7, ordinal }
    }

    proptest! {
        #[test]
        fn the_table_is_a_map(steps in proptest::collection::vec(
            (prop_oneof![any::<u64>(), 0u64..40, Just(u64::MAX)], 0u16..2, 1u32..6, 0u8..20), 0..400)) {
            let (mut table, mut map) = (Table::new(), BTreeMap::new());
            for (high, low, ordinal, step) in steps {
                if step == 0 {
                    table.retain(|other| other >= ordinal);
                    map.retain(|_, other: &mut Seen| other.ordinal >= ordinal);
                }
                let seen = seen(high, low, ordinal);
                prop_assert_eq!(table.replace(seen), map.insert(seen.id, seen));
                prop_assert_eq!(table.len(), map.len());
                let mut found = Vec::new();
                table.each(|other| other == ordinal, |seen| found.push(*seen));
                let wanted = map.values().filter(|other| other.ordinal == ordinal);
                prop_assert_eq!(found, wanted.copied().collect::<Vec<_>>());
            }
            for seen in map.values() {
                prop_assert_eq!(table.get(seen.id), Some(*seen));
            }
        }
    }

    #[test]
    fn an_id_takes_at_most_26_bytes_however_many_there_are() {
        let mut table = Table::new();
        let mut high = 1u64;
        for number in 1..120_000usize {
            high = high.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            table.replace(seen(high, 0, 1));
            if number > 40_000 && number.is_multiple_of(1_000) {
                let bytes = table.bytes() / number;
                assert!((19..=26).contains(&bytes), "{bytes} at {number}");
            }
        }
    }
}
