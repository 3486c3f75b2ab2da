//! Session: the credential of a person who logged in by a browser, as a sealed cookie.
//!
//! The cookie holds the person's principal and when it ends, so no process keeps anything for it and
//! each one of a deployment takes it. A browser adds it to whatever a page asks for, so a write counts
//! only when it says that it comes from a page of this deployment. It cannot be taken back before it
//! ends; another server secret ends all of them.

use std::{fmt, time::Duration};

use domain::{Clock, Timestamp};
use http::{HeaderMap, HeaderValue, Method, header::ORIGIN};
use serde::{Deserialize, Serialize};
use tonic::Code;

use super::{
    api_key::ServerSecret,
    cookie::{Carrier, Cookie, TooLong},
    origin::Origin,
    principal::{CredentialKind, IdentityScope, Parts, Principal, Roles, Tenants},
    refusal::Refusal,
    seal::Seal,
};
use crate::{Problem, problem::reasons};

/// A deployment that browsers cannot log in to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is reached in plain text, where anybody on the way could take over a session; use https, or \
     http on loopback or localhost"
)]
pub struct PlainText(String);

/// The sessions of one deployment.
pub struct Sessions {
    seal: Seal,
    carrier: Carrier,
    origin: Origin,
    issuer: String,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// What a cookie holds.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(rename = "s")]
    subject: String,
    #[serde(rename = "r")]
    roles: Roles,
    #[serde(rename = "t")]
    tenants: Tenants,
    /// In microseconds since 1970.
    #[serde(rename = "u")]
    until: i64,
}

/// A session that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The person who logged in.
    pub principal: Principal,
    /// First moment at which it does not count any more.
    pub until: Timestamp,
}

impl Sessions {
    /// Those of people of an issuer, for a deployment whose pages are at this origin.
    ///
    /// # Errors
    /// When pages would travel in plain text, other than on loopback.
    pub fn new(secret: &ServerSecret, issuer: &str, origin: Origin) -> Result<Self, PlainText> {
        let carrier = match (origin.is_secure(), origin.is_loopback()) {
            (true, _) => Carrier::Tls,
            (false, true) => Carrier::Loopback,
            (false, false) => return Err(PlainText(origin.as_str().to_owned())),
        };
        let seal = Seal::new(secret, &["pulso session 1", issuer, origin.as_str()]);
        Ok(Self { seal, carrier, origin, issuer: issuer.to_owned() })
    }

    /// Where the deployment's pages are.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) const fn carrier(&self) -> Carrier {
        self.carrier
    }

    pub(crate) const fn cookie(&self) -> Cookie {
        Cookie::session(self.carrier)
    }

    /// The header that begins a session of this person, until this moment.
    pub(crate) fn begin(
        &self,
        person: &Principal,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<HeaderValue, TooLong> {
        let kept = Kept {
            subject: person.id.clone(),
            roles: person.roles,
            tenants: person.tenants.clone(),
            until: until.micros(),
        };
        let kept = serde_json::to_vec(&kept).expect("texts and numbers always serialise");
        let micros = u64::try_from(until.micros() - now.micros()).unwrap_or(0);
        self.cookie().set(&self.seal.seal(&kept), Duration::from_micros(micros))
    }

    /// Checks a cookie's value.
    ///
    /// # Errors
    /// `Invalid` or `Expired`.
    pub fn open(&self, value: &str, clock: &dyn Clock) -> Result<Session, Refusal> {
        let refused = Refusal::Invalid("the session is not one of this server's; log in again");
        let kept = self.seal.open(value).ok_or_else(|| refused.clone())?;
        let kept: Kept = serde_json::from_slice(&kept).map_err(|_| refused.clone())?;
        let until = Timestamp::from_micros(kept.until).ok_or(refused)?;
        if until <= clock.now() {
            return Err(Refusal::Expired);
        }
        let principal = Principal::new(Parts {
            // The client is the same as with a token of the same subject.
            scope: IdentityScope::of(CredentialKind::Token, &self.issuer, &kept.subject),
            id: kept.subject.clone(),
            name: kept.subject,
            kind: CredentialKind::Session,
            roles: kept.roles,
            tenants: kept.tenants,
        });
        Ok(Session { principal, until })
    }

    /// Checks that a page of this deployment asks, where something may change.
    ///
    /// # Errors
    /// PERMISSION_DENIED, `ORIGIN_FORBIDDEN` for a page of others, or none.
    pub fn check_page(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) {
            return Ok(());
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (Some(origin), None) if self.origin.is(origin) => Ok(()),
            _ => Err(Problem::new(
                Code::PermissionDenied,
                reasons::ORIGIN_FORBIDDEN,
                format!(
                    "with a session only pages of {} change anything; send `origin` as a browser does, or a token or an API key",
                    self.origin.as_str()
                ),
            )),
        }
    }
}

#[cfg(test)]
mod tests;
