//! What becomes of each pulse of a record: accepted, a duplicate, or a dead letter with its reason.
//!
//! The identity of a source's batch is judged first, once; then each of its pulses, in order. What
//! is decided here is decided for ever: whoever folds the record again decides the same.
//!
//! Pulses that count wait until they are a group and are added together (`rows.rs` says why). No
//! verdict before depends on a total, so only an overflow is found later, and takes its place then.

use std::{borrow::Cow, fmt, hint::black_box};

use domain::{
    DeadLetterReason, Offset, Timestamp,
    log::LogRecord,
    refold::{CountedPulse, Identity},
};
use proto::{
    record::{self, RecordView},
    v1,
    walk::{self, PulseWire, WireError},
};
use tracing::debug;

use super::{
    Fold, FoldError,
    backfills::{BackfillKey, BackfillVerdict, RowVerdict},
    ids::{IdVerdict, Identity as HashedId},
    letters::Buried,
    producers::{BatchVerdict, Landing, ProducerKey},
    rows::{AddError, Addend},
};

/// Pulses of a source by id whose ids are read ahead together.
const GROUP_IDS: usize = 16;

/// What a source batch's identity says about its pulses.
enum SourceVerdict {
    New,
    /// Only these places of the batch are new.
    Only(Vec<u32>),
    /// New unless seen by id: each pulse that has one is judged by [`SourceVerdict::Id`].
    ById,
    /// New unless this id was seen.
    Id(HashedId),
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
enum Outcome<'a, 'c> {
    /// It counts, unless a total would leave its range.
    Counts(Addend<'a>),
    Duplicate,
    Dead(Cause<'c>),
}

/// Why a pulse is set aside; its words are made only where they are kept.
enum Cause<'a> {
    TooLate(Timestamp, Timestamp),
    InTheFuture(Timestamp, Timestamp),
    Undecodable(&'a dyn fmt::Display),
    TooManyIdentities,
    ScatteredRows,
    Batch(DeadLetterReason, &'a str),
    Add(AddError, domain::Quantity),
}

impl Cause<'_> {
    const fn reason(&self) -> DeadLetterReason {
        match self {
            Self::TooLate(..) => DeadLetterReason::TooLate,
            Self::InTheFuture(..) => DeadLetterReason::InTheFuture,
            Self::Undecodable(_) | Self::Add(AddError::Name(_), _) => DeadLetterReason::Undecodable,
            Self::TooManyIdentities | Self::ScatteredRows => DeadLetterReason::TooManyIdentities,
            Self::Batch(reason, _) => *reason,
            Self::Add(AddError::Overflow, _) => DeadLetterReason::Overflow,
            Self::Add(AddError::Capped, _) => DeadLetterReason::TooManyKeys,
        }
    }
}

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLate(time, log_time) => write!(
                f,
                "event time {time} is too old at log time {log_time}; send old usage as a backfill"
            ),
            Self::InTheFuture(time, log_time) => write!(
                f,
                "event time {time} is ahead of log time {log_time}; set the client's clock"
            ),
            Self::Undecodable(why) => write!(f, "{why}"),
            Self::TooManyIdentities => f.write_str(TOO_MANY_IDENTITIES),
            Self::ScatteredRows => f.write_str(SCATTERED_ROWS),
            Self::Batch(_, why) => f.write_str(why),
            Self::Add(AddError::Overflow, amount) => {
                write!(f, "adding {amount} would take the total of this hour out of its range")
            }
            Self::Add(AddError::Name((field, error)), _) => write!(f, "{field}: {error}"),
            Self::Add(AddError::Capped, _) => f.write_str(TOO_MANY_KEYS),
        }
    }
}

const TOO_MANY_KEYS: &str = "the tenant has as many resources in this segment, or one of its dimensions as many values, as it may: is an id sent as a SKU, a unit or a dimension? limits.keys_per_tenant and limits.values_per_dimension raise it";

