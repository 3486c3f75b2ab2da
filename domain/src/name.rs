//! Names: 1 to 128 bytes of plain UTF-8, checked once at the edge.
//!
//! Two names that people cannot tell apart would be two tenants with two invoices. So a name holds
//! only what can be seen, spelled in one way: Unicode normal form C; no controls, no characters that
//! format, that renderers ignore, or that nobody has assigned; of white space only U+0020, and none
//! at the ends. docs/interfaces.md states the rule with the version of Unicode. Letters of different
//! scripts that look alike are different names.

use std::{fmt, sync::Arc};

use thiserror::Error;
use unicode_normalization::is_nfc;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

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
    /// A blank at an end.
    #[error("begins or ends with a blank; remove it")]
    EdgeBlank,
    /// White space that looks like U+0020 and is another character.
    #[error("contains the blank U+{:04X}; use U+0020 inside a name", u32::from(*.0))]
    Blank(char),
    /// A character that cannot be seen, or that has no meaning everybody knows.
    #[error(
        "contains U+{:04X}, which is invisible, for private use or not assigned; remove it",
        u32::from(*.0)
    )]
    Invisible(char),
    /// The same text could be spelled with other characters.
    #[error("not in Unicode normal form C; normalise it (NFC)")]
    NotNormal,
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
    if bytes.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong(bytes.len()));
    }
    check_plain(bytes)
}

/// As [`check_name`], for text of any length, also of none.
///
/// # Errors
/// See [`NameError`], but for `Empty` and `TooLong`.
#[inline]
pub fn check_plain(bytes: &[u8]) -> Result<&str, NameError> {
    let has_edge = bytes.first() == Some(&b' ') || bytes.last() == Some(&b' ');
    if !has_edge && is_printable_ascii(bytes) {
        // SAFETY: printable ASCII is UTF-8.
        return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    check_plain_text(bytes)
}

#[cold]
fn check_plain_text(bytes: &[u8]) -> Result<&str, NameError> {
    let text = std::str::from_utf8(bytes).map_err(|_| NameError::NotUtf8)?;
    if text.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    if text != text.trim() {
        return Err(NameError::EdgeBlank);
    }
    for character in text.chars() {
        if is_other_blank(character) {
            return Err(NameError::Blank(character));
        }
        if is_invisible(character) {
            return Err(NameError::Invisible(character));
        }
    }
    if is_nfc(text) { Ok(text) } else { Err(NameError::NotNormal) }
}

/// Checks text that is nobody's name, such as an id, and that may be empty: at most 128 bytes of UTF-8
/// without control characters.
///
/// # Errors
/// See [`NameError`], but for `Empty`, and only those about length, encoding and controls.
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

/// White space that is not U+0020, and the Braille pattern without dots, which looks like it.
fn is_other_blank(character: char) -> bool {
    character != ' ' && (character.is_whitespace() || character == '\u{2800}')
}

/// Tells whether a character is of a category that shows nothing (Cf, Zl, Zp, Co, Cn), or else is
/// Default_Ignorable_Code_Point: the joiner U+034F, fillers, inherent vowels of Khmer, variation
/// selectors. Those outside the categories are few and fixed by Unicode's stability policy.
fn is_invisible(character: char) -> bool {
    use GeneralCategory as Category;
    let is_listed = matches!(
        character,
        '\u{34f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            | '\u{e0000}'..='\u{e0fff}'
    );
    let by_category = matches!(
        character.general_category(),
        Category::Format
            | Category::LineSeparator
            | Category::ParagraphSeparator
            | Category::PrivateUse
            | Category::Surrogate
            | Category::Unassigned
    );
    is_listed || by_category
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

            /// The name as text.
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

    #[test]
    fn names_that_people_cannot_tell_apart_are_refused_wherever_the_difference_is() {
        use NameError::{Blank, EdgeBlank, Invisible, NotNormal};
        for edge in [" ", "\u{a0}", "\u{3000}", "\u{2028}"] {
            for text in [format!("{edge}acme"), format!("acme{edge}"), edge.to_owned()] {
                assert_eq!(check_name(text.as_bytes()), Err(EdgeBlank), "{text:?}");
            }
        }
        let blanks = ['\u{a0}', '\u{1680}', '\u{2009}', '\u{202f}', '\u{2800}', '\u{3000}'];
        let invisible = [
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{17b4}',
            '\u{180b}',
            '\u{180e}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{206f}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff9}',
            '\u{e000}',
            '\u{e0041}',
            '\u{e0100}',
            '\u{f0000}',
            '\u{378}',
            '\u{ffff}',
        ];
        for place in 1..19 {
            let with = |bad: char| format!("{}{bad}{}", "a".repeat(place), "b".repeat(20 - place));
            for bad in blanks {
                assert_eq!(check_name(with(bad).as_bytes()), Err(Blank(bad)), "{bad:?} {place}");
            }
            for bad in invisible {
                let text = with(bad);
                let refused = check_name(text.as_bytes());
                assert_eq!(refused, Err(Invisible(bad)), "{bad:?} {place}");
            }
        }
        for text in ["cafe\u{301}", "\u{212b}", "\u{1100}\u{1161}", "x\u{323}\u{307}\u{323}"] {
            assert_eq!(check_name(text.as_bytes()), Err(NotNormal), "{text:?}");
        }
        for good in ["caf\u{e9}", "\u{5d0}\u{5d1}", "\u{6771}\u{4eac} 1", "\u{1f680}", "a b", "-"] {
            assert_eq!(check_name(good.as_bytes()), Ok(good));
        }
    }

    /// The rule decides what a log means: another version of Unicode is a change of the fold.
    #[test]
    fn the_rule_is_that_of_unicode_18() {
        assert_eq!(unicode_normalization::UNICODE_VERSION, (18, 0, 0));
        assert_eq!(unicode_properties::UNICODE_VERSION, (18, 0, 0));
    }

    proptest::proptest! {
        #[test]
        fn the_fast_test_agrees_with_the_slow_one(bytes in proptest::collection::vec(proptest::num::u8::ANY, 1..40)) {
            proptest::prop_assert_eq!(check_name(&bytes), check_plain_text(&bytes));
            let ascii: Vec<u8> = bytes.iter().map(|byte| byte & 0x7f).collect();
            proptest::prop_assert_eq!(check_name(&ascii), check_plain_text(&ascii));
        }

        #[test]
        fn every_name_is_its_own_normal_form_and_is_seen(text in "\\PC{1,30}") {
            use unicode_normalization::UnicodeNormalization as _;
            if let Ok(name) = check_name(text.as_bytes()) {
                proptest::prop_assert_eq!(name.nfc().collect::<String>(), name);
                proptest::prop_assert_eq!(name.trim(), name);
            }
        }
    }
}
