//! Deltas: most closes store of the fold state only what changed since the close before.
//!
//! A stored state is whole, as `State::encode` writes it, or a delta: a zero byte, which no whole one
//! begins with, the digest of the stored state before it, and the changes in their order. Who reads it
//! reads the whole one that it goes back to and makes the changes again, by the code that made them.
//! When a state is stored whole follows from the records alone, so that every fold stores the same bytes.

use std::num::NonZero;

use domain::FoldLimits;
use prost::{Message, encoding};

/// Bytes of a stored state that tell the one before it.
pub const STATE_HEAD_BYTES: usize = 1 + size_of::<u128>();

/// Bytes that the deltas behind a whole state may have in any case; behind a greater one, as many as it.
const DELTAS_BYTES: u64 = 64 << 10;

/// Digest of the stored state that a delta goes back to, by its first [`STATE_HEAD_BYTES`]; `None` for a
/// whole one.
#[must_use]
pub fn state_before(head: &[u8]) -> Option<u128> {
    split(head).map(|(before, _)| before)
}

/// A delta's digest of the state before it, and its changes.
pub(super) fn split(stored: &[u8]) -> Option<(u128, &[u8])> {
    let (before, changes) = stored.strip_prefix(&[0])?.split_first_chunk()?;
    Some((u128::from_le_bytes(*before), changes))
}

/// The delta that is being written.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    /// What the next stored state may go back to.
    pub(super) chain: Option<Chain>,
    /// Changes since the last close; `None` where the next state is stored whole in any case.
    pub(super) changes: Option<Vec<u8>>,
    /// Interval of log time that the last change was made in.
    bucket: Option<u32>,
    pub(super) producers: Mentions,
    pub(super) backfills: Mentions,
    /// Rows of a backfill, by its number, that are not among the changes yet.
    rows: Option<RowsWire>,
}

/// A whole state that was stored, and the deltas behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    /// Digest of the last of them.
    pub(super) last: u128,
    whole_bytes: u64,
    deltas_bytes: u64,
    deltas: u32,
}

/// How many of a kind are in the delta, each with a number from 1.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mentions(u32);

impl Mentions {
    pub(super) const fn next(self) -> NonZero<u32> {
        NonZero::<u32>::MIN.saturating_add(self.0)
    }

    /// Takes the number that was given; tells whether it is new.
    pub(super) const fn take(&mut self, number: NonZero<u32>) -> bool {
        let is_new = number.get() > self.0;
        if is_new {
            self.0 = number.get();
        }
        is_new
    }
}

impl Chain {
    pub(super) const fn of_whole(last: u128, bytes: &[u8]) -> Self {
        Self { last, whole_bytes: bytes.len() as u64, deltas_bytes: 0, deltas: 0 }
    }

    pub(super) const fn then(self, last: u128, delta: &[u8]) -> Self {
        let deltas_bytes = self.deltas_bytes + delta.len() as u64;
        Self { last, deltas_bytes, deltas: self.deltas + 1, ..self }
    }

    fn room(&self) -> u64 {
        self.whole_bytes.max(DELTAS_BYTES).saturating_sub(self.deltas_bytes)
    }
}

impl Delta {
    /// Nothing changed yet since the stored states of a chain.
    pub(super) fn after(chain: Chain, limits: FoldLimits) -> Self {
        let changes = (chain.deltas < limits.state_deltas).then(|| {
            let before = chain.last.to_le_bytes();
            [&[0], &before[..]].concat()
        });
        Self { chain: Some(chain), changes, ..Self::default() }
    }

    pub(super) fn change(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(rows) = self.rows.take() {
            self.write(|changes| encoding::message::encode(ROWS, &rows, changes));
        }
        self.write(write);
    }

    fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(changes) = &mut self.changes else { return };
        write(changes);
        if self.chain.is_none_or(|chain| changes.len() as u64 > chain.room()) {
            self.changes = None;
        }
    }

    pub(super) fn message(&mut self, tag: u32, change: &impl Message) {
        self.change(|changes| encoding::message::encode(tag, change, changes));
    }

    pub(super) fn interval(&mut self, bucket: u32) {
        if self.bucket != Some(bucket) {
            self.bucket = Some(bucket);
            self.change(|changes| encoding::uint32::encode(BUCKET, &bucket, changes));
        }
    }

    #[inline]
    pub(super) fn row(&mut self, backfill: Option<NonZero<u32>>, row: u64) {
        let (Some(backfill), true) = (backfill, self.changes.is_some()) else { return };
        match &mut self.rows {
            Some(rows) if rows.backfill == backfill.get() && rows.to == row => rows.to += 1,
            _ => {
                // Those before, if any.
                self.change(|_| ());
                self.rows = Some(RowsWire { backfill: backfill.get(), from: row, to: row + 1 });
            }
        }
    }
}

// The changes, as fields of a message, in the order in which they were made.

pub(super) const BUCKET: u32 = 1;
pub(super) const FORGET: u32 = 2;
pub(super) const ROOM: u32 = 3;
/// A producer without its batches, which has the next number of producers.
pub(super) const PRODUCER: u32 = 4;
pub(super) const LANDING: u32 = 5;
/// A backfill without its rows, which has the next number of backfills.
pub(super) const BACKFILL: u32 = 6;
pub(super) const ROWS: u32 = 7;
pub(super) const DECLARATION: u32 = 8;
pub(super) const LIMITS: u32 = 9;

#[derive(Clone, PartialEq, Message)]
pub(super) struct LandingWire {
    #[prost(uint32, tag = "1")]
    pub(super) producer: u32,
    #[prost(uint64, tag = "2")]
    pub(super) start: u64,
    #[prost(uint32, tag = "3")]
    pub(super) length: u32,
    #[prost(fixed64, tag = "4")]
    pub(super) digest: u64,
    /// Places, ascending.
    #[prost(uint32, repeated, tag = "5")]
    pub(super) refused: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RowsWire {
    #[prost(uint32, tag = "1")]
    pub(super) backfill: u32,
    #[prost(uint64, tag = "2")]
    pub(super) from: u64,
    #[prost(uint64, tag = "3")]
    pub(super) to: u64,
}
