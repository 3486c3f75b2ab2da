//! The walk: reads batches and pulses where they lie, without decoding them into owned messages.
//!
//! Ingest checks every field of every pulse and forwards the client's own bytes; the consumer reads
//! them again in the log. Both walk the protobuf wire format here, an order of magnitude cheaper
//! than building messages. Any legal encoding is accepted: fields in any order, repeated, unknown
//! ones, groups. A property test holds this walk against prost over arbitrary bytes.
//!
//! Text is not checked here: names are bytes until `domain::name` has seen them.

mod field;
mod pulse;

pub use field::WireError;
pub use pulse::{Properties, PulseWire, pulse};

use field::{Field, Value, next_field};

/// Field number of the pulses, the same in `PulseBatch` and `LogRecord`, so that ingest can forward
/// a stretch of fields as it stands.
pub const PULSES_FIELD: u32 = 15;

/// A `PulseBatch`, its pulses still folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchWire<'a> {
    /// The client's number for it.
    pub batch: u64,
    /// Empty when the batch is not numbered.
    pub producer_id: &'a [u8],
    /// Sequence, or row number, of the first pulse.
    pub first_sequence: u64,
    /// The backfill's name and content digest.
    pub backfill: Option<BackfillWire<'a>>,
    /// How many pulses it holds.
    pub pulses: usize,
    bytes: &'a [u8],
}

/// A `Backfill`, unchecked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackfillWire<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Digest of its whole content.
    pub content_digest: &'a [u8],
}

/// One pulse inside a batch or a record.
#[derive(Clone, Copy, Debug)]
pub struct PulseSlice<'a> {
    /// The whole field, tag and length included: what is forwarded.
    pub field: &'a [u8],
    /// The message alone.
    pub body: &'a [u8],
}

/// Reads a `PulseBatch`'s own fields and counts its pulses. One pass over the top level.
///
/// # Errors
/// See [`WireError`]; the pulses themselves are not looked into.
pub fn batch(bytes: &[u8]) -> Result<BatchWire<'_>, WireError> {
    let mut wire = BatchWire { bytes, ..BatchWire::default() };
    let mut rest = bytes;
    while !rest.is_empty() {
        let Field { number, value } = next_field(&mut rest)?;
        match number {
            1 => wire.batch = value.varint()?,
            2 => wire.producer_id = value.bytes()?,
            3 => wire.first_sequence = value.varint()?,
            4 => merge_backfill(wire.backfill.get_or_insert_default(), value.bytes()?)?,
            PULSES_FIELD => {
                value.bytes()?;
                wire.pulses += 1;
            }
            _ => {}
        }
    }
    Ok(wire)
}

fn merge_backfill<'a>(
    backfill: &mut BackfillWire<'a>,
    mut bytes: &'a [u8],
) -> Result<(), WireError> {
    while !bytes.is_empty() {
        let Field { number, value } = next_field(&mut bytes)?;
        match number {
            1 => backfill.name = value.bytes()?,
            2 => backfill.content_digest = value.bytes()?,
            _ => {}
        }
    }
    Ok(())
}

impl<'a> BatchWire<'a> {
    /// The pulses in order.
    pub fn pulses(&self) -> impl Iterator<Item = PulseSlice<'a>> + use<'a> {
        pulse_fields(self.bytes).map(|pulse| pulse.expect("`batch` has walked these bytes"))
    }
}

/// The pulses among the fields of a message. Ends after the first error.
pub(crate) fn pulse_fields<'a>(
    bytes: &'a [u8],
) -> impl Iterator<Item = Result<PulseSlice<'a>, WireError>> + use<'a> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let before = rest;
            match next_field(&mut rest) {
                Ok(Field { number: PULSES_FIELD, value: Value::Bytes(body) }) => {
                    let field = &before[..before.len() - rest.len()];
                    return Some(Ok(PulseSlice { field, body }));
                }
                Ok(_) => {}
                Err(error) => {
                    rest = &[];
                    return Some(Err(error));
                }
            }
        }
        None
    })
}

#[cfg(test)]
mod tests;
