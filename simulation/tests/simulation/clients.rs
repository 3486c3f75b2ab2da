//! Clients: what they send, what they were told, and what they send again.
//!
//! Each pulse has a number of its own, which is its amount without sign, so a total says which pulses
//! it is made of. An honest client keeps the rules of docs/exactly-once.md; a careless one uses
//! numbers, ids and names twice.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use domain::Tenant;
use ingestor_api::Scope;
use prost::Message as _;
use proto::v1;
use tonic::Code;

use crate::random::Random;

/// Bounds of event time at this moment, in microseconds.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    /// What the log would stamp now.
    pub(crate) log_now: i64,
    pub(crate) lateness: i64,
    pub(crate) tolerance: i64,
}

pub(crate) struct Client {
    kind: Kind,
    pub(crate) scope: Scope,
    pub(crate) manners: Manners,
    tenants: Vec<String>,
    pub(crate) batches: Vec<Batch>,
}

/// Whether a client keeps the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    Honest,
    Careless,
}

enum Kind {
    Numbered {
        producer_id: Vec<u8>,
        next: u64,
    },
    /// Pulses by id, which are sent in other batches too.
    ById {
        source: String,
        next: u64,
        sent: Vec<(u64, v1::Pulse)>,
    },
    Backfill {
        name: String,
        rows: Vec<(u64, v1::Pulse)>,
    },
    Plain,
}

pub(crate) struct Batch {
    pub(crate) bytes: Bytes,
    /// Numbers of its pulses, in order.
    pub(crate) pulses: Vec<u64>,
    /// Whether the client has a final answer.
    pub(crate) is_answered: bool,
    /// Whether the client may send it again.
    pub(crate) is_safe: bool,
}

/// What is owed for a pulse.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owed {
    /// An ack said that it is in the log.
    pub(crate) is_acked: bool,
    pub(crate) manners: Manners,
    /// Without an identity it may count as often as it was sent.
    pub(crate) is_safe: bool,
}

/// Every pulse that was ever sent, by its number.
pub(crate) type Ledger = BTreeMap<u64, Owed>;

const SKUS: &[&str] = &["vm", "disk", "net"];
const UNITS: &[&str] = &["hour", "GiB"];
const ZONES: &[&str] = &["a", "b", "c"];

impl Client {
    pub(crate) fn new(random: &mut Random, number: usize) -> Self {
        let mut tenants: Vec<String> =
            (0..random.between(1, 3)).map(|_| format!("tenant {}", random.below(4))).collect();
        let kind = match random.below(8) {
            0..3 => {
                let producer_id = [random.next(), random.next()].map(u64::to_be_bytes).concat();
                Kind::Numbered { producer_id, next: random.below(3) }
            }
            3..5 => {
                let source = format!("source {}", random.below(2));
                Kind::ById { source: format!("{source} of {number}"), next: 0, sent: Vec::new() }
            }
            5..7 => Kind::Backfill { name: format!("backfill {number}"), rows: Vec::new() },
            _ => Kind::Plain,
        };
        let scope = if random.one_in(4) {
            tenants.truncate(1);
            let scope = Scope::of(Tenant::new(&tenants[0]).unwrap());
            // The credential says it.
            tenants[0].clear();
            scope
        } else {
            Scope::ALL
        };
        let manners = if random.one_in(4) { Manners::Careless } else { Manners::Honest };
        Self { kind, scope, manners, tenants, batches: Vec::new() }
    }

    fn pulse(&self, random: &mut Random, number: u64, times: Times) -> v1::Pulse {
        let Times { log_now, lateness, tolerance } = times;
        let time = log_now
            + match random.below(24) {
                0..2 => -lateness,
                2 => -lateness - 1,
                3 => tolerance,
                4 => tolerance + 1,
                5 => tolerance * 3,
                6 => -lateness * 2,
                7..9 => -(random.below(lateness.unsigned_abs()) as i64),
                _ => -(random.below(lateness.unsigned_abs() / 4) as i64),
            };
        let sign = if random.one_in(6) { -1 } else { 1 };
        let scale = random.below(4) as u32;
        let mut pulse = v1::Pulse {
            tenant: self.tenants[random.place(self.tenants.len())].clone(),
            product_sku: random.pick(SKUS).to_owned(),
            use_unity: random.pick(UNITS).to_owned(),
            used_amount: Some(v1::Decimal { unscaled: number as i64 * sign, scale }),
            time: Some(prost_types::Timestamp {
                seconds: time.div_euclid(1_000_000),
                nanos: (time.rem_euclid(1_000_000) * 1_000) as i32,
            }),
            ..v1::Pulse::default()
        };
        if random.one_in(3) {
            pulse.properties.insert("zone".into(), random.pick(ZONES).to_owned());
        }
        match random.below(40) {
            0 => pulse.product_sku.clear(),
            1 => pulse.used_amount = Some(v1::Decimal { unscaled: number as i64, scale: 19 }),
            2 => pulse.time = None,
            _ => {}
        }
        pulse
    }

