//! From usage to invoices through the built program: runs, documents, deltas, credits, and what a
//! person is told.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::{
    Home, Server, Settings,
    billing::{
        CATALOGUE, amounts, apply, bill, file, invoice, messages, publish, settings, use_up,
    },
    cluster::Cluster,
    root, until,
};
use pricing::{
    Amount,
    focus::{self, Basis, Checkable},
};
use serde_json::{Value, json};
use storage::conformance::servers::shared_pair;

const ALL_STAGES: &str = "ingest,consume,price,query";
#[tokio::test(flavor = "multi_thread")]
async fn real_usage_is_invoiced_once_and_every_invoice_equals_the_providers_sums() {
    real_usage_is_invoiced(&settings(), async |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_blocks_too_real_usage_is_invoiced_once_and_every_invoice_is_explained() {
    let settings = settings()
        .with("PULSO_BLOCKS__EVERY", "1s")
        .with("PULSO_BLOCKS__DELAY", "0s")
        .with("PULSO_BLOCKS__KEEP_REPLACED", "1s");
    real_usage_is_invoiced(&settings, async |server| {
        let deleted = || server.log().contains("what blocks stand for was deleted");
        until("rows are in blocks only", deleted).await;
        let audit = server.json(&["audit"]).await;
        assert_ne!(audit["blocks"], "0");
        assert_eq!(audit["blocks"], audit["blocks_remade"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_servers_too_real_usage_is_invoiced_once_and_equals_the_providers_sums() {
    let Some(servers) = shared_pair() else { return };
    let cluster = Cluster::new(servers, settings()).await;
    real_usage_is_invoiced(&cluster.stages(ALL_STAGES), async |_| {}).await;
}

async fn real_usage_is_invoiced(settings: &Settings, then: impl AsyncFn(&Server)) {
    let home = Home::new();
    let server = Server::start(&home, settings).await;
    let sample = root().join("samples/focus-1.0-sample-1000.csv");
    let sample = sample.to_str().unwrap();
    let imported = server.pulso(&["catalog", "import", "--format", "focus", sample]).await;
    publish(&server, &home, &String::from_utf8(imported.stdout).unwrap()).await;
    server.json(&["ingest", sample, "--format", "focus", "--backfill", "sample"]).await;
    server.drained().await;

    let outcomes = bill(&server, &[]).await;
    let listed = server.json(&["invoice", "list"]).await;
    let invoices = listed["invoices"].as_array().unwrap();
    assert_eq!(outcomes["invoices"], invoices.len().to_string());
    let mut tenants = BTreeSet::new();
    let mut billed: BTreeMap<Resource, Amount> = BTreeMap::new();
    for (index, listed) in (1..).zip(invoices) {
        assert_eq!(listed["number"], format!("INV-{index:06}"));
        let tenant = listed["tenant"].as_str().unwrap();
        assert!(tenants.insert(tenant), "{tenant} has two invoices");
        let invoice = invoice(&server, listed["number"].as_str().unwrap()).await;
        for line in invoice["lines"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let dimension = text(&line["dimensions"]["sku_price_id"]);
            let resource = (
                tenant.to_owned(),
                text(&line["product_sku"]),
                text(&line["use_unity"]),
                dimension,
            );
            let sum = billed.entry(resource).or_insert(Amount::ZERO);
            *sum = sum.checked_add(text(&line["amount"]).parse().unwrap()).unwrap();
        }
    }
    let mut compared = 0;
    for (resource, (rows, list_cost)) in provider_sums(sample) {
        let difference = billed[&resource].checked_sub(list_cost).unwrap().checked_abs().unwrap();
        assert!(difference <= focus::tolerance().times(rows).unwrap(), "{resource:?}");
        compared += rows;
    }
    assert_eq!(compared, 968);

    then(&server).await;
    for number in ["INV-000001", "INV-000040", "INV-000060"] {
        let verified = server.json(&["bill", "verify", number]).await;
        assert_eq!(verified["matches"], true, "{verified}");
        let verified = server.json(&["bill", "verify", number, "--from-log"]).await;
        assert_eq!(
            (&verified["matches"], &verified["segments_missing"]),
            (&json!(true), &json!("0"))
        );
        assert_ne!(verified["segments_folded"], "0");
        let explained = server.json(&["bill", "explain", number, "--pulses"]).await;
        for line in explained["lines"].as_array().unwrap() {
            // A line of usage has hours; one that rounds the total has none.
            for hour in line["hours"].as_array().into_iter().flatten() {
                pulses_add_up(hour, "sample");
            }
        }
    }
    let again = bill(&server, &[]).await;
    assert_eq!((&again["invoices"], &again["unchanged"]), (&json!("0"), &outcomes["invoices"]));
    let deltas = bill(&server, &["--deltas"]).await;
    assert_eq!(deltas["deltas"], "0", "nothing has changed");
}

/// The pulses of an hour add up to it, and each is a row of the backfill.
fn pulses_add_up(hour: &Value, backfill: &str) {
    let parts = hour["segments"].as_array().unwrap().iter();
    let pulses: Vec<&Value> = parts.flat_map(|part| part["pulses"].as_array().unwrap()).collect();
    let amounts = pulses.iter().map(|pulse| pulse["amount"].as_str().unwrap().parse().unwrap());
    let sum = amounts.fold(Amount::ZERO, |sum, amount: Amount| sum.checked_add(amount).unwrap());
    assert_eq!(
        (&hour["sum"], &hour["count"]),
        (&json!(sum.to_string()), &json!(pulses.len().to_string()))
    );
    let rows: BTreeSet<&str> = pulses.iter().map(|pulse| pulse["row"].as_str().unwrap()).collect();
    assert_eq!(rows.len(), pulses.len(), "no row counts twice");
    assert!(pulses.iter().all(|pulse| pulse["backfill"] == backfill), "{hour}");
}

/// Tenant, SKU, unit and SkuPriceId.
type Resource = (String, String, String, String);

/// What the provider charged by list for each resource, and for how many rows, over the rows whose
/// cost follows from their price.
fn provider_sums(sample: &str) -> BTreeMap<Resource, (u128, Amount)> {
    let mut sums: BTreeMap<Resource, (u128, Amount)> = BTreeMap::new();
    let mut others = BTreeSet::new();
    for row in focus::read(&std::fs::read(sample).unwrap(), Basis::Pricing).unwrap() {
        let row = row.unwrap();
        let text = |name: &str| name.to_owned();
        let resource = (
            text(row.tenant.as_str()),
            text(row.product_sku.as_str()),
            text(row.use_unity.as_str()),
            row.sku_price_id.unwrap_or_default(),
        );
        if row.checkable != Checkable::Yes {
            others.insert(resource);
            continue;
        }
        let (rows, sum) = sums.entry(resource).or_insert((0, Amount::ZERO));
        *rows += 1;
        *sum = sum.checked_add(Amount::of(row.list_cost.unwrap())).unwrap();
    }
    assert!(others.iter().all(|other| !sums.contains_key(other)), "no resource is half comparable");
    sums
}

#[tokio::test(flavor = "multi_thread")]
async fn late_usage_and_other_contracts_are_billed_as_deltas_that_bring_the_sum_to_the_truth() {
    what_changes_is_billed_as_deltas(&settings()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_servers_too_deltas_bring_the_sum_to_the_truth() {
    let Some(servers) = shared_pair() else { return };
    let cluster = Cluster::new(servers, settings()).await;
    what_changes_is_billed_as_deltas(&cluster.stages(ALL_STAGES)).await;
}

async fn what_changes_is_billed_as_deltas(settings: &Settings) {
    let home = Home::new();
    let server = Server::start(&home, settings).await;
    publish(&server, &home, CATALOGUE).await;
    use_up(
        &server,
        &home,
        "first",
        &[
            ("acme", "vm", "hour", "90", "2024-09-10T10:00:00Z"),
            ("acme", "support", "month", "0", "2024-09-10T10:00:00Z"),
        ],
    )
    .await;
    assert_eq!(bill(&server, &[]).await["invoices"], "1");
    let first = invoice(&server, "INV-000001").await;
    assert_eq!(amounts(&first), [("usage", "30.00"), ("usage", "45.00")]);

    // Twenty hours more cross the edge of the tier: 10 x 0.50 + 10 x 0.40.
    use_up(&server, &home, "late", &[("acme", "vm", "hour", "20", "2024-09-30T23:00:00Z")]).await;
    assert_eq!(bill(&server, &[]).await["unchanged"], "1");
    assert_eq!(bill(&server, &["--deltas"]).await["deltas"], "1");
    let delta = invoice(&server, "INV-000002").await;
    assert_eq!((&delta["kind"], &delta["total"]), (&json!("delta"), &json!("9.00")));
    assert_eq!(delta["period"], first["period"], "it keeps the service period");
    let steps = delta["lines"][0]["detail"].as_array().unwrap();
    assert_eq!(steps.last().unwrap(), &json!({"step": "invoiced_before", "amount": "-45"}));

    // A contract that supersedes the past: half off, and the support fee is gone for half the month.
    apply(
        &server,
        &home,
        "
contract: acme-1
tenant: acme
valid_from: 2024-09-01
currency: BRL
discounts:
  - {name: launch, percentage: \"50\", skus: [vm]}
",
    )
    .await;
    assert_eq!(bill(&server, &["--deltas"]).await["deltas"], "1");
    let listed = server.json(&["invoice", "list", "--tenant", "acme"]).await;
    let total = listed["invoices"].as_array().unwrap().iter().fold(Amount::ZERO, |sum, invoice| {
        sum.checked_add(invoice["total"].as_str().unwrap().parse().unwrap()).unwrap()
    });
    // 30.00 + (100 x 0.50 + 10 x 0.40) / 2
    assert_eq!(total.text(2), "57.00");
    for number in ["1", "2", "3"] {
        assert_eq!(server.json(&["bill", "verify", number]).await["matches"], true);
    }
    assert_eq!(bill(&server, &["--deltas"]).await["deltas"], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_total_that_was_changed_is_named_and_the_log_still_says_what_was_billed() {
    let home = Home::new();
    let server = Server::start(&home, &settings()).await;
    publish(&server, &home, CATALOGUE).await;
    let hour = "2024-09-10T10:00:00Z";
    let usage = [
        ("acme", "vm", "hour", "7", "2024-09-10T10:10:00Z"),
        ("acme", "vm", "hour", "4", "2024-09-10T10:50:00Z"),
        ("acme", "vm", "hour", "2", "2024-09-11T10:00:00Z"),
    ];
    use_up(&server, &home, "september", &usage).await;
    bill(&server, &[]).await;
    let explained =
        server.json(&["bill", "explain", "INV-000001/1", "--pulses", "--hour", hour]).await;
    let hours = explained["lines"][0]["hours"].as_array().unwrap();
    pulses_add_up(&hours[0], "september");
    assert_eq!(hours[0]["segments"][0]["pulses"][1]["amount"], "4");
    assert!(hours[1]["segments"][0]["pulses"].is_null(), "only one hour was asked for: {hours:?}");
    for (arguments, words) in [
        (["INV-000001", "--hour", hour], "--pulses"),
        (["INV-000001", "--pulses", "--hour=2024-09-12T10:00:00Z"], "no usage of the hour"),
    ] {
        let refused = server.pulso(&[&["bill", "explain"][..], &arguments].concat()).await;
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && stderr.contains(words), "{stderr}");
    }

    server.terminate().await;
    let store = rusqlite::Connection::open(home.data().join("store.db")).unwrap();
    let change = "UPDATE usage_segment SET sum_hi = 0, sum_lo = 0 WHERE count = 2";
    assert_eq!(store.execute(change, []).unwrap(), 1);
    drop(store);
    let server = Server::start(&home, &settings()).await;
    let verified = server.pulso(&["bill", "verify", "INV-000001", "-o", "json"]).await;
    assert_eq!(verified.status.code(), Some(1));
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    let difference = &verified["differences"][0];
    assert_eq!(
        (&difference["invoiced"]["amount"], &difference["computed"]["amount"]),
        (&json!("6.50"), &json!("1.00"))
    );
    let of_log = server.json(&["bill", "verify", "INV-000001", "--from-log"]).await;
    assert_eq!(of_log["matches"], true, "{of_log}");
    let explained = server.pulso(&["bill", "explain", "INV-000001", "--pulses"]).await;
    let stderr = String::from_utf8_lossy(&explained.stderr);
    assert!(stderr.contains("no longer comes out as it was invoiced"), "{stderr}");
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credits_pay_once_and_come_back_when_an_invoice_is_void() {
    let home = Home::new();
    let server = Server::start(&home, &settings()).await;
    publish(&server, &home, CATALOGUE).await;
    apply(
        &server,
        &home,
        "
contract: acme-1
tenant: acme
valid_from: 2024-08-01
currency: BRL
credits:
  - {name: prepaid, amount: \"60.00\", priority: 2}
  - {name: bonus, amount: \"5.00\", expires: 2024-09-15, priority: 1}
taxes:
  - {name: ISS, rate: \"0.05\", on: [usage]}
",
    )
    .await;
    use_up(
        &server,
        &home,
        "two-months",
        &[
            ("acme", "vm", "hour", "100", "2024-08-10T10:00:00Z"),
            ("acme", "vm", "hour", "100", "2024-09-10T10:00:00Z"),
        ],
    )
    .await;
    server.json(&["bill", "run", "--period", "2024-08"]).await;
    bill(&server, &[]).await;
    let august = invoice(&server, "INV-000001").await;
    assert_eq!(amounts(&august), [("usage", "50.00"), ("tax", "2.50")]);
    let paid =
        json!([{"credit": "bonus", "amount": "5.00"}, {"credit": "prepaid", "amount": "47.50"}]);
    assert_eq!((&august["payments"], &august["due"]), (&paid, &json!("0.00")));
    let september = invoice(&server, "INV-000002").await;
    assert_eq!(september["payments"], json!([{"credit": "prepaid", "amount": "12.50"}]));
    assert_eq!(september["due"], "40.00");

    let voided = server.json(&["invoice", "void", "INV-000001", "--reason", "wrong tenant"]).await;
    assert_eq!(
        (&voided["state"], &voided["void_reason"]),
        (&json!("void"), &json!("wrong tenant"))
    );
    server.json(&["bill", "run", "--period", "2024-08"]).await;
    let again = invoice(&server, "INV-000003").await;
    assert_eq!(
        (&again["payments"], &again["due"]),
        (&paid, &json!("0.00")),
        "it got its credits back"
    );

    let messages = messages(&server).await;
    let seen: Vec<_> = messages
        .iter()
        .map(|message| {
            let body = &message["body"];
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&message["message"]), text(&body["event"]), text(&body["number"]))
        })
        .collect();
    let expected = [
        ("1", "final", "INV-000001"),
        ("2", "final", "INV-000002"),
        ("3", "void", "INV-000001"),
        ("4", "final", "INV-000003"),
    ];
    assert_eq!(seen, expected.map(|(n, event, number)| (n.into(), event.into(), number.into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credit_note_gives_back_no_more_than_was_billed_and_deltas_go_on_without_it() {
    let home = Home::new();
    let server = Server::start(&home, &settings()).await;
    publish(&server, &home, CATALOGUE).await;
    let usage = [
        ("acme", "vm", "hour", "30", "2024-09-10T10:10:00Z"),
        ("acme", "support", "month", "1", "2024-09-10T10:10:00Z"),
    ];
    use_up(&server, &home, "september", &usage).await;
    bill(&server, &[]).await;
    let before = invoice(&server, "1").await;
    assert_eq!(amounts(&before), [("usage", "30.00"), ("usage", "15.00")]);
    let credit = async |arguments: &[&str]| {
        let arguments = [&["invoice", "credit", "INV-000001", "-o", "json"], arguments].concat();
        let output = server.pulso(&arguments).await;
        let note = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.code(), note, String::from_utf8(output.stderr).unwrap())
    };
    let shown = server.pulso(&["invoice", "get", "INV-000001"]).await;
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("45.00 BRL") && !shown.contains("credits pay"), "{shown}");
    let goodwill = ["--line", "2=10.00", "--reason", "service level missed"];
    let (code, checked, _) = credit(&[&goodwill[..], &["--check"]].concat()).await;
    assert_eq!(
        (code, &checked["number"], &checked["total"]),
        (Some(0), &json!(""), &json!("-10.00"))
    );
    let (code, note, _) = credit(&goodwill).await;
    assert_eq!(code, Some(0), "{note}");
    assert_eq!((&note["number"], &note["document"]), (&json!("INV-000002"), &json!("credit_note")));
    assert_eq!((&note["corrects"], &note["due"]), (&json!("INV-000001"), &json!("-10.00")));
    let (code, _, stderr) = credit(&goodwill).await;
    assert_eq!(code, Some(65), "{stderr}");
    assert!(stderr.contains("CREDIT_EXISTS") && stderr.contains("INV-000002 already"), "{stderr}");

    for (arguments, words) in [
        (["--line", "2=5.01", "--reason", "r"], "5.00 is left of line 2"),
        (["--line", "3=1", "--reason", "r"], "no line 3"),
        (["--amount", "35.01", "--reason", "r"], "35.00 BRL is left of what was billed"),
        (["--amount", "0.001", "--reason", "r"], "more than the 2 decimals of BRL"),
        (["--amount", "-1", "--reason", "r"], "no amount above zero"),
        (["--amount", "1", "--reason", " "], "kept for whoever looks"),
    ] {
        let arguments: Vec<String> = arguments.chunks(2).map(|pair| pair.join("=")).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (code, _, stderr) = credit(&arguments).await;
        assert_eq!(code, Some(65), "{arguments:?}: {stderr}");
        assert!(stderr.contains(words), "{arguments:?}: {stderr}");
    }

    // Usage that came late is billed as if there were no note.
    use_up(&server, &home, "late", &[("acme", "vm", "hour", "4", "2024-09-11T10:00:00Z")]).await;
    assert_eq!(bill(&server, &["--deltas"]).await["deltas"], "1");
    assert_eq!(invoice(&server, "3").await["total"], "2.00");
    assert_eq!(credit(&["--amount", "37.00", "--reason", "r"]).await.1["number"], "INV-000004");
    for number in ["1", "2", "3", "4"] {
        assert_eq!(server.json(&["bill", "verify", number]).await["matches"], true, "{number}");
    }
    let explained = server.json(&["bill", "explain", "INV-000002"]).await;
    assert_eq!(explained["lines"][0]["amount"], "-10.00");
    let refused = server.pulso(&["invoice", "void", "INV-000001", "--reason", "r"]).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("void that first"));
    let voided = server.json(&["invoice", "void", "INV-000002", "--reason", "r"]).await;
    assert_eq!(voided["state"], "void");
    let events: Vec<Value> =
        messages(&server).await.iter().map(|message| message["body"]["number"].clone()).collect();
    assert_eq!(events.len(), 5, "four documents and a void: {events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_a_consumer_rejects_stands_once_with_its_reason_and_is_replayed_once() {
    let home = Home::new();
    let server = Server::start(&home, &settings()).await;
    publish(&server, &home, CATALOGUE).await;
    use_up(&server, &home, "u", &[("acme", "vm", "hour", "10", "2024-09-10T10:00:00Z")]).await;
    bill(&server, &[]).await;
    let reject = ["bill", "dlq", "reject", "1", "--consumer", "ledger", "--reason"];
    let rejected = server.json(&[&reject[..], &["no account"]].concat()).await;
    let expected = json!({
        "number": "1", "message": "1", "tenant": "acme", "invoice": "INV-000001",
        "consumer": "ledger", "reason": "no account",
        "rejected_at": rejected["rejections"][0]["rejected_at"], "replayed_as": null,
    });
    assert_eq!(rejected["rejections"], json!([expected]));
    let again = server.json(&[&reject[..], &["said otherwise"]].concat()).await;
    assert_eq!(again["rejections"], json!([expected]), "what was said first stands");

    for _ in 0..2 {
        let replayed = server.json(&["bill", "dlq", "replay", "1"]).await;
        assert_eq!(replayed["rejections"][0]["replayed_as"], "2");
    }
    assert_eq!(server.json(&["bill", "dlq", "replay", "--all"]).await["rejections"], json!([]));
    let listed = server.json(&["bill", "dlq", "list"]).await;
    assert_eq!(listed["rejections"].as_array().unwrap().len(), 1, "{listed}");
    let messages = messages(&server).await;
    assert_eq!(messages.len(), 2, "{messages:?}");
    let mut repeated = messages[0]["body"].clone();
    repeated["replay_of"] = "1".into();
    assert_eq!(messages[1], json!({"message": "2", "body": repeated}));

    for (arguments, words) in [
        (["reject", "9", "--consumer", "ledger", "--reason", "r"].as_slice(), "no message 9"),
        (&["reject", "1", "--consumer", " ", "--reason", "r"], "consumer"),
        (&["replay", "5"], "rejected under number 5"),
    ] {
        let output = server.pulso(&[&["bill", "dlq"], arguments].concat()).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(65), "{arguments:?}: {stderr}");
        assert!(stderr.contains(words), "{arguments:?}: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn periods_that_are_not_over_wait_and_mistakes_are_named_with_what_to_do() {
    let home = Home::new();
    let server = Server::start(&home, &settings()).await;
    publish(&server, &home, CATALOGUE).await;
    for (arguments, code, words) in [
        (vec!["bill", "run", "--period", "2999-01"], 65, "has not come yet"),
        (vec!["bill", "run", "--period", "2024-9"], 65, "not a month: write it as 2024-09"),
        (vec!["bill", "status", "7"], 65, "there is no billing run 7"),
        (vec!["invoice", "get", "INV-000009"], 65, "there is no invoice"),
        (vec!["bill", "explain", "INV-000001/0"], 64, "give its place from 1"),
        (vec!["contract", "show", "nobody"], 65, "no contract was applied"),
    ] {
        let output = server.pulso(&arguments).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(words), "{arguments:?}: {stderr}");
    }
    let path = file(
        &home,
        "wrong.yaml",
        "contract: c\ntenant: acme\nvalid_from: 2024-01-01\ncurrency: BRL\noverrides:\n  - {sku: vn, unit: hour, prices: []}\ntime_zone: Mars/Base\n",
    );
    let output = server.pulso(&["contract", "apply", &path]).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(65), "{stderr}");
    assert!(stderr.contains("wrong.yaml") && stderr.contains("did you mean `vm`?"), "{stderr}");
    assert!(stderr.contains("Mars/Base"), "{stderr}");
    assert_eq!(server.json(&["contract", "list"]).await["contracts"], json!([]));
}
