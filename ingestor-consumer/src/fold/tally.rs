//! Tally: counts what becomes of the pulses that one request brought. It decides nothing.

use std::fmt::Display;

use domain::{
    DeadLetterReason, Timestamp,
    refold::{Outcomes, SetAside},
};
use proto::v1::SourceBatch;

use super::Fold;

/// Outcomes of one request's pulses.
#[derive(Debug)]
pub(super) struct Tally {
    request_id: String,
    /// Pulses that it brought so far, whatever became of them.
    brought: u64,
    /// All but `counted`, which is what the others leave of `brought`.
    outcomes: Outcomes,
}

impl Tally {
    pub(super) fn brought(&mut self, source: &SourceBatch) {
        if self.is_of(source) {
            self.brought += u64::from(source.sent) - source.refused.len() as u64;
        }
    }

    pub(super) fn duplicate(&mut self, source: &SourceBatch) {
        self.outcomes.duplicate += u64::from(self.is_of(source));
    }

    pub(super) fn set_aside(
        &mut self,
        source: &SourceBatch,
        reason: DeadLetterReason,
        time: Option<Timestamp>,
        cause: &dyn Display,
    ) {
        if !self.is_of(source) {
            return;
        }
        let first = || SetAside { count: 0, times: None, message: cause.to_string() };
        let set_aside = self.outcomes.set_aside.entry(reason).or_insert_with(first);
        set_aside.count += 1;
        if let Some(time) = time {
            let (least, greatest) = set_aside.times.unwrap_or((time, time));
            set_aside.times = Some((least.min(time), greatest.max(time)));
        }
    }

    fn is_of(&self, source: &SourceBatch) -> bool {
        source.correlation_id == self.request_id
    }
}

impl Fold {
    /// From here on counts what becomes of the pulses that a request brings.
    pub fn tally(&mut self, request_id: String) {
        self.tally = Some(Tally { request_id, brought: 0, outcomes: Outcomes::default() });
    }

    /// Ends the tally and gives it.
    pub fn take_tally(&mut self) -> Outcomes {
        let Some(Tally { brought, mut outcomes, .. }) = self.tally.take() else {
            return Outcomes::default();
        };
        let set_aside: u64 = outcomes.set_aside.values().map(|set_aside| set_aside.count).sum();
        outcomes.counted = brought - outcomes.duplicate - set_aside;
        outcomes
    }
}
