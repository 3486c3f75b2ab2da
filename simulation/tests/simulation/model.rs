//! The naive model: what the log means, said a second time and as plainly as it can be.
//!
//! It reads every record from the start and keeps plain maps: no segments, no flushes, no restarts, no
//! hashes. It shares no code with the fold: records are decoded by prost, and the order of judgement is
//! written down from ARCHITECTURE.md ("Log time and lateness") and docs/exactly-once.md. What the fold
//! forgets by segments, this forgets by comparing two numbers when it is asked.
//!
//! It takes one thing from the store: where segments begin, because limits count within a segment.
//! Whether segments are cut where they may be is `oracle.rs`' question.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    DeadLetterReason, Dimensions, Epoch, FoldLimits, Partition,
    epochs::{Journal, LogHistory},
    generation::Generation,
    segment::Conservation,
};
use prost::Message as _;
use proto::v1;

/// A record of the log.
#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) offset: u64,
    pub(crate) appended_at: i64,
    pub(crate) body: Vec<u8>,
}

/// A generation of the log, and by partition its records.
pub(crate) struct Log {
    pub(crate) generation: Generation,
    pub(crate) partitions: Vec<Vec<Record>>,
}

/// Where segments begin, by partition and epoch.
pub(crate) type Starts = BTreeMap<(u16, Epoch), BTreeSet<u64>>;

/// Tenant, SKU, unit, dimensions.
pub(crate) type Resource = (String, String, String, String);

/// Count and sum of a resource in the window that starts then.
pub(crate) type Totals = BTreeMap<(Resource, i64), (u64, i128)>;

/// What the log says.
#[derive(Default)]
pub(crate) struct Meaning {
    pub(crate) totals: Totals,
    /// By generation, partition, reason and tenant.
    pub(crate) letters: BTreeMap<(usize, u16, DeadLetterReason, String), u64>,
    /// By generation and partition: after each record its offset, log time and counts so far.
    pub(crate) steps: BTreeMap<(usize, u16), Vec<Step>>,
    /// By the number of a pulse, which is its amount without sign: how often it counts, and why not.
    pub(crate) pulses: BTreeMap<u64, Verdicts>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) offset: u64,
    pub(crate) log_time: i64,
    pub(crate) counts: Conservation,
    /// Whether the record ends its segment.
    pub(crate) ends: bool,
    pub(crate) limits: FoldLimits,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Verdicts {
    pub(crate) counted: u64,
    pub(crate) duplicates: u64,
    pub(crate) dead: BTreeSet<DeadLetterReason>,
}

/// What is known of clients at one moment, over all partitions of a generation: each identity lives in
/// one of them.
#[derive(Clone, Default)]
struct Known {
    producers: BTreeMap<(String, Vec<u8>), Producer>,
    backfills: BTreeMap<(String, String), (Vec<u8>, BTreeSet<u64>)>,
    /// By tenant, source and id: the interval of log time in which it was last seen.
    ids: BTreeMap<(String, String, String), i64>,
}

#[derive(Clone, Default)]
struct Producer {
    seen: i64,
    floor: u64,
    /// By start: length, digest, and the places that every landing refused.
    landed: BTreeMap<u64, (u32, u64, BTreeSet<u32>)>,
}

/// What a partition knows beside that.
#[derive(Clone)]
struct Standing {
    log_time: i64,
    limits: FoldLimits,
    declared: BTreeMap<String, (u64, Vec<String>)>,
    /// How it stood when it ended. What comes behind that is not handed on.
    ended: Option<Box<Standing>>,
}

