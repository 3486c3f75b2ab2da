//! Wire forms of the parts of a fold state, which a whole state and a delta share.
//!
//! Fields are only ever added; a change of meaning is a new epoch.

use domain::FoldLimits;
use prost::{
    DecodeError, Message,
    encoding::{self, DecodeContext, WireType},
};

use thiserror::Error;

use super::{
    backfills::{Backfill, BackfillKey},
    declarations::Declaration,
    producers::{LANDED_MAX, Landed, Producer, ProducerKey},
    refused::{RANGES_MAX, Refused},
};

/// Why stored state cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the stored fold state is damaged: {0}")]
pub struct StateError(String);

impl StateError {
    pub(super) fn unreadable(error: DecodeError) -> Self {
        Self(error.to_string())
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LimitsWire {
    #[prost(uint64, tag = "1")]
    pub(super) segment_bytes: u64,
    #[prost(uint64, tag = "2")]
    pub(super) state_bytes: u64,
    #[prost(uint32, tag = "3")]
    pub(super) keys_per_tenant: u32,
    #[prost(uint32, tag = "4")]
    pub(super) values_per_dimension: u32,
    #[prost(uint32, tag = "5")]
    pub(super) state_deltas: u32,
    #[prost(uint32, tag = "6")]
    pub(super) ranges_per_backfill: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeclarationWire {
    #[prost(string, tag = "1")]
    pub(super) product_sku: String,
    #[prost(uint64, tag = "2")]
    pub(super) version: u64,
    #[prost(string, repeated, tag = "3")]
    pub(super) dimensions: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ProducerWire {
    #[prost(string, tag = "1")]
    pub(super) scope: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) producer_id: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub(super) floor: u64,
    #[prost(uint32, tag = "4")]
    pub(super) bucket: u32,
    #[prost(message, repeated, tag = "5")]
    pub(super) landed: Vec<LandedWire>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LandedWire {
    #[prost(uint64, tag = "1")]
    pub(super) start: u64,
    #[prost(uint32, tag = "2")]
    pub(super) length: u32,
    #[prost(fixed64, tag = "3")]
    pub(super) digest: u64,
    /// Starts and ends of ranges in turn.
    #[prost(uint32, repeated, tag = "4")]
    pub(super) refused: Vec<u32>,
    #[prost(fixed64, optional, tag = "5")]
    pub(super) scattered: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BackfillWire {
    #[prost(string, tag = "1")]
    pub(super) scope: String,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) content_digest: Vec<u8>,
    /// Starts and ends in turn.
    #[prost(uint64, repeated, tag = "4")]
    pub(super) rows: Vec<u64>,
}

/// Reads a number that is the value of a field.
pub(super) fn number(wire_type: WireType, bytes: &mut &[u8]) -> Result<u32, StateError> {
    let mut number = 0;
    encoding::uint32::merge(wire_type, &mut number, bytes, DecodeContext::default())
        .map_err(StateError::unreadable)?;
    Ok(number)
}

/// Reads a message that is the value of a field.
pub(super) fn part<M: Message + Default>(
    wire_type: WireType,
    bytes: &mut &[u8],
) -> Result<M, StateError> {
    let mut part = M::default();
    encoding::message::merge(wire_type, &mut part, bytes, DecodeContext::default())
        .map_err(StateError::unreadable)?;
    Ok(part)
}

pub(super) fn damaged(what: &str) -> StateError {
    StateError(what.to_owned())
}

/// Half-open ranges out of their starts and ends in turn: none is empty, and none touches the next.
fn ranges<T: Copy + Ord>(ends: &[T], what: &str) -> Result<Vec<(T, T)>, StateError> {
    let (pairs, rest) = ends.as_chunks::<2>();
    if rest.is_empty() && ends.is_sorted_by(|one, next| one < next) {
        Ok(pairs.iter().map(|[start, end]| (*start, *end)).collect())
    } else {
        Err(damaged(&format!("{what} are no ranges in order")))
    }
}

impl DeclarationWire {
    pub(super) fn of(sku: &str, declaration: &Declaration) -> Self {
        let Declaration { version, dimensions } = declaration.clone();
        Self { product_sku: sku.to_owned(), version, dimensions }
    }

    pub(super) fn take(self) -> Result<(String, Declaration), StateError> {
        let Self { product_sku, version, dimensions } = self;
        if !dimensions.is_sorted_by(|one, next| one < next) {
            return Err(damaged("declared dimensions are not in order"));
        }
        Ok((product_sku, Declaration { version, dimensions }))
    }
}

impl ProducerWire {
    pub(super) fn take(self) -> Result<(ProducerKey, Producer), StateError> {
        let Self { scope, producer_id, floor, bucket, landed } = self;
        let producer_id = <[u8; 16]>::try_from(&producer_id[..])
            .map_err(|_| damaged("a producer id is not 16 bytes"))?;
        // Not collected in the place of what was read, which is larger and has room for more.
        let mut list = Vec::with_capacity(landed.len());
        for batch in landed {
            list.push(batch.take()?);
        }
        let landed = list;
        if !landed.is_sorted_by(|one, next| one.end() <= next.start) || landed.len() > LANDED_MAX {
            return Err(damaged("landed batches are too many, or overlap"));
        }
        Ok((ProducerKey { scope, producer_id }, Producer { landed, floor, bucket, mention: None }))
    }
}

impl BackfillWire {
    pub(super) fn take(self) -> Result<(BackfillKey, Backfill), StateError> {
        let Self { scope, name, content_digest, rows } = self;
        let rows = ranges(&rows, "rows of a backfill")?.into_iter().collect();
        Ok((BackfillKey { scope, name }, Backfill { content_digest, rows, mention: None }))
    }
}

impl From<&Landed> for LandedWire {
    fn from(landed: &Landed) -> Self {
        let Landed { start, length, digest, refused } = landed;
        let (refused, scattered) = match refused {
            Refused::Ranges(ranges) => {
                (ranges.iter().flat_map(|(start, end)| [*start, *end]).collect(), None)
            }
            Refused::Scattered(hash) => (Vec::new(), Some(*hash)),
        };
        Self { start: *start, length: *length, digest: *digest, refused, scattered }
    }
}

impl LandedWire {
    /// Also because what was refused is listed place by place when the batch comes again: a range of
    /// four billion would take the memory of as many.
    pub(super) fn take(self) -> Result<Landed, StateError> {
        let Self { start, length, digest, refused, scattered } = self;
        let refused = ranges(&refused, "refused places")?;
        if refused.last().is_some_and(|(_, end)| *end > length) || refused.len() > RANGES_MAX {
            return Err(damaged("refused places are too many, or beyond their batch"));
        }
        let refused = scattered.map_or_else(|| Refused::Ranges(refused.into()), Refused::Scattered);
        Ok(Landed { start, length, digest, refused })
    }
}

impl From<FoldLimits> for LimitsWire {
    fn from(limits: FoldLimits) -> Self {
        let FoldLimits {
            segment_bytes,
            state_bytes,
            keys_per_tenant,
            values_per_dimension,
            state_deltas,
            ranges_per_backfill,
        } = limits;
        Self {
            segment_bytes,
            state_bytes,
            keys_per_tenant,
            values_per_dimension,
            state_deltas,
            ranges_per_backfill,
        }
    }
}

impl LimitsWire {
    pub(super) fn take(self) -> Result<FoldLimits, StateError> {
        let Self {
            segment_bytes,
            state_bytes,
            keys_per_tenant,
            values_per_dimension,
            state_deltas,
            ranges_per_backfill,
        } = self;
        let limits = FoldLimits {
            segment_bytes,
            state_bytes,
            keys_per_tenant,
            values_per_dimension,
            state_deltas,
            ranges_per_backfill,
        };
        let are_legal = limits == limits.at_least_one();
        if are_legal { Ok(limits) } else { Err(damaged("a limit is below its least value")) }
    }
}
