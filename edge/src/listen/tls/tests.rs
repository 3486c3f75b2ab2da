//! Files that cannot be used, names in certificates, and handshakes that come to something or nothing.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, SanType,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{PrivateKeyDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::{Layer, ServiceExt};

use super::{files::FILE_BYTES_MAX, handshake::HANDSHAKE_BYTES_MAX, *};
use crate::listen::{
    Connection, EdgeLimits, Gate, Listener, Origin, OriginLayer, Peer, calls::Calls, http::HttpDoor,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// An authority that signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn sign(&self, params: &CertificateParams) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn server(&self) -> (Certificate, KeyPair) {
        self.sign(&CertificateParams::new(["localhost".to_owned()]).unwrap())
    }

    fn client(&self, names: Vec<SanType>, common_name: &str) -> (Certificate, KeyPair) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

/// Files in a directory, of a server of this authority.
fn written(directory: &Path, authority: &Authority) -> TlsFiles {
    let files = TlsFiles {
        certificate: directory.join("server.pem"),
        key: directory.join("server.key"),
        clients: None,
    };
    write(&files, &authority.server());
    files
}

fn write(files: &TlsFiles, (certificate, key): &(Certificate, KeyPair)) {
    fs::write(&files.certificate, certificate.pem()).unwrap();
    fs::write(&files.key, key.serialize_pem()).unwrap();
}

fn with_clients(mut files: TlsFiles, authority: &Authority, demand: ClientCertificate) -> TlsFiles {
    let file = files.certificate.with_file_name("clients.pem");
    fs::write(&file, authority.certificate.pem()).unwrap();
    files.clients = Some(ClientAuthorities { file, demand });
    files
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_what_is_wrong() {
    let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let good = with_clients(
        written(directory.path(), &authority),
        &authority,
        ClientCertificate::Required,
    );
    Tls::load(good.clone()).unwrap();
    let other_key = KeyPair::generate().unwrap().serialize_pem();
    let key = fs::read_to_string(&good.key).unwrap();
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let too_large = "x".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1);
    let not_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let broken = "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n";
    let clients = good.clients.clone().unwrap().file;
    for (part, file, text, problem) in [
        (Part::Certificate, &good.certificate, Some("hello"), "no certificate in PEM"),
        (Part::Certificate, &good.certificate, Some(&too_large), "more than 1048576 bytes"),
        (Part::Certificate, &good.certificate, Some(not_der), "cannot be used"),
        (Part::Certificate, &good.certificate, Some(broken), "is no PEM file"),
        (Part::Certificate, &good.certificate, None, "cannot be read: No such file"),
        (Part::Key, &good.key, Some("hello"), "no private key in PEM"),
        (Part::Key, &good.key, Some(&encrypted), "the key is encrypted"),
        (Part::Key, &good.key, Some(&other_key), "is not that of the first certificate"),
        (Part::ClientCa, &clients, Some(""), "no certificate in PEM"),
        (Part::ClientCa, &clients, Some(not_der), "is no authority"),
    ] {
        let kept = fs::read(file).unwrap();
        match text {
            Some(text) => fs::write(file, text).unwrap(),
            None => fs::remove_file(file).unwrap(),
        }
        let error = Tls::load(good.clone()).unwrap_err();
        assert_eq!((error.part, &error.path), (part, file));
        assert!(error.to_string().contains(problem), "{problem}: {error}");
        fs::write(file, kept).unwrap();
    }
    // At the bound, a file is read.
    let pem = fs::read_to_string(&good.certificate).unwrap();
    let filler = "#".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() - pem.len() - 1);
    fs::write(&good.certificate, format!("{filler}\n{pem}")).unwrap();
    Tls::load(good).unwrap();
}

