//! Asks the log itself, one question at a time: each folds up to a whole segment again, so what clients
//! ask for together must not decide how many threads and buffers that takes, nor for how long others wait.

use std::{sync::Arc, time::Duration};

use domain::refold::{Refold, RefoldError, Refolding};
use edge::problem::{Problem, reasons};
use tokio::sync::Semaphore;

/// Folds that run at once.
const AT_ONCE: usize = 1;
/// Questions that may wait for one. Each takes seconds at most, so a client waits a minute or so.
const WAITING_MAX: usize = 16;
/// When to ask again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Folds the log again.
pub(crate) struct LogReader {
    refold: Arc<dyn Refold>,
    free: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl LogReader {
    pub(crate) fn new(refold: Arc<dyn Refold>) -> Self {
        let places = Arc::new(Semaphore::new(AT_ONCE + WAITING_MAX));
        Self { refold, free: Arc::new(Semaphore::new(AT_ONCE)), places }
    }

    /// Asks, after those that asked before.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED when too many wait; FAILED_PRECONDITION when the log does not answer;
    /// INTERNAL when the fold did not end.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl for<'a> FnOnce(&'a dyn Refold) -> Refolding<'a, T> + Send + 'static,
    ) -> Result<T, Problem> {
        let ended =
            |_| Problem::internal("a fold of the log did not end; the server's log says why");
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let message = format!("{WAITING_MAX} questions to the log wait for an answer already");
            Problem::exhausted(reasons::COMPUTE_EXHAUSTED, message).with_retry_after(RETRY_AFTER)
        })?;
        let permit = Arc::clone(&self.free).acquire_owned().await;
        let permit = permit.expect("nobody closes it");
        let refold = Arc::clone(&self.refold);
        // A task of its own, so that a client that goes away cannot have a second fold started beside
        // the one that still runs.
        let folding = tokio::spawn(async move {
            let answer = question(&*refold).await;
            drop((permit, place));
            answer
        });
        let unreadable = |error: RefoldError| {
            Problem::failed_precondition(reasons::LOG_NOT_READABLE, error.to_string())
        };
        folding.await.map_err(ended)?.map_err(unreadable)
    }
}

#[cfg(test)]
mod tests {
    use domain::{
        DeadLetter,
        refold::{OutcomesPiece, Question, RecordPlace, Refolded, RequestPlace},
    };
    use tokio::sync::Notify;

    use super::*;

    /// A log that answers once it is told to.
    struct Slow(Arc<Notify>);

    impl Refold for Slow {
        fn refold(&self, _: Question) -> Refolding<'_, Refolded> {
            Box::pin(async {
                self.0.notified().await;
                Ok(Refolded::default())
            })
        }

        fn dead_letters(&self, _: RecordPlace) -> Refolding<'_, Vec<DeadLetter>> {
            panic!("nobody asks")
        }

        fn outcomes(&self, _: RequestPlace) -> Refolding<'_, OutcomesPiece> {
            panic!("nobody asks")
        }
    }

    #[tokio::test]
    async fn questions_beyond_those_that_may_wait_are_refused_until_one_is_answered() {
        let go_on = Arc::new(Notify::new());
        let reader = Arc::new(LogReader::new(Arc::new(Slow(Arc::clone(&go_on)))));
        let ask = |reader: Arc<LogReader>| async move {
            let question = Question {
                tenant: domain::Tenant::new("a").unwrap(),
                window: domain::Window {
                    start: domain::Timestamp::MIN,
                    end: domain::Timestamp::MAX,
                },
                stretches: Vec::new(),
                pulses_of: Vec::new(),
                pulses_max: 0,
            };
            reader.ask(move |log| log.refold(question)).await
        };
        let asked = AT_ONCE + WAITING_MAX;
        let asking: Vec<_> = (0..asked).map(|_| tokio::spawn(ask(Arc::clone(&reader)))).collect();
        while reader.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = ask(Arc::clone(&reader)).await.unwrap_err();
        assert_eq!(refused.reason, reasons::COMPUTE_EXHAUSTED);
        for asking in asking {
            go_on.notify_one();
            asking.await.unwrap().unwrap();
        }
        go_on.notify_one();
        ask(reader).await.unwrap();
    }
}
