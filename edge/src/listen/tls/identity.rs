//! Identity: what rustls serves, made of the files' bytes.

use std::sync::Arc;

use domain::Timestamp;
use rustls::{
    Error, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::CertificateDer,
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::{
    ClientAuthorities, ClientCertificate, TlsFiles,
    files::{Part, Pem, TlsError},
    peer,
};

const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// A certificate with its key, and whom clients are verified by.
#[derive(Debug)]
pub(super) struct Identity {
    /// What it was made of.
    pub(super) pem: Pem,
    /// For a door that speaks HTTP/2 only.
    pub(super) http2: Arc<ServerConfig>,
    /// For a door that also speaks HTTP/1.1.
    pub(super) http: Arc<ServerConfig>,
    /// When the first of the server's certificates expires.
    pub(super) expires_at: Option<Timestamp>,
}

impl Identity {
    /// Makes it of the files' bytes.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub(super) fn new(pem: Pem, files: &TlsFiles) -> Result<Self, TlsError> {
        let certificates = pem.certificates(&files.certificate)?;
        let expires_at = certificates.iter().filter_map(|one| peer::expires_at(one)).min();
        let http2 = config(&pem, certificates, files)?;
        let mut http = http2.clone();
        http.alpn_protocols.push(HTTP1.to_vec());
        Ok(Self { pem, http2: Arc::new(http2), http: Arc::new(http), expires_at })
    }
}

fn config(
    pem: &Pem,
    certificates: Vec<CertificateDer<'static>>,
    files: &TlsFiles,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring has suites of both versions");
    let builder = match &files.clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(verifier(pem, clients, provider)?),
    };
    let key = pem.key(&files.key)?;
    let built = builder.with_single_cert(certificates, key);
    let mut config = built.map_err(|error| unusable(&error, files))?;
    if files.clients.is_some() {
        // Nobody verifies the certificate of a resumed session again, though it may have expired.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(config)
}

fn unusable(error: &Error, files: &TlsFiles) -> TlsError {
    match error {
        Error::InconsistentKeys(_) => {
            let certificate = files.certificate.display();
            let problem =
                format!("the key is not that of the first certificate in `{certificate}`");
            TlsError::new(Part::Key, &files.key, problem)
        }
        Error::InvalidCertificate(why) => {
            let problem = format!("the first certificate cannot be used: {why}");
            TlsError::new(Part::Certificate, &files.certificate, problem)
        }
        why => {
            let problem =
                format!("the key cannot be used: {why}; give an RSA, ECDSA or Ed25519 key");
            TlsError::new(Part::Key, &files.key, problem)
        }
    }
}

fn verifier(
    pem: &Pem,
    clients: &ClientAuthorities,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let refuse = |why: String| TlsError::new(Part::ClientCa, &clients.file, why);
    let mut roots = RootCertStore::empty();
    for authority in pem.client_authorities(&clients.file)? {
        roots.add(authority).map_err(|error| refuse(format!("is no authority: {error}")))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match clients.demand {
        ClientCertificate::Required => builder,
        ClientCertificate::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| refuse(error.to_string()))
}
