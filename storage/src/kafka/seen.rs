//! Seen: the last record that was read of each partition, and whether the topic may be another one by
//! now.
//!
//! A topic that was deleted and made again under its name has other records at the same offsets,
//! and the client reads on among them without a word. So whenever something happened that may have
//! been that, and whenever it is opened, a drain first reads a record again that was read before,
//! which must have the append time it had. The time tells them apart: a record that came after
//! another was deleted has a later one.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use domain::{
    Offset, Partition, Timestamp,
    log::{LogBounds, LogError},
};

/// A partition that nobody asked about for so long may be another one: meanwhile a topic can be
/// deleted, made again and filled. Less would start readers that are asked each second anew.
const UNWATCHED_MAX: Duration = Duration::from_secs(3);

/// A record that was lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) offset: Offset,
    pub(super) appended_at: Timestamp,
}

/// What was seen of every partition, by all drains of a log.
#[derive(Debug)]
pub(super) struct Seen {
    partitions: Vec<Mutex<OfPartition>>,
    /// Rises whenever the topic may have been made again: with all of its partitions, so that what
    /// is seen of one is a doubt about each.
    doubts: AtomicU64,
}

#[derive(Debug)]
struct OfPartition {
    /// The record with the greatest offset.
    last: Option<Last>,
    asked_at: Instant,
}

impl Seen {
    pub(super) fn new(partitions: u16) -> Self {
        let nothing = || OfPartition { last: None, asked_at: Instant::now() };
        let partitions = (0..partitions).map(|_| Mutex::new(nothing())).collect();
        Self { partitions, doubts: AtomicU64::new(0) }
    }

    fn of(&self, partition: Partition) -> MutexGuard<'_, OfPartition> {
        let of = &self.partitions[usize::from(partition.0)];
        of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what the brokers said a partition holds now, or that they did not.
    ///
    /// # Errors
    /// Theirs, and `OutOfRange` where it ends below what was read.
    pub(super) fn compare(
        &self,
        partition: Partition,
        told: Result<LogBounds, LogError>,
    ) -> Result<LogBounds, LogError> {
        let mut seen = self.of(partition);
        let unwatched = seen.asked_at.elapsed();
        seen.asked_at = Instant::now();
        let wanted = seen.last.map_or(Offset(0), |last| last.offset.next());
        let compared = told.and_then(|LogBounds { low, end }| match end < wanted {
            true => Err(LogError::OutOfRange { partition, wanted, low, end }),
            false => Ok(LogBounds { low, end }),
        });
        if compared.is_err() || unwatched > UNWATCHED_MAX {
            self.doubts.fetch_add(1, Ordering::AcqRel);
        }
        compared
    }

    pub(super) fn lent(&self, partition: Partition, last: Last) {
        let mut seen = self.of(partition);
        if seen.last.is_none_or(|before| before.offset < last.offset) {
            seen.last = Some(last);
        }
    }

    /// The last record, if a reader that starts at `from` goes on behind it.
    pub(super) fn before(&self, partition: Partition, from: Offset) -> Option<Last> {
        self.of(partition).last.filter(|last| last.offset.next() == from)
    }

    /// The last record of every partition.
    pub(super) fn all(&self) -> impl Iterator<Item = (Partition, Last)> {
        let numbered = (0..).map(Partition).zip(&self.partitions);
        numbered.filter_map(|(partition, _)| Some((partition, self.of(partition).last?)))
    }

    /// How often there was doubt.
    pub(super) fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Partition = Partition(0);

    fn to(end: u64) -> Result<LogBounds, LogError> {
        Ok(LogBounds { low: Offset(0), end: Offset(end) })
    }

    fn last(offset: u64) -> Last {
        Last { offset: Offset(offset), appended_at: Timestamp::MIN }
    }

    #[test]
    fn a_partition_that_ends_below_what_was_read_or_is_not_known_is_a_doubt_about_all() {
        let seen = Seen::new(2);
        seen.lent(FIRST, last(9));
        seen.lent(FIRST, last(4));
        assert_eq!((seen.compare(FIRST, to(10)), seen.doubts()), (to(10), 0));
        let shrunk = seen.compare(FIRST, to(9));
        assert!(matches!(shrunk, Err(LogError::OutOfRange { wanted: Offset(10), .. })));
        assert_eq!((seen.compare(FIRST, to(12)), seen.doubts()), (to(12), 1));
        let unknown = Err(LogError::Unavailable("no such topic".to_owned()));
        assert_eq!((seen.compare(Partition(1), unknown.clone()), seen.doubts()), (unknown, 2));
        assert_eq!(seen.all().collect::<Vec<_>>(), [(FIRST, last(9))]);
        let places = [9, 10, 11].map(|from| seen.before(FIRST, Offset(from)));
        assert_eq!(places, [None, Some(last(9)), None]);
    }

    #[test]
    fn a_partition_that_was_not_watched_for_long_is_in_doubt() {
        let seen = Seen::new(1);
        let now = Instant::now();
        if let Some(long_ago) = now.checked_sub(UNWATCHED_MAX * 2) {
            seen.of(FIRST).asked_at = long_ago;
            assert_eq!((seen.compare(FIRST, to(0)), seen.doubts()), (to(0), 1));
        }
    }
}
