//! Billing runs that no tenant can block, and the schedule that finds whatever is due, through the
//! built program.

use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use serde_json::{Value, json};

use crate::harness::{
    Home, PATIENCE, Server, Settings,
    billing::{CATALOGUE, apply, invoice, messages, publish, settings, use_up},
};

const RUN: [&str; 4] = ["bill", "run", "--period", "2024-09"];

/// Looks as far back as the usage of these tests.
fn far_back() -> Settings {
    settings().with("PULSO_BILLING__LOOK_BACK_MONTHS", "240")
}

fn store(home: &Home) -> Connection {
    Connection::open(home.data().join("store.db")).unwrap()
}

/// A ledger that nobody understands, in the store of a server that does not run.
fn damage(home: &Home, tenant: &str) {
    let journal = format!("ledger/{tenant}");
    let entry = "INSERT INTO journal_entry (journal, place, entry) VALUES (?1, 0, ?2)";
    assert_eq!(store(home).execute(entry, params![journal, b"{}"]).unwrap(), 1);
}

fn mend(home: &Home, tenant: &str) {
    let journal = format!("ledger/{tenant}");
    let entry = "DELETE FROM journal_entry WHERE journal = ?1";
    assert_eq!(store(home).execute(entry, [journal]).unwrap(), 1);
}

/// Runs a command that exits with this code. Gives its document, or what it said.
async fn exits(server: &Server, arguments: &[&str], code: i32) -> (Value, String) {
    let output = server.pulso(&[arguments, &["-o", "json"]].concat()).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    (serde_json::from_slice(&output.stdout).unwrap_or(Value::Null), stderr)
}

