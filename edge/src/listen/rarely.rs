//! Rarely: a cause that comes a thousand times a second is logged once a minute.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// How long one cause keeps still after it was said.
const QUIET: Duration = Duration::from_secs(60);

/// Remembers when each cause was last said. Causes are few: error numbers, or variants of an enum.
#[derive(Debug)]
pub(super) struct Rarely<C> {
    causes: HashMap<C, Said>,
}

#[derive(Debug)]
struct Said {
    at: Instant,
    unsaid: u64,
}

impl<C: Eq + Hash> Rarely<C> {
    pub(super) fn new() -> Self {
        Self { causes: HashMap::new() }
    }

    /// How often it happened since it was last said, this time included, if it is to be said now.
    pub(super) fn due(&mut self, cause: C, now: Instant) -> Option<u64> {
        let Some(said) = self.causes.get_mut(&cause) else {
            self.causes.insert(cause, Said { at: now, unsaid: 0 });
            return Some(1);
        };
        said.unsaid += 1;
        if now.duration_since(said.at) < QUIET {
            return None;
        }
        said.at = now;
        Some(std::mem::take(&mut said.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_said_at_once_and_then_once_a_minute_with_its_count() {
        let (start, mut rarely) = (Instant::now(), Rarely::new());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(rarely.due("a", at(0)), Some(1));
        assert_eq!(rarely.due("a", at(1)), None);
        assert_eq!(rarely.due("b", at(2)), Some(1));
        assert_eq!(rarely.due("a", at(59)), None);
        assert_eq!(rarely.due("a", at(60)), Some(3));
        assert_eq!(rarely.due("a", at(61)), None);
    }
}
