//! The description of HTTP is whole and true: every operation has a name, words, typed parameters, a
//! schema and an example, and what a process answers is what the schema says.

mod schema;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use self::schema::Schemas;
use crate::harness::{Home, PATIENCE, Server, Settings, billing, http};

const CONTRACT: &str = "
contract: acme-1
tenant: acme
valid_from: 2024-01-01
currency: BRL
";

const AMENDMENT: &str = "
amendment: acme-1-better
contract: acme-1
from: 2024-02-01
set: {discounts: [{name: friends, percentage: \"10\"}]}
";

fn description() -> Value {
    serde_json::from_str(&pulso::serve::description::openapi()).unwrap()
}

struct Operation<'a> {
    verb: String,
    path: &'a str,
    id: &'a str,
    document: &'a Value,
}

fn operations(description: &Value) -> Vec<Operation<'_>> {
    let mut operations = Vec::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (verb, document) in item.as_object().unwrap() {
            let id = document["operationId"].as_str();
            let id = id.unwrap_or_else(|| panic!("{verb} {path} has no operationId"));
            operations.push(Operation { verb: verb.to_uppercase(), path, id, document });
        }
    }
    operations
}

/// Each media type of an answer, of the status that says it was done.
fn contents(operation: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let content = operation["responses"]["200"]["content"].as_object();
    content.into_iter().flatten().map(|(kind, content)| (kind.as_str(), content))
}

#[test]
fn every_operation_is_named_described_and_shown() {
    let description = description();
    let schemas = Schemas::of(&description);
    let mut ids = BTreeSet::new();
    for Operation { id, document, .. } in operations(&description) {
        assert!(ids.insert(id), "two operations are called {id}");
        let is_lower_camel = id.starts_with(|first: char| first.is_ascii_lowercase())
            && id.chars().all(|letter| letter.is_ascii_alphanumeric());
        assert!(is_lower_camel, "{id}");
        assert!(document["summary"].as_str().is_some_and(|words| !words.is_empty()), "{id}");
        assert!(document["responses"]["default"].is_object(), "{id}");
        assert!(contents(document).count() > 0, "{id} answers with nothing");
        for (kind, content) in contents(document) {
            assert!(content["schema"].is_object(), "{id} has no schema as {kind}");
            let example = &content["example"];
            assert!(!example.is_null() || kind == "application/pdf", "{id} shows no {kind}");
            if kind == "application/json" {
                let mistakes = schemas.mistakes(&content["schema"], example);
                assert_eq!(mistakes, [""; 0], "{id}");
            }
        }
        if let Some(body) = document["requestBody"]["content"].as_object() {
            for (kind, content) in body {
                let mistakes = schemas.mistakes(&content["schema"], &content["example"]);
                assert_eq!(mistakes, [""; 0], "the body of {id} as {kind}");
            }
        }
    }
}

#[test]
fn every_parameter_is_typed_and_shown() {
    let description = description();
    let schemas = Schemas::of(&description);
    for Operation { id, document, path, .. } in operations(&description) {
        for parameter in document["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            assert!(parameter["description"].is_string(), "{id} {name}");
            // A parameter that may be left out is absent, never null.
            let kind = parameter["schema"]["type"].as_str();
            assert!(kind.is_some(), "{id} {name}: {}", parameter["schema"]);
            let mistakes = schemas.mistakes(&parameter["schema"], &parameter["example"]);
            assert_eq!(mistakes, [""; 0], "{id} {name}");
            if parameter["in"] == "path" {
                assert!(path.contains(&format!("{{{name}}}")), "{path} has no {name}");
            }
        }
    }
}

