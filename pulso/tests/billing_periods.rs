//! Contracts about the past that move the ends of billing periods: no day is billed by two, and none
//! is forgotten unsaid.

use serde_json::{Value, json};

use crate::harness::{
    Home, Server,
    billing::{CATALOGUE, apply, bill, invoice, publish, settings, use_up},
};

fn contract(name: &str, from: &str, more: &str) -> String {
    format!("contract: {name}\ntenant: acme\nvalid_from: {from}\ncurrency: BRL\n{more}")
}

/// A server on which acme used a machine for one hour on the 5th of September, two on the 15th and four
/// on the 25th.
async fn used_up(home: &Home) -> Server {
    let server = Server::start(home, &settings()).await;
    publish(&server, home, CATALOGUE).await;
    let used = [("1", "05"), ("2", "15"), ("4", "25")];
    let used = used.map(|(hours, day)| (hours, format!("2024-09-{day}T10:00:00Z")));
    let usage = used.each_ref().map(|(hours, time)| ("acme", "vm", "hour", *hours, &**time));
    use_up(&server, home, "september", &usage).await;
    server
}

/// A billing command whose run stays open: what it says about acme.
async fn refused(server: &Server, arguments: &[&str]) -> String {
    let output = server.pulso(&[arguments, &["-o", "json"]].concat()).await;
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let run: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&run["state"], &run["failures"][0]["tenant"]), (&json!("open"), &json!("acme")));
    run["failures"][0]["message"].as_str().unwrap().to_owned()
}

async fn void(server: &Server, number: &str) {
    let voided = server.json(&["invoice", "void", number, "--reason", "another period"]).await;
    assert_eq!(voided["state"], "void");
}

/// Numbers and totals.
fn totals(all: &[(&str, &str)]) -> Vec<(Value, Value)> {
    all.iter().map(|(number, total)| (format!("INV-00000{number}").into(), json!(total))).collect()
}

/// Those of all documents that are owed, in the order of their numbers.
async fn owed(server: &Server) -> Vec<(Value, Value)> {
    let listed = server.json(&["invoice", "list"]).await;
    let of = |listed: &Value| (listed["number"].clone(), listed["total"].clone());
    let listed = listed["invoices"].as_array().unwrap().iter();
    listed.filter(|listed| listed["state"] == "final").map(of).collect()
}

const RUN: [&str; 4] = ["bill", "run", "--period", "2024-09"];

