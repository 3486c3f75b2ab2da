//! Golden answers: what HTTP says about an invoice, byte by byte, and what its messages say.
//!
//! `tests/answers.txt` has a line for each answer; `PULSO_TEST_WRITE_DOCS=1` writes it anew, which is
//! right for a new answer or a new key only.

use std::{fmt::Write as _, fs, path::Path as FilePath};

use axum::{
    body,
    extract::{Path, Request},
    http::header,
    response::IntoResponse,
};
use edge::access::Change;
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};

use super::*;
use crate::testing::billed::{self, Service};

const CONTRACT: &str = r#"
contract: acme-1
tenant: acme
valid_from: 2024-09-01
currency: USD
discounts: [{name: friends, percentage: "10"}, {name: voucher, amount: "0.10"}]
taxes: [{name: VAT, rate: "0.19", on: [usage]}]
credits: [{name: welcome, amount: "0.25"}]
"#;

async fn text(answer: impl IntoResponse) -> String {
    let bytes = body::to_bytes(answer.into_response().into_body(), usize::MAX).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn shown(service: &Service, what: &str) -> String {
    let (path, query) =
        what.split_once('?').map_or((what, None), |(path, query)| (path, Some(query)));
    let (state, principal) = (State(service.clone()), Extension(Principal::local()));
    let query = RawQuery(query.map(str::to_owned));
    text(invoices::get(state, principal, Path(path.to_owned()), query).await).await
}

async fn done(service: &Service, what: &str, action: Value) -> String {
    let request = Request::post(what).header(header::CONTENT_TYPE, "application/json");
    let request = request.body(action.to_string().into()).unwrap();
    let (state, change) = (State(service.clone()), Extension(Change::default()));
    text(invoices::act(state, change, Path(what.to_owned()), request).await).await
}

async fn previewed(service: &Service) -> String {
    let query = RawQuery(Some("tenant=acme&period=2024-09".to_owned()));
    text(preview(State(service.clone()), Extension(Principal::local()), query).await).await
}

async fn listed(service: &Service) -> String {
    let query = RawQuery(Some("tenant=acme".to_owned()));
    let (state, principal) = (State(service.clone()), Extension(Principal::local()));
    text(invoices::list(state, principal, query).await).await
}

/// Every message of the outbox, one a line.
async fn messages(service: &Service) -> String {
    let request = v1::WatchInvoicesRequest { after: 0, until_now: true };
    let messages: Vec<_> = service.watch(&request).try_collect().await.unwrap();
    let mut lines = messages.iter().map(|(number, body)| format!("{number} {body}"));
    lines.by_ref().collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn answers_keep_their_bytes() {
    let service = billed::service_under(CONTRACT).await;
    let other = r#"catalogue: "2"
currency: USD
skus: [{sku: mx, unit: u, prices: [{valid_from: 2024-01-01T00:00:00Z, model: per_unit, unit_price: "2"}]}]
"#;
    let simulated = v1::SimulateRequest {
        period: "2024-09".to_owned(),
        new_text: other.to_owned(),
        ..v1::SimulateRequest::default()
    };
    let credit = |amount: &str, validate_only| {
        let lines = json!([{"line": 1, "amount": amount}, {"amount": "0.05"}]);
        json!({"reason": "late", "lines": lines, "validate_only": validate_only})
    };
    let mut answers = vec![
        ("preview", previewed(&service).await),
        ("invoice", shown(&service, "INV-000001").await),
        ("html", shown(&service, "INV-000001:html").await),
        ("explain", shown(&service, "INV-000001:explain").await),
        ("explain line", shown(&service, "INV-000001:explain?line=2").await),
        ("verify", shown(&service, "INV-000001:verify").await),
        ("checked", done(&service, "INV-000001:credit", credit("0.1", true)).await),
        ("credited", done(&service, "INV-000001:credit", credit("0.1", false)).await),
        ("note", shown(&service, "INV-000002").await),
        ("note explained", shown(&service, "INV-000002:explain").await),
        ("note verified", shown(&service, "INV-000002:verify").await),
        ("void", done(&service, "INV-000002:void", json!({"reason": "wrong"})).await),
        ("list", listed(&service).await),
        ("simulation", text(Json(service.simulated(simulated).await.unwrap())).await),
    ];
    answers.push(("messages", messages(&service).await));
    let mut now = String::new();
    answers.iter().for_each(|(name, answer)| writeln!(now, "{name}: {answer}").unwrap());
    let path = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("src/http/tests/answers.txt");
    if std::env::var_os("PULSO_TEST_WRITE_DOCS").is_some() {
        fs::write(&path, &now).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    for (kept, now) in kept.lines().zip(now.lines()) {
        assert_eq!(kept, now);
    }
    assert_eq!(kept.len(), now.len());
}

/// The keys of an object that a schema names, in the schema or in those that it is made of.
fn described(schemas: &Value, schema: &Value) -> Vec<String> {
    let own = schema["properties"].as_object().into_iter().flatten();
    let mut keys: Vec<String> = own.map(|(key, _)| key.clone()).collect();
    for part in schema["allOf"].as_array().into_iter().flatten() {
        keys.extend(described(schemas, part));
    }
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        keys.extend(described(schemas, &schemas[name]));
    }
    keys
}

#[tokio::test]
async fn every_key_of_an_answer_is_in_the_description() {
    let description = serde_json::to_value(openapi()).unwrap();
    let schemas = &description["components"]["schemas"];
    let service = billed::service_under(CONTRACT).await;
    let parse = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let invoice = parse(shown(&service, "INV-000001").await);
    let explained = parse(shown(&service, "INV-000001:explain").await);
    let verified = parse(shown(&service, "INV-000001:verify").await);
    let preview = parse(previewed(&service).await);
    let line = &explained["lines"][0];
    for (name, value) in [
        ("InvoiceAnswer", &invoice),
        ("PaymentAnswer", &invoice["payments"][0]),
        ("Period", &invoice["period"]),
        ("Subtotals", &invoice["subtotals"]),
        ("ExplanationAnswer", &explained),
        ("DocumentLine", line),
        ("Hour", &line["hours"][0]),
        ("SegmentRef", &line["hours"][0]["segments"][0]),
        ("VerificationAnswer", &verified),
        ("PreviewAnswer", &preview),
    ] {
        let known = described(schemas, &schemas[name]);
        for key in value.as_object().unwrap().keys() {
            assert!(known.contains(key), "{name} has no {key}: {known:?}");
        }
    }
    let heads = described(schemas, &schemas["InvoiceHeadAnswer"]);
    assert!(!heads.contains(&"lines".to_owned()), "lists have none of the content");
    let steps = schemas["Step"]["oneOf"].as_array().unwrap();
    assert_eq!(steps.len(), 31);
    assert!(steps.iter().all(|step| described(schemas, step).contains(&"step".to_owned())));
    assert_eq!(schemas["InvoiceDocument"]["oneOf"].as_array().unwrap().len(), 5);
}
