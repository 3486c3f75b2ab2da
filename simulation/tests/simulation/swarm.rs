//! What a seed makes likely. Each run leaves out some of the faults and has others often: a run with
//! a little of everything would meet few of them in a row.

use crate::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    Send,
    Resend,
    Step,
    StartConsumer,
    KillConsumer,
    Reassign,
    Pass,
    PassFar,
    StartIngest,
    KillIngest,
    Release,
    Land,
    JumpLogClock,
    Rebase,
    Grow,
    Seal,
    OpenEpoch,
    Swap,
    Limit,
    Declare,
    Junk,
    Policy,
    Burst,
}

use Action::*;

/// Actions and how likely each is where it happens at all.
const WEIGHTS: &[(Action, u64)] = &[
    (Send, 24),
    (Resend, 10),
    (Step, 60),
    (StartConsumer, 6),
    (KillConsumer, 4),
    (Reassign, 5),
    (Pass, 16),
    (PassFar, 2),
    (StartIngest, 2),
    (KillIngest, 2),
    (Release, 4),
    (Land, 4),
    (JumpLogClock, 3),
    (Rebase, 3),
    (Grow, 1),
    (Seal, 4),
    (OpenEpoch, 3),
    (Swap, 3),
    (Limit, 2),
    (Declare, 2),
    (Junk, 2),
    (Policy, 2),
    (Burst, 2),
];

/// Actions without which nothing would happen.
const ALWAYS: &[Action] = &[Send, Step, StartConsumer, Pass, StartIngest, Release, Land];

#[derive(Clone)]
pub(crate) struct Swarm {
    weights: Vec<(Action, u64)>,
    total: u64,
    pub(crate) steps: u64,
    /// One flush in so many does not go well; the same of appends and of reads.
    pub(crate) flush_faults_one_in: u64,
    pub(crate) append_faults_one_in: u64,
    pub(crate) read_faults_one_in: u64,
    pub(crate) stale_reads_one_in: u64,
    pub(crate) lost_acks_one_in: u64,
    pub(crate) consumers_max: u64,
    pub(crate) publishes: bool,
    pub(crate) has_cold_ids: bool,
    pub(crate) has_little_memory: bool,
    pub(crate) has_wrong_clocks: bool,
    /// Whether all that was ever sent comes once more at the end.
    pub(crate) sends_all_again: bool,
}

impl Swarm {
    pub(crate) fn new(random: &mut Random) -> Self {
        let has_wrong_clocks = random.one_in(2);
        let weights = WEIGHTS.iter().filter_map(|(action, weight)| {
            let is_there = match action {
                // Hundreds of batches take their time.
                Burst => random.one_in(24),
                // Operators set clocks right before they take times back: a consumer that counts a
                // record at its wrong time meanwhile does not hear of it (docs/reliability.md).
                Rebase if has_wrong_clocks => false,
                action => ALWAYS.contains(action) || !random.one_in(3),
            };
            is_there.then(|| (*action, random.between(1, *weight * 2)))
        });
        let weights: Vec<_> = weights.collect();
        let total = weights.iter().map(|(_, weight)| weight).sum();
        let mut one_in = |likely: &[u64]| random.pick(likely);
        Self {
            weights,
            total,
            flush_faults_one_in: one_in(&[2, 4, 12, u64::MAX]),
            append_faults_one_in: one_in(&[3, 8, u64::MAX]),
            read_faults_one_in: one_in(&[0, 0, 5, 20]),
            stale_reads_one_in: one_in(&[0, 0, 2, 5]),
            lost_acks_one_in: one_in(&[2, 6, u64::MAX]),
            steps: one_in(&[60, 120, 120, 240]),
            consumers_max: random.between(1, 3),
            publishes: random.one_in(2),
            has_cold_ids: random.one_in(8),
            has_little_memory: random.one_in(6),
            sends_all_again: random.one_in(2),
            has_wrong_clocks,
        }
    }

    pub(crate) fn draw(&self, random: &mut Random) -> Action {
        let mut at = random.below(self.total);
        for (action, weight) in &self.weights {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *action,
            }
        }
        unreachable!("the weights add up to the total")
    }

    /// The same without anything that goes wrong.
    pub(crate) fn without_faults(&self) -> Self {
        Self {
            flush_faults_one_in: u64::MAX,
            append_faults_one_in: u64::MAX,
            read_faults_one_in: 0,
            stale_reads_one_in: 0,
            lost_acks_one_in: u64::MAX,
            has_wrong_clocks: false,
            ..self.clone()
        }
    }
}
