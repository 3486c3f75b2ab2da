//! TLS through the program: who gets through and who is told what, certificates that change while it
//! serves, and clients that stop in the middle of a handshake.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Output,
    sync::Arc,
    time::Duration,
};

use pulso::client::{self, Target};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    attacks::Honest,
    harness::{
        Home, PATIENCE, Server, Settings, access, http_get, program,
        tls::{Authority, Identity, Validity},
    },
};

const NAMES: &[&str] = &["localhost", "127.0.0.1"];

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// `pulso status` against an address, with flags.
async fn status(url: &str, flags: &[String]) -> Output {
    let mut command = program();
    command.args(["status", "--server", url]).args(flags);
    crate::harness::output(command).await
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_gets_through_is_served_and_whoever_does_not_is_told_why() {
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let home = Home::new();
    let (ca, foreign_ca) = (ours.file(&home, "ca.pem"), foreign.file(&home, "foreign.pem"));
    let trust = |ca: &PathBuf| vec!["--ca".to_owned(), text(ca)];

    let plain = Server::start(&home, &Settings::default()).await;
    let speaks_no_tls = status(&plain.grpc.replace("http:", "https:"), &trust(&ca)).await;
    assert_eq!(speaks_no_tls.status.code(), Some(69), "{}", said(&speaks_no_tls));
    assert!(said(&speaks_no_tls).contains("the server speaks no TLS: use http://127.0.0.1:"));
    plain.terminate().await;

    let good = ours.sign(&home, "good", NAMES, Validity::Now);
    let misnamed = ours.sign(&home, "misnamed", &["other.example.org"], Validity::Now);
    let expired = ours.sign(&home, "expired", NAMES, Validity::Past);
    let none: Vec<String> = Vec::new();
    for (identity, scheme, flags, code, words) in [
        (&good, "https", trust(&ca), 0, ""),
        (&good, "https", trust(&foreign_ca), 69, "authority that is not trusted here; --ca FILE"),
        (&good, "http", none.clone(), 69, "this port speaks TLS only; use https://"),
        (&misnamed, "https", trust(&ca), 69, "is not for `127.0.0.1`; it is for other.example.org"),
        (&expired, "https", trust(&ca), 69, "certificate expired at 2021-01-01T00:00:00Z"),
    ] {
        let server = Server::start(&home, &identity.served(Settings::default())).await;
        let output = status(&server.grpc.replace("http:", &format!("{scheme}:")), &flags).await;
        assert_eq!(output.status.code(), Some(code), "{words}: {}", said(&output));
        assert!(said(&output).contains(words), "{words}: {}", said(&output));
        server.terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_systems_authorities_are_trusted_where_none_is_named() {
    let (home, ours) = (Home::new(), Authority::new("ours"));
    let ca = ours.file(&home, "ca.pem");
    let good = ours.sign(&home, "good", NAMES, Validity::Now);
    let server = Server::start(&home, &good.served(Settings::default())).await;
    let url = server.grpc.replace("http:", "https:");
    for (system, code) in [(&ca, 0), (&Authority::new("x").file(&home, "x.pem"), 69)] {
        let mut command = program();
        command.env_remove("SSL_CERT_DIR").env("SSL_CERT_FILE", system);
        let output = command.args(["status", "--server", &url]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    }
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_certificates_takes_those_of_its_authority_only() {
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let home = Home::new();
    let (ca, clients_ca) = (ours.file(&home, "ca.pem"), Authority::new("clients"));
    let clients_file = clients_ca.file(&home, "clients.pem");
    let served = ours.sign(&home, "server", NAMES, Validity::Now);
    let named = &["meter-7.example.org"][..];
    let good = clients_ca.sign(&home, "good", named, Validity::Now);
    let expired = clients_ca.sign(&home, "expired", named, Validity::Past);
    let stranger = foreign.sign(&home, "stranger", named, Validity::Now);
    for (demand, rows) in [
        (
            "required",
            [
                (Some(&good), 0, ""),
                (None, 77, "the server asks for a client certificate; give --cert FILE"),
                (Some(&stranger), 77, "the server refuses the certificate of --cert"),
                (Some(&expired), 77, "refuses the certificate of --cert: it has expired"),
            ],
        ),
        (
            "optional",
            [
                (Some(&good), 0, ""),
                (None, 0, ""),
                (Some(&stranger), 77, "the server refuses the certificate of --cert"),
                (Some(&expired), 77, "refuses the certificate of --cert: it has expired"),
            ],
        ),
    ] {
        let settings = served
            .served(Settings::default())
            .with("PULSO_LISTEN__TLS_CLIENT_CA", text(&clients_file))
            .with("PULSO_LISTEN__TLS_CLIENT_AUTH", demand);
        let server = Server::start(&home, &settings).await;
        let url = server.grpc.replace("http:", "https:");
        for (shown, code, words) in rows {
            let mut flags = vec!["--ca".to_owned(), text(&ca)];
            flags.extend(shown.map(Identity::shown).into_iter().flatten());
            let output = status(&url, &flags).await;
            assert_eq!(output.status.code(), Some(code), "{demand} {words}: {}", said(&output));
            assert!(said(&output).contains(words), "{demand} {words}: {}", said(&output));
        }
        server.terminate().await;
    }
}

#[test]
fn a_start_without_usable_files_names_the_setting_and_exits_with_78() {
    let (home, ours) = (Home::new(), Authority::new("ours"));
    let good = ours.sign(&home, "good", NAMES, Validity::Now);
    let other = ours.sign(&home, "other", NAMES, Validity::Now);
    let (cert, key) = ("PULSO_LISTEN__TLS_CERT", "PULSO_LISTEN__TLS_KEY");
    let (certificate, right, wrong) = (text(&good.certificate), text(&good.key), text(&other.key));
    for (variables, words) in [
        (vec![(cert, &certificate)], "listen.tls_cert has to have its key"),
        (vec![(key, &right)], "listen.tls_key has to have its certificate"),
        (vec![("PULSO_LISTEN__TLS_CLIENT_CA", &certificate)], "under TLS only"),
        (vec![(cert, &certificate), (key, &wrong)], "listen.tls_key = `"),
        (vec![(cert, &certificate), (key, &wrong)], "is not that of the first certificate"),
        (vec![(cert, &right), (key, &right)], "listen.tls_cert = `"),
        (vec![(cert, &"/nowhere".to_owned()), (key, &right)], "cannot be read"),
    ] {
        for arguments in [&["dev"][..], &["config", "check"]] {
            let mut command = home.command(arguments);
            let listen = ["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
            let output = command.args(listen).envs(variables.clone()).output().unwrap();
            assert_eq!(output.status.code(), Some(78), "{arguments:?} {words}");
            assert!(said(&output).contains(words), "{words}: {}", said(&output));
        }
    }
}

#[test]
fn a_build_without_tls_to_servers_says_so_before_anything_is_asked_of_them() {
    let home = Home::new();
    let kafka = ("PULSO_LOG__URL", "kafka://127.0.0.1:1");
    let cql = ("PULSO_STORE__URL", "scylla://127.0.0.1:1?keyspace=pulso&replication=1");
    for (has, variables, words) in [
        (
            storage::kafka::HAS_TLS,
            &[kafka, cql, ("PULSO_KAFKA__SECURITY_PROTOCOL", "ssl")][..],
            "build it with --features storage/kafka-tls",
        ),
        (
            storage::scylla::HAS_TLS,
            &[cql, ("PULSO_SCYLLA__TLS", "on")],
            "build it with --features storage/scylla-tls",
        ),
    ] {
        if has {
            continue;
        }
        for arguments in [&["config", "check"][..], &["serve", "--stage", "ingest"]] {
            let output = home.command(arguments).envs(variables.iter().copied()).output().unwrap();
            assert_eq!(output.status.code(), Some(78), "{}", said(&output));
            assert!(said(&output).contains(words), "{}", said(&output));
        }
    }
}

fn connector(ca: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// One request under TLS: what is answered, and the certificate that the server showed.
async fn https_get(address: &str, ca: &Path, path: &str) -> (String, CertificateDer<'static>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector(ca).connect(name, stream).await.unwrap();
    let token = access::token();
    let request =
        format!("GET {path} HTTP/1.0\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
    (answer, shown)
}

fn certificate_in(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// Asks until new connections get this certificate and readiness says so.
async fn until_served(server: &Server, ca: &Path, certificate: &CertificateDer<'_>, says: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (answer, shown) = https_get(&server.http, ca, "/readyz?verbose").await;
        if shown == *certificate && answer.contains(says) {
            assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
            return;
        }
        assert!(Instant::now() < deadline, "waited in vain for `{says}`: {answer}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_replaced_under_load_and_no_connection_ends() {
    let (home, ours) = (Home::new(), Authority::new("ours"));
    let ca = ours.file(&home, "ca.pem");
    let served = ours.sign(&home, "server", NAMES, Validity::Now);
    for (interval, by_signal) in [("1h", true), ("100ms", false)] {
        let settings =
            served.served(Settings::default()).with("PULSO_LISTEN__TLS_RELOAD_INTERVAL", interval);
        let server = Server::start(&home, &settings).await.trusting(ca.clone());
        let honest = Honest::start(&server).await;
        let tell = || {
            if by_signal {
                server.signal(libc::SIGHUP);
            }
        };
        for _ in 0..3 {
            let before = certificate_in(&served.certificate);
            ours.sign(&home, "server", NAMES, Validity::Now);
            let after = certificate_in(&served.certificate);
            assert_ne!(before, after);
            tell();
            until_served(&server, &ca, &after, "[+]tls ok").await;
        }
        // Half a pair, and then none at all: the certificate stays, readiness and log say why.
        let (kept, key) = (certificate_in(&served.certificate), fs::read(&served.key).unwrap());
        fs::write(&served.key, "nothing").unwrap();
        tell();
        until_served(&server, &ca, &kept, "[~]tls degraded: listen.tls_key = `").await;
        fs::remove_file(&served.certificate).unwrap();
        tell();
        until_served(&server, &ca, &kept, "[~]tls degraded: listen.tls_cert = `").await;
        assert!(server.log().contains("the files of TLS have changed and cannot be used"));
        let acked = honest.acked();
        let next = ours.sign(&home, "server", NAMES, Validity::Now);
        tell();
        until_served(&server, &ca, &certificate_in(&next.certificate), "[+]tls ok").await;
        assert_ne!(fs::read(&next.key).unwrap(), key);
        // Its one stream, begun under the first certificate, goes on.
        crate::harness::until("the honest client goes on", || honest.acked() > acked).await;
        honest.all_is_counted(&server).await;
        let (metrics, _) = https_get(&server.http, &ca, "/metrics").await;
        let expiry = metrics
            .lines()
            .find_map(|line| line.strip_prefix("pulso_tls_certificate_expiry_seconds "));
        assert!(expiry.unwrap().parse::<f64>().unwrap() > 1e9, "{expiry:?}");
        assert!(metrics.contains("pulso_edge_handshakes_total{outcome=\"completed\"}"));
        server.terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_serves_and_is_degraded() {
    let (home, ours) = (Home::new(), Authority::new("ours"));
    let expired = ours.sign(&home, "expired", NAMES, Validity::Past);
    let server = Server::start(&home, &expired.served(Settings::default())).await;
    let words = "a certificate expired at 2021-01-01T00:00:00Z";
    crate::harness::until("the log says that it expired", || server.log().contains(words)).await;
    server.terminate().await;
}

async fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_half_open_handshakes_hold_up_no_honest_client() {
    let (home, ours) = (Home::new(), Authority::new("ours"));
    let ca = ours.file(&home, "ca.pem");
    let served = ours.sign(&home, "server", NAMES, Validity::Now);
    let settings = served.served(Settings::default()).with("PULSO_EDGE__FIRST_BYTE_TIMEOUT", "3s");
    let server = Server::start(&home, &settings).await.trusting(ca.clone());
    let honest = Honest::start(&server).await;
    let grpc: SocketAddr = server.grpc.trim_start_matches("https://").parse().unwrap();
    let http: SocketAddr = server.http.parse().unwrap();
    // A record that says it has 512 bytes, and some of them; or its first byte; or nothing at all.
    let hello = [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let mut open = Vec::new();
    for number in 0..200_u8 {
        let door = if number % 2 == 0 { grpc } else { http };
        let mut stream = connect_from(2 + number % 4, door).await;
        let begun = [&hello[..], &hello[..1], &[]][usize::from(number % 3)];
        stream.write_all(begun).await.unwrap();
        open.push(stream);
    }
    let acked = honest.acked();
    // New connections of both doors get through meanwhile.
    for _ in 0..5 {
        let (answer, _) = https_get(&server.http, &ca, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
        assert_eq!(server.pulso(&["status"]).await.status.code(), Some(0));
    }
    crate::harness::until("the honest client goes on", || honest.acked() >= acked + 10).await;
    for stream in &mut open {
        let read = timeout(PATIENCE, stream.read(&mut [0])).await.expect("it is not cut");
        assert!(!matches!(read, Ok(1)), "{read:?}");
    }
    // Each is counted just after it was cut.
    let (deadline, timed_out) = (Instant::now() + PATIENCE, "{outcome=\"timed_out\"} 200");
    loop {
        let (metrics, _) = https_get(&server.http, &ca, "/metrics").await;
        if metrics.contains(&format!("pulso_edge_handshakes_total{timed_out}")) {
            break;
        }
        assert!(Instant::now() < deadline, "{metrics}");
    }
    honest.all_is_counted(&server).await;
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_on_the_http_port_is_answered_with_words() {
    let (home, ours) = (Home::new(), Authority::new("ours"));
    let served = ours.sign(&home, "server", NAMES, Validity::Now);
    let server = Server::start(&home, &served.served(Settings::default())).await;
    let (status, body) = http_get(&server.http, "/readyz").await;
    assert_eq!(status, 400);
    let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(problem["reason"], "TLS_REQUIRED", "{body}");
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_comes_with_every_call_and_is_printed_by_none() {
    let (seen, mut keys) = tokio::sync::mpsc::channel(8);
    let (_reporter, health) = tonic_health::server::health_reporter();
    let record = move |request: tonic::Request<()>| {
        let key =
            request.metadata().get("authorization").map(|key| key.to_str().unwrap().to_owned());
        seen.try_send(key).unwrap();
        Ok(request)
    };
    let health = tonic::service::interceptor::InterceptedService::new(health, record);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = tonic::transport::Server::builder().add_service(health);
    let serving = tokio::spawn(server.serve_with_incoming(incoming));
    for (key, expected) in [(Some("hunter2-secret"), Some("Bearer hunter2-secret")), (None, None)] {
        let key = key.map(|key| key.parse().unwrap());
        let channel = client::connect(Target { key, ..Target::from(&url) }).await.unwrap();
        let mut client = HealthClient::new(channel);
        for _ in 0..2 {
            client.check(HealthCheckRequest::default()).await.unwrap();
            assert_eq!(keys.recv().await.unwrap().as_deref(), expected);
        }
    }
    serving.abort();
    let home = Home::new();
    fs::write(home.path("key"), "hunter2-secret\n").unwrap();
    for (variables, arguments) in [
        (vec![("PULSO_KEY", "hunter2-secret".to_owned())], &["status"][..]),
        (vec![("PULSO_KEY", "hunter2-secret".to_owned())], &["status", "--help"]),
        (vec![("PULSO_KEY", "hunter2-secret\n".to_owned())], &["status"]),
        (vec![("PULSO_KEY_FILE", text(&home.path("key")))], &["status"]),
        (vec![("PULSO_KEY_FILE", text(&home.path("key")))], &["status", "--key", "hunter2-secret"]),
        (vec![("PULSO_KEY", "hunter2-secret".to_owned())], &["config", "show"]),
    ] {
        let mut command = home.command(arguments);
        let output =
            command.args(["--server", "http://127.0.0.1:1"]).envs(variables).output().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        assert!(!String::from_utf8_lossy(&printed).contains("hunter2"), "{arguments:?}");
    }
}