#[test]
fn credentials_are_asked_for_as_the_rules_say() {
    let description = description();
    let names = |requirement: &Value| requirement.as_object().unwrap().keys().cloned().collect();
    let asked: Vec<Vec<String>> =
        description["security"].as_array().unwrap().iter().map(names).collect();
    assert_eq!(asked, [["bearer"], ["apiKey"]]);
    for scheme in asked.into_iter().flatten() {
        assert!(description["components"]["securitySchemes"][scheme].is_object());
    }
    let open = |operation: &&Operation<'_>| operation.document["security"] == json!([]);
    let operations = operations(&description);
    let open: Vec<_> = operations.iter().filter(open).map(|operation| operation.path).collect();
    assert_eq!(open, ["/livez", "/openapi.json", "/readyz"]);
    let void = operations.iter().find(|operation| operation.id == "voidInvoice").unwrap();
    assert_eq!(void.document["x-roles"], json!(["admin", "operator"]));
    let words = void.document["description"].as_str().unwrap();
    assert!(words.ends_with("Roles: admin, operator. Tenants: a credential for all."), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_every_stage_serves_what_the_command_prints() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    let served: Value = serde_json::from_str(&server.get("/openapi.json").await).unwrap();
    let printed = server.pulso(&["openapi"]).await.stdout;
    assert_eq!(served, serde_json::from_slice::<Value>(&printed).unwrap());
}

/// Asks a process and holds its answers against the description.
struct Asking<'a> {
    server: &'a Server,
    description: &'a Value,
    asked: BTreeSet<&'a str>,
}

