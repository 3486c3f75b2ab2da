//! Records of the log: an envelope that only ingest writes, then the pulses as their clients
//! encoded them.

use domain::{FoldLimits, LogId, generation::Generation, hash};
use prost::Message;
use thiserror::Error;

use crate::{
    v1,
    walk::{PulseSlice, PulseWire, pulse_fields},
};

/// Version of the envelope that this program writes, and the greatest it reads.
pub const ENVELOPE_VERSION: u32 = 1;

/// Most pulses in one record; places of dead letters are counted within it.
pub const RECORD_PULSES_MAX: usize = u32::MAX as usize;

const ENVELOPE_TAG: u8 = 0x0a;

impl v1::SourceBatch {
    /// To whom producer ids and backfill names belong, and with which they are routed: the client, or the
    /// credential's tenant where there is none.
    #[must_use]
    pub fn identity_scope(&self) -> &str {
        if self.client.is_empty() { &self.scope } else { &self.client }
    }
}

/// Builds a record from its sources and the fields of their accepted pulses.
///
/// `pulses` are stretches of whole `pulses` fields, tags included, in the order of the sources,
/// whose accepted pulses number `count` in all.
#[must_use]
pub fn encode<'a>(
    generation: &Generation,
    sources: Vec<v1::SourceBatch>,
    count: u32,
    pulses: impl Iterator<Item = &'a [u8]> + Clone,
) -> Vec<u8> {
    let envelope = v1::Envelope {
        version: ENVELOPE_VERSION,
        log_id: generation.log_id.0.to_vec(),
        pulses: count,
        sources,
        control: None,
    };
    let bytes: usize = pulses.clone().map(<[u8]>::len).sum();
    let mut record = encode_envelope(&envelope, bytes);
    pulses.for_each(|stretch| record.extend_from_slice(stretch));
    record
}

/// Builds a control record.
#[must_use]
pub fn encode_control(generation: &Generation, control: &v1::Control) -> Vec<u8> {
    let envelope = v1::Envelope {
        version: ENVELOPE_VERSION,
        log_id: generation.log_id.0.to_vec(),
        control: Some(control.clone()),
        ..v1::Envelope::default()
    };
    encode_envelope(&envelope, 0)
}

/// Builds a BOUNDARY record, which ends the segment that holds it.
#[must_use]
pub fn encode_boundary(generation: &Generation, asked_by: &str) -> Vec<u8> {
    let boundary = v1::Boundary { asked_by: asked_by.to_owned() };
    encode_control(generation, &v1::Control { kind: Some(v1::control::Kind::Boundary(boundary)) })
}

/// Builds a SEAL record, which ends its partition.
#[must_use]
pub fn encode_seal(generation: &Generation, asked_by: &str) -> Vec<u8> {
    let seal = v1::Seal { asked_by: asked_by.to_owned() };
    encode_control(generation, &v1::Control { kind: Some(v1::control::Kind::Seal(seal)) })
}

/// Builds a SET_LIMITS record, behind which the partition keeps at most this much.
#[must_use]
pub fn encode_limits(generation: &Generation, limits: FoldLimits, asked_by: &str) -> Vec<u8> {
    let set_limits = v1::SetLimits {
        segment_bytes: limits.segment_bytes,
        state_bytes: limits.state_bytes,
        keys_per_tenant: limits.keys_per_tenant,
        values_per_dimension: limits.values_per_dimension,
        asked_by: asked_by.to_owned(),
        state_deltas: limits.state_deltas,
        ranges_per_backfill: limits.ranges_per_backfill,
    };
    let kind = Some(v1::control::Kind::SetLimits(set_limits));
    encode_control(generation, &v1::Control { kind })
}

/// What a SET_LIMITS record sets.
#[must_use]
pub fn limits(set: &v1::SetLimits) -> FoldLimits {
    let limits = FoldLimits {
        segment_bytes: set.segment_bytes,
        state_bytes: set.state_bytes,
        keys_per_tenant: set.keys_per_tenant,
        values_per_dimension: set.values_per_dimension,
        state_deltas: set.state_deltas,
        ranges_per_backfill: set.ranges_per_backfill,
    };
    limits.at_least_one()
}

fn encode_envelope(envelope: &v1::Envelope, room: usize) -> Vec<u8> {
    let length = envelope.encoded_len();
    let mut record = Vec::with_capacity(1 + 10 + length + room);
    record.push(ENVELOPE_TAG);
    prost::encoding::encode_varint(length as u64, &mut record);
    envelope.encode(&mut record).expect("a Vec grows");
    record
}

/// A record, opened.
#[derive(Debug)]
pub struct RecordView<'a> {
    /// Its envelope; the accepted counts of its sources add up to its pulses.
    pub envelope: v1::Envelope,
    fields: &'a [u8],
}

