//! Examples of billing's answers, for their description. A test holds each against its schema.

use serde_json::{Value, json};

pub(super) use documents::{
    credit_note, explanation, invoice, invoice_lines, invoices, preview, verification, voided,
};

mod documents;

pub(super) const CATALOGUE: &str = r#"catalogue: "2024-09"
currency: USD
skus:
  - sku: vm.standard
    unit: hour
    prices: [{valid_from: 2024-01-01T00:00:00Z, model: per_unit, unit_price: "0.50"}]
"#;

pub(super) const CONTRACT: &str = r#"contract: acme-1
tenant: acme
valid_from: 2024-01-01
currency: USD
discounts: [{name: friends, percentage: "10"}]
"#;

pub(super) fn catalogue() -> Value {
    with(listed_catalogue(), "text", CATALOGUE)
}

pub(super) fn catalogues() -> Value {
    json!({"catalogues": [listed_catalogue()]})
}

pub(super) fn published() -> Value {
    with(with(catalogue(), "already_published", false), "validate_only", false)
}

fn listed_catalogue() -> Value {
    json!({
        "version": "2024-09",
        "published_at": "2024-08-20T09:00:00Z",
        "skus": 1,
        "digest": "5b0f2c5e1d1c4f0e9a7d3b6c8e2f4a10",
    })
}

pub(super) fn contract() -> Value {
    with(listed_contract(), "text", CONTRACT)
}

pub(super) fn contracts() -> Value {
    json!({"contracts": [listed_contract()]})
}

pub(super) fn applied() -> Value {
    with(with(contract(), "already_applied", false), "validate_only", false)
}

fn listed_contract() -> Value {
    json!({
        "name": "acme-1",
        "tenant": "acme",
        "valid_from": "2024-01-01T00:00:00Z",
        "valid_to": null,
        "applied_at": "2024-01-02T10:00:00Z",
    })
}

pub(super) fn run() -> Value {
    json!({
        "run": "7",
        "period": "2024-09",
        "tenants": [],
        "deltas": false,
        "state": "open",
        "opened_at": "2024-10-01T02:00:00Z",
        "cut_at": "2024-10-01T02:00:01Z",
        "ended_at": null,
        "doing": "billing acme",
        "tenants_done": "41",
        "outcomes": {
            "invoices": "40",
            "deltas": "0",
            "unchanged": "0",
            "empty": "1",
            "not_due": "0",
            "unpriced": "0",
            "blocked": "0",
            "uncovered": "0",
        },
        "failures": [],
        "blocked": [],
    })
}

pub(super) fn runs() -> Value {
    json!({"runs": [run()]})
}

pub(super) fn rejection() -> Value {
    json!({
        "number": "1",
        "message": "1",
        "tenant": "acme",
        "invoice": "INV-000001",
        "consumer": "ledger",
        "reason": "the account is closed",
        "rejected_at": "2024-10-02T08:00:00Z",
        "replayed_as": null,
    })
}

pub(super) fn replayed() -> Value {
    with(rejection(), "replayed_as", "2")
}

pub(super) fn rejections() -> Value {
    json!({"rejections": [rejection()], "next_page_token": ""})
}

fn with(mut document: Value, key: &str, value: impl Into<Value>) -> Value {
    document[key] = value.into();
    document
}
