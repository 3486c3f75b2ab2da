//! Batch: from a client's message to the parts that go to the log.
//!
//! The header is read first, then every pulse is checked, hashed and routed in one pass. Nothing is
//! copied: a part is a list of stretches of the client's own bytes. A bad pulse is left out and
//! listed; its neighbours go on. A batch as a whole is refused only where its own fields make no
//! sense, or where it cannot be kept together.

mod identity;
mod route;

use std::ops::Range;

use bytes::Bytes;
use domain::{Partition, Timestamp, generation::Generation};
use edge::{Problem, problem::reasons};
use proto::{convert::wire_time, record, v1, walk};
use tonic::Code;

use crate::{
    check::{self, Fault, NegativePolicy, Rules},
    config::Limits,
    scope::Scope,
};
use identity::Identity;
use route::Router;

/// Most refused pulses that an ack lists; the interface says so.
pub(crate) const ERRORS_LISTED_MAX: usize = 100;

/// What a batch is held against and stamped with.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) generation: &'a Generation,
    pub(crate) limits: &'a Limits,
    pub(crate) negative: &'a dyn NegativePolicy,
    pub(crate) scope: &'a Scope,
    pub(crate) received_at: Timestamp,
    pub(crate) correlation_id: &'a str,
}

/// A batch that was taken apart.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// The client's number for it.
    pub(crate) batch: u64,
    /// Pulses in the parts.
    pub(crate) accepted: u32,
    /// Pulses left out.
    pub(crate) rejected: u32,
    /// Why, for the first hundred of them.
    pub(crate) errors: Vec<v1::PulseError>,
    /// What goes to the log: one part for a numbered batch or a backfill, else at least one for
    /// each partition. Empty when every pulse was refused.
    pub(crate) parts: Vec<Part>,
}

/// What one record takes of a batch.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) partition: Partition,
    pub(crate) source: v1::SourceBatch,
    /// Accepted pulses in it.
    pub(crate) pulses: u32,
    /// Where their fields stand in the message, in order; whole fields, tags included.
    pub(crate) stretches: Vec<Range<usize>>,
    /// The client's message.
    pub(crate) message: Bytes,
    /// Bytes it takes in a record, its source included.
    pub(crate) bytes: usize,
}

/// A batch that is refused whole.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The client's number for it, or 0 where it could not be read.
    pub(crate) batch: u64,
    /// Pulses that are refused with it, as far as they could be counted.
    pub(crate) pulses: usize,
    pub(crate) problem: Problem,
}

/// Takes a message apart.
///
/// # Errors
/// [`Refusal`] when nothing of it can go to the log.
pub(crate) fn plan(message: &Bytes, context: &Context<'_>) -> Result<Plan, Box<Refusal>> {
    let wire = walk::batch(message).map_err(|error| undecodable(message, error))?;
    let refuse = |problem| Box::new(Refusal { batch: wire.batch, pulses: wire.pulses, problem });
    check_count(wire.pulses, context.limits.pulses_per_batch_max).map_err(refuse)?;
    let identity = Identity::of(&wire).map_err(refuse)?;
    let mut pass = Pass {
        message,
        rules: Rules {
            scope: context.scope,
            negative: context.negative,
            time: identity.time_rule(),
        },
        pulse_bytes_max: context.limits.pulse_bytes_max,
        seed: context.generation.hash_seed,
        router: Router::new(&identity, context),
        scratch: Vec::new(),
        refused: Vec::new(),
        errors: Vec::new(),
    };
    for (index, slice) in (0u32..).zip(wire.pulses()) {
        pass.take(index, slice);
    }
    pass.finish(&wire, &identity, context).map_err(refuse)
}

/// The one pass over a batch's pulses.
struct Pass<'a> {
    message: &'a Bytes,
    rules: Rules<'a>,
    pulse_bytes_max: usize,
    seed: u64,
    router: Router,
    scratch: Vec<u8>,
    refused: Vec<u32>,
    errors: Vec<v1::PulseError>,
}

