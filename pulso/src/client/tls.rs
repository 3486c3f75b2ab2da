//! The client's side of TLS: whom it trusts, as whom it comes, and what is wrong when it fails, in
//! words that say what to do.

use std::{
    error::Error,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use edge::listen::tls::plain::TLS_ONLY;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as TlsError, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{Code, Status, codegen::http::Uri};

use crate::exit::{Exit, Failure};

/// How connections to one server are secured.
#[derive(Clone)]
pub(super) struct Security {
    connector: TlsConnector,
    name: ServerName<'static>,
    /// `HOST:PORT`, for words.
    authority: String,
}

/// A handshake that failed, in words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{words}")]
pub(super) struct Untrusted {
    pub(super) words: String,
    pub(super) kind: Kind,
}

/// Who does not get on with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The client does not trust the server, or found nobody to trust. Another try may find another.
    Distrust,
    /// The server does not take the client.
    Refusal,
    /// The client spoke plain text, and the server speaks TLS.
    PlainText,
}

impl Untrusted {
    /// What a call comes to. Only a code that may pass is tried again.
    pub(super) fn status(self) -> Status {
        let code = match self.kind {
            Kind::Distrust => Code::Unavailable,
            Kind::Refusal => Code::Unauthenticated,
            Kind::PlainText => Code::FailedPrecondition,
        };
        Status::new(code, self.words)
    }
}

/// What the first bytes of an answer in plain text give away: the words of our own listener, or the
/// alert that a server of TLS sends to those who do not speak it.
pub(super) fn speaks_tls(bytes: &[u8]) -> Option<Untrusted> {
    const ALERT_RECORD: [u8; 2] = [21, 3];
    let words = TLS_ONLY.as_bytes();
    let is_told = bytes.windows(words.len()).any(|window| window == words);
    (is_told || bytes.starts_with(&ALERT_RECORD))
        .then(|| Untrusted { words: TLS_ONLY.to_owned(), kind: Kind::PlainText })
}

impl Security {
    /// # Errors
    /// When a file cannot be used, or the system lists no authorities.
    pub(super) fn new(
        uri: &Uri,
        ca: Option<&Path>,
        identity: Option<&(PathBuf, PathBuf)>,
    ) -> Result<Self, Failure> {
        let host = host(uri).to_owned();
        let name = match host.parse::<IpAddr>() {
            Ok(address) => ServerName::from(address),
            Err(_) => ServerName::try_from(host.clone()).map_err(|_| {
                Failure::new(
                    Exit::Usage,
                    format_args!("`{host}` is no name that a certificate has"),
                )
            })?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has suites of both versions")
            .with_root_certificates(roots(ca)?);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let (chain, private) = (certificates(certificate)?, private_key(key)?);
                builder.with_client_auth_cert(chain, private).map_err(|error| {
                    let (certificate, key) = (certificate.display(), key.display());
                    let files = format!("--cert {certificate} and --cert-key {key}");
                    Failure::new(
                        Exit::Usage,
                        format_args!("{files} cannot be used together: {error}"),
                    )
                })?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name, authority })
    }

    /// A connection, secured.
    ///
    /// # Errors
    /// [`Untrusted`] within, where TLS failed.
    pub(super) async fn secure(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let secured = self.connector.connect(self.name.clone(), stream).await;
        secured.map_err(|error| match self.explain(&error) {
            Some(untrusted) => io::Error::other(untrusted),
            None => error,
        })
    }

    /// What a failed handshake, or a failed read behind one, means. `None` for what is not of TLS.
    pub(super) fn explain(&self, error: &io::Error) -> Option<Untrusted> {
        let authority = &self.authority;
        let server = format!("https://{authority}");
        let of_server =
            |words: String| Untrusted { words: format!("{server}: {words}"), kind: Kind::Distrust };
        let Some(tls) = error.get_ref().and_then(|cause| cause.downcast_ref::<TlsError>()) else {
            let is_closed = error.kind() == io::ErrorKind::UnexpectedEof;
            return is_closed.then(|| {
                of_server("the server closed the connection instead of speaking TLS; if it speaks plain text, use http://".to_owned())
            });
        };
        Some(match tls {
            TlsError::InvalidCertificate(why) => of_server(distrust(why)),
            TlsError::InvalidMessage(_) => of_server(format!(
                "the server speaks no TLS: use http://{authority}, or its TLS port"
            )),
            TlsError::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                of_server("the server speaks no HTTP/2 there; is it the gRPC address?".to_owned())
            }
            TlsError::AlertReceived(alert) => Untrusted {
                words: format!("{server}: {}", refusal(*alert)),
                kind: if is_about_certificates(*alert) { Kind::Refusal } else { Kind::Distrust },
            },
            other => of_server(format!("TLS failed: {other}")),
        })
    }
}

