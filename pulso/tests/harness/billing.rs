//! Billing as a person does it, through the program.

use domain::{BillingStore as _, billing::Appended};
use serde_json::{Value, json};
use storage::embedded::{DataDirectory, EmbeddedStore, FatalHook, OpenOptions, StoreOptions};

use super::{Home, Server, Settings};

pub(crate) const CATALOGUE: &str = r#"
catalogue: "2024-01"
currency: BRL
skus:
  - sku: vm
    name: Virtual machine
    unit: hour
    prices:
      - valid_from: 2024-01-01T00:00:00Z
        model: graduated
        tiers:
          - {up_to: "100", unit_price: "0.50"}
          - {unit_price: "0.40"}
  - sku: support
    unit: month
    prices:
      - {valid_from: 2024-01-01T00:00:00Z, model: flat, amount: "30.00"}
"#;

/// One price and no name.
pub(crate) const PLAIN_CATALOGUE: &str = r#"
catalogue: "2024-01"
currency: BRL
skus:
  - sku: vm
    unit: hour
    prices: [{valid_from: 2024-01-01T00:00:00Z, model: per_unit, unit_price: "0.50"}]
"#;

/// A tenth off for the tenant `acme`.
pub(crate) const CONTRACT: &str = r#"
contract: acme-1
tenant: acme
valid_from: 2024-01-01
currency: BRL
discounts: [{name: friends, percentage: "10"}]
"#;

pub(crate) fn settings() -> Settings {
    // Due at once: the usage is of 2024.
    Settings::default().with("PULSO_BILLING__SCHEDULE", "off")
}

pub(crate) fn file(home: &Home, name: &str, text: &str) -> String {
    let path = home.path(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Usage by (tenant, SKU, unit, amount, time), as a backfill of this name.
pub(crate) async fn use_up(
    server: &Server,
    home: &Home,
    name: &str,
    usage: &[(&str, &str, &str, &str, &str)],
) {
    let lines = usage.iter().map(|(tenant, sku, unit, amount, time)| {
        json!({"tenant": tenant, "product_sku": sku, "use_unity": unit, "used_amount": amount, "time": time})
            .to_string()
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let path = file(home, &format!("{name}.jsonl"), &text);
    let sent = server.json(&["ingest", &path, "--format", "jsonl", "--backfill", name]).await;
    assert_eq!(sent["rejected"], "0", "{sent}");
    server.drained().await;
}

pub(crate) async fn publish(server: &Server, home: &Home, text: &str) {
    let path = file(home, "catalogue.yaml", text);
    server.json(&["catalog", "publish", &path]).await;
}

pub(crate) async fn apply(server: &Server, home: &Home, text: &str) {
    let path = file(home, "contract.yaml", text);
    server.json(&["contract", "apply", &path]).await;
}

/// Applies the first contract of a store as a program did that did not check the log's windows. Stops
/// the server for it and starts it again.
pub(crate) async fn apply_unchecked(
    server: Server,
    home: &Home,
    tenant: &str,
    text: &str,
) -> Server {
    server.terminate().await;
    let directory = DataDirectory::open(&home.data(), OpenOptions::default()).unwrap();
    let options = StoreOptions::new(FatalHook::new(|what| panic!("{what}")));
    let store = EmbeddedStore::open(&directory, &options).unwrap();
    let name = text.lines().next().unwrap().strip_prefix("contract: ").unwrap();
    let entry = json!({"contract": name, "tenant": tenant, "text": text, "catalogue": "2024-01",
                       "applied_at": "2024-01-01T00:00:00Z"});
    let added = store.billing().append_entry("contracts", 0, entry.to_string().as_bytes()).await;
    assert_eq!(added.unwrap(), Appended::Added);
    tokio::task::spawn_blocking(move || (store.close(), drop(directory))).await.unwrap();
    Server::start(home, &settings()).await
}

pub(crate) async fn bill(server: &Server, more: &[&str]) -> Value {
    let run = server.json(&[&["bill", "run", "--period", "2024-09"], more].concat()).await;
    assert_eq!(run["state"], "closed", "{run}");
    run["outcomes"].clone()
}

pub(crate) async fn invoice(server: &Server, number: &str) -> Value {
    server.json(&["invoice", "get", number]).await
}

/// All messages about invoices.
pub(crate) async fn messages(server: &Server) -> Vec<Value> {
    let watched = server.pulso(&["invoice", "watch", "--until-now"]).await;
    let lines = String::from_utf8(watched.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn amounts(invoice: &Value) -> Vec<(&str, &str)> {
    let lines = invoice["lines"].as_array().unwrap().iter();
    lines.map(|line| (line["kind"].as_str().unwrap(), line["amount"].as_str().unwrap())).collect()
}
