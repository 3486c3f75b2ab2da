//! Trouble of single partitions: why each is not drained, and when it is tried again.
//!
//! A cause that passes, such as a partition without a leader, is over at the next try. One that does
//! not pass, such as a fold state that does not parse, is met again at each try and stays in the
//! process's readiness.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    mem::discriminant,
    sync::Arc,
    time::Duration,
};

use domain::{Partition, Timestamp, log::LogError};
use tracing::{error, info};

use super::ConsumerError;
use crate::restart::RestartError;

/// How long after its first failure a partition is tried again. The wait doubles with each further
/// failure.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest such wait. A try may hold up a tick for as long as the log answers nothing.
const RETRY_MAX: Duration = Duration::from_secs(15);
/// Partitions whose cause a message gives; it counts the others.
const CAUSES_GIVEN_MAX: usize = 8;

/// Why a partition of this process is not drained.
#[derive(Clone, Debug)]
pub struct PartitionTrouble {
    /// The partition that is not drained.
    pub partition: Partition,
    /// What failed.
    pub cause: Arc<ConsumerError>,
    /// When that began, by the consumer's clock.
    pub since: Timestamp,
}

/// The partitions of this process that are not drained, ascending.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<Partition, Troubled>);

#[derive(Debug)]
struct Troubled {
    cause: Arc<ConsumerError>,
    since: Timestamp,
    tried_at: Timestamp,
    wait: Duration,
}

impl Troubles {
    /// Takes a failure. Another one of its kind is no news: it lengthens the wait.
    pub(super) fn met(
        &mut self,
        partition: Partition,
        cause: impl Into<Arc<ConsumerError>>,
        now: Timestamp,
    ) {
        let cause = cause.into();
        if let Some(known) = self.0.get_mut(&partition)
            && is_alike(&known.cause, &cause)
        {
            (known.tried_at, known.wait) = (now, (known.wait * 2).min(RETRY_MAX));
            return;
        }
        error!(%partition, %cause, "partition not drained; it is tried again, and the others are drained");
        let troubled = Troubled { cause, since: now, tried_at: now, wait: RETRY_FIRST };
        self.0.insert(partition, troubled);
    }

    /// The partition was drained.
    pub(super) fn over(&mut self, partition: Partition) {
        if self.0.remove(&partition).is_some() {
            info!(%partition, "partition drained again");
        }
    }

    /// Forgets the partitions of other processes.
    pub(super) fn keep(&mut self, assigned: &BTreeSet<Partition>) {
        self.0.retain(|partition, _| assigned.contains(partition));
    }

    pub(super) fn has(&self, partition: Partition) -> bool {
        self.0.contains_key(&partition)
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether the partition may be tried now: it has no trouble, has waited, or the clock was set
    /// back meanwhile.
    pub(super) fn is_due(&self, partition: Partition, now: Timestamp) -> bool {
        self.0.get(&partition).is_none_or(|Troubled { tried_at, wait, .. }| {
            now >= tried_at.plus(*wait) || now < *tried_at
        })
    }

    /// All of it as one error, if there is any.
    pub(super) fn error(&self) -> Option<ConsumerError> {
        let troubles = self.0.iter().map(|(partition, Troubled { cause, since, .. })| {
            PartitionTrouble { partition: *partition, cause: Arc::clone(cause), since: *since }
        });
        let troubles: Vec<_> = troubles.collect();
        (!troubles.is_empty()).then_some(ConsumerError::Partitions(troubles))
    }

    /// The cause of the first one, if there is any.
    pub(super) fn into_first(self) -> Option<ConsumerError> {
        let (partition, Troubled { cause, since, .. }) = self.0.into_iter().next()?;
        // Several may share a cause; all others were dropped with the iterator.
        let shared =
            |cause| ConsumerError::Partitions(vec![PartitionTrouble { partition, cause, since }]);
        Some(Arc::try_unwrap(cause).unwrap_or_else(shared))
    }
}

/// Whether two causes differ at most in their numbers, which change while a log grows.
fn is_alike(one: &ConsumerError, other: &ConsumerError) -> bool {
    use ConsumerError::{Restart, Stopped};
    match (one, other) {
        (Stopped { reason: one, .. }, Stopped { reason: other, .. }) => one == other,
        _ if log_error(one).is_some() || log_error(other).is_some() => {
            log_error(one).map(discriminant) == log_error(other).map(discriminant)
        }
        (Restart(one), Restart(other)) => discriminant(one) == discriminant(other),
        _ => discriminant(one) == discriminant(other),
    }
}

const fn log_error(error: &ConsumerError) -> Option<&LogError> {
    match error {
        ConsumerError::Log(error) | ConsumerError::Restart(RestartError::Log(error)) => Some(error),
        _ => None,
    }
}

/// Writes the causes for an operator, in one line.
pub(super) fn list(troubles: &[PartitionTrouble], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (place, PartitionTrouble { partition, cause, .. }) in
        troubles.iter().take(CAUSES_GIVEN_MAX).enumerate()
    {
        f.write_str(if place == 0 { "" } else { "; " })?;
        let cause = cause.to_string();
        let names_it = [' ', ':'].map(|end| cause.contains(&format!("partition {partition}{end}")));
        match names_it {
            [false, false] => write!(f, "partition {partition}: {cause}")?,
            _ => f.write_str(&cause)?,
        }
    }
    match troubles.len().saturating_sub(CAUSES_GIVEN_MAX) {
        0 => Ok(()),
        more => write!(f, "; and {more} partitions more"),
    }
}
