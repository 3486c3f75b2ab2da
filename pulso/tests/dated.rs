//! Amendments of contracts and catalogues with dates, by the commands, gRPC and HTTP; under kills at
//! each of their journalled steps; and by two processes at once.

use serde_json::{Value, json};
use storage::conformance::servers::shared_pair;

use crate::harness::{
    Home, Server, Settings,
    billing::{CONTRACT, PLAIN_CATALOGUE, apply, bill, file, publish, settings, use_up},
    cluster::Cluster,
    http,
};

const ALL_STAGES: &str = "ingest,consume,price,query";
const AMENDMENT: &str = r#"
amendment: acme-1-better
contract: acme-1
from: 2024-09-16
replace: {discounts: [{name: friends, percentage: "20"}]}
"#;

/// A version with another price for machines, and what else its file says.
fn version(name: &str, price: &str, more: &str) -> String {
    let text = PLAIN_CATALOGUE.replace("\"2024-01\"", &format!("\"{name}\"\n{more}"));
    text.replace("\"0.50\"", &format!("\"{price}\""))
}

/// A server on which acme has used 100 hours on the 10th and on the 20th of September, all billed: 100.00
/// less 10 %.
async fn billed(home: &Home, settings: &Settings) -> Server {
    let server = Server::start(home, settings).await;
    publish(&server, home, PLAIN_CATALOGUE).await;
    apply(&server, home, CONTRACT).await;
    for day in ["10", "20"] {
        let time = format!("2024-09-{day}T10:00:00Z");
        let usage = [("acme", "vm", "hour", "100", time.as_str())];
        use_up(&server, home, &format!("at-{day}"), &usage).await;
    }
    bill(&server, &[]).await;
    server
}

async fn totals(server: &Server) -> Vec<Value> {
    let listed = server.json(&["invoice", "list"]).await;
    listed["invoices"].as_array().unwrap().iter().map(|it| it["total"].clone()).collect()
}

