//! Rejections as JSON.

use proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use super::moment;

/// A message that a consumer could not take.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Rejection {
    /// Its number, from 1.
    #[schema(pattern = "^[0-9]{1,20}$")]
    number: String,
    /// The message's number in the outbox.
    #[schema(pattern = "^[0-9]{1,20}$")]
    message: String,
    /// Whom the message is about.
    tenant: String,
    /// The number of the invoice that the message is about.
    invoice: String,
    /// Who rejected it.
    consumer: String,
    reason: String,
    #[schema(format = DateTime, required)]
    rejected_at: Option<String>,
    /// The message that repeated it; null while none did.
    #[schema(pattern = "^[0-9]{1,20}$", required)]
    replayed_as: Option<String>,
}

/// A page of rejections.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Rejections {
    /// In the order of their numbers.
    rejections: Vec<Rejection>,
    /// For the page after this; empty on the last.
    next_page_token: String,
}

/// A message that a consumer rejected.
#[must_use]
pub fn rejection(rejection: &v1::Rejection) -> Rejection {
    Rejection {
        number: rejection.number.to_string(),
        message: rejection.message.to_string(),
        tenant: rejection.tenant.clone(),
        invoice: rejection.invoice.clone(),
        consumer: rejection.consumer.clone(),
        reason: rejection.reason.clone(),
        rejected_at: moment(rejection.rejected_at.as_ref()),
        replayed_as: (rejection.replayed_as > 0).then(|| rejection.replayed_as.to_string()),
    }
}

/// A page of rejections.
#[must_use]
pub fn rejections(page: v1::ListRejectionsResponse) -> Rejections {
    Rejections {
        rejections: page.rejections.iter().map(rejection).collect(),
        next_page_token: page.next_page_token,
    }
}
