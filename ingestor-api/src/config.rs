//! Limits: how much a client may send and how much the process holds at once.
//!
//! Memory is bounded by what stands here: `bytes_in_flight_max` for messages from their first bytes
//! until they are answered, and as much again at most for the records they are copied into.

use std::time::Duration;

use thiserror::Error;

/// Room that a record's envelope needs beside its sources: version, log id, counts, lengths.
pub(crate) const ENVELOPE_BYTES: usize = 64;

/// What ingest takes. `Limits::default()` is what the documentation of each field says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of one message. Default 4 MiB, the gRPC habit. Greater ones let one client hold
    /// more memory; below a few KiB batches no longer pay.
    pub message_bytes_max: usize,
    /// Most pulses of one batch. Default 10,000.
    pub pulses_per_batch_max: usize,
    /// Most bytes of one pulse, unknown fields included. Default 32 KiB; a pulse with every known
    /// field at its limit has about 22 KiB.
    pub pulse_bytes_max: usize,
    /// Most bytes of one record of the log, and so of a numbered batch, which is never split.
    /// Default 1,000,000: below the 1 MiB that brokers take unless told otherwise.
    pub record_bytes_max: usize,
    /// A record is filled up to here while more is queued. Default 256 KiB. Smaller records cost
    /// more appends; greater ones make the first pulse in them wait.
    pub record_bytes_target: usize,
    /// Most bytes that wait for, or are in, the appends of one partition. Default 64 MiB. At the
    /// bound batches are answered RESOURCE_EXHAUSTED.
    pub partition_queue_bytes_max: usize,
    /// Appends of one partition that may be under way together. Default 4. With 1 the log idles
    /// while an answer travels; with many, records stay small.
    pub appends_in_flight_max: usize,
    /// Most open ingest streams. Default 1,024. Further ones are refused with STREAMS_EXHAUSTED.
    pub streams_max: usize,
    /// The same from one peer address, so that one client leaves streams to the others. Default 512.
    pub streams_per_peer_max: usize,
    /// Batches of one stream that may be taken and not yet acknowledged. Default 256. At the bound
    /// the server stops reading that stream.
    pub stream_batches_in_flight_max: usize,
    /// The same in bytes; overshot by one message at most. Default 16 MiB.
    pub stream_bytes_in_flight_max: usize,
    /// The same over all streams and calls, and also for messages of which the first bytes have
    /// come. Default 256 MiB. At the bound streams are no longer read and single calls are answered
    /// RESOURCE_EXHAUSTED.
    pub bytes_in_flight_max: usize,
    /// The same from one peer address. Default 128 MiB.
    pub bytes_in_flight_per_peer_max: usize,
    /// How long the bytes of one message may keep the server waiting, in all. Default 30 s. The time
    /// between the messages of a stream does not count.
    pub message_timeout: Duration,
    /// How long an overloaded answer asks a client to wait. Default 250 ms.
    pub retry_after: Duration,
    /// Whether batches share records. Default [`Packing::On`].
    pub packing: Packing,
}

/// Whether batches that wait for the same partition share a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    /// They do.
    #[default]
    On,
    /// Each has its own record and its own append, one after the other: what packing is measured
    /// against. For benches.
    Off,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 4 << 20,
            pulses_per_batch_max: 10_000,
            pulse_bytes_max: 32 << 10,
            record_bytes_max: 1_000_000,
            record_bytes_target: 256 << 10,
            partition_queue_bytes_max: 64 << 20,
            appends_in_flight_max: 4,
            streams_max: 1_024,
            streams_per_peer_max: 512,
            stream_batches_in_flight_max: 256,
            stream_bytes_in_flight_max: 16 << 20,
            bytes_in_flight_max: 256 << 20,
            bytes_in_flight_per_peer_max: 128 << 20,
            message_timeout: Duration::from_secs(30),
            retry_after: Duration::from_millis(250),
            packing: Packing::On,
        }
    }
}

/// A limit that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{key} = {value} cannot work: {remedy}")]
pub struct LimitsError {
    /// The limit's name, as under `[ingest]`.
    pub key: &'static str,
    /// Its value.
    pub value: usize,
    /// What would.
    pub remedy: String,
}

impl Limits {
    /// Checks every limit by itself and against the others.
    ///
    /// # Errors
    /// [`LimitsError`] names the first that cannot work.
    pub fn check(&self) -> Result<(), LimitsError> {
        // Byte budgets are counted in 32 bits, and places within a message too.
        const BYTES_MAX: usize = u32::MAX as usize;
        let record_bytes_min = self.pulse_bytes_max.saturating_add(RECORD_OVERHEAD_BYTES);
        let queue_bytes_min = self.record_bytes_max.saturating_add(RECORD_OVERHEAD_BYTES);
        let rows = [
            ("message_bytes_max", self.message_bytes_max, 1_024, BYTES_MAX),
            ("pulses_per_batch_max", self.pulses_per_batch_max, 1, 1_000_000),
            ("pulse_bytes_max", self.pulse_bytes_max, 1_024, self.message_bytes_max),
            ("record_bytes_max", self.record_bytes_max, record_bytes_min, BYTES_MAX / 2),
            ("record_bytes_target", self.record_bytes_target, 1, self.record_bytes_max),
            (
                "partition_queue_bytes_max",
                self.partition_queue_bytes_max,
                queue_bytes_min,
                BYTES_MAX,
            ),
            ("appends_in_flight_max", self.appends_in_flight_max, 1, 1_024),
            ("streams_max", self.streams_max, 1, 1_000_000),
            ("streams_per_peer_max", self.streams_per_peer_max, 1, 1_000_000),
            ("stream_batches_in_flight_max", self.stream_batches_in_flight_max, 1, 1_000_000),
            ("stream_bytes_in_flight_max", self.stream_bytes_in_flight_max, 1, BYTES_MAX),
            ("bytes_in_flight_max", self.bytes_in_flight_max, self.message_bytes_max, BYTES_MAX),
            (
                "bytes_in_flight_per_peer_max",
                self.bytes_in_flight_per_peer_max,
                self.message_bytes_max,
                BYTES_MAX,
            ),
        ];
        for (key, value, least, most) in rows {
            if !(least..=most).contains(&value) {
                let remedy = format!("give {least} to {most}");
                return Err(LimitsError { key, value, remedy });
            }
        }
        Ok(())
    }
}

/// Envelope and one source at their largest: scope, names, digest, correlation id.
const RECORD_OVERHEAD_BYTES: usize = ENVELOPE_BYTES + 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_work_and_each_limit_is_held_to_its_range() {
        assert_eq!(Limits::default().check(), Ok(()));
        type Break = fn(&mut Limits);
        let breaks: [(&str, Break); 7] = [
            ("message_bytes_max", |l| l.message_bytes_max = 0),
            ("pulse_bytes_max", |l| l.pulse_bytes_max = l.message_bytes_max + 1),
            ("record_bytes_max", |l| l.record_bytes_max = l.pulse_bytes_max),
            ("record_bytes_target", |l| l.record_bytes_target = l.record_bytes_max + 1),
            ("appends_in_flight_max", |l| l.appends_in_flight_max = 0),
            ("bytes_in_flight_max", |l| l.bytes_in_flight_max = l.message_bytes_max - 1),
            ("bytes_in_flight_per_peer_max", |l| {
                l.bytes_in_flight_per_peer_max = l.message_bytes_max - 1;
            }),
        ];
        for (key, change) in breaks {
            let mut limits = Limits::default();
            change(&mut limits);
            assert_eq!(limits.check().map_err(|error| error.key), Err(key));
        }
    }
}
