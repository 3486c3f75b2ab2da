//! Billing runs as JSON.

use proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use super::moment;

/// A billing run and how far it is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Run {
    /// Its number, from 1.
    #[schema(pattern = "^[0-9]{1,20}$")]
    run: String,
    /// The month in which the periods begin that it bills, such as `2024-09`.
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}$")]
    period: String,
    /// Those that it bills; empty for all.
    tenants: Vec<String>,
    /// It bills what changed about periods that have an invoice.
    deltas: bool,
    /// Deltas of less than these amounts, such as `BRL 5.00, USD 1.00`, are not made; empty: all are.
    threshold: String,
    /// `open`, `closed`, `closed_with_failures` (the periods of the tenants that failed stay due) or
    /// `cancelled`.
    state: String,
    #[schema(format = DateTime, required)]
    opened_at: Option<String>,
    /// When the cut was taken, below which it bills; null before.
    #[schema(format = DateTime, required)]
    cut_at: Option<String>,
    /// Null while it is open.
    #[schema(format = DateTime, required)]
    ended_at: Option<String>,
    /// What the process that was asked is doing about it, or waits for; empty when nothing.
    doing: String,
    /// Tenants that are through, those that failed too.
    #[schema(pattern = "^[0-9]{1,20}$")]
    tenants_done: String,
    outcomes: RunOutcomes,
    /// What its documents come to.
    totals: Vec<RunTotal>,
    /// Tenants that could not be billed, at most 100; `outcomes.failed` counts all.
    failures: Vec<RunFailure>,
    /// Tenants with periods that are blocked, with what to do; at most 100.
    blocked: Vec<RunFailure>,
}

/// What became of the periods of a run. Numbers are 64-bit integers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RunOutcomes {
    /// New invoices.
    #[schema(pattern = "^[0-9]{1,20}$")]
    invoices: String,
    /// New deltas and reversals.
    #[schema(pattern = "^[0-9]{1,20}$")]
    deltas: String,
    /// Periods that had an invoice and nothing to add.
    #[schema(pattern = "^[0-9]{1,20}$")]
    unchanged: String,
    /// Periods without anything to bill.
    #[schema(pattern = "^[0-9]{1,20}$")]
    empty: String,
    /// Periods that are not over yet.
    #[schema(pattern = "^[0-9]{1,20}$")]
    not_due: String,
    /// Resources of usage that wait for a price.
    #[schema(pattern = "^[0-9]{1,20}$")]
    unpriced: String,
    /// Periods that wait for a run for deltas.
    #[schema(pattern = "^[0-9]{1,20}$")]
    blocked: String,
    /// Resources that were used in the month while no contract held.
    #[schema(pattern = "^[0-9]{1,20}$")]
    uncovered: String,
    /// Tenants that could not be billed.
    #[schema(pattern = "^[0-9]{1,20}$")]
    failed: String,
    /// Periods whose delta is below the run's threshold, and was not made.
    #[schema(pattern = "^[0-9]{1,20}$")]
    below_threshold: String,
}

/// What the documents of a run come to in one currency.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RunTotal {
    currency: String,
    invoices: String,
    /// Deltas and reversals.
    deltas: String,
}

/// A tenant that was not billed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RunFailure {
    tenant: String,
    /// Why, for a person.
    message: String,
}

/// Billing runs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Runs {
    /// Newest first.
    runs: Vec<Run>,
}

/// A run.
#[must_use]
pub fn run(run: &v1::Run) -> Run {
    Run {
        run: run.number.to_string(),
        period: run.period.clone(),
        tenants: run.tenants.clone(),
        deltas: run.deltas,
        threshold: run.threshold.clone(),
        state: run.state.clone(),
        opened_at: moment(run.opened_at.as_ref()),
        cut_at: moment(run.cut_at.as_ref()),
        ended_at: moment(run.ended_at.as_ref()),
        doing: run.doing.clone(),
        tenants_done: run.tenants_done.to_string(),
        outcomes: outcomes(run.outcomes.unwrap_or_default()),
        totals: run.totals.iter().map(total).collect(),
        failures: run.failures.iter().map(failure).collect(),
        blocked: run.blocked.iter().map(failure).collect(),
    }
}

/// A list of runs.
#[must_use]
pub fn runs(listed: &[v1::Run]) -> Runs {
    Runs { runs: listed.iter().map(run).collect() }
}

fn outcomes(outcomes: v1::RunOutcomes) -> RunOutcomes {
    RunOutcomes {
        invoices: outcomes.invoices.to_string(),
        deltas: outcomes.deltas.to_string(),
        unchanged: outcomes.unchanged.to_string(),
        empty: outcomes.empty.to_string(),
        not_due: outcomes.not_due.to_string(),
        unpriced: outcomes.unpriced.to_string(),
        blocked: outcomes.blocked.to_string(),
        uncovered: outcomes.uncovered.to_string(),
        failed: outcomes.failed.to_string(),
        below_threshold: outcomes.below_threshold.to_string(),
    }
}

fn total(total: &v1::RunTotal) -> RunTotal {
    let v1::RunTotal { currency, invoices, deltas } = total.clone();
    RunTotal { currency, invoices, deltas }
}

fn failure(failure: &v1::RunFailure) -> RunFailure {
    RunFailure { tenant: failure.tenant.clone(), message: failure.message.clone() }
}