impl Asking<'_> {
    /// Asks an operation at an address and gives its answer, which is as described.
    async fn ask(&mut self, id: &str, address: &str, body: &str) -> Value {
        let operations = operations(self.description);
        let operation = operations.into_iter().find(|operation| operation.id == id).unwrap();
        let what = format!("{} {address}", operation.verb);
        let (status, answer) = http(&self.server.http, &what, body).await;
        assert_eq!(status, 200, "{what}: {answer}");
        self.asked.insert(operation.id);
        let json = operation.document["responses"]["200"]["content"].get("application/json");
        let Some(content) = json else { return Value::Null };
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let mistakes = Schemas::of(self.description).mistakes(&content["schema"], &answer);
        assert_eq!(mistakes, [""; 0], "{what}: {answer}");
        answer
    }

    /// Waits for the end of a run.
    async fn closed(&mut self, run: &str) {
        let deadline = std::time::Instant::now() + PATIENCE;
        let address = format!("/v1/billing/runs/{run}");
        while self.ask("getBillingRun", &address, "").await["state"] != "closed" {
            assert!(std::time::Instant::now() < deadline, "run {run} stays open");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    async fn reads(&mut self) {
        for (id, address) in [
            ("getLiveness", "/livez"),
            ("getReadiness", "/readyz?verbose"),
            ("getMetrics", "/metrics"),
            ("getDescription", "/openapi.json"),
            ("queryUsage", "/v1/usage?from=2024-09-01&to=2024-10-01&window=P1D"),
            ("getStatus", "/v1/status"),
        ] {
            self.ask(id, address, "").await;
        }
        let listed = self.ask("listDeadLetters", "/v1/dlq", "").await;
        let letter = &listed["entries"][0];
        let place = |name: &str| letter[name].to_string().trim_matches('"').to_owned();
        let [partition, offset, index] = ["partition", "offset", "index"].map(place);
        let address = format!("/v1/dlq/{partition}/{offset}/{index}");
        let found = self.ask("getDeadLetter", &address, "").await;
        assert_eq!(found["reason"], "too_late");
    }

    async fn prices(&mut self) {
        self.ask("publishCatalogue", "/v1/catalog?validate_only=true", billing::PLAIN_CATALOGUE)
            .await;
        self.ask("publishCatalogue", "/v1/catalog", billing::PLAIN_CATALOGUE).await;
        self.ask("listCatalogues", "/v1/catalog", "").await;
        self.ask("getCatalogue", "/v1/catalog/2024-01", "").await;
        self.ask("applyContract", "/v1/contracts?validate_only=true", CONTRACT).await;
        self.ask("applyContract", "/v1/contracts", CONTRACT).await;
        self.ask("amendContract", "/v1/contracts:amend?validate_only=true", AMENDMENT).await;
        self.ask("amendContract", "/v1/contracts:amend", AMENDMENT).await;
        self.ask("listContracts", "/v1/contracts", "").await;
        self.ask("getContract", "/v1/contracts/acme-1", "").await;
    }

    async fn bills(&mut self) {
        self.ask("previewBill", "/v1/billing:preview?tenant=acme&period=2024-09", "").await;
        let start = json!({"period": "2024-09"}).to_string();
        let run = self.ask("startBillingRun", "/v1/billing/runs", &start).await["run"].clone();
        self.closed(run.as_str().unwrap()).await;
        self.ask("listBillingRuns", "/v1/billing/runs", "").await;
        self.ask("listDuePeriods", "/v1/billing/due", "").await;
        self.ask("listInvoices", "/v1/invoices", "").await;
        self.ask("getInvoice", "/v1/invoices/INV-000001", "").await;
        self.ask("explainInvoice", "/v1/invoices/INV-000001:explain?pulses=true", "").await;
        self.ask("verifyInvoice", "/v1/invoices/INV-000001:verify?from_log=true", "").await;
        self.ask("renderInvoiceHtml", "/v1/invoices/INV-000001:html", "").await;
        let credit = json!({"lines": [{"line": 1, "amount": "1.00"}], "reason": "goodwill"});
        self.ask("creditInvoice", "/v1/invoices/INV-000001:credit", &credit.to_string()).await;
        let reason = json!({"reason": "wrong tenant"}).to_string();
        self.ask("voidInvoice", "/v1/invoices/INV-000002:void", &reason).await;
    }

    async fn rejects(&mut self) {
        let rejected = json!({"message": 1, "consumer": "ledger", "reason": "closed"}).to_string();
        self.ask("rejectMessage", "/v1/billing/rejections", &rejected).await;
        self.ask("replayRejection", "/v1/billing/rejections/1:replay", "").await;
        self.ask("listRejections", "/v1/billing/rejections", "").await;
        let recorded = self.ask("listAuditLog", "/v1/audit-log?page_size=3", "").await;
        assert_eq!(recorded["entries"].as_array().map(Vec::len), Some(3));
    }
}

/// A pulse of September that counts, and one of yesterday that is too late to.
async fn usage(server: &Server, home: &Home) {
    let path = home.path("usage.jsonl");
    let yesterday = (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(25)).to_string();
    for (time, more) in [("2024-09-10T10:00:00Z", &["--backfill", "u"][..]), (&yesterday, &[])] {
        let pulse = json!({"tenant": "acme", "product_sku": "vm", "use_unity": "hour",
                           "used_amount": "20", "time": time});
        std::fs::write(&path, pulse.to_string()).unwrap();
        let arguments = ["ingest", path.to_str().unwrap(), "--format", "jsonl"];
        server.pulso(&[&arguments, more].concat()).await;
    }
    server.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_as_described() {
    let home = Home::new();
    let settings = Settings::default().with("PULSO_BILLING__SCHEDULE", "off");
    let server = Server::start(&home, &settings).await;
    usage(&server, &home).await;
    let description = description();
    let mut asking = Asking { server: &server, description: &description, asked: BTreeSet::new() };
    asking.prices().await;
    asking.reads().await;
    asking.bills().await;
    asking.rejects().await;
    let operations = operations(&description);
    let all = operations.iter().map(|operation| operation.id);
    // A PDF needs a feature that is off; a run that is open long enough to be resumed, another test.
    let others = ["renderInvoicePdf", "resumeBillingRun", "cancelBillingRun"];
    let never: Vec<_> =
        all.filter(|id| !asking.asked.contains(id) && !others.contains(id)).collect();
    assert_eq!(never, [""; 0], "these were never asked");
}
