//! Backfills: finite sets of old usage under a name, each row counted once for ever.

use std::{collections::BTreeMap, num::NonZero};

use super::ranges::Ranges;

/// Identifies a backfill.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BackfillKey {
    pub(crate) scope: String,
    pub(crate) name: String,
}

/// What landed of a backfill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backfill {
    /// Digest of the whole content, as its first batch said.
    pub(crate) content_digest: Vec<u8>,
    /// Row ranges that landed, start to end, merged.
    pub(crate) rows: Ranges,
    /// Its number in the delta that is being written, once it is in it.
    pub(crate) mention: Option<NonZero<u32>>,
}

/// Bytes that a backfill is counted as, but for its name, its digest and its ranges.
const BACKFILL_BYTES: u64 = 128;
/// Bytes that a range is counted as.
const RANGE_BYTES: u64 = 32;

/// All backfills of a partition; kept for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backfills {
    all: BTreeMap<BackfillKey, Backfill>,
    bytes: u64,
}

/// What a batch of a backfill is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BackfillVerdict {
    /// Its rows are judged one by one.
    Rows,
    /// The name was used for other content.
    Reused,
    /// The name is new, and no more can be remembered.
    Full,
}

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowVerdict {
    New,
    Duplicate,
    /// It would leave one gap more than can be remembered.
    Full,
    /// It would leave one gap more than its backfill may have.
    Scattered,
}

impl Backfills {
    /// Lands a batch; `room` is how many bytes all backfills may take.
    pub(crate) fn land(
        &mut self,
        key: &BackfillKey,
        content_digest: &[u8],
        room: u64,
    ) -> BackfillVerdict {
        if let Some(known) = self.all.get(key) {
            let same = known.content_digest == content_digest;
            return if same { BackfillVerdict::Rows } else { BackfillVerdict::Reused };
        }
        let backfill = Backfill { content_digest: content_digest.to_vec(), ..Backfill::default() };
        let bytes = backfill.bytes(key);
        if self.bytes + bytes > room {
            return BackfillVerdict::Full;
        }
        self.bytes += bytes;
        self.all.insert(key.clone(), backfill);
        BackfillVerdict::Rows
    }

    /// Takes a row of a backfill that has landed and may have at most so many ranges (0: as many as have
    /// room), and gives its number in the delta.
    pub(crate) fn row(
        &mut self,
        key: &BackfillKey,
        row: u64,
        (room, ranges_max): (u64, u32),
    ) -> (RowVerdict, Option<NonZero<u32>>) {
        let backfill = self.all.get_mut(key).expect("its batch has landed");
        let (ranges, mention) = (backfill.rows.len(), backfill.mention);
        let has_most = ranges_max > 0 && ranges >= ranges_max as usize;
        let has_room = self.bytes + RANGE_BYTES <= room;
        if (has_most || !has_room) && backfill.rows.would_add(row) {
            return (if has_room { RowVerdict::Scattered } else { RowVerdict::Full }, mention);
        }
        let is_new = backfill.rows.insert(row, row + 1);
        self.bytes = self.bytes + bytes_of(&backfill.rows) - ranges as u64 * RANGE_BYTES;
        (if is_new { RowVerdict::New } else { RowVerdict::Duplicate }, mention)
    }

    /// Takes rows, in `from..to`, of a backfill that has landed, where none of them was taken; tells
    /// whether it did.
    pub(crate) fn rows(&mut self, key: &BackfillKey, from: u64, to: u64) -> bool {
        let Some(backfill) = self.all.get_mut(key) else { return false };
        let before = bytes_of(&backfill.rows);
        let are_new = backfill.rows.insert(from, to);
        self.bytes = self.bytes + bytes_of(&backfill.rows) - before;
        are_new
    }

    /// The number of a backfill in the delta, for which it gets `next` if it has none.
    pub(crate) fn mention(&mut self, key: &BackfillKey, next: NonZero<u32>) -> NonZero<u32> {
        let backfill = self.all.get_mut(key).expect("its batch has landed");
        *backfill.mention.get_or_insert(next)
    }

    /// Takes the numbers back, for the next delta.
    pub(crate) fn forget_mentions(&mut self) {
        self.all.values_mut().for_each(|backfill| backfill.mention = None);
    }

    /// Bytes that they are counted as.
    #[cfg(test)]
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&BackfillKey, &Backfill)> {
        self.all.iter()
    }
}

impl IntoIterator for Backfills {
    type Item = (BackfillKey, Backfill);
    type IntoIter = std::collections::btree_map::IntoIter<BackfillKey, Backfill>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.into_iter()
    }
}

