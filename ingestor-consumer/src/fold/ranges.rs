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
    /// Adds a number; tells whether it was absent.
    pub(crate) fn insert(&mut self, number: u64) -> bool {
        match self {
            Self::None => *self = Self::One(number, number + 1),
            Self::One(start, end) if (*start..*end).contains(&number) => return false,
            Self::One(_, end) if number == *end => *end += 1,
            Self::One(start, _) if number + 1 == *start => *start = number,
            Self::One(start, end) => {
                *self = Self::Many(BTreeMap::from([(*start, *end), (number, number + 1)]));
            }
            Self::Many(ranges) => {
                let is_new = insert(ranges, number);
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

fn insert(ranges: &mut BTreeMap<u64, u64>, number: u64) -> bool {
    let before = ranges.range(..=number).next_back().map(|(start, end)| (*start, *end));
    if before.is_some_and(|(_, end)| number < end) {
        return false;
    }
    let end = ranges.remove(&(number + 1)).unwrap_or(number + 1);
    match before {
        Some((start, touching)) if touching == number => ranges.insert(start, end),
        _ => ranges.insert(number, end),
    };
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    proptest::proptest! {
        #[test]
        fn ranges_are_a_set_of_numbers(numbers in proptest::collection::vec(0u64..60, 0..80)) {
            let mut ranges = Ranges::default();
            let mut set = BTreeSet::new();
            for number in numbers {
                let (would_add, before) = (ranges.would_add(number), ranges.len());
                proptest::prop_assert_eq!(ranges.insert(number), set.insert(number));
                proptest::prop_assert_eq!(would_add, ranges.len() > before);
                proptest::prop_assert_eq!(&ranges.iter().collect::<Ranges>(), &ranges);
            }
            let merged: Vec<_> = ranges.iter().collect();
            proptest::prop_assert!(merged.windows(2).all(|pair| pair[0].1 < pair[1].0));
            let flat: BTreeSet<u64> = ranges.iter().flat_map(|(start, end)| start..end).collect();
            proptest::prop_assert_eq!(flat, set);
        }
    }
}
