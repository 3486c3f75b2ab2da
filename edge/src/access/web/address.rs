//! Addresses whose answers count: those that nobody on the way can change.

use std::fmt;

use http::Uri;

use crate::host;

/// Most bytes of an address.
const ADDRESS_BYTES_MAX: usize = 2_048;

/// An address that cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no address to ask an issuer at: whoever can change what it answers can sign any token; \
     use https, or http on loopback by its number"
)]
pub struct Untrusted(String);

/// An address whose answers nobody on the way can change: `https`, or `http` on loopback.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    uri: Uri,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// For one that is neither `https` nor `http` on an address of loopback, has a user or a fragment,
    /// or is longer than 2,048 bytes.
    pub fn parse(text: &str) -> Result<Self, Untrusted> {
        let refused = || Untrusted(text.chars().take(256).collect());
        let uri: Uri = text.parse().map_err(|_| refused())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(refused)?;
        let is_trusted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => is_loopback(host),
            _ => false,
        };
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        // A fragment is for browsers, and other characters are none of an address.
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        match is_trusted && is_plain && !has_user && text.len() <= ADDRESS_BYTES_MAX {
            true => Ok(Self { text: text.to_owned(), uri }),
            false => Err(refused()),
        }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Tells whether it is asked by TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    pub(super) fn host(&self) -> &str {
        let host = self.uri.host().expect("a parsed address has a host");
        host::without_brackets(host)
    }

    /// The host with its port, as the header `host` has it.
    pub(super) fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// The path with its query.
    pub(super) fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }

    pub(super) fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.is_secure() { 443 } else { 80 })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// Tells whether a host is this machine, by its number: a name may lead anywhere.
pub(in crate::access) fn is_loopback(host: &str) -> bool {
    host::address(host).is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_can_answer_for_is_refused() {
        for (url, is_trusted) in [
            ("https://issuer.example/jwks", true),
            ("https://issuer.example:8443/a/b?c=d", true),
            ("http://127.0.0.1:9/jwks", true),
            ("http://[::1]:9/jwks", true),
            ("http://localhost/jwks", false),
            ("http://issuer.example/jwks", false),
            ("http://127.0.0.1.example/jwks", false),
            ("http://127.0.0.1@issuer.example/jwks", false),
            ("https://user@issuer.example/jwks", false),
            ("ftp://127.0.0.1/jwks", false),
            ("file:///etc/passwd", false),
            ("https://issuer.example/#jwks", false),
            ("https://issuer.example/é", false),
            ("https://", false),
            ("/jwks", false),
            ("", false),
        ] {
            assert_eq!(Address::parse(url).is_ok(), is_trusted, "{url}");
        }
        let long = |length| format!("https://issuer.example/{}", "a".repeat(length - 23));
        assert!(Address::parse(&long(ADDRESS_BYTES_MAX)).is_ok());
        assert!(Address::parse(&long(ADDRESS_BYTES_MAX + 1)).is_err());
        assert_eq!(Address::parse("http://[::1]:9/jwks").unwrap().host(), "::1");
    }
}
