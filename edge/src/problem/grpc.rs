//! Problems over gRPC: a `tonic::Status` with `google.rpc` details, and back into words for a
//! person at the client.
//!
//! Details travel in trailers, and clients bound those: grpc-core (C++, Python, Ruby) refuses at
//! random above 8 KiB, and the caller then sees a transport error instead of ours. So the message
//! and the list of violations are cut to fit, and the message says how many were left out.

use std::{error::Error, fmt::Write, time::Duration};

use tonic::Status;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use super::Problem;

/// The `domain` of every `ErrorInfo`.
pub const DOMAIN: &str = "pulso";

/// Most bytes of a message. Percent-encoding may triple them, and the details hold them again.
const MESSAGE_BYTES_MAX: usize = 512;

/// Most bytes of all violations together. Base64 makes a third more of them.
const VIOLATIONS_BYTES_MAX: usize = 3_000;

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let total = problem.violations.len();
        let listed = fitting(&problem);
        let mut message = cut(&problem.message, MESSAGE_BYTES_MAX);
        if listed.len() < total {
            message.push_str(&format!(" (the first {} of {total} are listed)", listed.len()));
        }
        let mut details = ErrorDetails::new();
        details.set_error_info(problem.reason, DOMAIN, []);
        if !listed.is_empty() {
            details.set_bad_request(listed);
        }
        if problem.retry_after.is_some() {
            details.set_retry_info(problem.retry_after);
        }
        Self::with_error_details(problem.code, message, details)
    }
}

/// The violations that fit into trailers, from the first on.
fn fitting(problem: &Problem) -> Vec<FieldViolation> {
    let mut bytes = 0;
    let mut listed = Vec::new();
    for violation in &problem.violations {
        let description = cut(&violation.message, MESSAGE_BYTES_MAX);
        let field = cut(&violation.field, MESSAGE_BYTES_MAX);
        bytes += field.len() + description.len() + violation.reason.len();
        if bytes > VIOLATIONS_BYTES_MAX {
            break;
        }
        let reason = violation.reason.to_owned();
        listed.push(FieldViolation { field, description, reason, localized_message: None });
    }
    listed
}

/// At most `bytes_max` bytes of a text, ended by `...` when some are missing.
fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max - 3);
    format!("{}...", &text[..end])
}

/// The reason of a status, when a Pulso server gave one.
#[must_use]
pub fn reason_of(status: &Status) -> Option<String> {
    let info = status.get_details_error_info()?;
    (info.domain == DOMAIN).then_some(info.reason)
}

/// How long a status asks the client to wait before the next try.
#[must_use]
pub fn retry_after_of(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// Says a status for a person: the message with its reason, then one line for each violation, then
/// when to try again. Control characters are shown escaped, because the text comes from the other
/// side and goes to a terminal.
#[must_use]
pub fn explain(status: &Status) -> String {
    let mut text = match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    };
    push_causes(&mut text, status);
    if let Some(reason) = reason_of(status) {
        text.push_str(&format!(" [{reason}]"));
    }
    let mut lines = vec![text];
    let bad_request = status.get_details_bad_request();
    let violations = bad_request.map_or_else(Vec::new, |details| details.field_violations);
    let is_alone = violations.len() == 1;
    for FieldViolation { field, description, reason, .. } in &violations {
        // One alone has been said, unless its message was cut.
        if !is_alone || !status.message().contains(description) {
            lines.push(format!("  {field}: {description} [{reason}]"));
        }
    }
    if let Some(wait) = retry_after_of(status) {
        lines.push(format!("  try again after {} ms", wait.as_millis()));
    }
    lines.iter().map(|line| printable(line)).collect::<Vec<_>>().join("\n")
}

/// Adds what lies below a status made on this side, such as `connection refused`.
fn push_causes(text: &mut String, status: &Status) {
    let mut cause = status.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
}

/// The text with control characters escaped.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            control if control.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(printable, "{}", control.escape_default());
            }
            plain => printable.push(plain),
        }
    }
    printable
}
