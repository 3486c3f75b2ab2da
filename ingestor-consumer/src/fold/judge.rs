//! What becomes of each pulse of a record: accepted, a duplicate, or a dead letter with its reason.
//!
//! The identity of a source's batch is judged first, once; then each of its pulses, in order. What
//! is decided here is decided for ever: whoever folds the record again decides the same.
//!
//! Pulses that count wait until they are a group and are added together (`rows.rs` says why). No
//! verdict before depends on a total, so only an overflow is found later, and takes its place then.

use std::borrow::Cow;

use domain::{
    DeadLetterReason, Offset, Timestamp,
    log::LogRecord,
    refold::{CountedPulse, Identity},
};
use proto::{
    record::{self, RecordView},
    v1,
    walk::{self, PulseWire},
};
use tracing::debug;

use super::{
    Fold,
    backfills::BackfillKey,
    ids::{self, IdVerdict},
    producers::{BatchVerdict, Landed, ProducerKey},
    rows::{AddError, Addend},
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
    body: &'a [u8],
    source: &'a v1::SourceBatch,
    /// Place in the record.
    index: u32,
    /// Place in the source's batch.
    place: u32,
}

/// What becomes of a pulse.
enum Outcome<'a> {
    /// It counts, unless a total would leave its range.
    Counts(Addend<'a>),
    Duplicate,
    Dead(DeadLetterReason, String),
}

/// Pulses that wait to be added together, and where each of them came from.
struct Group<'a> {
    candidates: Vec<Candidate<'a>>,
    addends: Vec<Addend<'a>>,
}

impl Group<'_> {
    fn of(pulses: usize) -> Self {
        Self { candidates: Vec::with_capacity(pulses), addends: Vec::with_capacity(pulses) }
    }
}

/// A pulse that counts, for who asks which ones a total is made of.
fn counted(offset: Offset, candidate: &Candidate<'_>, addend: &Addend<'_>) -> CountedPulse {
    let Candidate { body, source, index, place } = candidate;
    let sequence = source.first_sequence + u64::from(*place);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let identity = match (&source.backfill, <[u8; 16]>::try_from(&source.producer_id[..])) {
        (Some(backfill), _) => Identity::Backfill { name: backfill.name.clone(), row: sequence },
        (None, Ok(producer_id)) => {
            Identity::Numbered { producer_id: u128::from_be_bytes(producer_id), sequence }
        }
        (None, Err(_)) => match walk::pulse(body) {
            Ok(pulse) if !pulse.id.is_empty() => {
                Identity::Id { source: text(pulse.source), id: text(pulse.id) }
            }
            _ => Identity::None,
        },
    };
    CountedPulse {
        offset,
        index: *index,
        time: addend.time,
        amount: addend.amount,
        request_id: source.correlation_id.clone(),
        identity,
    }
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
        let mut group = Group::of(self.group_pulses);
        let letters_before = self.open.dead_letters.len();
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
                let body = slices.next().expect("`open` compared the counts").body;
                let candidate = Candidate { body, source, index, place };
                self.judge(record.offset, candidate, &mut verdict, &mut group);
                index += 1;
            }
        }
        self.add(record.offset, &mut group);
        // What could not be added was found out after its group was judged.
        self.open.dead_letters[letters_before..].sort_by_key(|letter| letter.index);
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
    fn judge<'a>(
        &mut self,
        offset: Offset,
        candidate: Candidate<'a>,
        verdict: &mut SourceVerdict,
        group: &mut Group<'a>,
    ) {
        self.open.counts.read += 1;
        let outcome = match verdict {
            SourceVerdict::DeadLetters(reason, message) => Outcome::Dead(*reason, message.clone()),
            _ => match walk::pulse(candidate.body) {
                Ok(pulse) => self.judge_pulse(&candidate, &pulse, verdict),
                Err(error) => Outcome::Dead(DeadLetterReason::Undecodable, error.to_string()),
            },
        };
        match outcome {
            Outcome::Counts(addend) => {
                group.candidates.push(candidate);
                group.addends.push(addend);
                if group.addends.len() == self.group_pulses {
                    self.add(offset, group);
                }
            }
            Outcome::Duplicate => self.open.counts.duplicate += 1,
            Outcome::Dead(reason, message) => self.bury(offset, &candidate, reason, message),
        }
    }

    /// The order is the law: duplicate, then too late or in the future, then the checked sum.
    #[inline]
    fn judge_pulse<'a>(
        &mut self,
        candidate: &Candidate<'a>,
        pulse: &PulseWire<'a>,
        verdict: &SourceVerdict,
    ) -> Outcome<'a> {
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
        let key = match pulse.canonical_key() {
            Some(key) => Cow::Borrowed(key),
            None => Cow::Owned(
                pulse.key(candidate.source.scope.as_bytes(), &mut self.scratch).to_owned(),
            ),
        };
        Outcome::Counts(Addend { key, properties: pulse.properties, amount, time })
    }

    /// Adds a group and empties it.
    fn add(&mut self, offset: Offset, group: &mut Group<'_>) {
        let refused = self.rows.add(&self.state.declarations, &group.addends, offset);
        self.open.counts.accepted += (group.addends.len() - refused.len()) as u64;
        if let Some(watch) = &mut self.watch {
            for (number, resource, window_start) in self.rows.added() {
                if refused.iter().all(|(other, _)| *other != number) {
                    let place = number as usize;
                    let (candidate, addend) = (&group.candidates[place], &group.addends[place]);
                    watch.note((resource, window_start), || counted(offset, candidate, addend));
                }
            }
        }
        for (number, error) in refused {
            let amount = group.addends[number as usize].amount;
            let (reason, message) = match error {
                AddError::Overflow => (
                    DeadLetterReason::Overflow,
                    format!("adding {amount} would take the total of this hour out of its range"),
                ),
                AddError::Name((field, error)) => {
                    (DeadLetterReason::Undecodable, format!("{field}: {error}"))
                }
            };
            self.bury(offset, &group.candidates[number as usize], reason, message);
        }
        group.candidates.clear();
        group.addends.clear();
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
        let identity = ids::Identity {
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
    fn untimely(&self, time: Timestamp) -> Option<Outcome<'static>> {
        if self.timely.contains(&time) {
            return None;
        }
        let log_time = self.state.eff_ts;
        let (reason, message) = if time < *self.timely.start() {
            let message = format!(
                "event time {time} is too old at log time {log_time}; send old usage as a backfill"
            );
            (DeadLetterReason::TooLate, message)
        } else {
            let message = format!(
                "event time {time} is ahead of log time {log_time}; set the client's clock"
            );
            (DeadLetterReason::InTheFuture, message)
        };
        Some(Outcome::Dead(reason, message))
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
        let mut letter = self.dead_letter(offset, candidate.index, reason, message, candidate.body);
        if let Ok(pulse) = walk::pulse(candidate.body) {
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