impl Extend<(BackfillKey, Backfill)> for Backfills {
    fn extend<T: IntoIterator<Item = (BackfillKey, Backfill)>>(&mut self, more: T) {
        // Built at once, a tree is full; grown one by one in order, half of it is free.
        self.all.append(&mut more.into_iter().collect());
        self.bytes = self.all.iter().map(|(key, backfill)| backfill.bytes(key)).sum();
    }
}

impl Backfill {
    fn bytes(&self, key: &BackfillKey) -> u64 {
        let texts = key.scope.len() + key.name.len() + self.content_digest.len();
        BACKFILL_BYTES + texts as u64 + bytes_of(&self.rows)
    }
}

fn bytes_of(rows: &Ranges) -> u64 {
    rows.len() as u64 * RANGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> BackfillKey {
        BackfillKey { scope: String::new(), name: name.into() }
    }

    #[test]
    fn a_name_used_for_other_content_gives_no_rows() {
        let mut backfills = Backfills::default();
        let room = 1 << 20;
        assert_eq!(backfills.land(&key("2024"), b"one", room), BackfillVerdict::Rows);
        assert_eq!(backfills.row(&key("2024"), 5, (room, 0)).0, RowVerdict::New);
        assert_eq!(backfills.land(&key("2024"), b"two", room), BackfillVerdict::Reused);
        assert_eq!(backfills.land(&key("2024"), b"one", room), BackfillVerdict::Rows);
        assert_eq!(backfills.row(&key("2024"), 5, (room, 0)).0, RowVerdict::Duplicate);
    }

    /// The factor of `docs/operations.md`, at its worst: the shortest names and digests, two ranges, and
    /// nodes of trees that have 5 of 11 entries. A block of memory takes 16 bytes beside its own, and 32 at
    /// least.
    #[test]
    fn a_backfill_takes_at_most_three_times_what_it_is_counted_as() {
        let block = |bytes: usize| (bytes + 16).max(32);
        let key = BackfillKey { scope: "s".into(), name: "n".into() };
        let rows = [(0, 1), (2, 3)].into_iter().collect();
        let backfill = Backfill { content_digest: vec![0; 16], rows, mention: None };
        let texts = block(1) + block(1) + block(16);
        let in_tree = size_of::<(BackfillKey, Backfill)>() * 11 / 5 + 2 * size_of::<usize>();
        let ranges = block(11 * size_of::<(u64, u64)>() + 2 * size_of::<usize>());
        let (takes, counted) = (texts + in_tree + ranges, backfill.bytes(&key));
        assert!(takes as u64 <= 3 * counted, "{takes} bytes are counted as {counted}");
        // Each further five ranges may have a node of their own.
        assert!(ranges as u64 <= 3 * 5 * RANGE_BYTES, "{ranges}");
    }

    #[test]
    fn names_and_gaps_have_a_bound() {
        let mut backfills = Backfills::default();
        let room = BACKFILL_BYTES + 7 + 2 * RANGE_BYTES;
        assert_eq!(backfills.land(&key("2024"), b"one", room), BackfillVerdict::Rows);
        for (row, verdict) in [
            (5, RowVerdict::New),
            (9, RowVerdict::New),
            (7, RowVerdict::Full),
            (5, RowVerdict::Duplicate),
            (6, RowVerdict::New),
            (8, RowVerdict::New),
            (7, RowVerdict::New),
            (1, RowVerdict::New),
            (3, RowVerdict::Full),
        ] {
            assert_eq!(backfills.row(&key("2024"), row, (room, 0)).0, verdict, "{row}");
        }
        assert_eq!(backfills.bytes(), room);
        assert_eq!(backfills.land(&key("2025"), b"one", room), BackfillVerdict::Full);
        assert_eq!(backfills.land(&key("2024"), b"one", room), BackfillVerdict::Rows);
    }

    #[test]
    fn a_backfill_has_no_more_gaps_than_it_may() {
        let mut backfills = Backfills::default();
        assert_eq!(backfills.land(&key("2024"), b"one", 1 << 20), BackfillVerdict::Rows);
        for (row, verdict) in [
            (1, RowVerdict::New),
            (3, RowVerdict::New),
            (5, RowVerdict::Scattered),
            (4, RowVerdict::New),
            (3, RowVerdict::Duplicate),
            (2, RowVerdict::New),
            (7, RowVerdict::New),
            (9, RowVerdict::Scattered),
        ] {
            assert_eq!(backfills.row(&key("2024"), row, (1 << 20, 2)).0, verdict, "{row}");
        }
    }
}
