//! The fold: records of one partition in, rows, manifests and dead letters out.
//!
//! It is pure: no IO, no clock, no randomness. The rows of a segment are a function of the fold
//! state at its start and of its records, whoever folds it, whenever, and however the work was cut
//! into flushes. Everything that Pulso promises about counting once rests on this file.

mod backfills;
mod ids;
mod producers;
mod rows;
mod state;

use domain::{
    DeadLetter, DeadLetterReason, Offset, SegmentId, Timestamp,
    log::LogRecord,
    place::Generation,
    segment::{Anchor, Conservation, Manifest, Progress, SegmentRule},
    store::{Flush, PartitionKey, SegmentClose, Touched},
};
use proto::{
    record::{self, RecordError, RecordView},
    v1,
    walk::{self, PulseSlice, PulseWire},
};
use thiserror::Error;

pub use self::state::StateError;
use self::{
    backfills::BackfillKey,
    ids::{IdVerdict, Identity},
    producers::{BatchVerdict, Landed, ProducerKey},
    rows::{AddError, Rows},
    state::{Declaration, State},
};

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
    /// Ids that came again with another payload, since they were last asked for.
    conflicts: u64,
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

/// What a source batch's identity says about its pulses.
enum SourceVerdict {
    New,
    /// Only these places of the batch are new.
    Only(Vec<u32>),
    /// New unless seen by id.
    ById,
    /// Each row is judged by its number.
    Backfill(BackfillKey),
    DeadLetters(DeadLetterReason, String),
}

/// One pulse about to be judged.
struct Candidate<'a> {
    slice: PulseSlice<'a>,
    source: &'a v1::SourceBatch,
    /// Place in the record.
    index: u32,
    /// Place in the source's batch.
    place: u32,
}

