//! Numbered batches: which of a producer's batches have landed.
//!
//! Per producer the 256 landed batches with the greatest start are remembered, and below them only
//! how far they reached. Nothing is kept per pulse, so the rate is unlimited; and what is kept per
//! batch has a fixed bound, whatever was refused in it.

use std::{collections::BTreeMap, num::NonZero};

use super::refused::Refused;

/// Landed batches remembered for each producer. A client keeps every batch within this many places
/// of its oldest unacknowledged one.
pub(crate) const LANDED_MAX: usize = 256;

/// Landed batches that a producer keeps while the state is full.
const LANDED_WHEN_FULL: usize = 16;

/// Bytes that a producer is counted as, but for its batches and the bytes of its scope.
const PRODUCER_BYTES: u64 = 128;
/// Bytes that a landed batch is counted as, but for its refused ranges.
const LANDED_BYTES: u64 = 48;

/// Identifies a producer: the credential's scope and 16 random bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProducerKey {
    pub(crate) scope: String,
    pub(crate) producer_id: [u8; 16],
}

/// A batch that landed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Landed {
    pub(crate) start: u64,
    /// Pulses as sent, refused ones included; at least 1.
    pub(crate) length: u32,
    pub(crate) digest: u64,
    /// Places refused at every landing so far.
    pub(crate) refused: Refused,
}

impl Landed {
    pub(crate) const fn end(&self) -> u64 {
        self.start.saturating_add(self.length as u64)
    }

    fn bytes(&self) -> u64 {
        LANDED_BYTES + self.refused.bytes()
    }
}

/// A batch that is landing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Landing<'a> {
    pub(crate) start: u64,
    pub(crate) length: u32,
    pub(crate) digest: u64,
    /// Places refused, ascending.
    pub(crate) refused: &'a [u32],
}

/// What a landing batch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BatchVerdict {
    /// Not seen before: every pulse in it is new.
    New,
    /// Landed before: its pulses are duplicates, but for those refused at every earlier landing.
    Again {
        /// The places, ascending, whose pulses are new.
        new: Vec<u32>,
    },
    /// Another batch under numbers that were used, or too old to tell.
    Reused,
    /// Landed before with other refusals, which were too scattered to remember.
    Scattered,
    /// Of a new producer, and no more can be remembered.
    Full,
}

/// What is remembered of one producer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producer {
    /// Ascending by start, without overlap; at most `LANDED_MAX`.
    pub(crate) landed: Vec<Landed>,
    /// The greatest end of any batch dropped from `landed`.
    pub(crate) floor: u64,
    /// Interval of log time in which it was last seen.
    pub(crate) bucket: u32,
    /// Its number in the delta that is being written, once it is in it.
    pub(crate) mention: Option<NonZero<u32>>,
}

impl Producer {
    fn land(&mut self, batch: Landing<'_>) -> BatchVerdict {
        let Landing { start, length, digest, refused } = batch;
        let end = start.saturating_add(u64::from(length));
        let at = self.landed.partition_point(|landed| landed.start < start);
        if let Some(known) = self.landed.get_mut(at)
            && (known.start, known.length, known.digest) == (start, length, digest)
        {
            return match known.refused.land_again(refused) {
                Some(new) => BatchVerdict::Again { new },
                None => BatchVerdict::Scattered,
            };
        }
        let overlaps_next = self.landed.get(at).is_some_and(|next| next.start < end);
        let overlaps_last = at > 0 && self.landed[at - 1].end() > start;
        if start < self.floor || overlaps_next || overlaps_last {
            return BatchVerdict::Reused;
        }
        let refused = Refused::of(refused);
        if self.landed.capacity() == 0 {
            // Many producers send one batch only, and a list begins with room for four.
            self.landed.reserve_exact(1);
        }
        self.landed.insert(at, Landed { start, length, digest, refused });
        BatchVerdict::New
    }

    /// Keeps the landed batches with the greatest start; below them, only how far they reached.
    fn keep_landed(&mut self, most: usize) {
        let goes = self.landed.len().saturating_sub(most);
        for dropped in self.landed.drain(..goes) {
            self.floor = self.floor.max(dropped.end());
        }
        // A list grows to twice what it held; more than that is not counted, so it must not be kept.
        if most == 0 || self.landed.capacity() > 2 * self.landed.len() {
            self.landed.shrink_to_fit();
        }
    }

    fn bytes(&self, key: &ProducerKey) -> u64 {
        let landed: u64 = self.landed.iter().map(Landed::bytes).sum();
        PRODUCER_BYTES + key.scope.len() as u64 + landed
    }
}

/// All producers of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    all: BTreeMap<ProducerKey, Producer>,
    bytes: u64,
    /// Interval of log time in which every idle producer's list is gone already. Until the next one a
    /// pass would free nothing, so none is made: a flood of new producers cost a pass each.
    emptied_in: Option<u32>,
}

