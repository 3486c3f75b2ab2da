//! Idle partitions: a tick asks nothing of a partition whose log did not move, and writes nothing
//! for it.
//!
//! That a partition is still caught up is noted in the store now and then only. Readers ask the log
//! itself where it ends; the note is for the times when they cannot, or when new records wait.

use std::{collections::BTreeMap, time::Duration};

use domain::{Offset, Partition, Timestamp};

use crate::handover::PartitionReport;

/// What the last drain of each partition left behind.
pub(super) struct Idle {
    interval: Duration,
    drained: BTreeMap<Partition, Drained>,
}

struct Drained {
    report: PartitionReport,
    /// End of the log that was drained to.
    until: Offset,
    /// When that was the end, by the consumer's clock; stored with the progress.
    stored_at: Timestamp,
}

impl Idle {
    /// Notes idle partitions again after `interval`.
    pub(super) const fn every(interval: Duration) -> Self {
        Self { interval, drained: BTreeMap::new() }
    }

    /// What a drain would report, where the log ends as at the last one and the store was told not
    /// long ago. A time in the future was read from a clock that has been set since: it is written
    /// anew, which heals it.
    pub(super) fn report(
        &self,
        partition: Partition,
        until: Offset,
        now: Timestamp,
    ) -> Option<PartitionReport> {
        let Drained { report, until: drained_to, stored_at } = self.drained.get(&partition)?;
        let is_fresh = *stored_at <= now && now < stored_at.plus(self.interval);
        (until == *drained_to && is_fresh).then_some(*report)
    }

    /// Takes down what a drain to `until` reported, once it is stored.
    pub(super) fn note(&mut self, report: PartitionReport, until: Offset, stored_at: Timestamp) {
        let dead_letters = Default::default();
        let report = PartitionReport { records: 0, id_conflicts: 0, dead_letters, ..report };
        self.drained.insert(report.partition, Drained { report, until, stored_at });
    }

    /// Forgets a partition that was let go.
    pub(super) fn forget(&mut self, partition: Partition) {
        self.drained.remove(&partition);
    }
}