/// What became of a pulse.
enum Outcome {
    Accepted,
    Duplicate,
    Dead(DeadLetterReason, String),
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
            conflicts: 0,
        }
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

    fn pulses(&mut self, record: &LogRecord<'_>, view: &RecordView<'_>) {
        let mut slices = view.pulses();
        let mut index = 0;
        for source in &view.envelope.sources {
            let mut verdict = self.judge_source(source);
            let mut refused = source.refused.iter().copied().peekable();
            for place in (0..source.sent).filter(|place| refused.next_if_eq(place).is_none()) {
                let slice = slices.next().expect("`open` compared the counts");
                let candidate = Candidate { slice, source, index, place };
                self.judge(record.offset, &candidate, &mut verdict);
                index += 1;
            }
        }
    }

    /// Lands a source's batch, before any of its pulses.
    fn judge_source(&mut self, source: &v1::SourceBatch) -> SourceVerdict {
        let undecodable = |message: &str| {
            SourceVerdict::DeadLetters(DeadLetterReason::Undecodable, message.to_owned())
        };
        let Some(_end) = source.first_sequence.checked_add(u64::from(source.sent)) else {
            return undecodable("sequence numbers beyond 2^64");
        };
        if let Some(backfill) = &source.backfill {
            let key = BackfillKey { scope: source.scope.clone(), name: backfill.name.clone() };
            return match self.state.backfills.rows(key.clone(), &backfill.content_digest) {
                Some(_) => SourceVerdict::Backfill(key),
                None => SourceVerdict::DeadLetters(
                    DeadLetterReason::BackfillReused,
                    format!("backfill {:?} was used for other content", backfill.name),
                ),
            };
        }
        if source.producer_id.is_empty() {
            return SourceVerdict::ById;
        }
        match <[u8; 16]>::try_from(&source.producer_id[..]) {
            Ok(producer_id) => self.land(source, producer_id),
            Err(_) => undecodable("a producer id that is not 16 bytes"),
        }
    }

    fn land(&mut self, source: &v1::SourceBatch, producer_id: [u8; 16]) -> SourceVerdict {
        let key = ProducerKey { scope: source.scope.clone(), producer_id };
        let batch = Landed {
            start: source.first_sequence,
            length: source.sent,
            digest: source.digest,
            refused: source.refused.clone(),
        };
        let bucket = self.bucket();
        match self.state.producers.land(key, batch, bucket) {
            BatchVerdict::New => SourceVerdict::New,
            BatchVerdict::Again { new } => SourceVerdict::Only(new),
            BatchVerdict::Reused => SourceVerdict::DeadLetters(
                DeadLetterReason::SequenceReused,
                format!(
                    "sequences {}..{} of this producer were used for another batch, or are too old to tell; every process needs a producer_id of its own",
                    source.first_sequence,
                    source.first_sequence + u64::from(source.sent)
                ),
            ),
        }
    }

    #[inline]
    fn judge(&mut self, offset: Offset, candidate: &Candidate<'_>, verdict: &mut SourceVerdict) {
        self.open.counts.read += 1;
        let outcome = match verdict {
            SourceVerdict::DeadLetters(reason, message) => Outcome::Dead(*reason, message.clone()),
            _ => match walk::pulse(candidate.slice.body) {
                Ok(pulse) => self.judge_pulse(offset, candidate, &pulse, verdict),
                Err(error) => Outcome::Dead(DeadLetterReason::Undecodable, error.to_string()),
            },
        };
        match outcome {
            Outcome::Accepted => self.open.counts.accepted += 1,
            Outcome::Duplicate => self.open.counts.duplicate += 1,
            Outcome::Dead(reason, message) => self.bury(offset, candidate, reason, message),
        }
    }

    /// The order is the law: duplicate, then too late or in the future, then the checked sum.
    #[inline]
    fn judge_pulse(
        &mut self,
        offset: Offset,
        candidate: &Candidate<'_>,
        pulse: &PulseWire<'_>,
        verdict: &SourceVerdict,
    ) -> Outcome {
        if self.is_duplicate(candidate, pulse, verdict) {
            return Outcome::Duplicate;
        }
        let undecodable =
            |message: &str| Outcome::Dead(DeadLetterReason::Undecodable, message.into());
        let received_at = candidate.source.received_at.as_ref();
        let time = match pulse.time {
            Some((seconds, nanos)) => Timestamp::from_parts(seconds, nanos),
            None => received_at.and_then(proto::convert::timestamp),
        };
        let Some(time) = time else { return undecodable("no event time within year 1 to 9999") };
        let amount = pulse
            .used_amount
            .and_then(|(unscaled, scale)| domain::Quantity::from_decimal(unscaled, scale).ok());
        let Some(amount) = amount else { return undecodable("no amount of at most 18 decimals") };
        if !matches!(verdict, SourceVerdict::Backfill(_))
            && let Some(outcome) = self.untimely(time)
        {
            return outcome;
        }
        let key = pulse.key(candidate.source.scope.as_bytes(), &mut self.scratch);
        match self.rows.add(&self.state.declarations, key, pulse, (amount, time, offset)) {
            Ok(()) => Outcome::Accepted,
            Err(AddError::Overflow) => Outcome::Dead(
                DeadLetterReason::Overflow,
                format!("adding {amount} would take the total of this hour out of its range"),
            ),
            Err(AddError::Name(field, error)) => undecodable(&format!("{field}: {error}")),
        }
    }

    #[inline]
    fn is_duplicate(
        &mut self,
        candidate: &Candidate<'_>,
        pulse: &PulseWire<'_>,
        verdict: &SourceVerdict,
    ) -> bool {
        match verdict {
            SourceVerdict::New | SourceVerdict::DeadLetters(..) => false,
            SourceVerdict::Only(places) => places.binary_search(&candidate.place).is_err(),
            SourceVerdict::ById => !pulse.id.is_empty() && self.id_was_seen(candidate, pulse),
            SourceVerdict::Backfill(key) => {
                let row = candidate.source.first_sequence + u64::from(candidate.place);
                let backfill = self.state.backfills.0.get_mut(key);
                !backfill.expect("`judge_source` made it").rows.insert(row)
            }
        }
    }

    fn id_was_seen(&mut self, candidate: &Candidate<'_>, pulse: &PulseWire<'_>) -> bool {
        let (seed, bucket, bucket_min) =
            (self.generation.hash_seed, self.bucket(), self.bucket_min());
        let scope = candidate.source.scope.as_bytes();
        let identity = Identity {
            tenant: if pulse.tenant.is_empty() { scope } else { pulse.tenant },
            source: pulse.source,
            id: pulse.id,
            payload: record::pulse_digest(seed, pulse, &mut self.scratch),
        };
        match self.state.ids.see(seed, &identity, bucket, bucket_min) {
            IdVerdict::New => false,
            IdVerdict::Duplicate => true,
            IdVerdict::Conflict => {
                self.conflicts += 1;
                true
            }
        }
    }

    #[inline]
    fn untimely(&self, time: Timestamp) -> Option<Outcome> {
        let log_time = self.state.eff_ts;
        if time < log_time.minus(self.generation.lateness) {
            let message = format!(
                "event time {time} is too old at log time {log_time}; send old usage as a backfill"
            );
            return Some(Outcome::Dead(DeadLetterReason::TooLate, message));
        }
        if time > log_time.plus(self.generation.future_tolerance) {
            let message = format!(
                "event time {time} is ahead of log time {log_time}; set the client's clock"
            );
            return Some(Outcome::Dead(DeadLetterReason::InTheFuture, message));
        }
        None
    }

    #[cold]
    fn bury(
        &mut self,
        offset: Offset,
        candidate: &Candidate<'_>,
        reason: DeadLetterReason,
        message: String,
    ) {
        match reason {
            DeadLetterReason::TooLate => self.open.counts.late += 1,
            _ => self.open.counts.dead_lettered += 1,
        }
        let mut letter =
            self.dead_letter(offset, candidate.index, reason, message, candidate.slice.body);
        if let Ok(pulse) = walk::pulse(candidate.slice.body) {
            let scope = candidate.source.scope.as_bytes();
            let tenant = if pulse.tenant.is_empty() { scope } else { pulse.tenant };
            letter.tenant = String::from_utf8_lossy(tenant).into_owned();
            letter.product_sku = String::from_utf8_lossy(pulse.product_sku).into_owned();
            letter.time =
                pulse.time.and_then(|(seconds, nanos)| Timestamp::from_parts(seconds, nanos));
        }
        self.open.dead_letters.push(letter);
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
        let flush = Flush {
            segment,
            rows: self.rows.take_changed(segment),
            dead_letters: std::mem::take(&mut self.open.dead_letters),
            progress: self.progress(end, self.state.counts),
            close: Some(SegmentClose { manifest, run, state, touched }),
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
