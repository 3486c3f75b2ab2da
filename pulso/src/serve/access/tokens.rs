//! Tokens: which issuer's count, and where its keys come from.
//!
//! A file that cannot be used ends the start, as does an answer that is none. An issuer that does not
//! answer is waited for, and then the start ends too: a process that took API keys alone would refuse
//! everybody else in silence.

use std::{path::Path, sync::Arc};

use domain::Clock;
use edge::access::{
    issuer::{DiscoveredKeys, Issuer},
    jwt::{
        keyring::{KeyRing, ReloadError, ReloadOptions},
        source::{FileSource, KeySource, UrlSource},
    },
    web::{Address, Client, Patience},
};
use runtime::Shutdown;

use crate::{
    config::keys::Access,
    exit::{Exit, Failure},
};

/// Whom tokens of programs are for; `None` where only people log in.
///
/// # Errors
/// With the configuration code, which names the setting.
pub(super) fn audiences(settings: &Access) -> Result<Option<Vec<String>>, Failure> {
    let audiences: Vec<_> = settings.token_audiences.iter().map(str::to_owned).collect();
    match (audiences.is_empty(), settings.login_client_id.get()) {
        (false, _) => Ok(Some(audiences)),
        (true, Some(_)) => Ok(None),
        (true, None) => {
            Err(wrong("access.token_audiences is empty, and access.token_issuer needs it"))
        }
    }
}

/// Loads the keys of an issuer.
///
/// # Errors
/// With the configuration code, which names the setting; as unavailable when the issuer does not answer
/// in time, or the process is asked to end meanwhile.
pub(super) async fn ring(
    settings: &Access,
    issuer: &str,
    clock: Arc<dyn Clock>,
    shutdown: &Shutdown,
) -> Result<Arc<KeyRing>, Failure> {
    tokio::select! {
        ring = loaded(settings, issuer, clock) => ring,
        () = shutdown.requested() => {
            let message = "the process is asked to end, and the issuer's keys are not there yet";
            Err(Failure::new(Exit::Unavailable, message))
        }
    }
}

async fn loaded(
    settings: &Access,
    issuer: &str,
    clock: Arc<dyn Clock>,
) -> Result<Arc<KeyRing>, Failure> {
    let ring = match settings.token_keys.get() {
        None => {
            let issuer = Issuer::new(issuer, client(settings)?).map_err(|error| {
                wrong(format_args!(
                    "access.token_keys is empty, and the keys cannot be looked for below access.token_issuer: {error}"
                ))
            })?;
            let source = DiscoveredKeys(issuer);
            load(settings, "access.token_issuer", source, clock).await
        }
        Some(url) if url.contains("://") => {
            let address = Address::parse(url)
                .map_err(|error| wrong(format_args!("access.token_keys: {error}")))?;
            let source = UrlSource::new(address, client(settings)?);
            load(settings, "access.token_keys", source, clock).await
        }
        Some(path) => load(settings, "access.token_keys", FileSource::new(path), clock).await,
    };
    ring.map(Arc::new)
}

/// What asks the issuer.
///
/// # Errors
/// With the configuration code, for a file of authorities that cannot be used.
pub(super) fn client(settings: &Access) -> Result<Client, Failure> {
    Client::new(settings.issuer_ca_file.get().map(Path::new), Patience::default())
        .map_err(|error| wrong(format_args!("access.issuer_ca_file: {error}")))
}

async fn load(
    settings: &Access,
    setting: &str,
    source: impl KeySource,
    clock: Arc<dyn Clock>,
) -> Result<KeyRing, Failure> {
    let wait = settings.issuer_wait.duration();
    let loaded = KeyRing::load_within(wait, source, ReloadOptions::default(), clock).await;
    loaded.map_err(|error| failure(setting, &error))
}

fn failure(setting: &str, error: &ReloadError) -> Failure {
    match error.may_pass() {
        true => Failure::new(
            Exit::Unavailable,
            format_args!(
                "{setting}: {error}; no token could be checked, so the process does not start (access.issuer_wait says how long it waits)"
            ),
        ),
        false => wrong(format_args!("{setting}: {error}")),
    }
}

fn wrong(message: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Config, message)
}

#[cfg(test)]
mod tests {
    use runtime::clock;

    use super::*;
    use crate::config::Config;

    #[tokio::test]
    async fn a_process_that_is_asked_to_end_waits_for_no_issuer() {
        let settings = Config::default().access;
        let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (clock, shutdown) = (Arc::new(clock::system()), Shutdown::new());
        shutdown.request();
        let begun = std::time::Instant::now();
        let ring = ring(&settings, &format!("http://{away}"), clock, &shutdown).await;
        let failure = ring.unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.message.contains("asked to end"), "{failure}");
        assert!(begun.elapsed() < settings.issuer_wait.duration());
    }
}
