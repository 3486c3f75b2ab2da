//! Ticket: what a browser brings back from the issuer to show that it is the one that went there.
//!
//! It is a sealed cookie of ten minutes with the state that the answer has to repeat, the nonce that the
//! ID token has to repeat, the verifier of PKCE without which the code is worth nothing, and the page to
//! go to. So an answer that somebody else began has no ticket here, and a stolen code no verifier.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::Timestamp;
use http::uri::PathAndQuery;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::access::{api_key::random, seal::Seal};

/// How long a person may take at the issuer.
pub(super) const TICKET_AGE: Duration = Duration::from_secs(600);

/// Most bytes of a page to go to.
pub(super) const RETURN_BYTES_MAX: usize = 1_024;

/// A page that nobody is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is no path of this server of at most {RETURN_BYTES_MAX} bytes, such as /v1/usage?tenant=acme"
)]
pub(super) struct NotLocal;

/// A page of this server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Return(String);

impl Return {
    /// Reads a page to go to after the login.
    ///
    /// # Errors
    /// For whatever a browser might take for an address of another host: it ignores control characters
    /// and takes a backslash for a slash, and two of these begin a host.
    pub(super) fn parse(text: &str) -> Result<Self, NotLocal> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        let is_local = text.starts_with('/') && !text.starts_with("//");
        let is_path = text.parse::<PathAndQuery>().is_ok();
        match is_plain && is_local && is_path && text.len() <= RETURN_BYTES_MAX {
            true => Ok(Self(text.to_owned())),
            false => Err(NotLocal),
        }
    }

    /// The first page.
    pub(super) fn home() -> Self {
        Self("/".to_owned())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// One login that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ticket {
    pub(super) state: String,
    pub(super) nonce: String,
    verifier: String,
    pub(super) to: Return,
    /// In microseconds since 1970.
    until: i64,
}

impl Ticket {
    /// A new one, which nobody can guess.
    pub(super) fn new(to: Return, now: Timestamp) -> Self {
        let word = || URL_SAFE_NO_PAD.encode(random::<32>());
        let until = now.plus(TICKET_AGE).micros();
        Self { state: word(), nonce: word(), verifier: word(), to, until }
    }

    /// What proves later that whoever exchanges the code began the login.
    pub(super) fn verifier(&self) -> &str {
        &self.verifier
    }

    /// What the issuer is told of the verifier: its SHA-256 (`S256` of RFC 7636).
    pub(super) fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, self.verifier.as_bytes()))
    }

    pub(super) fn seal(&self, seal: &Seal) -> String {
        let ticket = serde_json::to_vec(self).expect("texts and numbers always serialise");
        seal.seal(&ticket)
    }

    /// The ticket that a browser brought; `None` for what is none, or has expired.
    pub(super) fn open(value: &str, seal: &Seal, now: Timestamp) -> Option<Self> {
        let ticket: Self = serde_json::from_slice(&seal.open(value)?).ok()?;
        (now.micros() < ticket.until).then_some(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_sent_to_pages_of_this_server_only() {
        for (text, is_local) in [
            ("/", true),
            ("/v1/usage?tenant=acme&window=P1D", true),
            ("/a//b", true),
            ("/%2Fevil.example", true),
            ("", false),
            ("v1/usage", false),
            ("//evil.example", false),
            ("///evil.example", false),
            ("/\\evil.example", false),
            ("\\\\evil.example", false),
            ("/\t/evil.example", false),
            ("/\n/evil.example", false),
            (" //evil.example", false),
            ("https://evil.example", false),
            ("https:evil.example", false),
            ("javascript:alert(1)", false),
            ("/a\r\nset-cookie: x", false),
            ("/é", false),
        ] {
            assert_eq!(Return::parse(text).is_ok(), is_local, "{text:?}");
        }
        let most = format!("/{}", "a".repeat(RETURN_BYTES_MAX - 1));
        assert!(Return::parse(&most).is_ok());
        assert!(Return::parse(&format!("{most}a")).is_err());
    }

    #[test]
    fn the_challenge_is_that_of_the_standard() {
        // RFC 7636, appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned();
        let ticket = Ticket { verifier, ..Ticket::new(Return::home(), Timestamp::EPOCH) };
        assert_eq!(ticket.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
