//! How many connections the process can have at all, and the edge that its doors share.

use edge::{
    Edge,
    listen::{Tls, descriptors},
};
use tracing::warn;

use crate::{
    config::Loaded,
    exit::{Exit, Failure},
};

/// Raises the limit on open files as far as it goes and derives from it how many connections there
/// may be.
///
/// # Errors
/// With the configuration code, when too few files may be open.
pub(super) fn edge(loaded: &Loaded, tls: Option<Tls>) -> Result<Edge, Failure> {
    let open_files_max = raise_open_files()?;
    let limits =
        loaded.edge_limits(open_files_max).map_err(|error| Failure::new(Exit::Config, error))?;
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
    Ok(Edge::new(&limits, tls))
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
