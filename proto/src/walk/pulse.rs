//! One pulse, field by field.

use super::field::{Field, Value, WireError, next_field, varint};

/// A `Pulse` as it lies on the wire. Absent fields are empty or `None`; nothing is checked yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PulseWire<'a> {
    /// Tenant, raw.
    pub tenant: &'a [u8],
    /// SKU, raw.
    pub product_sku: &'a [u8],
    /// Unit, raw.
    pub use_unity: &'a [u8],
    /// Unscaled value and scale.
    pub used_amount: Option<(i64, u32)>,
    /// Seconds and nanoseconds.
    pub time: Option<(i64, i32)>,
    /// Idempotency id, raw.
    pub id: &'a [u8],
    /// Source of the id, raw.
    pub source: &'a [u8],
    /// Properties, still folded.
    pub properties: Properties<'a>,
    canonical_key: Option<&'a [u8]>,
}

/// Reads one pulse's fields. Later occurrences of a field replace earlier ones, as protobuf has it.
///
/// # Errors
/// See [`WireError`].
#[inline]
pub fn pulse(body: &[u8]) -> Result<PulseWire<'_>, WireError> {
    let mut wire = PulseWire::default();
    let mut rest = body;
    usual_fields(&mut rest, &mut wire);
    while !rest.is_empty() {
        let before = rest;
        let Field { number, value } = next_field(&mut rest)?;
        match number {
            1 => replace_text(&mut wire.tenant, value.bytes()?)?,
            2 => replace_text(&mut wire.product_sku, value.bytes()?)?,
            3 => replace_text(&mut wire.use_unity, value.bytes()?)?,
            4 => merge_decimal(wire.used_amount.get_or_insert_default(), value.bytes()?)?,
            5 => merge_time(wire.time.get_or_insert_default(), value.bytes()?)?,
            6 => replace_text(&mut wire.id, value.bytes()?)?,
            7 => replace_text(&mut wire.source, value.bytes()?)?,
            8 => {
                check_entry(value.bytes()?)?;
                if wire.properties.count == 0 {
                    wire.properties.fields = before;
                }
                wire.properties.count += 1;
            }
            _ => {}
        }
    }
    wire.canonical_key = canonical_key(body, &wire);
    Ok(wire)
}

/// Takes a text in place of one before it. The replaced one is looked at by nobody else, yet a
/// decoder refuses the whole record over it, so it has to be UTF-8 too.
#[inline]
fn replace_text<'a>(text: &mut &'a [u8], by: &'a [u8]) -> Result<(), WireError> {
    if !text.is_empty() && std::str::from_utf8(text).is_err() {
        return Err(WireError::ReplacedText);
    }
    *text = by;
    Ok(())
}

/// Takes the first fields off as long as they stand as common encoders write them: names in order
/// with lengths of one byte, then amount and time. The loop takes over at whatever differs, so this
/// decides nothing; it only spares well-formed pulses the dispatch on every field.
#[inline(always)]
fn usual_fields<'a>(rest: &mut &'a [u8], wire: &mut PulseWire<'a>) {
    let Some(tenant) = usual_field(rest, 0x0a) else { return };
    wire.tenant = tenant;
    let Some(sku) = usual_field(rest, 0x12) else { return };
    wire.product_sku = sku;
    let Some(unit) = usual_field(rest, 0x1a) else { return };
    wire.use_unity = unit;
    let before = *rest;
    let Some(decimal) = usual_field(rest, 0x22).and_then(usual_varints) else {
        *rest = before;
        return;
    };
    let (zigzag, scale) = decimal;
    wire.used_amount = Some((unzigzag(zigzag), scale as u32));
    let before = *rest;
    let Some(time) = usual_field(rest, 0x2a).and_then(usual_varints) else {
        *rest = before;
        return;
    };
    wire.time = Some((time.0 as i64, time.1 as i32));
}

/// A length-delimited field with this tag and a length of one byte; else takes nothing.
#[inline(always)]
fn usual_field<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let [found, length, tail @ ..] = *rest else { return None };
    if *found != tag || *length >= 0x80 {
        return None;
    }
    let (value, tail) = tail.split_at_checked(usize::from(*length))?;
    *rest = tail;
    Some(value)
}

/// The varints of fields 1 and 2, each there at most once, in order and nothing else.
#[inline(always)]
fn usual_varints(mut message: &[u8]) -> Option<(u64, u64)> {
    let mut field = |tag: u8| match message.split_first() {
        Some((found, tail)) if *found == tag => {
            message = tail;
            varint(&mut message).ok()
        }
        _ => Some(0),
    };
    let values = (field(0x08)?, field(0x10)?);
    message.is_empty().then_some(values)
}

