//! What tests of this crate share.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use domain::{Clock, Timestamp};

/// A clock that a test sets, in seconds since 1970.
#[derive(Clone)]
pub(crate) struct HandClock(pub(crate) Arc<AtomicI64>);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_parts(self.0.load(Ordering::Relaxed), 0).unwrap()
    }
}
