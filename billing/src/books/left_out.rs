//! Left out: what an answer or a message lacks of a document that is too long to be sent whole, and
//! where it is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{document::number_text, journal};

/// What is left out of a document, because its text is longer than `billing.inline_bytes_max`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeftOut {
    /// Lines, a whole number.
    #[serde(with = "journal::text")]
    #[schema(value_type = String, example = "200000")]
    pub lines: u64,
    /// Entries of `unpriced`, a whole number.
    #[serde(with = "journal::text")]
    #[schema(value_type = String, example = "0")]
    pub unpriced: u64,
    /// Bytes of the whole text, a whole number.
    #[serde(with = "journal::text")]
    #[schema(value_type = String, example = "121903744")]
    pub bytes: u64,
    /// The route that lists them; absent where the document is not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "/v1/invoices/INV-000042/lines")]
    pub at: Option<String>,
}

/// The route that lists the lines of a document.
pub(crate) fn route(number: u64) -> String {
    format!("/v1/invoices/{}/lines", number_text(number))
}
