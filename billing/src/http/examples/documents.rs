//! Examples of invoices and of what is said about them: one line of usage, 18 hours at 0.50.

use serde_json::{Value, json};

use super::with;

pub(in crate::http) fn invoice() -> Value {
    joined(head(), content(line()))
}

pub(in crate::http) fn invoices() -> Value {
    let totals = json!({
        "currency": "USD", "documents": "1", "total": "9.00", "paid": "0.00", "due": "9.00", "void": "0.00",
    });
    json!({"invoices": [head()], "totals": [totals], "next_page_token": ""})
}

pub(in crate::http) fn invoice_lines() -> Value {
    json!({"lines": [line()], "unpriced": [], "next_page_token": ""})
}

pub(in crate::http) fn voided() -> Value {
    let owed = json!({"state": "void", "due": "0.00", "due_before_void": "9.00"});
    with(joined(head(), owed), "void_reason", "billed to the wrong tenant")
}

pub(in crate::http) fn credit_note() -> Value {
    let note =
        json!({"number": "INV-000002", "kind": "credit_note", "total": "-1.00", "due": "-1.00"});
    let content = json!({
        "document": "credit_note",
        "corrects": "INV-000001",
        "reason": "an outage",
        "period": period(),
        "payment_term_days": 30,
        "lines": [{"key": "credit of INV-000001", "kind": "credit", "name": "an outage", "amount": "-1.00", "detail": []}],
        "note_kind": "goodwill",
    });
    joined(joined(head(), note), content)
}

pub(in crate::http) fn preview() -> Value {
    let money = json!({"tenant": "acme", "currency": "USD", "total": "9.00"});
    let bill = with(joined(content(with_hours(line())), money), "document", "preview");
    let bill = joined(bill, json!({"payments": [], "due": "9.00", "documents": []}));
    json!({
        "tenant": "acme",
        "period": "2024-09",
        "catalogue": "2024-09",
        "invoices": [bill],
        "set_aside": {"pulses": "0", "complete": true},
    })
}

pub(in crate::http) fn explanation() -> Value {
    json!({
        "number": "INV-000001",
        "tenant": "acme",
        "currency": "USD",
        "run": 7,
        "period_start": "2024-09-01T00:00:00Z",
        "period_end": "2024-10-01T00:00:00Z",
        "first_day": "2024-09-01",
        "last_day": "2024-09-30",
        "time_zone": "UTC",
        "lines": [with_hours(joined(json!({"line": 1}), line()))],
    })
}

pub(in crate::http) fn verification() -> Value {
    json!({
        "invoice": "INV-000001",
        "matches": true,
        "lines": 1,
        "segments_folded": "0",
        "segments_missing": "0",
        "differences": [],
    })
}

fn head() -> Value {
    json!({
        "number": "INV-000001",
        "kind": "invoice",
        "state": "final",
        "tenant": "acme",
        "currency": "USD",
        "total": "9.00",
        "paid": "0.00",
        "due": "9.00",
        "due_before_void": null,
        "period_start": "2024-09-01T00:00:00Z",
        "period_end": "2024-10-01T00:00:00Z",
        "first_day": "2024-09-01",
        "last_day": "2024-09-30",
        "time_zone": "UTC",
        "issued_at": "2024-10-01T02:00:05Z",
        "run": "7",
        "payments": [],
        "void_reason": "",
        "digest": "0d4c8a6b2e7f4915a3c1d9e8b7f60542",
    })
}

fn content(line: Value) -> Value {
    json!({
        "document": "invoice",
        "period": period(),
        "payment_term_days": 30,
        "contracts": ["acme-1"],
        "subtotals": {"usage": "9.00", "discount": "0.00", "commitment": "0.00", "tax": "0.00"},
        "lines": [line],
        "unpriced": [],
    })
}

fn period() -> Value {
    let month = json!({"start": "2024-09-01T00:00:00Z", "end": "2024-10-01T00:00:00Z"});
    let days = json!({
        "first_day": "2024-09-01",
        "last_day": "2024-09-30",
        "time_zone": "UTC",
        "whole": month,
    });
    joined(month, days)
}

fn line() -> Value {
    json!({
        "key": "usage [\"vm.standard\",\"hour\"] {} priced 2024-01-01T00:00:00Z from 2024-09-01T00:00:00Z under acme-1",
        "kind": "usage",
        "name": "",
        "product_sku": "vm.standard",
        "use_unity": "hour",
        "dimensions": {},
        "model": "per_unit",
        "quantity": "18",
        "price": {"catalogue": "2024-09", "valid_from": "2024-01-01T00:00:00Z"},
        "contract": "acme-1",
        "span": {"start": "2024-09-01T00:00:00Z", "end": "2024-10-01T00:00:00Z"},
        "amount": "9.00",
        "rounding": "half_up to 2 digits",
        "detail": [
            {"step": "meter", "meter": "sum", "quantity": "18"},
            {"step": "units", "quantity": "18", "unit_price": "0.5", "amount": "9"},
        ],
    })
}

fn with_hours(line: Value) -> Value {
    let segment = json!({
        "log_id": "03030303030303030303030303030303",
        "partition": 0,
        "epoch": 0,
        "segment_start": "0",
        "offset_last": "41",
    });
    let hour = json!({
        "window_start": "2024-09-01T00:00:00Z",
        "count": "3",
        "sum": "18",
        "segments": [segment],
    });
    with(line, "hours", json!([hour]))
}

/// One object with the keys of two; those of the second count.
fn joined(mut first: Value, second: Value) -> Value {
    if let (Value::Object(into), Value::Object(more)) = (&mut first, second) {
        into.extend(more);
    }
    first
}
