//! Origin: where a page comes from, as browsers say it.

use std::str::FromStr;

use http::{HeaderValue, Uri};

use super::web::is_loopback;
use crate::host;

/// An origin that is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no origin; write scheme and host, such as https://app.example or \
     http://localhost:3000, and list each, because `*` would open answers to every page"
)]
pub struct NotAnOrigin(String);

/// Where a page comes from: `https://app.example`, lowercase and without a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

impl Origin {
    /// As a browser sends it.
    pub(crate) const fn header(&self) -> &HeaderValue {
        &self.0
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().expect("it was made of a text")
    }

    /// Tells whether a page that sends this is of the origin.
    #[must_use]
    pub fn is(&self, sent: &HeaderValue) -> bool {
        self.0 == sent
    }

    /// Tells whether its pages travel by TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.as_str().starts_with("https://")
    }

    /// Tells whether it is this machine as a browser sees it: an address of loopback, or `localhost`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let uri: Option<Uri> = self.as_str().parse().ok();
        uri.as_ref()
            .and_then(Uri::host)
            .is_some_and(|host| host == "localhost" || is_loopback(host))
    }
}

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let refused = || NotAnOrigin(text.chars().take(128).collect());
        let uri: Uri = text.parse().map_err(|_| refused())?;
        let (Some(scheme @ ("http" | "https")), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(refused());
        };
        let default = if scheme == "http" { 80 } else { 443 };
        let port = uri.port_u16().filter(|port| *port != default);
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        // A browser sends exactly this, so anything else would never match.
        let origin = format!("{scheme}://{}{port}", host.to_ascii_lowercase());
        match is_host(host) && origin == text {
            true => HeaderValue::from_str(text).map(Self).map_err(|_| refused()),
            false => Err(refused()),
        }
    }
}

/// Tells whether a host is a name of letters, digits, hyphens and dots, or an address. The grammar of
/// addresses has more, which no browser sends: `*`, commas, quotes.
fn is_host(host: &str) -> bool {
    let is_name = |name: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        !name.is_empty() && name.bytes().all(fits)
    };
    is_name(host) || host.starts_with('[') && host::address(host).is_some_and(|ip| ip.is_ipv6())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_a_browser_sends_it() {
        for text in ["https://app.example", "http://localhost:3000", "http://[::1]:9"] {
            assert!(text.parse::<Origin>().is_ok(), "{text}");
        }
        for text in [
            "*",
            "null",
            "",
            "app.example",
            "https://app.example/",
            "https://app.example/a",
            "https://*.example",
            "https://App.example",
            "https://app.example:443",
            "http://app.example:80",
            "https://a@app.example",
            "ftp://app.example",
            "https://",
            "https://app.example,https://b.example",
            "https://app.example?x",
            "https://,pp.example",
            "https://app'.example",
            "https://[::1",
            "https://[::g]",
            "https://:443",
            "https://a:",
            "https://a:0443",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_origin_says_how_its_pages_travel() {
        for (text, is_secure, is_loopback) in [
            ("https://app.example", true, false),
            ("http://app.example", false, false),
            ("http://localhost:3000", false, true),
            ("http://127.0.0.1:7080", false, true),
            ("http://[::1]:9", false, true),
            ("http://localhost.example", false, false),
        ] {
            let origin: Origin = text.parse().unwrap();
            assert_eq!(
                (origin.is_secure(), origin.is_loopback()),
                (is_secure, is_loopback),
                "{text}"
            );
        }
    }
}
