//! Contracts about the past that move the ends of billing periods, or their currency: no day is billed
//! by two, what waits is said, and deltas bring the sum to the truth.

use std::collections::BTreeMap;

use pricing::Amount;
use serde_json::{Value, json};

use crate::harness::{
    Home, Random, Server,
    billing::{CATALOGUE, apply, apply_unchecked, bill, file, invoice, publish, settings, use_up},
};

fn contract(name: &str, from: &str, more: &str) -> String {
    format!("contract: {name}\ntenant: acme\nvalid_from: {from}\ncurrency: BRL\n{more}")
}

/// A server on which acme used a machine for one hour on the 5th of September, two on the 15th and four
/// on the 25th, at 0.50 an hour.
async fn used_up(home: &Home) -> Server {
    let server = Server::start(home, &settings()).await;
    publish(&server, home, CATALOGUE).await;
    for (hours, day) in [("1", "05"), ("2", "15"), ("4", "25")] {
        use_one(&server, home, hours, &format!("2024-09-{day}T10:00:00Z")).await;
    }
    server
}

async fn use_one(server: &Server, home: &Home, hours: &str, time: &str) {
    let name = format!("at-{}", time.replace(':', "-"));
    use_up(server, home, &name, &[("acme", "vm", "hour", hours, time)]).await;
}

const EXCHANGE: &str = "exchange: [{from: BRL, valid_from: 2024-01-01, rate: \"0.2\"}]\n";
const RUN: [&str; 4] = ["bill", "run", "--period", "2024-09"];
const DELTAS: [&str; 5] = ["bill", "run", "--period", "2024-09", "--deltas"];

/// What a run says that one period of acme waits for.
async fn blocked(server: &Server, arguments: &[&str]) -> String {
    let output = server.pulso(&[arguments, &["-o", "json"]].concat()).await;
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let run: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&run["state"], &run["failures"]), (&json!("closed"), &json!([])), "{run}");
    assert_eq!((&run["outcomes"]["blocked"], &run["blocked"][1]), (&json!("1"), &Value::Null));
    assert_eq!(run["blocked"][0]["tenant"], "acme");
    run["blocked"][0]["message"].as_str().unwrap().to_owned()
}

async fn void(server: &Server, number: &str) {
    let voided = server.json(&["invoice", "void", number, "--reason", "r"]).await;
    assert_eq!(voided["state"], "void");
}

/// Numbers and totals.
fn totals(all: &[(&str, &str)]) -> Vec<(Value, Value)> {
    all.iter().map(|(number, total)| (format!("INV-00000{number}").into(), json!(total))).collect()
}

