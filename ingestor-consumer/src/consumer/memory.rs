//! Memory: what the open segments of this process hold, and how many may grow at the same time.
//!
//! A segment that grows is reckoned with all that one may ever hold, one that rests with what it
//! holds. So the sum stays within the setting while several partitions are drained at a time. One
//! partition may always be drained; what is then held too much, at most one segment, is given up
//! before the next one grows.

use std::collections::{BTreeMap, BTreeSet};

use domain::Partition;

/// The account of one consumer.
#[derive(Debug)]
pub(super) struct Memory {
    bytes_max: u64,
    /// What one open segment holds at the most.
    segment_bytes_max: u64,
    /// What each taken partition's open segment held when its last drain ended.
    held: BTreeMap<Partition, u64>,
    growing: BTreeSet<Partition>,
}

impl Memory {
    pub(super) const fn new(bytes_max: u64, segment_bytes_max: u64) -> Self {
        Self { bytes_max, segment_bytes_max, held: BTreeMap::new(), growing: BTreeSet::new() }
    }

    /// Takes note that nothing is drained, also where a tick was dropped in the middle.
    pub(super) fn rest(&mut self) {
        self.growing.clear();
    }

    /// Whether one more partition may be drained now.
    pub(super) fn admits(&self, partition: Partition) -> bool {
        let others = self.growing.iter().filter(|growing| **growing != partition).count() as u64;
        let resting = self.resting() - self.resting_of(partition);
        let grown = (others + 1).saturating_mul(self.segment_bytes_max);
        others == 0 || resting.saturating_add(grown) <= self.bytes_max
    }

    pub(super) fn begin(&mut self, partition: Partition) {
        self.growing.insert(partition);
    }

    pub(super) fn end(&mut self, partition: Partition, held: u64) {
        self.growing.remove(&partition);
        self.held.insert(partition, held);
    }

    /// The drain failed, and nobody knows how far the segment had grown.
    pub(super) fn fail(&mut self, partition: Partition) {
        self.end(partition, self.segment_bytes_max);
    }

    /// The partition was let go.
    pub(super) fn forget(&mut self, partition: Partition) {
        self.growing.remove(&partition);
        self.held.remove(&partition);
    }

    /// The partition whose segment has to be given up before another one grows: the one that holds
    /// most, while more is held than may be.
    pub(super) fn excess(&self) -> Option<Partition> {
        if self.resting() <= self.bytes_max {
            return None;
        }
        let resting = self.held.iter().filter(|(partition, _)| !self.growing.contains(partition));
        resting.max_by_key(|(_, held)| **held).map(|(partition, _)| *partition)
    }

    /// What open segments held when they were last drained.
    pub(super) fn held(&self) -> u64 {
        self.held.values().sum()
    }

    fn resting(&self) -> u64 {
        self.held.keys().map(|partition| self.resting_of(*partition)).sum()
    }

    fn resting_of(&self, partition: Partition) -> u64 {
        let is_growing = self.growing.contains(&partition);
        self.held.get(&partition).filter(|_| !is_growing).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 100;
    const SEGMENT: u64 = 30;

    fn memory(held: &[u64]) -> Memory {
        let mut memory = Memory::new(MAX, SEGMENT);
        for (partition, held) in (0..).map(Partition).zip(held) {
            memory.end(partition, *held);
        }
        memory
    }

    #[test]
    fn as_many_grow_as_fit_with_all_that_they_may_hold() {
        let mut memory = memory(&[10, 0, 0, 0]);
        for partition in [1, 2, 3].map(Partition) {
            assert!(memory.admits(partition), "10 + 30 a piece is within 100");
            memory.begin(partition);
        }
        assert!(!memory.admits(Partition(4)));
        assert!(!memory.admits(Partition(0)), "0 + 4 x 30 is above");
        memory.end(Partition(1), 0);
        assert!(memory.admits(Partition(0)), "it is no longer reckoned with what it rests at");
        memory.end(Partition(2), 31);
        assert!(!memory.admits(Partition(4)), "10 + 31 + 2 x 30 is above");
        assert!(memory.admits(Partition(0)));
    }

    #[test]
    fn one_grows_however_much_is_held() {
        let mut memory = memory(&[100, 1]);
        assert!(memory.admits(Partition(2)));
        memory.begin(Partition(2));
        assert!(!memory.admits(Partition(3)));
        memory.rest();
        assert!(memory.admits(Partition(3)), "nobody waits for a tick that was dropped");
    }

    #[test]
    fn what_is_too_much_is_given_up_largest_first() {
        let mut memory = memory(&[30, 29, 30, 11]);
        assert_eq!(memory.excess(), None, "exactly the bound");
        memory.end(Partition(3), 12);
        assert_eq!(memory.excess(), Some(Partition(2)));
        memory.begin(Partition(2));
        assert_eq!(memory.excess(), None);
        memory.end(Partition(2), 0);
        assert_eq!((memory.excess(), memory.held()), (None, 71));
    }
}
