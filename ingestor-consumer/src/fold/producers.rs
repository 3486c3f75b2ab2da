//! Numbered batches: which of a producer's batches have landed.
//!
//! Per producer the 256 landed batches with the greatest start are remembered, and below them only
//! how far they reached. Nothing is kept per pulse, so the rate is unlimited.

use std::collections::BTreeMap;

/// Landed batches remembered for each producer. A client keeps every batch within this many places
/// of its oldest unacknowledged one.
pub(crate) const LANDED_MAX: usize = 256;

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
    /// Places refused at every landing so far, ascending.
    pub(crate) refused: Vec<u32>,
}

impl Landed {
    const fn end(&self) -> u64 {
        self.start.saturating_add(self.length as u64)
    }
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
}

impl Producer {
    fn land(&mut self, batch: Landed) -> BatchVerdict {
        let at = self.landed.partition_point(|landed| landed.start < batch.start);
        if let Some(known) = self.landed.get_mut(at)
            && known.start == batch.start
            && known.length == batch.length
            && known.digest == batch.digest
        {
            let new: Vec<u32> = known
                .refused
                .iter()
                .copied()
                .filter(|place| !batch.refused.contains(place))
                .collect();
            known.refused.retain(|place| batch.refused.contains(place));
            return BatchVerdict::Again { new };
        }
        let overlaps_next = self.landed.get(at).is_some_and(|next| next.start < batch.end());
        let overlaps_last = at > 0 && self.landed[at - 1].end() > batch.start;
        if batch.start < self.floor || overlaps_next || overlaps_last {
            return BatchVerdict::Reused;
        }
        self.landed.insert(at, batch);
        if self.landed.len() > LANDED_MAX {
            let dropped = self.landed.remove(0);
            self.floor = self.floor.max(dropped.end());
        }
        BatchVerdict::New
    }
}

/// All producers of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers(pub(crate) BTreeMap<ProducerKey, Producer>);

impl Producers {
    /// Lands a batch, seen in `bucket` of log time.
    pub(crate) fn land(&mut self, key: ProducerKey, batch: Landed, bucket: u32) -> BatchVerdict {
        let producer = self.0.entry(key).or_default();
        producer.bucket = bucket;
        producer.land(batch)
    }

    /// Forgets producers last seen before `bucket_min`.
    pub(crate) fn forget_before(&mut self, bucket_min: u32) {
        self.0.retain(|_, producer| producer.bucket >= bucket_min);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(start: u64, length: u32, digest: u64, refused: &[u32]) -> Landed {
        Landed { start, length, digest, refused: refused.to_vec() }
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

    #[test]
    fn what_is_too_old_to_tell_is_never_counted() {
        let mut producer = Producer::default();
        for i in 0..LANDED_MAX as u64 + 3 {
            assert_eq!(producer.land(batch(i * 10, 10, i, &[])), BatchVerdict::New);
        }
        assert_eq!(producer.floor, 30);
        assert_eq!(producer.land(batch(20, 10, 2, &[])), BatchVerdict::Reused);
        assert_eq!(producer.land(batch(30, 10, 3, &[])), BatchVerdict::Again { new: vec![] });
    }
}
