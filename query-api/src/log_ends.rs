//! Asks a log where it ends: when all of it is in the store, an answer is as fresh as the question.
//!
//! So nobody has to write that nothing came. Totals do not need the log, so a log that is slow or
//! away costs an answer its freshness and, once in a while, a second; nothing more.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::{Clock, LogId, Offset, Partition, PulseLog, Timestamp, store::PartitionKey};
use tokio::time::{Instant, timeout};
use tracing::warn;

/// How long a log may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// How long a log that did not answer is not asked again.
const SILENCE: Duration = Duration::from_secs(10);
/// For how long what was learnt of a partition is said again, so that many questions cost a broker
/// one look a second.
const KEPT: Duration = Duration::from_secs(1);

/// Where logs end, and when a partition was last seen to be in the store whole.
pub(crate) struct LogEnds {
    clock: Arc<dyn Clock>,
    whole: Mutex<BTreeMap<PartitionKey, Timestamp>>,
    silent: Mutex<BTreeMap<LogId, Instant>>,
}

impl fmt::Debug for LogEnds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogEnds")
    }
}

impl LogEnds {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, whole: Mutex::default(), silent: Mutex::default() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// When the partition was last seen to be in the store whole, if ever by this process; looks
    /// again where that is a while ago. `folded_to` must have been read before this call, and the
    /// rows of an answer after it.
    pub(crate) async fn whole_at<L: PulseLog>(
        &self,
        log: &L,
        key: PartitionKey,
        folded_to: Offset,
    ) -> Option<Timestamp> {
        let now = self.clock.now();
        let known = self.known(key, now);
        if known.is_some_and(|known| now < known.plus(KEPT)) {
            return known;
        }
        if self.end(log, key.partition).await != Some(folded_to) {
            return known;
        }
        lock(&self.whole).insert(key, now);
        Some(now)
    }

    /// A time in the future was read from a clock that has been set since.
    fn known(&self, key: PartitionKey, now: Timestamp) -> Option<Timestamp> {
        lock(&self.whole).get(&key).copied().filter(|at| *at <= now)
    }

    /// The end of a partition; `None` where the log does not say in time.
    pub(crate) async fn end<L: PulseLog>(&self, log: &L, partition: Partition) -> Option<Offset> {
        let log_id = log.generation().log_id;
        let silent_since = lock(&self.silent).get(&log_id).copied();
        if silent_since.is_some_and(|since| since.elapsed() < SILENCE) {
            return None;
        }
        let error = match timeout(ANSWER_MAX, log.bounds(partition)).await {
            Ok(Ok(bounds)) => return Some(bounds.end),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {ANSWER_MAX:?}"),
        };
        warn!(%partition, error, "answers are less fresh: the log does not say where it ends");
        lock(&self.silent).insert(log_id, Instant::now());
        None
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
