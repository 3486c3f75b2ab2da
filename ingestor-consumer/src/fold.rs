//! The fold: records of one partition in, rows, manifests and dead letters out.
//!
//! It is pure: no clock, no randomness, and no IO but scratch files for ids that memory has no room for. The rows of a segment are a function of the fold
//! state at its start and of its records, whoever folds it, whenever, and however the work was cut
//! into flushes. Everything that Pulso promises about counting once rests on this file.

mod believed;
mod caps;
mod close;
mod ids;
mod index;
mod letters;
mod ranges;
mod backfills;
mod refused;
mod producers;
mod declarations;
mod wire;
mod delta;
mod state;
mod changes;
mod inherit;
mod keys;
mod rows;
mod judge;
mod tally;
mod watch;

use std::ops::RangeInclusive;

use domain::{
    DeadLetter, DeadLetterGroup, DeadLetterReason, FoldLimits, Offset, Timestamp,
    epochs::Declared,
    generation::Generation,
    log::LogRecord,
    rebase::Rebase,
    segment::{Anchor, Conservation, Manifest, SegmentRule},
    store::{Flush, PartitionKey},
};
use proto::{
    record::{self, RecordError},
    v1,
};
use thiserror::Error;

use self::{
    believed::Believed,
    declarations::Declaration,
    letters::{Buried, Letters},
    rows::Rows,
    state::State,
    tally::Tally,
    watch::Watch,
};
pub use self::{
    delta::{STATE_HEAD_BYTES, state_before},
    ids::IdsMemory,
    inherit::run_of,
    state::sealed_at,
    wire::StateError,
};

/// Pulses that are added to their rows together, as far as one record goes. 16 cost a tenth more
/// where the rows fit no cache; 64 gain nothing.
const GROUP_PULSES: usize = 32;

/// Folds one partition.
#[derive(Debug)]
pub struct Fold {
    generation: Generation,
    partition: PartitionKey,
    rule: SegmentRule,
    state: State,
    rows: Rows,
    open: OpenSegment,
    scratch: Vec<u8>,
    /// Event times that are neither too late nor in the future for the record being folded, both
    /// bounds included.
    timely: RangeInclusive<Timestamp>,
    /// [`GROUP_PULSES`], but in tests: it changes no byte.
    group_pulses: usize,
    /// Ids that came again with another payload, since they were last asked for.
    conflicts: u64,
    publishing: Publishing,
    /// Rows in one flush at most.
    flush_rows_max: usize,
    /// Why the record being folded cannot be.
    failed: Option<FoldError>,
    believed: Believed,
    /// Rows whose pulses are noted, for who explains them.
    watch: Option<Watch>,
    /// Outcomes of one request's pulses, for who asks what became of them.
    tally: Option<Tally>,
}

/// Whether closed segments are published, and so must leave the fold with all of their rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Publishing {
    /// They are stored only: a close gives the rows that changed since the last flush.
    #[default]
    Off,
    /// A close gives the other rows too, which costs memory for a moment.
    On,
}

/// What is known of the open segment beside its rows.
#[derive(Debug)]
struct OpenSegment {
    start: Offset,
    /// Effective time of its first record; `None` while it has no record.
    first: Option<Timestamp>,
    anchor: Option<Anchor>,
    counts: Conservation,
    letters: Letters,
}

/// Why a partition cannot be folded further. Nothing was decided about the record that anyone will see.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FoldError {
    /// I11: offsets always rise.
    #[error("I11: record {found} came again below {folded_to}: the log was changed under us")]
    OffsetsFall {
        /// All records below were folded.
        folded_to: Offset,
        /// This record's offset.
        found: Offset,
    },
    /// A record of a newer format.
    #[error("record {offset}: {error}")]
    Newer {
        /// Its offset in the partition.
        offset: Offset,
        /// Its version.
        error: RecordError,
    },
    /// Ids that memory has no room for cannot be written or read.
    #[error(
        "the scratch file for ids failed: {0}. Free some space where `consumer.scratch_dir` is, or raise `consumer.ids_memory`"
    )]
    Scratch(String),
}

impl Fold {
    /// Starts at the first record of a partition.
    #[must_use]
    pub fn new(generation: Generation, partition: PartitionKey) -> Self {
        Self::with_state(generation, partition, State::default(), Offset(0))
    }

    /// Goes on after a closed segment, once it was given the runs of ids of the horizon before the segment's
    /// end by [`Fold::remember`]. The last of the stored states is the one that the manifest names; before it
    /// are those that it goes back to, as [`state_before`] tells, the whole one first.
    ///
    /// # Errors
    /// When the state does not parse.
    pub fn resume(
        generation: Generation,
        partition: PartitionKey,
        manifest: &Manifest,
        stored: &[impl AsRef<[u8]>],
    ) -> Result<Self, StateError> {
        let state = State::decode(stored, manifest.eff_ts, manifest.counts_to_end)?;
        Ok(Self::with_state(generation, partition, state, manifest.end))
    }

