//! Metrics: counted per batch, never per pulse. Handles are taken once, at start, because looking
//! one up costs more than checking a pulse; so the recorder has to be installed before.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::outcome::Outcome;

/// Every metric of ingest.
#[derive(Clone)]
pub(crate) struct Metrics {
    accepted: Counted,
    rejected: Counted,
    overloaded: Counted,
    unavailable: Counted,
    unknown: Counted,
    shutting_down: Counted,
    append_seconds: Histogram,
    bytes_in_flight: Gauge,
    streams: Gauge,
}

/// One outcome, in pulses and in batches.
#[derive(Clone)]
struct Counted {
    pulses: Counter,
    batches: Counter,
}

impl Counted {
    fn new(outcome: &'static str) -> Self {
        Self {
            pulses: counter!("pulso_ingest_pulses_total", "outcome" => outcome),
            batches: counter!("pulso_ingest_batches_total", "outcome" => outcome),
        }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            accepted: Counted::new("accepted"),
            rejected: Counted::new("rejected"),
            overloaded: Counted::new("overloaded"),
            unavailable: Counted::new("unavailable"),
            unknown: Counted::new("unknown"),
            shutting_down: Counted::new("shutting_down"),
            append_seconds: histogram!("pulso_ingest_append_seconds"),
            bytes_in_flight: gauge!("pulso_ingest_in_flight_bytes"),
            streams: gauge!("pulso_ingest_streams"),
        }
    }

    /// A batch was refused whole.
    pub(crate) fn refused(&self, pulses: usize) {
        self.rejected.batches.increment(1);
        self.rejected.pulses.increment(pulses as u64);
    }

    /// A batch is answered: `pulses` share the outcome, `rejected` were refused one by one. Those
    /// count only with a final answer, because a client sends the batch again after any other.
    pub(crate) fn answered(&self, outcome: Outcome, pulses: u32, rejected: u32) {
        let counted = match outcome {
            Outcome::Durable if pulses == 0 => &self.rejected,
            Outcome::Durable => &self.accepted,
            Outcome::Overloaded => &self.overloaded,
            Outcome::Unavailable => &self.unavailable,
            Outcome::ShuttingDown => &self.shutting_down,
            Outcome::Unknown => &self.unknown,
        };
        counted.batches.increment(1);
        counted.pulses.increment(pulses.into());
        if outcome == Outcome::Durable {
            self.rejected.pulses.increment(rejected.into());
        }
    }

    /// The log answered an append.
    pub(crate) fn appended(&self, duration: Duration) {
        self.append_seconds.record(duration.as_secs_f64());
    }

    pub(crate) const fn bytes_in_flight(&self) -> &Gauge {
        &self.bytes_in_flight
    }

    pub(crate) const fn streams(&self) -> &Gauge {
        &self.streams
    }
}
