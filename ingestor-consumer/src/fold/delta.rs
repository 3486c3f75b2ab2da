//! Deltas: most closes store of the fold state only what changed since the close before.
//!
//! A stored state is whole, as [`State::encode`] writes it, or a delta: a zero byte, which no whole one
//! begins with, the digest of the stored state before it, and the changes in their order. Who reads it
//! reads the whole one that it goes back to and makes the changes again, by the code that made them.
//! When a state is stored whole follows from the records alone, so that every fold stores the same bytes.

use std::num::NonZero;

use domain::FoldLimits;
use prost::{
    Message,
    encoding::{self, WireType},
};

use super::{
    backfills::{BackfillKey, BackfillVerdict, RowVerdict},
    digest,
    producers::{BatchVerdict, Landing, ProducerKey},
    state::{Declaration, State, StateError},
    wire::{DeclarationWire, LimitsWire, damaged, number, part},
};

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

fn split(stored: &[u8]) -> Option<(u128, &[u8])> {
    let (before, changes) = stored.strip_prefix(&[0])?.split_first_chunk()?;
    Some((u128::from_le_bytes(*before), changes))
}

/// The delta that is being written.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    /// What the next stored state may go back to.
    chain: Option<Chain>,
    /// Changes since the last close; `None` where the next state is stored whole in any case.
    changes: Option<Vec<u8>>,
    /// Interval of log time that the last change was made in.
    bucket: Option<u32>,
    producers: Mentions,
    backfills: Mentions,
    /// Rows of a backfill, by its number, that are not among the changes yet.
    rows: Option<RowsWire>,
}

/// A whole state that was stored, and the deltas behind it.
#[derive(Clone, Copy, Debug)]
struct Chain {
    /// Digest of the last of them.
    last: u128,
    whole_bytes: u64,
    deltas_bytes: u64,
    deltas: u32,
}

/// How many of a kind are in the delta, each with a number from 1.
#[derive(Clone, Copy, Debug, Default)]
struct Mentions(u32);

impl Mentions {
    const fn next(self) -> NonZero<u32> {
        NonZero::<u32>::MIN.saturating_add(self.0)
    }

    /// Takes the number that was given; tells whether it is new.
    const fn take(&mut self, number: NonZero<u32>) -> bool {
        let is_new = number.get() > self.0;
        if is_new {
            self.0 = number.get();
        }
        is_new
    }
}

impl Chain {
    const fn of_whole(last: u128, bytes: &[u8]) -> Self {
        Self { last, whole_bytes: bytes.len() as u64, deltas_bytes: 0, deltas: 0 }
    }

    const fn then(self, last: u128, delta: &[u8]) -> Self {
        let deltas_bytes = self.deltas_bytes + delta.len() as u64;
        Self { last, deltas_bytes, deltas: self.deltas + 1, ..self }
    }

    fn room(&self) -> u64 {
        self.whole_bytes.max(DELTAS_BYTES).saturating_sub(self.deltas_bytes)
    }
}

impl Delta {
    /// Nothing changed yet since the stored states of a chain.
    fn after(chain: Chain, limits: FoldLimits) -> Self {
        let changes = (chain.deltas < limits.state_deltas).then(|| {
            let before = chain.last.to_le_bytes();
            [&[0], &before[..]].concat()
        });
        Self { chain: Some(chain), changes, ..Self::default() }
    }

