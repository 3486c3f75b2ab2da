//! TLS: certificate, key and client authorities of the listeners, and what replaces them while the
//! process runs.
//!
//! Both doors share one [`Tls`]. A new connection takes the certificate in use at that moment; open
//! ones keep the one that they began with, so that a reload ends nothing. A file that cannot be used
//! changes nothing: the certificate in use stays. In reading order: `files` reads PEM, `identity` makes
//! of it what rustls serves, `peer` reads the names of a client's certificate, `handshake` takes one
//! socket from its first byte to a secured stream, and `plain` answers clients that do not speak TLS.

mod files;
mod peer;
mod identity;
pub mod plain;
mod handshake;

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use domain::Timestamp;
use rustls::ServerConfig;

pub use files::{Part, TlsError};
pub(super) use handshake::{Handshake, is_client_hello};
pub use peer::{PeerName, PeerNameError, TlsPeer};

use files::Pem;
use identity::Identity;

/// Which files make up the listeners' side of TLS, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, followed by those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
    /// Whose certificates clients may show; `None` asks for none.
    pub clients: Option<ClientAuthorities>,
}

/// Whose certificates clients may show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuthorities {
    /// The authorities' certificates.
    pub file: PathBuf,
    /// Whether a client may come without one.
    pub demand: ClientCertificate,
}

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// A handshake without one fails.
    Required,
    /// A client without one has no names. One that shows an untrusted one is refused all the same.
    Optional,
}

/// What a door speaks above TLS, which the handshake negotiates (ALPN). A client that names other
/// protocols only is refused by the handshake; one that names none is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/2 only: gRPC.
    Http2,
    /// HTTP/2 or HTTP/1.1.
    Http,
}

/// What a reload has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The files are what is in use.
    Unchanged,
    /// New connections get what the files hold now.
    Changed,
}

/// The listeners' side of TLS. Clones share what is in use.
#[derive(Clone, Debug)]
pub struct Tls {
    files: TlsFiles,
    current: Arc<RwLock<Arc<Identity>>>,
}

impl Tls {
    /// Reads the files. Blocks on the disk.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let identity = Identity::new(Pem::read(&files)?, &files)?;
        Ok(Self { files, current: Arc::new(RwLock::new(Arc::new(identity))) })
    }

    /// Reads the files again and, where one differs from what is in use, takes them for connections to
    /// come. Blocks on the disk. Contents are compared and not times, because a file may be replaced
    /// twice within what a file system tells apart.
    ///
    /// # Errors
    /// As [`Tls::load`]; what was in use stays in use.
    pub fn reload(&self) -> Result<Reloaded, TlsError> {
        let pem = Pem::read(&self.files)?;
        if self.identity().pem == pem {
            return Ok(Reloaded::Unchanged);
        }
        let identity = Arc::new(Identity::new(pem, &self.files)?);
        // Holds a whole identity or the one before, so it is sound whoever panicked.
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = identity;
        Ok(Reloaded::Changed)
    }

    /// The files that it reads.
    #[must_use]
    pub const fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// When the first of the certificates in use expires; `None` where that cannot be read.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.identity().expires_at
    }

    /// What a new connection to a door is served with.
    pub(super) fn config(&self, protocols: Protocols) -> Arc<ServerConfig> {
        let identity = self.identity();
        match protocols {
            Protocols::Http2 => Arc::clone(&identity.http2),
            Protocols::Http => Arc::clone(&identity.http),
        }
    }

    fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests;
