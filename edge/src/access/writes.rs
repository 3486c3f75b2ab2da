//! Writes: calls that change something, each in the audit trail before and after its handler.
//!
//! A write runs on a task of its own, from its first entry to its last: a client that goes away ends
//! neither the handler nor its record. A write whose first entry the store does not take within a few
//! seconds is refused before anything is changed, and one whose client has gone away by then too. When the last entry is not taken, the client still gets its answer, and
//! the entry is tried again for a while; if that fails too, the trail says that the end is not known.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::store::StoreError;
use metrics::counter;
use runtime::fault;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::JoinSet,
    time::timeout,
};
use tracing::{Instrument as _, Span, error, warn};

use super::{
    change::Change,
    principal::Principal,
    rate::{Rate, RateLimits, Rates},
    rules::Rule,
    trail::{Begun, Ended, Outcome, Record, TrailPlace},
};
use crate::{CorrelationId, Problem, problem::reasons};

/// Most writes at once, those included whose clients have gone away. More would only wait for the
/// store.
pub(super) const WRITES_AT_ONCE_MAX: usize = 256;

/// How long a client waits that was one write too many.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Longest wait until the store has taken the entry that a write begins with, the turn of those before
/// it included. Clients give up soon after, and would send the write again beside this one.
const BEGIN_WAIT: Duration = Duration::from_secs(5);

/// Waits between tries to add an end that the store did not take.
const END_WAITS: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(30),
];

/// Refusals of one client that are recorded: one a second, and so many at once. All are counted.
const REFUSALS_PER_SECOND: u32 = 1;
/// See [`REFUSALS_PER_SECOND`].
const REFUSALS_AT_ONCE: u32 = 30;

/// The writes of a process.
pub(super) struct Writes {
    record: Arc<dyn Record>,
    room: Arc<Semaphore>,
    running: Mutex<JoinSet<()>>,
    refusals: Rates,
}

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writes").field("room", &self.room.available_permits()).finish()
    }
}

/// Who calls what.
pub(super) struct Call {
    pub(super) principal: Principal,
    pub(super) rule: Rule,
    pub(super) request_id: CorrelationId,
}

impl Writes {
    pub(super) fn new(record: Arc<dyn Record>) -> Self {
        let per_credential = Rate::new(REFUSALS_PER_SECOND, REFUSALS_AT_ONCE);
        let limits = RateLimits { per_credential, ..RateLimits::default() };
        let refusals = Rates::new(&limits, record.clock());
        let room = Arc::new(Semaphore::new(WRITES_AT_ONCE_MAX));
        Self { record, room, running: Mutex::default(), refusals }
    }

    /// Runs a write to its end, whether or not this future does. `refused` reads from the handler's
    /// answer why it refused.
    ///
    /// # Errors
    /// SERVER_BUSY, and those of the store: the handler was not called. OUTCOME_UNKNOWN when the
    /// handler was cut off or panicked.
    pub(super) async fn run<R, H>(
        &self,
        call: &Call,
        handler: impl FnOnce(Change) -> H + Send + 'static,
        refused: impl FnOnce(&R) -> Option<&'static str> + Send + 'static,
    ) -> Result<R, Problem>
    where
        R: Send + 'static,
        H: Future<Output = R> + Send + 'static,
    {
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(|_| busy())?;
        let (sender, answer) = oneshot::channel();
        let write = Write { record: Arc::clone(&self.record), begun: self.begun(call) };
        let running = async move {
            let held: OwnedSemaphorePermit = room;
            write.run(handler, refused, sender).await;
            drop(held);
        };
        {
            let mut tasks = self.running();
            while tasks.try_join_next().is_some() {}
            tasks.spawn(running.instrument(Span::current()));
        }
        answer.await.unwrap_or_else(|_| {
            Err(Problem::outcome_unknown(
                "the call did not come to its end; look at what it was to change before repeating it",
            ))
        })
    }

    /// Records that a known client was refused by the gate. At most [`REFUSALS_PER_SECOND`] a client;
    /// a store that does not answer within [`BEGIN_WAIT`] loses the entry, because nothing was changed.
    pub(super) async fn refused(&self, call: &Call, problem: &Problem) {
        if self.refusals.of_principal(&call.principal).is_err() {
            return;
        }
        let mut begun = self.begun(call);
        let outcome = Outcome::Refused { reason: problem.reason.to_owned() };
        begun.ended = Some(Ended::new(begun.at, outcome));
        count("refused", &begin(&*self.record, &begun).await);
    }

