//! Names: 1 to 128 bytes of printable UTF-8, checked once at the edge.

use std::{fmt, sync::Arc};

use thiserror::Error;

/// Most bytes in a name.
pub const NAME_BYTES_MAX: usize = 128;

/// Why bytes are not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// No bytes at all.
    #[error("empty; 1 to 128 bytes are needed")]
    Empty,
    /// More than 128 bytes.
    #[error("{0} bytes long; at most 128 are allowed")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("not valid UTF-8")]
    NotUtf8,
    /// Holds a control character (C0, DEL or C1).
    #[error("contains a control character")]
    Control,
}

/// Checks that bytes are a name and lends them as text. Costs a few nanoseconds on ASCII.
///
/// # Errors
/// See [`NameError`]; nothing is changed.
#[inline]
pub fn check_name(bytes: &[u8]) -> Result<&str, NameError> {
    if bytes.is_empty() {
        return Err(NameError::Empty);
    }
    check_text(bytes)
}

/// As [`check_name`], but empty text passes: for optional fields.
///
/// # Errors
/// See [`NameError`], but for `Empty`.
#[inline]
pub fn check_text(bytes: &[u8]) -> Result<&str, NameError> {
    if bytes.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong(bytes.len()));
    }
    if is_printable_ascii(bytes) {
        // SAFETY: printable ASCII is UTF-8.
        return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| NameError::NotUtf8)?;
    if text.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    Ok(text)
}

/// Tells whether every byte is 0x20 to 0x7e, eight at a time.
#[inline]
fn is_printable_ascii(bytes: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut bad = 0u64;
    for chunk in chunks {
        let word = u64::from_le_bytes(*chunk);
        // High bit of a byte: set by word itself (non-ASCII), by word - 0x20 borrowing (below
        // space), or by word + 1 carrying into it (DEL). A false alarm only costs the slow path.
        bad |= (word | word.wrapping_sub(ONES * 0x20) | word.wrapping_add(ONES)) & HIGHS;
    }
    bad == 0 && rest.iter().all(|byte| (0x20..0x7f).contains(byte))
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes a name.
            ///
            /// # Errors
            /// See [`NameError`].
            pub fn new(text: &str) -> Result<Self, NameError> {
                check_name(text.as_bytes()).map(|text| Self(text.into()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// Any name that needs no type of its own: a backfill, a dimension.
    Name;
    /// Who used something.
    Tenant;
    /// What was used: a key of the catalogue.
    Sku;
    /// What an amount counts, for example `hour` or `GiB/Second-Months`.
    Unit;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_1_to_128_printable_bytes() {
        assert_eq!(check_name(b""), Err(NameError::Empty));
        assert_eq!(check_name(&[b'a'; 128]).map(str::len), Ok(128));
        assert_eq!(check_name(&[b'a'; 129]), Err(NameError::TooLong(129)));
        assert_eq!(check_name("GiB/Second-Months \u{00e9}".as_bytes()).map(str::len), Ok(20));
        assert_eq!(check_name(b"0123456\xff89abcdef"), Err(NameError::NotUtf8));
        for control in ["\u{0}", "\u{1f}", "\u{7f}", "\u{85}"] {
            for place in 0..20 {
                let text = format!("{}{control}{}", "a".repeat(place), "b".repeat(20 - place));
                assert_eq!(check_name(text.as_bytes()), Err(NameError::Control), "{place}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn the_fast_test_agrees_with_the_slow_one(bytes in proptest::collection::vec(proptest::num::u8::ANY, 1..40)) {
            let slow = std::str::from_utf8(&bytes).is_ok_and(|text| !text.chars().any(char::is_control));
            proptest::prop_assert_eq!(check_name(&bytes).is_ok(), slow);
        }
    }
}
