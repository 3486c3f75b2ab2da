//! Examples of billing's answers, for their description. A test holds each against its schema.

use serde_json::{Value, json};

pub(super) use documents::{
    credit_note, explanation, invoice, invoices, preview, verification, voided,
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

pub(super) const AMENDMENT: &str = r#"amendment: acme-1-better
contract: acme-1
from: 2024-09-01
replace:
  discounts: [{name: friends, percentage: "15"}]
"#;

pub(super) fn catalogue() -> Value {
    with(listed_catalogue(), "text", CATALOGUE)
}

pub(super) fn catalogues() -> Value {
    json!({"catalogues": [listed_catalogue()]})
}

pub(super) fn published() -> Value {
    let published = with(with(catalogue(), "already_published", false), "validate_only", false);
    with(published, "retired", json!([{"product_sku": "vm.old", "use_unity": "hour"}]))
}

fn listed_catalogue() -> Value {
    json!({
        "version": "2024-09",
        "published_at": "2024-08-20T09:00:00Z",
        "effective_from": "2024-09-01T00:00:00Z",
        "skus": 1,
        "digest": "5b0f2c5e1d1c4f0e9a7d3b6c8e2f4a10",
    })
}

pub(super) fn contract() -> Value {
    let things = json!([{"what": "discount friends", "words": "10 % of each line"}]);
    let agreed = json!([{"from": "2024-01-01T00:00:00Z", "to": null, "things": things}]);
    with(with(listed_contract(), "text", CONTRACT), "agreed", agreed)
}

pub(super) fn contracts() -> Value {
    json!({"contracts": [listed_contract()]})
}

pub(super) fn applied() -> Value {
    with(with(listed_contract(), "already_applied", false), "validate_only", false)
}

pub(super) fn amended() -> Value {
    let amendment = json!({
        "name": "acme-1-better",
        "tenant": "acme",
        "valid_from": "2024-09-01T00:00:00Z",
        "valid_to": null,
        "applied_at": "2024-10-02T10:00:00Z",
        "amends": "acme-1",
        "supersedes": [],
        "holds_from": null,
        "holds_to": null,
    });
    json!({
        "amendment": amendment,
        "already_applied": false,
        "validate_only": true,
        "changes": [{
            "from": "2024-09-01T00:00:00Z",
            "to": null,
            "what": "discount friends",
            "before": "10 % of each line",
            "after": "15 % of each line",
        }],
        "periods": [{
            "period": "2024-09",
            "period_start": "2024-09-01T00:00:00Z",
            "period_end": "2024-10-01T00:00:00Z",
            "currency": "USD",
            "old": "90",
            "new": "85",
            "difference": "-5",
            "documents": ["INV-000001"],
        }],
        "months_left_out": 0,
    })
}

fn listed_contract() -> Value {
    json!({
        "name": "acme-1",
        "tenant": "acme",
        "valid_from": "2024-01-01T00:00:00Z",
        "valid_to": null,
        "applied_at": "2024-01-02T10:00:00Z",
        "amends": null,
        "supersedes": [],
        "holds_from": "2024-01-01T00:00:00Z",
        "holds_to": null,
    })
}

pub(super) fn run() -> Value {
    json!({
        "run": "7",
        "period": "2024-09",
        "tenants": [],
        "deltas": false,
        "threshold": "",
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
            "failed": "0",
            "below_threshold": "0",
        },
        "totals": [{"currency": "USD", "invoices": "1204.50", "deltas": "0.00"}],
        "failures": [],
        "blocked": [],
    })
}

pub(super) fn runs() -> Value {
    json!({"runs": [run()]})
}

pub(super) fn due() -> Value {
    let why = "no catalogue is in use: publish one with `pulso catalog publish`";
    json!({
        "looked_at": "2024-10-03T04:30:00Z",
        "from": "2022-10",
        "months": [{
            "period": "2024-09",
            "waiting": "1",
            "failed": "1",
            "blocked": "0",
            "tenants": [
                {"tenant": "acme", "state": "failed", "message": why},
                {"tenant": "zeta", "state": "waiting", "message": ""},
            ],
        }],
    })
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
