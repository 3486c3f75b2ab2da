//! TLS of the listeners, kept fresh: the files are read again on an interval and at SIGHUP.
//!
//! What cannot be used changes nothing. The certificate in use stays, the log says which file is wrong,
//! and the check `tls` is degraded: the process keeps its traffic, and an operator is told.

use std::time::Duration;

use domain::{Clock as _, Timestamp};
use edge::listen::tls::{Reloaded, Tls, TlsError};
use metrics::gauge;
use runtime::{Shutdown, clock, health::Check};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use crate::{
    config::{Config, tls::key_of},
    exit::{Exit, Failure},
};

/// Reads the files that the configuration names; `None` where it names none.
///
/// # Errors
/// With the configuration code, which setting's file cannot be used and why.
pub(crate) fn load(config: &Config) -> Result<Option<Tls>, Failure> {
    let loaded = config.listen.tls_files().map(Tls::load).transpose();
    loaded.map_err(|error| Failure::new(Exit::Config, said(&error)))
}

/// Keeps what new connections get to what the files hold, until shutdown.
///
/// # Errors
/// When the process cannot listen for SIGHUP.
pub(super) async fn keep(
    tls: Tls,
    every: Duration,
    check: Check,
    until: Shutdown,
) -> Result<(), Failure> {
    let mut hangup = signal(SignalKind::hangup()).map_err(Failure::internal)?;
    let mut keeper = Keeper { tls, check, trouble: None };
    loop {
        keeper.look().await?;
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = hangup.recv() => info!("SIGHUP: the files of TLS are read again"),
            () = until.requested() => return Ok(()),
        }
    }
}

struct Keeper {
    tls: Tls,
    check: Check,
    /// What was wrong at the last look, so that it is logged once.
    trouble: Option<String>,
}

impl Keeper {
    async fn look(&mut self) -> Result<(), Failure> {
        let tls = self.tls.clone();
        let reloaded = tokio::task::spawn_blocking(move || tls.reload()).await;
        let reloaded = reloaded.map_err(Failure::internal)?;
        let now = clock::system().now();
        let expires_at = self.tls.expires_at();
        if let Some(expires_at) = expires_at {
            let left = expires_at.micros().saturating_sub(now.micros()).max(0).unsigned_abs();
            let left = Duration::from_micros(left);
            gauge!("pulso_tls_certificate_expiry_seconds").set(left.as_secs_f64());
        }
        let trouble = match &reloaded {
            Err(error) => Some(format!("{}; what was read before stays in use", said(error))),
            Ok(_) => expired(&self.tls, expires_at, now),
        };
        if matches!(reloaded, Ok(Reloaded::Changed)) {
            let expires_at = expires_at.map(|at| at.to_string());
            info!(expires_at, "new connections get the certificate that was read now");
        }
        match &trouble {
            None => self.check.ready(),
            Some(trouble) => self.check.degraded(trouble),
        }
        if trouble != self.trouble {
            if let (Some(problem), Err(_)) = (&trouble, &reloaded) {
                error!(problem, "the files of TLS have changed and cannot be used");
            }
            self.trouble = trouble;
        }
        Ok(())
    }
}

fn expired(tls: &Tls, expires_at: Option<Timestamp>, now: Timestamp) -> Option<String> {
    let expires_at = expires_at.filter(|expires_at| *expires_at <= now)?;
    let (key, path) =
        (key_of(edge::listen::tls::Part::Certificate), tls.files().certificate.display());
    Some(format!("{key} = `{path}`: a certificate expired at {expires_at}: clients refuse it"))
}

/// The error under its setting's name.
fn said(error: &TlsError) -> String {
    format!("{} = {error}", key_of(error.part))
}
