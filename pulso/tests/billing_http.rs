//! Billing over HTTP: the same answers and refusals as the commands get over gRPC.

use std::collections::BTreeSet;

use crate::harness::{Home, PATIENCE, Server, Settings, billing, http};
use serde_json::{Value, json};

/// A JSON answer with its status.
async fn ask(server: &Server, what: &str, body: &str) -> (u16, Value) {
    let (status, answer) = http(&server.http, what, body).await;
    let parsed = serde_json::from_str(&answer);
    (status, parsed.unwrap_or_else(|error| panic!("{what}: {status} {answer}: {error}")))
}

async fn ok(server: &Server, what: &str, body: &str) -> Value {
    let (status, answer) = ask(server, what, body).await;
    assert_eq!(status, 200, "{what}: {answer}");
    answer
}

async fn usage(server: &Server, home: &Home) {
    let path = home.path("usage.jsonl");
    let pulse = json!({"tenant": "acme", "product_sku": "vm", "use_unity": "hour",
                       "used_amount": "20", "time": "2024-09-10T10:00:00Z"});
    std::fs::write(&path, pulse.to_string()).unwrap();
    let path = path.to_str().unwrap();
    server.json(&["ingest", path, "--format", "jsonl", "--backfill", "u"]).await;
    server.drained().await;
}

/// A preview said what the invoice says, and the hours of each line of usage besides.
fn previewed_as_invoiced(mut preview: Value, invoice: &Value) {
    assert_eq!(preview["invoices"].as_array().unwrap().len(), 1, "{preview}");
    let previewed = &mut preview["invoices"][0];
    for line in previewed["lines"].as_array_mut().unwrap() {
        let hours = line.as_object_mut().unwrap().remove("hours");
        assert_eq!(hours.is_some(), line["kind"] == "usage", "{line}");
    }
    for same in ["tenant", "currency", "period", "contracts", "subtotals", "total", "lines"] {
        assert_eq!(previewed[same], invoice[same], "{same}");
    }
}

