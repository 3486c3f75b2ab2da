//! The configuration in effect, and what other crates take of it.

use std::collections::BTreeMap;

use domain::{LogId, generation::Generation};
use ingestor_api::Limits;

use super::{
    keys::{Config, find},
    origin::Origin,
};

/// A configuration and where each value of it was set.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The value of every setting.
    pub config: Config,
    pub(super) origins: BTreeMap<&'static str, Origin>,
}

impl Loaded {
    /// Where a key was set.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// The same with another value for one key, as if it were the default.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn with_default(&self, key: &str, value: &str) -> Result<Self, String> {
        let mut changed = self.clone();
        if self.origin(key) == Origin::Default {
            let key = find(key).ok_or_else(|| format!("there is no key `{key}`"))?;
            (key.set)(&mut changed.config, value)?;
        }
        Ok(changed)
    }

    /// The fixed parameters that a log made by this configuration has. Its identity and seed are drawn
    /// when it is made, and are zero here.
    #[must_use]
    pub fn generation(&self) -> Generation {
        let log = &self.config.log;
        Generation {
            log_id: LogId([0; 16]),
            partitions: u16::try_from(log.partitions.get()).unwrap_or(u16::MAX),
            segment_records_max: log.segment_records_max.get(),
            segment_span: log.segment_span.duration(),
            horizon: log.horizon.duration(),
            lateness: log.lateness.duration(),
            future_tolerance: log.future_tolerance.duration(),
            window: log.window.length(),
            hash_seed: 0,
        }
    }

    /// The limits on clients.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let ingest = &self.config.ingest;
        Limits {
            message_bytes_max: ingest.message_bytes_max.as_usize(),
            pulses_per_batch_max: ingest.pulses_per_batch_max.as_usize(),
            pulse_bytes_max: ingest.pulse_bytes_max.as_usize(),
            record_bytes_max: ingest.record_bytes_max.as_usize(),
            record_bytes_target: ingest.record_bytes_target.as_usize(),
            partition_queue_bytes_max: ingest.partition_queue_bytes_max.as_usize(),
            appends_in_flight_max: ingest.appends_in_flight_max.as_usize(),
            streams_max: ingest.streams_max.as_usize(),
            streams_per_peer_max: ingest.streams_per_peer_max.as_usize(),
            stream_batches_in_flight_max: ingest.stream_batches_in_flight_max.as_usize(),
            stream_bytes_in_flight_max: ingest.stream_bytes_in_flight_max.as_usize(),
            bytes_in_flight_max: ingest.bytes_in_flight_max.as_usize(),
            bytes_in_flight_per_peer_max: ingest.bytes_in_flight_per_peer_max.as_usize(),
            message_timeout: self.config.edge.message_timeout.duration(),
            retry_after: ingest.retry_after.duration(),
            ..Limits::default()
        }
    }
}
