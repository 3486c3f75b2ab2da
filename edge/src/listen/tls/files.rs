//! Files: PEM read from the disk, bounded, and every way in which it cannot be used.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

use super::TlsFiles;

/// Most bytes of one file. A chain of certificates is some KiB, a system's bundle of authorities some
/// 200 KiB.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;

/// Which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The server's certificate.
    Certificate,
    /// Its private key.
    Key,
    /// The authorities of clients' certificates.
    ClientCa,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{}`: {problem}", path.display())]
pub struct TlsError {
    /// Which.
    pub part: Part,
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong, and what to do.
    pub problem: String,
}

impl TlsError {
    pub(super) fn new(part: Part, path: &Path, problem: impl Into<String>) -> Self {
        Self { part, path: path.to_owned(), problem: problem.into() }
    }
}

/// The bytes of all files.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pem {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl std::fmt::Debug for Pem {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pem")
    }
}

impl Pem {
    /// Reads all files.
    pub(super) fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let client_ca = files
            .clients
            .as_ref()
            .map(|clients| read(Part::ClientCa, &clients.file))
            .transpose()?;
        Ok(Self {
            certificate: read(Part::Certificate, &files.certificate)?,
            key: read(Part::Key, &files.key)?,
            client_ca,
        })
    }

    /// The server's certificate and those behind it, at least one.
    pub(super) fn certificates(
        &self,
        path: &Path,
    ) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        certificates(Part::Certificate, path, &self.certificate)
    }

    /// The authorities of clients, at least one where they are asked for.
    pub(super) fn client_authorities(
        &self,
        path: &Path,
    ) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        certificates(Part::ClientCa, path, self.client_ca.as_deref().unwrap_or_default())
    }

    /// The private key.
    pub(super) fn key(&self, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| {
            // The library passes over the kinds that it does not know.
            let is_encrypted = self.key.windows(9).any(|word| word == b"ENCRYPTED");
            let problem = match error {
                pem::Error::NoItemsFound if is_encrypted => {
                    "the key is encrypted; give one that is not, in a file that only this user reads"
                        .to_owned()
                }
                pem::Error::NoItemsFound => {
                    "has no private key in PEM (`-----BEGIN PRIVATE KEY-----`)".to_owned()
                }
                error => format!("is no PEM file: {error}"),
            };
            TlsError::new(Part::Key, path, problem)
        })
    }
}

fn certificates(
    part: Part,
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let problem = match read {
        Ok(certificates) if !certificates.is_empty() => return Ok(certificates),
        Ok(_) => "has no certificate in PEM (`-----BEGIN CERTIFICATE-----`)".to_owned(),
        Err(error) => format!("is no PEM file: {error}"),
    };
    Err(TlsError::new(part, path, problem))
}

fn read(part: Part, path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    let read: io::Result<usize> =
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    let problem = match read {
        Ok(length) if u64::try_from(length).is_ok_and(|length| length <= FILE_BYTES_MAX) => {
            return Ok(bytes);
        }
        Ok(_) => format!("has more than {FILE_BYTES_MAX} bytes, more than any such file"),
        Err(error) => format!("cannot be read: {error}"),
    };
    Err(TlsError::new(part, path, problem))
}