/// Those of all documents that are owed, in the order of their numbers. Each can be derived again.
async fn owed(server: &Server) -> Vec<(Value, Value)> {
    let listed = server.json(&["invoice", "list"]).await;
    let mut owed = Vec::new();
    for listed in listed["invoices"].as_array().unwrap() {
        let number = listed["number"].as_str().unwrap();
        let verified = server.json(&["bill", "verify", number]).await;
        assert_eq!(verified["matches"], true, "{verified}");
        let explained = server.json(&["bill", "explain", number]).await;
        assert_ne!(explained["lines"], json!([]), "{number}");
        if listed["state"] == "final" {
            owed.push((listed["number"].clone(), listed["total"].clone()));
        }
    }
    owed
}

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
async fn a_first_contract_inside_a_month_that_standard_terms_have_billed_shortens_it() {
    let home = Home::new();
    let server = used_up(&home).await;
    bill(&server, &[]).await;
    apply(&server, &home, &contract("first", "2024-09-20", "")).await;
    let said = blocked(&server, &RUN).await;
    let found = "invoice INV-000001 bills 2024-09-01T00:00:00Z to 2024-10-01T00:00:00Z";
    let remedy = "`pulso bill run --period 2024-09 --tenant acme --deltas`";
    assert!(said.contains(found) && said.contains(remedy), "{said}");
    assert_eq!(owed(&server).await.len(), 1, "the 25th is not billed twice");

    let outcomes = bill(&server, &["--tenant", "acme", "--deltas"]).await;
    assert_eq!((&outcomes["deltas"], &outcomes["invoices"]), (&json!("1"), &json!("1")));
    let expected = totals(&[("1", "3.50"), ("2", "-2.00"), ("3", "2.00")]);
    assert_eq!(owed(&server).await, expected);
    assert_eq!(bill(&server, &[]).await["unchanged"], "2");

    let refused = server.pulso(&["invoice", "void", "INV-000002", "--reason", "r"]).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("INV-000003 bills days that INV-000002 gave back"), "{said}");

    // Another contract begins earlier: one period is shorter again, the other begins elsewhere.
    apply(&server, &home, &contract("earlier", "2024-09-15", "")).await;
    let outcomes = bill(&server, &["--deltas"]).await;
    assert_eq!((&outcomes["deltas"], &outcomes["invoices"]), (&json!("2"), &json!("1")));
    let more = totals(&[("4", "-2.00"), ("5", "-1.00"), ("6", "3.00")]);
    assert_eq!(owed(&server).await, [expected, more].concat());
    assert_eq!(bill(&server, &["--deltas"]).await["deltas"], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_end_with_nothing_billed_beyond_holds_nothing_up() {
    let home = Home::new();
    let server = Server::start(&home, &settings()).await;
    publish(&server, &home, CATALOGUE).await;
    apply(&server, &home, &contract("one", "2024-09-01", "")).await;
    use_one(&server, &home, "1", "2024-09-05T10:00:00Z").await;
    bill(&server, &[]).await;
    apply(&server, &home, &contract("two", "2024-09-20", "rounding: {mode: half_even}\n")).await;
    use_one(&server, &home, "4", "2024-09-25T10:00:00Z").await;
    let outcomes = bill(&server, &[]).await;
    assert_eq!((&outcomes["invoices"], &outcomes["unchanged"]), (&json!("1"), &json!("1")));
    assert_eq!(owed(&server).await, totals(&[("1", "0.50"), ("2", "2.00")]));
    use_one(&server, &home, "1", "2024-09-06T10:00:00Z").await;
    assert_eq!(bill(&server, &["--deltas"]).await["deltas"], "1");
    void(&server, "3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_of_nothing_holds_nothing_up() {
    let home = Home::new();
    let server = used_up(&home).await;
    let all_off = "discounts: [{name: friend, percentage: \"100\"}]\n";
    apply(&server, &home, &contract("free", "2024-08-01", all_off)).await;
    bill(&server, &[]).await;
    assert_eq!(owed(&server).await, totals(&[("1", "0.00")]));
    apply(&server, &home, &contract("paid", "2024-08-20", "billing_anchor: 20\n")).await;
    server.json(&["bill", "run", "--period", "2024-08"]).await;
    bill(&server, &[]).await;
    assert_eq!(owed(&server).await, totals(&[("1", "0.00"), ("2", "1.50"), ("3", "2.00")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_end_is_said_until_deltas_bill_the_rest() {
    let home = Home::new();
    let server = used_up(&home).await;
    use_one(&server, &home, "8", "2024-08-15T10:00:00Z").await;
    apply(&server, &home, &contract("one", "2024-08-10", "billing_anchor: 10\n")).await;
    apply(&server, &home, &contract("two", "2024-09-01", "")).await;
    for month in ["2024-08", "2024-09"] {
        server.json(&["bill", "run", "--period", month]).await;
    }
    let three = contract("three", "2024-09-01", "supersedes: [two]\nbilling_anchor: 10\n");
    apply(&server, &home, &three).await;
    bill(&server, &["--deltas"]).await;
    let expected = totals(&[("1", "4.00"), ("2", "3.50"), ("3", "-3.50"), ("4", "3.00")]);
    assert_eq!(owed(&server).await, expected);
    let said = blocked(&server, &["bill", "run", "--period", "2024-08"]).await;
    let remedy = "`pulso bill run --period 2024-08 --tenant acme --deltas` bills the rest";
    assert!(said.contains("billed to 2024-09-01T00:00:00Z") && said.contains(remedy), "{said}");
    server.json(&["bill", "run", "--period", "2024-08", "--deltas"]).await;
    assert_eq!(owed(&server).await, [expected, totals(&[("5", "0.50")])].concat());
    server.json(&["bill", "run", "--period", "2024-08"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_given_back_while_what_takes_its_place_cannot_be_billed() {
    let home = Home::new();
    let server = used_up(&home).await;
    bill(&server, &[]).await;
    let odd = contract("odd", "2024-09-01", "time_zone: Asia/Kolkata\n");
    let odd = odd.replace("BRL", "USD") + EXCHANGE;
    let server = apply_unchecked(server, &home, "acme", &odd).await;
    let output = server.pulso(&DELTAS).await;
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(owed(&server).await, totals(&[("1", "3.50")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_anchor_gives_back_what_was_billed_for_periods_that_there_are_no_more() {
    let home = Home::new();
    let server = used_up(&home).await;
    use_one(&server, &home, "8", "2024-08-15T10:00:00Z").await;
    apply(&server, &home, &contract("tenth", "2024-08-10", "billing_anchor: 10\n")).await;
    for month in ["2024-08", "2024-09"] {
        server.json(&["bill", "run", "--period", month]).await;
    }
    // From the 10th of August to the 10th of September, and on to the 10th of October.
    assert_eq!(owed(&server).await, totals(&[("1", "4.50"), ("2", "3.00")]));

    apply(&server, &home, &contract("first", "2024-08-10", "supersedes: [tenth]\n")).await;
    let said = blocked(&server, &RUN).await;
    assert!(said.contains("INV-000001") && said.contains("--period 2024-08"), "{said}");
    server.json(&["bill", "run", "--period", "2024-08", "--deltas"]).await;
    let said = blocked(&server, &RUN).await;
    assert!(said.contains("INV-000002") && said.contains("--period 2024-09"), "{said}");
    let outcomes = bill(&server, &["--deltas"]).await;
    assert_eq!((&outcomes["deltas"], &outcomes["invoices"]), (&json!("1"), &json!("1")));
    let expected =
        totals(&[("1", "4.50"), ("2", "3.00"), ("3", "-0.50"), ("4", "-3.00"), ("5", "3.50")]);
    assert_eq!(owed(&server).await, expected);
    let reversal = invoice(&server, "4").await;
    assert_eq!(
        (&reversal["kind"], &reversal["document"]),
        (&json!("reversal"), &json!("reversal"))
    );
    assert_eq!(reversal["period"], invoice(&server, "2").await["period"]);
    assert_eq!(invoice(&server, "5").await["period"]["first_day"], "2024-09-01");
    assert_eq!(bill(&server, &["--deltas"]).await["deltas"], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_zone_moves_every_end_and_each_months_deltas_mend_their_own() {
    let home = Home::new();
    let server = used_up(&home).await;
    // In Sao Paulo this is still September.
    use_one(&server, &home, "16", "2024-10-01T01:00:00Z").await;
    for month in ["2024-09", "2024-10"] {
        server.json(&["bill", "run", "--period", month]).await;
    }
    assert_eq!(owed(&server).await, totals(&[("1", "3.50"), ("2", "8.00")]));
    apply(&server, &home, &contract("local", "2024-09-01", "time_zone: America/Sao_Paulo\n")).await;
    let said = blocked(&server, &DELTAS).await;
    assert!(said.contains("INV-000002") && said.contains("--period 2024-10"), "{said}");
    server.json(&["bill", "run", "--period", "2024-10", "--deltas"]).await;
    bill(&server, &["--deltas"]).await;
    // Three hours of September are under standard terms, and October has no usage any more.
    let more = totals(&[("3", "-3.50"), ("4", "-8.00"), ("5", "11.50")]);
    let expected = [totals(&[("1", "3.50"), ("2", "8.00")]), more].concat();
    assert_eq!(owed(&server).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_currency_gives_back_in_the_old_one_and_bills_in_the_new() {
    let home = Home::new();
    let server = used_up(&home).await;
    bill(&server, &[]).await;
    let credit = async |number: &str, amount: &str| {
        server.json(&["invoice", "credit", number, "--amount", amount, "--reason", "r"]).await
    };
    credit("INV-000001", "1.00").await;
    let dollars = contract("dollars", "2024-09-01", "").replace("BRL", "USD");
    apply(&server, &home, &(dollars + EXCHANGE)).await;
    assert!(blocked(&server, &RUN).await.contains("INV-000001"));
    bill(&server, &["--deltas"]).await;
    // Of the 3.50 the note gave 1.00 back before.
    let expected = totals(&[("1", "3.50"), ("2", "-1.00"), ("3", "-2.50"), ("4", "0.70")]);
    assert_eq!(owed(&server).await, expected);
    assert_eq!(credit("INV-000004", "0.70").await["total"], "-0.70");
    let mut found = Vec::new();
    for number in ["1", "3", "4"] {
        found.push(invoice(&server, number).await["currency"].take());
    }
    assert_eq!(found, ["BRL", "BRL", "USD"]);
}

const MONTHS: [&str; 6] = ["2024-07", "2024-08", "2024-09", "2024-10", "2024-11", "2024-12"];

fn pick<'t>(random: &mut Random, of: &[&'t str]) -> &'t str {
    of[usize::try_from(random.below(of.len() as u64)).unwrap()]
}

/// A contract of any beginning, anchor, zone, currency and end.
fn any_contract(number: usize, random: &mut Random) -> String {
    let from = format!("2024-{:02}-{:02}", 7 + random.below(5), 1 + random.below(28));
    let mut more = format!("billing_anchor: {}\n", pick(random, &["1", "1", "10", "31"]));
    more += pick(random, &["", "", "time_zone: America/Sao_Paulo\n", "time_zone: Asia/Tokyo\n"]);
    more += pick(random, &["", "", "valid_to: 2024-12-01\n"]);
    more += pick(random, &["", "discounts: [{name: d, percentage: \"10\"}]\n"]);
    if random.below(3) == 0 {
        more += &format!("supersedes: [c{}]\n", random.below(16));
    }
    more += EXCHANGE;
    let text = contract(&format!("c{number}"), &from, &more);
    match random.below(4) {
        0 => text.replace("currency: BRL", "currency: USD"),
        _ => text.replace("exchange: [{from: BRL", "exchange: [{from: USD"),
    }
}

/// An amendment of any contract from any day, with an end or without.
fn any_amendment(number: usize, random: &mut Random) -> String {
    let (of, month) = (random.below(16), 7 + random.below(5));
    let from = format!("2024-{month:02}-{:02}", 1 + random.below(28));
    let until = pick(random, &["", "until: 2024-12-05\n"]);
    let discount =
        format!("{{discounts: [{{name: d, percentage: \"{}\"}}]}}", 1 + random.below(50));
    let changes = match random.below(3) {
        0 => format!("set: {discount}"),
        1 => format!("replace: {discount}"),
        _ => "replace: {payment_term_days: 7}".to_owned(),
    };
    format!("amendment: a{number}\ncontract: c{of}\nfrom: {from}\n{until}{changes}\n")
}

/// A catalogue with another price from any day of the past.
fn any_catalogue(number: usize, random: &mut Random) -> String {
    let from = format!("2024-{:02}-{:02}", 7 + random.below(6), 1 + random.below(28));
    let version = format!("catalogue: \"v{number}\"\neffective_from: {from}");
    let text = CATALOGUE.replace("catalogue: \"2024-01\"", &version);
    text.replace("\"0.50\"", &format!("\"0.{}\"", 41 + random.below(9)))
}

/// Sums of `total` by currency, without those that come to nothing.
fn sums<'v>(documents: impl Iterator<Item = &'v Value>) -> BTreeMap<String, Amount> {
    let mut sums: BTreeMap<String, Amount> = BTreeMap::new();
    for document in documents {
        let text = |key: &str| document[key].as_str().unwrap();
        let sum = sums.entry(text("currency").to_owned()).or_insert(Amount::ZERO);
        *sum = sum.checked_add(text("total").parse().unwrap()).unwrap();
    }
    sums.retain(|_, sum| *sum != Amount::ZERO);
    sums
}

/// Whatever was applied, used, run and taken back in whatever order: once the deltas of every month were run, what
/// is owed is what rating the final truth from scratch gives.
async fn deltas_bring_the_sum_to_the_truth(seed: u64) {
    let mut random = Random(seed);
    let home = Home::new();
    let server = Server::start(&home, &settings()).await;
    publish(&server, &home, CATALOGUE).await;
    // What does not go with what was applied before is refused.
    let offer = async |arguments: &[&str], text: &str| {
        let path = file(&home, "offered.yaml", text);
        let output = server.pulso(&[arguments, &[&path]].concat()).await;
        assert!(matches!(output.status.code(), Some(0 | 65)), "{output:?}");
    };
    for step in 0..20 {
        match random.below(7) {
            0 => offer(&["contract", "apply"], &any_contract(step, &mut random)).await,
            5 => offer(&["contract", "amend"], &any_amendment(step, &mut random)).await,
            6 => {
                let catalogue = any_catalogue(step, &mut random);
                offer(&["catalog", "publish", "--about-the-past"], &catalogue).await;
            }
            1 => {
                let time = format!(
                    "2024-{:02}-{:02}T{:02}:00:00Z",
                    7 + random.below(6),
                    1 + random.below(28),
                    random.below(24)
                );
                let hours = (1 << step).to_string();
                let usage = [("acme", "vm", "hour", hours.as_str(), time.as_str())];
                use_up(&server, &home, &format!("step-{step}"), &usage).await;
            }
            2 => {
                let number = (1 + random.below(8)).to_string();
                // Refused where there is none, or others stand on it.
                server.pulso(&["invoice", "void", &number, "--reason", "r"]).await;
            }
            more => {
                let month = pick(&mut random, &MONTHS);
                let deltas = if more == 3 { &["--deltas"][..] } else { &[] };
                server.pulso(&[&["bill", "run", "--period", month], deltas].concat()).await;
            }
        }
    }
    // A month's documents may wait for those of its neighbours: they have gone after one round.
    for _ in 0..2 {
        for month in MONTHS {
            server.pulso(&["bill", "run", "--period", month, "--deltas"]).await;
        }
    }
    for month in MONTHS {
        let run = server.json(&["bill", "run", "--period", month, "--deltas"]).await;
        let outcomes = &run["outcomes"];
        let nothing = (&json!("0"), &json!("0"), &json!("0"));
        let found = (&outcomes["invoices"], &outcomes["deltas"], &outcomes["blocked"]);
        assert_eq!(found, nothing, "seed {seed}, {month}: {run}");
    }
    let listed = server.json(&["invoice", "list"]).await;
    let listed = listed["invoices"].as_array().unwrap().iter();
    let standing = listed.filter(|listed| listed["state"] == "final");
    let mut previews = Vec::new();
    for month in MONTHS {
        let preview = ["bill", "preview", "--tenant", "acme", "--period", month];
        previews.extend(server.json(&preview).await["invoices"].as_array().unwrap().clone());
    }
    assert_eq!(sums(standing), sums(previews.iter()), "seed {seed}");
    owed(&server).await;
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_contracts_move_deltas_bring_the_sum_to_the_truth() {
    let number = |name, default| std::env::var(name).map_or(default, |n| n.parse().unwrap());
    let (seed, rounds) = (number("PULSO_TEST_SEED", 1), number("PULSO_TEST_ROUNDS", 2));
    for round in 0..rounds {
        deltas_bring_the_sum_to_the_truth(seed * 1_000 + round).await;
    }
}
