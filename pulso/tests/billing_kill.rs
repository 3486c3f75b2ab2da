//! SIGKILL at every journalled step of a billing run: one invoice, one number, one message a tenant,
//! whatever the moment.
//!
//! A run bills a dozen tenants and dies at a named point; the program is started again and goes on by
//! itself. `PULSO_TEST_KILLS` asks for more kills at each point than two and writes
//! `docs/faults-report-billing.md`; `PULSO_TEST_SEED` chooses other moments.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests too; the lint only knows functions.

mod harness;

use std::{collections::BTreeSet, fmt::Write as _};

use harness::{Home, PATIENCE, Random, Server, Settings, root};
use proto::v1::{
    ListInvoicesRequest, ListRunsRequest, StartRunRequest, WatchInvoicesRequest,
    billing_service_client::BillingServiceClient,
};
use serde_json::{Value, json};
use service::fault::POINTS;

const TENANTS: u64 = 12;
const KILLS: u64 = 2;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |number| number.parse().unwrap())
}

fn settings() -> Settings {
    Settings::default()
        .with("PULSO_BILLING__SCHEDULE", "off")
        .with("PULSO_BILLING__TENANTS_AT_ONCE", "4")
}

/// Points that a run passes once; the others it passes once a tenant.
fn passes(point: &str) -> u64 {
    let once = ["after_open", "before_cut", "after_cut", "before_close"];
    if once.iter().any(|once| point.ends_with(once)) { 1 } else { TENANTS }
}

/// Usage of a dozen tenants, all drained.
async fn prepare(home: &Home) {
    let server = Server::start(home, &settings()).await;
    let catalogue = home.path("catalogue.yaml");
    std::fs::write(
        &catalogue,
        "catalogue: c\ncurrency: BRL\nskus:\n  - {sku: vm, unit: hour, prices: [{valid_from: 2024-01-01T00:00:00Z, model: per_unit, unit_price: \"0.10\"}]}\n",
    )
    .unwrap();
    server.json(&["catalog", "publish", catalogue.to_str().unwrap()]).await;
    let usage = home.path("usage.jsonl");
    let lines: Vec<String> = (0..TENANTS)
        .map(|tenant| {
            json!({"tenant": format!("t{tenant:02}"), "product_sku": "vm", "use_unity": "hour",
                   "used_amount": (tenant + 1).to_string(), "time": "2024-09-10T10:00:00Z"})
            .to_string()
        })
        .collect();
    std::fs::write(&usage, lines.join("\n")).unwrap();
    let usage = usage.to_str().unwrap();
    server.json(&["ingest", usage, "--format", "jsonl", "--backfill", "usage"]).await;
    server.drained().await;
    server.terminate().await;
}

/// Starts the month and lets the process die at a point. Gives whether it did.
async fn run_until_killed(home: &Home, fault: &str) -> bool {
    let mut server = Server::start(home, &settings().with("PULSO_FAULT", fault)).await;
    let mut client = BillingServiceClient::new(server.channel().await);
    // The answer may die with the process.
    drop(client.start_run(start()).await);
    let died = tokio::time::timeout(PATIENCE, server.end_status()).await;
    died.is_ok_and(|status| status.code().is_none())
}

fn start() -> StartRunRequest {
    StartRunRequest {
        period: "2024-09".into(),
        request_id: "september".into(),
        ..Default::default()
    }
}

