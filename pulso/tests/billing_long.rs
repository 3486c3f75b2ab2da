//! Invoices of thousands of lines: issued, announced, listed, printed, explained, corrected and taken
//! back, whatever is killed between the parts of their text.

use std::{collections::BTreeMap, process::Command, time::Instant};

use crate::harness::{
    Home, PATIENCE, Server, Settings,
    billing::{bill, file, invoice, messages, publish, settings},
    cluster::Cluster,
    http,
};
use pricing::Amount;
use proto::v1::{
    GetRunRequest, Run, StartRunRequest, billing_service_client::BillingServiceClient,
};
use pulso::client::Channel;
use serde_json::{Value, json};
use storage::conformance::servers::shared_pair;

/// A price for each of so many resources, so that each is a line, at 1.00.
fn catalogue((resources, characters): (usize, usize)) -> String {
    let cells = (1..=resources).map(|resource| {
        format!("{{when: {{res: {}}}, unit_price: \"1\"}}", named(resource, characters))
    });
    let cells = cells.collect::<Vec<_>>().join(", ");
    format!(
        r#"
catalogue: wide
currency: USD
skus:
  - sku: mx
    unit: u
    dimensions: [res]
    prices: [{{valid_from: 2020-01-01T00:00:00Z, model: matrix, prices: [{cells}]}}]
"#
    )
}

fn named(resource: usize, characters: usize) -> String {
    format!("r{resource:0characters$}")
}

const LINES: usize = 8_000;
const ALL_STAGES: &str = "ingest,consume,price,query";

/// A unit of so many resources of a tenant in a month, named by so many characters.
async fn use_up(
    server: &Server,
    home: &Home,
    (name, tenant, month): (&str, &str, &str),
    (resources, characters): (usize, usize),
) {
    let pulses = (1..=resources).map(|resource| {
        let resource = named(resource, characters);
        json!({"tenant": tenant, "product_sku": "mx", "use_unity": "u", "used_amount": "1",
               "time": format!("{month}-05T00:00:00Z"), "properties": {"res": resource}})
        .to_string()
    });
    let path = file(home, "usage.jsonl", &pulses.collect::<Vec<_>>().join("\n"));
    let sent = server.json(&["ingest", &path, "--format", "jsonl", "--backfill", name]).await;
    assert_eq!(sent["rejected"], "0", "{sent}");
    server.drained().await;
}

fn lines_of(document: &Value) -> &Vec<Value> {
    document["lines"].as_array().unwrap()
}