/// Why a record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Not a record of this log: a dead letter.
    #[error("not a record of this log: {0}")]
    Undecodable(String),
    /// Written by a newer program: the partition stops until this one is brought up to date.
    #[error(
        "record format {0} is newer than {ENVELOPE_VERSION}, which this program reads: upgrade the consumer"
    )]
    Newer(u32),
}

/// Opens a record and checks its frame: version, log, and that its counts agree.
///
/// # Errors
/// See [`RecordError`].
pub fn open<'a>(log_id: LogId, body: &'a [u8]) -> Result<RecordView<'a>, RecordError> {
    let undecodable = |message: String| RecordError::Undecodable(message);
    let mut rest = body;
    if rest.split_off_first() != Some(&ENVELOPE_TAG) {
        return Err(undecodable("it does not start with an envelope".into()));
    }
    let length = prost::encoding::decode_varint(&mut rest)
        .ok()
        .and_then(|length| usize::try_from(length).ok())
        .filter(|length| *length <= rest.len())
        .ok_or_else(|| undecodable("its envelope is cut short".into()))?;
    let (envelope, fields) = rest.split_at(length);
    let envelope = v1::Envelope::decode(envelope)
        .map_err(|error| undecodable(format!("its envelope does not parse: {error}")))?;
    if envelope.version > ENVELOPE_VERSION {
        return Err(RecordError::Newer(envelope.version));
    }
    if envelope.log_id != log_id.0 {
        return Err(undecodable("it was written for another log generation".into()));
    }
    let view = RecordView { envelope, fields };
    view.check_counts().map_err(undecodable)?;
    Ok(view)
}

impl<'a> RecordView<'a> {
    /// The pulses in order.
    pub fn pulses(&self) -> impl Iterator<Item = PulseSlice<'a>> + use<'a> {
        pulse_fields(self.fields).map(|pulse| pulse.expect("`open` has walked these bytes"))
    }

    fn check_counts(&self) -> Result<(), String> {
        let mut found = 0u64;
        for pulse in pulse_fields(self.fields) {
            pulse.map_err(|error| format!("its pulses do not parse: {error}"))?;
            found += 1;
        }
        let mut named = 0u64;
        for source in &self.envelope.sources {
            named += u64::from(accepted(source).ok_or("a source refuses pulses it does not have")?);
        }
        if found != named || found != u64::from(self.envelope.pulses) {
            return Err(format!(
                "it holds {found} pulses, but its sources name {named} and its envelope {}",
                self.envelope.pulses
            ));
        }
        // The fold obeys a control record and looks at nothing else in it, so they would be lost.
        if found > 0 && self.envelope.control.is_some() {
            return Err(format!("it is a control record and holds {found} pulses"));
        }
        Ok(())
    }
}

/// Pulses of a source that are in the record; `None` where its refused places are not ascending
/// places of the batch.
#[must_use]
pub fn accepted(source: &v1::SourceBatch) -> Option<u32> {
    let ascending = source.refused.is_sorted_by(|one, next| one < next);
    let inside = source.refused.last().is_none_or(|last| *last < source.sent);
    let refused = u32::try_from(source.refused.len()).ok()?;
    if ascending && inside { source.sent.checked_sub(refused) } else { None }
}

/// Hash of what a pulse says: tenant, SKU, unit, amount and time, as sent. Properties are left out,
/// because the order of a map is not stable. `scratch` serves encodings that are not canonical.
#[inline]
#[must_use]
pub fn pulse_digest(seed: u64, pulse: &PulseWire<'_>, scratch: &mut Vec<u8>) -> u64 {
    let key = hash::bytes64(seed, pulse.key(&[], scratch));
    let (unscaled, scale) = pulse.used_amount.unwrap_or_default();
    let (seconds, nanos) = pulse.time.unwrap_or_default();
    // Equal amounts written with other scales are the same pulse.
    let amount = domain::Quantity::from_decimal(unscaled, scale)
        .map_or(i128::from(unscaled) ^ (i128::from(scale) << 64), domain::Quantity::raw);
    let amount = mix(key ^ amount as u64, (amount >> 64) as u64 ^ 0x9e37_79b9_7f4a_7c15);
    mix(amount ^ seconds as u64, u64::from(nanos as u32) ^ 0xd6e8_feb8_6659_fd93)
}

/// Hash of a pulse that does not parse: of its bytes.
#[must_use]
pub fn undecodable_digest(seed: u64, body: &[u8]) -> u64 {
    hash::bytes64(!seed, body)
}

