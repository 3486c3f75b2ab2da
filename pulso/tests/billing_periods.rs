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

/// The totals of all documents that are owed, in the order of their numbers.
async fn owed(server: &Server) -> Vec<(String, Value)> {
    let listed = server.json(&["invoice", "list"]).await;
    let of =
        |listed: &Value| (listed["number"].as_str().unwrap().to_owned(), listed["total"].clone());
    let listed = listed["invoices"].as_array().unwrap().iter();
    listed.filter(|listed| listed["state"] == "final").map(of).collect()
}

const RUN: [&str; 4] = ["bill", "run", "--period", "2024-09"];

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_start_waits_until_the_invoice_of_the_old_period_is_void() {
    let home = Home::new();
    let server = used_up(&home).await;
    apply(&server, &home, &contract("short", "2024-09-10", "valid_to: 2024-09-20\n")).await;
    let outcomes = bill(&server, &[]).await;
    assert_eq!((&outcomes["invoices"], &outcomes["uncovered"]), (&json!("1"), &json!("1")));
    assert_eq!(owed(&server).await, [("INV-000001".to_owned(), json!("1.00"))], "the 15th alone");

    apply(&server, &home, &contract("long", "2024-09-01", "")).await;
    for arguments in [&RUN[..], &[&RUN[..], &["--deltas"]].concat(), &["bill", "resume", "2"]] {
        let said = refused(&server, arguments).await;
        assert!(
            said.contains("invoice INV-000001 bills 2024-09-10T00:00:00Z to 2024-09-20"),
            "{said}"
        );
        assert!(said.contains("pulso invoice void INV-000001"), "{said}");
    }
    void(&server, "1").await;
    let run = server.json(&["bill", "resume", "2"]).await;
    assert_eq!((&run["state"], &run["failures"]), (&json!("closed"), &json!([])), "{run}");
    assert_eq!(run["outcomes"]["uncovered"], "0");
    assert_eq!(owed(&server).await, [("INV-000002".to_owned(), json!("3.50"))], "all three days");
    assert_eq!(invoice(&server, "2").await["period"]["first_day"], "2024-09-01");
    let run = server.json(&["bill", "resume", "3"]).await;
    assert_eq!((&run["state"], &run["outcomes"]["deltas"]), (&json!("closed"), &json!("0")));
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
    let expected = [("INV-000001", "3.50"), ("INV-000002", "-2.00"), ("INV-000003", "2.00")];
    let expected = expected.map(|(number, total)| (number.to_owned(), json!(total)));
    assert_eq!(owed(&server).await, expected);
    let run = server.json(&["bill", "resume", "2"]).await;
    assert_eq!((&run["state"], &run["outcomes"]["unchanged"]), (&json!("closed"), &json!("2")));

    // The second end moves to the 15th: the first period is shorter again, the second begins earlier.
    apply(&server, &home, &contract("three", "2024-09-15", "payment_term_days: 9\n")).await;
    let said = refused(&server, &[&RUN[..], &["--deltas"]].concat()).await;
    assert!(said.contains("pulso invoice void INV-000003"), "{said}");
    void(&server, "3").await;
    bill(&server, &["--deltas"]).await;
    let totals: Vec<Value> = owed(&server).await.into_iter().map(|(_, total)| total).collect();
    assert_eq!(totals, [json!("3.50"), json!("-2.00"), json!("-1.00"), json!("3.00")]);
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
    let expected = [("INV-000001", "0.50"), ("INV-000002", "2.00")];
    let expected = expected.map(|(number, total)| (number.to_owned(), json!(total)));
    assert_eq!(owed(&server).await, expected);
}
