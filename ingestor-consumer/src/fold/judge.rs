//! What becomes of each pulse of a record: accepted, a duplicate, or a dead letter with its reason.
//!
//! The identity of a source's batch is judged first, once; then each of its pulses, in order. What
//! is decided here is decided for ever: whoever folds the record again decides the same.

use domain::{DeadLetterReason, Offset, Timestamp, log::LogRecord};
use proto::{
    record::{self, RecordView},
    v1,
    walk::{self, PulseSlice, PulseWire},
};
use tracing::debug;

use super::{
    Fold,
    backfills::BackfillKey,
    ids::{IdVerdict, Identity},
    producers::{BatchVerdict, Landed, ProducerKey},
    rows::AddError,
};

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

/// What came behind the end leaves no trace in any identity: sent again to the next generation, it
/// is new there.
fn after_seal(end: Offset) -> SourceVerdict {
    let message = format!(
        "this log ended at offset {end} and goes on in its next generation, which the server that took it had missed; restart that server, and send it again"
    );
    SourceVerdict::DeadLetters(DeadLetterReason::AfterSeal, message)
}

impl Fold {
    /// Judges every pulse of a record, in the record's order.
    pub(super) fn pulses(&mut self, record: &LogRecord<'_>, view: &RecordView<'_>) {
        let mut slices = view.pulses();
        let mut index = 0;
        for source in &view.envelope.sources {
            let (partition, offset) = (self.partition.partition, record.offset);
            debug!(request_id = source.correlation_id, %partition, %offset, "folding");
            let mut verdict = match self.state.sealed_at {
                None => self.judge_source(source),
                Some(end) => after_seal(end),
            };
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
}
