//! Sources: where a JWKS document comes from, and comes from again when keys are rotated.

use std::{io, path::PathBuf};

use futures_util::future::BoxFuture;
use tokio::io::AsyncReadExt;

use super::keys::DOCUMENT_BYTES_MAX;
use crate::host;

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
    #[error("{url} gives no keys: {message}")]
    Url {
        /// Where it was asked for.
        url: String,
        /// What went wrong, for the log.
        message: String,
    },
    /// The address cannot be trusted.
    #[error(
        "{0:?} is no address for keys: whoever can change what it answers can sign any token; use \
         https, or http on loopback"
    )]
    Untrusted(String),
    /// It took too long.
    #[error("{0} did not answer in time")]
    Timeout(String),
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

/// Gets a document over HTTP. The adapter brings the client and its trust in certificates, follows
/// no redirect to another scheme, and stops at the bound.
pub trait Fetch: Send + Sync + 'static {
    /// Gets the body of a 200 answer; at most `bytes_max` bytes of it.
    ///
    /// # Errors
    /// Words for a person, for any other answer or none.
    fn fetch<'a>(
        &'a self,
        url: &'a str,
        bytes_max: usize,
    ) -> BoxFuture<'a, Result<Vec<u8>, String>>;
}

/// A document at an address.
#[derive(Clone, Debug)]
pub struct UrlSource<F> {
    url: String,
    fetch: F,
}

impl<F: Fetch> UrlSource<F> {
    /// The document at this address.
    ///
    /// # Errors
    /// `Untrusted` unless it is `https`, or `http` on loopback.
    pub fn new(url: &str, fetch: F) -> Result<Self, SourceError> {
        let parsed: Option<http::Uri> = url.parse().ok();
        let is_trusted = parsed.is_some_and(|uri| match uri.scheme_str() {
            Some("https") => uri.host().is_some(),
            // By its number: a name may lead anywhere.
            Some("http") => {
                uri.host().and_then(host::address).is_some_and(|address| address.is_loopback())
            }
            _ => false,
        });
        match is_trusted {
            true => Ok(Self { url: url.to_owned(), fetch }),
            false => Err(SourceError::Untrusted(url.chars().take(256).collect())),
        }
    }
}

impl<F: Fetch> KeySource for UrlSource<F> {
    fn load(&self) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
        Box::pin(async {
            let fetched = self.fetch.fetch(&self.url, DOCUMENT_BYTES_MAX + 1).await;
            fetched.map_err(|message| SourceError::Url { url: self.url.clone(), message })
        })
    }

    fn place(&self) -> &str {
        &self.url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Fetch for Echo {
        fn fetch<'a>(
            &'a self,
            url: &'a str,
            bytes_max: usize,
        ) -> BoxFuture<'a, Result<Vec<u8>, String>> {
            Box::pin(async move {
                match url.contains("away") {
                    true => Err("no answer".to_owned()),
                    false => Ok(format!("{url} {bytes_max}").into_bytes()),
                }
            })
        }
    }

    #[tokio::test]
    async fn an_address_that_others_can_answer_for_is_refused() {
        for (url, is_trusted) in [
            ("https://issuer.example/jwks", true),
            ("http://127.0.0.1:9/jwks", true),
            ("http://[::1]:9/jwks", true),
            ("http://localhost/jwks", false),
            ("http://issuer.example/jwks", false),
            ("http://127.0.0.1.example/jwks", false),
            ("http://127.0.0.1@issuer.example/jwks", false),
            ("ftp://127.0.0.1/jwks", false),
            ("file:///etc/passwd", false),
            ("/jwks", false),
            ("", false),
        ] {
            let source = UrlSource::new(url, Echo);
            assert_eq!(source.is_ok(), is_trusted, "{url}");
            if let Ok(source) = source {
                let expected = format!("{url} {}", DOCUMENT_BYTES_MAX + 1);
                assert_eq!(source.load().await.unwrap(), expected.into_bytes());
            }
        }
        let error = UrlSource::new("https://away/", Echo).unwrap().load().await.unwrap_err();
        assert_eq!(error.to_string(), "https://away/ gives no keys: no answer");
    }

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
