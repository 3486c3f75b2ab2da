//! Access: who may come in, from the configuration and the keys in the billing store, and the trail of
//! what they changed.

pub(crate) mod audit_log;
mod grpc;
mod tokens;
mod login;

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroU64},
    sync::Arc,
};

use domain::Clock;
use edge::{
    Doors,
    access::{
        Authenticator,
        api_key::ServerSecret,
        browser::Origin,
        certificates::Certificates,
        jwt::{TokenOptions, Tokens, keyring::KeyRing},
        keys::{KeyOptions, Keys},
        quota::{QuotaLimits, Quotas},
        rate::{Rate, RateLimits, Rates},
        trail::Trail,
    },
    http::Hosts,
    login::Login,
};
use runtime::{Health, Shutdown, clock};
use storage::choice::Billing;
use tokio::task::JoinHandle;

use super::backends;
use crate::{
    config::{Config, access_mode::AccessMode, keys::Access},
    exit::{Exit, Failure},
};

use audit_log::AuditLog;
pub use grpc::RULES;
pub(crate) use grpc::{key_document, new_key, problem_of};

/// What was opened of it.
pub(super) struct Opened {
    /// Absent where no credentials are asked for.
    pub(super) authenticator: Option<Authenticator>,
    pub(super) rates: Rates,
    pub(super) quotas: Quotas,
    pub(super) origins: Vec<Origin>,
    pub(super) hosts: Hosts,
    pub(super) trail: Arc<Trail<Billing>>,
    keys: Option<Arc<Keys<Billing>>>,
    ring: Option<Arc<KeyRing>>,
    certificates: Option<Arc<Certificates>>,
    login: Option<Arc<Login>>,
}

/// Checks that nobody unknown can reach a process that asks for no credentials.
///
/// # Errors
/// With the configuration code, when it would listen beyond loopback.
pub(super) fn check_listen(config: &Config) -> Result<(), Failure> {
    let addresses = [("listen.grpc", config.listen.grpc), ("listen.http", config.listen.http)];
    let beyond = |(_, address): &(_, SocketAddr)| !address.ip().is_loopback();
    match (config.access.mode, addresses.into_iter().find(beyond)) {
        (AccessMode::Off, Some((key, address))) => Err(Failure::new(
            Exit::Config,
            format_args!(
                "{key} = `{address}` is not on loopback and access.mode = `off` asks nobody for a credential; set it to `required`, or to `open` behind a gateway that asks"
            ),
        )),
        _ => Ok(()),
    }
}

/// Opens the keys of a deployment.
///
/// # Errors
/// With the configuration code for a secret that is too short; those of the store.
pub(crate) async fn open_keys(
    config: &Config,
    billing: Arc<Billing>,
) -> Result<Keys<Billing>, Failure> {
    let secret = config.access.key_secret.reveal();
    let secret = secret.map(|secret| ServerSecret::new(secret.as_bytes())).transpose();
    let secret = secret
        .map_err(|error| Failure::new(Exit::Config, format_args!("access.key_secret: {error}")))?;
    let clock: Arc<dyn Clock> = Arc::new(clock::system());
    let keys = Keys::open(billing, secret, KeyOptions::default(), clock).await;
    keys.map_err(|error| backends::store_failure(&error))
}

