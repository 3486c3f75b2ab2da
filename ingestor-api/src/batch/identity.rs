//! Identity: how a batch's pulses are known when they come again. At most one kind a batch.

use domain::name::check_name;
use edge::{Problem, problem::reasons};
use proto::{
    v1,
    walk::{BackfillWire, BatchWire},
};

use crate::check::TimeRule;

/// A batch's kind of identity, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity<'a> {
    /// None, or an id on each pulse.
    OfPulses,
    /// A producer numbers its pulses.
    Numbered { producer_id: &'a [u8], first_sequence: u64 },
    /// Rows of a named, finite set.
    Backfill { name: &'a str, content_digest: &'a [u8], first_row: u64 },
}

impl<'a> Identity<'a> {
    /// Reads the kind off a batch's own fields.
    pub(super) fn of(wire: &BatchWire<'a>) -> Result<Self, Problem> {
        let first_sequence = wire.first_sequence;
        let identity = match (wire.producer_id, wire.backfill) {
            ([], None) if first_sequence != 0 => {
                let message = "first_sequence without a producer_id numbers nothing; add the \
                               producer_id, or leave both out";
                return Err(producer_id_problem(message));
            }
            ([], None) => return Ok(Self::OfPulses),
            ([], Some(backfill)) => backfill_of(backfill, first_sequence)?,
            (_, Some(_)) => {
                let message = "producer_id and backfill are two identities; send only one";
                return Err(Problem::invalid("backfill", reasons::IDENTITY_AMBIGUOUS, message));
            }
            (producer_id, None) if producer_id.len() != 16 => {
                let length = producer_id.len();
                let message = format!("{length} bytes; send 16 random bytes, or leave it out");
                return Err(producer_id_problem(&message));
            }
            (producer_id, None) => Self::Numbered { producer_id, first_sequence },
        };
        // The end is kept as well, so the last sequence may not be the greatest number.
        if first_sequence.checked_add(wire.pulses as u64).is_none() {
            let message = format!("{first_sequence} and {} pulses pass 2^64 - 1", wire.pulses);
            let reason = reasons::SEQUENCE_OVERFLOW;
            return Err(Problem::invalid("first_sequence", reason, message));
        }
        Ok(identity)
    }

    /// By what, beside its scope, the whole batch is routed; `None` when each pulse goes by its
    /// tenant.
    pub(super) const fn name(&self) -> Option<&'a [u8]> {
        match self {
            Self::OfPulses => None,
            Self::Numbered { producer_id, .. } => Some(producer_id),
            Self::Backfill { name, .. } => Some(name.as_bytes()),
        }
    }

    pub(super) const fn time_rule(&self) -> TimeRule {
        match self {
            Self::OfPulses => TimeRule::RequiredWithId,
            Self::Numbered { .. } | Self::Backfill { .. } => TimeRule::Required,
        }
    }

    pub(super) const fn producer_id(&self) -> &'a [u8] {
        match self {
            Self::Numbered { producer_id, .. } => producer_id,
            _ => &[],
        }
    }

    pub(super) const fn first_sequence(&self) -> u64 {
        match self {
            Self::OfPulses => 0,
            Self::Numbered { first_sequence, .. } => *first_sequence,
            Self::Backfill { first_row, .. } => *first_row,
        }
    }

    pub(super) fn backfill(&self) -> Option<v1::Backfill> {
        match self {
            Self::Backfill { name, content_digest, .. } => Some(v1::Backfill {
                name: (*name).to_owned(),
                content_digest: content_digest.to_vec(),
            }),
            _ => None,
        }
    }
}

fn backfill_of(backfill: BackfillWire<'_>, first_row: u64) -> Result<Identity<'_>, Problem> {
    let reason = reasons::BACKFILL_INVALID;
    let name = check_name(backfill.name)
        .map_err(|error| Problem::invalid("backfill.name", reason, error.to_string()))?;
    let content_digest = backfill.content_digest;
    if !(16..=64).contains(&content_digest.len()) {
        let length = content_digest.len();
        let message = format!("{length} bytes; send a digest of the whole content, 16 to 64 bytes");
        return Err(Problem::invalid("backfill.content_digest", reason, message));
    }
    Ok(Identity::Backfill { name, content_digest, first_row })
}

fn producer_id_problem(message: &str) -> Problem {
    Problem::invalid("producer_id", reasons::PRODUCER_ID_INVALID, message)
}