/// Folds the 128-bit product of two words, the mixing step of wyhash.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0xa076_1d64_78bd_642f) * u128::from(b ^ 0xe703_7ed1_a0b4_28db);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation() -> Generation {
        Generation::new(LogId([3; 16]), 4, 99)
    }

    fn pulse_field(tenant: &str) -> Vec<u8> {
        let pulse = v1::Pulse { tenant: tenant.into(), ..v1::Pulse::default() };
        v1::LogRecord { envelope: None, pulses: vec![pulse] }.encode_to_vec()
    }

    #[test]
    fn a_record_is_plain_protobuf_and_opens_again() {
        let fields = [pulse_field("a"), pulse_field("b")];
        let source = v1::SourceBatch { sent: 3, refused: vec![1], ..v1::SourceBatch::default() };
        let bytes = encode(&generation(), vec![source], 2, fields.iter().map(Vec::as_slice));
        let plain = v1::LogRecord::decode(&bytes[..]).unwrap();
        assert_eq!(plain.pulses.iter().map(|p| p.tenant.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let view = open(generation().log_id, &bytes).unwrap();
        assert_eq!(Some(view.envelope.clone()), plain.envelope);
        assert_eq!(view.pulses().map(|p| p.field.to_vec()).collect::<Vec<_>>(), fields);
        for cut in 0..bytes.len() {
            let error = open(generation().log_id, &bytes[..cut]).unwrap_err();
            assert!(matches!(error, RecordError::Undecodable(_)), "{cut}: {error}");
        }
        assert!(open(LogId([4; 16]), &bytes).is_err());
    }

    #[test]
    fn a_newer_record_stops_and_is_no_dead_letter() {
        let envelope = v1::Envelope {
            version: 2,
            log_id: generation().log_id.0.to_vec(),
            ..v1::Envelope::default()
        };
        let bytes = encode_envelope(&envelope, 0);
        assert_eq!(open(generation().log_id, &bytes).unwrap_err(), RecordError::Newer(2));
    }

    #[test]
    fn a_control_record_that_holds_pulses_does_not_lose_them() {
        let boundary = v1::control::Kind::Boundary(v1::Boundary::default());
        let envelope = v1::Envelope {
            version: ENVELOPE_VERSION,
            log_id: generation().log_id.0.to_vec(),
            pulses: 1,
            sources: vec![v1::SourceBatch { sent: 1, ..v1::SourceBatch::default() }],
            control: Some(v1::Control { kind: Some(boundary) }),
        };
        let mut bytes = encode_envelope(&envelope, 0);
        bytes.extend(pulse_field("a"));
        let error = open(generation().log_id, &bytes).unwrap_err();
        let words = "it is a control record and holds 1 pulses".to_owned();
        assert_eq!(error, RecordError::Undecodable(words));
    }

    #[test]
    fn refused_places_must_be_ascending_places_of_the_batch() {
        for (sent, refused, expected) in [
            (3, vec![], Some(3)),
            (3, vec![0, 2], Some(1)),
            (3, vec![3], None),
            (3, vec![1, 1], None),
            (3, vec![2, 1], None),
        ] {
            let source = v1::SourceBatch { sent, refused, ..v1::SourceBatch::default() };
            assert_eq!(accepted(&source), expected, "{source:?}");
        }
    }

    #[test]
    fn the_digest_sees_every_field_and_no_encoding() {
        let base = v1::Pulse {
            tenant: "t".into(),
            product_sku: "s".into(),
            use_unity: "u".into(),
            used_amount: Some(v1::Decimal { unscaled: 15, scale: 1 }),
            time: Some(prost_types::Timestamp { seconds: 7, nanos: 8 }),
            ..v1::Pulse::default()
        };
        let digest = |pulse: &v1::Pulse| {
            let bytes = pulse.encode_to_vec();
            pulse_digest(1, &crate::walk::pulse(&bytes).unwrap(), &mut Vec::new())
        };
        let mut other_scale = base.clone();
        other_scale.used_amount = Some(v1::Decimal { unscaled: 1_500, scale: 3 });
        assert_eq!(digest(&other_scale), digest(&base));
        let changes: [fn(&mut v1::Pulse); 6] = [
            |p| p.tenant = "x".into(),
            |p| p.product_sku = "x".into(),
            |p| p.use_unity = "x".into(),
            |p| p.used_amount = Some(v1::Decimal { unscaled: -15, scale: 1 }),
            |p| p.time = Some(prost_types::Timestamp { seconds: 8, nanos: 8 }),
            |p| p.time = Some(prost_types::Timestamp { seconds: 7, nanos: 9 }),
        ];
        for (i, change) in changes.iter().enumerate() {
            let mut pulse = base.clone();
            change(&mut pulse);
            assert_ne!(digest(&pulse), digest(&base), "change {i}");
        }
    }
}
