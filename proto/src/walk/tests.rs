//! The walk against prost, over arbitrary and over nearly right bytes.

use std::collections::HashMap;

use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::v1;

/// What prost would make of a walked pulse; `None` where a text is not UTF-8.
fn owned(wire: &PulseWire<'_>) -> Option<v1::Pulse> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let mut properties = HashMap::new();
    for (name, value) in wire.properties.iter() {
        properties.insert(text(name)?, text(value)?);
    }
    Some(v1::Pulse {
        tenant: text(wire.tenant)?,
        product_sku: text(wire.product_sku)?,
        use_unity: text(wire.use_unity)?,
        used_amount: wire.used_amount.map(|(unscaled, scale)| v1::Decimal { unscaled, scale }),
        time: wire.time.map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos }),
        id: text(wire.id)?,
        source: text(wire.source)?,
        properties,
    })
}

/// Tells whether every text that occurs, replaced ones included, is UTF-8: prost checks those too.
fn agrees(bytes: &[u8]) -> Result<(), TestCaseError> {
    let walked = pulse(bytes);
    match (v1::Pulse::decode(bytes), &walked) {
        (Ok(decoded), Ok(wire)) => prop_assert_eq!(Some(decoded), owned(wire)),
        (Ok(decoded), Err(error)) => prop_assert!(false, "prost took {decoded:?}, walk: {error}"),
        (Err(error), Ok(_)) => {
            let text = error.to_string();
            prop_assert!(text.contains("UTF-8"), "the walk took what prost refused: {text}");
        }
        (Err(_), Err(_)) => {}
    }
    Ok(())
}

fn any_pulse() -> impl Strategy<Value = v1::Pulse> {
    let name = "[a-z\u{e9}]{0,3}|.{0,140}";
    let properties = proptest::collection::hash_map("[a-c]{0,2}", ".{0,4}", 0..4);
    let amount = proptest::option::of((any::<i64>(), 0u32..25));
    let time = proptest::option::of((any::<i64>(), any::<i32>()));
    (name, name, name, amount, time, ".{0,5}", ".{0,5}", properties).prop_map(
        |(tenant, product_sku, use_unity, amount, time, id, source, properties)| v1::Pulse {
            tenant,
            product_sku,
            use_unity,
            used_amount: amount.map(|(unscaled, scale)| v1::Decimal { unscaled, scale }),
            time: time.map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos }),
            id,
            source,
            properties,
        },
    )
}

/// Bytes made of plausible fields: known and unknown numbers, every wire type, nested ones.
fn nearly_right() -> impl Strategy<Value = Vec<u8>> {
    let varint = any::<u64>().prop_map(|value| {
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(value, &mut bytes);
        bytes
    });
    let leaf = (0u32..18, 0u8..8, varint, proptest::collection::vec(any::<u8>(), 0..12)).prop_map(
        |(number, wire_type, varint, bytes)| {
            let mut out = Vec::new();
            prost::encoding::encode_varint(u64::from(number << 3 | u32::from(wire_type)), &mut out);
            match wire_type {
                0 => out.extend(varint),
                2 => {
                    out.push(bytes.len() as u8);
                    out.extend(bytes);
                }
                _ => out.extend(bytes),
            }
            out
        },
    );
    let fields = proptest::collection::vec(leaf, 0..6).prop_map(|fields| fields.concat());
    let nested = (1u32..10, fields.clone()).prop_map(|(number, body)| {
        let mut out = Vec::new();
        prost::encoding::encode_varint(u64::from(number << 3 | 2), &mut out);
        prost::encoding::encode_varint(body.len() as u64, &mut out);
        out.extend(body);
        out
    });
    proptest::collection::vec(prop_oneof![fields, nested], 0..4).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_bytes_are_read_as_prost_reads_them(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        agrees(&bytes)?;
    }

    #[test]
    fn nearly_right_bytes_are_read_as_prost_reads_them(bytes in nearly_right()) {
        agrees(&bytes)?;
    }

    #[test]
    fn every_pulse_is_read_as_prost_reads_it(pulse in any_pulse(), cut in any::<prop::sample::Index>()) {
        let bytes = pulse.encode_to_vec();
        agrees(&bytes)?;
        prop_assert_eq!(owned(&super::pulse(&bytes).unwrap()), Some(pulse));
        agrees(&bytes[..cut.index(bytes.len() + 1)])?;
    }

    #[test]
    fn two_pulses_in_one_message_merge_as_prost_merges_them(one in any_pulse(), two in any_pulse()) {
        agrees(&[one.encode_to_vec(), two.encode_to_vec()].concat())?;
    }

    #[test]
    fn the_key_does_not_depend_on_the_encoding(pulse in any_pulse()) {
        let bytes = pulse.encode_to_vec();
        // The same pulse with its first field moved behind all others.
        let first = prost::encoding::encoded_len_varint(pulse.tenant.len() as u64) + 1 + pulse.tenant.len();
        let first = if pulse.tenant.is_empty() { 0 } else { first };
        let moved = [&bytes[first..], &bytes[..first]].concat();
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let straight = super::pulse(&bytes).unwrap();
        let moved = super::pulse(&moved).unwrap();
        prop_assert_eq!(straight.key(b"scope", &mut one), moved.key(b"scope", &mut two));
    }

    #[test]
    fn a_batch_is_read_as_prost_reads_it(
        pulses in proptest::collection::vec(any_pulse(), 0..5),
        number: u64, producer_id: [u8; 16], first_sequence: u64, cut in any::<prop::sample::Index>(),
        backfill in proptest::option::of((".{0,5}", proptest::collection::vec(any::<u8>(), 0..20))),
    ) {
        let message = v1::PulseBatch {
            batch: number,
            producer_id: producer_id.to_vec(),
            first_sequence,
            backfill: backfill.map(|(name, content_digest)| v1::Backfill { name, content_digest }),
            pulses,
        };
        let bytes = message.encode_to_vec();
        let wire = batch(&bytes).unwrap();
        prop_assert_eq!(wire.batch, message.batch);
        prop_assert_eq!(wire.producer_id, &message.producer_id[..]);
        prop_assert_eq!(wire.first_sequence, message.first_sequence);
        prop_assert_eq!(
            wire.backfill.map(|b| (b.name.to_vec(), b.content_digest.to_vec())),
            message.backfill.as_ref().map(|b| (b.name.clone().into_bytes(), b.content_digest.clone()))
        );
        prop_assert_eq!(wire.pulses, message.pulses.len());
        let read: Vec<_> = wire.pulses().map(|slice| owned(&pulse(slice.body).unwrap()).unwrap()).collect();
        prop_assert_eq!(read, message.pulses);
        let cut = &bytes[..cut.index(bytes.len() + 1)];
        prop_assert!(batch(cut).is_ok() || v1::PulseBatch::decode(cut).is_err());
    }
}