#[test]
fn a_reload_takes_whole_pairs_only_and_keeps_what_is_in_use() {
    let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = written(directory.path(), &authority);
    let tls = Tls::load(files.clone()).unwrap();
    assert_eq!(tls.reload().unwrap(), Reloaded::Unchanged);
    let (before, next) = (tls.config(Protocols::Http), authority.server());
    // Whoever replaces two files replaces one first.
    fs::write(&files.certificate, next.0.pem()).unwrap();
    assert_eq!(tls.reload().unwrap_err().part, Part::Key);
    assert!(Arc::ptr_eq(&before, &tls.config(Protocols::Http)));
    write(&files, &next);
    assert_eq!(tls.reload().unwrap(), Reloaded::Changed);
    assert!(!Arc::ptr_eq(&before, &tls.clone().config(Protocols::Http)), "clones share it");
    assert_eq!(tls.reload().unwrap(), Reloaded::Unchanged);
    // Of a certificate without dates of its own.
    let end = rcgen::date_time_ymd(4096, 1, 1).unix_timestamp();
    assert_eq!(tls.expires_at(), Timestamp::from_parts(end, 0));
}

#[test]
fn names_are_those_of_the_certificate_within_bounds() {
    let authority = Authority::new();
    let names = |san: Vec<SanType>, common_name: &str| -> Vec<String> {
        let (certificate, _) = authority.client(san, common_name);
        TlsPeer::of(certificate.der()).names().iter().map(PeerName::to_string).collect()
    };
    let spiffe = "spiffe://example.org/ingest";
    assert_eq!(
        names(vec![uri(spiffe), dns("a.example.org")], "someone"),
        [format!("uri:{spiffe}"), "dns:a.example.org".to_owned()]
    );
    assert_eq!(names(vec![], "meter 7"), ["cn:meter 7"]);
    assert_eq!(names(vec![], spiffe), [format!("cn:{spiffe}")], "is no URI");
    let address = SanType::IpAddress([127, 0, 0, 1].into());
    assert_eq!(names(vec![address], "by address"), ["cn:by address"]);
    assert_eq!(names(vec![], "two\nlines"), [""; 0]);
    let long = |bytes: usize| format!("u:{}", "x".repeat(bytes - 2));
    assert_eq!(names(vec![uri(&long(256))], ""), [format!("uri:{}", long(256))]);
    assert_eq!(names(vec![uri(&long(257)), dns("a")], "someone"), ["dns:a"]);
    assert_eq!(names(vec![uri(&long(257))], "someone"), [""; 0], "no other name instead");
    let many: Vec<SanType> = (0..17).map(|number| dns(&format!("host-{number}"))).collect();
    let read = names(many, "");
    assert_eq!((read.len(), read[15].as_str()), (16, "dns:host-15"));
    let unreadable = TlsPeer::of(&vec![1, 2, 3].into());
    assert_eq!((unreadable.names(), unreadable.expires_at()), (&[][..], None));
    let end = rcgen::date_time_ymd(4096, 1, 1).unix_timestamp();
    let read = TlsPeer::of(authority.client(vec![], "someone").0.der());
    assert_eq!(read.expires_at(), Timestamp::from_parts(end, 0));
}

#[test]
fn a_name_is_read_as_it_is_printed() {
    for text in ["uri:spiffe://example.org/a", "dns:a.example.org", "cn:a, b: c", "cn:*"] {
        assert_eq!(text.parse::<PeerName>().unwrap().to_string(), text);
    }
    for (text, problem) in [
        ("", PeerNameError::Kind),
        ("a.example.org", PeerNameError::Kind),
        ("DNS:a.example.org", PeerNameError::Kind),
        ("dns:", PeerNameError::NotPlain),
        ("cn:two\nlines", PeerNameError::NotPlain),
        (&format!("dns:{}", "x".repeat(257)), PeerNameError::NotPlain),
        ("dns:*.example.org", PeerNameError::Pattern),
        ("uri:spiffe://example.org/*", PeerNameError::Pattern),
    ] {
        assert_eq!(text.parse::<PeerName>(), Err(problem), "{text}");
    }
}

/// A listener of a door, which gives out connections.
async fn listener(
    files: TlsFiles,
    protocols: Protocols,
    limits: &EdgeLimits,
) -> (Listener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let tls = Tls::load(files).unwrap();
    (Listener::new(socket, &Gate::new(limits)).under_tls(tls, protocols), address)
}

