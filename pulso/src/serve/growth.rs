//! Growth, as a running process sees it: it looks at the registry of generations, and when there is a
//! newer one it ends in order and starts again on that, in the same process and on the same addresses.
//!
//! A process that cannot ask goes on: no store is needed to take pulses. What it still appends once its
//! log has ended is set aside as `after_seal` and can be sent again.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use domain::{LogId, UsageStore as _};
use edge::listen::Tls;
use runtime::Shutdown;
use storage::choice::Usage;
use tracing::{debug, info};

use crate::{
    config::Config,
    exit::{Exit, Failure},
};

/// The sockets of a process, which outlive the stages behind them: who connects while those start
/// again waits and is not refused.
pub struct Listeners {
    grpc: TcpListener,
    http: TcpListener,
    /// What secures both. It outlives the stages as well: files that cannot be used at that moment must
    /// not end the process.
    tls: Option<Tls>,
}

impl Listeners {
    /// Binds what the configuration names.
    ///
    /// # Errors
    /// With the configuration code, when an address is taken or is none of this machine's.
    pub async fn bind(config: &Config, tls: Option<Tls>) -> Result<Self, Failure> {
        let (grpc, http) = (config.listen.grpc, config.listen.http);
        let (grpc, http) = (bind("listen.grpc", grpc).await?, bind("listen.http", http).await?);
        Ok(Self { grpc, http, tls })
    }

    /// What secures both sockets.
    pub(super) fn tls(&self) -> Option<Tls> {
        self.tls.clone()
    }

    /// The sockets of gRPC and HTTP, for one run of the stages.
    pub(super) fn lend(&self) -> Result<[tokio::net::TcpListener; 2], Failure> {
        let lend = |listener: &TcpListener| {
            let listener = listener.try_clone().and_then(tokio::net::TcpListener::from_std);
            listener.map_err(Failure::internal)
        };
        Ok([lend(&self.grpc)?, lend(&self.http)?])
    }
}

async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    let bound = tokio::net::TcpListener::bind(address).await;
    bound.and_then(tokio::net::TcpListener::into_std).map_err(|error| {
        let remedy = "stop what listens there, or choose another address (port 0 takes a free one)";
        Failure::new(Exit::Config, format_args!("{key} = `{address}`: {error}: {remedy}"))
    })
}

/// Waits until the store knows a newer generation of the log than this, and tells so; or until
/// shutdown. It looks at once, because the log may have grown while the stages started.
pub(super) async fn has_grown(
    usage: &Arc<Usage>,
    log_id: LogId,
    every: Duration,
    shutdown: &Shutdown,
) -> bool {
    loop {
        match usage.generations().await {
            Ok(known) if known.last().is_some_and(|newest| newest.log_id != log_id) => {
                info!(%log_id, "the log has grown: starting again on its next generation");
                return true;
            }
            Ok(_) => {}
            Err(error) => debug!(%error, "whether the log has grown cannot be asked now"),
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = shutdown.requested() => return false,
        }
    }
}
