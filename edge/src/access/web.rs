//! Web: the one client of HTTP, for what the issuer of tokens answers.
//!
//! It opens a connection for each request, because an issuer is asked every few minutes. A request is
//! bounded in time, its answer in bytes: the read stops at the bound, whatever the answer says of its
//! length. Redirects are not followed: whoever can redirect could name another issuer's keys. TLS is
//! checked against the system's authorities or those of one file.

mod address;

use std::{
    error::Error as _,
    fmt,
    fs::File,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::future;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION},
};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

pub(super) use address::is_loopback;
pub use address::{Address, Untrusted};

/// Most bytes of an answer's head, and most headers in it.
const HEAD_BYTES_MAX: usize = 32 << 10;
const HEADERS_MAX: usize = 100;

/// Most bytes of a file with authorities: a system's whole bundle has some 200 KiB.
const CA_BYTES_MAX: u64 = 1 << 20;

/// Why there is no answer to work with. The words are for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Nobody answers, or with the word that it cannot now. Another try may succeed.
    #[error("{0}")]
    Away(String),
    /// The answer is none that can be used, and another try would get the same.
    #[error("{0}")]
    Wrong(String),
}

/// A file with authorities that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// It cannot be read.
    #[error("{path} cannot be read: {error}")]
    File {
        /// Where it was looked for.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// It holds no authority.
    #[error("{path} holds no authority that can be used: {problem}")]
    Content {
        /// Where it is.
        path: String,
        /// What is wrong, and what to do.
        problem: String,
    },
}

/// How long a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Until the connection is open, TLS included; 2 seconds.
    pub connect: Duration,
    /// From the first step to the last byte of the answer; 4 seconds.
    pub whole: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), whole: Duration::from_secs(4) }
    }
}

/// Asks over HTTP. Clones share what they trust.
#[derive(Clone)]
pub struct Client {
    tls: TlsConnector,
    patience: Patience,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 200, or a status from 400 to 499 which is no matter of time.
    pub status: StatusCode,
    /// Its body, within the bound that was asked for.
    pub body: Vec<u8>,
}

impl Client {
    /// A client that trusts the authorities of a file, or without one those of the system. A system
    /// that lists none is noticed when a certificate is to be checked.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn new(ca: Option<&Path>, patience: Patience) -> Result<Self, CaError> {
        let mut roots = RootCertStore::empty();
        match ca {
            Some(path) => add_file(&mut roots, path)?,
            None => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
            }
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has suites of both versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), patience })
    }

    /// Gets the body of a 200 answer, at most `bytes_max` bytes.
    ///
    /// # Errors
    /// For any other answer, a longer one, or none in time.
    pub async fn get(&self, address: &Address, bytes_max: usize) -> Result<Vec<u8>, FetchError> {
        let request = request(Method::GET, address).body(Body::empty());
        let request = request.expect("an address and constants make a request");
        let answer = self.ask(address, request, bytes_max).await?;
        match answer.status {
            StatusCode::OK => Ok(answer.body),
            status => Err(FetchError::Wrong(format!("it answers {status}"))),
        }
    }

    /// Sends a form, with the credential of the client where there is one.
    ///
    /// # Errors
    /// As [`Client::get`], but that an answer of 400 to 499 is one.
    pub async fn post_form(
        &self,
        address: &Address,
        credential: Option<HeaderValue>,
        form: String,
        bytes_max: usize,
    ) -> Result<Answer, FetchError> {
        let mut request = request(Method::POST, address)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form))
            .expect("an address and constants make a request");
        if let Some(mut credential) = credential {
            credential.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, credential);
        }
        self.ask(address, request, bytes_max).await
    }

    async fn ask(
        &self,
        address: &Address,
        request: Request<Body>,
        bytes_max: usize,
    ) -> Result<Answer, FetchError> {
        let Patience { connect, whole } = self.patience;
        let late =
            |what: &str, limit: Duration| FetchError::Away(format!("{what} within {limit:?}"));
        let asked = async {
            let open = timeout(connect, self.open(address)).await;
            let stream = open.map_err(|_| late("no connection", connect))??;
            exchange(stream, request, bytes_max).await
        };
        timeout(whole, asked).await.map_err(|_| late("the answer was not complete", whole))?
    }

    async fn open(&self, address: &Address) -> Result<Box<dyn Stream>, FetchError> {
        let away = |error: io::Error| FetchError::Away(format!("no connection: {error}"));
        let stream = TcpStream::connect((address.host(), address.port())).await.map_err(away)?;
        if !address.is_secure() {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(address.host().to_owned()).map_err(|_| {
            FetchError::Wrong(format!("`{}` is no name that a certificate has", address.host()))
        })?;
        let secured = self.tls.connect(name, stream).await.map_err(|error| untrusted(&error))?;
        Ok(Box::new(secured))
    }
}

