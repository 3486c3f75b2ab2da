//! Bad input and trouble, from outside: every refusal has a reason, nothing that a client sends ends
//! the server, and what an operator has to know is where an operator looks.

use std::{collections::BTreeSet, future::poll_fn, pin::Pin, time::Instant};

use crate::harness::{self, Home, PATIENCE, Server, Settings, now};
use edge::problem::reason_of;
use prost::Message as _;
use prost_types::FileDescriptorProto;
use proto::v1::{
    Decimal, Pulse, PulseBatch, UsageInfoRequest, ingest_service_client::IngestServiceClient,
    usage_service_client::UsageServiceClient,
};
use pulso::client::Channel;
use pulso::{
    cli::serving::Stage,
    config::{Sources, load},
    serve::process::{Plan, Process},
};
use runtime::{Schedule, telemetry::Metrics};
use storage::{choice::Log, memory::AppendFault};
use tokio::time::timeout;
use tonic::{
    Code, Request, Status,
    codegen::{Body as _, Service as _},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1alpha::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

/// The services, as their clients name them.
const SERVICES: [&str; 7] = [
    "pulso.v1.AuditService",
    "pulso.v1.BillingService",
    "pulso.v1.CatalogService",
    "pulso.v1.IngestService",
    "pulso.v1.OperationsService",
    "pulso.v1.QueryService",
    "pulso.v1.UsageService",
];

/// A gRPC frame that says it has this many bytes.
fn frame(flag: u8, length: u32, bytes: &[u8]) -> Vec<u8> {
    [&[flag][..], &length.to_be_bytes(), bytes].concat()
}

/// Posts bytes as the body of a call and gives the status it ended with.
async fn post(channel: &mut Channel, path: &str, body: Vec<u8>) -> Status {
    let request = http::Request::post(path)
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::new(axum::body::Body::from(body)))
        .unwrap();
    poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let response = channel.call(request).await.unwrap();
    assert!(response.headers().contains_key("x-request-id"), "{path}");
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    let mut body = response.into_body();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Some(trailers) = frame.unwrap().trailers_ref() {
            return Status::from_header_map(trailers).unwrap();
        }
    }
    panic!("{path} ended without a status");
}

