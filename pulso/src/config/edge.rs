//! The limits on what clients take of the process, from their settings and from how many files it may
//! open.

use edge::listen::{
    EdgeLimits,
    descriptors::{TooFewDescriptors, connections_max},
};

use super::loaded::Loaded;

impl Loaded {
    /// The limits on what clients take of the process. `open_files_max` is the limit on open files.
    ///
    /// # Errors
    /// When that leaves too few for connections.
    pub fn edge_limits(&self, open_files_max: usize) -> Result<EdgeLimits, TooFewDescriptors> {
        let edge = &self.config.edge;
        let connections_max = connections_max(
            edge.connections_max.as_usize(),
            edge.descriptors_reserved.as_usize(),
            open_files_max,
        )?;
        Ok(EdgeLimits {
            connections_max,
            connections_per_peer_max: edge.connections_per_peer_max.as_usize(),
            first_byte_timeout: edge.first_byte_timeout.duration(),
            header_timeout: edge.header_timeout.duration(),
            message_timeout: edge.message_timeout.duration(),
            write_timeout: edge.write_timeout.duration(),
            keep_alive: edge.keep_alive.duration(),
            connection_window_bytes: in_32_bits(edge.connection_window_bytes.bytes()),
            stream_window_bytes: in_32_bits(edge.stream_window_bytes.bytes()),
            streams_per_connection_max: in_32_bits(edge.streams_per_connection_max.get()),
            calls_max: edge.calls_max.as_usize(),
            calls_per_peer_max: edge.calls_per_peer_max.as_usize(),
            header_bytes_max: in_32_bits(edge.header_bytes_max.bytes()),
            resets_pending_max: edge.resets_pending_max.as_usize(),
            request_bytes_in_flight_max: edge.request_bytes_in_flight_max.as_usize(),
            retry_after: self.config.ingest.retry_after.duration(),
        })
    }
}

/// Contradictions among them.
pub(super) fn edge_contradiction(loaded: &Loaded) -> Option<(&'static str, String)> {
    let edge = &loaded.config.edge;
    let is_larger = edge.stream_window_bytes.bytes() > edge.connection_window_bytes.bytes();
    is_larger.then(|| {
        let problem = format!(
            "edge.connection_window_bytes is {}: give at most that, better a sixteenth",
            edge.connection_window_bytes
        );
        ("edge.stream_window_bytes", problem)
    })
}

/// A number that its setting's range keeps below 2^32.
fn in_32_bits(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
