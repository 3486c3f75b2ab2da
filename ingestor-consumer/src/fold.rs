//! The fold: records of one partition in, rows, manifests and dead letters out.
//!
//! It is pure: no IO, no clock, no randomness. The rows of a segment are a function of the fold
//! state at its start and of its records, whoever folds it, whenever, and however the work was cut
//! into flushes. Everything that Pulso promises about counting once rests on this file.

mod backfills;
mod ids;
mod index;
mod inherit;
mod judge;
mod keys;
mod producers;
mod rows;
mod state;
mod watch;

use std::ops::RangeInclusive;

use domain::{
    DeadLetter, DeadLetterReason, Offset, SegmentId, Timestamp,
    epochs::Declared,
    log::LogRecord,
    place::Generation,
    segment::{Anchor, Conservation, Manifest, Progress, SegmentRule},
    store::{Flush, PartitionKey, SegmentClose, Touched},
};
use proto::{
    record::{self, RecordError},
    v1,
};
use thiserror::Error;

pub use self::{
    inherit::run_of,
    state::{StateError, sealed_at},
};
use self::{
    rows::Rows,
    state::{Declaration, State},
    watch::Watch,
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
    /// Rows whose pulses are noted, for who explains them.
    watch: Option<Watch>,
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
    dead_letters: Vec<DeadLetter>,
}

/// Why a partition cannot be folded further. Nothing was decided about the record.
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
        /// The record.
        offset: Offset,
        /// Its version.
        error: RecordError,
    },
}

impl Fold {
    /// Starts at the first record of a partition.
    #[must_use]
    pub fn new(generation: Generation, partition: PartitionKey) -> Self {
        Self::with_state(generation, partition, State::default(), Offset(0))
    }