fn connector(
    authority: &Authority,
    identity: Option<(Certificate, KeyPair)>,
    alpn: &[&[u8]],
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
            builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
        }
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

async fn connect(
    connector: &TlsConnector,
    address: SocketAddr,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.unwrap();
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await
}

async fn accept(listener: &mut Listener) -> Connection {
    timeout(PATIENCE, listener.accept()).await.expect("no connection comes")
}

#[tokio::test]
async fn a_door_negotiates_what_it_speaks_and_carries_bytes_both_ways() {
    let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = written(directory.path(), &authority);
    let (h2, http1): (&[u8], &[u8]) = (b"h2", b"http/1.1");
    for (protocols, offered, agreed) in [
        (Protocols::Http2, &[h2, http1][..], Some(Some(h2))),
        (Protocols::Http2, &[], Some(None)),
        (Protocols::Http2, &[http1], None),
        (Protocols::Http, &[http1, h2], Some(Some(h2))),
        (Protocols::Http, &[http1], Some(Some(http1))),
    ] {
        let (mut listener, address) =
            listener(files.clone(), protocols, &EdgeLimits::default()).await;
        let connector = connector(&authority, None, offered);
        let serving = async {
            let mut connection = accept(&mut listener).await;
            assert!(connection.origin().tls.is_none());
            let mut bytes = [0; 4];
            connection.read_exact(&mut bytes).await.unwrap();
            connection.write_all(&bytes).await.unwrap();
            connection.flush().await.unwrap();
        };
        let asking = async {
            let mut stream = connect(&connector, address).await?;
            stream.write_all(b"GET ").await.unwrap();
            stream.read_exact(&mut [0; 4]).await.unwrap();
            Ok::<_, std::io::Error>(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
        };
        let found = tokio::select! {
            found = async { tokio::join!(serving, asking).1 } => found.unwrap(),
            refused = connect(&connector, address), if agreed.is_none() => {
                assert!(refused.unwrap_err().to_string().contains("NoApplicationProtocol"));
                continue;
            }
        };
        assert_eq!(Some(found.as_deref()), agreed, "{protocols:?} {offered:?}");
    }
}

#[tokio::test]
async fn a_clients_certificate_gives_its_names_and_a_foreign_one_or_none_is_refused() {
    use ClientCertificate::{Optional, Required};
    let (server, clients, foreign) = (Authority::new(), Authority::new(), Authority::new());
    let identity = |of: &Authority| Some(of.client(vec![dns("meter-7")], "someone"));
    for (demand, identity, names) in [
        (Required, identity(&clients), Some(Some("dns:meter-7"))),
        (Required, None, None),
        (Required, identity(&foreign), None),
        (Optional, identity(&clients), Some(Some("dns:meter-7"))),
        (Optional, None, Some(None)),
        (Optional, identity(&foreign), None),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let files = with_clients(written(directory.path(), &server), &clients, demand);
        let (mut listener, address) =
            listener(files, Protocols::Http2, &EdgeLimits::default()).await;
        let connector = connector(&server, identity, &[]);
        // With TLS 1.3 a client learns at its first read that its certificate was refused.
        let asking = async {
            let mut stream = connect(&connector, address).await?;
            stream.read_exact(&mut [0]).await
        };
        let serving = async {
            let mut connection = listener.accept().await;
            connection.write_all(b"x").await.unwrap();
            connection.flush().await.unwrap();
            connection.origin().tls.as_ref().map(|tls| tls.names()[0].to_string())
        };
        tokio::pin!(asking, serving);
        let found = tokio::select! {
            found = &mut serving => { asking.await.unwrap(); Some(found) },
            refused = &mut asking => { refused.unwrap_err(); None }
        };
        assert_eq!(found, names.map(|name| name.map(str::to_owned)), "{demand:?}");
    }
}

#[tokio::test]
async fn a_client_that_speaks_plain_text_is_told_in_its_protocol() {
    let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = written(directory.path(), &authority);
    let (mut listener, address) = listener(files, Protocols::Http, &EdgeLimits::default()).await;
    let accepting = tokio::spawn(async move { listener.accept().await });
    for (sent, expected) in [
        (&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], &b"HTTP/1.1 400 Bad Request\r\n"[..]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 47, 7]),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with(expected), "{answer:?}");
        assert!(String::from_utf8_lossy(&answer).contains(plain::TLS_ONLY));
    }
    assert!(!accepting.is_finished(), "nobody else sees them");
    accepting.abort();
}

