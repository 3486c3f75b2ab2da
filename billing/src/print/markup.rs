//! Markup: text into HTML and SVG, where none of it may become a part of their form.

use std::fmt::{Arguments, Write as _};

/// Adds words as they are.
pub(super) fn push(markup: &mut String, words: Arguments<'_>) {
    markup.write_fmt(words).expect("a string takes all text");
}

/// Text as it stands between tags and in quotes.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