async fn text(server: &Server, arguments: &[&str]) -> String {
    let output = server.pulso(arguments).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

async fn ask(server: &Server, what: &str) -> Value {
    let (status, answer) = http(&server.http, what, "").await;
    assert_eq!(status, 200, "{what}: {answer}");
    serde_json::from_str(&answer).unwrap()
}

/// Numbers, events and documents of all messages. Each of a long document says where its lines are.
async fn announced(server: &Server) -> Vec<(String, String)> {
    let mut announced = Vec::new();
    for (number, message) in (1..).zip(messages(server).await) {
        assert_eq!(message["message"], number.to_string(), "no gaps");
        let (body, text) = (&message["body"], message.to_string());
        let is_long = body["left_out"].is_object();
        assert_eq!(is_long, body["document"]["lines"].is_null(), "{text}");
        assert!(text.len() < 600 << 10, "{} bytes", text.len());
        let number = body["number"].as_str().unwrap();
        assert!(!is_long || body["left_out"]["at"] == format!("/v1/invoices/{number}/lines"));
        announced.push((body["event"].as_str().unwrap().to_owned(), number.to_owned()));
    }
    announced
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_of_eight_thousand_lines_goes_every_way_that_a_short_one_goes() {
    goes_every_way(&settings()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_servers_too_it_goes_every_way() {
    let Some(servers) = shared_pair() else { return };
    let cluster = Cluster::new(servers, settings()).await;
    goes_every_way(&cluster.stages(ALL_STAGES)).await;
}

async fn goes_every_way(settings: &Settings) {
    let home = Home::new();
    let server = Server::start(&home, settings).await;
    publish(&server, &home, &catalogue((LINES, 1))).await;
    use_up(&server, &home, ("first", "wide", "2024-09"), (LINES, 1)).await;
    assert_eq!(bill(&server, &[]).await["invoices"], "1", "and the run is closed");
    let listed = server.json(&["invoice", "list"]).await;
    let invoices = listed["invoices"].as_array().unwrap();
    assert_eq!((invoices.len(), &invoices[0]["total"]), (1, &json!("8000.00")));
    assert_eq!(announced(&server).await, [("final".to_owned(), "INV-000001".to_owned())]);
    is_read_whole(&server).await;

    // Late usage of a hundred resources makes a short delta; of all resources a long one.
    for (name, resources) in [("late", 100), ("later", LINES)] {
        use_up(&server, &home, (name, "wide", "2024-09"), (resources, 1)).await;
        assert_eq!(bill(&server, &["--deltas"]).await["deltas"], "1");
    }
    let deltas = [invoice(&server, "INV-000002").await, invoice(&server, "INV-000003").await];
    assert_eq!(deltas.each_ref().map(|delta| lines_of(delta).len()), [100, LINES]);
    assert_eq!(deltas.map(|delta| delta["total"].clone()), ["100.00", "8000.00"]);
    let credit = ["invoice", "credit", "INV-000001", "--line", "8000=0.25", "--reason", "late"];
    let note = server.json(&credit).await;
    assert_eq!((&note["number"], &note["total"]), (&json!("INV-000004"), &json!("-0.25")));
    for number in ["INV-000001", "INV-000002", "INV-000003", "INV-000004"] {
        let verified = server.json(&["bill", "verify", number]).await;
        assert_eq!(verified["matches"], true, "{number}");
    }
    // From the newest backwards, and the period is billed again.
    for number in ["INV-000004", "INV-000003", "INV-000002", "INV-000001"] {
        let voided = server.json(&["invoice", "void", number, "--reason", "test"]).await;
        assert_eq!(voided["state"], "void");
    }
    assert_eq!(bill(&server, &[]).await["invoices"], "1");
    let events: Vec<_> = announced(&server).await.into_iter().map(|(event, _)| event).collect();
    assert_eq!(
        events,
        [["final"; 4], ["void"; 4]].concat().into_iter().chain(["final"]).collect::<Vec<_>>()
    );
    if settings.variables().any(|(_, value)| value.starts_with("kafka:")) {
        is_forwarded(&server, events.len()).await;
    }
    let again = invoice(&server, "INV-000005").await;
    assert_eq!((&again["total"], lines_of(&again).len()), (&json!("16100.00"), LINES));
    server.terminate().await;
}

/// The topic takes so many messages.
async fn is_forwarded(server: &Server, messages: usize) {
    let metric = "pulso_billing_messages_forwarded_total{queue=\"monthly-consumption\"}";
    let (wanted, deadline) = (format!("{metric} {messages}"), Instant::now() + PATIENCE);
    loop {
        let metrics = server.get("/metrics").await;
        if metrics.lines().any(|line| line == wanted) {
            return;
        }
        let found = metrics.lines().find(|line| line.starts_with(metric));
        assert!(Instant::now() < deadline, "{found:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// The first invoice in every form.
async fn is_read_whole(server: &Server) {
    let number = "INV-000001";
    let shown = ask(server, "GET /v1/invoices/INV-000001").await;
    assert_eq!(shown["left_out"]["lines"], LINES.to_string());
    assert!(shown["lines"].is_null() && shown["unpriced"].is_null(), "{shown}");
    let whole = invoice(server, number).await;
    assert_eq!((lines_of(&whole).len(), &whole["unpriced"]), (LINES, &json!([])));
    for (key, value) in shown.as_object().unwrap().iter().filter(|(key, _)| *key != "left_out") {
        assert_eq!(&whole[key], value, "{key}");
    }
    let mut listed: Vec<Value> = Vec::new();
    let mut token = String::new();
    loop {
        let page = format!("GET /v1/invoices/{number}/lines?page_size=1000{token}");
        let page = ask(server, &page).await;
        listed.extend(lines_of(&page).iter().cloned());
        match page["next_page_token"].as_str().unwrap() {
            "" => break,
            next => token = format!("&page_token={next}"),
        }
    }
    assert!(&listed == lines_of(&whole));
    let lines = text(server, &["invoice", "get", number, "-o", "jsonl"]).await;
    assert!(lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).eq(listed));
    let csv = text(server, &["invoice", "get", number, "-o", "csv"]).await;
    assert_eq!(csv.lines().count(), 1 + LINES);
    let table = text(server, &["invoice", "get", number, "-o", "table"]).await;
    assert!(table.contains("the first 50 of 8000 lines") && table.contains("8000.00 USD"));
    assert_eq!(table.matches(" mx ").count(), 50, "{table}");
    let page = text(server, &["invoice", "render", number]).await;
    assert_eq!(page.matches("<td>mx</td>").count(), LINES);
    let (status, same) = http(&server.http, "GET /v1/invoices/INV-000001:html", "").await;
    assert!(status == 200 && same == page);

    let explained = server.json(&["bill", "explain", number]).await;
    assert_eq!(lines_of(&explained).len(), LINES);
    let last = server.json(&["bill", "explain", "INV-000001/8000"]).await;
    assert_eq!(lines_of(&last)[0], lines_of(&explained)[LINES - 1]);
    let csv = text(server, &["bill", "explain", number, "-o", "csv"]).await;
    assert_eq!(csv.lines().count(), 1 + LINES);
    let words = text(server, &["bill", "explain", number, "-o", "table"]).await;
    assert!(words.ends_with("7000 lines more in -o csv\n"), "a person reads a thousand");
}

/// Starts the run of a month, and waits until it has ended or says what failed.
async fn run(client: &mut BillingServiceClient<Channel>, month: &str) -> Run {
    let start = StartRunRequest { period: month.to_owned(), ..StartRunRequest::default() };
    let number = client.start_run(start).await.unwrap().into_inner().number;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let run = client.get_run(GetRunRequest { number }).await.unwrap().into_inner();
        if run.state == "closed" || !run.failures.is_empty() {
            return run;
        }
        assert!(Instant::now() < deadline, "{run:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_period_of_more_lines_than_the_bound_fails_before_it_has_a_number_and_stops_nobody() {
    let home = Home::new();
    let with = |lines: &str| settings().with("PULSO_BILLING__DOCUMENT_LINES_MAX", lines);
    let server = Server::start(&home, &with("10")).await;
    publish(&server, &home, &catalogue((11, 1))).await;
    use_up(&server, &home, ("a", "fits", "2024-09"), (10, 1)).await;
    use_up(&server, &home, ("b", "wide", "2024-09"), (11, 1)).await;
    let mut client = BillingServiceClient::new(server.channel().await);
    let failed = run(&mut client, "2024-09").await;
    let words: Vec<_> =
        failed.failures.iter().map(|failure| (failure.tenant.as_str(), &failure.message)).collect();
    let [("wide", words)] = words[..] else { panic!("{failed:?}") };
    assert!(
        words.contains("11 lines, and 10 are the most (billing.document_lines_max)"),
        "{words}"
    );
    let tenants = async |server: &Server| {
        let listed = server.json(&["invoice", "list"]).await;
        let invoices = listed["invoices"].as_array().unwrap().clone();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let of = |found: &Value| (text(&found["number"]), text(&found["tenant"]));
        invoices.iter().map(of).collect::<BTreeMap<_, _>>()
    };
    let fits = [("INV-000001".to_owned(), "fits".to_owned())];
    assert_eq!(tenants(&server).await, BTreeMap::from(fits.clone()));
    let drafts = server.json(&["invoice", "list", "--tenant", "wide"]).await;
    assert_eq!(drafts["invoices"], json!([]), "nothing was journalled");
    server.terminate().await;

    let server = Server::start(&home, &with("11")).await;
    let mut client = BillingServiceClient::new(server.channel().await);
    assert_eq!(run(&mut client, "2024-09").await.state, "closed");
    let wide = ("INV-000002".to_owned(), "wide".to_owned());
    assert_eq!(tenants(&server).await, BTreeMap::from(fits).into_iter().chain([wide]).collect());
    server.terminate().await;
}

/// Points that only a long document passes, and those around it, with how often the process passes
/// them: the text of a month below has three parts.
const DEATHS: [(&str, usize); 7] = [
    ("billing.before_part", 1),
    ("billing.before_part", 2),
    ("billing.before_part", 3),
    ("billing.before_index", 1),
    ("billing.before_draft", 1),
    ("billing.after_draft", 1),
    ("billing.before_outbox", 1),
];
/// Resources of a month, and characters that name each.
const LONG: (usize, usize) = (3_000, 120);

/// Bills a month by a process that dies at a point, and by one that lives.
async fn die_and_bill(home: &Home, settings: &Settings, month: &str, fault: &str) {
    let dying = settings.clone().with("PULSO_FAULT", fault);
    let mut server = Server::start(home, &dying).await;
    let mut client = BillingServiceClient::new(server.channel().await);
    let start = StartRunRequest { period: month.to_owned(), ..StartRunRequest::default() };
    // The answer may die with the process.
    drop(client.start_run(start).await);
    let died = tokio::time::timeout(PATIENCE, server.end_status()).await;
    assert!(died.is_ok_and(|status| status.code().is_none()), "{fault} did not kill");
    let server = Server::start(home, settings).await;
    let mut client = BillingServiceClient::new(server.channel().await);
    assert_eq!(run(&mut client, month).await.state, "closed", "{fault}");
    server.terminate().await;
}

/// So many months have an invoice and a message each, of which the newest is whole.
async fn check_months(home: &Home, settings: &Settings, months: usize) {
    let server = Server::start(home, settings).await;
    let numbers: Vec<_> = (1..=months).map(|number| format!("INV-{number:06}")).collect();
    let listed = server.json(&["invoice", "list"]).await;
    for (number, found) in numbers.iter().zip(listed["invoices"].as_array().unwrap()) {
        assert_eq!((&found["number"], &found["total"]), (&json!(number), &json!("3000.00")));
    }
    let finals = numbers.iter().map(|number| ("final".to_owned(), number.clone()));
    assert_eq!(announced(&server).await, finals.collect::<Vec<_>>());
    let newest = invoice(&server, &numbers[months - 1]).await;
    let sum = lines_of(&newest).iter().fold(Amount::ZERO, |sum, line| {
        sum.checked_add(line["amount"].as_str().unwrap().parse().unwrap()).unwrap()
    });
    assert_eq!((lines_of(&newest).len(), sum), (LONG.0, Amount::whole(3_000)));
    let verified = server.json(&["bill", "verify", &numbers[months - 1]]).await;
    assert_eq!(verified["matches"], true);
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_between_the_parts_of_a_document_leaves_half_of_it() {
    let prepared = Home::new();
    let server = Server::start(&prepared, &settings()).await;
    publish(&server, &prepared, &catalogue(LONG)).await;
    use_up(&server, &prepared, ("month", "wide", "2024-09"), LONG).await;
    server.terminate().await;
    for (point, nth) in DEATHS {
        let home = Home::new();
        let copied = Command::new("cp").arg("-r").args([prepared.data(), home.data()]).status();
        assert!(copied.unwrap().success());
        die_and_bill(&home, &settings(), "2024-09", &format!("{point}:{nth}")).await;
        check_months(&home, &settings(), 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_on_servers_leaves_half_a_document_either() {
    let Some(servers) = shared_pair() else { return };
    let cluster = Cluster::new(servers, settings()).await;
    let settings = cluster.stages(ALL_STAGES).with("PULSO_CONSUMER__PARTITIONS", "all");
    let home = Home::new();
    let server = Server::start(&home, &settings).await;
    publish(&server, &home, &catalogue(LONG)).await;
    let deaths = [DEATHS[1], DEATHS[3]];
    let months = ["2024-01", "2024-02"];
    for month in months {
        use_up(&server, &home, (month, "wide", month), LONG).await;
    }
    server.terminate().await;
    for ((point, nth), (billed, month)) in deaths.into_iter().zip((1..).zip(months)) {
        die_and_bill(&home, &settings, month, &format!("{point}:{nth}")).await;
        check_months(&home, &settings, billed).await;
    }
}