#[tokio::test]
async fn a_client_that_speaks_tls_to_a_plain_port_is_cut_with_an_answer_that_is_no_tls() {
    let (socket, authority) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Authority::new());
    let address = socket.local_addr().unwrap();
    let mut listener = Listener::new(socket, &Gate::new(&EdgeLimits::default()));
    let serving = tokio::spawn(async move { listener.accept().await.read(&mut [0; 8192]).await });
    let refused = connect(&connector(&authority, None, &[]), address).await.unwrap_err();
    assert!(refused.to_string().contains("InvalidContentType"), "{refused}");
    assert_eq!(serving.await.unwrap().unwrap_err().to_string(), "tls_on_plain");
}

#[tokio::test]
async fn handshakes_that_stall_hold_up_nobody_and_end_with_their_time() {
    let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = written(directory.path(), &authority);
    let limits =
        EdgeLimits { first_byte_timeout: Duration::from_millis(500), ..EdgeLimits::default() };
    let (mut listener, address) = listener(files, Protocols::Http, &limits).await;
    let mut stalled = Vec::new();
    for number in 0..20_u8 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Silent, in the middle of a record's header, in the middle of a record.
        let begun = &[22, 3, 1, 0, 200, 1, 0][..usize::from(number % 3) * 3];
        stream.write_all(begun).await.unwrap();
        stalled.push(stream);
    }
    let connector = connector(&authority, None, &[]);
    let (_connection, honest) = tokio::join!(accept(&mut listener), connect(&connector, address));
    honest.unwrap();
    let ending = async {
        for stream in &mut stalled {
            let read = timeout(PATIENCE, stream.read(&mut [0])).await.expect("it is not cut");
            assert!(!matches!(read, Ok(1)), "{read:?}");
        }
    };
    tokio::select! {
        () = ending => {}
        _ = listener.accept() => panic!("a stalled handshake came to something"),
    }
}

