//! Delivery: what becomes of the records of one append, gathered into one answer.
//!
//! The client reports on each record alone, on its own thread. An append is answered when its last
//! record is reported on, by one channel for all of them. Acknowledged is what the broker has given
//! an offset; anything else is `Unknown` unless the broker's refusal proves that it kept nothing.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use domain::{Offset, log::AppendError};
use rdkafka::{
    Message,
    error::{KafkaError, RDKafkaErrorCode},
    message::DeliveryResult,
};
use tokio::sync::oneshot;

/// What an append is answered.
pub(super) type Answer = Result<Vec<Offset>, AppendError>;

/// Bytes counted for a record beyond its body: the client's own bookkeeping, so that a flood of
/// empty records is bounded too.
const RECORD_BOOKKEEPING_BYTES: usize = 512;

/// Bytes of records that are on their way.
#[derive(Debug)]
pub(super) struct Budget {
    bytes_max: usize,
    in_flight: AtomicUsize,
}

impl Budget {
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, in_flight: AtomicUsize::new(0) })
    }

    /// Takes room for messages of these lengths, or none of it. What is larger than the budget
    /// passes alone: else it could never be appended.
    pub(super) fn take(self: &Arc<Self>, lengths: &[usize]) -> Option<Vec<Room>> {
        let cost = |length: &usize| length.saturating_add(RECORD_BOOKKEEPING_BYTES);
        let bytes = lengths.iter().map(cost).fold(0, usize::saturating_add);
        let fits = |taken: usize| {
            let total = taken.saturating_add(bytes);
            (taken == 0 || total <= self.bytes_max).then_some(total)
        };
        self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok()?;
        let room = |length| Room { budget: Arc::clone(self), bytes: cost(length) };
        Some(lengths.iter().map(room).collect())
    }
}

/// Room for one record, given back when dropped.
#[derive(Debug)]
pub(super) struct Room {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.in_flight.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// An append under way.
#[derive(Debug)]
pub(super) struct Append {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// By the record's place in the append; `None` until it is acknowledged.
    offsets: Vec<Option<Offset>>,
    /// Records not reported on.
    left: usize,
    /// The worst that was reported.
    failure: Option<Failure>,
    answer: Option<oneshot::Sender<Answer>>,
}

/// Why a record was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Failure {
    /// It is not in the log.
    Refused(String),
    /// It may be.
    Unknown(String),
}

impl Append {
    /// One append of so many records, at least one, and where its answer comes.
    pub(super) fn new(records: usize) -> (Arc<Self>, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        let state = State {
            offsets: vec![None; records],
            left: records,
            failure: None,
            answer: Some(answer),
        };
        (Arc::new(Self { state: Mutex::new(state) }), answered)
    }

    /// The record at `place`, to be handed to the client.
    pub(super) fn record(self: &Arc<Self>, place: usize, room: Room) -> Box<Delivery> {
        Box::new(Delivery { append: Arc::clone(self), place, _room: room, reported: false })
    }

    fn report(&self, place: usize, outcome: Result<Offset, Failure>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(offset) => state.offsets[place] = Some(offset),
            Err(failure) => state.meet(failure),
        }
        state.left -= 1;
        if state.left == 0
            && let Some(answer) = state.answer.take()
        {
            // The append's future may have been dropped; then nobody asks.
            drop(answer.send(state.answer()));
        }
    }
}

impl State {
    fn meet(&mut self, failure: Failure) {
        match (&self.failure, &failure) {
            (Some(Failure::Unknown(_)), _) | (Some(_), Failure::Refused(_)) => {}
            _ => self.failure = Some(failure),
        }
    }

    fn answer(&self) -> Answer {
        let offsets: Vec<Offset> = self.offsets.iter().flatten().copied().collect();
        match &self.failure {
            None => Ok(offsets),
            // Of several records some were kept: the append as a whole may be in the log or not.
            Some(Failure::Refused(why)) if offsets.is_empty() => {
                Err(AppendError::Unavailable(why.clone()))
            }
            Some(Failure::Refused(why) | Failure::Unknown(why)) => {
                Err(AppendError::Unknown(why.clone()))
            }
        }
    }
}

/// One record of an append, on its way. Dropped without a report, its outcome is unknown.
#[derive(Debug)]
pub(super) struct Delivery {
    append: Arc<Append>,
    place: usize,
    reported: bool,
    _room: Room,
}

