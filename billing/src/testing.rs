//! What tests of this crate share.

use std::sync::Arc;

use domain::{
    DeadLetter,
    refold::{
        OutcomesPiece, Question, RecordPlace, Refold, RefoldError, Refolded, Refolding,
        RequestPlace,
    },
};

pub(crate) mod billed;
pub(crate) mod town;
mod histories;
mod refunds;
pub(crate) mod story;

/// A process that reads no log.
struct NoLog;

impl Refold for NoLog {
    fn refold(&self, _: Question) -> Refolding<'_, Refolded> {
        Box::pin(async { Err(RefoldError("there is none".to_owned())) })
    }

    fn outcomes(&self, _: RequestPlace) -> Refolding<'_, OutcomesPiece> {
        Box::pin(async { Err(RefoldError("there is none".to_owned())) })
    }

    fn dead_letters(&self, _: RecordPlace) -> Refolding<'_, Vec<DeadLetter>> {
        Box::pin(async { Err(RefoldError("there is none".to_owned())) })
    }
}

pub(crate) fn no_log() -> Arc<dyn Refold> {
    Arc::new(NoLog)
}

/// A call as it comes through the gate of a process without access control.
pub(crate) fn local<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.extensions_mut().insert(edge::access::Principal::local());
    request.extensions_mut().insert(edge::access::Change::default());
    request
}

thread_local! {
    static KEYS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Counts that the key of a line was looked at, on this thread.
pub(crate) fn count_a_key() {
    KEYS.set(KEYS.get() + 1);
}

/// How many were since the last call.
pub(crate) fn keys_counted() -> u64 {
    KEYS.replace(0)
}
