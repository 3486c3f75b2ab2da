//! Injection: text that a database, a shell, a template or a page would take for a command stays a
//! name, in the stores, the filters, the logs and the answers.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use storage::conformance::servers::shared_pair;

use crate::harness::{Home, Server, Settings, billing, cluster::Cluster, http_get};

/// Names that are allowed, and commands to somebody.
const NAMES: [&str; 16] = [
    "' OR '1'='1",
    "'; DROP TABLE usage; --",
    "\" OR \"\"=\"",
    "quartz' /*",
    "quartz%",
    "quar_z-one",
    "*",
    "0; SELECT * FROM sqlite_master",
    "quartz-one' ALLOW FILTERING",
    "../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "$(touch planted)`touch planted`",
    "${jndi:ldap://127.0.0.1/planted}{{7*7}}",
    "<script>alert(1)</script>",
    "=HYPERLINK(\"http://127.0.0.1/\")",
    "%s%n{} {0}",
];

/// What no name may be.
const NO_NAMES: [&str; 6] =
    ["", "a\r\nx-injected: yes", "a\0b", "a\u{202e}b", "a\u{2028}level=ERROR", "\u{1b}[2J"];

/// A tenant whom no question below is about.
const OTHER: &str = "quartz-one";

/// Without the words that `dev` greets with.
fn all_stages() -> Settings {
    billing::settings().command(&["serve", "--stage", "ingest,consume,price,query"])
}

/// One pulse of `OTHER`, and one of each of the names, which is its tenant and its SKU, by amount.
async fn use_up(server: &Server, home: &Home) {
    let amounts: Vec<String> = (1..=NAMES.len()).map(|amount| amount.to_string()).collect();
    let time = "2024-09-03T10:00:00Z";
    let named = NAMES.iter().zip(&amounts);
    let mut usage: Vec<_> =
        named.map(|(name, amount)| (*name, *name, *name, amount.as_str(), time)).collect();
    usage.push((OTHER, OTHER, "hour", "1000", time));
    billing::use_up(server, home, "'; DROP TABLE backfill; --", &usage).await;
}

/// Asks for each name through each filter that takes it, and gets what is of that name.
async fn every_name_is_found_by_itself(server: &Server) {
    let range = ["--from", "2024-09", "--to", "2024-10", "--window", "total"];
    for (amount, name) in (1..).zip(NAMES) {
        for filter in ["--tenant", "--sku", "--unit"] {
            let arguments = [&["query", "usage", filter, name], &range[..]].concat();
            let found = server.json(&arguments).await;
            let rows = found["rows"].as_array().unwrap();
            assert_eq!(rows.len(), 1, "{filter} {name}: {found}");
            assert_eq!((&rows[0]["tenant"], &rows[0]["product_sku"]), (&name.into(), &name.into()));
            assert_eq!(rows[0]["sum"], amount.to_string());
        }
        let grouped = ["query", "usage", "--tenant", name, "--group-by", "tenant"];
        let found = server.json(&[&grouped, &range[..]].concat()).await;
        assert_eq!(found["rows"][0]["tenant"], name);
        let dead = server.json(&["dlq", "list", "--tenant", name]).await;
        assert_eq!(dead["entries"], Value::Array(Vec::new()), "{name}");
    }
}

/// A log on no terminal is one JSON document per line, whatever text it holds.
fn every_line_is_a_document(server: &Server) {
    for line in server.log().lines() {
        let read: Result<Value, _> = serde_json::from_str(line);
        assert!(read.is_ok_and(|line| line["level"].is_string()), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_as_names_are_names_on_embedded_files() {
    let home = Home::new();
    let server = Server::start(&home, &all_stages()).await;
    use_up(&server, &home).await;
    every_name_is_found_by_itself(&server).await;
    every_line_is_a_document(&server);
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_as_names_are_names_on_kafka_and_cql() {
    let Some(servers) = shared_pair() else { return };
    let cluster = Cluster::new(servers, Settings::default()).await;
    let home = Home::new();
    let server = Server::start(&home, &cluster.stages("ingest,consume,price,query")).await;
    use_up(&server, &home).await;
    every_name_is_found_by_itself(&server).await;
    server.terminate().await;
}

/// Every GET route with the names of its parameters, as the process describes them.
async fn routes(server: &Server) -> Vec<(String, Vec<String>)> {
    let described: Value = serde_json::from_str(&server.get("/openapi.json").await).unwrap();
    let paths = described["paths"].as_object().unwrap().iter();
    let described = paths.filter_map(|(path, operations)| {
        let parameters = operations.get("get")?["parameters"].as_array().cloned();
        let names = parameters.unwrap_or_default();
        let names = names.iter().filter(|parameter| parameter["in"] == "query");
        let names = names.map(|parameter| parameter["name"].as_str().unwrap().to_owned());
        Some((path.clone(), names.collect()))
    });
    described.collect()
}

/// A value with which a question makes sense, where the parameter is needed.
fn sensible(parameter: &str) -> Option<&'static str> {
    match parameter {
        "from" => Some("2024-09-01"),
        "to" => Some("2024-10-01"),
        "window" => Some("total"),
        "period" => Some("2024-09"),
        _ => None,
    }
}

/// The route with hostile text in one parameter, or in its path.
fn hostile(path: &str, parameters: &[String], planted: &str, text: &str) -> String {
    let text = utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut path = path.to_owned();
    while let Some((before, (_, after))) =
        path.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    {
        let filled = if planted.is_empty() { text.as_str() } else { "1" };
        path = format!("{before}{filled}{after}");
    }
    let query = parameters.iter().filter_map(|parameter| match parameter == planted {
        true => Some(format!("{parameter}={text}")),
        false => Some(format!("{parameter}={}", sensible(parameter)?)),
    });
    let query: Vec<String> = query.collect();
    format!("{path}?{}", query.join("&"))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_filter_takes_text_for_more_than_text() {
    let home = Home::new();
    let server = Server::start(&home, &all_stages()).await;
    billing::publish(&server, &home, billing::CATALOGUE).await;
    use_up(&server, &home).await;
    let mut asked = 0;
    for (path, parameters) in routes(&server).await {
        // Tenant and SKU narrow the answer; other filters may well find everybody.
        let planted = parameters.iter().map(String::as_str).chain(path.contains('{').then_some(""));
        for planted in planted {
            for text in NAMES.iter().chain(&NO_NAMES) {
                let what = hostile(&path, &parameters, planted, text);
                let (status, body) = http_get(&server.http, &what).await;
                assert!(matches!(status, 200 | 400 | 404), "{what}: {status} {body}");
                let narrows = ["tenant", "sku", "unit"].contains(&planted);
                assert!(!narrows || !body.contains(&format!("\"{OTHER}\"")), "{what}: {body}");
                assert!(!body.contains("root:"), "{what}: {body}");
                asked += 1;
            }
        }
    }
    assert!(asked > 300, "only {asked} questions were asked");
    every_line_is_a_document(&server);
    let intact = server
        .json(&[
            "query", "usage", "--tenant", OTHER, "--from", "2024-09", "--to", "2024-10",
            "--window", "total",
        ])
        .await;
    assert_eq!(intact["rows"][0]["sum"], "1000");
    assert!(!home.path("planted").exists());
    server.audit_is_clean().await;
    server.terminate().await;
}
