//! Logins by a browser: as which client of the issuer, and for which pages.

use std::{fmt, sync::Arc};

use domain::Clock;
use edge::{
    access::{
        api_key::ServerSecret,
        browser::Origin,
        issuer::Issuer,
        jwt::{TokenOptions, Tokens, keyring::KeyRing},
        session::Sessions,
    },
    login::{Login, LoginOptions},
};

use super::tokens;
use crate::{
    config::keys::Access,
    exit::{Exit, Failure},
};

/// What logs people in, but for the issuer's keys.
pub(super) struct Prepared {
    issuer: Issuer,
    sessions: Sessions,
    secret: ServerSecret,
    options: LoginOptions,
}

/// Reads the settings; `None` where nobody logs in.
///
/// # Errors
/// With the configuration code, which names the setting.
pub(super) fn prepare(
    settings: &Access,
    issuer: &str,
    secret: &ServerSecret,
) -> Result<Option<Prepared>, Failure> {
    let Some(client_id) = settings.login_client_id.get() else { return Ok(None) };
    let sessions = Sessions::new(secret, issuer, origin(settings)?)
        .map_err(|error| wrong("access.public_url", error))?;
    let scopes = settings.login_scopes.get().unwrap_or_default();
    if !scopes.split(' ').any(|scope| scope == "openid") {
        return Err(wrong(
            "access.login_scopes",
            "`openid` is not among them, and a login needs it",
        ));
    }
    let issuer = Issuer::new(issuer, tokens::client(settings)?)
        .map_err(|error| wrong("access.token_issuer", error))?;
    let options = LoginOptions {
        client_id: client_id.to_owned(),
        client_secret: settings.login_client_secret.reveal().map(str::to_owned),
        scopes: scopes.to_owned(),
        session_max: settings.session_max.duration(),
    };
    Ok(Some(Prepared { issuer, sessions, secret: secret.clone(), options }))
}

impl Prepared {
    /// Puts what logs people in together with the issuer's keys, and what knows them afterwards.
    pub(super) fn open(
        self,
        ring: &Arc<KeyRing>,
        clock: &Arc<dyn Clock>,
    ) -> (Arc<Login>, Arc<Sessions>) {
        let Self { issuer, sessions, secret, options } = self;
        // An ID token is for the client alone, and no token for programs logs anybody in.
        let for_client = TokenOptions::new(issuer.name(), &*options.client_id);
        let tokens = Tokens::new(for_client, Arc::clone(ring), Arc::clone(clock));
        let sessions = Arc::new(sessions);
        let of_deployment = (Arc::clone(&sessions), &secret);
        let login = Login::new(issuer, tokens, of_deployment, options, Arc::clone(clock));
        (Arc::new(login), sessions)
    }
}

fn origin(settings: &Access) -> Result<Origin, Failure> {
    let text = settings.public_url.get().ok_or_else(|| {
        wrong("access.public_url", "it is empty, and access.login_client_id needs it")
    })?;
    text.parse().map_err(|error| wrong("access.public_url", error))
}

fn wrong(setting: &str, error: impl fmt::Display) -> Failure {
    Failure::new(Exit::Config, format_args!("{setting}: {error}"))
}
