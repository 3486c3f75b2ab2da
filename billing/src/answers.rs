//! Answers: what billing answers on the wire, as the JSON that HTTP and the commands print.
//!
//! 64-bit integers and decimals are strings, moments RFC 3339 in UTC, absent ones null. Keys are only
//! ever added.

use proto::{convert, v1};
use serde_json::{Value, json};

mod written;

pub mod explanation;
pub mod invoice;
pub mod preview;
pub mod simulation;
pub mod verification;

fn moment(time: Option<&prost_types::Timestamp>) -> Value {
    time.and_then(convert::timestamp).map_or(Value::Null, |time| time.to_string().into())
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
