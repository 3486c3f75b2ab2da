//! Dimensions: the declared properties of a pulse that stay apart in the totals, as canonical JSON.

use std::{fmt, sync::Arc};

/// Names and values sorted by name, absent ones omitted, kept as canonical JSON text
/// (`{"region":"br-se1"}`), which is also how stores and answers spell them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dimensions(Arc<str>);

impl Dimensions {
    /// No dimensions: `{}`.
    #[must_use]
    pub fn none() -> Self {
        Self("{}".into())
    }

    /// Takes pairs in any order; of one name given twice the last value stays.
    #[must_use]
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let sorted: std::collections::BTreeMap<&str, &str> = pairs.into_iter().collect();
        let mut text = String::from("{");
        for (i, (name, value)) in sorted.into_iter().enumerate() {
            if i > 0 {
                text.push(',');
            }
            push_string(&mut text, name);
            text.push(':');
            push_string(&mut text, value);
        }
        text.push('}');
        Self(text.into())
    }

    /// Takes text that [`Dimensions::as_str`] gave, or `None` where it is not canonical.
    #[must_use]
    pub fn from_canonical(text: &str) -> Option<Self> {
        let pairs = parse_pairs(text)?;
        let again = Self::from_pairs(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        (again.as_str() == text).then_some(again)
    }

    /// The canonical JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        &*self.0 == "{}"
    }

    /// Names and values, sorted by name.
    #[must_use]
    pub fn pairs(&self) -> Vec<(String, String)> {
        parse_pairs(&self.0).expect("built canonical")
    }
}

impl fmt::Display for Dimensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn push_string(out: &mut String, text: &str) {
    use fmt::Write;
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if (control as u32) < 0x20 => {
                write!(out, "\\u{:04x}", control as u32).expect("a String takes all");
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Reads an object of strings as `push_string` writes them; no white space.
fn parse_pairs(text: &str) -> Option<Vec<(String, String)>> {
    let mut rest = text.strip_prefix('{')?;
    let mut pairs = Vec::new();
    if let Some(end) = rest.strip_prefix('}') {
        return end.is_empty().then_some(pairs);
    }
    loop {
        let (name, after) = parse_string(rest)?;
        let (value, after) = parse_string(after.strip_prefix(':')?)?;
        pairs.push((name, value));
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return (after == "}").then_some(pairs),
        }
    }
}

fn parse_string(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix('"')?;
    let mut out = String::new();
    let mut characters = body.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((out, &body[at + 1..])),
            '\\' => match characters.next()?.1 {
                'u' => {
                    let code = body.get(at + 2..at + 6)?;
                    out.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
                    characters.nth(3)?;
                }
                escaped => out.push(escaped),
            },
            other => out.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter() {
        let dimensions = Dimensions::from_pairs([("zone", "a"), ("region", "br\"\\\n")]);
        assert_eq!(dimensions.as_str(), r#"{"region":"br\"\\\u000a","zone":"a"}"#);
        assert_eq!(dimensions.pairs()[0].1, "br\"\\\n");
        assert_eq!(Dimensions::from_canonical(r#"{"zone":"a","region":"b"}"#), None);
        assert_eq!(Dimensions::from_canonical("{}"), Some(Dimensions::none()));
    }

    proptest::proptest! {
        #[test]
        fn text_and_back_is_the_same(pairs: std::collections::BTreeMap<String, String>) {
            let dimensions = Dimensions::from_pairs(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())));
            let back: std::collections::BTreeMap<_, _> = dimensions.pairs().into_iter().collect();
            proptest::prop_assert_eq!(back, pairs);
            proptest::prop_assert_eq!(Dimensions::from_canonical(dimensions.as_str()), Some(dimensions));
        }
    }
}