/// Waits until every run has ended, and looks at what there is.
async fn settle(home: &Home) -> Result<(), String> {
    let server = Server::start(home, &settings()).await;
    let mut client = BillingServiceClient::new(server.channel().await);
    let deadline = std::time::Instant::now() + PATIENCE;
    client.start_run(start()).await.unwrap();
    loop {
        let runs = client.list_runs(ListRunsRequest {}).await.unwrap().into_inner().runs;
        if runs.len() != 1 {
            return Err(format!("{} runs", runs.len()));
        }
        if runs[0].state == "closed" {
            break;
        }
        if std::time::Instant::now() > deadline {
            return Err(format!("still {:?}", runs[0]));
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let found = check(&mut client).await;
    server.terminate().await;
    found
}

/// One invoice a tenant with what it owes, numbers without gaps, one message each.
async fn check(client: &mut BillingServiceClient<tonic::transport::Channel>) -> Result<(), String> {
    let request = ListInvoicesRequest { page_size: 1_000, ..Default::default() };
    let invoices = client.list_invoices(request).await.unwrap().into_inner().invoices;
    let mut tenants = BTreeSet::new();
    for (place, invoice) in (1..).zip(&invoices) {
        if invoice.number != format!("INV-{place:06}") {
            return Err(format!("place {place} has number {}", invoice.number));
        }
        let tenant: u64 = invoice.tenant.trim_start_matches('t').parse().unwrap();
        let cents = (tenant + 1) * 10;
        let owed = format!("{}.{:02}", cents / 100, cents % 100);
        let owed = owed.trim_end_matches('0').trim_end_matches('.');
        if invoice.total != owed || invoice.state != "final" {
            return Err(format!("{} owes {owed}: {invoice:?}", invoice.tenant));
        }
        if !tenants.insert(tenant) {
            return Err(format!("{} has two invoices", invoice.tenant));
        }
        let request = ListInvoicesRequest { tenant: invoice.tenant.clone(), ..Default::default() };
        let documents = client.list_invoices(request).await.unwrap().into_inner().invoices;
        if documents.len() != 1 {
            return Err(format!("{} has {} documents", invoice.tenant, documents.len()));
        }
    }
    if tenants.len() as u64 != TENANTS {
        return Err(format!("{} tenants have invoices", tenants.len()));
    }
    let request = WatchInvoicesRequest { after: 0, until_now: true };
    let mut messages = client.watch_invoices(request).await.unwrap().into_inner();
    let (mut place, mut told) = (0, BTreeSet::new());
    while let Some(message) = messages.message().await.unwrap() {
        place += 1;
        let body: Value = serde_json::from_str(&message.message_json).unwrap();
        if message.number != place || !told.insert(body["number"].as_str().unwrap().to_owned()) {
            return Err(format!("message {} says {} again", message.number, body["number"]));
        }
    }
    let numbers: BTreeSet<String> = invoices.iter().map(|invoice| invoice.number.clone()).collect();
    if told == numbers { Ok(()) } else { Err(format!("messages about {told:?}")) }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_of_a_billing_run_loses_or_doubles_an_invoice_a_number_or_a_message() {
    let points: Vec<&str> =
        POINTS.iter().copied().filter(|point| point.starts_with("billing.")).collect();
    let mut random = Random(number("PULSO_TEST_SEED", 1));
    let kills = number("PULSO_TEST_KILLS", KILLS);
    let mut report = String::from(REPORT);
    let mut wrong = Vec::new();
    for point in points {
        for _ in 0..kills {
            let fault = format!("{point}:{}", 1 + random.below(passes(point)));
            let home = Home::new();
            prepare(&home).await;
            assert!(run_until_killed(&home, &fault).await, "{fault} did not kill");
            // And once more, in the middle of what is left of it.
            let again = format!("billing.before_published:{}", 1 + random.below(3));
            if random.below(2) == 0 {
                let again = settings().with("PULSO_FAULT", &again);
                if let Ok(mut server) = Server::try_start(&home, &again).await {
                    let ended = tokio::time::timeout(
                        std::time::Duration::from_secs(2),
                        server.end_status(),
                    );
                    drop(ended.await);
                }
            }
            if let Err(difference) = settle(&home).await {
                wrong.push(format!("{fault}: {difference}"));
            }
        }
        writeln!(report, "| `{point}` | {kills} | {} |", wrong.len()).unwrap();
    }
    if std::env::var_os("PULSO_TEST_KILLS").is_some() {
        std::fs::write(root().join("docs/faults-report-billing.md"), report).unwrap();
    }
    assert_eq!(wrong, Vec::<String>::new());
}

const REPORT: &str = "# Faults: what kills did to billing runs

Written by `make test-faults` (`pulso/tests/billing_kill.rs`). In each run a dozen tenants are billed by
`pulso dev`, which dies by SIGKILL at the point named; it is started again (half of the time it is killed
a second time) and goes on by itself. Then every tenant has one invoice with what it owes, the numbers
have no gap, and there is one message for each. \"Wrong so far\" counts runs that differ, over all points
up to this one.

| point | kills | wrong so far |
| --- | ---: | ---: |
";
