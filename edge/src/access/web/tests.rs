//! Answers that are used, and those that are not: too long, too slow, from elsewhere, of nobody trusted.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::access::samples::{Script, Site};

fn client(patience: Patience) -> Client {
    Client::new(None, patience).unwrap()
}

async fn get(script: Script, bytes_max: usize) -> Result<Vec<u8>, FetchError> {
    let site = Site::plain(script).await;
    let address = Address::parse(&site.url("/keys")).unwrap();
    client(Patience::default()).get(&address, bytes_max).await
}

#[tokio::test]
async fn an_answer_is_read_up_to_its_bound_whatever_it_says_of_its_length() {
    let chunked =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{  \r\n2\r\n }\r\n0\r\n\r\n";
    let to_the_end = "HTTP/1.1 200 OK\r\n\r\n{   }";
    for script in [Script::answer("200 OK", "{   }"), Script::raw(chunked), Script::raw(to_the_end)]
    {
        assert_eq!(get(script.clone(), 5).await.unwrap(), b"{   }", "{script:?}");
        let refused = FetchError::Wrong("its answer has more than 4 bytes".to_owned());
        assert_eq!(get(script, 4).await, Err(refused));
    }
    // One that never ends is left at the bound too.
    let mut endless = Script::raw("HTTP/1.1 200 OK\r\n\r\n");
    endless.pieces.extend((0..10_000).map(|_| vec![b' '; 10_000]));
    assert!(matches!(get(endless, 100_000).await, Err(FetchError::Wrong(_))));
}

#[tokio::test]
async fn what_is_no_answer_is_told_apart_by_whether_another_try_may_get_one() {
    let away = |words: &str| Err(FetchError::Away(words.to_owned()));
    let wrong = |words: &str| Err(FetchError::Wrong(words.to_owned()));
    let moved = "HTTP/1.1 302 Found\r\nlocation: http://evil.example/jwks\r\n\r\n";
    let target = "it redirects to `http://evil.example/jwks`, and redirects are not followed";
    for (script, expected) in [
        (Script::answer("404 Not Found", ""), wrong("it answers 404 Not Found")),
        (Script::answer("204 No Content", ""), wrong("it answers 204 No Content")),
        (Script::answer("503 Service Unavailable", ""), away("it answers 503 Service Unavailable")),
        (Script::answer("429 Too Many Requests", ""), away("it answers 429 Too Many Requests")),
        (Script::raw(moved), wrong(target)),
    ] {
        assert_eq!(get(script.clone(), 9).await, expected, "{script:?}");
    }
    for garbage in [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec(),
        [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'x'; HEAD_BYTES_MAX]].concat(),
        [b"HTTP/1.1 200 OK\r\n".to_vec(), b"x: y\r\n".repeat(HEADERS_MAX + 1)].concat(),
    ] {
        let got = get(Script::raw(garbage), 9).await;
        assert!(
            matches!(&got, Err(FetchError::Wrong(words)) if words.contains("no HTTP")),
            "{got:?}"
        );
    }
    for cut in [b"".to_vec(), b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec()] {
        let got = get(Script::raw(cut), 9).await;
        assert!(matches!(got, Err(FetchError::Away(_))), "{got:?}");
    }
    let port = Site::plain(Script::default()).await.port;
    let nobody = Address::parse(&format!("http://127.0.0.1:{port}/")).unwrap();
    let got = client(Patience::default()).get(&nobody, 9).await;
    assert!(matches!(got, Err(FetchError::Away(_))), "{got:?}");
}

#[tokio::test]
async fn a_slow_answer_is_given_up_however_little_by_little_it_comes() {
    let whole = Duration::from_millis(300);
    let patience = Patience { connect: whole / 3, whole };
    let drip = Script {
        pieces: b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n".map(|byte| vec![byte]).to_vec(),
        pause: Duration::from_millis(20),
    };
    let site = Site::plain(drip).await;
    let begun = std::time::Instant::now();
    let got = client(patience).get(&Address::parse(&site.url("/")).unwrap(), 999).await;
    let late = "the answer was not complete within 300ms";
    assert_eq!(got, Err(FetchError::Away(late.to_owned())));
    assert!(begun.elapsed() < Duration::from_secs(5));
    // It waits for a hello that is no head of a request.
    let secure = Address::parse(&format!("https://127.0.0.1:{}/", site.port)).unwrap();
    let got = client(patience).get(&secure, 9).await;
    assert_eq!(got, Err(FetchError::Away("no connection within 100ms".to_owned())));
}

/// A server's certificate for `127.0.0.1`, and the file of its authority.
fn certified(directory: &Path) -> (TlsAcceptor, std::path::PathBuf) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    let authority = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let server = server.signed_by(&key, &authority).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![server.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let file = directory.join("ca.pem");
    fs::write(&file, ca.pem()).unwrap();
    (TlsAcceptor::from(Arc::new(config)), file)
}

#[tokio::test]
async fn a_server_is_trusted_by_the_authorities_of_the_file_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, ca) = certified(directory.path());
    let site = Site::start(Script::answer("200 OK", "{}"), Some(tls)).await;
    let address = Address::parse(&format!("https://127.0.0.1:{}/keys", site.port)).unwrap();
    let named = Address::parse(&format!("https://localhost:{}/keys", site.port)).unwrap();
    let trusting = Client::new(Some(&ca), Patience::default()).unwrap();
    assert_eq!(trusting.get(&address, 9).await.unwrap(), b"{}");
    let misnamed = trusting.get(&named, 9).await.unwrap_err().to_string();
    assert!(misnamed.starts_with("TLS failed: ") && misnamed.contains("localhost"), "{misnamed}");
    let distrust = client(Patience::default()).get(&address, 9).await.unwrap_err();
    assert!(
        matches!(&distrust, FetchError::Away(words) if words.contains("access.issuer_ca_file"))
    );
    assert_eq!(site.asked(), 1, "nothing is sent to a server that is not trusted");
    // Plain text where TLS was asked for.
    let plain = Site::plain(Script::answer("200 OK", "{}")).await;
    let address = Address::parse(&format!("https://127.0.0.1:{}/keys", plain.port)).unwrap();
    assert!(trusting.get(&address, 9).await.is_err());
}

#[test]
fn a_file_without_authorities_says_what_it_needs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    let problem = || Client::new(Some(&path), Patience::default()).unwrap_err().to_string();
    assert!(problem().contains("ca.pem cannot be read"), "{}", problem());
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let long = " ".repeat(usize::try_from(CA_BYTES_MAX).unwrap() + 1);
    for (content, why) in
        [("", "needs certificates in PEM"), (broken, "no authority"), (&long, "more than 1048576")]
    {
        fs::write(&path, content).unwrap();
        assert!(problem().contains(why), "{}", problem());
    }
}

#[tokio::test]
async fn a_form_comes_with_its_credential_and_a_refusal_is_an_answer() {
    let site = Site::plain(Script::answer("400 Bad Request", r#"{"error":"invalid_grant"}"#)).await;
    let address = Address::parse(&site.url("/token")).unwrap();
    let credential = Some(HeaderValue::from_static("Basic YTpi"));
    let answer =
        client(Patience::default()).post_form(&address, credential, "a=b".into(), 99).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.body, br#"{"error":"invalid_grant"}"#);
}