#[inline]
fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

fn merge_decimal(decimal: &mut (i64, u32), mut bytes: &[u8]) -> Result<(), WireError> {
    while !bytes.is_empty() {
        let Field { number, value } = next_field(&mut bytes)?;
        match number {
            1 => decimal.0 = unzigzag(value.varint()?),
            // protobuf cuts a longer varint to the field's 32 bits.
            2 => decimal.1 = value.varint()? as u32,
            _ => {}
        }
    }
    Ok(())
}

fn merge_time(time: &mut (i64, i32), mut bytes: &[u8]) -> Result<(), WireError> {
    while !bytes.is_empty() {
        let Field { number, value } = next_field(&mut bytes)?;
        match number {
            1 => time.0 = value.varint()? as i64,
            2 => time.1 = value.varint()? as i32,
            _ => {}
        }
    }
    Ok(())
}

/// Gives the first three fields as one slice where they stand first, adjacent and shortest.
#[inline]
fn canonical_key<'a>(body: &'a [u8], wire: &PulseWire<'a>) -> Option<&'a [u8]> {
    let place = |slice: &[u8]| (slice.as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
    let (tenant, sku, unit) = (wire.tenant, wire.product_sku, wire.use_unity);
    let sku_at = 2 + tenant.len() + 2;
    let unit_at = sku_at + sku.len() + 2;
    let adjacent = place(tenant) == 2 && place(sku) == sku_at && place(unit) == unit_at;
    // A length of 128 and more takes two bytes, so such names go the slow way.
    let short = tenant.len() < 128 && sku.len() < 128 && unit.len() < 128;
    let full = !tenant.is_empty() && !sku.is_empty() && !unit.is_empty();
    (adjacent && short && full).then(|| &body[..unit_at + unit.len()])
}

impl<'a> PulseWire<'a> {
    /// The resource key as a slice of the pulse itself, where its encoder wrote it so.
    #[inline]
    #[must_use]
    pub const fn canonical_key(&self) -> Option<&'a [u8]> {
        self.canonical_key
    }

    /// The resource key: tenant, SKU and unit in their canonical encoding, with `scope` standing in
    /// for an absent tenant. A slice of the pulse itself where its encoder wrote it so (all common
    /// ones do), else built in `scratch`.
    #[inline]
    pub fn key<'b>(&self, scope: &[u8], scratch: &'b mut Vec<u8>) -> &'b [u8]
    where
        'a: 'b,
    {
        if let Some(key) = self.canonical_key {
            return key;
        }
        let tenant = if self.tenant.is_empty() { scope } else { self.tenant };
        scratch.clear();
        for (tag, name) in [(0x0a, tenant), (0x12, self.product_sku), (0x1a, self.use_unity)] {
            scratch.push(tag);
            let mut length = name.len();
            while length >= 0x80 {
                scratch.push((length & 0x7f) as u8 | 0x80);
                length >>= 7;
            }
            scratch.push(length as u8);
            scratch.extend_from_slice(name);
        }
        scratch
    }
}

/// The properties of a pulse.
#[derive(Clone, Copy, Debug, Default)]
pub struct Properties<'a> {
    /// From the first property on; other fields may lie between.
    fields: &'a [u8],
    count: usize,
}

impl PartialEq for Properties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}
impl Eq for Properties<'_> {}

impl<'a> Properties<'a> {
    /// Entries on the wire, repeated names included.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Tells whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Names and values in wire order; of a repeated name the last counts.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut rest = self.fields;
        std::iter::from_fn(move || {
            while !rest.is_empty() {
                let field = next_field(&mut rest).expect("`pulse` has walked these bytes");
                if let Field { number: 8, value: Value::Bytes(entry) } = field {
                    return Some(entry_of(entry).expect("`pulse` has checked this entry"));
                }
            }
            None
        })
    }

    /// The value of a property, if it is there.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.iter().filter(|(found, _)| *found == name).last().map(|(_, value)| value)
    }
}

fn check_entry(entry: &[u8]) -> Result<(), WireError> {
    entry_of(entry).map(drop)
}

fn entry_of(mut entry: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let (mut name, mut content): (&[u8], &[u8]) = (&[], &[]);
    while !entry.is_empty() {
        let Field { number, value } = next_field(&mut entry)?;
        match number {
            1 => replace_text(&mut name, value.bytes()?)?,
            2 => replace_text(&mut content, value.bytes()?)?,
            _ => {}
        }
    }
    Ok((name, content))
}
