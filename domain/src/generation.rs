//! Generations of the log, with their fixed parameters, and the place of a record in one.

use std::{fmt, time::Duration};

use thiserror::Error;

use crate::{WindowLength, hash};

/// Identifies a log generation: a log with a fixed number of partitions. A topic that was made again
/// under the same name is another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub [u8; 16]);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Number of a partition, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u16);

/// Place of a record in its partition. Strictly rising, not promised dense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

/// Version of the fold's verdicts over a log. Epoch 0 is the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u16);

impl Offset {
    /// The offset after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

macro_rules! displays_its_number {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
displays_its_number!(Partition Offset Epoch);

/// What is fixed for the life of a log generation. Totals are a pure function of the log and this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its identity.
    pub log_id: LogId,
    /// Number of partitions, 1 to 1,024.
    pub partitions: u16,
    /// A segment ends after this many offsets (N), at least 1. Default 2^20.
    pub segment_records_max: u64,
    /// A segment ends where effective log time crosses a multiple of this (T). Default 600 s.
    pub segment_span: Duration,
    /// How long an id is remembered (H), a multiple of T. Default 26 h.
    pub horizon: Duration,
    /// How old a pulse may be (L). Default 24 h.
    pub lateness: Duration,
    /// How far ahead of log time a pulse may be (F). Default 5 min.
    pub future_tolerance: Duration,
    /// Length of the windows of its rows in the store. Default one hour.
    pub window: WindowLength,
    /// Seed of every hash, drawn at random for each generation so that clients cannot aim at it.
    pub hash_seed: u64,
}

/// Why parameters make no generation.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GenerationError {
    /// A number outside its range.
    #[error("{0} is outside its range: {1}")]
    Range(&'static str, &'static str),
    /// `L + F <= H - T` does not hold, so a late retry could count twice.
    #[error(
        "lateness + future tolerance must not pass horizon - segment span, or a late retry could count twice: lower the lateness or raise the horizon"
    )]
    HorizonTooShort,
}

impl Generation {
    /// The defaults, for a fresh log.
    #[must_use]
    pub const fn new(log_id: LogId, partitions: u16, hash_seed: u64) -> Self {
        Self {
            log_id,
            partitions,
            segment_records_max: 1 << 20,
            segment_span: Duration::from_secs(600),
            horizon: Duration::from_secs(26 * 3_600),
            lateness: Duration::from_secs(24 * 3_600),
            future_tolerance: Duration::from_secs(300),
            window: WindowLength::HOUR,
            hash_seed,
        }
    }

    /// Checks every range and that the horizon covers lateness.
    ///
    /// # Errors
    /// See [`GenerationError`].
    pub fn check(&self) -> Result<(), GenerationError> {
        if !(1..=1_024).contains(&self.partitions) {
            return Err(GenerationError::Range("partitions", "1 to 1024"));
        }
        if self.segment_records_max == 0 {
            return Err(GenerationError::Range("segment_records_max", "at least 1"));
        }
        let span = self.segment_span.as_micros();
        if span == 0 || !self.horizon.as_micros().is_multiple_of(span) {
            return Err(GenerationError::Range("segment_span", "above 0 and a divisor of horizon"));
        }
        if self.lateness + self.future_tolerance + self.segment_span > self.horizon {
            return Err(GenerationError::HorizonTooShort);
        }
        Ok(())
    }

    /// The generation that follows this one: all the same but for its identity and partitions. The
    /// seed stays too, so that what was known of clients goes on under the same hashes.
    #[must_use]
    pub const fn grown(&self, log_id: LogId, partitions: u16) -> Self {
        Self { log_id, partitions, ..*self }
    }

    /// The same with windows of another length.
    #[must_use]
    pub const fn with_windows(self, window: WindowLength) -> Self {
        Self { window, ..self }
    }

    /// Tells whether it may follow `before`: all the same but for its identity, its partitions, and
    /// windows that divide those of `before`. So every edge of a window before is one here, and usage
    /// is told apart at least as finely as it was.
    #[must_use]
    pub fn may_follow(&self, before: &Self) -> bool {
        *self == before.grown(self.log_id, self.partitions).with_windows(self.window)
            && self.window.divides(before.window)
    }

