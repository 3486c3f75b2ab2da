//! Aggregate: the mergeable state of one resource in one window. Total: what any number of them add
//! up to.

use thiserror::Error;

use crate::{Quantity, Timestamp, quantity::Sum};

/// Count, sum, least, greatest and last amount, and the span of event time they came from.
///
/// Merging is commutative and associative, so the order and the splitting of usage never matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// Pulses, at least 1.
    pub count: u64,
    /// Sum of their amounts.
    pub sum: Quantity,
    /// Least amount.
    pub min: Quantity,
    /// Greatest amount.
    pub max: Quantity,
    /// The amount at `time_last`; the greater one where several pulses share that time.
    pub last: Quantity,
    /// Least event time.
    pub time_first: Timestamp,
    /// Greatest event time.
    pub time_last: Timestamp,
}

/// A sum or count that left its range; the aggregate is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the total would leave the range of an exact amount")]
pub struct Overflow;

impl Aggregate {
    /// The aggregate of one pulse.
    #[inline]
    #[must_use]
    pub const fn of(amount: Quantity, time: Timestamp) -> Self {
        Self {
            count: 1,
            sum: amount,
            min: amount,
            max: amount,
            last: amount,
            time_first: time,
            time_last: time,
        }
    }

    /// Takes one more pulse.
    ///
    /// # Errors
    /// `Overflow` when the sum leaves its range; nothing is changed.
    #[inline]
    pub fn add(&mut self, amount: Quantity, time: Timestamp) -> Result<(), Overflow> {
        self.merge(&Self::of(amount, time))
    }

    /// Takes all that another holds.
    ///
    /// # Errors
    /// `Overflow` when the sum or the count leaves its range; nothing is changed.
    #[inline]
    pub fn merge(&mut self, other: &Self) -> Result<(), Overflow> {
        let sum = self.sum.checked_add(other.sum).ok_or(Overflow)?;
        let count = self.count.checked_add(other.count).ok_or(Overflow)?;
        if (other.time_last, other.last) > (self.time_last, self.last) {
            self.last = other.last;
            self.time_last = other.time_last;
        }
        self.time_first = self.time_first.min(other.time_first);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum = sum;
        self.count = count;
        Ok(())
    }
}

/// What aggregates add up to, over any span. A stored row is bounded when it is made; a total is as wide
/// as it takes, so that no usage can make one that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// Pulses, at least 1.
    pub count: u128,
    /// Sum of their amounts.
    pub sum: Sum,
    /// Least amount.
    pub min: Quantity,
    /// Greatest amount.
    pub max: Quantity,
    /// The amount at `time_last`; the greater one where several pulses share that time.
    pub last: Quantity,
    /// Least event time.
    pub time_first: Timestamp,
    /// Greatest event time.
    pub time_last: Timestamp,
}

impl From<&Aggregate> for Total {
    fn from(aggregate: &Aggregate) -> Self {
        let Aggregate { count, sum, min, max, last, time_first, time_last } = *aggregate;
        Self { count: count.into(), sum: sum.into(), min, max, last, time_first, time_last }
    }
}

impl Total {
    /// Takes all that an aggregate holds. Order never matters.
    pub fn add(&mut self, other: &Aggregate) {
        self.count += u128::from(other.count);
        self.sum = self.sum.plus(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if (other.time_last, other.last) > (self.time_last, self.last) {
            self.last = other.last;
            self.time_last = other.time_last;
        }
        self.time_first = self.time_first.min(other.time_first);
    }

    /// Takes all that another holds. Order never matters.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum = self.sum.with(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.last = (self.time_last, self.last).max((other.time_last, other.last)).1;
        self.time_last = self.time_last.max(other.time_last);
        self.time_first = self.time_first.min(other.time_first);
    }

