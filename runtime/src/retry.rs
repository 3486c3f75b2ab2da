//! Waiting between tries: exponential back-off with full jitter.
//!
//! Each delay is drawn evenly from zero to a ceiling that doubles from `first` to `max`. Drawing
//! from the whole range spreads the tries of many clients best for the least total work; source:
//! Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::time::Duration;

use uuid::Uuid;

/// The delays between the tries of one piece of work.
#[derive(Clone, Debug)]
pub struct Backoff {
    first_micros: u64,
    max_micros: u64,
    ceiling_micros: u64,
    random: SplitMix64,
}

impl Backoff {
    /// Delays under a ceiling that starts at `first` and doubles up to `max` (both at least one
    /// microsecond; a `max` below `first` counts as `first`), drawn from a seed of the system's.
    #[must_use]
    pub fn new(first: Duration, max: Duration) -> Self {
        Self::with_seed(first, max, Uuid::new_v4().as_u64_pair().0)
    }

    /// The same with a given seed, for simulations and tests: equal seeds give equal delays.
    #[must_use]
    pub fn with_seed(first: Duration, max: Duration, seed: u64) -> Self {
        let first_micros = micros(first);
        let max_micros = micros(max).max(first_micros);
        let random = SplitMix64(seed);
        Self { first_micros, max_micros, ceiling_micros: first_micros, random }
    }

    /// Draws the time to wait before the next try, and doubles the ceiling.
    pub fn next_delay(&mut self) -> Duration {
        let delay_micros = self.random.up_to(self.ceiling_micros);
        self.ceiling_micros = self.ceiling_micros.saturating_mul(2).min(self.max_micros);
        Duration::from_micros(delay_micros)
    }

    /// Starts again from `first`, after a success.
    pub const fn reset(&mut self) {
        self.ceiling_micros = self.first_micros;
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// The generator of Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
/// Six lines that are good enough to spread load, instead of a crate.
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `most`, both included, by multiplying instead of dividing: the high half
    /// of the product. Its bias is below one in 2^64 / `most`, which no delay can show.
    fn up_to(&mut self, most: u64) -> u64 {
        let product = u128::from(self.next()) * (u128::from(most) + 1);
        u64::try_from(product >> 64).expect("a product of 64 by 65 bits is at most `most` above 64")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(5);

    /// The greatest of many first, second, ... delays, each from its own seed.
    fn ceilings(tries: usize) -> Vec<Duration> {
        let mut greatest = vec![Duration::ZERO; tries];
        for seed in 0..2_000 {
            let mut backoff = Backoff::with_seed(FIRST, MAX, seed);
            for ceiling in &mut greatest {
                *ceiling = (*ceiling).max(backoff.next_delay());
            }
        }
        greatest
    }

    #[test]
    fn delays_fill_a_range_that_doubles_up_to_the_maximum() {
        let expected_ms = [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000];
        for (greatest, limit_ms) in ceilings(expected_ms.len()).into_iter().zip(expected_ms) {
            let limit = Duration::from_millis(limit_ms);
            assert!(greatest <= limit && greatest > limit * 9 / 10, "{greatest:?} of {limit:?}");
        }
    }

    #[test]
    fn success_starts_again_from_the_first_ceiling() {
        for seed in 0..200 {
            let mut backoff = Backoff::with_seed(FIRST, MAX, seed);
            (0..20).for_each(|_| _ = backoff.next_delay());
            backoff.reset();
            assert!(backoff.next_delay() <= FIRST, "seed {seed}");
        }
    }

    #[test]
    fn equal_seeds_give_equal_delays_and_other_seeds_others() {
        let delays = |seed| {
            let mut backoff = Backoff::with_seed(FIRST, MAX, seed);
            (0..8).map(|_| backoff.next_delay()).collect::<Vec<_>>()
        };
        assert_eq!(delays(7), delays(7));
        assert_ne!(delays(7), delays(8));
    }

    #[test]
    fn extreme_bounds_neither_overflow_nor_panic() {
        for (first, max) in [
            (Duration::ZERO, Duration::ZERO),
            (Duration::MAX, Duration::MAX),
            (Duration::MAX, Duration::ZERO),
        ] {
            let mut backoff = Backoff::new(first, max);
            (0..100).for_each(|_| _ = backoff.next_delay());
        }
    }
}