    /// Goes on after a closed segment. `runs` are those of the segments within the horizon before
    /// its end, in order; `state` is the one that its manifest names.
    ///
    /// # Errors
    /// When the state does not parse.
    pub fn resume<'a>(
        generation: Generation,
        partition: PartitionKey,
        manifest: &Manifest,
        state: &[u8],
        runs: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, StateError> {
        let mut state = State::decode(state, manifest.eff_ts, manifest.counts_to_end)?;
        runs.into_iter().for_each(|run| state.ids.load_run(run));
        Ok(Self::with_state(generation, partition, state, manifest.end))
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
            open: OpenSegment::starting(start),
            generation,
            partition,
            state,
            scratch: Vec::new(),
            timely: Timestamp::MIN..=Timestamp::MAX,
            group_pulses: GROUP_PULSES,
            conflicts: 0,
            publishing: Publishing::default(),
            watch: None,
        }
    }

    /// The same fold with closed segments published or not.
    #[must_use]
    pub const fn publishing(mut self, publishing: Publishing) -> Self {
        self.publishing = publishing;
        self
    }

    /// The same fold with these dimensions declared; those that it knows in a newer version stay.
    #[must_use]
    pub fn declaring(mut self, declared: &[Declared]) -> Self {
        for Declared { product_sku, version, dimensions } in declared {
            let declaration = Declaration { version: *version, dimensions: dimensions.clone() };
            self.state.declarations.declare(product_sku, declaration);
        }
        self
    }

    /// Folds the next record. Segments that it completes (up to two) are pushed to `closed`.
    ///
    /// # Errors
    /// See [`FoldError`]; the fold is as it was before and must not go on.
    pub fn record(
        &mut self,
        record: LogRecord<'_>,
        closed: &mut Vec<Flush>,
    ) -> Result<(), FoldError> {
        if record.offset < self.folded_to() {
            let folded_to = self.folded_to();
            return Err(FoldError::OffsetsFall { folded_to, found: record.offset });
        }
        let opened = record::open(self.partition.log_id, record.body);
        if let Err(error @ RecordError::Newer(_)) = opened {
            return Err(FoldError::Newer { offset: record.offset, error });
        }
        let time = self.state.eff_ts.max(record.appended_at);
        if let Some(first) = self.open.first
            && self.rule.starts_next(self.open.start, first, record.offset, time)
        {
            closed.push(self.close(record.offset));
        }
        self.begin_record(&record, time);
        match opened {
            Ok(view) => match &view.envelope.control {
                Some(control) => self.control(&record, control, closed),
                None => self.pulses(&record, &view),
            },
            Err(error) => self.undecodable_record(&record, &error),
        }
        Ok(())
    }

    fn begin_record(&mut self, record: &LogRecord<'_>, time: Timestamp) {
        self.state.eff_ts = time;
        let Generation { lateness, future_tolerance, .. } = self.generation;
        self.timely = time.minus(lateness)..=time.plus(future_tolerance);
        if self.open.first.is_none() {
            self.open.first = Some(time);
            let bucket_min = self.bucket_min();
            self.state.producers.forget_before(bucket_min);
            self.state.ids.forget_before(bucket_min);
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
        let letter = self.dead_letter(record.offset, 0, reason, error.to_string(), record.body);
        self.open.dead_letters.push(letter);
    }

    fn control(&mut self, record: &LogRecord<'_>, control: &v1::Control, closed: &mut Vec<Flush>) {
        use v1::control::Kind;
        match &control.kind {
            Some(Kind::Boundary(_)) => {
                self.count_control();
                closed.push(self.close(record.offset.next()));
            }
            Some(Kind::Seal(_)) => {
                self.count_control();
                let end = record.offset.next();
                // Only the first one ends the partition.
                self.state.sealed_at.get_or_insert(end);
                closed.push(self.close(end));
                // The next generation has them out of the runs; here nobody asks for them any more.
                self.state.ids = ids::Ids::default();
            }
            Some(Kind::DeclareDimensions(declare)) => {
                self.count_control();
                let declaration = Declaration {
                    version: declare.version,
                    dimensions: declare.dimensions.clone(),
                };
                if self.state.declarations.declare(&declare.product_sku, declaration) {
                    self.rows.redeclare(&self.state.declarations);
                }
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

    fn dead_letter(
        &self,
        offset: Offset,
        index: u32,
        reason: DeadLetterReason,
        message: String,
        payload: &[u8],
    ) -> DeadLetter {
        let PartitionKey { log_id, partition, epoch } = self.partition;
        DeadLetter {
            log_id,
            partition,
            epoch,
            offset,
            index,
            reason,
            tenant: String::new(),
            product_sku: String::new(),
            time: None,
            message,
            payload: payload.to_vec(),
        }
    }

    /// Completes the open segment and starts the next at `end`.
    fn close(&mut self, end: Offset) -> Flush {
        let segment = self.segment();
        let (mut rows, mut rows_digest, mut touched) = (0, 0, Vec::new());
        let first = self.open.first.expect("only a segment with a record closes");
        for row in self.rows.all(segment) {
            rows += 1;
            rows_digest ^= row.digest(self.generation.hash_seed);
            if self.generation.window.window_of(row.key.window_start).end <= first {
                touched.push(Touched {
                    window_day: row.key.window_day(),
                    tenant: row.key.resource.tenant,
                });
            }
        }
        touched.sort();
        touched.dedup();
        for Touched { tenant, window_day } in &touched {
            let parts = [&b"touched"[..], tenant.as_str().as_bytes(), &window_day.to_le_bytes()];
            rows_digest ^= domain::hash::parts(self.generation.hash_seed, parts);
        }
        let (run, state) = (self.state.ids.take_run(), self.state.encode());
        self.state.counts = self.state.counts.plus(&self.open.counts);
        let manifest = Manifest {
            segment,
            end,
            eff_ts: self.state.eff_ts,
            counts: self.open.counts,
            counts_to_end: self.state.counts,
            rows,
            rows_digest,
            anchor: self.open.anchor.expect("only a segment with a record closes"),
            state_digest: digest(&state),
            run_digest: digest(&run),
        };
        assert_eq!(manifest.check(), Ok(()), "a fold that breaks a law must not be stored");
        let stored_before = match self.publishing {
            Publishing::Off => Vec::new(),
            Publishing::On => self.rows.unchanged(segment),
        };
        let flush = Flush {
            segment,
            rows: self.rows.take_changed(segment),
            dead_letters: std::mem::take(&mut self.open.dead_letters),
            progress: self.progress(end, self.state.counts),
            close: Some(SegmentClose { manifest, run, state, touched, stored_before }),
        };
        self.rows.clear();
        self.open = OpenSegment::starting(end);
        flush
    }

    /// Gives what changed in the open segment since the last flush, with where the fold stands.
    pub fn flush(&mut self) -> Flush {
        let segment = self.segment();
        let folded_to = self.folded_to();
        Flush {
            segment,
            rows: self.rows.take_changed(segment),
            dead_letters: std::mem::take(&mut self.open.dead_letters),
            progress: self.progress(folded_to, self.state.counts.plus(&self.open.counts)),
            close: None,
        }
    }

    fn progress(&self, folded_to: Offset, counts: Conservation) -> Progress {
        let PartitionKey { log_id, partition, epoch } = self.partition;
        Progress {
            log_id,
            partition,
            epoch,
            folded_to,
            eff_ts: self.state.eff_ts,
            counts,
            anchor: self.open.anchor,
            caught_up_at: None,
        }
    }

    fn segment(&self) -> SegmentId {
        let PartitionKey { log_id, partition, epoch } = self.partition;
        SegmentId { log_id, partition, epoch, start: self.open.start }
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

    /// Ids held in memory.
    #[must_use]
    pub fn ids_held(&self) -> usize {
        self.state.ids.len()
    }

    /// Ids that came again with another payload, since this was last asked.
    pub const fn take_conflicts(&mut self) -> u64 {
        std::mem::replace(&mut self.conflicts, 0)
    }
}

impl OpenSegment {
    fn starting(start: Offset) -> Self {
        Self {
            start,
            first: None,
            anchor: None,
            counts: Conservation::default(),
            dead_letters: Vec::new(),
        }
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
