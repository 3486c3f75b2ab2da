//! Cells: what a part of a block adds to one resource in one window, and which segments it came from.

use crate::{Partition, Timestamp, Total, hash};

/// The smallest piece of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockCell {
    /// Start of the window.
    pub window_start: Timestamp,
    /// The part of the block, from 0: how many edges of the block are at or before its segments.
    pub part: u32,
    /// All usage of it.
    pub total: Total,
    /// The segments that added to it; none in a roll-up.
    pub sources: Sources,
}

impl BlockCell {
    /// The order of the cells of a resource.
    #[must_use]
    pub const fn place(&self) -> (Timestamp, u32) {
        (self.window_start, self.part)
    }

    /// Takes all that a cell of the same place holds. Order never matters.
    pub fn merge(&mut self, other: &Self) {
        self.total.merge(&other.total);
        self.sources.merge(&other.sources);
    }

    /// Keyed hash of the cell under its entry's key; XOR of these over a block is its manifest's digest.
    #[must_use]
    pub fn digest(&self, seed: u64, entry: &[u8]) -> u128 {
        let Total { count, sum, min, max, last, time_first, time_last } = &self.total;
        let mut runs = Vec::with_capacity(self.sources.0.len() * 10);
        for SegmentRun { partition, first, count } in &self.sources.0 {
            runs.extend_from_slice(&partition.0.to_le_bytes());
            runs.extend_from_slice(&first.to_le_bytes());
            runs.extend_from_slice(&count.to_le_bytes());
        }
        hash::parts(
            seed,
            [
                entry,
                &self.window_start.micros().to_le_bytes(),
                &self.part.to_le_bytes(),
                &count.to_le_bytes(),
                &sum.to_le_bytes(),
                &min.raw().to_le_bytes(),
                &max.raw().to_le_bytes(),
                &last.raw().to_le_bytes(),
                &time_first.micros().to_le_bytes(),
                &time_last.micros().to_le_bytes(),
                &runs,
            ],
        )
    }
}

/// Segments of a block, as runs of neighbours in a partition. Sorted; no two runs touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(Vec<SegmentRun>);

/// Neighbouring segments of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentRun {
    /// The partition that they follow one another in.
    pub partition: Partition,
    /// Number of the first among the block's segments of that partition, from 0.
    pub first: u32,
    /// How many there are, at least 1.
    pub count: u32,
}

impl SegmentRun {
    /// Number behind the last.
    #[must_use]
    pub const fn end(&self) -> u32 {
        self.first.saturating_add(self.count)
    }
}

impl Sources {
    /// One segment.
    #[must_use]
    pub fn of(partition: Partition, number: u32) -> Self {
        Self(vec![SegmentRun { partition, first: number, count: 1 }])
    }

    /// The runs, ascending.
    #[must_use]
    pub fn runs(&self) -> &[SegmentRun] {
        &self.0
    }

    /// What was stored; `None` where it is not in order.
    #[must_use]
    pub fn from_runs(runs: Vec<SegmentRun>) -> Option<Self> {
        let is_run = |run: &SegmentRun| run.count > 0 && run.first.checked_add(run.count).is_some();
        let apart = |one: &SegmentRun, next: &SegmentRun| {
            (one.partition, one.end()) < (next.partition, next.first)
        };
        (runs.iter().all(is_run) && runs.is_sorted_by(apart)).then_some(Self(runs))
    }

    /// The same segments as a block numbers them that has so many more before them in each partition.
    #[must_use]
    pub fn behind(mut self, before: impl Fn(Partition) -> u32) -> Self {
        for run in &mut self.0 {
            run.first += before(run.partition);
        }
        self
    }

    /// Takes the segments of another.
    pub fn merge(&mut self, other: &Self) {
        match (self.0.last_mut(), &other.0[..]) {
            (_, []) => return,
            // Mostly the next segment of the same partition, or the same again.
            (Some(last), [one])
                if one.partition == last.partition
                    && (last.first..=last.end()).contains(&one.first) =>
            {
                let end = last.end().max(one.end());
                last.count = end - last.first;
                return;
            }
            _ => {}
        }
        self.0.extend_from_slice(&other.0);
        self.0.sort_unstable();
        self.0.dedup_by(|next, kept| {
            let touches = kept.partition == next.partition && next.first <= kept.end();
            if touches {
                kept.count = kept.end().max(next.end()) - kept.first;
            }
            touches
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sources_are_a_set_however_they_were_merged(
            segments in prop::collection::vec((0u16..3, 0u32..12), 1..30),
            at in any::<prop::sample::Index>(),
            seed: u64,
        ) {
            let merged = |segments: &[(u16, u32)]| {
                let mut all = Sources::default();
                segments.iter().for_each(|(p, n)| all.merge(&Sources::of(Partition(*p), *n)));
                all
            };
            let whole = merged(&segments);
            let mut shuffled = segments.clone();
            shuffled.sort_by_key(|(p, n)| (u64::from(*n) * 31 + u64::from(*p)).wrapping_mul(seed | 1));
            let (one, other) = shuffled.split_at(at.index(shuffled.len()));
            let mut halves = merged(one);
            halves.merge(&merged(other));
            prop_assert_eq!(&halves, &whole);
            let listed: BTreeSet<(u16, u32)> = whole.runs().iter()
                .flat_map(|run| (run.first..run.end()).map(|n| (run.partition.0, n)))
                .collect();
            prop_assert_eq!(listed, segments.into_iter().collect::<BTreeSet<_>>());
            prop_assert_eq!(Sources::from_runs(whole.runs().to_vec()), Some(whole));
        }
    }

    #[test]
    fn runs_that_touch_or_are_empty_are_damage() {
        let run =
            |partition, first, count| SegmentRun { partition: Partition(partition), first, count };
        for runs in [
            vec![run(0, 0, 0)],
            vec![run(0, 0, 2), run(0, 2, 1)],
            vec![run(1, 0, 1), run(0, 5, 1)],
            vec![run(0, u32::MAX, 1)],
        ] {
            assert_eq!(Sources::from_runs(runs.clone()), None, "{runs:?}");
        }
        let behind = Sources::of(Partition(1), 3).behind(|partition| u32::from(partition.0) * 10);
        assert_eq!(behind, Sources::of(Partition(1), 13));
    }
}