const TOO_MANY_IDENTITIES: &str = "the partition remembers as many producers, backfills and gaps in them as it may: keep one producer_id for the life of a process, and few backfills; limits.state_bytes raises it";

const SCATTERED_ROWS: &str = "the rows of this backfill that counted have as many gaps between them as they may: send the rows that are missing in between first, or these under another name; limits.ranges_per_backfill raises it";

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
        let mut index = 0;
        for source in &view.envelope.sources {
            let (partition, offset) = (self.partition.partition, record.offset);
            debug!(request_id = source.correlation_id, %partition, %offset, "folding");
            let verdict = match self.state.sealed_at {
                None => self.judge_source(source),
                Some(end) => after_seal(end),
            };
            if let Some(tally) = &mut self.tally {
                tally.brought(source);
            }
            let mut refused = source.refused.iter().copied().peekable();
            let places = (0..source.sent).filter(|place| refused.next_if_eq(place).is_none());
            let candidates = places.map(|place| {
                let body = slices.next().expect("`open` compared the counts").body;
                index += 1;
                Candidate { body, source, index: index - 1, place }
            });
            match verdict {
                SourceVerdict::ById => self.judge_by_id(offset, candidates, &mut group),
                verdict => {
                    for candidate in candidates {
                        let pulse = walk::pulse(candidate.body);
                        self.judge(offset, candidate, &pulse, &verdict, &mut group);
                    }
                }
            }
        }
        self.add(record.offset, &mut group);
    }

    /// Judges pulses by their ids. The table of ids is larger than any cache, so their places in it are
    /// read ahead in groups; each is judged in order all the same.
    fn judge_by_id<'a>(
        &mut self,
        offset: Offset,
        mut candidates: impl Iterator<Item = Candidate<'a>>,
        group: &mut Group<'a>,
    ) {
        let mut ahead = Vec::with_capacity(GROUP_IDS);
        loop {
            ahead.extend(candidates.by_ref().take(GROUP_IDS).map(|candidate| {
                let pulse = walk::pulse(candidate.body);
                let id = pulse.as_ref().ok().and_then(|pulse| self.hashed_id(&candidate, pulse));
                (candidate, pulse, id)
            }));
            if ahead.is_empty() {
                return;
            }
            let ids = ahead.iter().filter_map(|(_, _, id)| id.as_ref());
            black_box(ids.fold(0, |seen, id| seen ^ self.state.ids.touch(id)));
            for (candidate, pulse, id) in ahead.drain(..) {
                let verdict = id.map_or(SourceVerdict::New, SourceVerdict::Id);
                self.judge(offset, candidate, &pulse, &verdict, group);
            }
        }
    }

    fn hashed_id(&mut self, candidate: &Candidate<'_>, pulse: &PulseWire<'_>) -> Option<HashedId> {
        if pulse.id.is_empty() {
            return None;
        }
        let (seed, scope) = (self.generation.hash_seed, candidate.source.scope.as_bytes());
        let tenant = if pulse.tenant.is_empty() { scope } else { pulse.tenant };
        let payload = record::pulse_digest(seed, pulse, &mut self.scratch);
        let parts = [tenant, pulse.source, pulse.id];
        Some(HashedId::of(seed, parts, payload, &mut self.scratch))
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
            return self.land_backfill(source, backfill);
        }
        if source.producer_id.is_empty() {
            return SourceVerdict::ById;
        }
        match <[u8; 16]>::try_from(&source.producer_id[..]) {
            Ok(producer_id) => self.land(source, producer_id),
            Err(_) => undecodable("a producer id that is not 16 bytes"),
        }
    }

    fn land_backfill(
        &mut self,
        source: &v1::SourceBatch,
        backfill: &v1::Backfill,
    ) -> SourceVerdict {
        let key =
            BackfillKey { scope: source.identity_scope().to_owned(), name: backfill.name.clone() };
        match self.state.land_backfill(&key, &backfill.content_digest) {
            BackfillVerdict::Rows => SourceVerdict::Backfill(key),
            BackfillVerdict::Reused => SourceVerdict::DeadLetters(
                DeadLetterReason::BackfillReused,
                format!("backfill {:?} was used for other content", backfill.name),
            ),
            BackfillVerdict::Full => too_many_identities(),
        }
    }

    fn land(&mut self, source: &v1::SourceBatch, producer_id: [u8; 16]) -> SourceVerdict {
        let key = ProducerKey { scope: source.identity_scope().to_owned(), producer_id };
        let batch = Landing {
            start: source.first_sequence,
            length: source.sent,
            digest: source.digest,
            refused: &source.refused,
        };
        let bucket = self.bucket();
        let numbers = source.first_sequence..source.first_sequence + u64::from(source.sent);
        match self.state.land(&key, batch, bucket) {
            BatchVerdict::New => SourceVerdict::New,
            BatchVerdict::Again { new } => SourceVerdict::Only(new),
            BatchVerdict::Full => too_many_identities(),
            BatchVerdict::Reused => SourceVerdict::DeadLetters(
                DeadLetterReason::SequenceReused,
                format!(
                    "sequences {numbers:?} of this producer were used for another batch, or are too old to tell; every process needs a producer_id of its own"
                ),
            ),
            BatchVerdict::Scattered => SourceVerdict::DeadLetters(
                DeadLetterReason::SequenceReused,
                format!(
                    "sequences {numbers:?} landed before with other refusals, too scattered to tell which pulses are new; send what was refused then under new numbers"
                ),
            ),
        }
    }

    #[inline]
    fn judge<'a>(
        &mut self,
        offset: Offset,
        candidate: Candidate<'a>,
        pulse: &Result<PulseWire<'a>, WireError>,
        verdict: &SourceVerdict,
        group: &mut Group<'a>,
    ) {
        self.open.counts.read += 1;
        let outcome = match (verdict, pulse) {
            (SourceVerdict::DeadLetters(reason, why), _) => {
                Outcome::Dead(Cause::Batch(*reason, why))
            }
            (_, Ok(pulse)) => self.judge_pulse(&candidate, pulse, verdict),
            (_, Err(error)) => Outcome::Dead(Cause::Undecodable(error)),
        };
        match outcome {
            Outcome::Counts(addend) => {
                group.candidates.push(candidate);
                group.addends.push(addend);
                if group.addends.len() == self.group_pulses {
                    self.add(offset, group);
                }
            }
            Outcome::Duplicate => {
                self.open.counts.duplicate += 1;
                if let Some(tally) = &mut self.tally {
                    tally.duplicate(candidate.source);
                }
            }
            Outcome::Dead(cause) => self.bury(offset, &candidate, &cause),
        }
    }

    /// The order is the law: duplicate by number, then readable, then too late or in the future, then
    /// duplicate by id, then the checked sum. An id that a clock set aside is not remembered, so that it
    /// counts when it comes again mended.
    #[inline]
    fn judge_pulse<'a>(
        &mut self,
        candidate: &Candidate<'a>,
        pulse: &PulseWire<'a>,
        verdict: &SourceVerdict,
    ) -> Outcome<'a, 'static> {
        match self.judge_place(candidate, verdict) {
            RowVerdict::New => {}
            RowVerdict::Duplicate => return Outcome::Duplicate,
            RowVerdict::Full => return Outcome::Dead(Cause::TooManyIdentities),
            RowVerdict::Scattered => return Outcome::Dead(Cause::ScatteredRows),
        }
        let received_at = candidate.source.received_at.as_ref();
        let time = match pulse.time {
            Some((seconds, nanos)) => Timestamp::from_parts(seconds, nanos),
            None => received_at.and_then(proto::convert::timestamp),
        };
        let Some(time) = time else {
            return Outcome::Dead(Cause::Undecodable(&"no event time within year 1 to 9999"));
        };
        let amount = pulse
            .used_amount
            .and_then(|(unscaled, scale)| domain::Quantity::from_decimal(unscaled, scale).ok());
        let Some(amount) = amount else {
            return Outcome::Dead(Cause::Undecodable(&"no amount of at most 18 decimals"));
        };
        if !matches!(verdict, SourceVerdict::Backfill(_))
            && let Some(cause) = self.untimely(time)
        {
            let is_known = matches!(verdict, SourceVerdict::Id(id) if self.knows_id(id));
            return if is_known { Outcome::Duplicate } else { Outcome::Dead(cause) };
        }
        if let SourceVerdict::Id(id) = verdict
            && self.id_was_seen(id)
        {
            return Outcome::Duplicate;
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
        let refused = self.rows.add(&self.state, &group.addends, offset);
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
            let place = number as usize;
            let cause = Cause::Add(error, group.addends[place].amount);
            self.bury(offset, &group.candidates[place], &cause);
        }
        group.candidates.clear();
        group.addends.clear();
    }

    /// What a pulse is by its place in its batch.
    #[inline]
    fn judge_place(&mut self, candidate: &Candidate<'_>, verdict: &SourceVerdict) -> RowVerdict {
        match verdict {
            SourceVerdict::Only(places) if places.binary_search(&candidate.place).is_err() => {
                RowVerdict::Duplicate
            }
            SourceVerdict::Backfill(key) => {
                let row = candidate.source.first_sequence + u64::from(candidate.place);
                self.state.take_row(key, row)
            }
            _ => RowVerdict::New,
        }
    }

    #[inline]
    fn id_was_seen(&mut self, id: &HashedId) -> bool {
        match self.state.ids.see(id) {
            Ok(IdVerdict::New) => false,
            Ok(IdVerdict::Duplicate) => true,
            Ok(IdVerdict::Conflict) => {
                self.conflicts += 1;
                true
            }
            Err(error) => self.scratch_failed(&error),
        }
    }

    fn knows_id(&mut self, id: &HashedId) -> bool {
        self.state.ids.knows(id).unwrap_or_else(|error| self.scratch_failed(&error))
    }

    /// Ends the fold with the record: whatever is decided about it is never seen.
    #[cold]
    pub(super) fn scratch_failed(&mut self, error: &std::io::Error) -> bool {
        self.failed = Some(FoldError::Scratch(error.to_string()));
        true
    }

    #[inline]
    fn untimely(&self, time: Timestamp) -> Option<Cause<'static>> {
        if self.timely.contains(&time) {
            return None;
        }
        let log_time = self.state.eff_ts;
        let is_late = time < *self.timely.start();
        Some(if is_late {
            Cause::TooLate(time, log_time)
        } else {
            Cause::InTheFuture(time, log_time)
        })
    }

    #[cold]
    fn bury(&mut self, offset: Offset, candidate: &Candidate<'_>, cause: &Cause<'_>) {
        let reason = cause.reason();
        match reason {
            DeadLetterReason::TooLate => self.open.counts.late += 1,
            _ => self.open.counts.dead_lettered += 1,
        }
        let Candidate { body, source, index, .. } = *candidate;
        let mut buried = Buried { offset, index, payload: body, ..Buried::default() };
        if let Ok(pulse) = walk::pulse(body) {
            let scope = source.scope.as_bytes();
            buried.tenant = if pulse.tenant.is_empty() { scope } else { pulse.tenant };
            buried.product_sku = pulse.product_sku;
            buried.time =
                pulse.time.and_then(|(seconds, nanos)| Timestamp::from_parts(seconds, nanos));
        }
        if let Some(tally) = &mut self.tally {
            tally.set_aside(source, reason, buried.time, cause);
        }
        self.open.letters.bury(self.partition, reason, buried, || cause.to_string());
    }
}

fn too_many_identities() -> SourceVerdict {
    SourceVerdict::DeadLetters(DeadLetterReason::TooManyIdentities, TOO_MANY_IDENTITIES.to_owned())
}
