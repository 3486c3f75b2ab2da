//! Authenticator: from what a request shows to its principal, or to why there is none.
//!
//! A credential in a header comes before the certificate of the connection: in a service mesh every
//! connection has a certificate, and a header is what this one request was meant to be made with.
//!
//! What a credential was found to be is remembered until it ends, the keys change, or
//! [`REMEMBERED_MAX`] has passed, so that a call costs a hash and a look-up. Refusals are not
//! remembered: whoever sends wrong credentials pays by the rate limit of the address.

use std::{fmt, sync::Arc, time::Duration};

use domain::{BillingStore, Clock, Timestamp};
use futures_util::future::BoxFuture;
use http::{
    HeaderMap,
    header::{AUTHORIZATION, COOKIE},
};

use super::{
    api_key::{ApiKey, KeyTextError, PREFIX},
    cache::{Cache, Digest, digest_of},
    certificates::Certificates,
    jwt::{TOKEN_BYTES_MAX, Tokens},
    keys::{Keys, Known, Usage},
    principal::{CredentialKind, Principal},
    refusal::Refusal,
    session::Sessions,
    shown::{API_KEY_HEADER, Shown},
};

/// How long a checked credential is remembered. Longer, and keys that cannot be read would count for
/// longer than [`KeyOptions::stale_max`](super::keys::KeyOptions) says.
pub const REMEMBERED_MAX: Duration = Duration::from_secs(60);

/// Most credentials that are remembered. One takes some 200 bytes.
pub const REMEMBERED_ENTRIES_MAX: usize = 20_000;

/// The API keys of a deployment, whatever store they are in.
pub trait ApiKeys: Send + Sync + 'static {
    /// As [`Keys::verify`].
    ///
    /// # Errors
    /// Why it does not count.
    fn verify<'a>(&'a self, key: &'a ApiKey) -> BoxFuture<'a, Result<Known, Refusal>>;

    /// As [`Keys::generation`].
    fn generation(&self) -> u64;
}

impl<S: BillingStore> ApiKeys for Keys<S> {
    fn verify<'a>(&'a self, key: &'a ApiKey) -> BoxFuture<'a, Result<Known, Refusal>> {
        Box::pin(Self::verify(self, key))
    }

    fn generation(&self) -> u64 {
        Self::generation(self)
    }
}

/// Finds out who makes a request. Share it by `Arc`.
pub struct Authenticator {
    tokens: Option<Tokens>,
    keys: Option<Arc<dyn ApiKeys>>,
    certificates: Option<Arc<Certificates>>,
    sessions: Option<Arc<Sessions>>,
    clock: Arc<dyn Clock>,
    remembered: Cache<Remembered>,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("tokens", &self.tokens)
            .field("has_keys", &self.keys.is_some())
            .field("certificates", &self.certificates)
            .finish_non_exhaustive()
    }
}

/// A credential that counted.
#[derive(Clone)]
struct Remembered {
    principal: Principal,
    /// First moment at which it does not count any more.
    until: Option<Timestamp>,
    /// When it was checked.
    checked_at: Duration,
    /// What the keys were then.
    generation: u64,
    /// Where uses are noted.
    usage: Option<Arc<Usage>>,
}

