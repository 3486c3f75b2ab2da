//! Sources: where a JWKS document comes from, and comes from again when keys are rotated.

use std::{io, path::PathBuf};

use futures_util::future::BoxFuture;
use tokio::io::AsyncReadExt;

use super::keys::DOCUMENT_BYTES_MAX;
use crate::access::web::{Address, Client, FetchError};

/// Where a JWKS document comes from.
pub trait KeySource: Send + Sync + 'static {
    /// Reads the document as it is now. At most one byte more than [`DOCUMENT_BYTES_MAX`] is read, so
    /// that a longer one is told apart. The caller bounds the time.
    fn load(&self) -> BoxFuture<'_, Result<Vec<u8>, SourceError>>;

    /// Names the place, for logs and errors.
    fn place(&self) -> &str;
}

/// A document that cannot be had now, or a place that none can be had from.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {error}")]
    File {
        /// Where it was looked for.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// The address does not answer with a document.
    #[error("{url} gives no keys: {error}")]
    Url {
        /// Where it was asked for.
        url: String,
        /// What went wrong.
        error: FetchError,
    },
    /// It took too long.
    #[error("{0} did not answer in time")]
    Timeout(String),
}

impl SourceError {
    /// Tells whether another try may succeed, with nothing changed here.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Url { error: FetchError::Away(_), .. })
    }
}

/// A document in a file. A file that is replaced, by rename, is seen at the next load.
#[derive(Clone, Debug)]
pub struct FileSource {
    path: PathBuf,
    place: String,
}

impl FileSource {
    /// The document in this file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { place: path.display().to_string(), path }
    }
}

impl KeySource for FileSource {
    fn load(&self) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
        Box::pin(async {
            let read = async {
                let file = tokio::fs::File::open(&self.path).await?;
                let mut document = Vec::new();
                let bytes_max = DOCUMENT_BYTES_MAX as u64 + 1;
                file.take(bytes_max).read_to_end(&mut document).await?;
                Ok(document)
            };
            read.await.map_err(|error| SourceError::File { path: self.place.clone(), error })
        })
    }

    fn place(&self) -> &str {
        &self.place
    }
}

/// A document at an address.
#[derive(Clone, Debug)]
pub struct UrlSource {
    address: Address,
    client: Client,
}

impl UrlSource {
    /// The document at this address, as this client gets it.
    #[must_use]
    pub const fn new(address: Address, client: Client) -> Self {
        Self { address, client }
    }
}

impl KeySource for UrlSource {
    fn load(&self) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
        Box::pin(async {
            let got = self.client.get(&self.address, DOCUMENT_BYTES_MAX).await;
            got.map_err(|error| SourceError::Url { url: self.address.to_string(), error })
        })
    }

    fn place(&self) -> &str {
        self.address.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_as_it_is_now_and_never_beyond_the_bound() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jwks.json");
        let source = FileSource::new(&path);
        let error = source.load().await.unwrap_err().to_string();
        assert!(error.contains("jwks.json cannot be read"), "{error}");
        for (length, read) in [(3, 3), (DOCUMENT_BYTES_MAX + 9, DOCUMENT_BYTES_MAX + 1)] {
            std::fs::write(&path, vec![b'x'; length]).unwrap();
            assert_eq!(source.load().await.unwrap().len(), read);
        }
    }
}