#[tokio::test(flavor = "multi_thread")]
async fn standard_terms_hold_until_the_first_contract_and_nothing_behind_the_last() {
    let home = Home::new();
    let server = used_up(&home).await;
    let short = contract("short", "2024-09-10", "valid_to: 2024-09-20\n");
    apply(&server, &home, &short).await;
    let outcomes = bill(&server, &[]).await;
    assert_eq!((&outcomes["invoices"], &outcomes["uncovered"]), (&json!("2"), &json!("1")));
    assert_eq!(owed(&server).await, totals(&[("1", "0.50"), ("2", "1.00")]), "not the 25th");
    assert_eq!(invoice(&server, "1").await["contracts"], json!(["standard"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_anchor_waits_until_the_invoices_of_the_old_periods_are_mended() {
    let home = Home::new();
    let server = used_up(&home).await;
    let late = [("acme", "vm", "hour", "8", "2024-08-15T10:00:00Z")];
    use_up(&server, &home, "august", &late).await;
    apply(&server, &home, &contract("tenth", "2024-08-10", "billing_anchor: 10\n")).await;
    for month in ["2024-08", "2024-09"] {
        server.json(&["bill", "run", "--period", month]).await;
    }
    // From the 10th of August to the 10th of September, and on to the 10th of October.
    assert_eq!(owed(&server).await, totals(&[("1", "4.50"), ("2", "3.00")]));

    apply(&server, &home, &contract("first", "2024-08-10", "payment_term_days: 7\n")).await;
    let said = refused(&server, &RUN).await;
    let remedy = "`pulso bill run --period 2024-08 --tenant acme --deltas` gives back";
    assert!(said.contains("was billed to 2024-09-10T00:00:00Z") && said.contains(remedy), "{said}");
    server.json(&["bill", "run", "--period", "2024-08", "--tenant", "acme", "--deltas"]).await;
    for arguments in [&RUN[..], &["bill", "resume", "3"]] {
        let said = refused(&server, arguments).await;
        let found = "invoice INV-000002 bills 2024-09-10T00:00:00Z to 2024-10-10T00:00:00Z";
        assert!(said.contains(found), "{said}");
        assert!(said.contains("`pulso invoice void INV-000002`"), "{said}");
    }
    void(&server, "2").await;
    let run = server.json(&["bill", "resume", "3"]).await;
    assert_eq!((&run["state"], &run["failures"]), (&json!("closed"), &json!([])), "{run}");
    assert_eq!(owed(&server).await, totals(&[("1", "4.50"), ("3", "-0.50"), ("4", "3.50")]));
    assert_eq!(invoice(&server, "4").await["period"]["first_day"], "2024-09-01");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_currency_waits_until_the_invoice_in_the_old_one_is_void() {
    let home = Home::new();
    let server = used_up(&home).await;
    bill(&server, &[]).await;
    let dollars = contract("dollars", "2024-09-01", "");
    let rate = "exchange: [{from: BRL, valid_from: 2024-01-01, rate: \"0.2\"}]\n";
    apply(&server, &home, &(dollars.replace("BRL", "USD") + rate)).await;
    let said = refused(&server, &[&RUN[..], &["--deltas"]].concat()).await;
    let found = "invoice INV-000001 bills the period from 2024-09-01T00:00:00Z in BRL";
    assert!(said.contains(found) && said.contains("billed in USD"), "{said}");
    void(&server, "1").await;
    server.json(&["bill", "resume", "2"]).await;
    assert_eq!(owed(&server).await, totals(&[("2", "0.70")]));
    assert_eq!(invoice(&server, "2").await["currency"], "USD");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_end_waits_until_deltas_give_back_what_was_billed_beyond() {
    let home = Home::new();
    let server = used_up(&home).await;
    apply(&server, &home, &contract("one", "2024-09-01", "")).await;
    bill(&server, &[]).await;
    apply(&server, &home, &contract("two", "2024-09-20", "payment_term_days: 7\n")).await;
    let said = refused(&server, &RUN).await;
    let remedy = "`pulso bill run --period 2024-09 --tenant acme --deltas`";
    assert!(said.contains("was billed to 2024-10-01T00:00:00Z") && said.contains(remedy), "{said}");
    assert_eq!(owed(&server).await.len(), 1, "the 25th is not billed twice");

    let outcomes = bill(&server, &["--tenant", "acme", "--deltas"]).await;
    assert_eq!((&outcomes["deltas"], &outcomes["invoices"]), (&json!("1"), &json!("1")));
    let expected = totals(&[("1", "3.50"), ("2", "-2.00"), ("3", "2.00")]);
    assert_eq!(owed(&server).await, expected);
    let run = server.json(&["bill", "resume", "2"]).await;
    assert_eq!((&run["state"], &run["outcomes"]["unchanged"]), (&json!("closed"), &json!("2")));

    // The second end moves to the 15th: the first period is shorter again, the second begins earlier.
    apply(&server, &home, &contract("three", "2024-09-15", "payment_term_days: 9\n")).await;
    let said = refused(&server, &[&RUN[..], &["--deltas"]].concat()).await;
    assert!(said.contains("pulso invoice void INV-000003"), "{said}");
    void(&server, "3").await;
    bill(&server, &["--deltas"]).await;
    let expected = totals(&[("1", "3.50"), ("2", "-2.00"), ("4", "-1.00"), ("5", "3.00")]);
    assert_eq!(owed(&server).await, expected);
    for number in ["1", "2", "3", "4", "5"] {
        assert_eq!(server.json(&["bill", "verify", number]).await["matches"], true, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_end_with_nothing_billed_beyond_holds_nothing_up() {
    let home = Home::new();
    let server = Server::start(&home, &settings()).await;
    publish(&server, &home, CATALOGUE).await;
    apply(&server, &home, &contract("one", "2024-09-01", "")).await;
    let early = [("acme", "vm", "hour", "1", "2024-09-05T10:00:00Z")];
    use_up(&server, &home, "early", &early).await;
    bill(&server, &[]).await;
    apply(&server, &home, &contract("two", "2024-09-20", "payment_term_days: 7\n")).await;
    let late = [("acme", "vm", "hour", "4", "2024-09-25T10:00:00Z")];
    use_up(&server, &home, "late", &late).await;
    let outcomes = bill(&server, &[]).await;
    assert_eq!((&outcomes["invoices"], &outcomes["unchanged"]), (&json!("1"), &json!("1")));
    assert_eq!(owed(&server).await, totals(&[("1", "0.50"), ("2", "2.00")]));
}