impl Producers {
    /// Lands a batch, seen in `bucket` of log time; `room` is how many bytes all producers may take.
    pub(crate) fn land(
        &mut self,
        key: &ProducerKey,
        batch: Landing<'_>,
        (bucket, room): (u32, u64),
    ) -> BatchVerdict {
        self.make_room(bucket, room);
        let is_full = self.bytes >= room;
        let mut before = 0;
        let producer = match self.all.get_mut(key) {
            Some(producer) => {
                before = producer.bytes(key);
                producer
            }
            None if is_full => return BatchVerdict::Full,
            None => self.all.entry(key.clone()).or_default(),
        };
        producer.bucket = bucket;
        let verdict = producer.land(batch);
        producer.keep_landed(if is_full { LANDED_WHEN_FULL } else { LANDED_MAX });
        self.bytes = self.bytes + producer.bytes(key) - before;
        verdict
    }

    /// Makes room where there is none and a pass could free some.
    pub(crate) fn make_room(&mut self, bucket: u32, room: u64) {
        if self.bytes >= room && self.emptied_in != Some(bucket) {
            self.empty_idle(bucket, room);
        }
    }

    /// The number of a producer in the delta, for which it gets `next` if it has none; `None` where it is
    /// not known.
    pub(crate) fn mention(
        &mut self,
        key: &ProducerKey,
        next: NonZero<u32>,
    ) -> Option<NonZero<u32>> {
        Some(*self.all.get_mut(key)?.mention.get_or_insert(next))
    }

    /// Takes the numbers back, for the next delta.
    pub(crate) fn forget_mentions(&mut self) {
        self.all.values_mut().for_each(|producer| producer.mention = None);
    }

    /// Lets producers that were not seen in this interval keep only how far they reached, those
    /// idle longest first, until a quarter of the room is free. A batch of theirs that comes again is
    /// then too old to tell, never counted twice. Costs two passes: for a quarter of the room, or once an
    /// interval.
    #[cold]
    fn empty_idle(&mut self, bucket: u32, room: u64) {
        let mut by_bucket: BTreeMap<u32, u64> = BTreeMap::new();
        for producer in self.all.values().filter(|producer| producer.bucket < bucket) {
            let landed: u64 = producer.landed.iter().map(Landed::bytes).sum();
            *by_bucket.entry(producer.bucket).or_default() += landed;
        }
        let wanted = self.bytes - room / 4 * 3;
        let mut freed = 0;
        let enough = by_bucket.into_iter().find(|(_, bytes)| {
            freed += bytes;
            freed >= wanted
        });
        if enough.is_none() {
            self.emptied_in = Some(bucket);
        }
        let last = enough.map_or(bucket.saturating_sub(1), |(last, _)| last);
        if freed > 0 {
            let idle = self.all.values_mut().filter(|producer| producer.bucket <= last);
            idle.filter(|producer| producer.bucket < bucket).for_each(|it| it.keep_landed(0));
            self.count();
        }
    }

    /// Forgets producers last seen before `bucket_min`.
    pub(crate) fn forget_before(&mut self, bucket_min: u32) {
        let mut forgotten = 0;
        self.all.retain(|key, producer| {
            let stays = producer.bucket >= bucket_min;
            if !stays {
                forgotten += producer.bytes(key);
            }
            stays
        });
        self.bytes -= forgotten;
    }

    fn count(&mut self) {
        self.bytes = self.all.iter().map(|(key, producer)| producer.bytes(key)).sum();
    }

    /// Bytes that they are counted as.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ProducerKey, &Producer)> {
        self.all.iter()
    }
}

impl IntoIterator for Producers {
    type Item = (ProducerKey, Producer);
    type IntoIter = std::collections::btree_map::IntoIter<ProducerKey, Producer>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.into_iter()
    }
}

impl Extend<(ProducerKey, Producer)> for Producers {
    fn extend<T: IntoIterator<Item = (ProducerKey, Producer)>>(&mut self, more: T) {
        // Built at once, a tree is full; grown one by one in order, half of it is free.
        self.all.append(&mut more.into_iter().collect());
        self.emptied_in = None;
        self.count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn batch(start: u64, length: u32, digest: u64, refused: &[u32]) -> Landing<'_> {
        Landing { start, length, digest, refused }
    }

    #[test]
    fn a_batch_is_new_once_and_gaps_are_legal() {
        let mut producer = Producer::default();
        for (start, length, digest, verdict) in [
            (10, 5, 1, BatchVerdict::New),
            (10, 5, 1, BatchVerdict::Again { new: vec![] }),
            (30, 5, 2, BatchVerdict::New),
            (15, 15, 3, BatchVerdict::New),
            (10, 5, 9, BatchVerdict::Reused),
            (10, 4, 1, BatchVerdict::Reused),
            (14, 1, 1, BatchVerdict::Reused),
            (34, 2, 1, BatchVerdict::Reused),
            (8, 3, 1, BatchVerdict::Reused),
            (0, 10, 4, BatchVerdict::New),
            (0, 10, 4, BatchVerdict::Again { new: vec![] }),
        ] {
            assert_eq!(
                producer.land(batch(start, length, digest, &[])),
                verdict,
                "{start}+{length}"
            );
        }
    }

