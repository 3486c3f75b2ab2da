//! Contracts in zones off by half an hour or a quarter: refused by a log of hours over every door,
//! billed to the cent by one with shorter windows, and by one that got them by growing.

use serde_json::{Value, json};
use storage::conformance::servers::shared_pair;

use crate::harness::{
    self, Home, PATIENCE, Server, Settings,
    billing::{apply, file, publish, settings, use_up},
    cluster::Cluster,
    http,
};

const CATALOGUE: &str = r#"
catalogue: "1"
currency: USD
skus:
  - {sku: s, unit: u, prices: [{valid_from: 2020-01-01T00:00:00Z, model: per_unit, unit_price: "1"}]}
"#;

fn contract(tenant: &str, zone: &str, from: &str) -> String {
    let name = format!("{tenant}-{from}");
    format!(
        "contract: {name}\ntenant: {tenant}\nvalid_from: {from}\ncurrency: USD\ntime_zone: {zone}\n"
    )
}

fn windows(length: &str) -> Settings {
    settings().with("PULSO_LOG__WINDOW", length)
}

async fn use_one(server: &Server, home: &Home, tenant: &str, amount: &str, time: &str) {
    let name = format!("{tenant}-{}", time.replace(':', "-"));
    use_up(server, home, &name, &[(tenant, "s", "u", amount, time)]).await;
}

/// The words of a command that ends with this code.
async fn refused(server: &Server, arguments: &[&str], code: i32) -> String {
    let output = server.pulso(arguments).await;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {words}");
    words
}

/// Outcomes of a run over a month.
async fn bill(server: &Server, month: &str, more: &[&str]) -> Value {
    let run = server.json(&[&["bill", "run", "--period", month], more].concat()).await;
    assert_eq!(run["state"], "closed", "{run}");
    run["outcomes"].clone()
}

async fn invoices(server: &Server, more: &[&str]) -> Vec<Value> {
    let listed = server.json(&[&["invoice", "list"], more].concat()).await;
    listed["invoices"].as_array().unwrap().clone()
}

/// Tenant, first and last day, zone and total of each invoice that passes, sorted: tenants are billed
/// side by side.
async fn listed(server: &Server, more: &[&str]) -> Vec<String> {
    let row = |invoice: &Value| {
        let keys = ["tenant", "first_day", "last_day", "time_zone", "total"];
        keys.map(|key| invoice[key].as_str().unwrap()).join(" ")
    };
    let mut rows: Vec<_> = invoices(server, more).await.iter().map(row).collect();
    rows.sort();
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_hours_refuses_a_zone_off_by_half_an_hour_over_every_door() {
    let home = Home::new();
    let server = Server::start(&home, &settings()).await;
    publish(&server, &home, CATALOGUE).await;
    let text = contract("in", "Asia/Kolkata", "2024-01-01");
    let path = file(&home, "in.yaml", &text);
    for arguments in [
        &["contract", "check", &path][..],
        &["contract", "check", &path, "--window", "1h"],
        &["contract", "apply", &path],
        &["contract", "apply", &path, "--validate-only"],
    ] {
        let said = refused(&server, arguments, 65).await;
        for words in
            ["Asia/Kolkata", "windows of 1h", "log grow --window 30m", "log.window = \"30m\""]
        {
            assert!(said.contains(words), "{arguments:?}: {said}");
        }
    }
    let (status, answer) = http(&server.http, "POST /v1/contracts", &text).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer.contains("WINDOWS_TOO_LONG") && answer.contains("log grow"), "{answer}");
    assert_eq!(server.json(&["contract", "list"]).await["contracts"], json!([]));
    server.json(&["contract", "check", &path, "--window", "15m"]).await;
    apply(&server, &home, &contract("es", "Europe/Madrid", "2024-01-01")).await;
    server.terminate().await;
}

