//! The recorder behind `/metrics`, and the one table of all metrics.

use std::{fmt, time::Duration};

use metrics::Unit;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::TelemetryError;
use crate::Shutdown;

/// How often recorded samples are folded into histograms.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Upper bounds of the buckets of durations: from a group commit in memory to a stuck disk.
const SECONDS_BUCKETS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];

/// Upper bounds of the buckets of how many requests share a group commit.
const REQUESTS_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// One metric of the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The full name, unit last.
    pub name: &'static str,
    /// What it is to Prometheus.
    pub kind: Kind,
    /// The base unit of its values.
    pub unit: Unit,
    /// What it counts, for an operator.
    pub meaning: &'static str,
}

/// What a metric is to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Many samples, in buckets.
    Histogram,
}

/// Every metric of the project, along the pulse's way. Labels have few values, so never a tenant.
pub const METRICS: &[Metric] = &[
    gauge("pulso_edge_connections", Unit::Count, "Open connections."),
    counter("pulso_edge_accepts_total", "Connections that came in, by outcome."),
    counter("pulso_edge_connections_cut_total", "Connections cut, by cause."),
    counter("pulso_edge_handshakes_total", "TLS handshakes with clients, by outcome."),
    gauge(
        "pulso_tls_certificate_expiry_seconds",
        Unit::Seconds,
        "Time until the listeners' certificate expires; 0 once it has.",
    ),
    gauge("pulso_edge_calls", Unit::Count, "Calls and requests under way."),
    counter("pulso_edge_requests_total", "Calls and requests, by method and outcome."),
    seconds(
        "pulso_edge_request_seconds",
        "Time until an answer begins, or until all of it is there where it is one message; by method.",
    ),
    gauge("pulso_edge_request_bytes", Unit::Bytes, "Bytes held of requests other than batches."),
    counter(
        "pulso_edge_messages_without_room_total",
        "Messages that had to wait or were refused for want of room, by bound.",
    ),
    counter(
        "pulso_edge_over_quota_total",
        "Waits and refusals because a client sends more bytes per second than it may, by outcome.",
    ),
    counter("pulso_access_refusals_total", "Requests that access refused, by reason."),
    counter("pulso_audit_entries_total", "Entries of the audit trail, by step and outcome."),
    counter("pulso_ingest_pulses_total", "Pulses received, by outcome."),
    counter("pulso_ingest_batches_total", "Batches received, by outcome."),
    seconds("pulso_ingest_append_seconds", "Time from a batch's arrival until it is durable."),
    gauge("pulso_ingest_in_flight_bytes", Unit::Bytes, "Bytes received and not yet answered."),
    gauge("pulso_ingest_streams", Unit::Count, "Open streams."),
    seconds("pulso_log_append_seconds", "Time of one group commit of the log."),
    counts("pulso_log_append_requests", "Appends that shared one group commit of the log."),
    counter("pulso_log_append_bytes_total", "Bytes of records written to the log."),
    counter("pulso_schedule_ticks_total", "Ticks of the schedule, by outcome."),
    counter("pulso_consumer_records_total", "Records read from the log and folded."),
    gauge(
        "pulso_consumer_lag_records",
        Unit::Count,
        "Records in the log that are not yet in the store, by partition.",
    ),
    gauge(
        "pulso_consumer_held_bytes",
        Unit::Bytes,
        "Bytes that open segments hold between drains; bounded by `consumer.memory`.",
    ),
    gauge(
        "pulso_consumer_partitions_stopped",
        Unit::Count,
        "Partitions of this process that are not drained; `/readyz?verbose` says why.",
    ),
    gauge("pulso_ids_held", Unit::Count, "Ids held to tell repeated pulses, by partition."),
    counter("pulso_id_conflicts_total", "Pulses whose id came before with other content."),
    counter("pulso_duplicates_total", "Pulses not counted because they were counted before."),
    counter("pulso_dlq_records_total", "Dead letters written, by reason."),
    counter("pulso_segments_closed_total", "Segments closed with their manifest."),
    counter("pulso_flushes_total", "Flushes to the store, by outcome."),
    counter("pulso_flushed_rows_total", "Rows that flushes wrote to the store."),
    gauge("pulso_flush_age_seconds", Unit::Seconds, "Time since the last flush was stored."),
    seconds("pulso_store_write_seconds", "Time of one transaction of the store."),
    counter("pulso_store_reads_ended_total", "Reads of the embedded store ended, by cause."),
    gauge("pulso_wal_bytes", Unit::Bytes, "Write-ahead log of an embedded file in use, by file."),
    gauge(
        "pulso_billing_periods_due",
        Unit::Count,
        "Tenants' months with periods that are over and not billed, by state, at the last look.",
    ),
    counter(
        "pulso_billing_messages_forwarded_total",
        "Messages forwarded to their topic, by queue.",
    ),
    counter("pulso_compute_refused_total", "Calls refused because too many compute."),
    seconds("pulso_compute_wait_seconds", "Time that work of a call waited for a thread."),
    counter("pulso_query_rows_read_total", "Rows of the store that queries read."),
];

