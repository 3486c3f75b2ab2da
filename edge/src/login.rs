//! Login: how a person who opens a page in a browser becomes somebody, by the issuer whose tokens count.
//!
//! The authorization code flow of OpenID Connect with PKCE: `GET /login` sends the browser to the
//! issuer and leaves it a sealed ticket; `GET /login/callback` takes the issuer's answer, exchanges its
//! code, checks the ID token as any token, and begins a [session](crate::access::session); `POST
//! /logout` ends it. No process keeps anything between the two steps, so that each may answer either.
//! These routes need no credential, so their requests are counted by address here, and the issuer is
//! asked by a few of them at a time.

mod ticket;
mod failure;
mod exchange;
mod routes;

use std::{fmt, sync::Arc, time::Duration};

use domain::Clock;
use tokio::sync::{Mutex, Semaphore};
use utoipa::OpenApi as _;

use crate::{
    Doors, Routes,
    access::{
        Rule,
        api_key::ServerSecret,
        cookie::Cookie,
        issuer::{Issuer, Metadata},
        jwt::Tokens,
        rate::{Rate, RateLimits, Rates},
        seal::Seal,
        session::Sessions,
        web::FetchError,
    },
    http::BODY_BYTES_MAX,
};

/// Who may ask for what: whoever logs in has no credential yet.
pub const RULES: [Rule; 3] =
    [Rule::open("GET /login"), Rule::open("GET /login/callback"), Rule::open("POST /logout")];

/// Where the issuer sends the browser back to, below the deployment's origin.
const CALLBACK: &str = "/login/callback";

/// Codes that are exchanged at once; each holds a connection to the issuer for some seconds at most.
const EXCHANGES_MAX: usize = 16;

/// Requests of one address: so many per second, and so many at once.
const PER_ADDRESS: (u32, u32) = (10, 50);

/// How long the issuer's addresses are remembered, and that it did not give them.
const METADATA_KEPT: Duration = Duration::from_secs(300);
const METADATA_MISSED: Duration = Duration::from_secs(5);

/// The client of the issuer for logins.
#[derive(Clone)]
pub struct LoginOptions {
    /// The client's id at the issuer; ID tokens are for this audience.
    pub client_id: String,
    /// Its secret; `None` for a client that the issuer knows as public.
    pub client_secret: Option<String>,
    /// What is asked for, between blanks; `openid` is among them.
    pub scopes: String,
    /// How long a session counts at most; it ends earlier with the ID token.
    pub session_max: Duration,
}

impl fmt::Debug for LoginOptions {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginOptions").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// Logs people in. Share it by `Arc`.
pub struct Login {
    issuer: Issuer,
    /// Checks ID tokens.
    tokens: Tokens,
    sessions: Arc<Sessions>,
    tickets: Seal,
    options: LoginOptions,
    clock: Arc<dyn Clock>,
    rates: Rates,
    exchanges: Semaphore,
    /// Held while the issuer is asked, so that one answer serves all who wait for it.
    metadata: Mutex<Option<Asked>>,
}

/// What the issuer said of its addresses, and when.
#[derive(Clone)]
struct Asked {
    at: Duration,
    said: Result<Metadata, FetchError>,
}

impl Login {
    /// Logs in by this issuer. `tokens` checks tokens whose audience is the client.
    #[must_use]
    pub fn new(
        issuer: Issuer,
        tokens: Tokens,
        (sessions, secret): (Arc<Sessions>, &ServerSecret),
        options: LoginOptions,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (per_second, burst) = PER_ADDRESS;
        let per_address = Rate::new(per_second, burst);
        let limits = RateLimits { per_address, per_credential: None, ..RateLimits::default() };
        let purpose = ["pulso login 1", issuer.name(), &options.client_id];
        Self {
            tickets: Seal::new(secret, &purpose),
            rates: Rates::new(&limits, &clock),
            exchanges: Semaphore::new(EXCHANGES_MAX),
            metadata: Mutex::new(None),
            issuer,
            tokens,
            sessions,
            options,
            clock,
        }
    }

    /// Its routes.
    #[must_use]
    pub fn doors(self: Arc<Self>) -> Doors {
        Doors {
            http: Routes::new(routes::router(self), BODY_BYTES_MAX),
            openapi: routes::Description::openapi(),
            rules: RULES.to_vec(),
            ..Doors::default()
        }
    }

    /// Where the issuer sends the browser back to.
    fn callback(&self) -> String {
        format!("{}{CALLBACK}", self.sessions.origin().as_str())
    }

    fn cookie(&self) -> Cookie {
        Cookie::login(self.sessions.carrier())
    }

    /// The issuer's addresses. While it does not answer, those from before count.
    async fn metadata(&self) -> Result<Metadata, FetchError> {
        let mut held = self.metadata.lock().await;
        let now = self.clock.elapsed();
        // It stays there while the issuer is asked: whoever asks may go away.
        let before = held.clone();
        if let Some(asked) = &before {
            let kept = if asked.said.is_ok() { METADATA_KEPT } else { METADATA_MISSED };
            if now.saturating_sub(asked.at) < kept {
                return asked.said.clone();
            }
        }
        let mut said = self.issuer.discover().await;
        if let (Err(error), Some(Asked { said: Ok(known), .. })) = (&said, before) {
            tracing::warn!(%error, "the issuer does not say where its addresses are; those from before count");
            said = Ok(known);
        }
        *held = Some(Asked { at: now, said: said.clone() });
        said
    }
}

#[cfg(test)]
mod tests;