impl Authenticator {
    /// One that knows no credential yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let remembered = Cache::new(REMEMBERED_ENTRIES_MAX);
        Self { tokens: None, keys: None, certificates: None, sessions: None, clock, remembered }
    }

    /// The same, which takes the tokens of an issuer too.
    #[must_use]
    pub fn with_tokens(self, tokens: Tokens) -> Self {
        Self { tokens: Some(tokens), ..self }
    }

    /// The same, which takes API keys too.
    #[must_use]
    pub fn with_keys(self, keys: Arc<dyn ApiKeys>) -> Self {
        Self { keys: Some(keys), ..self }
    }

    /// The same, which knows clients by their certificates too.
    #[must_use]
    pub fn with_certificates(self, certificates: Arc<Certificates>) -> Self {
        Self { certificates: Some(certificates), ..self }
    }

    /// The same, which takes the sessions of people too.
    #[must_use]
    pub fn with_sessions(self, sessions: Arc<Sessions>) -> Self {
        Self { sessions: Some(sessions), ..self }
    }

    /// The sessions of people, where they can log in.
    pub(super) fn sessions(&self) -> Option<&Sessions> {
        self.sessions.as_deref()
    }

    /// Finds out who makes a request that shows this: by its headers, and by its certificate where no
    /// header has a credential.
    ///
    /// # Errors
    /// As [`Authenticator::authenticate`].
    pub async fn identify(&self, shown: &Shown) -> Result<Principal, Refusal> {
        match (&self.certificates, &shown.certificate) {
            (Some(certificates), Some(peer)) if shown.headers.is_empty() => {
                certificates.principal(peer, self.clock.now())
            }
            _ => self.authenticate(&shown.headers).await,
        }
    }

    /// Finds out who makes a request with these headers. `cookie` is the value of a session's cookie and
    /// nothing else; the gate takes it out of what a browser sent.
    ///
    /// # Errors
    /// Why it has no principal. No text of it holds any of the credential.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, Refusal> {
        let presented = self.presented(headers)?;
        let digest = presented.digest();
        if let Some(remembered) = self.remembered.get(&digest) {
            let now = self.clock.now();
            if self.holds(&remembered, now) {
                if let Some(usage) = &remembered.usage {
                    usage.note(now);
                }
                return Ok(remembered.principal);
            }
            self.remembered.remove(&digest);
        }
        let checked = match presented {
            Presented::Text(credential) => self.check(credential).await?,
            Presented::Session(sessions, value) => self.check_session(sessions, value)?,
        };
        let principal = checked.principal.clone();
        self.remembered.put(digest, checked);
        Ok(principal)
    }

    fn holds(&self, remembered: &Remembered, now: Timestamp) -> bool {
        let age = self.clock.elapsed().saturating_sub(remembered.checked_at);
        remembered.until.is_none_or(|until| now < until)
            && age < REMEMBERED_MAX
            && remembered.generation == self.generation(remembered.principal.kind)
    }

    /// What the keys behind a kind of credential are now.
    fn generation(&self, kind: CredentialKind) -> u64 {
        match kind {
            CredentialKind::Token => {
                self.tokens.as_ref().map_or(0, |tokens| tokens.ring().generation())
            }
            CredentialKind::ApiKey => self.keys.as_ref().map_or(0, |keys| keys.generation()),
            // Not remembered, or not by keys that change.
            CredentialKind::Local | CredentialKind::Certificate | CredentialKind::Session => 0,
        }
    }

    /// The one credential of a request. Where nobody logs in, cookies are those of others.
    fn presented<'h>(&'h self, headers: &'h HeaderMap) -> Result<Presented<'h>, Refusal> {
        let sessions = self.sessions();
        let cookies = sessions.map(|sessions| (sessions, headers.get_all(COOKIE)));
        let cookies = cookies
            .into_iter()
            .flat_map(|(sessions, values)| values.iter().map(move |value| (Some(sessions), value)));
        let texts = headers.get_all(AUTHORIZATION).iter().chain(headers.get_all(API_KEY_HEADER));
        let mut all = texts.map(|value| (None, value)).chain(cookies);
        let (sessions, first) = all.next().ok_or(Refusal::Missing)?;
        if all.next().is_some() {
            // A proxy in between may have checked the other one.
            return Err(Refusal::Invalid(
                "the request has more than one; send one header with one",
            ));
        }
        let text = first.to_str().map_err(|_| Refusal::Invalid("it is not plain ASCII"))?;
        let credential = match sessions.is_some() || headers.contains_key(API_KEY_HEADER) {
            true => text,
            false => bearer(text)?,
        };
        match credential.len() {
            0 => Err(Refusal::Missing),
            1..=TOKEN_BYTES_MAX => Ok(match sessions {
                Some(sessions) => Presented::Session(sessions, credential),
                None => Presented::Text(credential),
            }),
            _ => Err(Refusal::Invalid("it is longer than 8192 bytes")),
        }
    }

    fn check_session(&self, sessions: &Sessions, value: &str) -> Result<Remembered, Refusal> {
        let session = sessions.open(value, &*self.clock)?;
        Ok(Remembered {
            principal: session.principal,
            until: Some(session.until),
            checked_at: self.clock.elapsed(),
            generation: 0,
            usage: None,
        })
    }

    async fn check(&self, credential: &str) -> Result<Remembered, Refusal> {
        let checked_at = self.clock.elapsed();
        if !credential.starts_with(PREFIX) && Tokens::is_token(credential) {
            let why = "tokens are not accepted here; use an API key";
            let tokens = self.tokens.as_ref().ok_or(Refusal::Invalid(why))?;
            let verified = tokens.verify(credential).await?;
            return Ok(Remembered {
                principal: verified.principal,
                until: Some(verified.until),
                checked_at,
                generation: verified.generation,
                usage: None,
            });
        }
        let key = ApiKey::parse(credential).map_err(|error| match error {
            KeyTextError::NotAKey => Refusal::Invalid("it is neither a token nor an API key"),
            KeyTextError::Mistyped => {
                Refusal::Invalid("the API key is mistyped: its checksum does not fit")
            }
        })?;
        let why = "API keys are not accepted here; use a token";
        let keys = self.keys.as_ref().ok_or(Refusal::Invalid(why))?;
        // Asked before: a change while the key is checked then counts as one after.
        let generation = keys.generation();
        let known = keys.verify(&key).await?;
        known.usage.note(self.clock.now());
        Ok(Remembered {
            principal: known.principal,
            until: known.until,
            checked_at,
            generation,
            usage: Some(known.usage),
        })
    }
}

/// What a request shows.
#[derive(Clone, Copy)]
enum Presented<'h> {
    /// A token or an API key.
    Text(&'h str),
    /// The value of a session's cookie.
    Session(&'h Sessions, &'h str),
}

impl Presented<'_> {
    /// A session sent as a token would be used where no page is asked for, so the two never meet: no
    /// header has a NUL.
    fn digest(self) -> Digest {
        match self {
            Self::Text(credential) => digest_of(credential),
            Self::Session(_, value) => digest_of(&format!("\0{value}")),
        }
    }
}

fn bearer(text: &str) -> Result<&str, Refusal> {
    match text.split_once(' ') {
        Some((scheme, credential)) if scheme.eq_ignore_ascii_case("bearer") => {
            Ok(credential.trim_start_matches(' '))
        }
        _ => Err(Refusal::Invalid("the scheme is not Bearer; send `authorization: Bearer`")),
    }
}

#[cfg(test)]
mod tests;