    #[test]
    fn a_pulse_refused_at_every_earlier_landing_is_new() {
        let mut producer = Producer::default();
        assert_eq!(producer.land(batch(0, 5, 1, &[1, 3])), BatchVerdict::New);
        assert_eq!(producer.land(batch(0, 5, 1, &[3])), BatchVerdict::Again { new: vec![1] });
        assert_eq!(producer.land(batch(0, 5, 1, &[1])), BatchVerdict::Again { new: vec![3] });
        assert_eq!(producer.land(batch(0, 5, 1, &[])), BatchVerdict::Again { new: vec![] });
    }

    /// A block of memory takes 16 bytes beside its own, and 32 at least.
    fn block(bytes: usize) -> usize {
        if bytes == 0 { 0 } else { (bytes + 16).max(32) }
    }

    /// The factor of `docs/operations.md`, at its worst: nodes of the tree have 5 of 11 entries, and each
    /// batch has one refused range.
    fn assert_counted(producer: &Producer) {
        let key = ProducerKey { scope: "s".into(), ..key(0) };
        let in_tree = size_of::<(ProducerKey, Producer)>() * 11 / 5 + 2 * size_of::<usize>();
        let list = block(producer.landed.capacity() * size_of::<Landed>());
        let refused = producer.landed.iter().map(|landed| block(landed.refused.bytes() as usize));
        let takes = in_tree + block(1) + list + refused.sum::<usize>();
        let counted = producer.bytes(&key);
        assert!(takes as u64 <= 3 * counted, "{takes} bytes are counted as {counted}");
    }

    #[test]
    fn a_producer_takes_at_most_three_times_what_it_is_counted_as() {
        let mut producer = Producer::default();
        for start in 0..2 * LANDED_MAX as u64 {
            producer.land(batch(start * 10, 10, start, &[1]));
            producer.keep_landed(LANDED_MAX);
            assert_counted(&producer);
        }
        for most in [LANDED_WHEN_FULL, 1, 0] {
            producer.keep_landed(most);
            assert_counted(&producer);
        }
    }

    fn key(number: u16) -> ProducerKey {
        let mut producer_id = [0; 16];
        producer_id[..2].copy_from_slice(&number.to_be_bytes());
        ProducerKey { scope: String::new(), producer_id }
    }

    const ROOM: u64 = 1 << 30;

    #[test]
    fn what_is_too_old_to_tell_is_never_counted() {
        let mut producers = Producers::default();
        let mut land =
            |start, digest| producers.land(&key(0), batch(start, 10, digest, &[]), (1, ROOM));
        for i in 0..LANDED_MAX as u64 + 3 {
            assert_eq!(land(i * 10, i), BatchVerdict::New);
        }
        assert_eq!(land(20, 2), BatchVerdict::Reused);
        assert_eq!(land(30, 3), BatchVerdict::Again { new: vec![] });
    }

    #[test]
    fn the_bytes_have_a_bound_and_nothing_is_ever_counted_twice() {
        let room = 4 * (PRODUCER_BYTES + LANDED_BYTES);
        let mut producers = Producers::default();
        let mut land = |number, start, bucket| {
            let verdict =
                producers.land(&key(number), batch(start, 10, start, &[]), (bucket, room));
            assert!(producers.bytes() <= room + PRODUCER_BYTES + LANDED_BYTES);
            let counted = producers.clone();
            producers.count();
            assert_eq!(producers, counted);
            verdict
        };
        for number in 0..4 {
            assert_eq!(land(number, 0, 1), BatchVerdict::New);
        }
        // All were seen just now, so no list can go; those that are known may go on.
        assert_eq!(land(4, 0, 1), BatchVerdict::Full);
        assert_eq!(land(0, 10, 1), BatchVerdict::New);
        // Later the idle ones keep only how far they reached.
        assert_eq!(land(4, 0, 2), BatchVerdict::New);
        assert_eq!(land(1, 0, 2), BatchVerdict::Reused);
        assert_eq!(land(1, 10, 2), BatchVerdict::New);
    }

    #[test]
    fn a_flood_of_new_producers_costs_one_pass_an_interval() {
        const KNOWN: u16 = 5_000;
        let room = u64::from(KNOWN) * (PRODUCER_BYTES + LANDED_BYTES);
        let mut producers = Producers::default();
        for number in 0..KNOWN {
            producers.land(&key(number), batch(0, 10, 0, &[]), (1, room));
        }
        // A pass each would look at 150 million producers, which takes seconds.
        let start = crate::fold::tests::cpu_time();
        for number in KNOWN..KNOWN + 30_000 {
            assert_eq!(
                producers.land(&key(number), batch(0, 10, 0, &[]), (1, room)),
                BatchVerdict::Full
            );
        }
        let elapsed = crate::fold::tests::cpu_time() - start;
        assert!(elapsed < std::time::Duration::from_secs(2), "{elapsed:?}");
        // Those of the interval before are idle in the next one.
        assert_eq!(producers.land(&key(KNOWN), batch(0, 10, 0, &[]), (2, room)), BatchVerdict::New);
    }
}