fn batch() -> PulseBatch {
    let pulse = Pulse {
        tenant: "acme".to_owned(),
        product_sku: "cpu".to_owned(),
        use_unity: "hour".to_owned(),
        used_amount: Some(Decimal { unscaled: 125, scale: 2 }),
        time: Some(prost_types::Timestamp { seconds: now(), nanos: 0 }),
        ..Pulse::default()
    };
    PulseBatch { pulses: vec![pulse], ..PulseBatch::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_call_are_the_clients_fault_and_have_a_reason() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    let mut channel = server.channel().await;
    let bodies = [
        ("half a header", vec![0, 0]),
        ("half a message", frame(0, 100, b"abc")),
        ("compressed without a word of how", frame(1, 3, b"abc")),
        ("a flag that does not exist", frame(7, 3, b"abc")),
        ("4 GiB announced", frame(0, u32::MAX, b"abc")),
        ("no fields", frame(0, 3, b"\xff\xff\xff")),
        ("the wrong wire type", frame(0, 2, &[0x0f, 0x05])),
    ];
    for path in [
        "/pulso.v1.IngestService/Ingest",
        "/pulso.v1.UsageService/Consume",
        "/pulso.v1.QueryService/QueryUsage",
        "/pulso.v1.CatalogService/PublishCatalogue",
    ] {
        for (what, body) in &bodies {
            let status = post(&mut channel, path, body.clone()).await;
            assert_eq!(status.code(), Code::InvalidArgument, "{path}, {what}: {status}");
            assert!(reason_of(&status).is_some(), "{path}, {what}: {status}");
        }
    }
    // A stream answers batches that do not parse one by one, and ends where there are no frames.
    for (what, body) in &bodies[..5] {
        let status = post(&mut channel, "/pulso.v1.IngestService/IngestStream", body.clone()).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
        assert!(reason_of(&status).is_some(), "{what}: {status}");
    }
    for path in ["/pulso.v1.IngestService/Nothing", "/nobody.v1.Service/Nothing"] {
        let status = post(&mut channel, path, frame(0, 0, b"")).await;
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
        assert_eq!(reason_of(&status).as_deref(), Some("ROUTE_NOT_FOUND"), "{path}");
        assert!(status.message().contains(path), "{status}");
    }
    let mut ingest = IngestServiceClient::new(channel);
    assert_eq!(ingest.ingest(batch()).await.unwrap().into_inner().accepted, 1);
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_answers_for_each_service_and_reflection_under_its_older_name_too() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    let channel = server.channel().await;
    let mut health = HealthClient::new(channel.clone());
    for name in SERVICES.into_iter().chain([""]) {
        // It follows the process's own readiness, which is said a moment before.
        let request = HealthCheckRequest { service: name.to_owned() };
        let mut watched = health.watch(request).await.unwrap().into_inner();
        let serving = async {
            while watched.message().await.unwrap().unwrap().status().as_str_name() != "SERVING" {}
        };
        timeout(PATIENCE, serving).await.unwrap_or_else(|_| panic!("{name} is not serving"));
    }
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let answers = reflection.server_reflection_info(tokio_stream::iter([list])).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let listed = format!("{answer:?}");
    for name in SERVICES {
        assert!(listed.contains(name), "{name} is not in {listed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_knows_what_errors_carry() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    let mut reflection = ServerReflectionClient::new(server.channel().await);
    let symbols = ["Status", "ErrorInfo", "BadRequest", "RetryInfo"];
    let mut wanted: Vec<_> = symbols
        .map(|name| MessageRequest::FileContainingSymbol(format!("google.rpc.{name}")))
        .into();
    let mut known = BTreeSet::new();
    // Each file, and then what it imports, as tools ask.
    while let Some(message) = wanted.pop() {
        let request =
            ServerReflectionRequest { host: String::new(), message_request: Some(message.clone()) };
        let asked = reflection.server_reflection_info(tokio_stream::iter([request])).await;
        let answer = asked.unwrap().into_inner().message().await.unwrap().unwrap();
        let Some(MessageResponse::FileDescriptorResponse(files)) = answer.message_response else {
            panic!("{message:?}: {answer:?}")
        };
        for file in files.file_descriptor_proto {
            let file = FileDescriptorProto::decode(&*file).unwrap();
            if known.insert(file.name().to_owned()) {
                wanted.extend(file.dependency.into_iter().map(MessageRequest::FileByFilename));
            }
        }
    }
    assert!(known.contains("google/protobuf/any.proto"), "{known:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_takes_nothing_is_said_by_readiness_and_status() {
    // In this process, because only its own memory log fails when told to.
    let flags = [
        ("--log", "log.url", "memory:"),
        ("--store", "store.url", "memory:"),
        ("--grpc-listen", "listen.grpc", "127.0.0.1:0"),
        ("--http-listen", "listen.http", "127.0.0.1:0"),
    ];
    let flags = flags.map(|(flag, key, value)| (flag, key, value.to_owned())).to_vec();
    let loaded = load::load(&Sources { flags, ..Sources::default() }).unwrap();
    let stages = [Stage::Ingest, Stage::Consume, Stage::Query];
    let plan = Plan::new(&loaded, &stages, Schedule::Once);
    let process = Process::start(plan, Metrics::start().unwrap()).await.unwrap();
    let http = process.http.to_string();
    let channel = pulso::client::connect(&process.grpc.to_string()).await.unwrap();

    let Log::Memory(log) = &*process.backends.log else { panic!("the log is in memory") };
    log.fail_next_append(AppendFault::Unavailable);
    let usage = UsageInfoRequest {
        tenant: "acme".to_owned(),
        product_sku: "cpu".to_owned(),
        used_amount: 1,
        use_unity: "hour".to_owned(),
    };
    let mut client = UsageServiceClient::new(channel);
    let status = client.consume(usage.clone()).await.unwrap_err();
    assert_eq!(reason_of(&status).as_deref(), Some("LOG_UNAVAILABLE"));
    // The check follows the failure from a task of its own.
    let deadline = Instant::now() + PATIENCE;
    let mut ready = harness::http_get(&http, "/readyz?verbose").await;
    while ready.0 == 200 && Instant::now() < deadline {
        ready = harness::http_get(&http, "/readyz?verbose").await;
    }
    assert_eq!(ready.0, 503, "{}", ready.1);
    assert!(ready.1.contains("[-]log failed: "), "{}", ready.1);
    let (_, status) = harness::http_get(&http, "/v1/status").await;
    assert!(status.contains("\"healthy\":false") && status.contains("log: "), "{status}");
    assert_eq!(client.consume(usage).await.map(|_| ()).map_err(|status| status.code()), Ok(()));
    process.end("test").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_id_follows_a_request_through_the_logs_to_the_fold() {
    let home = Home::new();
    let settings = Settings::default().with("PULSO_LOG", "debug");
    let server = Server::start(&home, &settings).await;
    let mut request = Request::new(batch());
    request.metadata_mut().insert("x-request-id", "order-17".parse().unwrap());
    let answer = IngestServiceClient::new(server.channel().await).ingest(request).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "order-17");
    server.drained().await;
    let log = server.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("order-17")).collect();
    for step in ["batch taken", "appended", "folding"] {
        assert!(lines.iter().any(|line| line.contains(step)), "no `{step}` in {lines:#?}");
    }
    assert!(log.lines().any(|line| line.contains("flushed") && line.contains("\"rows\":1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_at_the_http_address_is_told_so_at_once() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    let file = home.path("usage.jsonl");
    let line = r#"{"tenant":"a","product_sku":"s","use_unity":"u","used_amount":"1"}"#;
    std::fs::write(&file, line).unwrap();
    for arguments in [&["status"][..], &["ingest", file.to_str().unwrap(), "--format", "jsonl"]] {
        let mut command = harness::program();
        command.args(arguments).args(["--server", &server.http]);
        let output = crate::harness::output(command).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{arguments:?}: {stderr}");
        assert!(stderr.contains("HTTP address"), "{arguments:?}: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_of_a_lost_log_are_not_added_to_by_another_log() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    let mut ingest = IngestServiceClient::new(server.channel().await);
    assert_eq!(ingest.ingest(batch()).await.unwrap().into_inner().accepted, 1);
    server.terminate().await;
    let (log, backup) = (home.data().join("log.db"), home.path("log.backup"));
    std::fs::rename(&log, &backup).unwrap();
    // The second try finds the log that the first one made.
    for _ in 0..2 {
        let command = ["dev", "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
        let output = home.command(&command).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(65), "{stderr}");
        assert!(stderr.contains("the totals of log") && stderr.contains("log.db"), "{stderr}");
    }
    std::fs::rename(&backup, &log).unwrap();
    let server = Server::start(&home, &Settings::default()).await;
    assert_eq!(server.status().await.pulses.unwrap().accepted, 1);
    server.audit_is_clean().await;
}