    /// Waits until every write has its last entry. Nothing may begin one any more.
    pub(super) async fn finish(&self) {
        let mut running = std::mem::take(&mut *self.running());
        while running.join_next().await.is_some() {}
    }

    /// Cuts off every write. Those get no last entry.
    pub(super) fn cut_off(&self) {
        self.running().abort_all();
    }

    fn begun(&self, call: &Call) -> Begun {
        let Call { principal, rule, request_id } = call;
        Begun::new(self.record.clock().now(), principal, rule.method, request_id)
    }

    fn running(&self) -> MutexGuard<'_, JoinSet<()>> {
        // Holds whole values only, so it is sound whoever panicked.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn busy() -> Problem {
    let message = format!(
        "{WRITES_AT_ONCE_MAX} writes are under way, as many as may be; send it again after the given \
         wait"
    );
    Problem::exhausted(reasons::SERVER_BUSY, message).with_retry_after(RETRY_AFTER)
}

fn count<T>(step: &'static str, recorded: &Result<T, StoreError>) {
    let outcome = if recorded.is_ok() { "written" } else { "failed" };
    counter!("pulso_audit_entries_total", "step" => step, "outcome" => outcome).increment(1);
}

/// Adds that a call has begun, within [`BEGIN_WAIT`].
///
/// # Errors
/// As [`Record::begin`], and `Unavailable` when the wait is over.
async fn begin(record: &dyn Record, begun: &Begun) -> Result<TrailPlace, StoreError> {
    timeout(BEGIN_WAIT, record.begin(begun)).await.unwrap_or_else(|_| {
        let message = format!("the audit trail took no entry within {BEGIN_WAIT:?}");
        Err(StoreError::Unavailable(message))
    })
}

/// One write on its way.
struct Write {
    record: Arc<dyn Record>,
    begun: Begun,
}

impl Write {
    async fn run<R, H: Future<Output = R>>(
        self,
        handler: impl FnOnce(Change) -> H,
        refused: impl FnOnce(&R) -> Option<&'static str>,
        answer: oneshot::Sender<Result<R, Problem>>,
    ) {
        // A client that has gone away takes no answer, here and below.
        let place = begin(&*self.record, &self.begun).await;
        count("begun", &place);
        let place = match place {
            Ok(place) => place,
            Err(error) => {
                let _ = answer.send(Err(error.into()));
                return;
            }
        };
        fault::point("audit.after_begun");
        let change = Change::default();
        if answer.is_closed() {
            // Nothing is changed yet. Whoever has given up may have sent the same again.
            let ended = change.ended(self.record.clock().now(), Some(reasons::CLIENT_GONE));
            let recorded = self.record.end(place, &ended).await;
            return self.settle(place, &ended, recorded).await;
        }
        let answered = handler(change.clone()).await;
        let ended = change.ended(self.record.clock().now(), refused(&answered));
        fault::point("audit.before_ended");
        let recorded = self.record.end(place, &ended).await;
        let _ = answer.send(Ok(answered));
        self.settle(place, &ended, recorded).await;
    }

    /// Counts an end, and tries again to add one that the store did not take.
    async fn settle(&self, place: TrailPlace, ended: &Ended, recorded: Result<(), StoreError>) {
        match recorded {
            Ok(()) => count("ended", &Ok(())),
            Err(error) => count("ended", &self.end_later(place, ended, error).await),
        }
    }

    /// Tries again to add an end. It is in the log from the first failure on: a shutdown may cut off what
    /// follows.
    async fn end_later(
        &self,
        place: TrailPlace,
        ended: &Ended,
        mut last: StoreError,
    ) -> Result<(), StoreError> {
        let Begun { method, request_id, .. } = &self.begun;
        warn!(%last, %place, method, request_id, outcome = ?ended.outcome, "the audit trail does not have yet how a call ended");
        for wait in END_WAITS {
            tokio::time::sleep(wait).await;
            match self.record.end(place, ended).await {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        error!(%last, %place, method, request_id, outcome = ?ended.outcome, "the audit trail does not have how a call ended");
        Err(last)
    }
}

#[cfg(test)]
mod tests;
