//! What the consumer counts, by batch and never by pulse.

use domain::{DeadLetterReason, store::Flush};
use metrics::{counter, gauge};

use crate::handover::PartitionReport;

/// A flush reached the store.
pub(crate) fn flushed(flush: &Flush) {
    counter!("pulso_flushes_total", "outcome" => "stored").increment(1);
    counter!("pulso_flushed_rows_total").increment(flush.rows.len() as u64);
    if let Some(close) = &flush.close {
        counter!("pulso_segments_closed_total").increment(1);
        counter!("pulso_duplicates_total").increment(close.manifest.counts.duplicate);
    }
}

/// The store refused a flush; it will be tried again.
pub(crate) fn flush_failed() {
    counter!("pulso_flushes_total", "outcome" => "failed").increment(1);
}

/// A partition was drained to its end.
#[allow(clippy::cast_precision_loss)] // A gauge is a float; below 2^53 it is exact.
pub(crate) fn drained(generation: usize, report: &PartitionReport) {
    let (generation, partition) = (generation.to_string(), report.partition.to_string());
    counter!("pulso_consumer_records_total").increment(report.records);
    counter!("pulso_id_conflicts_total").increment(report.id_conflicts);
    for (reason, count) in DeadLetterReason::ALL.iter().zip(report.dead_letters) {
        if count > 0 {
            counter!("pulso_dlq_records_total", "reason" => reason.as_str()).increment(count);
        }
    }
    gauge!("pulso_ids_held", "generation" => generation, "partition" => partition)
        .set(report.ids_held as f64);
}

/// What the open segments of the process's partitions hold.
#[allow(clippy::cast_precision_loss)] // As above.
pub(crate) fn held(generation: usize, bytes: u64) {
    gauge!("pulso_consumer_held_bytes", "generation" => generation.to_string()).set(bytes as f64);
}

/// How many of the process's partitions are not drained.
#[allow(clippy::cast_precision_loss)] // As above.
pub(crate) fn stopped(generation: usize, partitions: usize) {
    gauge!("pulso_consumer_partitions_stopped", "generation" => generation.to_string())
        .set(partitions as f64);
}

/// How many records a partition is behind.
#[allow(clippy::cast_precision_loss)] // As above.
pub(crate) fn lag(generation: usize, partition: domain::Partition, records: u64) {
    let (generation, partition) = (generation.to_string(), partition.to_string());
    gauge!("pulso_consumer_lag_records", "generation" => generation, "partition" => partition)
        .set(records as f64);
}

/// Seconds since all partitions were last stored to their ends.
pub(crate) fn flush_age(seconds: f64) {
    gauge!("pulso_flush_age_seconds").set(seconds);
}