/// Starts the month and waits for its end.
async fn bill(server: &Server) -> Value {
    let start = json!({"period": "2024-09", "request_id": "september"}).to_string();
    let run = ok(server, "POST /v1/billing/runs", &start).await;
    let again = ok(server, "POST /v1/billing/runs", &start).await;
    assert_eq!(run["run"], again["run"], "the request was made before");
    let path = format!("GET /v1/billing/runs/{}", run["run"].as_str().unwrap());
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let run = ok(server, &path, "").await;
        if run["state"] == "closed" {
            return run;
        }
        assert!(std::time::Instant::now() < deadline, "{run}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_is_billed_and_explained_over_http_as_over_grpc() {
    let home = Home::new();
    let server =
        Server::start(&home, &Settings::default().with("PULSO_BILLING__SCHEDULE", "off")).await;
    let checked =
        ok(&server, "POST /v1/catalog?validate_only=true", billing::PLAIN_CATALOGUE).await;
    assert_eq!((&checked["version"], &checked["validate_only"]), (&json!("2024-01"), &json!(true)));
    assert_eq!(ok(&server, "GET /v1/catalog", "").await["catalogues"], json!([]), "only checked");
    ok(&server, "POST /v1/catalog", billing::PLAIN_CATALOGUE).await;
    assert_eq!(ok(&server, "GET /v1/catalog/2024-01", "").await["text"], billing::PLAIN_CATALOGUE);
    ok(&server, "POST /v1/contracts", billing::CONTRACT).await;
    let again = ok(&server, "POST /v1/contracts", billing::CONTRACT).await;
    assert_eq!(again["already_applied"], true);
    let contracts = ok(&server, "GET /v1/contracts?tenant=acme", "").await;
    assert_eq!(contracts["contracts"][0]["name"], "acme-1");
    assert_eq!(ok(&server, "GET /v1/contracts/acme-1", "").await["text"], billing::CONTRACT);
    usage(&server, &home).await;

    let preview = "GET /v1/billing:preview?tenant=acme&period=2024-09";
    let preview = ok(&server, preview, "").await;
    let run = bill(&server).await;
    assert_eq!(run["outcomes"]["invoices"], "1", "{run}");
    assert_eq!(ok(&server, "GET /v1/billing/runs", "").await["runs"], json!([run]));

    let listed = ok(&server, "GET /v1/invoices?page_size=1", "").await;
    assert_eq!(listed["invoices"][0]["total"], "9.00");
    let invoice = ok(&server, "GET /v1/invoices/INV-000001", "").await;
    previewed_as_invoiced(preview, &invoice);
    assert_eq!(invoice, server.json(&["invoice", "get", "INV-000001"]).await);
    let explained = ok(&server, "GET /v1/invoices/INV-000001:explain?line=1", "").await;
    assert_eq!(explained, server.json(&["bill", "explain", "INV-000001/1"]).await);
    let down = ok(&server, "GET /v1/invoices/INV-000001:explain?line=1&pulses=true", "").await;
    assert_eq!(down, server.json(&["bill", "explain", "INV-000001/1", "--pulses"]).await);
    assert!(
        down["lines"][0]["hours"][0]["segments"][0]["pulses"][0]["offset"].is_string(),
        "{down}"
    );
    let of_log = ok(&server, "GET /v1/invoices/INV-000001:verify?from_log=true", "").await;
    assert_eq!((&of_log["matches"], &of_log["segments_missing"]), (&json!(true), &json!("0")));
    let credit = r#"{"lines": [{"amount": "1.00"}], "reason": "goodwill", "validate_only": true}"#;
    let checked = ok(&server, "POST /v1/invoices/INV-000001:credit", credit).await;
    assert_eq!((&checked["number"], &checked["total"]), (&json!(""), &json!("-1.00")));
    let verified = ok(&server, "GET /v1/invoices/INV-000001:verify", "").await;
    assert_eq!((&verified["matches"], &verified["lines"]), (&json!(true), &json!(1)));
    let (status, page) = http(&server.http, "GET /v1/invoices/INV-000001:html", "").await;
    assert!(status == 200 && page.contains("INV-000001") && page.contains("9.00"), "{page}");
    let (status, problem) = ask(&server, "GET /v1/invoices/INV-000001:pdf", "").await;
    assert_eq!((status, &problem["reason"]), (400, &json!("PDF_UNAVAILABLE")), "{problem}");

    let rejected = json!({"message": 1, "consumer": "ledger", "reason": "closed"}).to_string();
    let rejected = ok(&server, "POST /v1/billing/rejections", &rejected).await;
    assert_eq!((&rejected["number"], &rejected["replayed_as"]), (&json!("1"), &Value::Null));
    let replayed = ok(&server, "POST /v1/billing/rejections/1:replay", "").await;
    assert_eq!(replayed["replayed_as"], "2");
    let rejections = ok(&server, "GET /v1/billing/rejections", "").await;
    assert_eq!(rejections["rejections"], json!([replayed]));

    let reason = json!({"reason": "wrong tenant"}).to_string();
    let voided = ok(&server, "POST /v1/invoices/INV-000001:void", &reason).await;
    assert_eq!(
        (&voided["state"], &voided["void_reason"]),
        (&json!("void"), &json!("wrong tenant"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_over_http_are_problems_with_a_reason() {
    let home = Home::new();
    let server =
        Server::start(&home, &Settings::default().with("PULSO_BILLING__SCHEDULE", "off")).await;
    let wrong = billing::PLAIN_CATALOGUE.replace("per_unit", "per_unti");
    let start = json!({"period": "2024-9"}).to_string();
    let future = json!({"period": "2999-01"}).to_string();
    let unknown = json!({"message": 4, "consumer": "c", "reason": "r"}).to_string();
    for (what, body, status, reason) in [
        ("POST /v1/catalog", wrong.as_str(), 400, "CATALOGUE_INVALID"),
        ("GET /v1/catalog/none", "", 404, "CATALOGUE_NOT_FOUND"),
        ("POST /v1/contracts", "contract: c", 400, "CONTRACT_INVALID"),
        ("GET /v1/contracts/none", "", 404, "CONTRACT_NOT_FOUND"),
        ("POST /v1/billing/runs", &start, 400, "PERIOD_INVALID"),
        ("POST /v1/billing/runs", &future, 400, "PERIOD_NOT_DUE"),
        ("GET /v1/billing/runs/x", "", 404, "RUN_NOT_FOUND"),
        ("POST /v1/billing/runs/7:cancel", "", 404, "RUN_NOT_FOUND"),
        ("POST /v1/billing/runs/7:pause", "", 404, "ROUTE_NOT_FOUND"),
        ("GET /v1/invoices/INV-000009", "", 404, "INVOICE_NOT_FOUND"),
        ("GET /v1/invoices?page_size=5000", "", 400, "PAGE_SIZE_INVALID"),
        ("GET /v1/invoices?page_size=many", "", 400, "PAGE_SIZE_INVALID"),
        ("GET /v1/invoices?tenent=a", "", 400, "PARAMETER_UNKNOWN"),
        ("GET /v1/invoices/INV-000009:verify?from_log=1", "", 400, "PARAMETER_INVALID"),
        ("POST /v1/catalog?validate=true", billing::PLAIN_CATALOGUE, 400, "PARAMETER_UNKNOWN"),
        ("POST /v1/billing/rejections", &unknown, 404, "MESSAGE_NOT_FOUND"),
        ("POST /v1/billing/rejections/1:replay", "", 404, "REJECTION_NOT_FOUND"),
    ] {
        let (found, problem) = ask(&server, what, body).await;
        assert_eq!(
            (found, problem["reason"].as_str()),
            (status, Some(reason)),
            "{what}: {problem}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_names_every_route_of_billing_and_no_other() {
    let home = Home::new();
    let settings = Settings::default().with("PULSO_BILLING__SCHEDULE", "off");
    let server = Server::start(&home, &settings).await;
    let description = ok(&server, "GET /openapi.json", "").await;
    let mut described = BTreeSet::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation["tags"] != json!(["billing"]) {
                continue;
            }
            // An action is behind the placeholder of its route.
            let route =
                path.split_once("}:").map_or(path.clone(), |(route, _)| format!("{route}}}"));
            described.insert((method, route));
            let mut address = path.clone();
            for name in ["version", "name", "run", "rejection", "invoice"] {
                address = address.replace(&format!("{{{name}}}"), "7");
            }
            let what = format!("{} {address}", method.to_uppercase());
            let (status, answer) = http(&server.http, &what, "").await;
            assert!(status != 405 && !answer.contains("ROUTE_NOT_FOUND"), "{what}: {answer}");
        }
    }
    let routes = include_str!("../../billing/src/http.rs");
    let handlers = routes.matches("::<U, B, L>)").count();
    assert_eq!(described.len(), handlers, "a route without a description, or the other way round");
    // A refusal of an unknown action names the known ones.
    for (what, paths) in [
        ("GET /v1/invoices/7:x", "/v1/invoices/{invoice}:"),
        ("POST /v1/invoices/7:x", "/v1/invoices/{invoice}:"),
        ("POST /v1/billing/runs/7:x", "/v1/billing/runs/{run}:"),
        ("POST /v1/billing/rejections/7:x", "/v1/billing/rejections/{rejection}:"),
    ] {
        let (_, problem) = ask(&server, what, "").await;
        let (_, known) = problem["detail"].as_str().unwrap().split_once("there are ").unwrap();
        let known: BTreeSet<_> =
            known.split([',', ' ']).filter_map(|word| word.strip_prefix(':')).collect();
        let verb = what.split_once(' ').unwrap().0.to_lowercase();
        let all = description["paths"].as_object().unwrap().iter();
        let all = all.filter(|(_, item)| item.get(&verb).is_some());
        let described: BTreeSet<_> = all.filter_map(|(path, _)| path.strip_prefix(paths)).collect();
        assert_eq!(known, described, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_on_an_invoice_takes_its_own_fields_and_parameters_only() {
    let home = Home::new();
    let settings = Settings::default().with("PULSO_BILLING__SCHEDULE", "off");
    let server = Server::start(&home, &settings).await;
    // It would be done, though the client asked for a check only.
    let void = json!({"reason": "wrong", "validate_only": true}).to_string();
    for (what, body, reason, said) in [
        ("POST /v1/invoices/7:void", &*void, "PARAMETER_INVALID", "unknown field `validate_only`"),
        ("GET /v1/invoices/7?line=1", "", "PARAMETER_UNKNOWN", "takes none"),
        ("GET /v1/invoices/7:verify?line=1", "", "PARAMETER_UNKNOWN", "there are from_log"),
        ("GET /v1/invoices/7:html?pulses=1", "", "PARAMETER_UNKNOWN", "takes none"),
    ] {
        let (status, problem) = ask(&server, what, body).await;
        assert_eq!((status, problem["reason"].as_str()), (400, Some(reason)), "{what}: {problem}");
        assert!(problem.to_string().contains(said), "{what}: {problem}");
    }
}
