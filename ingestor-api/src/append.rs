//! Append: acks only after durable. This file holds the rule and nothing else.
//!
//! A pledge is settled as [`Outcome::Durable`] in one place, after the log has answered the append
//! with the record's offset. Whatever ends this future earlier drops the pledges, which makes the
//! outcome unknown and never durable.

use domain::{Partition, PulseLog, log::AppendError};
use runtime::{fault, health::Trouble};
use tracing::{debug, error, warn};

use crate::{
    metrics::Metrics,
    outcome::{Outcome, Pledge},
};

/// Appends one record and then, and only then, answers those who wait for it.
pub(crate) async fn append_then_settle<L: PulseLog>(
    log: &L,
    metrics: &Metrics,
    trouble: &Trouble,
    partition: Partition,
    record: Vec<u8>,
    pledges: Vec<Pledge>,
) {
    fault::point("ingest.before_append");
    let started = tokio::time::Instant::now();
    let answer = log.append(partition, vec![record]).await;
    metrics.appended(started.elapsed());
    fault::point("ingest.before_ack");
    let outcome = match answer {
        Ok(offsets) => {
            debug!(%partition, ?offsets, "appended");
            Outcome::Durable
        }
        Err(AppendError::Overloaded { .. }) => Outcome::Overloaded,
        Err(AppendError::Unavailable(cause)) => {
            if trouble.met(&cause) {
                warn!(%partition, cause, "the log takes no records; clients are told to try again");
            }
            Outcome::Unavailable
        }
        Err(AppendError::Unknown(cause)) => {
            if trouble.met(&cause) {
                warn!(%partition, cause, "outcome of an append is unknown; clients are told so");
            }
            Outcome::Unknown
        }
        Err(AppendError::Replaced(cause)) => {
            if trouble.lasting(&cause) {
                error!(%partition, %cause, "the log is another one; nothing is acknowledged any more");
            }
            Outcome::Unknown
        }
    };
    pledges.into_iter().for_each(|pledge| pledge.settle(outcome));
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::Arc,
        task::{Context, Poll, Waker},
    };

    use domain::{LogId, Timestamp, generation::Generation};
    use storage::memory::{AppendFault, MemoryLog};

    use super::*;
    use crate::outcome::pledges;

    const PARTITION: Partition = Partition(0);

    fn log() -> MemoryLog {
        let generation = Generation::new(LogId([0; 16]), 1, 0);
        MemoryLog::new(generation, Arc::new(|| Timestamp::EPOCH))
    }

    #[tokio::test]
    async fn append_acks_only_after_durable() {
        let (log, metrics, trouble) = (log(), Metrics::new(), Trouble::default());
        let held = log.hold_acks();
        let (pledges, receipt) = pledges(1);
        let append = append_then_settle(
            &log,
            &metrics,
            &trouble,
            PARTITION,
            b"record".to_vec(),
            pledges.collect(),
        );
        let (mut append, mut answer) = (pin!(append), pin!(receipt.outcome()));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!(append.as_mut().poll(&mut context).is_pending());
            assert!(answer.as_mut().poll(&mut context).is_pending(), "acked before durable");
        }
        drop(held);
        append.await;
        assert_eq!(answer.poll(&mut context), Poll::Ready(Outcome::Durable));
    }

    #[tokio::test]
    async fn an_append_that_is_dropped_or_fails_is_never_durable() {
        let (log, metrics, trouble) = (log(), Metrics::new(), Trouble::default());
        let held = log.hold_acks();
        let (dropped, receipt) = pledges(1);
        let mut append = Box::pin(append_then_settle(
            &log,
            &metrics,
            &trouble,
            PARTITION,
            vec![1],
            dropped.collect(),
        ));
        let mut context = Context::from_waker(Waker::noop());
        assert!(append.as_mut().poll(&mut context).is_pending());
        drop(append);
        assert_eq!(receipt.outcome().await, Outcome::Unknown);
        drop(held);
        for (fault, outcome) in [
            (AppendFault::Overloaded, Outcome::Overloaded),
            (AppendFault::Unavailable, Outcome::Unavailable),
            (AppendFault::UnknownButAppended, Outcome::Unknown),
            (AppendFault::UnknownAndLost, Outcome::Unknown),
            (AppendFault::Replaced, Outcome::Unknown),
        ] {
            log.fail_next_append(fault);
            let (pledges, receipt) = pledges(1);
            append_then_settle(&log, &metrics, &trouble, PARTITION, vec![1], pledges.collect())
                .await;
            assert_eq!(receipt.outcome().await, outcome, "{fault:?}");
        }
    }
}