    /// Aggregates that add up to it: one, unless the count or the sum is beyond what one may hold.
    #[must_use]
    pub fn aggregates(&self) -> Vec<Aggregate> {
        let Self { count, sum, min, max, last, time_first, time_last } = *self;
        let of = |count, sum| Aggregate { count, sum, min, max, last, time_first, time_last };
        if let (Ok(count), Some(sum)) = (u64::try_from(count), sum.to_quantity()) {
            return vec![of(count, sum)];
        }
        let sums = sum.quantities();
        let pieces = count.div_ceil(u64::MAX.into()).max(sums.len() as u128);
        // Each has one pulse at least, and there are as many pulses as quantities that were added up.
        let mut left = count.saturating_sub(pieces);
        let sums = sums.into_iter().chain(std::iter::repeat(Quantity::ZERO));
        let pieces = usize::try_from(pieces).expect("2^64 rows do not fit a store");
        let piece = |sum| {
            let more = left.min(u128::from(u64::MAX - 1));
            left -= more;
            of(more as u64 + 1, sum)
        };
        sums.take(pieces).map(piece).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pulses() -> impl Strategy<Value = Vec<(i64, i64)>> {
        proptest::collection::vec((any::<i64>(), 0i64..5), 1..20)
    }

    fn total(pulses: &[(i64, i64)]) -> Aggregate {
        pulses
            .iter()
            .map(|(amount, time)| {
                Aggregate::of(
                    Quantity::from_raw((*amount).into()),
                    Timestamp::from_micros(*time).unwrap(),
                )
            })
            .reduce(|mut sum, one| {
                sum.merge(&one).unwrap();
                sum
            })
            .unwrap()
    }

    proptest! {
        #[test]
        fn order_and_splitting_never_matter(pulses in pulses(), at in any::<prop::sample::Index>(), seed in any::<u64>()) {
            let whole = total(&pulses);
            let mut shuffled = pulses.clone();
            shuffled.sort_by_key(|(amount, time)| (*amount as u64 ^ seed).wrapping_mul(31 + *time as u64));
            prop_assert_eq!(total(&shuffled), whole);
            let at = at.index(pulses.len());
            if at > 0 {
                let mut left = total(&pulses[..at]);
                left.merge(&total(&pulses[at..])).unwrap();
                prop_assert_eq!(left, whole);
                let mut wide = Total::from(&total(&pulses[..at]));
                let mut merged = wide;
                wide.add(&total(&pulses[at..]));
                merged.merge(&Total::from(&total(&pulses[at..])));
                prop_assert_eq!((wide, merged), (Total::from(&whole), wide));
            }
        }
    }

    #[test]
    fn a_total_beyond_one_aggregate_is_told_by_several() {
        let one = |amount, count| {
            let mut one = Aggregate::of(amount, Timestamp::EPOCH);
            one.count = count;
            Total::from(&one)
        };
        let all = |parts: &[Total]| {
            let mut all = parts[0];
            parts[1..].iter().for_each(|part| all.merge(part));
            all
        };
        let most = one(Quantity::MAX, u64::MAX);
        for (total, pieces) in [
            (one(Quantity::MIN, 1), 1),
            (all(&[one(Quantity::MAX, 1), one(Quantity::MAX, 1)]), 2),
            (all(&[one(Quantity::MIN, 1); 3]), 3),
            (all(&[one(Quantity::ONE, u64::MAX), one(Quantity::ONE, 1)]), 2),
            (all(&[most, most, one(Quantity::MIN, 1)]), 3),
        ] {
            let found = total.aggregates();
            assert_eq!(found.len(), pieces, "{total:?}");
            let again: Vec<Total> = found.iter().map(Total::from).collect();
            assert_eq!(all(&again), total);
        }
    }

    #[test]
    fn an_overflow_changes_nothing() {
        let mut aggregate = Aggregate::of(Quantity::MAX, Timestamp::EPOCH);
        let before = aggregate;
        assert_eq!(aggregate.add(Quantity::from_raw(1), Timestamp::MAX), Err(Overflow));
        assert_eq!(aggregate, before);
    }
}