    fn change(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
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

    fn message(&mut self, tag: u32, change: &impl Message) {
        self.change(|changes| encoding::message::encode(tag, change, changes));
    }

    fn interval(&mut self, bucket: u32) {
        if self.bucket != Some(bucket) {
            self.bucket = Some(bucket);
            self.change(|changes| encoding::uint32::encode(BUCKET, &bucket, changes));
        }
    }

    #[inline]
    fn row(&mut self, backfill: Option<NonZero<u32>>, row: u64) {
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

/// Each change to what is stored.
impl State {
    /// Begins a segment in an interval of log time, and forgets what was last seen before another.
    pub(crate) fn begin_segment(&mut self, bucket: u32, bucket_min: u32) {
        self.delta.interval(bucket);
        self.delta.change(|changes| encoding::uint32::encode(FORGET, &bucket_min, changes));
        self.producers.forget_before(bucket_min);
        self.ids.begin_segment(bucket, bucket_min);
    }

    /// Lands a batch of a producer, seen in `bucket` of log time.
    pub(crate) fn land(
        &mut self,
        key: &ProducerKey,
        batch: Landing<'_>,
        bucket: u32,
    ) -> BatchVerdict {
        let before = self.producers.bytes();
        let verdict = self.producers.land(key, batch, (bucket, self.producer_room()));
        if verdict != BatchVerdict::Full {
            self.delta.interval(bucket);
            self.note_landing(key, batch);
        } else if self.producers.bytes() != before {
            self.delta.interval(bucket);
            self.delta.change(|changes| encoding::bool::encode(ROOM, &true, changes));
        }
        verdict
    }

    fn note_landing(&mut self, key: &ProducerKey, batch: Landing<'_>) {
        if self.delta.changes.is_none() {
            return;
        }
        let Some(producer) = self.producers.mention(key, self.delta.producers.next()) else {
            return;
        };
        if self.delta.producers.take(producer) {
            let ProducerKey { scope, producer_id } = key;
            let key = ProducerKeyWire { scope: scope.clone(), producer_id: producer_id.to_vec() };
            self.delta.message(PRODUCER, &key);
        }
        let Landing { start, length, digest, refused } = batch;
        let (producer, refused) = (producer.get(), refused.to_vec());
        self.delta.message(LANDING, &LandingWire { producer, start, length, digest, refused });
    }

    /// Lands a batch of a backfill, before its rows.
    pub(crate) fn land_backfill(
        &mut self,
        key: &BackfillKey,
        content_digest: &[u8],
    ) -> BackfillVerdict {
        let verdict = self.backfills.land(key, content_digest, self.backfill_room());
        if verdict == BackfillVerdict::Rows && self.delta.changes.is_some() {
            let number = self.backfills.mention(key, self.delta.backfills.next());
            if self.delta.backfills.take(number) {
                let BackfillKey { scope, name } = key.clone();
                let content_digest = content_digest.to_vec();
                self.delta.message(BACKFILL, &BackfillKeyWire { scope, name, content_digest });
            }
        }
        verdict
    }

    /// Takes a row of a backfill that has landed.
    #[inline]
    pub(crate) fn take_row(&mut self, key: &BackfillKey, row: u64) -> RowVerdict {
        let bounds = (self.backfill_room(), self.limits.ranges_per_backfill);
        let (verdict, mention) = self.backfills.row(key, row, bounds);
        if verdict == RowVerdict::New {
            self.delta.row(mention, row);
        }
        verdict
    }

    /// Declares dimensions, if they are newer than what is known; tells whether they are.
    pub(crate) fn declare(&mut self, sku: &str, declaration: Declaration) -> bool {
        let is_newer = self.declarations.declare(sku, declaration);
        if is_newer && let Some(declaration) = self.declarations.0.get(sku) {
            self.delta.message(DECLARATION, &DeclarationWire::of(sku, declaration));
        }
        is_newer
    }

    pub(crate) fn set_limits(&mut self, limits: FoldLimits) {
        self.limits = limits;
        self.delta.message(LIMITS, &LimitsWire::from(self.limits));
    }

    /// Backfills have half of the state's bytes for themselves: they stay for ever, and must not push
    /// out the producers, nor these them.
    const fn backfill_room(&self) -> u64 {
        self.limits.state_bytes / 2
    }

    const fn producer_room(&self) -> u64 {
        self.limits.state_bytes - self.backfill_room()
    }

    /// The stored form at a close, and its digest. From here on changes are those since this close.
    ///
    /// What is left at the end of a partition is whole, for who begins with it.
    pub(crate) fn store(&mut self) -> (Vec<u8>, u128) {
        self.delta.change(|_| ());
        let delta = self.delta.changes.take().filter(|_| self.sealed_at.is_none());
        let (stored, chain) = match (delta, self.delta.chain) {
            (Some(delta), Some(chain)) => {
                let chain = chain.then(digest(&delta), &delta);
                (delta, chain)
            }
            _ => {
                let whole = self.encode();
                let chain = Chain::of_whole(digest(&whole), &whole);
                (whole, chain)
            }
        };
        self.delta = Delta::after(chain, self.limits);
        self.producers.forget_mentions();
        self.backfills.forget_mentions();
        (stored, chain.last)
    }

    /// Makes the changes again of deltas behind a whole state, of which this was read.
    pub(super) fn restore<'a>(
        &mut self,
        whole: &[u8],
        deltas: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), StateError> {
        let mut chain = Chain::of_whole(digest(whole), whole);
        for delta in deltas {
            let (before, changes) = split(delta).ok_or_else(|| damaged("a delta is whole"))?;
            if before != chain.last {
                return Err(damaged("a delta is of another state"));
            }
            Replay { state: self, producers: Vec::new(), backfills: Vec::new(), bucket: 0 }
                .all(changes)?;
            chain = chain.then(digest(delta), delta);
        }
        self.delta = Delta::after(chain, self.limits);
        Ok(())
    }
}

/// Makes changes again.
struct Replay<'a> {
    state: &'a mut State,
    /// By their numbers less one.
    producers: Vec<ProducerKey>,
    backfills: Vec<BackfillKey>,
    bucket: u32,
}

impl Replay<'_> {
    fn all(mut self, mut changes: &[u8]) -> Result<(), StateError> {
        while !changes.is_empty() {
            let (tag, wire_type) =
                encoding::decode_key(&mut changes).map_err(StateError::unreadable)?;
            self.change(tag, wire_type, &mut changes)?;
        }
        Ok(())
    }