/// Why the server's certificate is not taken.
fn distrust(why: &CertificateError) -> String {
    use CertificateError::{
        ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYetContext, UnknownIssuer,
    };
    match why {
        UnknownIssuer => "the server's certificate is of an authority that is not trusted here; \
                          --ca FILE (PULSO_CA) names the authority's certificate"
            .to_owned(),
        NotValidForNameContext { expected, presented } => {
            let names: Vec<String> = presented.iter().map(|name| plain_name(name)).collect();
            format!(
                "the server's certificate is not for `{}`; it is for {}",
                expected.to_str(),
                if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") }
            )
        }
        NotValidForName => "the server's certificate is for another name".to_owned(),
        ExpiredContext { not_after, .. } => {
            format!("the server's certificate expired at {}", moment(*not_after))
        }
        NotValidYetContext { not_before, .. } => format!(
            "the server's certificate is not valid before {}; is this machine's clock right?",
            moment(*not_before)
        ),
        other => format!("the server's certificate cannot be trusted: {other}"),
    }
}

/// `DnsName("a")` as `a`.
fn plain_name(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.map_or(name, |inner| inner.trim_matches('"')).to_owned()
}

fn moment(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    domain::Timestamp::from_parts(seconds, 0)
        .map_or_else(|| format!("{seconds} s after 1970"), |moment| moment.to_string())
}

const fn is_about_certificates(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::AccessDenied
    )
}

/// Why the server does not take the client.
fn refusal(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => {
            "the server asks for a client certificate; give --cert FILE and --cert-key FILE \
             (PULSO_CERT, PULSO_CERT_KEY)"
                .to_owned()
        }
        AlertDescription::CertificateExpired => {
            "the server refuses the certificate of --cert: it has expired".to_owned()
        }
        alert if is_about_certificates(alert) => {
            format!("the server refuses the certificate of --cert ({alert:?})")
        }
        alert => format!("the server broke off the TLS handshake ({alert:?})"),
    }
}

/// What is wrong below an error, if it is a matter of TLS.
pub(super) fn untrusted<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Untrusted> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<Untrusted>() {
            return Some(found);
        }
        // An io::Error passes over what it holds when it is asked for its source.
        if let Some(io) = error.downcast_ref::<io::Error>()
            && let Some(found) = io.get_ref().and_then(|held| held.downcast_ref::<Untrusted>())
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca else {
        let found = rustls_native_certs::load_native_certs();
        let (taken, _) = roots.add_parsable_certificates(found.certs);
        if taken == 0 {
            let why = "this system lists no authorities to trust: --ca FILE (PULSO_CA) names the \
                       server's authority";
            return Err(Failure::new(Exit::Config, why));
        }
        return Ok(roots);
    };
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| {
            Failure::data(format_args!("{} holds no authority: {error}", path.display()))
        })?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let bytes = fs::read(path).map_err(|error| Failure::file("read", path, &error))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(Failure::data(format_args!(
            "{} has no certificate in PEM (`-----BEGIN CERTIFICATE-----`)",
            path.display()
        ))),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    let bytes = fs::read(path).map_err(|error| Failure::file("read", path, &error))?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        let path = path.display();
        let needs =
            "has no private key in PEM that is not encrypted (`-----BEGIN PRIVATE KEY-----`)";
        Failure::data(format_args!("{path} {needs}"))
    })
}

/// The host of an address, without the brackets of IPv6.
pub(super) fn host(uri: &Uri) -> &str {
    edge::host::without_brackets(uri.host().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_plain_text_gives_a_server_of_tls_away() {
        let told = [b"\0\0\0", TLS_ONLY.as_bytes()].concat();
        let alert = [21, 3, 3, 0, 2, 2, 10];
        for (bytes, speaks) in [
            (&told[..], true),
            (&alert, true),
            // SETTINGS of HTTP/2, an answer of HTTP/1, and nothing.
            (&[0, 0, 18, 4, 0], false),
            (b"HTTP/1.1 400 Bad Request", false),
            (b"", false),
        ] {
            assert_eq!(speaks_tls(bytes).is_some(), speaks, "{bytes:?}");
        }
    }

    #[test]
    fn names_in_a_certificate_are_printed_as_they_are() {
        for (name, plain) in
            [("DnsName(\"a.example.org\")", "a.example.org"), ("127.0.0.1", "127.0.0.1")]
        {
            assert_eq!(plain_name(name), plain);
        }
    }
}
