//! Dead letters: pulses that reached the log but no total, with their place and the reason.
//!
//! What a segment set aside for one cause is one group: an absolute total of the segment, as a row is,
//! so a million pulses of one wrong clock are one entry. The pulses themselves stay in the log, and
//! [`crate::refold`] tells them one by one.

use crate::{Epoch, LogId, Offset, Partition, SegmentId, Timestamp, hash};

/// A pulse, or a whole record, that was set aside, as the log tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The log generation.
    pub log_id: LogId,
    /// The partition that `offset` counts in.
    pub partition: Partition,
    /// The epoch of the verdict.
    pub epoch: Epoch,
    /// The record that holds the pulse.
    pub offset: Offset,
    /// Place of the pulse in the record, 0 for a whole record.
    pub index: u32,
    /// The cause, for programs; `message` says it for people.
    pub reason: DeadLetterReason,
    /// The tenant, at most 128 bytes; empty where it is not known.
    pub tenant: String,
    /// The SKU, at most 128 bytes; empty where it is not known.
    pub product_sku: String,
    /// Event time, where it is known.
    pub time: Option<Timestamp>,
    /// What was wrong with which values, for a person; at most [`MESSAGE_BYTES_MAX`] bytes.
    pub message: String,
    /// The bytes: the pulse as its client encoded it, or the record's body.
    pub payload: Vec<u8>,
}

/// Most bytes of a dead letter's message.
pub const MESSAGE_BYTES_MAX: usize = 512;

/// What one segment set aside for one cause. An absolute total of the segment: writing it again
/// writes the same bytes, and of two the one that was folded further wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterGroup {
    /// Its key.
    pub key: DeadLetterKey,
    /// The last record that added to it.
    pub offset_last: Offset,
    /// Pulses, and records that are none, at least 1.
    pub count: u64,
    /// Least event time among those that have one.
    pub time_first: Option<Timestamp>,
    /// Greatest event time among those that have one.
    pub time_last: Option<Timestamp>,
    /// The first of them in the order of the log.
    pub sample: DeadLetterSample,
}

/// Key of a group. Ordered by log, partition, segment, epoch, the reason's word, tenant (by bytes):
/// the order of a scan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeadLetterKey {
    /// The segment that set them aside.
    pub segment: SegmentId,
    /// The cause that they share.
    pub reason: DeadLetterReason,
    /// The tenant, at most 128 bytes; empty where it is not known.
    pub tenant: String,
}

/// One dead letter of a group, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterSample {
    /// The record that holds it.
    pub offset: Offset,
    /// Place of the pulse in the record, 0 for a whole record.
    pub index: u32,
    /// The SKU, at most 128 bytes; empty where it is not known.
    pub product_sku: String,
    /// Event time, where it is known.
    pub time: Option<Timestamp>,
    /// What was wrong with which values, for a person; at most [`MESSAGE_BYTES_MAX`] bytes.
    pub message: String,
}

impl DeadLetterGroup {
    /// Keyed hash of all that the group says; a manifest has the XOR over its segment's.
    #[must_use]
    pub fn digest(&self, seed: u64) -> u128 {
        let DeadLetterSample { offset, index, product_sku, time, message } = &self.sample;
        let micros =
            |time: Option<Timestamp>| time.map_or(i64::MIN, Timestamp::micros).to_le_bytes();
        hash::parts(
            seed,
            [
                &b"dead letters"[..],
                self.key.reason.as_str().as_bytes(),
                self.key.tenant.as_bytes(),
                &self.offset_last.0.to_le_bytes(),
                &self.count.to_le_bytes(),
                &micros(self.time_first),
                &micros(self.time_last),
                &offset.0.to_le_bytes(),
                &index.to_le_bytes(),
                product_sku.as_bytes(),
                &micros(*time),
                message.as_bytes(),
            ],
        )
    }
}

impl DeadLetterKey {
    /// A key behind every group of the segments before this one, and before all of its own; `None` where
    /// there is no segment before.
    #[must_use]
    pub fn behind_all_before(segment: SegmentId) -> Option<Self> {
        let SegmentId { partition, epoch, start, .. } = segment;
        let before = if let Some(epoch) = epoch.0.checked_sub(1) {
            SegmentId { epoch: Epoch(epoch), ..segment }
        } else if let Some(start) = start.0.checked_sub(1) {
            SegmentId { start: Offset(start), epoch: Epoch(u16::MAX), ..segment }
        } else {
            let partition = Partition(partition.0.checked_sub(1)?);
            let (start, epoch) = (Offset(u64::MAX), Epoch(u16::MAX));
            SegmentId { partition, start, epoch, ..segment }
        };
        let reason = DeadLetterReason::ALL.iter().copied().max_by_key(|reason| reason.as_str())?;
        // The greatest text of 128 bytes.
        Some(Self { segment: before, reason, tenant: "\u{10ffff}".repeat(32) })
    }

