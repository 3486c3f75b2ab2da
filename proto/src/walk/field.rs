//! Fields: one step over the protobuf wire format.
//!
//! Source of the format: "Protocol Buffers Encoding", protobuf.dev.

use thiserror::Error;

/// Why bytes are not a protobuf message of the expected shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// The bytes end inside a field.
    #[error("the message ends inside a field")]
    Truncated,
    /// A varint of more than 64 bits.
    #[error("a varint is longer than 64 bits")]
    Varint,
    /// Field number 0 or above 2^29 - 1, or a wire type that does not exist.
    #[error("a field tag is not valid")]
    Tag,
    /// A known field with another wire type than its own.
    #[error("a field has the wrong wire type")]
    WireType,
    /// A group that does not end, ends another, or nests too deep.
    #[error("a group is not closed or nested too deep")]
    Group,
    /// A text that a later one replaces is not UTF-8.
    #[error("a text that occurs twice is not valid UTF-8 at first")]
    ReplacedText,
}

/// A field's number and value.
pub(super) struct Field<'a> {
    pub(super) number: u32,
    pub(super) value: Value<'a>,
}

/// A field's value, by wire type. Fixed-width values and groups are skipped: no field uses them.
pub(super) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Other,
}

impl<'a> Value<'a> {
    #[inline]
    pub(super) fn varint(self) -> Result<u64, WireError> {
        match self {
            Value::Varint(value) => Ok(value),
            _ => Err(WireError::WireType),
        }
    }

    #[inline]
    pub(super) fn bytes(self) -> Result<&'a [u8], WireError> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::WireType),
        }
    }
}

/// Takes the next field off `rest`, which is not empty. Called a dozen times a pulse, so a call
/// that is not inlined costs a third of the walk.
#[inline(always)]
pub(super) fn next_field<'a>(rest: &mut &'a [u8]) -> Result<Field<'a>, WireError> {
    let key = varint(rest)?;
    let (number, wire_type) = split_key(key)?;
    let value = match wire_type {
        0 => Value::Varint(varint(rest)?),
        2 => Value::Bytes(length_delimited(rest)?),
        _ => skip(rest, number, wire_type)?,
    };
    Ok(Field { number, value })
}

#[inline]
fn split_key(key: u64) -> Result<(u32, u8), WireError> {
    let key = u32::try_from(key).map_err(|_| WireError::Tag)?;
    let number = key >> 3;
    if number == 0 {
        return Err(WireError::Tag);
    }
    Ok((number, (key & 7) as u8))
}

#[inline]
fn length_delimited<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], WireError> {
    let length = usize::try_from(varint(rest)?).map_err(|_| WireError::Truncated)?;
    take(rest, length)
}

#[inline]
fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], WireError> {
    let (head, tail) = rest.split_at_checked(length).ok_or(WireError::Truncated)?;
    *rest = tail;
    Ok(head)
}

#[inline]
pub(super) fn varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    match rest.split_first() {
        Some((&byte, tail)) if byte < 0x80 => {
            *rest = tail;
            Ok(u64::from(byte))
        }
        _ => long_varint(rest),
    }
}

/// A varint of two bytes and more: times and most amounts. Up to eight bytes are read as one word,
/// because a loop over them mispredicts its end with every other length.
#[inline]
fn long_varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    const STOPS: u64 = 0x8080_8080_8080_8080;
    let word = first_word(rest);
    let stops = !word & STOPS;
    if stops != 0 {
        // Everything up to and with the first byte whose high bit is clear.
        let bits = stops.trailing_zeros() + 1;
        if let Some(tail) = rest.get(bits as usize / 8..) {
            let word = word & (u64::MAX >> (64 - bits)) & !STOPS;
            // Groups of 7 bits move together: pairs, then fours, then eights.
            let word = (word & 0x007f_007f_007f_007f) | ((word & 0x7f00_7f00_7f00_7f00) >> 1);
            let word = (word & 0x0000_3fff_0000_3fff) | ((word & 0x3fff_0000_3fff_0000) >> 2);
            let word = (word & 0x0fff_ffff) | ((word & 0x0fff_ffff_0000_0000) >> 4);
            *rest = tail;
            return Ok(word);
        }
    }
    varint_by_bytes(rest)
}

/// The first eight bytes as a word. Of four to seven, with zeros behind them: an amount and a time end
/// their messages, and to take those byte by byte was a quarter of the walk (435 instructions a pulse
/// instead of 392, and two ends of a loop to guess). Of fewer, a word without an end.
#[inline]
fn first_word(bytes: &[u8]) -> u64 {
    if let Some(chunk) = bytes.first_chunk() {
        return u64::from_le_bytes(*chunk);
    }
    let (Some(head), Some(tail)) = (bytes.first_chunk(), bytes.last_chunk()) else {
        return u64::MAX;
    };
    // The two may overlap, where they are equal.
    let tail = u64::from(u32::from_le_bytes(*tail)) << (8 * (bytes.len() - 4));
    u64::from(u32::from_le_bytes(*head)) | tail
}

/// In the last three bytes of the message, or of nine bytes and more.
fn varint_by_bytes(rest: &mut &[u8]) -> Result<u64, WireError> {
    let mut value = 0u64;
    for (i, byte) in rest.iter().take(10).enumerate() {
        // The tenth byte carries bit 63 alone.
        if i == 9 && *byte > 1 {
            return Err(WireError::Varint);
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if *byte < 0x80 {
            *rest = &rest[i + 1..];
            return Ok(value);
        }
    }
    Err(if rest.len() < 10 { WireError::Truncated } else { WireError::Varint })
}

/// Skips a value that no known field has.
#[cold]
fn skip<'a>(rest: &mut &'a [u8], number: u32, wire_type: u8) -> Result<Value<'a>, WireError> {
    match wire_type {
        1 => take(rest, 8).map(drop)?,
        5 => take(rest, 4).map(drop)?,
        3 => skip_group(rest, number)?,
        4 => return Err(WireError::Group),
        _ => return Err(WireError::Tag),
    }
    Ok(Value::Other)
}

/// Skips to the end of a group, without recursion, so that input cannot exhaust the stack.
fn skip_group(rest: &mut &[u8], number: u32) -> Result<(), WireError> {
    const DEPTH_MAX: usize = 64;
    let mut open = vec![number];
    while let Some(innermost) = open.last().copied() {
        let (number, wire_type) = split_key(varint(rest)?)?;
        match wire_type {
            0 => varint(rest).map(drop)?,
            1 => take(rest, 8).map(drop)?,
            2 => length_delimited(rest).map(drop)?,
            5 => take(rest, 4).map(drop)?,
            3 if open.len() < DEPTH_MAX => open.push(number),
            4 if number == innermost => drop(open.pop()),
            3 | 4 => return Err(WireError::Group),
            _ => return Err(WireError::Tag),
        }
    }
    Ok(())
}