#[tokio::test]
async fn a_handshake_of_too_many_bytes_is_cut_before_its_time() {
    let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = written(directory.path(), &authority);
    let (mut listener, address) = listener(files, Protocols::Http, &EdgeLimits::default()).await;
    let accepting = tokio::spawn(async move { listener.accept().await });
    let mut stream = TcpStream::connect(address).await.unwrap();
    let sending = async {
        // A hello that says it has 65,535 bytes, in records of 16 KiB, and then more of them.
        let mut record = vec![22, 3, 1, 0x40, 0];
        record.extend([1, 0, 0xff, 0xff, 3, 3]);
        record.resize(5 + 0x4000, 0);
        for number in 0..=2 * HANDSHAKE_BYTES_MAX / record.len() {
            stream.write_all(&record).await?;
            if number == 0 {
                record.truncate(5);
                record.resize(5 + 0x4000, 0);
            }
        }
        loop {
            if stream.read(&mut [0; 1024]).await? == 0 {
                return Ok::<_, std::io::Error>(());
            }
        }
    };
    // Cut by a reset or by an end.
    let _ = timeout(Duration::from_secs(5), sending).await.expect("it is not cut");
    assert!(!accepting.is_finished());
    accepting.abort();
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_what_is_written_is_cut_under_tls_as_well() {
    let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = written(directory.path(), &authority);
    let limits = EdgeLimits { write_timeout: Duration::from_millis(200), ..EdgeLimits::default() };
    let (mut listener, address) = listener(files, Protocols::Http, &limits).await;
    let connector = connector(&authority, None, &[]);
    let (mut connection, client) =
        tokio::join!(accept(&mut listener), connect(&connector, address));
    let _client = client.unwrap();
    // As an HTTP library does: what is written is kept, and only flushed from then on.
    connection.write_all(&vec![0; 1 << 10]).await.unwrap();
    let written = timeout(PATIENCE, async {
        loop {
            if let Err(error) = connection.write_all(&vec![0; 1 << 20]).await {
                return error;
            }
            if let Err(error) = connection.flush().await {
                return error;
            }
        }
    });
    assert_eq!(written.await.expect("it hangs").kind(), std::io::ErrorKind::TimedOut);
}

/// What a door has left with a request.
fn found(request: &http::Request<axum::body::Body>) -> String {
    let tls = request.extensions().get::<TlsPeer>();
    let names = tls.map(|tls| tls.names().iter().map(PeerName::to_string).collect::<Vec<_>>());
    let has_peer = request.extensions().get::<Peer>().is_some();
    format!("{has_peer} {names:?}")
}

#[tokio::test]
async fn requests_of_the_http_door_carry_the_names_of_a_certificate_that_was_shown() {
    let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = with_clients(
        written(directory.path(), &authority),
        &authority,
        ClientCertificate::Optional,
    );
    let limits = EdgeLimits::default();
    let (listener, address) = listener(files, Protocols::Http, &limits).await;
    let router = axum::Router::new()
        .fallback(|request: http::Request<axum::body::Body>| async move { found(&request) });
    let door = HttpDoor::new(router, Calls::new(&limits), 1 << 20);
    let serving = tokio::spawn(door.serve(listener, runtime::Shutdown::new()));
    let shown = authority.client(vec![uri("spiffe://example.org/a"), dns("a")], "someone");
    for (identity, expected) in [
        (Some(shown), r#"true Some(["uri:spiffe://example.org/a", "dns:a"])"#),
        (None, "true None"),
    ] {
        let connector = connector(&authority, identity, &[]);
        let mut stream = connect(&connector, address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.ends_with(expected), "{answer}");
    }
    serving.abort();
}

#[tokio::test]
async fn the_layer_of_the_grpc_door_unpacks_what_a_connection_is() {
    let (certificate, _) = Authority::new().client(vec![dns("a")], "");
    let peer = Peer::of([127, 0, 0, 1].into());
    for (tls, expected) in
        [(Some(TlsPeer::of(certificate.der())), r#"true Some(["dns:a"])"#), (None, "true None")]
    {
        let seen = tower::service_fn(|request: http::Request<axum::body::Body>| async move {
            Ok::<_, std::convert::Infallible>(found(&request))
        });
        let mut request = http::Request::new(axum::body::Body::empty());
        request.extensions_mut().insert(Origin { peer, tls });
        let answer = OriginLayer.layer(seen).oneshot(request).await;
        assert_eq!(answer.unwrap(), expected);
    }
}

proptest::proptest! {
    /// An authority signs what it is given, so what it signed is still foreign.
    #[test]
    fn whatever_a_certificate_holds_its_names_stay_within_bounds(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..512),
        changes in proptest::collection::vec(proptest::prelude::any::<(u16, u8)>(), 0..6),
    ) {
        thread_local! {
            static WHOLE: Vec<u8> = {
                let names = vec![uri("spiffe://example.org/a"), dns("a.example.org")];
                Authority::new().client(names, "someone").0.der().to_vec()
            };
        }
        let mut changed = WHOLE.with(Vec::clone);
        for (place, byte) in changes {
            let place = usize::from(place) % changed.len();
            changed[place] = byte;
        }
        for certificate in [bytes, changed] {
            let _ = peer::expires_at(&certificate.as_slice().into());
            let peer = TlsPeer::of(&certificate.into());
            proptest::prop_assert!(peer.names().len() <= 16);
            for name in peer.names() {
                let name = name.as_str();
                proptest::prop_assert!((1..=256).contains(&name.len()), "{name:?}");
                proptest::prop_assert!(!name.chars().any(char::is_control), "{name:?}");
            }
        }
    }
}
