//! Asks the log itself, one question at a time: each folds up to a whole segment again, so what clients
//! ask for together must not decide how many threads and buffers that takes.

use std::sync::Arc;

use domain::refold::{Refold, RefoldError, Refolding};
use service::problem::{Problem, reasons};
use tokio::sync::Semaphore;

/// Folds that run at once.
const AT_ONCE: usize = 1;

/// Folds the log again.
pub(crate) struct LogReader {
    refold: Arc<dyn Refold>,
    free: Arc<Semaphore>,
}

impl LogReader {
    pub(crate) fn new(refold: Arc<dyn Refold>) -> Self {
        Self { refold, free: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Asks, after those that asked before.
    ///
    /// # Errors
    /// FAILED_PRECONDITION when the log does not answer; INTERNAL when the fold did not end.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl for<'a> FnOnce(&'a dyn Refold) -> Refolding<'a, T> + Send + 'static,
    ) -> Result<T, Problem> {
        let ended =
            |_| Problem::internal("a fold of the log did not end; the server's log says why");
        let permit = Arc::clone(&self.free).acquire_owned().await;
        let permit = permit.expect("nobody closes it");
        let refold = Arc::clone(&self.refold);
        // A task of its own, so that a client that goes away cannot have a second fold started beside
        // the one that still runs.
        let folding = tokio::spawn(async move {
            let answer = question(&*refold).await;
            drop(permit);
            answer
        });
        let unreadable = |error: RefoldError| {
            Problem::failed_precondition(reasons::LOG_NOT_READABLE, error.to_string())
        };
        folding.await.map_err(ended)?.map_err(unreadable)
    }
}