/// Opens what the configuration asks for.
///
/// # Errors
/// With the configuration code, which names the setting; those of the store.
pub(super) async fn open(
    config: &Config,
    billing: &Arc<Billing>,
    shutdown: &Shutdown,
) -> Result<Opened, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(clock::system());
    let settings = &config.access;
    let rates = Rates::new(&rate_limits(settings), &clock);
    let quotas = Quotas::new(quota_limits(settings));
    let origins = origins(settings)?;
    let hosts = match settings.mode {
        AccessMode::Off => Hosts::Local,
        AccessMode::Open | AccessMode::Required => Hosts::Any,
    };
    let trail = Arc::new(Trail::new(Arc::clone(billing), Arc::clone(&clock)));
    let mut opened = Opened {
        authenticator: None,
        rates,
        quotas,
        origins,
        hosts,
        trail,
        keys: None,
        ring: None,
        certificates: None,
        login: None,
    };
    if settings.mode != AccessMode::Required {
        return Ok(opened);
    }
    let keys = Arc::new(open_keys(config, Arc::clone(billing)).await?);
    let mut authenticator = Authenticator::new(Arc::clone(&clock)).with_keys(keys.clone());
    if let Some(issuer) = settings.token_issuer.get() {
        let audiences = tokens::audiences(settings)?;
        let login = login::prepare(settings, issuer, keys.secret())?;
        let ring = tokens::ring(settings, issuer, Arc::clone(&clock), shutdown).await?;
        if let Some(audiences) = audiences {
            let options = TokenOptions { audiences, ..TokenOptions::new(issuer, "") };
            let tokens = Tokens::new(options, Arc::clone(&ring), Arc::clone(&clock));
            authenticator = authenticator.with_tokens(tokens);
        }
        if let Some(login) = login {
            let (login, sessions) = login.open(&ring, &clock);
            authenticator = authenticator.with_sessions(sessions);
            opened.login = Some(login);
        }
        opened.ring = Some(ring);
    } else if settings.login_client_id.get().is_some() {
        let message = "access.token_issuer is empty, and access.login_client_id needs it";
        return Err(Failure::new(Exit::Config, message));
    }
    if let Some(certificates) = load_certificates(settings)?.map(Arc::new) {
        authenticator = authenticator.with_certificates(Arc::clone(&certificates));
        opened.certificates = Some(certificates);
    }
    opened.authenticator = Some(authenticator);
    opened.keys = Some(keys);
    Ok(opened)
}

/// Reads the clients that are known by their certificates; `None` where no file is named.
///
/// # Errors
/// With the configuration code, what is wrong with the file and where.
pub(crate) fn load_certificates(settings: &Access) -> Result<Option<Certificates>, Failure> {
    let loaded = settings.certificates.get().map(Certificates::load).transpose();
    loaded
        .map_err(|error| Failure::new(Exit::Config, format_args!("access.certificates = {error}")))
}

impl Opened {
    /// What manages the keys, where there are any, and shows the audit trail; and what logs people in.
    pub(super) fn doors(&self) -> Vec<Doors> {
        let audit_log = Arc::new(AuditLog::new(Arc::clone(&self.trail)));
        let own = grpc::doors(self.keys.clone(), audit_log);
        [own].into_iter().chain(self.login.clone().map(Login::doors)).collect()
    }

    /// Keeps keys, key sets and names of certificates up to date until shutdown.
    pub(super) fn keep(
        &self,
        health: &Health,
        shutdown: &Shutdown,
    ) -> Vec<JoinHandle<Result<(), Failure>>> {
        let mut tasks = Vec::new();
        if let Some(keys) = self.keys.clone() {
            let until = shutdown.clone();
            tasks.push(tokio::spawn(async move {
                keys.keep(&until).await;
                Ok(())
            }));
        }
        if let Some(ring) = self.ring.clone() {
            let until = shutdown.clone();
            tasks.push(tokio::spawn(async move {
                ring.keep(&until).await;
                Ok(())
            }));
        }
        if let Some(certificates) = self.certificates.clone() {
            let (check, until) = (health.register("certificates"), shutdown.clone());
            tasks.push(tokio::spawn(async move {
                certificates.keep(check, &until).await;
                Ok(())
            }));
        }
        tasks
    }
}

/// A second's requests may all come at once.
fn rate_limits(settings: &Access) -> RateLimits {
    let rate = |per_second: u32| Rate::new(per_second, per_second);
    RateLimits {
        per_credential: rate(settings.requests_per_client.as_u32()),
        per_address: rate(settings.requests_per_address.as_u32()),
        ..RateLimits::default()
    }
}

fn quota_limits(settings: &Access) -> QuotaLimits {
    QuotaLimits {
        streams: NonZeroU32::new(settings.streams_per_client.as_u32()),
        bytes_per_second: NonZeroU64::new(settings.bytes_per_client.bytes()),
        ..QuotaLimits::default()
    }
}

fn origins(settings: &Access) -> Result<Vec<Origin>, Failure> {
    let origins = settings.origins.iter().map(str::parse::<Origin>);
    origins
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::new(Exit::Config, format_args!("access.origins: {error}")))
}
