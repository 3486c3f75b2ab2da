//! The doors: what gRPC and HTTP share before a call reaches a stage, and how many connections the
//! process can have at all.

use std::sync::Arc;

use axum::Router;
use edge::listen::{EdgeLimits, Gate, Listener, calls::Calls, descriptors, http::HttpDoor};
use runtime::Shutdown;
use tokio::net::TcpListener;
use tracing::warn;

use crate::{
    config::Loaded,
    exit::{Exit, Failure},
};

/// Most bytes of a request that is no batch: a catalogue's file, and what is around it.
pub(super) const REQUEST_BYTES_MAX: usize = pricing::file::BYTES_MAX + (64 << 10);

/// The bounds on clients that both doors share. Clones share them.
#[derive(Clone)]
pub(super) struct Doors {
    pub(super) limits: Arc<EdgeLimits>,
    pub(super) calls: Calls,
    gate: Gate,
}

impl Doors {
    /// Raises the limit on open files as far as it goes and derives from it how many connections
    /// there may be.
    ///
    /// # Errors
    /// With the configuration code, when too few files may be open.
    pub(super) fn new(loaded: &Loaded) -> Result<Self, Failure> {
        let open_files_max = raise_open_files()?;
        let limits = loaded
            .edge_limits(open_files_max)
            .map_err(|error| Failure::new(Exit::Config, error))?;
        let (configured, allowed) =
            (loaded.config.edge.connections_max.as_usize(), limits.connections_max);
        if allowed < configured {
            let reserved = loaded.config.edge.descriptors_reserved.get();
            warn!(
                configured,
                connections_max = allowed,
                open_files_max,
                reserved,
                "edge.connections_max is lowered: the limit on open files leaves no more beside what is kept for log and store; raise it with `ulimit -n`"
            );
        }
        let (gate, calls) = (Gate::new(&limits), Calls::new(&limits));
        Ok(Self { limits: Arc::new(limits), calls, gate })
    }

    /// The listener of one door.
    pub(super) fn listener(&self, socket: TcpListener) -> Listener {
        Listener::new(socket, &self.gate)
    }

    /// Serves HTTP until shutdown is requested and every request is answered.
    pub(super) async fn serve_http(self, router: Router, socket: TcpListener, until: Shutdown) {
        let body_bytes_max = u32::try_from(REQUEST_BYTES_MAX).expect("a few MiB");
        let listener = self.listener(socket);
        HttpDoor::new(router, self.calls, body_bytes_max).serve(listener, until).await;
    }
}

/// Raises the limit on open files as far as it goes and gives it.
///
/// # Errors
/// When the system refuses.
pub(super) fn raise_open_files() -> Result<usize, Failure> {
    descriptors::raise().map_err(|error| {
        Failure::internal(format!("the limit on open files cannot be raised: {error}"))
    })
}