/// A connection, of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

fn request(method: Method, address: &Address) -> http::request::Builder {
    let path = address.path();
    let host = address.authority();
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, host)
        .header(ACCEPT, "application/json")
}

async fn exchange(
    stream: Box<dyn Stream>,
    request: Request<Body>,
    bytes_max: usize,
) -> Result<Answer, FetchError> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    let asked = async {
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = accepted(&response)?;
        let body = read(response.into_body(), bytes_max).await?;
        Ok(Answer { status, body })
    };
    // The connection moves the bytes. What it fails with, the request fails with too.
    let moved = async {
        let _ = connection.await;
        future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        answer = asked => answer,
        never = moved => match never {},
    }
}

/// The status of an answer whose body is worth reading.
fn accepted(response: &Response<Incoming>) -> Result<StatusCode, FetchError> {
    let status = response.status();
    if status.is_redirection() {
        let target = response.headers().get(LOCATION).map(HeaderValue::as_bytes);
        let target = target.map(|target| target.escape_ascii().take(256).map(char::from).collect());
        let target: String = target.unwrap_or_default();
        let message = format!("it redirects to `{target}`, and redirects are not followed");
        return Err(FetchError::Wrong(message));
    }
    let is_of_now = status.is_server_error()
        || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
    match status {
        _ if is_of_now => Err(FetchError::Away(format!("it answers {status}"))),
        StatusCode::OK => Ok(status),
        _ if status.is_client_error() => Ok(status),
        _ => Err(FetchError::Wrong(format!("it answers {status}"))),
    }
}

async fn read(mut body: Incoming, bytes_max: usize) -> Result<Vec<u8>, FetchError> {
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        let data: Bytes = frame.into_data().unwrap_or_default();
        if all.len() + data.len() > bytes_max {
            return Err(FetchError::Wrong(format!("its answer has more than {bytes_max} bytes")));
        }
        all.extend_from_slice(&data);
    }
    Ok(all)
}

/// A connection that broke, or spoke no HTTP.
fn broken(error: &hyper::Error) -> FetchError {
    let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
    let words = format!("{error}{cause}");
    match error.is_parse() {
        true => FetchError::Wrong(format!("it answers no HTTP/1.1 that can be read: {words}")),
        false => FetchError::Away(words),
    }
}

/// A handshake that failed. An authority may be added and a certificate renewed, so it may pass.
fn untrusted(error: &io::Error) -> FetchError {
    let words = error.to_string();
    let remedy = match words.contains("UnknownIssuer") {
        true => "; access.issuer_ca_file names the authorities to trust",
        false => "",
    };
    FetchError::Away(format!("TLS failed: {words}{remedy}"))
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), CaError> {
    let place = || path.display().to_string();
    let content = |problem: String| CaError::Content { path: place(), problem };
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(CA_BYTES_MAX + 1).read_to_end(&mut bytes));
    let length = read.map_err(|error| CaError::File { path: place(), error })?;
    if length as u64 > CA_BYTES_MAX {
        return Err(content(format!("it has more than {CA_BYTES_MAX} bytes")));
    }
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = read.unwrap_or_default();
    if certificates.is_empty() {
        let problem = "it needs certificates in PEM (`-----BEGIN CERTIFICATE-----`)";
        return Err(content(problem.to_owned()));
    }
    for certificate in certificates {
        roots.add(certificate).map_err(|error| content(error.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
