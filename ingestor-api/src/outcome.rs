//! Outcome: what became of a batch whose parts go to several records.
//!
//! Each part holds a [`Pledge`]; when the last one is gone the batch's [`Receipt`] resolves. A pledge
//! that is dropped without a word counts as unknown, so no path, a panic included, can turn silence
//! into an acknowledgement.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use tokio::sync::oneshot;

/// What became of a batch, or of a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// In the log, whatever happens next.
    Durable,
    /// Not appended: the log's queue is full.
    Overloaded,
    /// Not appended: the log takes nothing now.
    Unavailable,
    /// Not appended: the process is ending.
    ShuttingDown,
    /// Appended or not, or only in part.
    Unknown,
}

impl Outcome {
    const fn flag(self) -> u8 {
        match self {
            Self::Durable => 1,
            Self::Overloaded => 2,
            Self::Unavailable => 4,
            Self::ShuttingDown => 8,
            Self::Unknown => 16,
        }
    }

    /// Judges the batch by the flags of its parts. Some parts durable and others not is unknown to
    /// the client, who must send the same again, just as one part of which nobody knows.
    const fn of_flags(flags: u8) -> Self {
        match flags {
            1 => Self::Durable,
            2 => Self::Overloaded,
            8 => Self::ShuttingDown,
            4 | 6 | 10 | 12 | 14 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

/// A part's promise to say what became of it.
#[derive(Debug)]
pub(crate) struct Pledge {
    shared: Arc<Shared>,
    outcome: Outcome,
}

#[derive(Debug)]
struct Shared {
    flags: AtomicU8,
    receipt: Option<oneshot::Sender<Outcome>>,
}

/// Resolves once every part is answered.
#[derive(Debug)]
pub(crate) struct Receipt(oneshot::Receiver<Outcome>);

/// Makes one receipt for `parts` pledges.
pub(crate) fn pledges(parts: usize) -> (impl Iterator<Item = Pledge>, Receipt) {
    let (sender, receiver) = oneshot::channel();
    let shared = Arc::new(Shared { flags: AtomicU8::new(0), receipt: Some(sender) });
    let pledges = std::iter::repeat_n(shared, parts)
        .map(|shared| Pledge { shared, outcome: Outcome::Unknown });
    (pledges, Receipt(receiver))
}

impl Pledge {
    /// Says what became of the part.
    pub(crate) fn settle(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Pledge {
    fn drop(&mut self) {
        self.shared.flags.fetch_or(self.outcome.flag(), Ordering::AcqRel);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(receipt) = self.receipt.take() {
            // A client that went away takes no answer; what is durable stays so.
            let _gone = receipt.send(Outcome::of_flags(*self.flags.get_mut()));
        }
    }
}

impl Receipt {
    /// Waits for the last part.
    pub(crate) async fn outcome(self) -> Outcome {
        self.0.await.unwrap_or(Outcome::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome::{Durable, Overloaded, ShuttingDown, Unavailable, Unknown};
    use super::*;

    fn answer(outcomes: &[Outcome]) -> Outcome {
        let (pledges, mut receipt) = pledges(outcomes.len());
        let pledges: Vec<_> = pledges.collect();
        for (pledge, outcome) in pledges.into_iter().zip(outcomes) {
            assert!(receipt.0.try_recv().is_err(), "answered before its last part");
            pledge.settle(*outcome);
        }
        receipt.0.try_recv().unwrap()
    }

    #[test]
    fn a_batch_is_durable_only_if_every_part_is() {
        for (outcomes, expected) in [
            (&[Durable][..], Durable),
            (&[Durable, Durable, Durable], Durable),
            (&[Overloaded, Overloaded], Overloaded),
            (&[ShuttingDown], ShuttingDown),
            (&[Overloaded, Unavailable], Unavailable),
            (&[Durable, Overloaded], Unknown),
            (&[Unavailable, Durable], Unknown),
            (&[Durable, Unknown], Unknown),
            (&[Unknown, Unavailable], Unknown),
        ] {
            assert_eq!(answer(outcomes), expected, "{outcomes:?}");
        }
    }

    #[test]
    fn a_part_that_vanishes_is_unknown() {
        let (pledges, mut receipt) = pledges(2);
        let mut pledges: Vec<_> = pledges.collect();
        pledges.remove(0).settle(Durable);
        drop(pledges);
        assert_eq!(receipt.0.try_recv().unwrap(), Unknown);
    }
}