impl Delivery {
    /// Takes the client's report.
    pub(super) fn report(mut self, result: &DeliveryResult<'_>) {
        self.reported = true;
        let outcome = match result {
            Ok(message) => offset(message.offset()),
            Err((error, _)) => Err(sort(error)),
        };
        self.append.report(self.place, outcome);
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.reported {
            let unknown =
                Failure::Unknown("the client ended before the broker answered".to_owned());
            self.append.report(self.place, Err(unknown));
        }
    }
}

fn offset(given: i64) -> Result<Offset, Failure> {
    u64::try_from(given).map(Offset).map_err(|_| {
        // So a broker answers a repeat whose first copy it took so long ago that it has forgotten
        // where: the record is in the log, and its place is not known.
        Failure::Unknown("the broker has the record and does not say where".to_owned())
    })
}

/// Sorts a failed delivery. Only what a broker refuses at every attempt for the record's own sake
/// proves that no earlier attempt, whose answer was lost, put it into the log.
fn sort(error: &KafkaError) -> Failure {
    match error.rdkafka_error_code() {
        Some(
            code @ (RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidMessageSize
            | RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::InvalidTimestamp),
        ) => Failure::Refused(format!("the broker refuses the record: {code}")),
        Some(code) => Failure::Unknown(code.to_string()),
        None => Failure::Unknown(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Failure {
        Failure::Refused("too large".to_owned())
    }

    fn unknown() -> Failure {
        Failure::Unknown("timed out".to_owned())
    }

    fn answer(reports: Vec<Result<Offset, Failure>>) -> Answer {
        let (append, mut answered) = Append::new(reports.len());
        // Reports may come in any order; the last comes first here.
        for (place, report) in reports.into_iter().enumerate().rev() {
            assert!(answered.try_recv().is_err(), "answered before the last report");
            append.report(place, report);
        }
        answered.try_recv().unwrap()
    }

    #[test]
    fn an_append_is_answered_with_its_last_record_and_in_order() {
        let offsets = answer(vec![Ok(Offset(7)), Ok(Offset(8)), Ok(Offset(11))]).unwrap();
        assert_eq!(offsets, [Offset(7), Offset(8), Offset(11)]);
    }

    #[test]
    fn only_an_append_of_which_nothing_can_be_in_the_log_is_unavailable() {
        for (reports, is_unavailable) in [
            (vec![Err(refused())], true),
            (vec![Err(refused()), Err(refused())], true),
            (vec![Ok(Offset(1)), Err(refused())], false),
            (vec![Err(refused()), Err(unknown())], false),
            (vec![Err(unknown()), Err(refused())], false),
            (vec![Err(unknown()), Ok(Offset(1))], false),
        ] {
            match answer(reports.clone()) {
                Err(AppendError::Unavailable(_)) => assert!(is_unavailable, "{reports:?}"),
                Err(AppendError::Unknown(_)) => assert!(!is_unavailable, "{reports:?}"),
                other => panic!("{reports:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_record_that_is_dropped_makes_the_outcome_unknown_and_gives_its_room_back() {
        let budget = Budget::new(10_000);
        let mut room = budget.take(&[9_000]).unwrap();
        assert!(budget.take(&[1_000]).is_none(), "full");
        let (append, mut answered) = Append::new(1);
        drop(append.record(0, room.remove(0)));
        assert!(matches!(answered.try_recv().unwrap(), Err(AppendError::Unknown(_))));
        assert!(budget.take(&[1_000]).is_some(), "room was given back");
    }

    #[test]
    fn what_is_larger_than_the_budget_passes_alone() {
        let budget = Budget::new(1_000);
        let alone = budget.take(&[5_000, 5_000]).unwrap();
        assert!(budget.take(&[0]).is_none());
        drop(alone);
        assert!(budget.take(&[0]).is_some());
    }

    #[test]
    fn a_place_that_the_broker_does_not_tell_is_no_acknowledgement() {
        assert_eq!(offset(12), Ok(Offset(12)));
        assert!(matches!(offset(-1), Err(Failure::Unknown(_))));
    }

    #[test]
    fn a_timeout_is_unknown_and_a_record_that_is_too_large_is_refused() {
        let failed = |code| sort(&KafkaError::MessageProduction(code));
        assert!(matches!(failed(RDKafkaErrorCode::MessageTimedOut), Failure::Unknown(_)));
        assert!(matches!(failed(RDKafkaErrorCode::PurgeQueue), Failure::Unknown(_)));
        assert!(matches!(failed(RDKafkaErrorCode::MessageSizeTooLarge), Failure::Refused(_)));
    }
}