/// Reads every generation in turn; `starts` are by generation.
pub(crate) fn read(logs: &[Log], journal: &Journal, starts: &[Starts]) -> Meaning {
    let mut meaning = Meaning::default();
    let first = Standing {
        log_time: domain::Timestamp::MIN.micros(),
        limits: FoldLimits::FIRST,
        declared: BTreeMap::new(),
        ended: None,
    };
    let (mut known, mut standing) = (Known::default(), first);
    for (number, log) in logs.iter().enumerate() {
        let history = journal.log(log.generation.log_id);
        let reading = Reading { log, number, history, starts: &starts[number] };
        reading.read(history.active(), known.clone(), &standing, &mut meaning);
        let Some(sealed) = history.sealed() else { continue };
        // What the next generation begins with is how this one ended, in the epoch that was in use then.
        let ended = reading.read(sealed.epoch, known, &standing, &mut Meaning::default());
        known = ended.0;
        standing.log_time = ended.1.iter().map(|one| one.log_time).max().unwrap();
        standing.limits = ended.1.last().unwrap().limits;
        for (sku, (version, names)) in ended.1.into_iter().flat_map(|one| one.declared) {
            standing.declare(&sku, version, &names);
        }
    }
    meaning
}

impl Standing {
    fn declare(&mut self, sku: &str, version: u64, names: &[String]) {
        if self.declared.get(sku).is_none_or(|(known, _)| *known < version) {
            self.declared.insert(sku.to_owned(), (version, names.to_vec()));
        }
    }
}

struct Reading<'a> {
    log: &'a Log,
    number: usize,
    history: &'a LogHistory,
    starts: &'a Starts,
}

impl Reading<'_> {
    /// Reads a generation as an epoch has it, and gives what is known where its partitions ended.
    fn read(
        &self,
        epoch: Epoch,
        mut known: Known,
        first: &Standing,
        meaning: &mut Meaning,
    ) -> (Known, Vec<Standing>) {
        let mut ended = Vec::new();
        for (partition, records) in (0..).zip(&self.log.partitions) {
            let mut judge = Judge {
                generation: &self.log.generation,
                known: &mut known,
                standing: first.clone(),
                counts: Conservation::NONE,
                segment: Segment::default(),
                place: (self.number, partition),
                meaning,
            };
            let (mut holding, mut next) = (None, 0);
            for record in records {
                let now = self.holding(epoch, partition, record.offset);
                if holding != Some(now) {
                    holding = Some(now);
                    judge.begin_epoch(self.history, now);
                }
                let starts = self.starts.get(&(partition, now));
                // A segment may begin in a hole before its first record.
                if starts.is_some_and(|all| all.range(next..=record.offset).next().is_some()) {
                    judge.segment = Segment::default();
                }
                next = record.offset + 1;
                let believed = self.believed(partition, now, record);
                judge.record(record, believed);
            }
            ended.extend(judge.standing.ended.map(|ended| *ended));
        }
        (known, ended)
    }

    /// The epoch that an offset is judged in: the wanted one from where it begins, and below that its base.
    fn holding(&self, mut epoch: Epoch, partition: u16, offset: u64) -> Epoch {
        while let Some(opened) = self.history.opened(epoch)
            && offset < opened.starts[usize::from(partition)].0
        {
            epoch = opened.base;
        }
        epoch
    }

    /// When a record reached the log: as the log says, unless an operator knew better.
    fn believed(&self, partition: u16, epoch: Epoch, record: &Record) -> i64 {
        let said = self.history.rebases(epoch, Partition(partition)).rev();
        let mut about = said.filter(|one| one.from.0 <= record.offset && record.offset < one.to.0);
        let ahead = about.next().map_or(0, |one| one.ahead.as_micros() as i64);
        record.appended_at - ahead
    }
}

/// What limits count within a segment.
#[derive(Default)]
struct Segment {
    resources: BTreeSet<Resource>,
    values: BTreeMap<(String, String, String), BTreeSet<String>>,
}

struct Judge<'a> {
    generation: &'a Generation,
    known: &'a mut Known,
    standing: Standing,
    counts: Conservation,
    segment: Segment,
    place: (usize, u16),
    meaning: &'a mut Meaning,
}

