//! Answers: what billing answers on the wire, as the JSON that HTTP and the commands print.
//!
//! 64-bit integers and decimals are strings, moments RFC 3339 in UTC, absent ones null. Keys are only
//! ever added.

use proto::{convert, v1};
use serde_json::{Value, json};

pub mod explanation;

fn moment(time: Option<&prost_types::Timestamp>) -> Value {
    time.and_then(convert::timestamp).map_or(Value::Null, |time| time.to_string().into())
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

/// A version of the catalogue; its text where it was asked for.
#[must_use]
pub fn catalogue(catalogue: &v1::CatalogueVersion) -> Value {
    let mut document = json!({
        "version": catalogue.version,
        "published_at": moment(catalogue.published_at.as_ref()),
        "skus": catalogue.skus,
        "digest": catalogue.digest,
    });
    if !catalogue.text.is_empty() {
        document["text"] = catalogue.text.as_str().into();
    }
    document
}

/// A contract; its text where it was asked for.
#[must_use]
pub fn contract(contract: &v1::Contract) -> Value {
    let mut document = json!({
        "name": contract.name,
        "tenant": contract.tenant,
        "valid_from": moment(contract.valid_from.as_ref()),
        "valid_to": moment(contract.valid_to.as_ref()),
        "applied_at": moment(contract.applied_at.as_ref()),
    });
    if !contract.text.is_empty() {
        document["text"] = contract.text.as_str().into();
    }
    document
}

/// A run.
#[must_use]
pub fn run(run: &v1::Run) -> Value {
    let outcomes = run.outcomes.unwrap_or_default();
    let by_tenant = |list: &[v1::RunFailure]| {
        let entries = list.iter();
        entries
            .map(|entry| json!({"tenant": entry.tenant, "message": entry.message}))
            .collect::<Value>()
    };
    json!({
        "run": run.number.to_string(),
        "period": run.period,
        "tenants": run.tenants,
        "deltas": run.deltas,
        "state": run.state,
        "opened_at": moment(run.opened_at.as_ref()),
        "cut_at": moment(run.cut_at.as_ref()),
        "ended_at": moment(run.ended_at.as_ref()),
        "doing": run.doing,
        "tenants_done": run.tenants_done.to_string(),
        "outcomes": {
            "invoices": outcomes.invoices.to_string(),
            "deltas": outcomes.deltas.to_string(),
            "unchanged": outcomes.unchanged.to_string(),
            "empty": outcomes.empty.to_string(),
            "not_due": outcomes.not_due.to_string(),
            "unpriced": outcomes.unpriced.to_string(),
            "blocked": outcomes.blocked.to_string(),
            "uncovered": outcomes.uncovered.to_string(),
        },
        "failures": by_tenant(&run.failures),
        "blocked": by_tenant(&run.blocked),
    })
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

/// A message that a consumer rejected.
#[must_use]
pub fn rejection(rejection: &v1::Rejection) -> Value {
    json!({
        "number": rejection.number.to_string(),
        "message": rejection.message.to_string(),
        "tenant": rejection.tenant,
        "invoice": rejection.invoice,
        "consumer": rejection.consumer,
        "reason": rejection.reason,
        "rejected_at": moment(rejection.rejected_at.as_ref()),
        "replayed_as": (rejection.replayed_as > 0).then(|| rejection.replayed_as.to_string()),
    })
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