/// What a refused command says.
async fn refused(server: &Server, arguments: &[&str]) -> String {
    let output = server.pulso(arguments).await;
    assert_eq!(output.status.code(), Some(65), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amendment_is_checked_applied_shown_and_billed() {
    an_amendment_is_billed(&settings()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_servers_too_an_amendment_is_billed() {
    let Some(servers) = shared_pair() else { return };
    let cluster = Cluster::new(servers, settings()).await;
    an_amendment_is_billed(&cluster.stages(ALL_STAGES)).await;
}

async fn an_amendment_is_billed(settings: &Settings) {
    let home = Home::new();
    let server = billed(&home, settings).await;
    let path = file(&home, "amendment.yaml", AMENDMENT);
    let checked = server.json(&["contract", "amend", &path, "--check"]).await;
    let change = &checked["changes"][0];
    let words = ["what", "before", "after"].map(|key| change[key].as_str().unwrap());
    assert_eq!(words, ["discount friends", "10 % of each line", "20 % of each line"]);
    // Of the hours from the 16th on 20 % are off: 45.00 and 40.00.
    let period = &checked["periods"][0];
    assert!(period.is_object(), "{checked}");
    let amounts = ["old", "new", "difference"].map(|key| period[key].as_str().unwrap());
    assert_eq!((amounts, &period["documents"]), (["90", "85", "-5"], &json!(["INV-000001"])));
    let over_http =
        http(&server.http, "POST /v1/contracts:amend?validate_only=true", AMENDMENT).await;
    let mut over_http: Value = serde_json::from_str(&over_http.1).unwrap();
    let mut by_command = checked.clone();
    for answer in [&mut over_http, &mut by_command] {
        answer["amendment"]["applied_at"].take();
    }
    assert_eq!(over_http, by_command, "both doors say the same");
    let said = server.pulso(&["contract", "amend", &path, "--check"]).await;
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(
        said.contains("2024-09: 90 becomes 85 BRL, difference -5; it is billed by INV-000001"),
        "{said}"
    );
    let listed = server.json(&["contract", "list"]).await;
    assert_eq!(listed["contracts"].as_array().unwrap().len(), 1, "only checked");

    server.json(&["contract", "amend", &path]).await;
    assert_eq!(server.json(&["contract", "amend", &path]).await["already_applied"], true);
    let listed = server.json(&["contract", "list", "--tenant", "acme"]).await;
    let amendment = &listed["contracts"][1];
    assert_eq!(
        (&amendment["amends"], &amendment["holds_from"]),
        (&json!("acme-1"), &json!("2024-09-16T00:00:00Z"))
    );
    let shown = server.json(&["contract", "show", "acme-1"]).await;
    let agreed = shown["agreed"].as_array().unwrap();
    assert_eq!((agreed.len(), &agreed[0]["to"]), (2, &json!("2024-09-16T00:00:00Z")));

    assert_eq!(bill(&server, &["--deltas"]).await["deltas"], "1");
    assert_eq!(totals(&server).await, ["90.00", "-5.00"]);
    assert_eq!(bill(&server, &["--deltas"]).await["deltas"], "0");
    for number in ["INV-000001", "INV-000002"] {
        assert_eq!(server.json(&["bill", "verify", number]).await["matches"], true);
    }
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_of_an_amendment_is_the_same_at_each_door() {
    let home = Home::new();
    let server = billed(&home, &settings()).await;
    let unknown = AMENDMENT.replace("name: friends", "name: freinds");
    let path = file(&home, "wrong.yaml", &unknown);
    let said = refused(&server, &["contract", "amend", &path]).await;
    let words = "the contract does not have `freinds` among its discounts on that day";
    assert!(said.contains(words) && said.contains("line 5, column 23"), "{said}");
    let (status, answer) = http(&server.http, "POST /v1/contracts:amend", &unknown).await;
    assert!(
        status == 400 && answer.contains(words) && answer.contains("CONTRACT_INVALID"),
        "{answer}"
    );
    let other = AMENDMENT.replace("acme-1-better", "acme-1");
    let path = file(&home, "taken.yaml", &other);
    assert!(refused(&server, &["contract", "amend", &path]).await.contains("CONTRACT_EXISTS"));
    let same_day = CONTRACT.replace("acme-1", "acme-2");
    let path = file(&home, "same.yaml", &same_day);
    let said = refused(&server, &["contract", "apply", &path]).await;
    assert!(said.contains("supersedes: [acme-1]") && said.contains("CONTRACT_CONFLICTS"), "{said}");
    let path = file(&home, "named.yaml", &(same_day + "supersedes: [acme-1]\n"));
    let before = file(&home, "before.yaml", CONTRACT);
    let differs = server.pulso(&["contract", "diff", &before, &path]).await;
    let differs = String::from_utf8(differs.stdout).unwrap();
    assert!(differs.contains("+supersedes: [acme-1]"), "files need not be applied: {differs}");
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_rewrites_nothing_but_what_it_is_told_to() {
    let home = Home::new();
    let server = billed(&home, &settings()).await;
    // It leaves the machines out, and late usage comes: one hour of the time of before.
    let other = version("later", "9.00", "").replace("sku: vm", "sku: disk");
    let path = file(&home, "other.yaml", &other);
    let published = server.pulso(&["catalog", "publish", &path]).await;
    let said = String::from_utf8(published.stdout).unwrap();
    assert!(
        said.contains("retired, but for tenants that subscribe to them")
            && said.contains("vm in hour"),
        "{said}"
    );
    let late = [("acme", "vm", "hour", "2", "2024-09-12T10:00:00Z")];
    use_up(&server, &home, "late", &late).await;
    assert_eq!(bill(&server, &["--deltas"]).await["deltas"], "1");
    assert_eq!(totals(&server).await, ["90.00", "0.90"], "two hours more, and nothing back");

    let past = version("mended", "0.40", "effective_from: 2024-09-16");
    let path = file(&home, "past.yaml", &past);
    let said = refused(&server, &["catalog", "publish", &path]).await;
    assert!(
        said.contains("CATALOGUE_ABOUT_THE_PAST") && said.contains("--about-the-past"),
        "{said}"
    );
    let (status, answer) = http(&server.http, "POST /v1/catalog", &past).await;
    assert!(status == 400 && answer.contains("CATALOGUE_ABOUT_THE_PAST"), "{answer}");
    // Of the 20th: 100 hours at 0.10 less, less 10 %.
    let period = ["--period", "2024-09"];
    let diff = server.json(&[&["catalog", "diff", "2024-01", &path], &period[..]].concat()).await;
    let tenant = &diff["tenants"][0];
    assert_eq!(tenant["difference"], "-9");
    assert_eq!(tenant["documents"], json!(["INV-000001", "INV-000002"]));
    assert!(diff["text_diff"].as_str().unwrap().contains("+effective_from: 2024-09-16"));
    let all = server.json(&["catalog", "diff", "2024-01", &path]).await;
    // A period that began in the months before may reach behind the date.
    assert_eq!(all["periods"][0], "2024-07", "each month from its date on");
    assert_eq!(all["tenants"][0]["period"], "2024-09");
    let (status, answer) = http(&server.http, "POST /v1/catalog?about_the_past=true", &past).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(bill(&server, &["--deltas"]).await["deltas"], "1");
    assert_eq!(totals(&server).await, ["90.00", "0.90", "-9.00"]);
    for number in ["INV-000001", "INV-000002", "INV-000003"] {
        assert_eq!(server.json(&["bill", "verify", number]).await["matches"], true, "{number}");
    }
    server.terminate().await;
}

/// Kills the server at a point while it does what is asked, starts it again, and asks again.
async fn killed(home: &Home, settings: &Settings, point: &str, arguments: &[&str]) -> Server {
    let armed = settings.clone().with("PULSO_FAULT", point);
    let mut server = Server::start(home, &armed).await;
    let output = server.pulso(arguments).await;
    assert_ne!(output.status.code(), Some(0), "{point}");
    assert!(!server.end_status().await.success(), "{point}");
    Server::start(home, settings).await
}

/// Contracts, amendments and catalogues that were being applied when the process died are there once
/// they are asked for again, once.
async fn each_step_survives_a_kill(settings: &Settings) {
    let home = Home::new();
    billed(&home, settings).await.terminate().await;
    let mut amendments = 0;
    for (point, is_applied) in [("contract.before_entry", false), ("contract.after_entry", true)] {
        for kind in ["amend", "apply"] {
            let name = format!("{kind}-{is_applied}");
            let text = match kind {
                "amend" => AMENDMENT.replace("acme-1-better", &name),
                _ => CONTRACT
                    .replace("acme-1", &name)
                    .replace("tenant: acme", &format!("tenant: {name}")),
            };
            let path = file(&home, &format!("{name}.yaml"), &text);
            let server = killed(&home, settings, point, &["contract", kind, &path]).await;
            let again = server.json(&["contract", kind, &path]).await;
            let known =
                again.get("already_applied").or(again["contracts"][0].get("already_applied"));
            assert_eq!(known, Some(&json!(is_applied)), "{point}: {again}");
            amendments += 1;
            let listed = server.json(&["contract", "list"]).await;
            assert_eq!(listed["contracts"].as_array().unwrap().len(), 1 + amendments, "{point}");
            server.terminate().await;
        }
    }
    for (versions, point) in (2..).zip(["catalogue.after_stored", "catalogue.after_declared"]) {
        let text = version(&format!("v{versions}"), "0.40", "effective_from: 2024-09-16");
        let path = file(&home, "catalogue.yaml", &text);
        let publish = ["catalog", "publish", &path, "--about-the-past"];
        let server = killed(&home, settings, point, &publish).await;
        // Asked again without the word for the past: it was stored with it.
        let again = server.json(&publish[..3]).await;
        assert_eq!(again["already_published"], true, "{point}");
        let listed = server.json(&["catalog", "list"]).await;
        assert_eq!(listed["catalogues"].as_array().unwrap().len(), versions, "{point}");
        server.terminate().await;
    }
    let server = Server::start(&home, settings).await;
    assert_eq!(bill(&server, &["--deltas"]).await["deltas"], "1");
    // 100 hours at 0.50 less 10 %, and 100 at 0.40 less 20 %: 45.00 and 32.00.
    assert_eq!(totals(&server).await, ["90.00", "-13.00"]);
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_loses_or_doubles_a_contract_an_amendment_or_a_catalogue() {
    each_step_survives_a_kill(&settings()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_servers_no_kill_does_either_and_two_processes_end_in_one_outcome() {
    let Some(servers) = shared_pair() else { return };
    let cluster = Cluster::new(servers, settings()).await;
    each_step_survives_a_kill(&cluster.stages(ALL_STAGES)).await;
    let (one_home, other_home) = (Home::new(), Home::new());
    let price = cluster.stages("price");
    let (one, other) =
        tokio::join!(Server::start(&one_home, &price), Server::start(&other_home, &price));
    let amended = AMENDMENT.replace("acme-1-better", "both");
    let path = file(&one_home, "both.yaml", &amended);
    let arguments = ["contract", "amend", &path];
    let answers = tokio::join!(one.json(&arguments), other.json(&arguments));
    let known = [&answers.0, &answers.1].map(|answer| answer["already_applied"] == true);
    assert_ne!(known[0], known[1], "one of them applied it");
    let path = file(&one_home, "catalogue.yaml", &version("both", "0.45", ""));
    let arguments = ["catalog", "publish", &path];
    tokio::join!(one.json(&arguments), other.json(&arguments));
    for server in [one, other] {
        let listed = server.json(&["contract", "list"]).await;
        let names =
            listed["contracts"].as_array().unwrap().iter().filter(|it| it["name"] == "both");
        assert_eq!(names.count(), 1);
        let listed = server.json(&["catalog", "list"]).await;
        assert_eq!(listed["catalogues"].as_array().unwrap().len(), 4);
        server.terminate().await;
    }
}