    /// The same fold, which knows no id yet, with its ids in bounded memory.
    #[must_use]
    pub fn keeping_ids_in(mut self, memory: &IdsMemory) -> Self {
        self.state.ids.keep_in(memory);
        self
    }

    /// Takes a run of ids of an earlier segment, oldest first, before the first record.
    ///
    /// # Errors
    /// `Scratch`.
    pub fn remember(&mut self, run: &[u8]) -> Result<(), FoldError> {
        self.state.ids.load_run(run).map_err(|error| FoldError::Scratch(error.to_string()))
    }

    fn with_state(
        generation: Generation,
        partition: PartitionKey,
        state: State,
        start: Offset,
    ) -> Self {
        Self {
            rule: SegmentRule::of(&generation),
            rows: Rows::new(generation.hash_seed, generation.window),
            open: OpenSegment::starting(start, Letters::new(generation.hash_seed)),
            generation,
            partition,
            state,
            scratch: Vec::new(),
            timely: Timestamp::MIN..=Timestamp::MAX,
            group_pulses: GROUP_PULSES,
            conflicts: 0,
            publishing: Publishing::default(),
            flush_rows_max: usize::MAX,
            failed: None,
            believed: Believed::default(),
            watch: None,
            tally: None,
        }
    }

    /// The same fold with closed segments published or not.
    #[must_use]
    pub const fn publishing(mut self, publishing: Publishing) -> Self {
        self.publishing = publishing;
        self
    }

    /// The same fold with at most so many rows in one flush: a segment that closes with more gives
    /// several. It changes no byte of what is stored.
    #[must_use]
    pub const fn flushing(mut self, rows_max: usize) -> Self {
        self.flush_rows_max = rows_max;
        self
    }

    /// The same fold that believes these words about append times.
    #[must_use]
    pub fn believing(mut self, rebases: Vec<Rebase>) -> Self {
        self.believed = Believed::of(rebases);
        self
    }

    /// When a record reached the log, as far as is known.
    #[must_use]
    pub fn time_of(&self, record: &LogRecord<'_>) -> Timestamp {
        self.believed.time_of(record)
    }

    /// The same fold with these dimensions declared; those that it knows in a newer version stay.
    #[must_use]
    pub fn declaring(mut self, declared: &[Declared]) -> Self {
        for Declared { product_sku, version, dimensions } in declared {
            let declaration = Declaration { version: *version, dimensions: dimensions.clone() };
            self.state.declare(product_sku, declaration);
        }
        self
    }

    /// Folds the next record. What the segments that it completes (up to two) leave is given to
    /// `closed`, in order, each flush once the one before was taken.
    ///
    /// # Errors
    /// See [`FoldError`]; the fold is as it was before and must not go on.
    pub fn record(
        &mut self,
        record: LogRecord<'_>,
        closed: &mut impl Extend<Flush>,
    ) -> Result<(), FoldError> {
        if record.offset < self.folded_to() {
            let folded_to = self.folded_to();
            return Err(FoldError::OffsetsFall { folded_to, found: record.offset });
        }
        let opened = record::open(self.partition.log_id, record.body);
        if let Err(error @ RecordError::Newer(_)) = opened {
            return Err(FoldError::Newer { offset: record.offset, error });
        }
        let time = self.state.eff_ts.max(self.time_of(&record));
        if let Some(first) = self.open.first
            && (self.rule.starts_next(self.open.start, first, record.offset, time)
                || self.open_bytes() >= self.state.limits.segment_bytes)
        {
            self.close(record.offset, closed);
        }
        self.begin_record(&record, time);
        match opened {
            Ok(view) => match &view.envelope.control {
                Some(control) => self.control(&record, control, closed),
                None => self.pulses(&record, &view),
            },
            Err(error) => self.undecodable_record(&record, &error),
        }
        if let Err(error) = self.state.ids.settle() {
            self.scratch_failed(&error);
        }
        self.failed.take().map_or(Ok(()), Err)
    }

    fn begin_record(&mut self, record: &LogRecord<'_>, time: Timestamp) {
        self.state.eff_ts = time;
        let Generation { lateness, future_tolerance, .. } = self.generation;
        self.timely = time.minus(lateness)..=time.plus(future_tolerance);
        if self.open.first.is_none() {
            self.open.first = Some(time);
            let (bucket, bucket_min) = (self.bucket(), self.bucket_min());
            self.state.begin_segment(bucket, bucket_min);
        }
        let digest = domain::hash::bytes128(self.generation.hash_seed, record.body);
        self.open.anchor = Some(Anchor { offset: record.offset, digest });
    }

    /// Interval of log time, of the segment span's length, that is now. Counted from 1970, so that
    /// 32 bits last beyond year 9999 at the shortest span of a second.
    fn bucket(&self) -> u32 {
        let bucket = self.state.eff_ts.interval(self.generation.segment_span);
        u32::try_from(bucket.max(0)).unwrap_or(u32::MAX)
    }

