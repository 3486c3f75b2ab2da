//! Shown: what a request shows of who makes it, taken out of the request where it is let in.
//!
//! The headers of a credential end here: no handler, and no log of one, sees them.

use http::{
    HeaderMap, HeaderName,
    header::{AUTHORIZATION, COOKIE},
    request::Parts,
};

use super::session::Sessions;
use crate::listen::TlsPeer;

/// The header of an API key, beside `authorization: Bearer`.
pub const API_KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

/// What a request shows of who makes it.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// The headers of credentials, as many as came, and no others. `cookie` is the value of a session's
    /// cookie and nothing else.
    pub headers: HeaderMap,
    /// The names of the connection's client certificate, which the handshake has verified.
    pub certificate: Option<TlsPeer>,
}

impl Shown {
    /// Takes the headers out of a request, and the cookies of sessions where they count, and notes its
    /// certificate.
    pub(super) fn take(parts: &mut Parts, sessions: Option<&Sessions>) -> Self {
        let mut headers = HeaderMap::new();
        for name in [AUTHORIZATION, API_KEY_HEADER] {
            for value in parts.headers.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
            parts.headers.remove(name);
        }
        let cookies = sessions.map(|sessions| sessions.cookie().take(&mut parts.headers));
        for value in cookies.unwrap_or_default() {
            headers.append(COOKIE, value);
        }
        Self { headers, certificate: parts.extensions.get().cloned() }
    }
}
