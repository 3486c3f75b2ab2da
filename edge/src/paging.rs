//! Pages: how long one is, and where the next one starts. The same rules for every list.

use crate::problem::{Problem, reasons};

mod token;

pub use token::TokenKey;

/// Rows of a page when nothing is said.
pub const SIZE_DEFAULT: usize = 50;
/// Most rows of a page.
pub const SIZE_MAX: usize = 1_000;

/// Reads a page size; empty text means the default.
///
/// # Errors
/// The reason and a message, when it is not a number from 1 to 1000.
pub fn size(text: &str) -> Result<usize, (&'static str, String)> {
    if text.is_empty() {
        return Ok(SIZE_DEFAULT);
    }
    let size = text.parse().ok().filter(|size| (1..=SIZE_MAX).contains(size));
    size.ok_or_else(|| {
        let message = format!(
            "{text:?} is not a number from 1 to {SIZE_MAX}; leave it out for {SIZE_DEFAULT}"
        );
        (reasons::PAGE_SIZE_INVALID, message)
    })
}

/// Page size of a gRPC request, where 0 stands for an absent field.
#[must_use]
pub fn size_text(size: i32) -> String {
    if size == 0 { String::new() } else { size.to_string() }
}

/// Reads a page token; empty text means the first page.
///
/// # Errors
/// INVALID_ARGUMENT, `PAGE_TOKEN_INVALID`, when the token was not given out for this question.
pub fn position<T>(
    key: &TokenKey,
    question: u128,
    token: &str,
    decode: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<Option<T>, Problem> {
    if token.is_empty() {
        return Ok(None);
    }
    let position = key.open(question, token).and_then(|bytes| decode(&bytes));
    position.map(Some).ok_or_else(|| {
        Problem::invalid(
            "page_token",
            reasons::PAGE_TOKEN_INVALID,
            "not a token that this server gave out for this question: every other field but \
             page_size must stay as it was, and so must the epoch that is active; leave the token \
             out to start from the first page",
        )
    })
}
