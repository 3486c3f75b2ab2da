//! Target: a server's address with what a connection to it needs: whom to trust, as whom to come.

use std::{
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    str::FromStr,
};

use tonic::codegen::http::{HeaderValue, Uri};

use super::tls::{Security, host};
use crate::exit::{Exit, Failure};

/// Most bytes of a file with a key.
const KEY_BYTES_MAX: u64 = 64 << 10;

/// A server and how to come to it.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// `https://HOST:PORT`, `http://HOST:PORT` or `HOST:PORT`.
    pub server: String,
    /// File with the authorities to trust, PEM. `None`: the system's.
    pub ca: Option<PathBuf>,
    /// Files with a certificate and its key, for servers that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// An API key or a token.
    pub key: Option<Key>,
}

impl From<&str> for Target {
    fn from(server: &str) -> Self {
        Self { server: server.to_owned(), ..Self::default() }
    }
}

impl From<&String> for Target {
    fn from(server: &String) -> Self {
        Self::from(server.as_str())
    }
}

/// A [`Target`] that was checked.
pub(super) struct Checked {
    pub(super) uri: Uri,
    /// For `https`.
    pub(super) security: Option<Security>,
    pub(super) authorization: Option<HeaderValue>,
}

impl Target {
    /// Reads the files that it names.
    ///
    /// # Errors
    /// `Usage` for an address that is none and for half an identity; as [`Failure::file`] for files.
    pub(super) fn check(&self) -> Result<Checked, Failure> {
        let uri = self.uri()?;
        let security = match uri.scheme_str() {
            Some("https") => Some(Security::new(&uri, self.ca.as_deref(), self.identity.as_ref())?),
            _ => None,
        };
        let authorization = self.key.as_ref().map(Key::header).transpose()?;
        if authorization.is_some() && security.is_none() && !is_loopback(&uri) {
            crate::output::say(format_args!(
                "the key goes to {} in plain text, which anybody on the way can read: use https://",
                self.server
            ));
        }
        Ok(Checked { uri, security, authorization })
    }

    fn uri(&self) -> Result<Uri, Failure> {
        let server = &self.server;
        let refuse = |why: &str| {
            let needs = "needs an address such as https://pulso.example.org:7070";
            Failure::new(Exit::Usage, format_args!("--server `{server}`: {why}; {needs}"))
        };
        let url = if server.contains("://") { server.clone() } else { format!("http://{server}") };
        let uri: Uri = url.parse().map_err(|_| refuse("not an address"))?;
        match (uri.scheme_str(), uri.host()) {
            (Some("http" | "https"), Some(_)) => Ok(uri),
            _ => Err(refuse("not an http:// or https:// address")),
        }
    }
}

fn is_loopback(uri: &Uri) -> bool {
    let host = host(uri);
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// An API key or a token, sent as `authorization: Bearer`. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// Reads it from a file, without the line's end.
    ///
    /// # Errors
    /// As [`Failure::file`]; `Usage` for a file that is too large for a key.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(KEY_BYTES_MAX + 1).read_to_string(&mut text))
            .map_err(|error| Failure::file("read the key in", path, &error))?;
        if u64::try_from(text.len()).is_ok_and(|length| length > KEY_BYTES_MAX) {
            let path = path.display();
            return Err(Failure::new(Exit::Usage, format_args!("{path} is too large for a key")));
        }
        Ok(Self(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    fn header(&self) -> Result<HeaderValue, Failure> {
        let value = HeaderValue::try_from(format!("Bearer {}", self.0));
        let mut value = value.map_err(|_| {
            let why = "the key (--key, PULSO_KEY or PULSO_KEY_FILE) holds what no header can carry";
            Failure::new(Exit::Usage, why)
        })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl FromStr for Key {
    type Err = std::convert::Infallible;

    /// Takes any text: a mistake is named later, without it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_connecting() {
        for good in ["http://127.0.0.1:7070", "127.0.0.1:7070", "localhost:7070", "http://[::1]:1"]
        {
            assert!(Target::from(good).check().is_ok(), "{good}");
        }
        assert_eq!(host(&Target::from("https://[::1]:1").uri().unwrap()), "::1");
        for bad in ["", "kafka://a:1", "http://", "a b:1"] {
            assert_eq!(Target::from(bad).check().map(drop).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }

    #[test]
    fn a_key_is_sent_whole_and_printed_never() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, "hunter2\r\n").unwrap();
        let key = Key::read(&path).unwrap();
        assert_eq!(key.header().unwrap(), "Bearer hunter2");
        let target = Target { key: Some(key.clone()), ..Target::from("a:1") };
        assert!(!format!("{target:?}{:?}", key.header().unwrap()).contains("hunter2"));
        let unfit: Key = "hunter2\n".parse().unwrap();
        let failure = unfit.header().unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(!failure.to_string().contains("hunter2"), "{failure}");
        for (bytes, is_read) in [(KEY_BYTES_MAX, true), (KEY_BYTES_MAX + 1, false)] {
            std::fs::write(&path, "k".repeat(usize::try_from(bytes).unwrap())).unwrap();
            assert_eq!(Key::read(&path).is_ok(), is_read, "{bytes}");
        }
    }
}
