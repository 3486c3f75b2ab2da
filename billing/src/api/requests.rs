//! Checks of what several requests hold: months, pages, words, request ids.

use edge::{Problem, paging, problem::reasons};
use pricing::timeline::Month;

/// Most bytes of a request id, of a consumer's name and of a reason.
const REQUEST_ID_BYTES_MAX: usize = 128;
pub(super) const CONSUMER_BYTES_MAX: usize = 128;
pub(super) const REASON_BYTES_MAX: usize = 4_096;

/// The month that a text names.
pub(super) fn month(text: &str) -> Result<Month, Problem> {
    text.parse().map_err(|error| {
        let message = format!("{text:?} is {error}");
        Problem::invalid("period", reasons::PERIOD_INVALID, message)
    })
}

/// How many entries a page has.
pub(super) fn page_size(size: i32) -> Result<usize, Problem> {
    paging::size(&paging::size_text(size))
        .map_err(|(reason, message)| Problem::invalid("page_size", reason, message))
}

/// The first number of a page and how many it has.
pub(super) fn page(size: i32, token: &str) -> Result<(u64, usize), Problem> {
    let size = page_size(size)?;
    let from = match token {
        "" => 1,
        token => token.parse().map_err(|_| {
            let message = format!("{token:?} is not a token of this list");
            Problem::invalid("page_token", reasons::PAGE_TOKEN_INVALID, message)
        })?,
    };
    Ok((from, size))
}

/// Refuses a text for people that is empty or too long.
pub(super) fn check_words(field: &str, text: &str, bytes_max: usize) -> Result<(), Problem> {
    let message = match text.trim() {
        "" => "is empty: it is kept for whoever looks into it".to_owned(),
        _ if text.len() > bytes_max => format!("longer than {bytes_max} bytes"),
        _ => return Ok(()),
    };
    Err(Problem::invalid(field, reasons::PARAMETER_INVALID, message))
}

/// Refuses a request id that is too long.
pub(super) fn check_request_id(text: &str) -> Result<(), Problem> {
    if text.len() > REQUEST_ID_BYTES_MAX {
        let message = format!("longer than {REQUEST_ID_BYTES_MAX} bytes");
        return Err(Problem::invalid("request_id", reasons::ID_TOO_LONG, message));
    }
    Ok(())
}
