//! What tests of this crate share.

use std::sync::Arc;

use domain::refold::{Question, Refold, RefoldError, RefoldFuture};

/// A process that reads no log.
struct NoLog;

impl Refold for NoLog {
    fn refold(&self, _: Question) -> RefoldFuture<'_> {
        Box::pin(async { Err(RefoldError("there is none".to_owned())) })
    }
}

pub(crate) fn no_log() -> Arc<dyn Refold> {
    Arc::new(NoLog)
}
