//! Reads dead letters out of the log, one question at a time: each folds up to a whole segment again, so
//! what clients ask for together must not decide how many threads and buffers that takes.

use std::sync::Arc;

use domain::{
    DeadLetter,
    refold::{RecordPlace, Refold},
};
use service::problem::{Problem, reasons};
use tokio::sync::Semaphore;

/// Folds that run at once.
const AT_ONCE: usize = 1;

/// Tells the dead letters of records.
pub(crate) struct DeadLetterReader {
    refold: Arc<dyn Refold>,
    free: Arc<Semaphore>,
}

impl DeadLetterReader {
    pub(crate) fn new(refold: Arc<dyn Refold>) -> Self {
        Self { refold, free: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The dead letters of a record, ascending by index. Waits for those that asked before.
    ///
    /// # Errors
    /// FAILED_PRECONDITION when the log does not give them; INTERNAL when the fold did not end.
    pub(crate) async fn read(&self, place: RecordPlace) -> Result<Vec<DeadLetter>, Problem> {
        let ended =
            |_| Problem::internal("a fold of the log did not end; the server's log says why");
        let permit = Arc::clone(&self.free).acquire_owned().await;
        let permit = permit.expect("nobody closes it");
        let refold = Arc::clone(&self.refold);
        // A task of its own, so that a client that goes away cannot have a second fold started beside
        // the one that still runs.
        let folding = tokio::spawn(async move {
            let letters = refold.dead_letters(place).await;
            drop(permit);
            letters
        });
        let unreadable = |error: domain::refold::RefoldError| {
            Problem::failed_precondition(reasons::LOG_NOT_READABLE, error.to_string())
        };
        folding.await.map_err(ended)?.map_err(unreadable)
    }
}
