//! Fronts: a TLS listener of a test's own before a server in the clear, with any certificate. A client
//! that takes a bad certificate gets through to the server, and so fails its test.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// What a certificate is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Like {
    /// For 127.0.0.1, now.
    Good,
    /// For another address and another name.
    Misnamed,
    /// For 127.0.0.1, until 2021.
    Expired,
}

/// An authority with its file.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) file: PathBuf,
}

impl Authority {
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let file = directory.join(format!("{name}.pem"));
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    fn server(&self, like: Like) -> ServerConfig {
        let address = |last| SanType::IpAddress(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)));
        let mut params = CertificateParams::default();
        params.subject_alt_names = match like {
            Like::Misnamed => vec![address(9), SanType::DnsName("elsewhere".try_into().unwrap())],
            Like::Good | Like::Expired => vec![address(1)],
        };
        if like == Like::Expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap()
    }
}

/// A TLS listener before a server. It ends with it.
pub(crate) struct Front {
    /// As `host:port`.
    pub(crate) address: String,
    _listening: JoinSet<()>,
}

impl Front {
    pub(crate) async fn before(server: &str, authority: &Authority, like: Like) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let acceptor = TlsAcceptor::from(Arc::new(authority.server(like)));
        let server: SocketAddr = server.parse().unwrap();
        let mut listening = JoinSet::new();
        listening.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                open.spawn(async move {
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let mut server = TcpStream::connect(server).await.unwrap();
                    // Either side may go away at any moment.
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { address, _listening: listening }
    }
}