/// The usage of two seconds on both sides of midnight in Kolkata, and of Lord Howe in summer and winter.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_quarters_bills_zones_off_by_half_an_hour_to_the_second() {
    let home = Home::new();
    let server = Server::start(&home, &windows("PT15M")).await;
    publish(&server, &home, CATALOGUE).await;
    for (tenant, zone) in
        [("in", "Asia/Kolkata"), ("np", "Asia/Kathmandu"), ("lh", "Australia/Lord_Howe")]
    {
        apply(&server, &home, &contract(tenant, zone, "2024-01-01")).await;
    }
    for (tenant, amount, time) in [
        ("in", "10", "2024-09-30T18:29:59Z"),
        ("in", "100", "2024-09-30T18:30:00Z"),
        ("in", "1000", "2024-10-31T18:30:00Z"),
        ("np", "10", "2024-09-30T18:14:59Z"),
        ("np", "100", "2024-09-30T18:15:00Z"),
        // Summer time, eleven hours ahead, begins on the 6th of October.
        ("lh", "10", "2024-09-30T13:29:59Z"),
        ("lh", "100", "2024-09-30T13:30:00Z"),
        ("lh", "1000", "2024-10-31T12:59:59Z"),
        ("lh", "10000", "2024-10-31T13:00:00Z"),
    ] {
        use_one(&server, &home, tenant, amount, time).await;
    }
    let previewed =
        server.pulso(&["bill", "preview", "--tenant", "in", "--period", "2024-10"]).await;
    let said = String::from_utf8_lossy(&previewed.stdout);
    assert!(said.contains("in, 2024-10-01 to 2024-10-31 (Asia/Kolkata): 100.00 USD"), "{said}");
    assert_eq!(bill(&server, "2024-10", &[]).await["invoices"], "3");
    let october = ["--period", "2024-10"];
    assert_eq!(
        listed(&server, &october).await,
        [
            "in 2024-10-01 2024-10-31 Asia/Kolkata 100.00",
            "lh 2024-10-01 2024-10-31 Australia/Lord_Howe 1100.00",
            "np 2024-10-01 2024-10-31 Asia/Kathmandu 100.00",
        ]
    );
    bill(&server, "2024-09", &[]).await;
    filters_pass_what_they_name(&server).await;
    for number in ["1", "2", "3"] {
        let verified = server.json(&["bill", "verify", number, "--from-log"]).await;
        assert_eq!(
            (&verified["matches"], &verified["segments_missing"]),
            (&json!(true), &json!("0"))
        );
        server.json(&["bill", "explain", number, "--pulses"]).await;
    }
    let of_kolkata = &invoices(&server, &["--tenant", "in", "--period", "2024-10"]).await[0];
    let number = of_kolkata["number"].as_str().unwrap();
    let explained = server.pulso(&["bill", "explain", number]).await;
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    let heading = format!("{number} for in, 2024-10-01 to 2024-10-31 (Asia/Kolkata), in USD");
    assert!(explained.starts_with(&heading), "{explained}");
    let explained = server.json(&["bill", "explain", number]).await;
    assert_eq!(explained["period_start"], "2024-09-30T18:30:00Z");
    assert_eq!(
        (&explained["last_day"], &explained["time_zone"]),
        (&json!("2024-10-31"), &json!("Asia/Kolkata"))
    );
    queries_add_quarters_up(&server).await;
    server.audit_is_clean().await;
    server.terminate().await;
    replayed(&home).await;
}

async fn filters_pass_what_they_name(server: &Server) {
    assert_eq!(listed(server, &["--period", "2024-09"]).await.len(), 3);
    assert_eq!(listed(server, &[]).await.len(), 6);
    let one = &invoices(server, &["--tenant", "in", "--period", "2024-09"]).await[0]["number"];
    server.json(&["invoice", "void", one.as_str().unwrap(), "--reason", "r"]).await;
    assert_eq!(listed(server, &["--state", "void"]).await.len(), 1);
    assert_eq!(listed(server, &["--state", "final", "--period", "2024-09"]).await.len(), 2);
    assert_eq!(listed(server, &["--state", "final", "--tenant", "in"]).await.len(), 1);
    assert_eq!(listed(server, &["--state", "draft", "--tenant", "in"]).await.len(), 0);
    for (arguments, words) in [
        (["--state", "draft"], "name the tenant"),
        (["--state", "finale"], "draft, discarded, final, void"),
        (["--period", "October"], "not a month"),
    ] {
        let said = refused(server, &[&["invoice", "list"][..], &arguments].concat(), 65).await;
        assert!(said.contains(words), "{said}");
    }
    // Pages of two numbers each, of which some hold no invoice of September.
    let (mut token, mut found, mut pages) = (String::new(), 0, 0);
    loop {
        let path = format!("GET /v1/invoices?period=2024-09&page_size=2{token}");
        let (status, page) = http(&server.http, &path, "").await;
        assert_eq!(status, 200, "{page}");
        let page: Value = serde_json::from_str(&page).unwrap();
        (found, pages) = (found + page["invoices"].as_array().unwrap().len(), pages + 1);
        let next = page["next_page_token"].as_str().unwrap();
        if next.is_empty() {
            break;
        }
        token = format!("&page_token={next}");
        let other = format!("GET /v1/invoices?period=2024-10{token}");
        let (status, answer) = http(&server.http, &other, "").await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer.contains("PAGE_TOKEN_INVALID"), "{answer}");
    }
    assert!(found == 3 && pages >= 3, "{found} in {pages} pages");
}

