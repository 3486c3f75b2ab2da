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

/// The first number of a page and how many it has, of a list without filters.
pub(super) fn page(size: i32, token: &str) -> Result<(u64, usize), Problem> {
    page_of(size, token, None)
}

/// The same of a list with filters. Tokens belong to one list: `51` to all, `51-0123456789abcdef` to
/// that whose filters have this fingerprint.
pub(super) fn page_of(
    size: i32,
    token: &str,
    fingerprint: Option<u64>,
) -> Result<(u64, usize), Problem> {
    let size = paging::size(&paging::size_text(size))
        .map_err(|(reason, message)| Problem::invalid("page_size", reason, message))?;
    let from = match (token, token.split_once('-')) {
        ("", _) => Some(1),
        (number, None) => number.parse().ok().filter(|_| fingerprint.is_none()),
        (_, Some((number, mark))) => {
            let is_ours = fingerprint.is_some_and(|own| mark == fingerprint_text(own));
            number.parse().ok().filter(|_| is_ours)
        }
    };
    let from = from.ok_or_else(|| {
        let message = format!(
            "{token:?} is not a token of this list: every other field but page_size must stay as it \
             was; leave the token out to start from the first page"
        );
        Problem::invalid("page_token", reasons::PAGE_TOKEN_INVALID, message)
    })?;
    Ok((from, size))
}

/// The token of the page that begins with a number; empty where there is none.
pub(super) fn token_of(next: Option<u64>, fingerprint: Option<u64>) -> String {
    match (next, fingerprint) {
        (None, _) => String::new(),
        (Some(next), None) => next.to_string(),
        (Some(next), Some(own)) => format!("{next}-{}", fingerprint_text(own)),
    }
}

fn fingerprint_text(fingerprint: u64) -> String {
    format!("{fingerprint:016x}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_the_list_that_it_came_from() {
        let lists = [None, Some(0), Some(7), Some(u64::MAX)];
        for own in lists {
            let token = token_of(Some(51), own);
            for other in lists {
                let read = page_of(10, &token, other).map_err(|problem| problem.to_string());
                assert_eq!(read.is_ok(), own == other, "{token} {other:?}");
                assert_eq!(read.unwrap_or((51, 10)), (51, 10));
            }
        }
        assert_eq!(token_of(None, Some(7)), "");
        assert_eq!(page_of(10, "", Some(7)).unwrap(), (1, 10));
        for wrong in ["-", "51-", "-0000000000000007", "x-0000000000000007", "51-7"] {
            assert!(page_of(10, wrong, Some(7)).is_err(), "{wrong}");
        }
    }
}