const fn counter(name: &'static str, meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, unit: Unit::Count, meaning }
}

const fn gauge(name: &'static str, unit: Unit, meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, meaning }
}

const fn seconds(name: &'static str, meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, unit: Unit::Seconds, meaning }
}

const fn counts(name: &'static str, meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, unit: Unit::Count, meaning }
}

/// The recorded metrics of this process. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Starts recording for the whole process and describes every metric of [`METRICS`].
    ///
    /// # Errors
    /// When something records already.
    pub fn start() -> Result<Self, TelemetryError> {
        let handle = builder()?.install_recorder()?;
        METRICS.iter().for_each(Metric::describe);
        Ok(Self { handle })
    }

    /// All metrics in the Prometheus text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Folds samples into histograms until shutdown. Without it a process that nobody scrapes keeps
    /// every sample it ever recorded.
    pub async fn keep(&self, shutdown: &Shutdown) {
        let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                _ = interval.tick() => self.handle.run_upkeep(),
            }
        }
    }
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    let suffix = |suffix: &str| Matcher::Suffix(suffix.to_owned());
    PrometheusBuilder::new()
        .set_buckets_for_metric(suffix("_seconds"), SECONDS_BUCKETS)?
        .set_buckets_for_metric(suffix("_requests"), REQUESTS_BUCKETS)
}

impl Metric {
    fn describe(&self) {
        let Self { name, kind, unit, meaning } = *self;
        match kind {
            Kind::Counter => metrics::describe_counter!(name, unit, meaning),
            Kind::Gauge => metrics::describe_gauge!(name, unit, meaning),
            Kind::Histogram => metrics::describe_histogram!(name, unit, meaning),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_renders_with_its_description_and_kind() {
        // The one test that starts the process's recorder; a second start is refused.
        let metrics = Metrics::start().unwrap();
        assert!(matches!(Metrics::start(), Err(TelemetryError::Metrics(_))));
        for Metric { name, kind, .. } in METRICS {
            match kind {
                Kind::Counter => metrics::counter!(*name).increment(1),
                Kind::Gauge => metrics::gauge!(*name).set(1.0),
                Kind::Histogram => metrics::histogram!(*name).record(1.0),
            }
        }
        let text = metrics.render();
        for Metric { name, kind, meaning, .. } in METRICS {
            let kind = format!("{kind:?}").to_lowercase();
            assert!(text.contains(&format!("# HELP {name} {meaning}\n")), "{name}:\n{text}");
            assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name}:\n{text}");
        }
    }

    #[test]
    fn names_are_unique_and_end_in_what_they_measure() {
        for (place, Metric { name, kind, unit, .. }) in METRICS.iter().enumerate() {
            let ending = match (kind, unit) {
                (Kind::Counter, _) => "_total",
                (_, Unit::Seconds) => "_seconds",
                (_, Unit::Bytes) => "_bytes",
                _ => "",
            };
            assert!(name.ends_with(ending), "{name} does not end in {ending}");
            assert!(METRICS[..place].iter().all(|other| other.name != *name), "{name} twice");
        }
    }
}
