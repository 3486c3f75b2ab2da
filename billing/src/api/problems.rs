//! From errors of this crate and its ports to problems: the one table.

use domain::name::NameError;
use edge::{Problem, Violation, problem::reasons};
use pricing::{
    examples::TestResult,
    file::{FileError, Issue},
};

use crate::{BillingError, Refusal, publish::ActivationError};

pub(super) fn of_file(error: &FileError) -> Problem {
    of_issues(error, reasons::CATALOGUE_INVALID)
}

fn of_issues(error: &FileError, reason: &'static str) -> Problem {
    let violations = error.issues.iter().map(|issue| {
        let Issue { line, column, path, message, remedy } = issue;
        let place = match (line, column) {
            (Some(line), Some(column)) => format!("line {line}, column {column}: "),
            _ => String::new(),
        };
        let field = if path.is_empty() { "text" } else { path };
        Violation::new(field, reason, format!("{place}{message} ({remedy})"))
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
    Problem::invalid(field, reasons::of_name(error), error.to_string())
}

fn invalid(violations: Vec<Violation>) -> Problem {
    match Problem::check(violations) {
        Err(problem) => problem,
        Ok(()) => Problem::internal("a file was refused without a reason"),
    }
}

pub(super) fn of_billing(error: BillingError) -> Problem {
    let message = error.to_string();
    match error {
        BillingError::Store(error) => error.into(),
        BillingError::File(error) => of_issues(&error, reasons::CONTRACT_INVALID),
        BillingError::Log { .. } | BillingError::Grown | BillingError::Refold(_) => {
            Problem::unavailable(reasons::LOG_UNAVAILABLE, message)
        }
        BillingError::NoCatalogue | BillingError::UnknownCatalogue(_) => {
            Problem::failed_precondition(reasons::CATALOGUE_NOT_FOUND, message)
        }
        BillingError::Invoice(_) => {
            Problem::failed_precondition(reasons::CONTRACT_CONFLICTS, message)
        }
        BillingError::Journal { .. } | BillingError::Unreadable { .. } => {
            tracing::error!(%message, "billing data is not as it was written");
            Problem::new(tonic::Code::DataLoss, reasons::BILLING_UNREADABLE, message)
        }
        BillingError::Task(_) => {
            tracing::error!(%message, "a billing task did not finish");
            Problem::internal("a billing task did not finish; the server's log says why")
        }
        BillingError::Refused { reason, message } => of_refusal(reason, message),
    }
}

fn of_refusal(reason: Refusal, message: String) -> Problem {
    match reason {
        Refusal::ContractExists => Problem::already_exists(reasons::CONTRACT_EXISTS, message),
        Refusal::ContractConflicts => {
            Problem::failed_precondition(reasons::CONTRACT_CONFLICTS, message)
        }
        Refusal::ContractNotFound => Problem::not_found(reasons::CONTRACT_NOT_FOUND, message),
        Refusal::NotDue => Problem::failed_precondition(reasons::PERIOD_NOT_DUE, message),
        Refusal::TenantUnknown => Problem::not_found(reasons::TENANT_UNKNOWN, message),
        Refusal::RunNotFound => Problem::not_found(reasons::RUN_NOT_FOUND, message),
        Refusal::RunEnded => Problem::failed_precondition(reasons::RUN_ENDED, message),
        Refusal::InvoiceNotFound => Problem::not_found(reasons::INVOICE_NOT_FOUND, message),
        Refusal::MessageNotFound => Problem::not_found(reasons::MESSAGE_NOT_FOUND, message),
        Refusal::RejectionNotFound => Problem::not_found(reasons::REJECTION_NOT_FOUND, message),
        Refusal::TooLarge => Problem::failed_precondition(reasons::RESULT_TOO_LARGE, message),
        Refusal::WindowsTooLong => Problem::failed_precondition(reasons::WINDOWS_TOO_LONG, message),
        Refusal::CreditExists => Problem::already_exists(reasons::CREDIT_EXISTS, message),
        Refusal::RequestIdUsed => Problem::already_exists(reasons::REQUEST_ID_USED, message),
        Refusal::InvoiceState => Problem::failed_precondition(reasons::INVOICE_STATE, message),
    }
}

impl From<ActivationError> for Problem {
    fn from(error: ActivationError) -> Self {
        match error {
            ActivationError::Log { .. } | ActivationError::Grown => {
                Self::unavailable(reasons::LOG_UNAVAILABLE, error.to_string())
            }
            ActivationError::Store(error) => error.into(),
            ActivationError::Unreadable { .. } => Self::internal(error.to_string()),
        }
    }
}
