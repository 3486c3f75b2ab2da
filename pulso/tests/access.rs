//! Access through the program: the matrix of every method and route with every role and credential, and
//! what a client of one tenant can do from its key on.

use std::{collections::BTreeMap, time::Duration};

use edge::{
    access::{Role, Roles, Rule, TenantRule},
    problem::reason_of,
};
use proto::v1::{
    Decimal, IngestAck, ListKeysRequest, Pulse, PulseBatch,
    access_service_client::AccessServiceClient, ingest_service_client::IngestServiceClient,
};
use pulso::serve::description::rules;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Request, codegen::http::uri::PathAndQuery, metadata::MetadataValue};
use tonic_prost::ProstCodec;

use crate::harness::{Home, PATIENCE, Server, Settings, billing, now};

pub(crate) fn required() -> Settings {
    Settings::default().without_access().with("PULSO_ACCESS__MODE", "required")
}

/// Makes a key in the store of a server that does not run, or through one that does.
pub(crate) fn create(home: &Home, arguments: &[&str], through: Option<(&Server, &str)>) -> Value {
    let arguments = [&["key", "create"], arguments, &["-o", "json"]].concat();
    let mut command = home.command(&arguments);
    match through {
        Some((server, key)) => command.env("PULSO_SERVER", &server.grpc).env("PULSO_KEY", key),
        None => command.arg("--local"),
    };
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

pub(crate) fn text(key: &Value) -> &str {
    key["text"].as_str().unwrap()
}

/// The reason of a call's refusal; `None` where a handler has seen it and not refused it by itself.
async fn call(server: &Server, path: &'static str, key: Option<&str>) -> Option<String> {
    let mut grpc = tonic::client::Grpc::new(server.channel_of_nobody().await);
    grpc.ready().await.unwrap();
    let mut request = Request::new(());
    if let Some(key) = key {
        let value = MetadataValue::try_from(format!("Bearer {key}")).unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    // Answers of one message are a stream of one; the head of an endless one is enough.
    let codec = ProstCodec::<(), ()>::default();
    let called = grpc.server_streaming(request, PathAndQuery::from_static(path), codec);
    let answer = tokio::time::timeout(PATIENCE, called).await.unwrap();
    answer.err().and_then(|status| reason_of(&status))
}

/// The same of a request.
async fn ask(server: &Server, what: &str, key: Option<&str>) -> Option<String> {
    let mut connection = tokio::net::TcpStream::connect(&server.http).await.unwrap();
    let credential = key.map_or_else(String::new, |key| format!("x-api-key: {key}\r\n"));
    let request = format!(
        "{what} HTTP/1.0\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 0\r\n{credential}\r\n"
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, connection.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).ok()?;
    Some(body["reason"].as_str()?.to_owned())
}

pub(crate) async fn reason(
    server: &Server,
    method: &'static str,
    key: Option<&str>,
) -> Option<String> {
    if method.starts_with('/') {
        return call(server, method, key).await;
    }
    let what = method.replace("{partition}/{offset}/{index}", "0/0/0");
    let what = what.replace(['{', '}'], "");
    ask(server, &what, key).await
}

/// What the gate may refuse with.
const REFUSALS: [&str; 6] = [
    "CREDENTIAL_MISSING",
    "CREDENTIAL_INVALID",
    "CREDENTIAL_EXPIRED",
    "CREDENTIAL_REVOKED",
    "ROLE_MISSING",
    "TENANT_FORBIDDEN",
];

/// What the table says about a credential.
fn expected(rule: &Rule, roles: Roles, is_for_all: bool) -> Option<&'static str> {
    if rule.is_open() {
        None
    } else if !rule.roles.intersects(roles) {
        Some("ROLE_MISSING")
    } else if rule.tenants == TenantRule::AllTenants && !is_for_all {
        Some("TENANT_FORBIDDEN")
    } else {
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_and_route_holds_every_credential_to_the_table() {
    let home = Home::new();
    let mut keys = BTreeMap::new();
    for role in Role::ALL {
        for tenant in ["*", "acme"] {
            let name = format!("{role}-{}", tenant.len());
            let arguments = [&name, "--role", role.as_str(), "--tenant", tenant];
            keys.insert((role, tenant), text(&create(&home, &arguments, None)).to_owned());
        }
    }
    let arguments = ["short", "--role", "admin", "--tenant", "*", "--expires-in", "1s"];
    let expired = text(&create(&home, &arguments, None)).to_owned();
    let server = Server::start(&home, &required()).await;
    let admin = &keys[&(Role::Admin, "*")];
    let revoked =
        create(&home, &["gone", "--role", "admin", "--tenant", "*"], Some((&server, admin)));
    let status = home
        .command(&["key", "revoke", revoked["id"].as_str().unwrap()])
        .env("PULSO_SERVER", &server.grpc)
        .env("PULSO_KEY", admin)
        .output()
        .unwrap()
        .status;
    assert!(status.success());
    let without = server.pulso_with(&["status"], None).await;
    let said = String::from_utf8_lossy(&without.stderr).into_owned();
    assert_eq!(without.status.code(), Some(77), "{said}");
    assert!(said.contains("PULSO_KEY_FILE"), "{said}");
    let get_usage = "GET /v1/usage";
    while ask(&server, get_usage, Some(&expired)).await.as_deref() != Some("CREDENTIAL_EXPIRED") {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // One digit of the secret is another; then its checksum does not fit either.
    let mut mistyped = admin.clone();
    let last = if mistyped.ends_with('0') { "1" } else { "0" };
    mistyped.replace_range(mistyped.len() - 1.., last);
    let bad = [
        (None, "CREDENTIAL_MISSING"),
        (Some("nonsense"), "CREDENTIAL_INVALID"),
        (Some(mistyped.as_str()), "CREDENTIAL_INVALID"),
        (Some(expired.as_str()), "CREDENTIAL_EXPIRED"),
        (Some(text(&revoked)), "CREDENTIAL_REVOKED"),
    ];
    for rule in rules() {
        for (key, why) in &bad {
            let found = reason(&server, rule.method, *key).await;
            let found = found.filter(|reason| REFUSALS.contains(&reason.as_str()));
            let why = (!rule.is_open()).then_some(*why);
            assert_eq!(found.as_deref(), why, "{} with {key:?}", rule.method);
        }
        for ((role, tenant), key) in &keys {
            let found = reason(&server, rule.method, Some(key)).await;
            let found = found.filter(|reason| REFUSALS.contains(&reason.as_str()));
            let expected = expected(&rule, Roles::of(&[*role]), *tenant == "*");
            assert_eq!(found.as_deref(), expected, "{} as {role} for {tenant}", rule.method);
        }
    }
    let log = server.log();
    for key in keys.values().map(String::as_str).chain([expired.as_str(), text(&revoked)]) {
        let secret = &key[23..];
        assert!(!log.contains(secret), "a key is in the log");
    }
    server.terminate().await;
}

async fn send(server: &Server, key: &str, tenants: &[&str]) -> IngestAck {
    let mut client = IngestServiceClient::new(server.channel_of_nobody().await);
    let pulses = tenants.iter().map(|tenant| Pulse {
        tenant: (*tenant).to_owned(),
        product_sku: "vm".to_owned(),
        use_unity: "hour".to_owned(),
        used_amount: Some(Decimal { unscaled: 1, scale: 0 }),
        time: Some(prost_types::Timestamp { seconds: now(), nanos: 0 }),
        ..Pulse::default()
    });
    let batch =
        PulseBatch { producer_id: vec![7; 16], pulses: pulses.collect(), ..PulseBatch::default() };
    let mut request = Request::new(batch);
    let value = MetadataValue::try_from(format!("Bearer {key}")).unwrap();
    request.metadata_mut().insert("authorization", value);
    client.ingest(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_one_tenant_sends_and_reads_its_own_and_nothing_else() {
    let home = Home::new();
    let key = |name: &str, roles: &[&str], tenant: &str| {
        let roles = roles.iter().flat_map(|role| ["--role", role]);
        let arguments: Vec<_> =
            [name].into_iter().chain(roles).chain(["--tenant", tenant]).collect();
        text(&create(&home, &arguments, None)).to_owned()
    };
    let acme = key("acme", &["writer", "viewer"], "acme");
    let other = key("other", &["writer"], "acme");
    let ops = key("ops", &["operator"], "*");
    let server = Server::start(&home, &required()).await;
    let ack = send(&server, &acme, &["", "acme", "bolt"]).await;
    let refused = [("TENANT_MISMATCH", "pulses[2].tenant")];
    let errors = ack.errors.iter().map(|error| (&*error.reason, &*error.field));
    assert_eq!((ack.accepted, errors.collect::<Vec<_>>()), (2, refused.to_vec()));
    // Again by the same client it is the same batch; of another client the numbers are other ones.
    send(&server, &acme, &["", "acme", "bolt"]).await;
    send(&server, &other, &["", "acme", "bolt"]).await;
    let status = server.pulso_with(&["status", "--wait-drained", "30s"], Some(&ops)).await;
    assert_eq!(status.status.code(), Some(0), "{status:?}");

    let day = 86_400;
    let (from, to) = (now() / day * day - day, now() / day * day + 2 * day);
    let moment = |seconds: i64| domain::Timestamp::from_parts(seconds, 0).unwrap().to_string();
    let (from, to) = (moment(from), moment(to));
    let usage = |tenant: &'static str| {
        let mut arguments =
            vec!["query", "usage", "--from", &from, "--to", &to, "--window", "total"];
        arguments.extend(["-o", "json"]);
        if !tenant.is_empty() {
            arguments.extend(["--tenant", tenant]);
        }
        arguments
    };
    let own = server.pulso_with(&usage(""), Some(&acme)).await;
    let own: Value = serde_json::from_slice(&own.stdout).unwrap();
    let rows = own["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{own}");
    assert_eq!((&rows[0]["tenant"], &rows[0]["count"]), (&"acme".into(), &"4".into()));
    let foreign = server.pulso_with(&usage("bolt"), Some(&acme)).await;
    assert_eq!(foreign.status.code(), Some(77), "{foreign:?}");
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_asks_nobody_listens_on_loopback_only() {
    let home = Home::new();
    let start = |mode: &str| {
        let mut command = home.command(&["serve", "--stage", "query"]);
        command.env("PULSO_LISTEN__GRPC", "0.0.0.0:0").env("PULSO_LISTEN__HTTP", "127.0.0.1:0");
        command.env("PULSO_ACCESS__MODE", mode);
        command
    };
    let refused = start("off").output().unwrap();
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{stderr}");
    assert!(stderr.contains("listen.grpc") && stderr.contains("access.mode"), "{stderr}");
    for mode in ["open", "required"] {
        let settings = Settings::default()
            .command(&["serve", "--stage", "query"])
            .with("PULSO_LISTEN__GRPC", "0.0.0.0:0")
            .with("PULSO_ACCESS__MODE", mode);
        Server::start(&Home::new(), &settings).await.terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_credential_reads_its_own_invoices_and_no_others() {
    let home = Home::new();
    let open = Server::start(&home, &billing::settings()).await;
    billing::publish(&open, &home, billing::CATALOGUE).await;
    let used = |tenant| (tenant, "vm", "hour", "10", "2024-09-03T10:00:00Z");
    billing::use_up(&open, &home, "september", &[used("acme"), used("bolt")]).await;
    billing::bill(&open, &[]).await;
    let listed = open.json(&["invoice", "list"]).await;
    let numbers: BTreeMap<_, _> = listed["invoices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|invoice| (invoice["tenant"].as_str().unwrap(), invoice["number"].as_str().unwrap()))
        .collect();
    open.terminate().await;
    let acme =
        text(&create(&home, &["acme", "--role", "viewer", "--tenant", "acme"], None)).to_owned();
    let server = Server::start(
        &home,
        &billing::settings().without_access().with("PULSO_ACCESS__MODE", "required"),
    )
    .await;
    let own = server.pulso_with(&["invoice", "list", "-o", "json"], Some(&acme)).await;
    let own: Value = serde_json::from_slice(&own.stdout).unwrap();
    let own = own["invoices"].as_array().unwrap();
    assert!(own.len() == 1 && own[0]["tenant"] == "acme", "{own:?}");
    let (mine, theirs) = (numbers["acme"], numbers["bolt"]);
    for (arguments, code) in [
        (vec!["invoice", "get", mine], 0),
        (vec!["bill", "explain", mine], 0),
        (vec!["bill", "verify", mine], 0),
        (vec!["bill", "preview", "--tenant", "acme", "--period", "2024-09"], 0),
        (vec!["invoice", "get", theirs], 65),
        (vec!["bill", "explain", theirs], 65),
        (vec!["bill", "verify", theirs], 65),
        (vec!["invoice", "list", "--tenant", "bolt"], 77),
        (vec!["bill", "preview", "--tenant", "bolt", "--period", "2024-09"], 77),
        (vec!["invoice", "void", mine, "--reason", "r"], 77),
        (vec!["contract", "list"], 77),
    ] {
        let output = server.pulso_with(&arguments, Some(&acme)).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    }
    for (number, reason) in [(mine, None), (theirs, Some("INVOICE_NOT_FOUND"))] {
        for what in ["", "/lines", ":explain", ":verify", ":html"] {
            let found =
                ask(&server, &format!("GET /v1/invoices/{number}{what}"), Some(&acme)).await;
            assert_eq!(found.as_deref(), reason, "{number}{what}");
        }
    }
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_key_is_revoked() {
    let home = Home::new();
    let key =
        |name: &str, role: &str| create(&home, &[name, "--role", role, "--tenant", "*"], None);
    let (writer, admin) = (key("meter", "writer"), key("ops", "admin"));
    let server = Server::start(&home, &required()).await;
    let mut client = IngestServiceClient::new(server.channel_of_nobody().await);
    let (batches, requests) = tokio::sync::mpsc::channel(1);
    let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(requests));
    let value = MetadataValue::try_from(format!("Bearer {}", text(&writer))).unwrap();
    request.metadata_mut().insert("authorization", value);
    let mut acks = client.ingest_stream(request).await.unwrap().into_inner();
    batches.send(PulseBatch::default()).await.unwrap();
    assert!(acks.message().await.unwrap().is_some(), "the stream is open");
    let id = writer["id"].as_str().unwrap();
    let revoked = server.pulso_with(&["key", "revoke", id], Some(text(&admin))).await;
    assert_eq!(revoked.status.code(), Some(0), "{revoked:?}");
    let ended = tokio::time::timeout(PATIENCE, acks.message()).await.expect("it ends");
    let status = ended.expect_err("without an ack");
    assert_eq!(reason_of(&status).as_deref(), Some("CREDENTIAL_REVOKED"), "{status:?}");
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_listed_in_pages() {
    let home = Home::new();
    let admin = create(&home, &["ops", "--role", "admin", "--tenant", "*"], None);
    for name in ["a", "b", "c"] {
        create(&home, &[name, "--role", "writer", "--tenant", "acme"], None);
    }
    let server = Server::start(&home, &required()).await;
    let mut client = AccessServiceClient::new(server.channel_of_nobody().await);
    let mut list = async |page_size: i32, page_token: &str| {
        let mut request =
            Request::new(ListKeysRequest { page_size, page_token: page_token.to_owned() });
        let value = MetadataValue::try_from(format!("Bearer {}", text(&admin))).unwrap();
        request.metadata_mut().insert("authorization", value);
        client.list_keys(request).await.map(tonic::Response::into_inner)
    };
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(3, &token).await.unwrap();
        names.extend(page.keys.into_iter().map(|key| key.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        assert_eq!(names.len(), 3);
    }
    assert_eq!(names, ["ops", "a", "b", "c"]);
    for (page_size, page_token, reason) in [
        (-1, "", "PAGE_SIZE_INVALID"),
        (1_001, "", "PAGE_SIZE_INVALID"),
        (1, "x", "PAGE_TOKEN_INVALID"),
    ] {
        let refused = list(page_size, page_token).await.unwrap_err();
        assert_eq!(reason_of(&refused).as_deref(), Some(reason), "{refused:?}");
    }
    let listed = server.pulso_with(&["key", "list", "-o", "json"], Some(text(&admin))).await;
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 4, "{listed}");
    server.terminate().await;
}