    fn change(
        &mut self,
        tag: u32,
        wire_type: WireType,
        bytes: &mut &[u8],
    ) -> Result<(), StateError> {
        match tag {
            BUCKET => self.bucket = number(wire_type, bytes)?,
            FORGET => {
                let bucket_min = number(wire_type, bytes)?;
                self.state.producers.forget_before(bucket_min);
            }
            ROOM => {
                let room = self.state.producer_room();
                number(wire_type, bytes)?;
                self.state.producers.make_room(self.bucket, room);
            }
            PRODUCER => {
                let ProducerKeyWire { scope, producer_id } = part(wire_type, bytes)?;
                let producer_id = <[u8; 16]>::try_from(&producer_id[..])
                    .map_err(|_| damaged("a producer id is not 16 bytes"))?;
                self.producers.push(ProducerKey { scope, producer_id });
            }
            LANDING => self.land(&part(wire_type, bytes)?)?,
            BACKFILL => {
                let BackfillKeyWire { scope, name, content_digest } = part(wire_type, bytes)?;
                let key = BackfillKey { scope, name };
                self.state.backfills.land(&key, &content_digest, u64::MAX);
                self.backfills.push(key);
            }
            ROWS => {
                let RowsWire { backfill, from, to } = part(wire_type, bytes)?;
                let key = mentioned(&self.backfills, backfill)?;
                if from >= to || !self.state.backfills.rows(key, from, to) {
                    return Err(damaged("rows of a backfill landed twice"));
                }
            }
            DECLARATION => {
                let (sku, declaration) = part::<DeclarationWire>(wire_type, bytes)?.take()?;
                self.state.declarations.declare(&sku, declaration);
            }
            LIMITS => {
                self.state.limits = part::<LimitsWire>(wire_type, bytes)?.take()?;
            }
            _ => return Err(damaged("a change of no known kind")),
        }
        Ok(())
    }

    fn land(&mut self, wire: &LandingWire) -> Result<(), StateError> {
        let LandingWire { producer, start, length, digest, refused } = wire;
        let (start, length, digest) = (*start, *length, *digest);
        let is_within = start.checked_add(u64::from(length)).is_some();
        let are_places = refused.is_sorted_by(|one, next| one < next)
            && refused.last().is_none_or(|last| *last < length);
        if !is_within || !are_places {
            return Err(damaged("a batch that landed is no batch"));
        }
        let key = mentioned(&self.producers, *producer)?;
        let room = self.state.producer_room();
        let batch = Landing { start, length, digest, refused };
        self.state.producers.land(key, batch, (self.bucket, room));
        Ok(())
    }
}

fn mentioned<K>(all: &[K], number: u32) -> Result<&K, StateError> {
    let place = (number as usize).checked_sub(1);
    place.and_then(|place| all.get(place)).ok_or_else(|| damaged("a change names nothing known"))
}

// The changes, as fields of a message, in the order in which they were made.

const BUCKET: u32 = 1;
const FORGET: u32 = 2;
const ROOM: u32 = 3;
const PRODUCER: u32 = 4;
const LANDING: u32 = 5;
const BACKFILL: u32 = 6;
const ROWS: u32 = 7;
const DECLARATION: u32 = 8;
const LIMITS: u32 = 9;

/// Has the next number of producers.
#[derive(Clone, PartialEq, Message)]
struct ProducerKeyWire {
    #[prost(string, tag = "1")]
    scope: String,
    #[prost(bytes = "vec", tag = "2")]
    producer_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct LandingWire {
    #[prost(uint32, tag = "1")]
    producer: u32,
    #[prost(uint64, tag = "2")]
    start: u64,
    #[prost(uint32, tag = "3")]
    length: u32,
    #[prost(fixed64, tag = "4")]
    digest: u64,
    /// Places, ascending.
    #[prost(uint32, repeated, tag = "5")]
    refused: Vec<u32>,
}

/// Has the next number of backfills.
#[derive(Clone, PartialEq, Message)]
struct BackfillKeyWire {
    #[prost(string, tag = "1")]
    scope: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(bytes = "vec", tag = "3")]
    content_digest: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RowsWire {
    #[prost(uint32, tag = "1")]
    backfill: u32,
    #[prost(uint64, tag = "2")]
    from: u64,
    #[prost(uint64, tag = "3")]
    to: u64,
}
