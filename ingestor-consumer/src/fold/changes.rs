//! Changes: everything that a record changes of what is stored of the fold state, each noted in the delta;
//! and how they are made again.

use domain::{Conservation, FoldLimits, Timestamp};
use prost::encoding::{self, WireType};

use super::{
    backfills::{BackfillKey, BackfillVerdict, RowVerdict},
    declarations::Declaration,
    delta::{
        BACKFILL, BUCKET, Chain, DECLARATION, Delta, FORGET, LANDING, LIMITS, LandingWire,
        PRODUCER, ROOM, ROWS, RowsWire, split,
    },
    digest,
    producers::{BatchVerdict, Landing, ProducerKey},
    state::State,
    wire::{
        BackfillWire, DeclarationWire, LimitsWire, ProducerWire, StateError, damaged, number, part,
    },
};

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
            let (scope, producer_id) = (scope.clone(), producer_id.to_vec());
            let producer = ProducerWire { scope, producer_id, ..ProducerWire::default() };
            self.delta.message(PRODUCER, &producer);
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
                let rows = Vec::new();
                self.delta.message(BACKFILL, &BackfillWire { scope, name, content_digest, rows });
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

    /// Reads what [`State::store`] gave, a whole state and the deltas behind it, in order; time and counts
    /// come from the manifest of the last.
    pub(crate) fn decode(
        stored: &[impl AsRef<[u8]>],
        eff_ts: Timestamp,
        counts: Conservation,
    ) -> Result<Self, StateError> {
        let (whole, deltas) = stored.split_first().ok_or_else(|| damaged("it is not there"))?;
        let whole = whole.as_ref();
        let mut state = Self::decode_whole(whole, eff_ts, counts)?;
        state.restore(whole, deltas.iter().map(AsRef::as_ref))?;
        Ok(state)
    }

    /// Makes the changes again of deltas behind a whole state, of which this was read.
    fn restore<'a>(
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
                let (key, _) = part::<ProducerWire>(wire_type, bytes)?.take()?;
                self.producers.push(key);
            }
            LANDING => self.land(&part(wire_type, bytes)?)?,
            BACKFILL => {
                let (key, backfill) = part::<BackfillWire>(wire_type, bytes)?.take()?;
                self.state.backfills.land(&key, &backfill.content_digest, u64::MAX);
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