    /// Where pulses go that no identity of a batch keeps together, so that equal ids meet.
    #[inline]
    #[must_use]
    pub fn partition_of_tenant(&self, tenant: &[u8]) -> Partition {
        self.partition_of_hash(hash::bytes64(self.hash_seed, tenant))
    }

    /// Where a whole batch goes: by its scope, and the producer's id or the backfill's name.
    #[must_use]
    pub fn partition_of_batch(&self, scope: &str, name: &[u8]) -> Partition {
        self.partition_of_hash(hash::parts(self.hash_seed, [scope.as_bytes(), name]) as u64)
    }

    fn partition_of_hash(&self, hash: u64) -> Partition {
        let partition = hash % u64::from(self.partitions.max(1));
        Partition(u16::try_from(partition).expect("a remainder by a u16"))
    }

    /// Whether a tenant that went to partition `was` of `before` may go to partition `now` here,
    /// where only the low half of its hash is known. Never no where it may. Exact if this
    /// generation's number of partitions is that of `before` times a power of two; a tenant is let
    /// into several partitions else, and into all of them where the numbers share no factor.
    ///
    /// Why: the remainder by `before.partitions` is known, and that by every power of two up to
    /// 2^32, hence that by every number that divides their least common multiple.
    #[must_use]
    pub fn may_hold(&self, now: Partition, before: &Self, was: Partition, hash_low: u32) -> bool {
        let (now, was) = (u32::from(now.0), u32::from(was.0));
        let agree = |one: u32, other: u32, by: u32| one % by == other % by;
        let ours = u32::from(self.partitions.max(1));
        let power_of_two = 1 << ours.trailing_zeros();
        let common = common_divisor(ours, u32::from(before.partitions.max(1)));
        agree(now, hash_low, power_of_two) && agree(now, was, common)
    }

    /// All partitions, ascending.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.partitions).map(Partition)
    }
}

const fn common_divisor(one: u32, other: u32) -> u32 {
    if other == 0 { one } else { common_divisor(other, one % other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_let_in_where_it_goes_and_nowhere_else_if_partitions_double() {
        for (old, new, held_by) in
            [(2, 5, 5), (3, 6, 1), (4, 8, 1), (6, 24, 1), (4, 12, 3), (6, 9, 3), (1, 7, 7)]
        {
            let before = Generation::new(LogId([1; 16]), old, 77);
            let after = before.grown(LogId([2; 16]), new);
            for tenant in (0..500u32).map(u32::to_le_bytes) {
                let was = before.partition_of_tenant(&tenant);
                let low = hash::bytes64(before.hash_seed, &tenant) as u32;
                let holding: Vec<_> = after
                    .partitions()
                    .filter(|now| after.may_hold(*now, &before, was, low))
                    .collect();
                assert!(holding.contains(&after.partition_of_tenant(&tenant)), "{old} to {new}");
                assert_eq!(holding.len(), held_by, "{old} to {new}");
            }
        }
    }

    #[test]
    fn a_generation_follows_one_whose_windows_its_own_divide_and_nothing_else_differs() {
        let window = |minutes: u64| WindowLength::new(Duration::from_secs(minutes * 60)).unwrap();
        let before = Generation::new(LogId([1; 16]), 4, 7).with_windows(window(30));
        let next = |minutes| before.grown(LogId([2; 16]), 4).with_windows(window(minutes));
        for (minutes, may) in [(10, true), (15, true), (30, true), (20, false), (60, false)] {
            assert_eq!(next(minutes).may_follow(&before), may, "{minutes}");
        }
        assert!(!Generation { hash_seed: 8, ..next(15) }.may_follow(&before));
        assert!(!Generation { lateness: Duration::ZERO, ..next(15) }.may_follow(&before));
    }

    #[test]
    fn a_horizon_shorter_than_lateness_is_refused() {
        let mut generation = Generation::new(LogId([0; 16]), 4, 0);
        assert_eq!(generation.check(), Ok(()));
        generation.lateness =
            generation.horizon - generation.segment_span - generation.future_tolerance;
        assert_eq!(generation.check(), Ok(()));
        generation.lateness += Duration::from_micros(1);
        assert_eq!(generation.check(), Err(GenerationError::HorizonTooShort));
    }
}