impl<'a> Pass<'a> {
    #[inline]
    fn take(&mut self, index: u32, slice: walk::PulseSlice<'a>) {
        let pulse = match walk::pulse(slice.body) {
            Ok(pulse) => pulse,
            Err(error) => {
                let digest = record::undecodable_digest(self.seed, slice.body);
                return self.refuse(index, digest, Fault::Undecodable(error));
            }
        };
        let digest = record::pulse_digest(self.seed, &pulse, &mut self.scratch);
        if slice.field.len() > self.pulse_bytes_max {
            let (bytes, bytes_max) = (slice.field.len(), self.pulse_bytes_max);
            return self.refuse(index, digest, Fault::TooLarge { bytes, bytes_max });
        }
        match check::check(&pulse, &self.rules) {
            Ok(tenant) => {
                // The walk lends slices of this very message, so the difference is the place.
                let start = slice.field.as_ptr() as usize - self.message.as_ptr() as usize;
                self.router.accept(tenant, start..start + slice.field.len(), digest);
            }
            Err(fault) => self.refuse(index, digest, fault),
        }
    }

    #[cold]
    fn refuse(&mut self, index: u32, digest: u64, fault: Fault) {
        self.router.refuse(digest);
        self.refused.push(index);
        if self.errors.len() < ERRORS_LISTED_MAX {
            self.errors.push(pulse_error(index, &fault));
        }
    }

    fn finish(
        self,
        wire: &walk::BatchWire<'_>,
        identity: &Identity<'_>,
        context: &Context<'_>,
    ) -> Result<Plan, Problem> {
        // At most `pulses_per_batch_max`, which fits.
        let rejected = u32::try_from(self.refused.len()).unwrap_or(u32::MAX);
        let source = v1::SourceBatch {
            scope: context.scope.tenant().to_owned(),
            client: context.scope.client(),
            producer_id: identity.producer_id().to_vec(),
            first_sequence: identity.first_sequence(),
            backfill: identity.backfill(),
            received_at: Some(wire_time(context.received_at)),
            correlation_id: context.correlation_id.to_owned(),
            ..v1::SourceBatch::default()
        };
        let parts = self.router.finish(self.message, &source, self.refused);
        for part in &parts {
            check_part(part, context.limits.record_bytes_max)?;
        }
        let accepted = parts.iter().map(|part| part.pulses).sum();
        Ok(Plan { batch: wire.batch, accepted, rejected, errors: self.errors, parts })
    }
}

fn check_count(pulses: usize, pulses_max: usize) -> Result<(), Problem> {
    if pulses == 0 {
        let message = "a batch needs at least one pulse";
        return Err(Problem::invalid("pulses", reasons::BATCH_EMPTY, message));
    }
    if pulses > pulses_max {
        let message = format!("{pulses} pulses; at most {pulses_max} are allowed, so split it");
        return Err(Problem::invalid("pulses", reasons::BATCH_TOO_LARGE, message));
    }
    Ok(())
}

/// A part that may not be split has to fit a record. Parts that may are made to fit.
fn check_part(part: &Part, record_bytes_max: usize) -> Result<(), Problem> {
    let bytes = part.bytes + crate::config::ENVELOPE_BYTES;
    if bytes <= record_bytes_max {
        return Ok(());
    }
    let message = format!(
        "{bytes} bytes in one record of the log; at most {record_bytes_max} are allowed, and a \
         batch with one identity is never split: send it as smaller batches"
    );
    Err(Problem::invalid("pulses", reasons::BATCH_TOO_LARGE, message))
}

fn pulse_error(index: u32, fault: &Fault) -> v1::PulseError {
    let field = match fault.field() {
        "" => format!("pulses[{index}]"),
        field => format!("pulses[{index}].{field}"),
    };
    v1::PulseError {
        index,
        code: Code::InvalidArgument.into(),
        reason: fault.reason().to_owned(),
        field,
        message: fault.to_string(),
    }
}

#[cold]
fn undecodable(message: &[u8], error: walk::WireError) -> Box<Refusal> {
    let text = format!("the message is not a pulso.v1.PulseBatch: {error}");
    let problem = Problem::new(Code::InvalidArgument, reasons::BATCH_UNDECODABLE, text);
    Box::new(Refusal { batch: number_of(message).unwrap_or(0), pulses: 0, problem })
}

/// The batch number of a damaged message, where it stands before the damage.
fn number_of(mut message: &[u8]) -> Option<u64> {
    use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
    let mut number = None;
    while let Ok((field, wire_type)) = decode_key(&mut message) {
        if (field, wire_type) == (1, WireType::Varint) {
            number = decode_varint(&mut message).ok().or(number);
        } else if skip_field(wire_type, field, &mut message, DecodeContext::default()).is_err() {
            break;
        }
    }
    number
}

#[cfg(test)]
mod tests;
