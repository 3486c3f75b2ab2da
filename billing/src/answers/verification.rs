//! Answer: what a verification of an invoice found.

use pricing::document::DocumentLine;
use proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use super::written::text;
use crate::wire::{self, NotUnderstood};

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct VerificationAnswer {
    /// The document's number, as it was asked for.
    pub invoice: String,
    /// Whether every line came out as it was invoiced.
    pub matches: bool,
    /// Lines that were computed again.
    pub lines: u32,
    /// Segments of the log that were folded again, a whole number; 0 without `from_log`.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String, example = "12")]
    pub segments_folded: u64,
    /// Segments that the log no longer has, a whole number: their usage was taken from the stored
    /// totals.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String, example = "0")]
    pub segments_missing: u64,
    /// The lines that differ, in the order of the document; then those that it does not have.
    pub differences: Vec<DifferenceAnswer>,
    /// How many more differ, a whole number; absent where all are listed.
    #[serde(skip_serializing_if = "is_zero", serialize_with = "text")]
    #[schema(value_type = Option<String>, example = "12")]
    pub differences_left_out: u64,
}

/// Tells whether nothing was left out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A line that did not come out as it was invoiced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct DifferenceAnswer {
    /// The line's key.
    pub line: String,
    /// The line in the document; null if it has none.
    #[schema(required)]
    pub invoiced: Option<DocumentLine>,
    /// The line as computed now; null if there is none.
    #[schema(required)]
    pub computed: Option<DocumentLine>,
}

impl VerificationAnswer {
    /// What a message says about the invoice of a number.
    ///
    /// # Errors
    /// When a line in it is not understood.
    pub fn of_message(
        number: &str,
        found: v1::VerifyInvoiceResponse,
    ) -> Result<Self, NotUnderstood> {
        let difference = |difference: v1::LineDifference| {
            Ok(DifferenceAnswer {
                line: difference.line,
                invoiced: difference.invoiced.map(wire::of_line).transpose()?,
                computed: difference.computed.map(wire::of_line).transpose()?,
            })
        };
        Ok(Self {
            invoice: number.to_owned(),
            matches: found.matches,
            lines: found.lines,
            segments_folded: found.segments_folded,
            segments_missing: found.segments_missing,
            differences: found.differences.into_iter().map(difference).collect::<Result<_, _>>()?,
            differences_left_out: found.differences_left_out,
        })
    }

    /// As a message.
    pub(crate) fn message(self) -> v1::VerifyInvoiceResponse {
        let difference = |found: DifferenceAnswer| v1::LineDifference {
            line: found.line,
            invoiced: found.invoiced.map(wire::line),
            computed: found.computed.map(wire::line),
        };
        v1::VerifyInvoiceResponse {
            matches: self.matches,
            lines: self.lines,
            differences: self.differences.into_iter().map(difference).collect(),
            segments_folded: self.segments_folded,
            segments_missing: self.segments_missing,
            differences_left_out: self.differences_left_out,
        }
    }
}
