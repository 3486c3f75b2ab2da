//! What is over and not billed, as JSON.

use proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use super::moment;

/// Months with periods that are over and not billed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Due {
    /// When that was so.
    #[schema(format = DateTime, required)]
    looked_at: Option<String>,
    /// The first month that was looked at.
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}$")]
    from: String,
    /// Oldest first.
    months: Vec<DueMonth>,
}

/// The periods that begin in a month, are over and not billed. Numbers are 64-bit integers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DueMonth {
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}$")]
    period: String,
    /// Tenants that wait for the next run.
    #[schema(pattern = "^[0-9]{1,20}$")]
    waiting: String,
    /// Tenants that the last run could not bill.
    #[schema(pattern = "^[0-9]{1,20}$")]
    failed: String,
    /// Tenants that the last run said to be blocked.
    #[schema(pattern = "^[0-9]{1,20}$")]
    blocked: String,
    /// At most 100: those that failed first, then those that are blocked.
    tenants: Vec<DueTenant>,
}

/// A tenant with a period that is due.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DueTenant {
    tenant: String,
    /// `waiting`, `failed` or `blocked`.
    state: String,
    /// Why the last run did not bill it, for a person; empty where no run said.
    message: String,
}

/// What is due.
#[must_use]
pub fn due(found: &v1::ListDuePeriodsResponse) -> Due {
    let v1::ListDuePeriodsResponse { looked_at, from, months } = found;
    Due {
        looked_at: moment(looked_at.as_ref()),
        from: from.clone(),
        months: months.iter().map(month).collect(),
    }
}

fn month(month: &v1::DueMonth) -> DueMonth {
    DueMonth {
        period: month.period.clone(),
        waiting: month.waiting.to_string(),
        failed: month.failed.to_string(),
        blocked: month.blocked.to_string(),
        tenants: month.tenants.iter().map(tenant).collect(),
    }
}

fn tenant(tenant: &v1::DueTenant) -> DueTenant {
    let v1::DueTenant { tenant, state, message } = tenant.clone();
    DueTenant { tenant, state, message }
}
