//! How a process starts and ends: what stands in its way is named with what to do, by the exit code
//! that scripts rely on, and nothing that a client does holds up its end.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    process::Output,
    time::{Duration, Instant},
};

use crate::harness::{Home, PATIENCE, Process, Server, Settings, http_get, now, program, until};
use proto::v1::{
    Decimal, IngestAck, Pulse, PulseBatch, ingest_service_client::IngestServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// Runs a command that has to fail, and gives what it said.
fn refused(home: &Home, arguments: &[&str], code: i32) -> String {
    let addresses = ["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
    let output = home.command(&[arguments, &addresses].concat()).output().unwrap();
    expect(&output, code)
}

fn expect(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(output.stdout.is_empty());
    stderr
}

/// A directory that was used and closed in order.
async fn used() -> Home {
    let home = Home::new();
    Server::start(&home, &Settings::default()).await.terminate().await;
    home
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_use_exits_with_75_and_says_by_whom() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    let addresses = fs::read_to_string(home.path("addresses.json")).unwrap();
    let pid = addresses.split("\"pid\":").nth(1).unwrap().trim_end_matches(['}', '\n']);
    for arguments in [&["dev"][..], &["consume", "--once"]] {
        let message = refused(&home, arguments, 75);
        assert!(message.contains(&format!("process {pid}")), "{message}");
        assert!(message.contains(home.data().to_str().unwrap()), "{message}");
    }
    assert_eq!(server.json(&["status"]).await["healthy"], true);
}

#[test]
fn a_directory_that_cannot_be_written_exits_with_77() {
    let home = Home::new();
    let mut path = home.data();
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o555)).unwrap();
    if File::create(path.join("probe")).is_ok() {
        // The superuser writes anywhere but into the kernel's own file system.
        path = "/sys/kernel/pulso".into();
    }
    let output =
        program().current_dir(home.path("")).args(["dev", "--data-dir"]).arg(&path).output();
    let message = expect(&output.unwrap(), 77);
    assert!(message.contains(path.to_str().unwrap()) && message.contains("writable"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_newer_or_damaged_are_refused_and_left_as_they_are() {
    // Bytes 60 to 63 of an SQLite file are its format version.
    let newer = |bytes: &mut Vec<u8>| bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
    let truncated = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    let foreign = |bytes: &mut Vec<u8>| bytes[68..72].copy_from_slice(&7_u32.to_be_bytes());
    type Change<'a> = (&'a dyn Fn(&mut Vec<u8>), i32, &'a str);
    let changes: [Change<'_>; 3] = [
        (&newer, 78, "has format version 99"),
        (&truncated, 65, "is damaged"),
        (&foreign, 78, "of another program"),
    ];
    for file in ["log.db", "store.db"] {
        for (change, code, needed) in changes {
            let home = used().await;
            let path = home.data().join(file);
            let mut bytes = fs::read(&path).unwrap();
            change(&mut bytes);
            fs::write(&path, &bytes).unwrap();
            let message = refused(&home, &["dev"], code);
            assert!(message.contains(needed) && message.contains(file), "{message}");
            assert_eq!(fs::read(&path).unwrap(), bytes, "{needed}: {file} was changed");
        }
    }
}

#[test]
fn a_port_in_use_exits_with_78_and_names_the_setting() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (key, flag, other) in [
        ("listen.grpc", "--grpc-listen", "--http-listen"),
        ("listen.http", "--http-listen", "--grpc-listen"),
    ] {
        let mut command = home.command(&["dev", flag, &taken, other, "127.0.0.1:0"]);
        let message = expect(&command.output().unwrap(), 78);
        assert!(message.contains(&format!("{key} = `{taken}`")), "{message}");
        assert!(message.contains("port 0"), "{message}");
    }
}

#[test]
fn dev_refuses_to_listen_where_others_can_reach_it() {
    let home = Home::new();
    let mut command = home.command(&["dev", "--grpc-listen", "0.0.0.0:0"]);
    let message = expect(&command.output().unwrap(), 78);
    assert!(message.contains("listen.grpc") && message.contains("loopback"), "{message}");
    assert!(!home.data().exists(), "it was refused before anything was made");
}

#[test]
fn a_crash_point_that_does_not_exist_is_refused_before_anything_starts() {
    let home = Home::new();
    let mut command = home.command(&["dev"]);
    let output = command.env("PULSO_FAULT", "ingest.before_lunch").output().unwrap();
    let message = expect(&output, 78);
    assert!(message.contains("no such point; the points are "), "{message}");
    assert!(!home.data().exists());
}

/// A stream of batches whose client reads no ack, and goes on sending until told to stop.
async fn unread_stream(server: &Server) -> (Streaming<IngestAck>, tokio::task::JoinHandle<()>) {
    let (outbound, batches) = mpsc::channel(1);
    let time = Some(prost_types::Timestamp { seconds: now(), nanos: 0 });
    let pulse = Pulse {
        tenant: "a".to_owned(),
        product_sku: "s".to_owned(),
        use_unity: "hour".to_owned(),
        used_amount: Some(Decimal { unscaled: 1, scale: 0 }),
        time,
        ..Pulse::default()
    };
    let sending = tokio::spawn(async move {
        for batch in 0.. {
            let (producer_id, pulses) = (vec![1; 16], vec![pulse.clone()]);
            let message = PulseBatch {
                batch,
                producer_id,
                first_sequence: batch,
                pulses,
                ..PulseBatch::default()
            };
            if outbound.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut client = IngestServiceClient::new(server.channel().await);
    let acks = client.ingest_stream(ReceiverStream::new(batches)).await.unwrap();
    (acks.into_inner(), sending)
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_never_end_do_not_hold_up_an_orderly_end() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    let mut health = HealthClient::new(server.channel().await);
    let watch = health.watch(HealthCheckRequest { service: String::new() }).await.unwrap();
    let (acks, sending) = unread_stream(&server).await;
    // A request of which the end never comes.
    let mut half = std::net::TcpStream::connect(&server.http).unwrap();
    std::io::Write::write_all(&mut half, b"GET /v1/usage HTTP/1.1\r\nhost: a\r\n").unwrap();
    let started = Instant::now();
    server.terminate().await;
    // Far less than shutdown.timeout, which is 30 seconds.
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    drop((watch, acks));
    sending.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_ends_at_once_and_loses_nothing() {
    let home = Home::new();
    // A call that never ends holds up the first one for as long as calls may go on.
    let patient = Settings::default()
        .with("PULSO_SHUTDOWN__TIMEOUT", "1h")
        .with("PULSO_SHUTDOWN__CALLS_TIMEOUT", "59m");
    let mut server = Server::start(&home, &patient).await;
    let (acks, sending) = unread_stream(&server).await;
    server.signal(libc::SIGTERM);
    until("the first one is heard", || server.log().contains("shutting down")).await;
    server.signal(libc::SIGTERM);
    assert_eq!(server.end_status().await.code(), Some(143));
    drop(acks);
    sending.abort();
    let server = Server::start(&home, &Settings::default()).await;
    server.drained().await;
    server.audit_is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_in_answer_to_readiness_already_ends_it_in_order() {
    for _ in 0..5 {
        let home = Home::new();
        Server::start(&home, &Settings::default()).await.terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_stderr_nobody_reads_any_more_goes_on_and_ends_in_order() {
    for closed_at_the_start in [true, false] {
        let home = Home::new();
        let addresses = home.path("addresses.json");
        let mut command =
            home.command(&["dev", "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
        command.arg("--print-addresses").arg(&addresses);
        let (mut process, stderr) = Process::spawn_piped(command);
        let mut stderr = Some(stderr).filter(|_| !closed_at_the_start);
        until("it is ready", || addresses.exists() || process.has_ended()).await;
        drop(stderr.take());
        let addresses: serde_json::Value =
            serde_json::from_slice(&fs::read(&addresses).unwrap()).unwrap();
        let http = addresses["http"].as_str().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while http_get(http, "/readyz").await.0 != 200 {
            assert!(Instant::now() < deadline, "it never is ready");
        }
        process.signal(libc::SIGTERM);
        assert_eq!(process.end().await.code(), Some(0), "{closed_at_the_start}");
    }
}