    /// Whether it numbers its batches and may run too far ahead of those without an ack.
    pub(crate) const fn may_burst(&self) -> bool {
        matches!((&self.kind, self.manners), (Kind::Numbered { .. }, Manners::Careless))
    }

    /// Makes a new batch of so many pulses, or a careless one; gives its place.
    pub(crate) fn make(
        &mut self,
        random: &mut Random,
        ledger: &mut Ledger,
        times: Times,
        count: u64,
    ) -> usize {
        let careless = self.manners == Manners::Careless && random.one_in(3);
        let new: Vec<(u64, v1::Pulse)> = (0..count)
            .map(|place| {
                let number = ledger.len() as u64 + 1 + place;
                (number, self.pulse(random, number, times))
            })
            .collect();
        let mut batch = v1::PulseBatch { batch: self.batches.len() as u64, ..Default::default() };
        let is_safe = !matches!(self.kind, Kind::Plain);
        let pulses = match &mut self.kind {
            Kind::Numbered { producer_id, next } => {
                batch.producer_id = producer_id.clone();
                batch.first_sequence =
                    if careless { next.saturating_sub(random.between(1, 4)) } else { *next };
                *next += count + random.below(3);
                new
            }
            Kind::ById { source, next, sent } => {
                let mut pulses = Vec::new();
                for (number, mut pulse) in new {
                    let known = sent.get(random.place(sent.len())).filter(|_| random.one_in(4));
                    match known {
                        Some(known) if !careless => pulses.push(known.clone()),
                        known => {
                            pulse.source = source.clone();
                            pulse.id = known.map_or(format!("id {next}"), |(_, k)| k.id.clone());
                            *next += 1;
                            pulses.push((number, pulse.clone()));
                            sent.push((number, pulse));
                        }
                    }
                }
                pulses
            }
            Kind::Backfill { name, rows } => {
                rows.extend(new);
                let first = random.place(rows.len());
                let most = random.between(1, 8) as usize;
                let digest = if careless { [2; 16] } else { [1; 16] };
                let content_digest = digest.to_vec();
                batch.backfill = Some(v1::Backfill { name: name.clone(), content_digest });
                batch.first_sequence = first as u64;
                rows[first..].iter().take(most).cloned().collect()
            }
            Kind::Plain => new,
        };
        // Numbers that a backfill keeps for a later batch are taken, too.
        let taken = ledger.len() as u64 + 1..=ledger.len() as u64 + count;
        let owed = Owed { is_acked: false, manners: self.manners, is_safe };
        ledger.extend(taken.map(|number| (number, owed)));
        batch.pulses = pulses.iter().map(|(_, pulse)| pulse.clone()).collect();
        self.batches.push(Batch {
            bytes: batch.encode_to_vec().into(),
            pulses: pulses.into_iter().map(|(number, _)| number).collect(),
            is_answered: false,
            is_safe,
        });
        self.batches.len() - 1
    }

    /// Takes an answer; the client hears of it only if it is not lost on the way.
    pub(crate) fn answered(
        &mut self,
        ledger: &mut Ledger,
        place: usize,
        answer: Result<v1::IngestAck, edge::Problem>,
        arrival: Arrival,
    ) {
        let batch = &mut self.batches[place];
        match answer {
            Ok(ack) => {
                batch.is_answered |= arrival == Arrival::Heard;
                let refused: BTreeSet<u32> = ack.errors.iter().map(|error| error.index).collect();
                for (index, number) in (0..).zip(&batch.pulses) {
                    let owed = ledger.get_mut(number).unwrap();
                    owed.is_acked |= !refused.contains(&index);
                }
            }
            // The same again would be refused again.
            Err(problem) if problem.code == Code::InvalidArgument => batch.is_answered = true,
            Err(_) => {}
        }
    }
}

/// Whether an answer reaches its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    Heard,
    Lost,
}