/// Hours of UTC and days of the zone, out of windows of 15 minutes.
async fn queries_add_quarters_up(server: &Server) {
    let ask = async |window: &str| {
        let range = ["--from", "2024-09-30", "--to", "2024-10-02", "--time-zone", "Asia/Kolkata"];
        let asked = ["query", "usage", "--tenant", "in", "--window", window];
        let answer = server.json(&[&asked[..], &range].concat()).await;
        let row = |row: &Value| {
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            format!("{} {}", text("window_start"), text("sum"))
        };
        answer["rows"].as_array().unwrap().iter().map(row).collect::<Vec<_>>()
    };
    let days = ["2024-09-29T18:30:00Z 10", "2024-09-30T18:30:00Z 100"];
    assert_eq!(ask("P1D").await, days);
    assert_eq!(ask("PT1H").await, ["2024-09-30T18:00:00Z 110"]);
}

/// The log folded again into the next epoch is the same in windows of 15 minutes, and its bills too.
async fn replayed(home: &Home) {
    for arguments in [
        &["replay", "--from-start", "--into", "1"][..],
        &["replay", "compare", "1"],
        &["replay", "swap", "1"],
    ] {
        let output = harness::output(home.command(arguments)).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    }
    // A log keeps its windows: nothing says 15 minutes here.
    let server = Server::start(home, &settings()).await;
    server.audit_is_clean().await;
    assert_eq!(bill(&server, "2024-10", &["--deltas"]).await["deltas"], "0");
    assert_eq!(server.json(&["bill", "verify", "1"]).await["matches"], true);
    server.terminate().await;
    let other = Server::try_start(home, &windows("1h")).await;
    let Err(mut process) = other else { panic!("windows of 1h were asked for and not refused") };
    assert_eq!(process.end().await.code(), Some(78));
    assert!(
        process.log().contains("has windows of 15m, but 1h are configured"),
        "{}",
        process.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_setting_that_errors_name_is_known_and_has_three_values() {
    let home = Home::new();
    for (value, code) in [("15m", 0), ("PT30M", 0), ("1h", 0), ("45m", 78), ("2h", 78)] {
        let mut command = home.command(&["config", "check"]);
        command.env("PULSO_LOG__WINDOW", value);
        let output = harness::output(command).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{value}: {stderr}");
        assert_eq!(stderr.contains("`15m`, `30m` or `1h`"), code != 0, "{stderr}");
    }
}

/// A log on servers that counts hours, bills September, gets windows of 15 minutes, and bills on.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_log_grows_to_shorter_windows_and_bills_before_and_after() {
    let Some(servers) = shared_pair() else { return };
    let fast = settings()
        .with("PULSO_LOG__PARTITIONS", "2")
        .with("PULSO_LOG__WATCH_INTERVAL", "500ms")
        .with("PULSO_SHUTDOWN__CALLS_TIMEOUT", "1s")
        .with("PULSO_KAFKA__DELIVERY_TIMEOUT", "4s")
        .with("PULSO_KAFKA__REQUEST_TIMEOUT", "3s")
        .with("PULSO_SCYLLA__REQUEST_TIMEOUT", "3s");
    let cluster = Cluster::new(servers, fast).await;
    let (home, settings) = (Home::new(), cluster.stages("ingest,consume,price,query"));
    let server = Server::start(&home, &settings).await;
    publish(&server, &home, CATALOGUE).await;
    for (amount, time) in [("10", "2024-09-30T18:29:59Z"), ("100", "2024-09-30T18:30:00Z")] {
        use_one(&server, &home, "in", amount, time).await;
    }
    assert_eq!(bill(&server, "2024-09", &[]).await["invoices"], "1");
    let from_january = file(&home, "january.yaml", &contract("in", "Asia/Kolkata", "2024-01-01"));
    let said = refused(&server, &["contract", "apply", &from_january], 65).await;
    assert!(said.contains("log grow --window 30m"), "{said}");

    // Killed once the generation is registered, and then twice at once.
    let grow = ["log", "grow", "--window", "15m"];
    let growing = Home::new();
    let mut process = Server::spawn(&growing, &cluster.stages("ingest").command(&grow));
    harness::until("the generation is registered", || process.log().contains("takes pulses")).await;
    process.signal(libc::SIGKILL);
    process.end().await;
    let said = refused(&server, &["contract", "apply", &from_january], 65).await;
    assert!(said.contains("WINDOWS_TOO_LONG"), "{said}");
    tokio::join!(cluster.run(&grow), cluster.run(&grow));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let shown = loop {
        let shown: Value =
            serde_json::from_str(&cluster.run(&["log", "show", "-o", "json"]).await).unwrap();
        if shown["generations"][0]["state"] == "ended" {
            break shown;
        }
        assert!(tokio::time::Instant::now() < deadline, "{shown}");
    };
    let of =
        |at: usize| (&shown["generations"][at]["window"], &shown["generations"][at]["partitions"]);
    assert_eq!((of(0), of(1)), ((&json!("1h"), &json!(2)), (&json!("15m"), &json!(2))));
    assert!(cluster.run(&grow).await.contains("15m"));
    assert_eq!(shown["generations"].as_array().unwrap().len(), 2);
    server.drained().await;

    // The hour that holds midnight in Kolkata was counted as one.
    let said = refused(&server, &["contract", "apply", &from_january], 65).await;
    assert!(said.contains("begin on 2024-10-02 or later"), "{said}");
    apply(&server, &home, &contract("in", "Asia/Kolkata", "2024-10-02")).await;
    apply(&server, &home, &contract("new", "Asia/Kolkata", "2024-01-01")).await;
    for (tenant, amount, time) in [
        // September goes on under standard terms, out of windows of both lengths.
        ("in", "5", "2024-09-30T18:15:00Z"),
        ("in", "1000", "2024-10-31T18:29:59Z"),
        ("in", "10000", "2024-10-31T18:30:00Z"),
        ("new", "1", "2024-09-30T18:29:59Z"),
        ("new", "2", "2024-09-30T18:30:00Z"),
    ] {
        use_one(&server, &home, tenant, amount, time).await;
    }
    assert_eq!(bill(&server, "2024-09", &["--deltas"]).await["deltas"], "1");
    bill(&server, "2024-10", &[]).await;
    assert_eq!(
        listed(&server, &["--tenant", "in"]).await,
        [
            "in 2024-09-01 2024-09-30 UTC 110.00",
            "in 2024-09-01 2024-09-30 UTC 5.00",
            "in 2024-10-02 2024-10-31 Asia/Kolkata 1000.00",
        ]
    );
    assert_eq!(
        listed(&server, &["--tenant", "new"]).await,
        [
            "new 2024-09-01 2024-09-30 Asia/Kolkata 1.00",
            "new 2024-10-01 2024-10-31 Asia/Kolkata 2.00",
        ]
    );
    for number in ["1", "2", "3", "4", "5"] {
        let verified = server.json(&["bill", "verify", number, "--from-log"]).await;
        assert_eq!(
            (&verified["matches"], &verified["segments_missing"]),
            (&json!(true), &json!("0"))
        );
    }
    server.audit_is_clean().await;
    for arguments in [
        &["replay", "--from-start", "--into", "1"][..],
        &["replay", "compare", "1"],
        &["replay", "swap", "1"],
    ] {
        cluster.run(arguments).await;
    }
    server.drained().await;
    assert_eq!(bill(&server, "2024-10", &["--deltas"]).await["deltas"], "0");
    server.terminate().await;
}
