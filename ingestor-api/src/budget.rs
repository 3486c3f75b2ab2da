//! Budget: room that is taken before work starts and given back by dropping what was taken.

use std::sync::Arc;

use metrics::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of units, shared by all who take from it. Fair: who waits is served in order.
#[derive(Clone)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    taken: Gauge,
}

/// Taken units. They go back when it is dropped.
pub(crate) struct Held {
    permit: OwnedSemaphorePermit,
    taken: Gauge,
}

impl Budget {
    /// A budget of so many units; `taken` shows how many of them are out.
    pub(crate) fn new(units: usize, taken: Gauge) -> Self {
        Self { units: Arc::new(Semaphore::new(units)), taken }
    }

    /// Takes units, or nothing when there are too few.
    pub(crate) fn try_take(&self, units: usize) -> Option<Held> {
        let count = u32::try_from(units).ok()?;
        let permit = Arc::clone(&self.units).try_acquire_many_owned(count).ok()?;
        Some(self.held(permit))
    }

    /// Takes units, waiting for them. Waits for ever for more than there are in all.
    pub(crate) async fn take(&self, units: u32) -> Held {
        let permit = Arc::clone(&self.units).acquire_many_owned(units).await;
        self.held(permit.expect("the semaphore is never closed"))
    }

    fn held(&self, permit: OwnedSemaphorePermit) -> Held {
        self.taken.increment(permit.num_permits() as f64);
        Held { permit, taken: self.taken.clone() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.taken.decrement(self.permit.num_permits() as f64);
    }
}
