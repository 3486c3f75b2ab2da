//! The audit trail through the program: every write by either door is in it once with its end, whoever
//! goes away meanwhile, and reads and strangers leave nothing.

use std::collections::BTreeMap;

use edge::{access::Effect, problem::reasons};
use pulso::serve::description::rules;
use serde_json::{Value, json};

use crate::{
    access::{create, reason, required, text},
    harness::{Home, PATIENCE, Server, Settings, billing, http, program},
};

/// The calls of a document, without the first key of `pulso dev`, which the server makes beside them;
/// `first_key.rs` looks for that one.
fn entries(document: &Value) -> Vec<Value> {
    let all = document["entries"].as_array().unwrap();
    all.iter().filter(|entry| entry["method"] != "pulso dev").cloned().collect()
}

/// All that `pulso audit-log` shows to whoever may ask without a credential.
async fn audit_log(server: &Server, more: &[&str]) -> Vec<Value> {
    entries(&server.json(&[&["audit-log"], more].concat()).await)
}

/// The same with a key.
async fn audit_log_with(server: &Server, key: &str) -> Vec<Value> {
    let output = server.pulso_with(&["audit-log", "-o", "json"], Some(key)).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    entries(&serde_json::from_slice(&output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_method_that_writes_is_recorded_once_with_its_end_and_no_other_is() {
    let home = Home::new();
    let admin = create(&home, &["ops", "--role", "admin", "--tenant", "*"], None);
    let viewer = create(&home, &["eve", "--role", "viewer", "--tenant", "*"], None);
    let server = Server::start(&home, &required()).await;
    let made = audit_log_with(&server, text(&admin)).await.len();
    assert_eq!(made, 2, "the keys that were made in the store");
    for rule in rules() {
        reason(&server, rule.method, None).await;
        reason(&server, rule.method, Some("nonsense")).await;
        reason(&server, rule.method, Some(text(&admin))).await;
        if rule.effect == Effect::Writes {
            let refused = reason(&server, rule.method, Some(text(&viewer))).await;
            assert_eq!(refused.as_deref(), Some("ROLE_MISSING"), "{}", rule.method);
        }
    }
    let recorded = audit_log_with(&server, text(&admin)).await;
    let mut by_method: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for entry in &recorded[made..] {
        assert_eq!(entry["who"]["kind"], "api_key", "{entry}");
        assert!(entry["ended_at"].is_string() && entry["request_id"].is_string(), "{entry}");
        let reason = entry["reason"].as_str().unwrap();
        assert!(reasons::meaning(reason).is_some(), "{entry}");
        let (who, outcome) = (&entry["who"]["name"], &entry["outcome"]);
        let method = entry["method"].as_str().unwrap();
        let seen = (who.as_str().unwrap(), outcome.as_str().unwrap());
        by_method.entry(method).or_default().push(seen);
    }
    let written: Vec<_> =
        rules().into_iter().filter(|rule| rule.effect == Effect::Writes).collect();
    assert_eq!(written.len(), 20, "as docs/access.md says");
    for rule in &written {
        let found = by_method.remove(rule.method).unwrap_or_default();
        // Nobody asks for anything that there is, so each is refused by its handler.
        assert_eq!(found, [("ops", "refused"), ("eve", "refused")], "{}", rule.method);
    }
    assert!(by_method.is_empty(), "{by_method:?}");
    let said = format!("{recorded:?}{}", server.log());
    for key in [&admin, &viewer] {
        assert!(!said.contains(&text(key)[23..]), "a secret is recorded");
    }
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_says_what_was_changed_from_what_to_what() {
    let home = Home::new();
    let server = Server::start(&home, &billing::settings().without_access()).await;
    billing::publish(&server, &home, billing::CATALOGUE).await;
    let path = billing::file(&home, "catalogue.yaml", billing::CATALOGUE);
    server.json(&["catalog", "publish", &path, "--validate-only"]).await;
    http(&server.http, "POST /v1/contracts", billing::CONTRACT).await;
    let second = billing::CONTRACT.replace("acme-1", "acme-2").replace("2024-01-01", "2024-06-01");
    billing::apply(&server, &home, &second).await;
    let used = ("acme", "vm", "hour", "10", "2024-09-03T10:00:00Z");
    billing::use_up(&server, &home, "september", &[used]).await;
    billing::bill(&server, &[]).await;
    let void = json!({ "reason": "a wrong price" }).to_string();
    let voided = http(&server.http, "POST /v1/invoices/INV-000001:void", &void).await;
    assert_eq!(voided.0, 200, "{}", voided.1);
    let missing = server.pulso(&["invoice", "void", "INV-000077", "--reason", "none"]).await;
    assert_eq!(missing.status.code(), Some(65));
    let found = audit_log(&server, &[]).await;
    let told: Vec<_> = found
        .iter()
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap_or("-").to_owned();
            let evidence = |name: &str| entry[name]["text"].as_str().unwrap_or("-").to_owned();
            let (what, ended) = (text("method"), [text("target"), text("outcome"), text("reason")]);
            (what, ended, evidence("before"), evidence("after"))
        })
        .collect();
    let call = |method: &str, ended: [&str; 3], before: &str, after: &str| {
        (method.to_owned(), ended.map(str::to_owned), before.to_owned(), after.to_owned())
    };
    let publish = "/pulso.v1.CatalogService/PublishCatalogue";
    let apply = "/pulso.v1.BillingService/ApplyContract";
    assert_eq!(
        told,
        [
            call(publish, ["2024-01", "done", "-"], "-", billing::CATALOGUE),
            call(publish, ["2024-01", "checked", "-"], "-", "-"),
            call("POST /v1/contracts", ["acme-1", "done", "-"], "-", billing::CONTRACT),
            call(apply, ["acme-2", "done", "-"], billing::CONTRACT, &second),
            call("/pulso.v1.BillingService/StartRun", ["1", "done", "-"], "-", "-"),
            call("POST /v1/invoices/{invoice}", ["INV-000001", "done", "-"], "-", "-"),
            call(
                "/pulso.v1.BillingService/VoidInvoice",
                ["INV-000077", "refused", "INVOICE_NOT_FOUND"],
                "-",
                "-"
            ),
        ]
    );
    assert!(found.iter().all(|entry| entry["who"]["kind"] == "local"), "{found:?}");
    let (_, over_http) = http(&server.http, "GET /v1/audit-log", "").await;
    let over_http: Value = serde_json::from_str(&over_http).unwrap();
    assert_eq!(entries(&over_http), found, "both doors say the same");
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_could_not_be_revoked_is_named_by_its_id_and_never_by_its_secret() {
    let home = Home::new();
    let admin = create(&home, &["ops", "--role", "admin", "--tenant", "*"], None);
    let server = Server::start(&home, &required()).await;
    // The command sends the id alone of what begins like a key.
    for id in ["0123456789abcdef", &text(&admin)["pulso_".len()..]] {
        let refused = server.pulso_with(&["key", "revoke", id], Some(text(&admin))).await;
        assert_ne!(refused.status.code(), Some(0), "{id:.10}");
    }
    let recorded = audit_log_with(&server, text(&admin)).await;
    let revoke = "/pulso.v1.AccessService/RevokeKey";
    let of_revoke = recorded.iter().filter(|entry| entry["method"] == revoke);
    let told: Vec<_> = of_revoke.map(|entry| (&entry["target"], &entry["reason"])).collect();
    let (target, reason) = (json!("0123456789abcdef"), json!("KEY_NOT_FOUND"));
    assert_eq!(told, [(&target, &reason), (&Value::Null, &reason)]);
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_the_two_entries_leaves_a_call_of_which_nobody_knows_the_end() {
    for (point, is_published) in [("audit.after_begun", false), ("audit.before_ended", true)] {
        let home = Home::new();
        let settings = Settings::default().without_access().with("PULSO_FAULT", point);
        let mut server = Server::start(&home, &settings).await;
        let path = billing::file(&home, "catalogue.yaml", billing::CATALOGUE);
        let published = server.pulso(&["catalog", "publish", &path]).await;
        assert_ne!(published.status.code(), Some(0), "{point}");
        assert!(!server.end_status().await.success(), "{point}");
        let server = Server::start(&home, &Settings::default().without_access()).await;
        let found = audit_log(&server, &[]).await;
        assert_eq!(found.len(), 1, "{point}: {found:?}");
        assert_eq!(
            (&found[0]["outcome"], &found[0]["ended_at"]),
            (&json!("unknown"), &Value::Null)
        );
        let catalogues = server.json(&["catalog", "list"]).await;
        let count = catalogues["catalogues"].as_array().unwrap().len();
        assert_eq!(count, usize::from(is_published), "{point}: {catalogues}");
        server.json(&["catalog", "publish", &path]).await;
        assert_eq!(audit_log(&server, &[]).await[1]["outcome"], "done", "{point}");
        server.terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_client_has_gone_away_has_its_end() {
    use tokio::io::AsyncWriteExt as _;
    let home = Home::new();
    let server = Server::start(&home, &Settings::default().without_access()).await;
    let body = billing::CATALOGUE;
    let request = format!(
        "POST /v1/catalog HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n{body}",
        server.http,
        body.len() + 1
    );
    let mut connection = tokio::net::TcpStream::connect(&server.http).await.unwrap();
    connection.write_all(request.as_bytes()).await.unwrap();
    // The last byte does not come, and so the handler waits.
    let begun = once(&server, "unknown").await;
    drop(connection);
    let ended = once(&server, "refused").await;
    assert_eq!(begun["id"], ended["id"]);
    server.terminate().await;
}

/// The one call in the trail, once it has this outcome.
async fn once(server: &Server, outcome: &str) -> Value {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let mut found = audit_log(server, &[]).await;
        assert!(found.len() <= 1, "{found:?}");
        if found.iter().any(|entry| entry["outcome"] == outcome) {
            return found.remove(0);
        }
        assert!(std::time::Instant::now() < deadline, "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_others_and_keys_of_a_process_that_asks_for_none_are_refused() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default().without_access()).await;
    // The helper writes the version behind what it is given.
    let foreign = "POST /v1/catalog HTTP/1.0\r\norigin: https://evil.example\r\nx:";
    let (status, said) = http(&server.http, foreign, "").await;
    assert_eq!(status, 403, "{said}");
    assert_eq!(audit_log(&server, &[]).await, [] as [Value; 0], "a page of others writes nothing");
    let listed = server.pulso(&["key", "list"]).await;
    let said = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert_eq!(listed.status.code(), Some(65), "{said}");
    assert!(said.contains("KEYS_OFF") && said.contains("--local"), "{said}");
    for (what, reason) in [
        ("GET /v1/audit-log?page_size=0&to=yesterday", "TIME_INVALID"),
        ("GET /v1/audit-log?from=2024-01-02T00:00:00Z&to=2024-01-01T00:00:00Z", "RANGE_INVALID"),
        ("GET /v1/audit-log?page_token=abc", "PAGE_TOKEN_INVALID"),
        ("GET /v1/audit-log?page_size=1001", "PAGE_SIZE_INVALID"),
    ] {
        let (status, answer) = http(&server.http, what, "").await;
        assert!(status == 400 && answer.contains(reason), "{what}: {status} {answer}");
    }
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_on_the_store_itself_are_recorded_as_calls_are() {
    let home = Home::new();
    Server::start(&home, &Settings::default().without_access()).await.terminate().await;
    let key = create(&home, &["ops", "--role", "admin", "--tenant", "*"], None);
    for (arguments, code) in [
        (&["replay", "--from-start", "--into", "1"][..], 0),
        (&["replay", "swap", "1"], 0),
        (&["replay", "swap", "7"], 65),
        (&["replay", "list"], 0),
        (&["log", "rebase", "--reason", "a test", "--validate-only"], 0),
        (&["log", "rebase", "--reason", "a test", "--partition", "2"], 0),
        (&["log", "rebase", "--list"], 0),
    ] {
        let output = home.command(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    }
    let server = Server::start(&home, &Settings::default().without_access()).await;
    let found = audit_log(&server, &[]).await;
    let told = found.iter().map(|entry| {
        ["method", "target", "outcome", "reason"].map(|name| entry[name].as_str().unwrap_or("-"))
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            ["pulso key create --local", key["id"].as_str().unwrap(), "done", "-"],
            ["pulso replay", "epoch 1 of generation 1", "done", "-"],
            ["pulso replay swap", "epoch 1 of generation 1", "done", "-"],
            ["pulso replay swap", "epoch 7 of generation 1", "refused", "exit 65"],
            ["pulso log rebase", "all partitions", "checked", "-"],
            ["pulso log rebase", "partition 2", "done", "-"],
        ]
    );
    assert_eq!(found[2]["before"]["text"], "epoch 0 of generation 1");
    assert_eq!(found[2]["after"]["text"], "epoch 1 of generation 1");
    assert!(found.iter().all(|entry| entry["who"]["id"] == "local"), "{found:?}");
    server.terminate().await;
}

/// Calls that are exported.
const MANY: u64 = 20_000;

/// Puts calls of January 2024 into the store of a server that does not run: one a minute, by ada and
/// grace in turns.
fn fill(home: &Home) {
    let mut store = rusqlite::Connection::open(home.data().join("store.db")).unwrap();
    let all = store.transaction().unwrap();
    let mut insert = all.prepare("INSERT INTO journal_entry VALUES (?1, ?2, ?3)").unwrap();
    for place in 0..MANY {
        let number = i64::try_from(place).unwrap();
        let at = domain::Timestamp::from_parts(1_704_067_200 + 60 * number, 0);
        let at = at.unwrap().to_string();
        let (name, method) = match place % 2 {
            0 => ("ada", "POST /v1/contracts"),
            _ => ("grace", "POST /v1/catalog"),
        };
        let who = json!({"id": name, "name": name, "kind": "token", "roles": ["admin"]});
        let begun = json!({"at": at, "id": place.to_string(), "who": who, "method": method, "request_id": "r"});
        let text = json!({"text": "x".repeat(200)});
        let ended = json!({"at": at, "target": "t", "after": text, "outcome": "done"});
        insert.execute(("audit-2024-01", number, begun.to_string().as_bytes())).unwrap();
        let journal = format!("audit-2024-01/{place}");
        insert.execute((journal, 0, ended.to_string().as_bytes())).unwrap();
    }
    drop(insert);
    all.commit().unwrap();
}

/// What a client command prints, and the most KiB that it held.
#[expect(clippy::zombie_processes, reason = "`wait4` waits for it, and says what it held")]
async fn peak_of(server: &Server, arguments: &[&str]) -> (String, i64) {
    use std::io::Read as _;
    let mut command = program();
    command.env_remove("PULSO_KEY");
    command.args(arguments).args(["--server", &server.grpc]).stdout(std::process::Stdio::piped());
    let child = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        let mut printed = String::new();
        child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        // SAFETY: numbers and structures of this frame; nobody else waits for the child.
        let (ended, held) = unsafe {
            let (mut status, mut usage) = (0, std::mem::zeroed::<libc::rusage>());
            let pid = i32::try_from(child.id()).unwrap();
            (libc::wait4(pid, &raw mut status, 0, &raw mut usage) == pid && status == 0, usage)
        };
        assert!(ended, "{printed:.400}");
        (printed, held.ru_maxrss)
    });
    child.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_every_call_once_and_holds_one_page() {
    let home = Home::new();
    Server::start(&home, &Settings::default().without_access()).await.terminate().await;
    fill(&home);
    let server = Server::start(&home, &Settings::default().without_access()).await;
    let (_, of_one_page) =
        peak_of(&server, &["audit-log", "--to", "2024-01-01T16:00:00Z", "-o", "jsonl"]).await;
    // Longer ago than a question reaches that does not say.
    let whole = ["audit-log", "--from", "2024-01", "--to", "2025-01"];
    let all_as = |more: &[&'static str]| [&whole[..], more].concat();
    let (lines, of_all) = peak_of(&server, &all_as(&["-o", "jsonl"])).await;
    let ids: Vec<u64> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().parse())
        .collect::<Result<_, _>>()
        .unwrap();
    assert!(ids.into_iter().eq(0..MANY), "in order, each once");
    let (document, at_once) = peak_of(&server, &all_as(&["-o", "json"])).await;
    assert_eq!(entries(&serde_json::from_str(&document).unwrap()).len() as u64, MANY);
    eprintln!("KiB held: one page {of_one_page}, all by lines {of_all}, as a document {at_once}");
    let most = of_one_page + (8 << 10);
    assert!(of_all < most && at_once > most, "{of_one_page} {of_all} {at_once} KiB");
    let (csv, _) = peak_of(&server, &all_as(&["--who", "ada", "-o", "csv"])).await;
    assert_eq!(csv.lines().count() as u64, 1 + MANY / 2);
    assert!(csv.starts_with("at,ended_at,id,who.id,"), "{csv:.200}");
    let day = ["--from", "2024-01-03", "--to", "2024-01-04", "--method", "POST /v1/catalog"];
    let of_day = audit_log(&server, &day).await;
    assert_eq!(of_day.len(), 1_440 / 2);
    assert!(of_day.iter().all(|entry| entry["who"]["name"] == "grace"));
    let table = server.pulso(&[&["audit-log"], &day[..]].concat()).await;
    assert!(String::from_utf8(table.stdout).unwrap().ends_with("720 calls\n"));
    pages_go_with_their_question(&server).await;
    server.terminate().await;
}

/// A page has as many entries as asked for, and its token fits no other question.
async fn pages_go_with_their_question(server: &Server) {
    let page = async |query: &str| {
        let (status, answer) = http(&server.http, &format!("GET /v1/audit-log?{query}"), "").await;
        (status, serde_json::from_str::<Value>(&answer).unwrap())
    };
    let (_, recent) = page("who=ada").await;
    assert_eq!(entries(&recent).len(), 0, "all are older than 400 days");
    let (_, first) = page("who=ada&from=2024-01-01T00:00:00Z").await;
    assert_eq!(entries(&first).len(), 50);
    let token = first["next_page_token"].as_str().unwrap();
    let (_, second) =
        page(&format!("who=ada&from=2024-01-01T00:00:00Z&page_size=1000&page_token={token}")).await;
    let ids = (entries(&second)[0]["id"].clone(), entries(&second).len());
    assert_eq!(ids, (json!("100"), 1_000));
    let (status, refused) = page(&format!("who=grace&page_token={token}")).await;
    assert_eq!((status, &refused["reason"]), (400, &json!("PAGE_TOKEN_INVALID")));
}
