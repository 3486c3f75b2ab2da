//! Answers: what billing answers on the wire, as the JSON that HTTP and the commands print.
//!
//! 64-bit integers and decimals are strings, moments RFC 3339 in UTC, absent ones null. Keys are only
//! ever added.

use proto::{convert, v1};
use serde_json::{Value, json};

mod catalogues;
mod contracts;
mod runs;
mod rejections;
pub mod explanation;

pub use catalogues::{Catalogue, Catalogues, PublishedCatalogue, catalogue, catalogues, published};
pub use contracts::{AppliedContract, Contract, Contracts, applied, contract, contracts};
pub use rejections::{Rejection, Rejections, rejection, rejections};
pub use runs::{Run, RunFailure, RunOutcomes, Runs, run, runs};

/// An instant as answers write it, where there is one.
fn moment(time: Option<&prost_types::Timestamp>) -> Option<String> {
    time.and_then(convert::timestamp).map(|time| time.to_string())
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

/// An invoice; with its content where it was asked for, whose words stand behind these.
#[must_use]
pub fn invoice(invoice: &v1::Invoice) -> Value {
    let payments = invoice
        .payments
        .iter()
        .map(|payment| json!({"credit": payment.credit, "amount": payment.amount}));
    let mut document = json!({
        "number": invoice.number,
        "kind": invoice.kind,
        "state": invoice.state,
        "tenant": invoice.tenant,
        "currency": invoice.currency,
        "total": invoice.total,
        "due": invoice.due,
        "period_start": moment(invoice.period_start.as_ref()),
        "period_end": moment(invoice.period_end.as_ref()),
        "issued_at": moment(invoice.issued_at.as_ref()),
        "run": invoice.run.to_string(),
        "payments": payments.collect::<Vec<_>>(),
        "void_reason": invoice.void_reason,
        "digest": invoice.digest,
    });
    if let (Some(into), Value::Object(content)) =
        (document.as_object_mut(), parsed(&invoice.document_json))
    {
        into.extend(content);
    }
    document
}

/// What a verification of an invoice found.
#[must_use]
pub fn verification(number: &str, verified: &v1::VerifyInvoiceResponse) -> Value {
    let differences = verified.differences.iter().map(|difference| {
        json!({
            "line": difference.line,
            "invoiced": parsed(&difference.invoiced_json),
            "computed": parsed(&difference.computed_json),
        })
    });
    json!({
        "invoice": number,
        "matches": verified.matches,
        "lines": verified.lines,
        "segments_folded": verified.segments_folded.to_string(),
        "segments_missing": verified.segments_missing.to_string(),
        "differences": differences.collect::<Vec<_>>(),
    })
}
