//! Whole numbers in as many bytes as they need: seven bits a byte, low ones first, the high bit set in
//! all but the last (LEB128, as in the DWARF standard, section 7.6). Signed ones alternate around zero
//! first (zigzag), so that small ones of either sign stay short.

use crate::codec::CodecError;

/// Appends a number.
pub fn put(bytes: &mut Vec<u8>, mut number: u128) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push((number & 0x7f) as u8);
}

/// Appends a signed number.
pub fn put_signed(bytes: &mut Vec<u8>, number: i128) {
    put(bytes, ((number << 1) ^ (number >> 127)).cast_unsigned());
}

/// Takes a number off.
///
/// # Errors
/// `Length` where the bytes end in it, `Value` where it is beyond 128 bits or longer than it needs.
pub fn take(bytes: &mut &[u8]) -> Result<u128, CodecError> {
    let (mut number, mut shift) = (0u128, 0);
    loop {
        let (byte, rest) = bytes.split_first().ok_or(CodecError::Length)?;
        *bytes = rest;
        let bits = u128::from(byte & 0x7f);
        if shift > 126 || (shift == 126 && bits > 3) || (shift > 0 && *byte == 0) {
            return Err(CodecError::Value);
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
        shift += 7;
    }
}

/// Takes a number off that fits a narrower type.
///
/// # Errors
/// As [`take`]; `Value` where it does not fit.
pub fn take_as<T: TryFrom<u128>>(bytes: &mut &[u8]) -> Result<T, CodecError> {
    T::try_from(take(bytes)?).map_err(|_| CodecError::Value)
}

/// Takes a signed number off.
///
/// # Errors
/// As [`take`].
pub fn take_signed(bytes: &mut &[u8]) -> Result<i128, CodecError> {
    let number = take(bytes)?;
    Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
}

/// Takes so many bytes off.
///
/// # Errors
/// `Length` where there are fewer.
pub fn take_slice<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], CodecError> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(CodecError::Length)?;
    *bytes = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_survives_and_takes_no_byte_more_than_it_needs(number: u128, shift in 0u32..128) {
            let number = number >> shift;
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            prop_assert_eq!(bytes.len(), (128 - number.leading_zeros()).div_ceil(7).max(1) as usize);
            let mut rest = &bytes[..];
            prop_assert_eq!(take(&mut rest), Ok(number));
            prop_assert!(rest.is_empty());
            for end in 0..bytes.len() {
                prop_assert_eq!(take(&mut &bytes[..end]), Err(CodecError::Length));
            }
        }

        #[test]
        fn a_signed_number_survives(number: i128, shift in 0u32..128) {
            for number in [number, number >> shift, i128::MIN, i128::MAX] {
                let mut bytes = Vec::new();
                put_signed(&mut bytes, number);
                prop_assert_eq!(take_signed(&mut &bytes[..]), Ok(number));
            }
        }
    }

    #[test]
    fn bytes_that_no_number_has_are_refused() {
        for bytes in [vec![0x80, 0], vec![0xff; 20], [vec![0xff; 18], vec![4]].concat()] {
            assert_eq!(take(&mut &bytes[..]), Err(CodecError::Value), "{bytes:?}");
        }
        assert_eq!(take_as::<u8>(&mut &[0x80, 2][..]), Err(CodecError::Value));
        assert_eq!(take_slice(&mut &[1][..], 2), Err(CodecError::Length));
    }
}
