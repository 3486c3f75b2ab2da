//! Dead letters: pulses that reached the log but no total, with their place and the reason.

use crate::{Epoch, LogId, Offset, Partition, Timestamp};

/// A pulse, or a whole record, that was set aside. Its key is (log, partition, epoch, offset, index).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The log generation.
    pub log_id: LogId,
    /// The partition.
    pub partition: Partition,
    /// The epoch of the verdict.
    pub epoch: Epoch,
    /// The record.
    pub offset: Offset,
    /// Place of the pulse in the record, 0 for a whole record.
    pub index: u32,
    /// Why.
    pub reason: DeadLetterReason,
    /// The tenant, empty where it is not known.
    pub tenant: String,
    /// The SKU, empty where it is not known.
    pub product_sku: String,
    /// Event time, where it is known.
    pub time: Option<Timestamp>,
    /// What was wrong with which values, for a person.
    pub message: String,
    /// The bytes: the pulse as its client encoded it, or the record's body.
    pub payload: Vec<u8>,
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
    /// It reached a partition that had ended, from a server that missed that the log has grown.
    AfterSeal = "after_seal",
}
