//! From errors of this crate and its ports to problems: the one table.

use domain::{name::NameError, store::StoreError};
use service::{Problem, Violation, problem::reasons};

use crate::{catalogue_tests::TestResult, file::FileError};

pub(super) fn of_store(error: StoreError) -> Problem {
    match error {
        StoreError::Unavailable(_) => {
            tracing::warn!(%error, "the billing or usage store does not answer");
            Problem::unavailable(reasons::STORE_UNAVAILABLE, "the store does not answer; try again")
        }
        StoreError::Conflict(_) | StoreError::Damaged(_) | StoreError::Fatal(_) => {
            tracing::error!(%error, "the billing or usage store failed");
            Problem::internal("the store failed; the server's log says why")
        }
    }
}

pub(super) fn of_panic(error: &tokio::task::JoinError) -> Problem {
    tracing::error!(%error, "a pricing task did not finish");
    Problem::internal("a pricing task did not finish; the server's log says why")
}

pub(super) fn of_file(error: &FileError) -> Problem {
    let violations = error.issues.iter().map(|issue| {
        let field = if issue.path.is_empty() { "text" } else { &issue.path };
        Violation::new(field, reasons::CATALOGUE_INVALID, issue.to_string())
    });
    invalid(violations.collect())
}

/// The problem that failed tests of a catalogue make, or `Ok` when all passed.
pub(super) fn of_tests(results: &[TestResult]) -> Result<(), Problem> {
    let failed = results.iter().enumerate().filter(|(_, result)| !result.ok);
    let violations = failed.map(|(index, result)| {
        Violation::new(
            format!("tests[{index}]"),
            reasons::CATALOGUE_INVALID,
            format!(
                "{:?} expects {}, but rating gives {} (mend the price or the test)",
                result.name, result.expect, result.got
            ),
        )
    });
    Problem::check(violations.collect())
}

pub(super) fn of_name(field: &str, error: NameError) -> Problem {
    let reason = match error {
        NameError::Empty => reasons::NAME_EMPTY,
        NameError::TooLong(_) => reasons::NAME_TOO_LONG,
        NameError::NotUtf8 => reasons::NAME_NOT_UTF8,
        NameError::Control => reasons::NAME_CONTROL_CHARACTER,
    };
    Problem::invalid(field, reason, error.to_string())
}

fn invalid(violations: Vec<Violation>) -> Problem {
    match Problem::check(violations) {
        Err(problem) => problem,
        Ok(()) => Problem::internal("a file was refused without a reason"),
    }
}
