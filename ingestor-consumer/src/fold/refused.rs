//! Refused places of a landed batch, in a fixed number of bytes.
//!
//! A batch that comes again counts what was refused at every earlier landing. Refused places lie
//! mostly together (a bad SKU, a bad stretch of a file), so they are kept as ranges; where they are
//! too scattered, only a hash is kept: the same refusals again are told, and others are set aside.

use domain::hash;

/// Ranges that are remembered of one batch.
pub(crate) const RANGES_MAX: usize = 8;

/// Places refused at every landing so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Half-open ranges, ascending, that do not touch; at most [`RANGES_MAX`].
    Ranges(Box<[(u32, u32)]>),
    /// More than that, by their hash.
    Scattered(u64),
}

impl Refused {
    /// Takes ascending places.
    pub(crate) fn of(places: &[u32]) -> Self {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for place in places {
            let is_full = ranges.len() == RANGES_MAX;
            match ranges.last_mut() {
                Some((_, end)) if *end == *place => *end += 1,
                _ if is_full => return Self::Scattered(hash_of(places)),
                _ => ranges.push((*place, place + 1)),
            }
        }
        Self::Ranges(ranges.into())
    }

    /// Takes another landing, with these ascending places refused, and gives the places that were
    /// refused at every earlier one and are not now, ascending; `None` where nobody can tell any more.
    pub(crate) fn land_again(&mut self, refused: &[u32]) -> Option<Vec<u32>> {
        match self {
            Self::Ranges(ranges) => {
                let places = ranges.iter().flat_map(|(start, end)| *start..*end);
                let is_refused = |place: &u32| refused.binary_search(place).is_ok();
                let (still, new): (Vec<u32>, Vec<u32>) = places.partition(is_refused);
                *self = Self::of(&still);
                Some(new)
            }
            Self::Scattered(hash) => (*hash == hash_of(refused)).then(Vec::new),
        }
    }

    /// Bytes that it takes beside its own place.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Ranges(ranges) => size_of_val(&**ranges) as u64,
            Self::Scattered(_) => 0,
        }
    }
}

fn hash_of(places: &[u32]) -> u64 {
    let bytes: Vec<u8> = places.iter().flat_map(|place| place.to_le_bytes()).collect();
    hash::bytes64(0, &bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn thousands_of_refusals_in_a_stretch_take_a_few_bytes() {
        let places: Vec<u32> = (1..10_000).collect();
        assert_eq!(Refused::of(&places), Refused::Ranges([(1, 10_000)].into()));
        let every_other: Vec<u32> = (0..10_000).step_by(2).collect();
        let mut scattered = Refused::of(&every_other);
        assert!(matches!(scattered, Refused::Scattered(_)) && scattered.bytes() == 0);
        assert_eq!(scattered.land_again(&every_other), Some(Vec::new()));
        assert_eq!(scattered.land_again(&every_other[1..]), None);
    }

    proptest! {
        #[test]
        fn ranges_tell_what_lists_would(
            first in proptest::collection::btree_set(0u32..24, 0..24),
            second in proptest::collection::btree_set(0u32..24, 0..24),
        ) {
            let list = |set: &std::collections::BTreeSet<u32>| set.iter().copied().collect::<Vec<_>>();
            let mut refused = Refused::of(&list(&first));
            let wanted: Vec<u32> = first.difference(&second).copied().collect();
            match refused.land_again(&list(&second)) {
                Some(new) => {
                    prop_assert_eq!(new, wanted);
                    let both: Vec<u32> = first.intersection(&second).copied().collect();
                    prop_assert_eq!(refused, Refused::of(&both));
                }
                None => prop_assert!(matches!(Refused::of(&list(&first)), Refused::Scattered(_))),
            }
        }
    }
}
