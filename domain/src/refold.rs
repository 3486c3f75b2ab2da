//! Port: refold, usage said again by the log itself.
//!
//! A row is what a segment of the log adds to a resource in a window, and nothing else: whoever folds
//! the segment again gets the row, and sees the pulses that made it. Who has to explain a total asks
//! here, for as long as the log keeps the records. Nothing is written.

use std::{collections::BTreeMap, future::Future, ops::Range, pin::Pin};

use thiserror::Error;

use crate::{
    DeadLetter, DeadLetterReason, Offset, Quantity, RowKey, SegmentId, Tenant, Timestamp, UsageRow,
    Window, store::PartitionKey,
};

/// Folds segments again.
pub trait Refold: Send + Sync + 'static {
    /// What the log says.
    ///
    /// # Errors
    /// When log or store cannot be read, or the log is not the one that was counted.
    fn refold(&self, question: Question) -> Refolding<'_, Refolded>;

    /// The dead letters of one record, ascending by index, with their bytes. Folds its segment again
    /// up to the record.
    ///
    /// # Errors
    /// As [`Refold::refold`]; also where the record has expired or was not folded yet.
    fn dead_letters(&self, record: RecordPlace) -> Refolding<'_, Vec<DeadLetter>>;

    /// What became of the pulses that one request brought, as far as the segment goes in which the
    /// stretch begins. Folds that segment again.
    ///
    /// # Errors
    /// As [`Refold::refold`].
    fn outcomes(&self, request: RequestPlace) -> Refolding<'_, OutcomesPiece>;
}

/// An answer of the log on its way.
pub type Refolding<'a, T> = Pin<Box<dyn Future<Output = Result<T, RefoldError>> + Send + 'a>>;

/// A request, and where in the log its pulses are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPlace {
    /// The partition, in the epoch of the verdicts.
    pub key: PartitionKey,
    /// The stretch of it, not empty, which begins at a record that is folded.
    pub offsets: Range<Offset>,
    /// Correlation id of the request.
    pub request_id: String,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomesPiece {
    /// What became of the pulses up to there.
    pub outcomes: Outcomes,
    /// Where to ask on; the end of the stretch when that was all.
    pub next: Offset,
}

/// What became of pulses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// In a total.
    pub counted: u64,
    /// Known by their identity.
    pub duplicate: u64,
    /// Dead letters, by reason.
    pub set_aside: BTreeMap<DeadLetterReason, SetAside>,
}

/// Dead letters of one reason, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// How many.
    pub count: u64,
    /// Least and greatest event time among those that have one.
    pub times: Option<(Timestamp, Timestamp)>,
    /// What was wrong with the first of them, for a person.
    pub message: String,
}

/// A record, and whose verdicts on it are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    /// Its partition, in the epoch of the verdicts.
    pub key: PartitionKey,
    /// The place in that partition.
    pub offset: Offset,
}

/// What is asked of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whose usage.
    pub tenant: Tenant,
    /// Windows that start in it.
    pub window: Window,
    /// The closed segments that start in these stretches of partitions.
    pub stretches: Vec<(PartitionKey, Range<Offset>)>,
    /// Rows whose pulses are wanted.
    pub pulses_of: Vec<RowKey>,
    /// Pulses that are listed in all; the others are counted only.
    pub pulses_max: usize,
}

/// What the log says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refolded {
    /// The tenant's rows, in no particular order.
    pub rows: Vec<UsageRow>,
    /// The pulses of those rows that were asked about and that the log has.
    pub pulses: BTreeMap<RowKey, RowPulses>,
    /// Segments that were folded.
    pub segments: u64,
    /// Segments whose records the log no longer has, or not where this process can read them.
    pub missing: Vec<SegmentId>,
}

/// The pulses of one row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowPulses {
    /// The first of them, in the order of the log.
    pub listed: Vec<CountedPulse>,
    /// How many there are, listed or not.
    pub count: u64,
}

/// A pulse that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedPulse {
    /// Its record.
    pub offset: Offset,
    /// Its place in the record, from 0.
    pub index: u32,
    /// Event time.
    pub time: Timestamp,
    /// Amount.
    pub amount: Quantity,
    /// Correlation id of the request that brought it.
    pub request_id: String,
    /// What a second copy of it would have been known by.
    pub identity: Identity,
}

/// What a pulse is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// By nothing.
    None,
    /// By its id within tenant and source.
    Id {
        /// The source; may be empty.
        source: String,
        /// The id as the client sent it.
        id: String,
    },
    /// By its number.
    Numbered {
        /// The process that numbered it.
        producer_id: u128,
        /// Its number among the producer's pulses.
        sequence: u64,
    },
    /// By its row in a backfill.
    Backfill {
        /// The name of the backfill.
        name: String,
        /// The number of the row in it.
        row: u64,
    },
}

/// Why the log was not folded again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the log cannot be folded again: {0}")]
pub struct RefoldError(pub String);