    fn order(&self) -> (LogId, Partition, Offset, Epoch, &str, &[u8]) {
        let SegmentId { log_id, partition, epoch, start } = self.segment;
        (log_id, partition, start, epoch, self.reason.as_str(), self.tenant.as_bytes())
    }
}

impl Ord for DeadLetterKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for DeadLetterKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// Why a pulse is a dead letter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DeadLetterReason {
            $($(#[$doc])* $name,)*
        }

        impl DeadLetterReason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable word that stores, metrics and answers use.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            /// Reads the word.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.as_str() == word)
            }
        }
    };
}

reasons! {
    /// The record is not a record of this log, or does not parse.
    Undecodable = "undecodable",
    /// Event time is older than log time minus the lateness bound.
    TooLate = "too_late",
    /// Event time is ahead of log time by more than the tolerance.
    InTheFuture = "in_the_future",
    /// Adding it would leave the range of an exact total.
    Overflow = "overflow",
    /// A numbered batch overlaps one of its producer's that is not the same batch, or is older than
    /// any that is remembered.
    SequenceReused = "sequence_reused",
    /// The backfill's name was used for other content.
    BackfillReused = "backfill_reused",
    /// The segment already has as many keys of the tenant, or values of a declared dimension, as it
    /// may have.
    TooManyKeys = "too_many_keys",
    /// The partition remembers as many producers, backfills or their gaps as it may.
    TooManyIdentities = "too_many_identities",
    /// It reached a partition that had ended, from a server that missed that the log has grown.
    AfterSeal = "after_seal",
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(
        (partition, start, epoch): (u16, u64, u16),
        reason: DeadLetterReason,
        tenant: &str,
    ) -> DeadLetterKey {
        let segment = SegmentId {
            log_id: LogId([7; 16]),
            partition: Partition(partition),
            epoch: Epoch(epoch),
            start: Offset(start),
        };
        DeadLetterKey { segment, reason, tenant: tenant.to_owned() }
    }

    fn group() -> DeadLetterGroup {
        let at = |micros| Timestamp::from_micros(micros);
        DeadLetterGroup {
            key: key((0, 100, 0), DeadLetterReason::TooLate, "acme"),
            offset_last: Offset(107),
            count: 3,
            time_first: at(1),
            time_last: at(2),
            sample: DeadLetterSample {
                offset: Offset(105),
                index: 4,
                product_sku: "vm".to_owned(),
                time: at(1),
                message: "late".to_owned(),
            },
        }
    }

    #[test]
    fn keys_sort_by_partition_segment_epoch_word_of_the_reason_and_bytes_of_the_tenant() {
        use DeadLetterReason::{Overflow, TooLate, Undecodable};
        // Declared in another order than their words sort.
        let sorted = [
            key((0, 0, 0), Overflow, "a"),
            key((0, 0, 0), TooLate, ""),
            key((0, 0, 0), TooLate, "Z"),
            key((0, 0, 0), TooLate, "a"),
            key((0, 0, 0), TooLate, "\u{e9}"),
            key((0, 0, 0), Undecodable, ""),
            key((0, 0, 1), Overflow, ""),
            key((0, 1, 0), Overflow, ""),
            key((1, 0, 0), Overflow, ""),
        ];
        assert!(sorted.is_sorted_by(|a, b| a < b), "{sorted:?}");
    }

    #[test]
    fn the_digest_tells_every_field_of_a_group_apart() {
        let changes: [fn(&mut DeadLetterGroup); 12] = [
            |_| (),
            |group| group.key.reason = DeadLetterReason::Overflow,
            |group| group.key.tenant = "acm".to_owned(),
            |group| group.offset_last = Offset(106),
            |group| group.count = 4,
            |group| group.time_first = None,
            |group| group.time_last = None,
            |group| group.sample.offset = Offset(104),
            |group| group.sample.index = 5,
            |group| group.sample.product_sku = "db".to_owned(),
            |group| group.sample.time = None,
            |group| group.sample.message = "later".to_owned(),
        ];
        let digests: std::collections::BTreeSet<u128> = changes
            .iter()
            .map(|change| {
                let mut group = group();
                change(&mut group);
                group.digest(9)
            })
            .collect();
        assert_eq!(digests.len(), changes.len());
        assert_ne!(group().digest(9), group().digest(10));
    }

    #[test]
    fn every_reason_is_found_by_its_word() {
        for reason in DeadLetterReason::ALL {
            assert_eq!(DeadLetterReason::parse(reason.as_str()), Some(*reason));
        }
        assert_eq!(DeadLetterReason::parse("late"), None);
    }
}
