//! The wire walk against prost, which decodes the same bytes another way.

use std::collections::HashMap;

use prost::Message;
use proto::{
    v1,
    walk::{self, BatchWire, PulseWire},
};

/// A pulse is read as prost reads it.
///
/// The walk looks at no text, so where prost refuses a text, the walk may take the pulse; then it hands
/// the bad text on, and who reads names refuses it.
pub(super) fn pulse(bytes: &[u8]) {
    match (v1::Pulse::decode(bytes), walk::pulse(bytes)) {
        (Ok(decoded), Ok(wire)) => {
            assert_eq!(owned(&wire), Some(decoded));
            check_key(&wire);
        }
        (Ok(decoded), Err(error)) => panic!("prost took {decoded:?}, the walk says: {error}"),
        (Err(error), Ok(wire)) => {
            assert_eq!(owned(&wire), None, "the walk took what prost refused: {error}");
        }
        (Err(_), Err(_)) => {}
    }
}

/// What prost would make of a walked pulse; `None` where a text is not UTF-8.
fn owned(wire: &PulseWire<'_>) -> Option<v1::Pulse> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let mut properties = HashMap::new();
    for (name, value) in wire.properties.iter() {
        properties.insert(text(name)?, text(value)?);
    }
    assert_eq!(wire.properties.iter().count(), wire.properties.len());
    for (name, value) in &properties {
        assert_eq!(wire.properties.get(name.as_bytes()), Some(value.as_bytes()));
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

/// The key is the same for every encoding of the pulse.
fn check_key(wire: &PulseWire<'_>) {
    let shortest = owned(wire).expect("it was compared with prost's").encode_to_vec();
    let again = walk::pulse(&shortest).expect("prost writes what the walk reads");
    let (mut one, mut two) = (Vec::new(), Vec::new());
    assert_eq!(wire.key(b"scope", &mut one), again.key(b"scope", &mut two));
}

/// A batch is read as prost reads it, and each of its pulses is.
pub(super) fn batch(bytes: &[u8]) {
    let decoded = v1::PulseBatch::decode(bytes);
    let wire = match (walk::batch(bytes), &decoded) {
        (Ok(wire), _) => wire,
        (Err(error), Ok(decoded)) => panic!("prost took {decoded:?}, the walk says: {error}"),
        (Err(_), Err(_)) => return,
    };
    let pulses: Vec<_> = wire.pulses().collect();
    assert_eq!(pulses.len(), wire.pulses);
    let mut fields = bytes;
    for slice in &pulses {
        assert!(slice.field.ends_with(slice.body));
        // Forwarded fields stand in the message, in order.
        let at = slice.field.as_ptr() as usize - fields.as_ptr() as usize;
        fields = &fields[at + slice.field.len()..];
        pulse(slice.body);
    }
    match decoded {
        Ok(decoded) => agree(&wire, &decoded),
        Err(error) => {
            let bad_pulse = pulses.iter().any(|slice| v1::Pulse::decode(slice.body).is_err());
            let bad_name = wire.backfill.is_some_and(|it| std::str::from_utf8(it.name).is_err());
            assert!(bad_pulse || bad_name, "the walk took what prost refused: {error}");
        }
    }
}

fn agree(wire: &BatchWire<'_>, decoded: &v1::PulseBatch) {
    assert_eq!(wire.batch, decoded.batch);
    assert_eq!(wire.producer_id, &decoded.producer_id[..]);
    assert_eq!(wire.first_sequence, decoded.first_sequence);
    let backfill = wire.backfill.map(|it| (it.name, it.content_digest));
    let expected = decoded.backfill.as_ref().map(|it| (it.name.as_bytes(), &it.content_digest[..]));
    assert_eq!(backfill, expected);
    assert_eq!(wire.pulses, decoded.pulses.len());
}
