//! Freshness: up to when an answer is whole, and up to when its windows are final.
//!
//! Both inform and decide nothing. They rest on what each partition left behind: the effective log
//! time of the last record in the store, and when the log's end was last seen to be folded, by this
//! process or by the consumer. Neither is ever said to be later than now.

use std::time::Duration;

use domain::{Timestamp, generation::Generation, segment::Progress};

/// How fresh and how final an answer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// All that reached the log before this moment is in the answer. `None` while a partition
    /// holds records of which none is folded yet, or cannot be asked.
    pub as_of: Option<Timestamp>,
    /// Windows that end at or before this moment take no more pulses but backfills.
    pub complete_until: Option<Timestamp>,
}

/// Where one partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// All that reached it before this moment is in the store.
    Reached(Timestamp),
    /// Nothing has reached it yet, so it holds nothing back.
    Empty,
    /// It holds records and none is folded, or it cannot be asked.
    Unknown,
}

impl Freshness {
    /// The least over all partitions. They must have been asked before the rows were read, or rows
    /// that came between would be promised and missing.
    #[must_use]
    pub fn of(standings: &[Standing], generation: &Generation) -> Self {
        let mut as_of: Option<Timestamp> = None;
        for standing in standings {
            match standing {
                Standing::Reached(reached) => {
                    as_of = Some(as_of.map_or(*reached, |least| least.min(*reached)));
                }
                Standing::Empty => {}
                Standing::Unknown => return Self::default(),
            }
        }
        let complete_until =
            as_of.map(|as_of| generation.window.start_of(as_of.minus(generation.lateness)));
        Self { as_of, complete_until }
    }
}

/// How far the consumer's clock may be ahead of this process's. A time that it noted further ahead
/// is wrong by either of them and says nothing.
const CLOCK_AHEAD_MAX: Duration = Duration::from_secs(60);

/// Up to when a partition's records are in the store: the later of the log time of the last of them
/// and the moment at which there were no others, since what was caught up then stays folded while
/// new records wait. At most `now`. `None` while neither is known.
#[must_use]
pub fn reached(progress: &Progress, now: Timestamp) -> Option<Timestamp> {
    let folded = (progress.eff_ts > Timestamp::MIN).then_some(progress.eff_ts);
    let caught_up_at = progress.caught_up_at.filter(|at| *at <= now.plus(CLOCK_AHEAD_MAX));
    folded.max(caught_up_at).map(|reached| reached.min(now))
}

#[cfg(test)]
mod tests {
    use domain::{Conservation, Epoch, LogId, Offset, Partition};

    use super::*;

    const LOG: LogId = LogId([1; 16]);

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_parts(hour * 3_600 + 59, 0).unwrap()
    }

    #[test]
    fn what_was_caught_up_stays_folded() {
        let mut progress = Progress {
            log_id: LOG,
            partition: Partition(0),
            epoch: Epoch(0),
            folded_to: Offset(1),
            eff_ts: Timestamp::MIN,
            counts: Conservation::default(),
            anchor: None,
            caught_up_at: None,
        };
        for (eff_ts, caught_up_at, expected) in [
            (Timestamp::MIN, None, None),
            (Timestamp::MIN, Some(at(9)), Some(at(9))),
            (at(5), None, Some(at(5))),
            (at(5), Some(at(9)), Some(at(9))),
            (at(9), Some(at(5)), Some(at(9))),
        ] {
            (progress.eff_ts, progress.caught_up_at) = (eff_ts, caught_up_at);
            assert_eq!(reached(&progress, at(100)), expected);
        }
        // Nothing is later than now, and what a wrong clock noted is not believed.
        let minute_ahead = at(9).plus(CLOCK_AHEAD_MAX);
        let past_it = minute_ahead.plus(Duration::from_micros(1));
        for (eff_ts, caught_up_at, expected) in [
            (at(5), minute_ahead, at(9)),
            (at(5), past_it, at(5)),
            (at(57), at(57), at(9)),
            (at(57), at(8), at(9)),
        ] {
            (progress.eff_ts, progress.caught_up_at) = (eff_ts, Some(caught_up_at));
            assert_eq!(reached(&progress, at(9)), Some(expected));
        }
    }

    #[test]
    fn the_partition_furthest_behind_decides() {
        use Standing::{Empty, Reached, Unknown};
        let generation = Generation::new(LOG, 3, 0);
        let cases: [(&[Standing], Option<Timestamp>); 6] = [
            (&[], None),
            (&[Empty], None),
            (&[Unknown], None),
            (&[Reached(at(200)), Empty], Some(at(200))),
            (&[Reached(at(200)), Reached(at(100)), Empty], Some(at(100))),
            (&[Reached(at(100)), Reached(at(200)), Unknown], None),
        ];
        for (standings, as_of) in cases {
            assert_eq!(Freshness::of(standings, &generation).as_of, as_of, "{standings:?}");
        }
    }

    #[test]
    fn windows_are_complete_a_lateness_behind() {
        let generation = Generation::new(LOG, 1, 0);
        let freshness = Freshness::of(&[Standing::Reached(at(100))], &generation);
        assert_eq!(freshness.complete_until, Timestamp::from_parts(76 * 3_600, 0));
    }
}