/// The due tenants of a month that says so.
fn due<'v>(status: &'v Value, month: &str) -> Option<&'v Value> {
    let months = status["due"]["months"].as_array().unwrap().iter();
    months.into_iter().find(|found| found["period"] == month)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenant_that_cannot_be_billed_stops_nobody_and_is_billed_once_the_cause_is_mended() {
    let home = Home::new();
    let server = Server::start(&home, &far_back()).await;
    publish(&server, &home, CATALOGUE).await;
    let hour = |tenant| (tenant, "vm", "hour", "10", "2024-09-10T10:00:00Z");
    use_up(&server, &home, "u", &[hour("acme"), hour("broken"), hour("zeta")]).await;
    server.terminate().await;
    damage(&home, "broken");

    let server = Server::start(&home, &far_back()).await;
    let (run, _) = exits(&server, &RUN, 1).await;
    assert_eq!(run["state"], "closed_with_failures", "{run}");
    assert_eq!(
        (&run["outcomes"]["invoices"], &run["outcomes"]["failed"]),
        (&json!("2"), &json!("1"))
    );
    assert_eq!(run["totals"], json!([{"currency": "BRL", "invoices": "10.00", "deltas": "0.00"}]));
    let words = run["failures"][0]["message"].as_str().unwrap();
    assert!(run["failures"][0]["tenant"] == "broken" && words.contains("ledger/broken"), "{run}");
    assert_eq!(messages(&server).await.len(), 2, "the others' messages are out");
    server.terminate().await;

    // Another process knows it from the books.
    let server = Server::start(&home, &far_back()).await;
    assert_eq!(exits(&server, &["bill", "status", "1"], 1).await.0, run);
    let status = server.json(&["bill", "status"]).await;
    assert_eq!(status["runs"], json!([run]));
    let september = due(&status, "2024-09").unwrap();
    let failed = json!({"tenant": "broken", "state": "failed", "message": words});
    assert_eq!((&september["failed"], &september["tenants"]), (&json!("1"), &json!([failed])));
    let over_http = server.get("/v1/billing/due").await;
    let over_http: Value = serde_json::from_str(&over_http).unwrap();
    assert_eq!(over_http["months"], status["due"]["months"]);
    let metrics = server.get("/metrics").await;
    assert!(!metrics.contains("pulso_billing_periods_due{state=\"failed\"} 0"), "{metrics}");
    let shown = server.pulso(&["bill", "status"]).await;
    let shown = String::from_utf8(shown.stdout).unwrap();
    let said =
        "2024-09 is due: 1 tenant could not be billed; `pulso bill run --period 2024-09` bills";
    assert!(shown.contains(said) && shown.contains("  broken: "), "{shown}");
    server.terminate().await;

    mend(&home, "broken");
    let server = Server::start(&home, &far_back()).await;
    let run = server.json(&RUN).await;
    assert_eq!((&run["run"], &run["state"]), (&json!("2"), &json!("closed")), "a new run");
    assert_eq!(
        (&run["outcomes"]["invoices"], &run["outcomes"]["unchanged"]),
        (&json!("1"), &json!("2"))
    );
    assert_eq!(invoice(&server, "INV-000003").await["tenant"], "broken");
    let numbers: Vec<Value> =
        messages(&server).await.iter().map(|message| message["body"]["number"].clone()).collect();
    assert_eq!(numbers.last(), Some(&json!("INV-000003")));
    assert_eq!(numbers.len(), 3, "{numbers:?}");
    assert_eq!(due(&server.json(&["bill", "status"]).await, "2024-09"), None);
    let metrics = server.get("/metrics").await;
    assert!(metrics.contains("pulso_billing_periods_due{state=\"failed\"} 0"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_catalogue_everybody_fails_and_the_run_still_closes() {
    let home = Home::new();
    let server = Server::start(&home, &far_back()).await;
    use_up(&server, &home, "u", &[("acme", "vm", "hour", "10", "2024-09-10T10:00:00Z")]).await;
    let (run, _) = exits(&server, &RUN, 1).await;
    let why = "no catalogue is in use: publish one with `pulso catalog publish`";
    let failed = json!([{"tenant": "acme", "message": why}]);
    assert_eq!((&run["state"], &run["failures"]), (&json!("closed_with_failures"), &failed));
    publish(&server, &home, CATALOGUE).await;
    let status = server.json(&["bill", "status"]).await;
    assert_eq!(due(&status, "2024-09").unwrap()["failed"], "1", "{status}");
    assert_eq!(server.json(&RUN).await["outcomes"]["invoices"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_a_tenant_that_nobody_knows_is_refused_at_every_door() {
    let home = Home::new();
    let server = Server::start(&home, &settings()).await;
    publish(&server, &home, CATALOGUE).await;
    let (_, said) = exits(&server, &[&RUN[..], &["--tenant", "zzz"]].concat(), 65).await;
    assert!(said.contains("nobody knows \"zzz\"") && said.contains("TENANT_UNKNOWN"), "{said}");
    let body = json!({"period": "2024-09", "tenants": ["zzz"]}).to_string();
    let (status, answer) = crate::harness::http(&server.http, "POST /v1/billing/runs", &body).await;
    let problem: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, &problem["reason"]), (404, &json!("TENANT_UNKNOWN")), "{problem}");
    assert_eq!(server.json(&["bill", "status"]).await["runs"], json!([]), "no run was opened");
    // A contract makes it known.
    apply(&server, &home, "contract: c\ntenant: zzz\nvalid_from: 2024-01-01\ncurrency: BRL\n")
        .await;
    server.json(&[&RUN[..], &["--tenant", "zzz"]].concat()).await;
}

/// Ticks of the billing's and the consumer's schedule.
async fn ticks(server: &Server) -> u64 {
    let metrics = server.get("/metrics").await;
    let done = "pulso_schedule_ticks_total{outcome=\"done\"} ";
    let mut lines = metrics.lines().filter_map(|line| line.strip_prefix(done));
    lines.next().map_or(0, |count| count.parse().unwrap())
}

/// Waits until nothing is due and no run is open, and both months had their deltas. Gives the number of
/// runs.
async fn settled(server: &Server) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = server.json(&["bill", "status"]).await;
        let runs = status["runs"].as_array().unwrap();
        let deltas = runs.iter().filter(|run| run["deltas"] == true).count();
        let is_idle = runs.iter().all(|run| run["state"] == "closed");
        if status["due"]["months"] == json!([]) && is_idle && deltas == 2 {
            return runs.len();
        }
        assert!(Instant::now() < deadline, "{status}");
    }
}

/// Waits until the schedule has billed so many documents.
async fn billed(server: &Server, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let listed = server.json(&["invoice", "list"]).await["invoices"].take();
        let listed = listed.as_array().unwrap().clone();
        if listed.len() == count {
            return listed;
        }
        assert!(listed.len() < count && Instant::now() < deadline, "{listed:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_finds_what_comes_late_and_bills_deltas_from_the_threshold_on() {
    let home = Home::new();
    let each_second = Settings::default()
        .with("PULSO_BILLING__SCHEDULE", "* * * * * *")
        .with("PULSO_BILLING__LOOK_BACK_MONTHS", "240")
        .with("PULSO_BILLING__DELTAS", "monthly")
        .with("PULSO_BILLING__DELTAS_THRESHOLD", "BRL 1.00");
    let off = each_second.clone().with("PULSO_BILLING__SCHEDULE", "off");
    let server = Server::start(&home, &off).await;
    publish(&server, &home, CATALOGUE).await;
    let hours = |tenant, hours, month| (tenant, "vm", "hour", hours, month);
    let (march, september) = ("2024-03-10T10:00:00Z", "2024-09-10T10:00:00Z");
    use_up(&server, &home, "one", &[hours("acme", "10", september)]).await;
    server.terminate().await;

    let server = Server::start(&home, &each_second).await;
    billed(&server, 1).await;
    // Usage of two years ago, of a tenant that nobody knew.
    use_up(&server, &home, "two", &[hours("late", "4", march), hours("late", "4", september)])
        .await;
    let listed = billed(&server, 3).await;
    let of_late = listed.iter().filter(|listed| listed["tenant"] == "late");
    assert_eq!(of_late.count(), 2);
    // A contract that is entered late, without usage.
    let fee = "contract: c\ntenant: fee\nvalid_from: 2024-09-01\nvalid_to: 2024-10-01\ncurrency: BRL\nsubscriptions: [{sku: support}]\n";
    apply(&server, &home, fee).await;
    billed(&server, 4).await;
    // An invoice that is taken back.
    server.json(&["invoice", "void", "INV-000001", "--reason", "wrong"]).await;
    let listed = billed(&server, 5).await;
    assert_eq!((&listed[0]["state"], &listed[4]["tenant"]), (&json!("void"), &json!("acme")));
    // Then it finds nothing more to do.
    let runs = settled(&server).await;
    let (before, deadline) = (ticks(&server).await, Instant::now() + PATIENCE);
    while ticks(&server).await < before + 200 {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(settled(&server).await, runs);
    server.terminate().await;

    // Deltas were billed for this calendar month. One of the next would see this: 0.50 and 1.00 more.
    let server = Server::start(&home, &off).await;
    use_up(&server, &home, "more", &[hours("late", "1", march), hours("acme", "2", september)])
        .await;
    let due = server.json(&["bill", "status"]).await["due"]["months"].clone();
    assert_eq!(due, json!([]), "what changed about an invoice is for deltas");
    server.terminate().await;
    forget_deltas(&home);
    let server = Server::start(&home, &each_second).await;
    let listed = billed(&server, 6).await;
    let delta = (&listed[5]["kind"], &listed[5]["tenant"], &listed[5]["total"]);
    assert_eq!(delta, (&json!("delta"), &json!("acme"), &json!("1.00")));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = server.json(&["bill", "status"]).await;
        let runs = status["runs"].as_array().unwrap();
        let march = runs.iter().find(|run| {
            run["deltas"] == true
                && run["period"] == "2024-03"
                && run["state"] == "closed"
                && run["outcomes"]["below_threshold"] == "1"
        });
        if let Some(march) = march {
            assert_eq!(march["threshold"], "BRL 1.00");
            break;
        }
        assert!(Instant::now() < deadline, "{status}");
    }
    assert_eq!(billed(&server, 6).await.len(), 6, "0.50 is below the threshold");
}

/// Moves the runs for deltas of a server that does not run into an earlier calendar month.
fn forget_deltas(home: &Home) {
    let store = store(home);
    let mut runs =
        store.prepare("SELECT place, entry FROM journal_entry WHERE journal = 'runs'").unwrap();
    let runs: Vec<(i64, Vec<u8>)> = runs
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for (place, entry) in runs {
        let mut run: Value = serde_json::from_slice(&entry).unwrap();
        if run["deltas"] == true {
            run["opened_at"] = json!("2025-01-01T00:00:00Z");
            let change =
                "UPDATE journal_entry SET entry = ?1 WHERE journal = 'runs' AND place = ?2";
            store.execute(change, params![run.to_string().into_bytes(), place]).unwrap();
        }
    }
}
