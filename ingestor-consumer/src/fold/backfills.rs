//! Backfills: finite sets of old usage under a name, each row counted once for ever.

use std::collections::BTreeMap;

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
}

/// All backfills of a partition; kept for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backfills(pub(crate) BTreeMap<BackfillKey, Backfill>);

impl Backfills {
    /// The rows of a backfill, or `None` where its name was used for other content.
    pub(crate) fn rows(&mut self, key: BackfillKey, content_digest: &[u8]) -> Option<&mut Ranges> {
        let new = || Backfill { content_digest: content_digest.to_vec(), rows: Ranges::default() };
        let backfill = self.0.entry(key).or_insert_with(new);
        (backfill.content_digest == content_digest).then_some(&mut backfill.rows)
    }
}

/// A set of numbers, as half-open ranges that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(pub(crate) BTreeMap<u64, u64>);

impl Ranges {
    /// Adds a number; tells whether it was absent.
    pub(crate) fn insert(&mut self, number: u64) -> bool {
        let before = self.0.range(..=number).next_back().map(|(start, end)| (*start, *end));
        if before.is_some_and(|(_, end)| number < end) {
            return false;
        }
        let end = self.0.remove(&(number + 1)).unwrap_or(number + 1);
        match before {
            Some((start, touching)) if touching == number => self.0.insert(start, end),
            _ => self.0.insert(number, end),
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_name_used_for_other_content_gives_no_rows() {
        let mut backfills = Backfills::default();
        let key = BackfillKey { scope: String::new(), name: "2024".into() };
        assert!(backfills.rows(key.clone(), b"one").is_some_and(|rows| rows.insert(5)));
        assert!(backfills.rows(key.clone(), b"two").is_none());
        assert!(backfills.rows(key, b"one").is_some_and(|rows| !rows.insert(5)));
    }

    proptest::proptest! {
        #[test]
        fn ranges_are_a_set_of_numbers(numbers in proptest::collection::vec(0u64..60, 0..80)) {
            let mut ranges = Ranges::default();
            let mut set = BTreeSet::new();
            for number in numbers {
                proptest::prop_assert_eq!(ranges.insert(number), set.insert(number));
            }
            let merged: Vec<_> = ranges.0.iter().collect();
            proptest::prop_assert!(merged.windows(2).all(|pair| pair[0].1 < pair[1].0));
            let flat: BTreeSet<u64> = ranges.0.iter().flat_map(|(start, end)| *start..*end).collect();
            proptest::prop_assert_eq!(flat, set);
        }
    }
}
