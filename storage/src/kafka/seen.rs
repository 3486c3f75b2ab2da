//! Seen: what this process knows of each partition, and whether the topic may be another one by now.
//!
//! A topic that was deleted and made again under its name has other records at the same offsets,
//! and the client reads on among them without a word. So whenever something happened that may have
//! been that, and whenever it is opened, a drain first reads a record again that was read before,
//! which must have the append time it had. The time tells them apart: a record that came after
//! another was deleted has a later one.
//!
//! Who appends reads nothing, and needs not to: a record lies behind all that the log was known to hold
//! when it was handed over. One that is given an offset below was put into another log, or into one
//! that lost its end. It is not acknowledged, and neither is any other from then on, because nobody
//! would count them. A topic that was made again, and filled beyond what was known of a partition
//! before anything was appended to that, is not told apart so.

use std::{
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
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
    /// The proof that it was, or that it was truncated and written anew.
    replaced: OnceLock<LogError>,
}

#[derive(Debug)]
struct OfPartition {
    /// The record with the greatest offset.
    last: Option<Last>,
    /// The log held everything below: the brokers said so, or acknowledged it.
    end: Offset,
    asked_at: Instant,
}

impl Seen {
    pub(super) fn new(partitions: u16) -> Self {
        let nothing = || OfPartition { last: None, end: Offset(0), asked_at: Instant::now() };
        let partitions = (0..partitions).map(|_| Mutex::new(nothing())).collect();
        Self { partitions, doubts: AtomicU64::new(0), replaced: OnceLock::new() }
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
        bounds: Result<LogBounds, LogError>,
    ) -> Result<LogBounds, LogError> {
        let mut seen = self.of(partition);
        let unwatched = seen.asked_at.elapsed();
        seen.asked_at = Instant::now();
        let wanted = seen.last.map_or(Offset(0), |last| last.offset.next());
        let compared = bounds.and_then(|LogBounds { low, end }| match end < wanted {
            true => Err(LogError::OutOfRange { partition, wanted, low, end }),
            false => Ok(LogBounds { low, end }),
        });
        if let Ok(LogBounds { end, .. }) = compared {
            seen.end = seen.end.max(end);
        }
        if compared.is_err() || unwatched > UNWATCHED_MAX {
            self.doubt();
        }
        compared
    }

    /// The least offset of a record that is handed over from now on.
    ///
    /// # Errors
    /// The proof that this is another log.
    pub(super) fn end(&self, partition: Partition) -> Result<Offset, LogError> {
        self.is_same().map(|()| self.of(partition).end)
    }

    /// Takes note of where the log put records that were handed over when it ended at `end`, or later.
    ///
    /// # Errors
    /// The proof that this is another log, which may be that one of them lies below.
    pub(super) fn acknowledged(
        &self,
        partition: Partition,
        end: Offset,
        offsets: &[Offset],
    ) -> Result<(), LogError> {
        if let Some(&offset) = offsets.iter().find(|offset| **offset < end) {
            return Err(self.replaced(partition, offset));
        }
        let behind = offsets.iter().map(|offset| offset.next()).max();
        let mut seen = self.of(partition);
        seen.end = behind.map_or(seen.end, |behind| seen.end.max(behind));
        drop(seen);
        self.is_same()
    }

    /// Takes note of the proof that this is another log, and gives the first there was.
    pub(super) fn replaced(&self, partition: Partition, offset: Offset) -> LogError {
        self.doubt();
        self.replaced.get_or_init(|| LogError::Replaced { partition, offset }).clone()
    }

    fn is_same(&self) -> Result<(), LogError> {
        self.replaced.get().cloned().map_or(Ok(()), Err)
    }

    fn doubt(&self) {
        self.doubts.fetch_add(1, Ordering::AcqRel);
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
    fn a_record_below_what_the_log_held_is_in_another_log_and_so_is_all_that_follows() {
        let seen = Seen::new(2);
        let acknowledged = |partition, end, offsets: &[u64]| {
            let offsets: Vec<_> = offsets.iter().copied().map(Offset).collect();
            seen.acknowledged(partition, Offset(end), &offsets)
        };
        assert_eq!((acknowledged(FIRST, 0, &[0, 1]), seen.end(FIRST)), (Ok(()), Ok(Offset(2))));
        // Of two that were under way at once, the answers may be taken in any order.
        assert_eq!(
            (acknowledged(FIRST, 2, &[4]), acknowledged(FIRST, 2, &[2, 3])),
            (Ok(()), Ok(()))
        );
        assert_eq!((seen.compare(FIRST, to(9)), seen.end(FIRST)), (to(9), Ok(Offset(9))));
        assert_eq!((seen.compare(FIRST, to(3)), seen.end(FIRST)), (to(3), Ok(Offset(9))));
        assert_eq!((acknowledged(FIRST, 9, &[]), seen.doubts()), (Ok(()), 0));

        let proof = LogError::Replaced { partition: FIRST, offset: Offset(8) };
        assert_eq!((acknowledged(FIRST, 9, &[9, 8]), seen.doubts()), (Err(proof.clone()), 1));
        let other = Partition(1);
        assert_eq!(acknowledged(other, 0, &[0]), Err(proof.clone()), "a topic is made again whole");
        assert_eq!(seen.end(other), Err(proof));
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
