//! Status: where each partition stands, what became of every pulse read, and what is wrong.
//!
//! It answers also while parts do not: a partition that cannot be asked is a problem in the
//! answer, not the end of it.

use std::collections::BTreeMap;

use domain::{Conservation, Offset, Partition, Timestamp, log::LogBounds, segment::Progress};
use runtime::health::{Readiness, Report};

/// What an operator sees at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Ascending by generation and number; without those that could not be asked, which are among
    /// the problems.
    pub partitions: Vec<PartitionStatus>,
    /// What became of everything that was read, over all partitions.
    pub pulses: Conservation,
    /// Component and version.
    pub versions: BTreeMap<String, String>,
    /// Why it is not healthy, a sentence each.
    pub problems: Vec<String>,
}

/// Where one partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// Generation of the log, from 1.
    pub generation: u32,
    /// Its number in that generation.
    pub partition: Partition,
    /// Offset the next record will get. Of a log that has ended: `folded_to`, because nothing that
    /// may stand behind it counts.
    pub log_end: Offset,
    /// All records below are in the store.
    pub folded_to: Offset,
    /// Log time of the last folded record; absent while there is none.
    pub folded_time: Option<Timestamp>,
}

impl PartitionStatus {
    /// Offsets that are not folded yet: the records waiting, where offsets are dense.
    #[must_use]
    pub const fn lag_records(&self) -> u64 {
        self.log_end.0.saturating_sub(self.folded_to.0)
    }
}

/// What was found out about one partition. Its log has no bounds once it has ended.
pub(crate) struct Found {
    pub(crate) generation: u32,
    pub(crate) partition: Partition,
    pub(crate) standing: Result<(Option<LogBounds>, Option<Progress>), String>,
}

impl Status {
    /// Whether every readiness check passes and no partition has a problem.
    #[must_use]
    pub const fn is_healthy(&self) -> bool {
        self.problems.is_empty()
    }

    pub(crate) fn of(
        found: impl IntoIterator<Item = Found>,
        report: &Report,
        versions: BTreeMap<String, String>,
    ) -> Self {
        let mut status = Self {
            partitions: Vec::new(),
            pulses: Conservation::default(),
            versions,
            problems: problems_of(report),
        };
        for Found { generation, partition, standing } in found {
            if let Ok((_, Some(progress))) = &standing {
                status.pulses = status.pulses.plus(&progress.counts);
            }
            match standing {
                Ok((bounds, progress)) => {
                    status.add((generation, partition), bounds, progress.as_ref());
                }
                Err(problem) => status.problems.push(format!("partition {partition}: {problem}")),
            }
        }
        status
    }

    fn add(
        &mut self,
        (generation, partition): (u32, Partition),
        bounds: Option<LogBounds>,
        progress: Option<&Progress>,
    ) {
        let folded_to = progress.map_or(Offset(0), |progress| progress.folded_to);
        let bounds = bounds.unwrap_or(LogBounds { low: folded_to, end: folded_to });
        if folded_to < bounds.low {
            self.problems.push(format!(
                "partition {partition}: records {folded_to} to {} left the log before they were \
                 folded; restore the log, or keep records longer than the consumer may be down",
                bounds.low
            ));
        }
        if folded_to > bounds.end {
            self.problems.push(format!(
                "partition {partition}: the store holds records up to {folded_to} but the log ends \
                 at {}; the log was truncated or made again: restore it, or give the store of this log",
                bounds.end
            ));
        }
        self.partitions.push(PartitionStatus {
            generation,
            partition,
            log_end: bounds.end,
            folded_to,
            folded_time: progress
                .map(|progress| progress.eff_ts)
                .filter(|time| *time > Timestamp::MIN),
        });
    }
}

fn problems_of(report: &Report) -> Vec<String> {
    if report.checks.is_empty() {
        return vec!["no part of this process has said yet that it is ready".to_owned()];
    }
    let not_ready = report.checks.iter().filter_map(|(name, readiness)| match readiness {
        Readiness::Ready | Readiness::Degraded(_) => None,
        Readiness::NotReady(reason) => Some(format!("{name}: {reason}")),
    });
    not_ready.collect()
}