    /// First interval that is still within the horizon.
    fn bucket_min(&self) -> u32 {
        let span = self.generation.segment_span.as_micros();
        let horizon = u32::try_from(self.generation.horizon.as_micros() / span).unwrap_or(u32::MAX);
        self.bucket().saturating_sub(horizon)
    }

    fn undecodable_record(&mut self, record: &LogRecord<'_>, error: &RecordError) {
        let reason = DeadLetterReason::Undecodable;
        self.open.counts.read += 1;
        self.open.counts.dead_lettered += 1;
        let buried = Buried { offset: record.offset, payload: record.body, ..Buried::default() };
        self.open.letters.bury(self.partition, reason, buried, || error.to_string());
    }

    fn control(
        &mut self,
        record: &LogRecord<'_>,
        control: &v1::Control,
        closed: &mut impl Extend<Flush>,
    ) {
        use v1::control::Kind;
        match &control.kind {
            Some(Kind::Boundary(_)) => {
                self.count_control();
                self.close(record.offset.next(), closed);
            }
            Some(Kind::Seal(_)) => {
                self.count_control();
                let end = record.offset.next();
                // Only the first one ends the partition.
                self.state.sealed_at.get_or_insert(end);
                self.close(end, closed);
                // The next generation has them out of the runs; here nobody asks for them any more.
                self.state.ids = ids::Ids::default();
            }
            Some(Kind::DeclareDimensions(declare)) => {
                self.count_control();
                let declaration = Declaration {
                    version: declare.version,
                    dimensions: declare.dimensions.clone(),
                };
                if self.state.declare(&declare.product_sku, declaration) {
                    self.rows.redeclare(&self.state);
                }
            }
            Some(Kind::SetLimits(set)) => {
                self.count_control();
                self.state.set_limits(record::limits(set));
            }
            None => {
                let message = "a control record of no known kind".to_owned();
                self.undecodable_record(record, &RecordError::Undecodable(message));
            }
        }
    }

    const fn count_control(&mut self) {
        self.open.counts.read += 1;
        self.open.counts.control += 1;
    }

    /// What is fixed about the log.
    #[must_use]
    pub const fn generation(&self) -> &Generation {
        &self.generation
    }

    /// Offset after the last folded record.
    #[must_use]
    pub fn folded_to(&self) -> Offset {
        self.open.anchor.map_or(self.open.start, |last| last.offset.next())
    }

    /// Effective log time of the open segment's first record; `None` while it has none.
    #[must_use]
    pub const fn open_since(&self) -> Option<Timestamp> {
        self.open.first
    }

    /// Every row of the open segment, changed or not, in no particular order.
    pub fn open_rows(&self) -> impl Iterator<Item = domain::UsageRow> + '_ {
        self.rows.all(self.segment())
    }

    /// Behind the record that ended the partition, once it has ended.
    #[must_use]
    pub const fn sealed_at(&self) -> Option<Offset> {
        self.state.sealed_at
    }

    /// Ids remembered, in memory and on disk.
    #[must_use]
    pub fn ids_held(&self) -> u64 {
        self.state.ids.len()
    }

    /// Bytes of memory that the ids of the horizon take.
    #[must_use]
    pub fn ids_bytes(&self) -> usize {
        self.state.ids.bytes()
    }

    /// Bytes of memory that the open segment holds until it closes, about: rows, names, dead letters.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.rows.held_bytes() as u64 + self.open.letters.bytes()
    }

    /// What the log says that the partition may keep.
    #[must_use]
    pub const fn limits(&self) -> FoldLimits {
        self.state.limits
    }

    /// Pulses set aside, by reason in the order of [`DeadLetterReason::ALL`], since this was last asked.
    pub fn take_dead_letter_counts(&mut self) -> [u64; DeadLetterReason::ALL.len()] {
        self.open.letters.take_counts()
    }

    /// Every group of dead letters of the open segment, in no particular order.
    pub fn open_dead_letters(&self) -> impl Iterator<Item = DeadLetterGroup> + '_ {
        self.open.letters.all(self.segment())
    }

    /// From here on keeps each dead letter by itself too, for who explains a record.
    pub fn list_dead_letters(&mut self) {
        self.open.letters.list_each();
    }

    /// Gives each dead letter since [`Fold::list_dead_letters`], ascending by place, and keeps no more.
    pub fn take_dead_letters(&mut self) -> Vec<DeadLetter> {
        self.open.letters.take_each()
    }

    /// Ids that came again with another payload, since this was last asked.
    pub const fn take_conflicts(&mut self) -> u64 {
        std::mem::replace(&mut self.conflicts, 0)
    }
}

impl OpenSegment {
    /// `letters` has none yet.
    const fn starting(start: Offset, letters: Letters) -> Self {
        Self { start, first: None, anchor: None, counts: Conservation::NONE, letters }
    }
}

/// Hash under which fold states and runs are stored. Its seed is fixed, so that the digest can be
/// checked by whoever holds the bytes alone.
#[must_use]
pub fn digest(bytes: &[u8]) -> u128 {
    domain::hash::bytes128(0, bytes)
}

#[cfg(test)]
mod tests;
