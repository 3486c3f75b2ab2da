//! Peer: the names in a client's certificate, bounded. The handshake has verified it before anybody
//! reads it here.

use std::{fmt, str::FromStr, sync::Arc};

use domain::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// Most names that are read from one certificate, and most bytes of each. What is beyond is left out,
/// which only takes rights away: a name that nobody reads grants nothing.
const NAMES_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 256;

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerName {
    /// A URI of the subject's alternative names, such as a SPIFFE id.
    Uri(String),
    /// A DNS name of the subject's alternative names.
    Dns(String),
    /// The subject's common name, where there is no URI and no DNS name.
    CommonName(String),
}

impl PeerName {
    /// The name without its kind.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let (Self::Uri(name) | Self::Dns(name) | Self::CommonName(name)) = self;
        name
    }
}

impl fmt::Display for PeerName {
    /// With its kind: `uri:`, `dns:` or `cn:`. A common name could hold what looks like a URI.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Uri(_) => "uri",
            Self::Dns(_) => "dns",
            Self::CommonName(_) => "cn",
        };
        write!(f, "{kind}:{}", self.as_str())
    }
}

/// A text that no certificate's name is printed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerNameError {
    /// Its kind is missing.
    #[error("is without its kind; write uri:, dns: or cn: before the name")]
    Kind,
    /// No name of a certificate is read as that.
    #[error("has no name of 1 to {NAME_BYTES_MAX} bytes without control characters")]
    NotPlain,
    /// It looks as if it were for many names.
    #[error("has a `*`, and names are compared exactly; write each name out")]
    Pattern,
}

impl FromStr for PeerName {
    type Err = PeerNameError;

    /// Reads what `Display` prints.
    fn from_str(text: &str) -> Result<Self, PeerNameError> {
        let (kind, name) = text.split_once(':').ok_or(PeerNameError::Kind)?;
        let name = match kind {
            "uri" => Self::Uri(name.to_owned()),
            "dns" => Self::Dns(name.to_owned()),
            "cn" => Self::CommonName(name.to_owned()),
            _ => return Err(PeerNameError::Kind),
        };
        match &name {
            plain if !is_plain(plain) => Err(PeerNameError::NotPlain),
            Self::Uri(name) | Self::Dns(name) if name.contains('*') => Err(PeerNameError::Pattern),
            _ => Ok(name),
        }
    }
}

/// Under which names the client of a connection is known to an authority of `listen.tls_client_ca`.
/// Among the extensions of every request of a connection whose client showed a certificate, and of no
/// other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPeer {
    names: Arc<[PeerName]>,
    expires_at: Option<Timestamp>,
}

impl TlsPeer {
    /// The names of a verified certificate: URIs and DNS names in its order, at most 16 of at most 256
    /// bytes, else its common name. None where it has none, or cannot be read.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Self {
        let names = Certificate::from_der(certificate).map(|read| names(&read)).unwrap_or_default();
        Self { names: names.into(), expires_at: expires_at(certificate) }
    }

    /// One of these names, as if a handshake had verified it. For tests of what reads it.
    #[cfg(test)]
    pub(crate) fn verified(names: &[&str], expires_at: Timestamp) -> Self {
        let names = names.iter().map(|name| name.parse().unwrap());
        Self { names: names.collect(), expires_at: Some(expires_at) }
    }

    /// The names. May be empty.
    #[must_use]
    pub fn names(&self) -> &[PeerName] {
        &self.names
    }

    /// When the certificate expires; `None` where that cannot be read.
    #[must_use]
    pub const fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }
}

fn names(certificate: &Certificate) -> Vec<PeerName> {
    let subject = certificate.tbs_certificate();
    let extension = match subject.get_extension::<SubjectAltName>() {
        Ok(extension) => extension,
        // No common name either: what the authority meant to say is not known.
        Err(_) => return Vec::new(),
    };
    let others = extension.map(|(_, names)| names.0).unwrap_or_default();
    let mut others = others.into_iter().filter_map(|name| match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(PeerName::Uri(uri.to_string())),
        GeneralName::DnsName(name) => Some(PeerName::Dns(name.to_string())),
        _ => None,
    });
    let Some(first) = others.next() else {
        let common = subject.subject().common_name().ok().flatten();
        let common = common.map(|name| PeerName::CommonName(name.value().into_owned()));
        return common.into_iter().filter(is_plain).collect();
    };
    std::iter::once(first).chain(others).filter(is_plain).take(NAMES_MAX).collect()
}

/// Whether a name is short enough, and writes nothing but itself into a log.
fn is_plain(name: &PeerName) -> bool {
    let text = name.as_str();
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control)
}

/// When a certificate expires, where that can be read.
pub(super) fn expires_at(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let since_1970 = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    Timestamp::from_parts(i64::try_from(since_1970.as_secs()).ok()?, 0)
}
