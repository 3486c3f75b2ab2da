//! The audit trail through the program: every write by either door is in it once with its end, whoever
//! goes away meanwhile, and reads and strangers leave nothing.

use std::collections::BTreeMap;

use edge::access::Effect;
use pulso::serve::description::rules;
use serde_json::{Value, json};

use crate::{
    access::{create, reason, required, text},
    harness::{Home, PATIENCE, Server, Settings, billing, http},
};

const CONTRACT: &str = r#"
contract: acme-1
tenant: acme
valid_from: 2024-01-01
currency: BRL
discounts: [{name: friends, percentage: "10"}]
"#;

fn entries(document: &Value) -> &[Value] {
    document["entries"].as_array().unwrap()
}

/// All that `pulso audit-log` shows to whoever may ask without a credential.
async fn audit_log(server: &Server, more: &[&str]) -> Vec<Value> {
    entries(&server.json(&[&["audit-log"], more].concat()).await).to_vec()
}

/// The same with a key.
async fn audit_log_with(server: &Server, key: &str) -> Vec<Value> {
    let output = server.pulso_with(&["audit-log", "-o", "json"], Some(key)).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    entries(&serde_json::from_slice(&output.stdout).unwrap()).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_method_that_writes_is_recorded_once_with_its_end_and_no_other_is() {
    let home = Home::new();
    let admin = create(&home, &["ops", "--role", "admin", "--tenant", "*"], None);
    let viewer = create(&home, &["eve", "--role", "viewer", "--tenant", "*"], None);
    let server = Server::start(&home, &required()).await;
    let made = audit_log_with(&server, text(&admin)).await.len();
    assert_eq!(made, 2, "the keys that were made in the store");
    for rule in rules() {
        reason(&server, rule.method, None).await;
        reason(&server, rule.method, Some("nonsense")).await;
        reason(&server, rule.method, Some(text(&admin))).await;
        if rule.effect == Effect::Writes {
            let refused = reason(&server, rule.method, Some(text(&viewer))).await;
            assert_eq!(refused.as_deref(), Some("ROLE_MISSING"), "{}", rule.method);
        }
    }
    let recorded = audit_log_with(&server, text(&admin)).await;
    let mut by_method: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for entry in &recorded[made..] {
        assert_eq!(entry["who"]["kind"], "api_key", "{entry}");
        assert!(entry["ended_at"].is_string() && entry["request_id"].is_string(), "{entry}");
        let (who, outcome) = (&entry["who"]["name"], &entry["outcome"]);
        let method = entry["method"].as_str().unwrap();
        let seen = (who.as_str().unwrap(), outcome.as_str().unwrap());
        by_method.entry(method).or_default().push(seen);
    }
    let written: Vec<_> =
        rules().into_iter().filter(|rule| rule.effect == Effect::Writes).collect();
    assert_eq!(written.len(), 18, "as docs/access.md says");
    for rule in &written {
        let found = by_method.remove(rule.method).unwrap_or_default();
        // Nobody asks for anything that there is, so each is refused by its handler.
        assert_eq!(found, [("ops", "refused"), ("eve", "refused")], "{}", rule.method);
    }
    assert!(by_method.is_empty(), "{by_method:?}");
    let said = format!("{recorded:?}{}", server.log());
    for key in [&admin, &viewer] {
        assert!(!said.contains(&text(key)[23..]), "a secret is recorded");
    }
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_says_what_was_changed_from_what_to_what() {
    let home = Home::new();
    let server = Server::start(&home, &billing::settings().without_access()).await;
    billing::publish(&server, &home, billing::CATALOGUE).await;
    let path = billing::file(&home, "catalogue.yaml", billing::CATALOGUE);
    server.json(&["catalog", "publish", &path, "--validate-only"]).await;
    http(&server.http, "POST /v1/contracts", CONTRACT).await;
    let second = CONTRACT.replace("acme-1", "acme-2").replace("2024-01-01", "2024-06-01");
    billing::apply(&server, &home, &second).await;
    let used = ("acme", "vm", "hour", "10", "2024-09-03T10:00:00Z");
    billing::use_up(&server, &home, "september", &[used]).await;
    billing::bill(&server, &[]).await;
    let void = json!({ "reason": "a wrong price" }).to_string();
    let voided = http(&server.http, "POST /v1/invoices/INV-000001:void", &void).await;
    assert_eq!(voided.0, 200, "{}", voided.1);
    let missing = server.pulso(&["invoice", "void", "INV-000077", "--reason", "none"]).await;
    assert_eq!(missing.status.code(), Some(65));
    let found = audit_log(&server, &[]).await;
    let told: Vec<_> = found
        .iter()
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap_or("-").to_owned();
            let evidence = |name: &str| entry[name]["text"].as_str().unwrap_or("-").to_owned();
            let (what, ended) = (text("method"), [text("target"), text("outcome"), text("reason")]);
            (what, ended, evidence("before"), evidence("after"))
        })
        .collect();
    let call = |method: &str, ended: [&str; 3], before: &str, after: &str| {
        (method.to_owned(), ended.map(str::to_owned), before.to_owned(), after.to_owned())
    };
    let publish = "/pulso.v1.CatalogService/PublishCatalogue";
    let apply = "/pulso.v1.BillingService/ApplyContract";
    assert_eq!(
        told,
        [
            call(publish, ["2024-01", "done", "-"], "-", billing::CATALOGUE),
            call(publish, ["2024-01", "checked", "-"], "-", "-"),
            call("POST /v1/contracts", ["acme-1", "done", "-"], "-", CONTRACT),
            call(apply, ["acme-2", "done", "-"], CONTRACT, &second),
            call("/pulso.v1.BillingService/StartRun", ["1", "done", "-"], "-", "-"),
            call("POST /v1/invoices/{invoice}", ["INV-000001", "done", "-"], "-", "-"),
            call(
                "/pulso.v1.BillingService/VoidInvoice",
                ["INV-000077", "refused", "INVOICE_NOT_FOUND"],
                "-",
                "-"
            ),
        ]
    );
    assert!(found.iter().all(|entry| entry["who"]["kind"] == "local"), "{found:?}");
    let (_, over_http) = http(&server.http, "GET /v1/audit-log", "").await;
    let over_http: Value = serde_json::from_str(&over_http).unwrap();
    assert_eq!(entries(&over_http), found, "both doors say the same");
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_the_two_entries_leaves_a_call_of_which_nobody_knows_the_end() {
    for (point, is_published) in [("audit.after_begun", false), ("audit.before_ended", true)] {
        let home = Home::new();
        let settings = Settings::default().without_access().with("PULSO_FAULT", point);
        let mut server = Server::start(&home, &settings).await;
        let path = billing::file(&home, "catalogue.yaml", billing::CATALOGUE);
        let published = server.pulso(&["catalog", "publish", &path]).await;
        assert_ne!(published.status.code(), Some(0), "{point}");
        assert!(!server.end_status().await.success(), "{point}");
        let server = Server::start(&home, &Settings::default().without_access()).await;
        let found = audit_log(&server, &[]).await;
        assert_eq!(found.len(), 1, "{point}: {found:?}");
        assert_eq!(
            (&found[0]["outcome"], &found[0]["ended_at"]),
            (&json!("unknown"), &Value::Null)
        );
        let catalogues = server.json(&["catalog", "list"]).await;
        let count = catalogues["catalogues"].as_array().unwrap().len();
        assert_eq!(count, usize::from(is_published), "{point}: {catalogues}");
        server.json(&["catalog", "publish", &path]).await;
        assert_eq!(audit_log(&server, &[]).await[1]["outcome"], "done", "{point}");
        server.terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_client_has_gone_away_has_its_end() {
    use tokio::io::AsyncWriteExt as _;
    let home = Home::new();
    let server = Server::start(&home, &Settings::default().without_access()).await;
    let body = billing::CATALOGUE;
    let request = format!(
        "POST /v1/catalog HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n{body}",
        server.http,
        body.len() + 1
    );
    let mut connection = tokio::net::TcpStream::connect(&server.http).await.unwrap();
    connection.write_all(request.as_bytes()).await.unwrap();
    // The last byte does not come, and so the handler waits.
    let begun = once(&server, "unknown").await;
    drop(connection);
    let ended = once(&server, "refused").await;
    assert_eq!(begun["id"], ended["id"]);
    server.terminate().await;
}

/// The one call in the trail, once it has this outcome.
async fn once(server: &Server, outcome: &str) -> Value {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let mut found = audit_log(server, &[]).await;
        assert!(found.len() <= 1, "{found:?}");
        if found.iter().any(|entry| entry["outcome"] == outcome) {
            return found.remove(0);
        }
        assert!(std::time::Instant::now() < deadline, "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_others_and_keys_of_a_process_that_asks_for_none_are_refused() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default().without_access()).await;
    // The helper writes the version behind what it is given.
    let foreign = "POST /v1/catalog HTTP/1.0\r\norigin: https://evil.example\r\nx:";
    let (status, said) = http(&server.http, foreign, "").await;
    assert_eq!(status, 403, "{said}");
    assert_eq!(audit_log(&server, &[]).await, [] as [Value; 0], "a page of others writes nothing");
    let listed = server.pulso(&["key", "list"]).await;
    let said = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert_eq!(listed.status.code(), Some(65), "{said}");
    assert!(said.contains("KEYS_OFF") && said.contains("--local"), "{said}");
    for (what, reason) in [
        ("GET /v1/audit-log?page_size=0&to=yesterday", "TIME_INVALID"),
        ("GET /v1/audit-log?from=2024-01-02T00:00:00Z&to=2024-01-01T00:00:00Z", "RANGE_INVALID"),
        ("GET /v1/audit-log?page_token=abc", "PAGE_TOKEN_INVALID"),
        ("GET /v1/audit-log?page_size=1001", "PAGE_SIZE_INVALID"),
    ] {
        let (status, answer) = http(&server.http, what, "").await;
        assert!(status == 400 && answer.contains(reason), "{what}: {status} {answer}");
    }
    server.terminate().await;
}
