//! Credit notes and voids through the built program: killed at every journalled step, asked for again,
//! and asked of two processes at once, each is made once, with one number and one message, and its money
//! goes back once.

use std::collections::BTreeMap;

use crate::harness::{
    Home, PATIENCE, Server, Settings,
    billing::{amounts, apply, bill, invoice, messages, publish, settings, use_up},
    cluster::Cluster,
    http,
};
use serde_json::{Value, json};
use storage::conformance::servers::shared_pair;

const CONTRACT: &str = "
contract: acme-1
tenant: acme
valid_from: 2024-09-01
currency: BRL
credits: [{name: prepaid, amount: \"40.00\"}]
";

/// The steps of a credit note, in their order.
const CREDIT: [&str; 9] = [
    "billing.before_draft",
    "billing.after_draft",
    "billing.before_number",
    "billing.after_number",
    "billing.before_finalise",
    "billing.after_finalise",
    "billing.before_outbox",
    "billing.after_outbox",
    "billing.before_published",
];
const VOID: [&str; 2] = ["invoice.before_void", "invoice.after_void"];

/// An invoice of 45.00, of which a credit paid 40.00.
async fn billed(home: &Home, settings: &Settings) -> Server {
    let server = Server::start(home, settings).await;
    publish(&server, home, crate::harness::billing::CATALOGUE).await;
    apply(&server, home, CONTRACT).await;
    use_up(&server, home, "u", &[("acme", "vm", "hour", "90", "2024-09-10T10:00:00Z")]).await;
    assert_eq!(bill(&server, &[]).await["invoices"], "1");
    server
}

/// Lets the process die at a point while it does something, and starts it again.
async fn dies(home: &Home, settings: &Settings, point: &str, arguments: &[&str]) -> Server {
    let armed = settings.clone().with("PULSO_FAULT", point);
    let mut server = Server::start(home, &armed).await;
    let output = server.pulso(arguments).await;
    assert_ne!(output.status.code(), Some(0), "{point} did not kill");
    let died = tokio::time::timeout(PATIENCE, server.end_status()).await;
    assert!(died.unwrap().code().is_none(), "{point} did not kill");
    if arguments.contains(&"credit") {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("Run the same command again"), "{stderr}");
    }
    Server::start(home, settings).await
}

/// What was owed and paid so far: documents, and how often each is announced.
async fn check(server: &Server, notes: usize, voids: usize) {
    let listed = server.json(&["invoice", "list"]).await;
    let documents = listed["invoices"].as_array().unwrap();
    let numbers: Vec<&str> = documents.iter().map(|it| it["number"].as_str().unwrap()).collect();
    let expected: Vec<String> = (1..=notes + 1).map(|number| format!("INV-{number:06}")).collect();
    assert_eq!(numbers, expected);
    let void = documents.iter().filter(|document| document["state"] == "void").count();
    assert_eq!(void, voids);
    let cents = 4_000 - 100 * (notes - voids);
    let paid = format!("{}.{:02}", cents / 100, cents % 100);
    let totals = &listed["totals"][0];
    assert_eq!((&totals["paid"], &totals["due"]), (&json!(paid), &json!("5.00")), "{totals}");
    let mut events: BTreeMap<String, usize> = BTreeMap::new();
    for message in messages(server).await {
        let body = &message["body"];
        *events.entry(format!("{} {}", body["event"], body["number"])).or_default() += 1;
    }
    assert_eq!(events.len(), notes + 1 + voids, "{events:?}");
    assert!(events.values().all(|times| *times == 1), "{events:?}");
}

async fn no_kill_changes_what_goes_back(settings: &Settings) {
    let home = Home::new();
    billed(&home, settings).await.terminate().await;
    for (notes, point) in (1..).zip(CREDIT) {
        let id = format!("--request-id=n{notes}");
        let credit = ["invoice", "credit", "INV-000001", "--amount=1.00", "--reason=outage", &id];
        let server = dies(&home, settings, point, &credit).await;
        let note = server.json(&credit).await;
        let number = format!("INV-{:06}", notes + 1);
        let back = json!([{"credit": "prepaid", "amount": "-1.00"}]);
        assert_eq!((&note["number"], &note["payments"]), (&json!(number), &back), "{point}");
        assert_eq!(server.json(&credit).await["number"], number);
        check(&server, notes, 0).await;
        server.terminate().await;
    }
    for (voids, point) in (1..).zip(VOID) {
        let number = format!("INV-{:06}", voids + 1);
        let void = ["invoice", "void", &number, "--reason=mistake"];
        let server = dies(&home, settings, point, &void).await;
        let voided = server.json(&void).await;
        assert_eq!((&voided["state"], &voided["due"]), (&json!("void"), &json!("0.00")), "{point}");
        check(&server, CREDIT.len(), voids).await;
        server.terminate().await;
    }
    left_alone(&home, settings).await;
}

/// A note that nobody asks for again: a run finishes it, and so does a void, which is announced behind it.
async fn left_alone(home: &Home, settings: &Settings) {
    let credit = ["invoice", "credit", "INV-000001", "--amount=1.00", "--reason"];
    let (notes, voids) = (CREDIT.len() + 1, VOID.len());
    let one = [&credit[..], &["left to a run"]].concat();
    let server = dies(home, settings, "billing.after_draft", &one).await;
    assert_eq!(bill(&server, &["--deltas"]).await["deltas"], "0");
    check(&server, notes, voids).await;
    server.terminate().await;
    let other = [&credit[..], &["left to a void"]].concat();
    let server = dies(home, settings, "billing.after_finalise", &other).await;
    let number = format!("INV-{:06}", notes + 2);
    server.json(&["invoice", "void", &number, "--reason=mistake"]).await;
    check(&server, notes + 1, voids + 1).await;
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_of_a_credit_or_a_void_loses_or_doubles_what_goes_back() {
    no_kill_changes_what_goes_back(&settings()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_servers_no_kill_of_a_credit_or_a_void_does_either() {
    let Some(servers) = shared_pair() else { return };
    let cluster = Cluster::new(servers, settings()).await;
    let all = cluster.stages("ingest,consume,price,query");
    no_kill_changes_what_goes_back(&all.with("PULSO_CONSUMER__PARTITIONS", "all")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_that_ask_at_once_are_given_back_once() {
    let home = Home::new();
    let server = billed(&home, &settings()).await;
    asked_at_once(&server, &server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_are_asked_at_once_give_back_once() {
    let Some(servers) = shared_pair() else { return };
    let cluster = Cluster::new(servers, settings()).await;
    let (home, beside) = (Home::new(), Home::new());
    let one = billed(&home, &cluster.stages("ingest,consume,price,query")).await;
    let other = Server::start(&beside, &cluster.stages("price")).await;
    asked_at_once(&one, &other).await;
}

async fn asked_at_once(one: &Server, other: &Server) {
    let both = async |arguments: &[&str]| {
        let (one, other) = tokio::join!(one.pulso(arguments), other.pulso(arguments));
        [one, other].map(|output| {
            let note = serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default();
            (output.status.code(), note["number"].clone(), output.stderr)
        })
    };
    let credit = ["invoice", "credit", "INV-000001", "-o", "json", "--reason=r"];
    // The same request: both are answered with one note.
    let same = both(&[&credit[..], &["--amount=10.00", "--request-id=one"]].concat()).await;
    for (code, number, _) in &same {
        assert_eq!((code, number), (&Some(0), &json!("INV-000002")), "{same:?}");
    }
    // Without an id one of them makes the note, and the other is told of it.
    let equal = both(&[&credit[..], &["--amount=20.00"]].concat()).await;
    let mut codes = equal.each_ref().map(|(code, ..)| *code);
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(65)], "{equal:?}");
    // Only 15.00 are left.
    let rest = ["--amount=15.00"];
    let (first, second) = (["--request-id=two"], ["--request-id=three"]);
    let first = [&credit[..], &rest, &first].concat();
    let second = [&credit[..], &rest, &second].concat();
    let (first, second) = tokio::join!(one.pulso(&first), other.pulso(&second));
    let mut codes = [first.status.code(), second.status.code()];
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(65)], "{first:?} {second:?}");
    let listed = one.json(&["invoice", "list"]).await;
    let expected = json!([{"currency": "BRL", "documents": "4", "total": "0.00", "paid": "0.00",
                           "due": "0.00", "void": "0.00"}]);
    assert_eq!(listed["totals"], expected);
    let voided = both(&["invoice", "void", "INV-000002", "-o", "json", "--reason=r"]).await;
    assert!(voided.iter().all(|(code, ..)| *code == Some(0)), "{voided:?}");
    assert_eq!(messages(one).await.len(), 5, "four documents and a void");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_told_what_goes_back_to_credits_and_what_is_due() {
    let home = Home::new();
    let server = billed(&home, &settings()).await;
    let told = async |arguments: &[&str]| {
        let output = server.pulso(arguments).await;
        let both = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(both).unwrap())
    };
    let credit = ["invoice", "credit", "INV-000001", "--amount=44.00", "--reason=r"];
    let (code, words) = told(&["invoice", "get", "INV-000001"]).await;
    assert_eq!(code, Some(0));
    assert!(words.contains("credits pay 40.00 BRL: 5.00 BRL due"), "{words}");
    let words = told(&[&credit[..], &["--check"]].concat()).await.1;
    assert!(
        words.contains("40.00 BRL go back to credits, 4.00 BRL are due to the customer"),
        "{words}"
    );
    let (code, words) = told(&[&credit[..], &["--kind=gift"]].concat()).await;
    assert_eq!(code, Some(64), "{words}");
    let kind = told(&[&credit[..], &["--kind=correction", "-o", "json"]].concat()).await.1;
    assert!(kind.contains("\"note_kind\":\"correction\""), "{kind}");
    // Nothing about the usage has changed: the next delta bills the correction again.
    assert_eq!(bill(&server, &["--deltas"]).await["deltas"], "1");
    let delta = invoice(&server, "3").await;
    assert_eq!(amounts(&delta), [("credit", "44.00")]);
    assert_eq!((&delta["paid"], &delta["due"]), (&json!("40.00"), &json!("4.00")));
    let words = told(&["invoice", "void", "INV-000003", "--reason=r"]).await.1;
    assert!(words.contains("void"), "{words}");
    let words = told(&["invoice", "get", "INV-000003"]).await.1;
    assert!(words.contains("void: nothing is due; until then 4.00 BRL were"), "{words}");
    let words = told(&["invoice", "list"]).await.1;
    assert!(
        words.contains("BRL: 2 documents of 1.00, credits paid 0.00, 1.00 due; void: 44.00"),
        "{words}"
    );
    let words = told(&["bill", "preview", "--tenant=acme", "--period=2024-09"]).await.1;
    assert!(words.contains("credit prepaid would pay 40.00 BRL: 5.00 BRL would be due"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_refuses_a_second_equal_note_and_an_unknown_kind_as_the_command_does() {
    let home = Home::new();
    let server = billed(&home, &settings()).await;
    let credit = async |more: Value| {
        let mut body = json!({"lines": [{"line": 1, "amount": "1.00"}], "reason": "outage"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let what = "POST /v1/invoices/INV-000001:credit";
        let (status, answer) = http(&server.http, what, &body.to_string()).await;
        (status, serde_json::from_str::<Value>(&answer).unwrap())
    };
    let (status, note) = credit(json!({"kind": "correction"})).await;
    assert_eq!((status, &note["note_kind"]), (200, &json!("correction")), "{note}");
    for (more, status, reason) in
        [(json!({}), 409, "CREDIT_EXISTS"), (json!({"kind": "gift"}), 400, "PARAMETER_INVALID")]
    {
        let (found, problem) = credit(more).await;
        assert_eq!((found, &problem["reason"]), (status, &json!(reason)), "{problem}");
    }
    let named = json!({"request_id": "ticket"});
    let (status, second) = credit(named.clone()).await;
    assert_eq!((status, &second["number"]), (200, &json!("INV-000003")), "{second}");
    assert_eq!(credit(named).await.1["number"], "INV-000003");
    let other = json!({"request_id": "ticket", "kind": "correction"});
    let (status, problem) = credit(other).await;
    assert_eq!((status, &problem["reason"]), (409, &json!("REQUEST_ID_USED")), "{problem}");
}
