//! Ranges: which rows of a backfill have landed, as half-open ranges that do not touch.
//!
//! Nearly every backfill is one range from its first row on, and a partition may remember hundreds of
//! thousands of them. So a single range lies in the set itself; a tree took 208 bytes for it.

use std::collections::BTreeMap;

/// A set of numbers. Equal sets are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ranges {
    #[default]
    None,
    /// Start and end.
    One(u64, u64),
    /// Two or more, ends by starts.
    Many(BTreeMap<u64, u64>),
}

impl Ranges {
    /// Adds the numbers from `from` to below `to`, which is greater, where none of them is in it; tells
    /// whether it did.
    pub(crate) fn insert(&mut self, from: u64, to: u64) -> bool {
        match self {
            Self::None => *self = Self::One(from, to),
            Self::One(start, end) if from < *end && *start < to => return false,
            Self::One(_, end) if from == *end => *end = to,
            Self::One(start, _) if to == *start => *start = from,
            Self::One(start, end) => {
                *self = Self::Many(BTreeMap::from([(*start, *end), (from, to)]));
            }
            Self::Many(ranges) => {
                let is_new = insert(ranges, from, to);
                if ranges.len() == 1 {
                    *self = std::mem::take(ranges).into_iter().collect();
                }
                return is_new;
            }
        }
        true
    }

    /// Whether a number would be a range of its own.
    pub(crate) fn would_add(&self, number: u64) -> bool {
        match self {
            Self::None => true,
            // Just before the start, within, or just behind the end it is none.
            Self::One(start, end) => number.saturating_add(1) < *start || number > *end,
            Self::Many(ranges) => {
                let touches_before =
                    ranges.range(..=number).next_back().is_some_and(|(_, end)| number <= *end);
                !touches_before && !ranges.contains_key(&(number + 1))
            }
        }
    }

    /// How many ranges there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(..) => 1,
            Self::Many(ranges) => ranges.len(),
        }
    }

    /// Start and end of each, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(start, end) => (Some((*start, *end)), None),
            Self::Many(ranges) => (None, Some(ranges)),
        };
        one.into_iter().chain(many.into_iter().flatten().map(|(start, end)| (*start, *end)))
    }
}

impl FromIterator<(u64, u64)> for Ranges {
    /// Takes what [`Ranges::iter`] gave.
    fn from_iter<T: IntoIterator<Item = (u64, u64)>>(ranges: T) -> Self {
        let mut ranges = ranges.into_iter();
        match (ranges.next(), ranges.next()) {
            (None, _) => Self::None,
            (Some((start, end)), None) => Self::One(start, end),
            (Some(first), Some(second)) => {
                Self::Many([first, second].into_iter().chain(ranges).collect())
            }
        }
    }
}

fn insert(ranges: &mut BTreeMap<u64, u64>, from: u64, to: u64) -> bool {
    let before = ranges.range(..to).next_back().map(|(start, end)| (*start, *end));
    if before.is_some_and(|(_, end)| from < end) {
        return false;
    }
    let end = ranges.remove(&to).unwrap_or(to);
    match before {
        Some((start, touching)) if touching == from => ranges.insert(start, end),
        _ => ranges.insert(from, end),
    };
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    proptest::proptest! {
        #[test]
        fn ranges_are_a_set_of_numbers(
            numbers in proptest::collection::vec((0u64..60, 1u64..5), 0..80),
            is_single in proptest::bool::ANY,
        ) {
            let mut ranges = Ranges::default();
            let mut set = BTreeSet::new();
            for (number, length) in numbers {
                let length = if is_single { 1 } else { length };
                let (would_add, before) = (ranges.would_add(number), ranges.len());
                let added = number..number + length;
                let is_new = added.clone().all(|number| !set.contains(&number));
                proptest::prop_assert_eq!(ranges.insert(number, number + length), is_new);
                if is_new {
                    set.extend(added);
                }
                proptest::prop_assert!(!is_single || would_add == (ranges.len() > before));
                proptest::prop_assert_eq!(&ranges.iter().collect::<Ranges>(), &ranges);
            }
            let merged: Vec<_> = ranges.iter().collect();
            proptest::prop_assert!(merged.windows(2).all(|pair| pair[0].1 < pair[1].0));
            let flat: BTreeSet<u64> = ranges.iter().flat_map(|(start, end)| start..end).collect();
            proptest::prop_assert_eq!(flat, set);
        }
    }
}