/// What a batch's identity says about its pulses.
enum Batch {
    Places(BTreeSet<u32>),
    ByRow((String, String)),
    ById,
    Dead(DeadLetterReason),
}

enum Verdict {
    Counts,
    Duplicate,
    Dead(DeadLetterReason),
}

impl Judge<'_> {
    fn begin_epoch(&mut self, history: &LogHistory, epoch: Epoch) {
        for declared in history.opened(epoch).iter().flat_map(|opened| &opened.declared) {
            let mut names = declared.dimensions.clone();
            names.sort();
            self.standing.declare(&declared.product_sku, declared.version, &names);
        }
    }

    /// Interval of log time, of the segment span's length, that is now.
    fn interval(&self) -> i64 {
        self.standing.log_time.div_euclid(self.generation.segment_span.as_micros() as i64).max(0)
    }

    /// Whether something that was last seen in that interval is still remembered.
    fn remembers(&self, seen: i64) -> bool {
        let span = self.generation.segment_span.as_micros();
        let horizon = (self.generation.horizon.as_micros() / span) as i64;
        seen >= (self.interval() - horizon).max(0)
    }

    fn record(&mut self, record: &Record, believed: i64) {
        self.standing.log_time = self.standing.log_time.max(believed);
        let ends = match self.decode(&record.body) {
            None => {
                self.counts.read += 1;
                self.bury(DeadLetterReason::Undecodable, "", None);
                false
            }
            Some(decoded) => self.decoded(&decoded),
        };
        let step = Step {
            offset: record.offset,
            log_time: self.standing.log_time,
            counts: self.counts,
            ends,
            limits: self.standing.limits,
        };
        self.meaning.steps.entry(self.place).or_default().push(step);
    }

    fn decode(&self, body: &[u8]) -> Option<v1::LogRecord> {
        let decoded = v1::LogRecord::decode(body).ok()?;
        let envelope = decoded.envelope.as_ref()?;
        let is_ours = envelope.log_id == self.generation.log_id.0;
        (is_ours && envelope.pulses as usize == decoded.pulses.len()).then_some(decoded)
    }

    fn decoded(&mut self, decoded: &v1::LogRecord) -> bool {
        let envelope = decoded.envelope.as_ref().unwrap();
        if let Some(kind) = envelope.control.as_ref().and_then(|control| control.kind.as_ref()) {
            self.counts.read += 1;
            self.counts.control += 1;
            return self.control(kind);
        }
        let mut pulses = decoded.pulses.iter();
        for source in &envelope.sources {
            let batch = self.land(source);
            for place in (0..source.sent).filter(|place| !source.refused.contains(place)) {
                self.pulse(source, place, &batch, pulses.next().unwrap());
            }
        }
        false
    }

    /// Gives whether it ends its segment.
    fn control(&mut self, kind: &v1::control::Kind) -> bool {
        use v1::control::Kind;
        match kind {
            Kind::Boundary(_) => return true,
            Kind::Seal(_) => {
                if self.standing.ended.is_none() {
                    self.standing.ended = Some(Box::new(self.standing.clone()));
                }
                return true;
            }
            Kind::DeclareDimensions(declare) => {
                let v1::DeclareDimensions { product_sku, dimensions, version } = declare;
                self.standing.declare(product_sku, *version, dimensions);
            }
            Kind::SetLimits(set) => {
                self.standing.limits = FoldLimits {
                    segment_bytes: set.segment_bytes.max(FoldLimits::SEGMENT_BYTES_MIN),
                    state_bytes: set.state_bytes,
                    keys_per_tenant: set.keys_per_tenant.max(1),
                    values_per_dimension: set.values_per_dimension.max(1),
                    // These two are no part of the model: the first changes no verdict, and the second
                    // is never reached here.
                    ..FoldLimits::FIRST
                };
            }
        }
        false
    }

    fn land(&mut self, source: &v1::SourceBatch) -> Batch {
        if self.standing.ended.is_some() {
            return Batch::Dead(DeadLetterReason::AfterSeal);
        }
        if let Some(backfill) = &source.backfill {
            let key = (source.identity_scope().to_owned(), backfill.name.clone());
            let new = || (backfill.content_digest.clone(), BTreeSet::new());
            let known = self.known.backfills.entry(key.clone()).or_insert_with(new);
            let is_same = known.0 == backfill.content_digest;
            return match is_same {
                true => Batch::ByRow(key),
                false => Batch::Dead(DeadLetterReason::BackfillReused),
            };
        }
        if source.producer_id.is_empty() { Batch::ById } else { self.land_numbered(source) }
    }

    /// The 256 batches with the greatest start are remembered, and how far those before them reached.
    fn land_numbered(&mut self, source: &v1::SourceBatch) -> Batch {
        let key = (source.identity_scope().to_owned(), source.producer_id.clone());
        let is_known = self.known.producers.get(&key).is_some_and(|one| self.remembers(one.seen));
        let interval = self.interval();
        let producer = self.known.producers.entry(key).or_default();
        if !is_known {
            *producer = Producer::default();
        }
        producer.seen = interval;
        let (start, end) = (source.first_sequence, source.first_sequence + u64::from(source.sent));
        let refused: BTreeSet<u32> = source.refused.iter().copied().collect();
        if let Some((length, digest, refused_always)) = producer.landed.get_mut(&start)
            && (*length, *digest) == (source.sent, source.digest)
        {
            let new = refused_always.difference(&refused).copied().collect();
            *refused_always = refused_always.intersection(&refused).copied().collect();
            return Batch::Places(new);
        }
        let mut others = producer.landed.iter();
        let overlaps = others.any(|(s, (l, ..))| start < s + u64::from(*l) && *s < end);
        if overlaps || start < producer.floor {
            return Batch::Dead(DeadLetterReason::SequenceReused);
        }
        producer.landed.insert(start, (source.sent, source.digest, refused));
        if producer.landed.len() > 256 {
            let (start, (length, ..)) = producer.landed.pop_first().unwrap();
            producer.floor = producer.floor.max(start + u64::from(length));
        }
        Batch::Places((0..source.sent).collect())
    }

    fn pulse(&mut self, source: &v1::SourceBatch, place: u32, batch: &Batch, pulse: &v1::Pulse) {
        self.counts.read += 1;
        let (unscaled, scale) = pulse.used_amount.map_or((0, 0), |a| (a.unscaled, a.scale));
        let number = unscaled.unsigned_abs();
        let tenant = if pulse.tenant.is_empty() { &source.scope } else { &pulse.tenant };
        let time = pulse.time.or(source.received_at).unwrap();
        let time = time.seconds * 1_000_000 + i64::from(time.nanos / 1_000);
        let resource = self.resource(tenant, pulse);
        let verdict = match self.judge(source, place, batch, pulse, (tenant, time)) {
            Verdict::Counts if !self.admits(&resource) => {
                Verdict::Dead(DeadLetterReason::TooManyKeys)
            }
            verdict => verdict,
        };
        match verdict {
            Verdict::Counts => {
                self.counts.accepted += 1;
                self.meaning.pulses.entry(number).or_default().counted += 1;
                let window = self.generation.window.duration().as_micros() as i64;
                let start = time - time.rem_euclid(window);
                let total = self.meaning.totals.entry((resource, start)).or_default();
                let amount = i128::from(unscaled) * 10i128.pow(18 - scale);
                *total = (total.0 + 1, total.1 + amount);
            }
            Verdict::Duplicate => {
                self.counts.duplicate += 1;
                self.meaning.pulses.entry(number).or_default().duplicates += 1;
            }
            Verdict::Dead(reason) => self.bury(reason, tenant, Some(number)),
        }
    }

    /// The order is the law: duplicate by number or row, too late or in the future, duplicate by id.
    fn judge(
        &mut self,
        source: &v1::SourceBatch,
        place: u32,
        batch: &Batch,
        pulse: &v1::Pulse,
        (tenant, time): (&str, i64),
    ) -> Verdict {
        match batch {
            Batch::Dead(reason) => return Verdict::Dead(*reason),
            Batch::Places(new) if !new.contains(&place) => return Verdict::Duplicate,
            Batch::ByRow(key) => {
                let rows = &mut self.known.backfills.get_mut(key).unwrap().1;
                let is_new = rows.insert(source.first_sequence + u64::from(place));
                return if is_new { Verdict::Counts } else { Verdict::Duplicate };
            }
            Batch::Places(_) | Batch::ById => {}
        }
        let id = (tenant.to_owned(), pulse.source.clone(), pulse.id.clone());
        let has_id = matches!(batch, Batch::ById) && !pulse.id.is_empty();
        let seen = self.known.ids.get(&id).filter(|_| has_id);
        let is_known = seen.is_some_and(|seen| self.remembers(*seen));
        let Generation { lateness, future_tolerance, .. } = self.generation;
        let now = self.standing.log_time;
        let cause = if time < now - lateness.as_micros() as i64 {
            Some(DeadLetterReason::TooLate)
        } else if time > now + future_tolerance.as_micros() as i64 {
            Some(DeadLetterReason::InTheFuture)
        } else {
            None
        };
        if let Some(cause) = cause {
            return if is_known { Verdict::Duplicate } else { Verdict::Dead(cause) };
        }
        if has_id {
            let interval = self.interval();
            self.known.ids.insert(id, interval);
        }
        if is_known { Verdict::Duplicate } else { Verdict::Counts }
    }

    fn resource(&self, tenant: &str, pulse: &v1::Pulse) -> Resource {
        let names = self.standing.declared.get(&pulse.product_sku);
        let names = names.map_or(&[][..], |(_, names)| names);
        let pairs = names.iter().filter_map(|name| Some((name, pulse.properties.get(name)?)));
        let dimensions = Dimensions::from_pairs(pairs.map(|(n, v)| (n.as_str(), v.as_str())));
        let (sku, unit) = (pulse.product_sku.clone(), pulse.use_unity.clone());
        (tenant.to_owned(), sku, unit, dimensions.to_string())
    }

    /// Takes a resource into the segment, if limits let it in.
    fn admits(&mut self, resource: &Resource) -> bool {
        let Segment { resources, values } = &mut self.segment;
        if resources.contains(resource) {
            return true;
        }
        let (tenant, sku, _, dimensions) = resource;
        let of_tenant = resources.iter().filter(|other| other.0 == *tenant).count();
        let limits = self.standing.limits;
        let pairs = Dimensions::from_canonical(dimensions).unwrap().pairs();
        let place = |name: &String| (tenant.clone(), sku.clone(), name.clone());
        let is_full = pairs.iter().any(|(name, value)| {
            let known = values.get(&place(name));
            known.is_some_and(|all| {
                !all.contains(value) && all.len() >= limits.values_per_dimension as usize
            })
        });
        if is_full || of_tenant >= limits.keys_per_tenant as usize {
            return false;
        }
        resources.insert(resource.clone());
        for (name, value) in pairs {
            values.entry(place(&name)).or_default().insert(value);
        }
        true
    }

    fn bury(&mut self, reason: DeadLetterReason, tenant: &str, number: Option<u64>) {
        match reason {
            DeadLetterReason::TooLate => self.counts.late += 1,
            _ => self.counts.dead_lettered += 1,
        }
        let key = (self.place.0, self.place.1, reason, tenant.to_owned());
        *self.meaning.letters.entry(key).or_default() += 1;
        if let Some(number) = number {
            self.meaning.pulses.entry(number).or_default().dead.insert(reason);
        }
    }
}
