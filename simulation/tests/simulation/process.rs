//! A process of the simulated world: what the driver decides about it, and what its ports ask.
//!
//! A process can be dead, and then nothing that it asks is ever answered. It waits before each flush
//! until the driver says what becomes of that flush, so a process may sleep there for as long as the
//! seed likes, which makes it a zombie. Its clock stands still between two words of the driver,
//! because its threads read it at moments that no seed decides.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicI64, Ordering},
    },
};

use domain::{Clock, Partition, Timestamp, hash};
use storage::memory::{AppendFault, FlushFault};
use tokio::sync::{Notify, oneshot};

/// What becomes of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlushFate {
    Stored,
    /// So much is stored, and the answer is an error.
    Failed(FlushFault),
    /// So much is stored, and the process dies.
    Died(FlushFault),
    /// The answer is an error, and it is stored some time later.
    Postponed,
}

/// What becomes of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AppendFate {
    Failed(AppendFault),
    /// It reaches the log only once the driver lets it.
    HeldBefore,
    /// It is in the log at once, and answered only once the driver lets it.
    HeldAfter,
}

pub(crate) struct Process {
    pub(crate) number: usize,
    now_micros: AtomicI64,
    /// How far its clock is ahead.
    skew_micros: i64,
    state: Mutex<State>,
    arrived: Notify,
    died: Notify,
}

#[derive(Default)]
struct State {
    is_dead: bool,
    /// The flush that waits for its fate.
    flush: Option<oneshot::Sender<FlushFate>>,
    appends: VecDeque<AppendFate>,
    held: VecDeque<oneshot::Sender<()>>,
    assigned: Vec<Partition>,
    reads: Reads,
}

/// How the log and the store answer what is read in one activity. The same question gets the same
/// answer, because concurrent questions come in no certain order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reads {
    /// One question in so many fails; none where it is 0.
    pub(crate) failing_one_in: u64,
    /// One answer about the newest manifest or progress in so many is an older one; none where it is 0.
    pub(crate) stale_one_in: u64,
    pub(crate) salt: u64,
}

impl Reads {
    pub(crate) fn fails(&self, question: &str) -> bool {
        self.hits(self.failing_one_in, question)
    }

    pub(crate) fn is_stale(&self, question: &str) -> bool {
        self.hits(self.stale_one_in, question)
    }

    fn hits(&self, one_in: u64, question: &str) -> bool {
        one_in > 0 && hash::bytes64(self.salt ^ one_in, question.as_bytes()).is_multiple_of(one_in)
    }
}

impl Process {
    pub(crate) fn new(number: usize, now_micros: i64, skew_micros: i64) -> Arc<Self> {
        let state = Mutex::default();
        let (arrived, died) = (Notify::new(), Notify::new());
        let now_micros = (now_micros + skew_micros).into();
        Arc::new(Self { number, now_micros, skew_micros, state, arrived, died })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn set_clock(&self, micros: i64) {
        self.now_micros.store(micros + self.skew_micros, Ordering::SeqCst);
    }

    pub(crate) const fn has_right_clock(&self) -> bool {
        self.skew_micros == 0
    }

    pub(crate) fn die(&self) {
        let mut state = self.state();
        state.is_dead = true;
        state.flush = None;
        state.held.clear();
        drop(state);
        self.died.notify_one();
    }

    /// Resolves once the process is dead, by a flush that it did not survive.
    pub(crate) async fn died(&self) {
        while !self.is_dead() {
            self.died.notified().await;
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state().is_dead
    }

    /// Goes on only if the process lives.
    pub(crate) async fn live(&self) {
        if self.is_dead() {
            pending::<()>().await;
        }
    }

    pub(crate) fn set_reads(&self, reads: Reads) {
        self.state().reads = reads;
    }

    pub(crate) fn reads(&self) -> Reads {
        self.state().reads
    }

    pub(crate) fn assign(&self, partitions: Vec<Partition>) {
        self.state().assigned = partitions;
    }

    pub(crate) fn assigned(&self) -> Vec<Partition> {
        self.state().assigned.clone()
    }

    /// Says what becomes of the process's next appends.
    pub(crate) fn plan_append(&self, fate: AppendFate) {
        self.state().appends.push_back(fate);
    }

    pub(crate) fn forget_planned_appends(&self) {
        self.state().appends.clear();
    }

    pub(crate) fn next_append(&self) -> Option<AppendFate> {
        self.state().appends.pop_front()
    }

    /// Waits until the driver lets the append go on.
    pub(crate) async fn hold(&self) {
        let (release, released) = oneshot::channel();
        self.state().held.push_back(release);
        if released.await.is_err() {
            pending::<()>().await;
        }
    }

    pub(crate) fn held(&self) -> usize {
        self.state().held.len()
    }

    pub(crate) fn release_one(&self) {
        let held = self.state().held.pop_front();
        if let Some(release) = held {
            release.send(()).expect("the append waits as long as its process lives");
        }
    }

    /// Waits for the fate of a flush.
    pub(crate) async fn flush_fate(&self) -> FlushFate {
        self.live().await;
        let (decide, decided) = oneshot::channel();
        self.state().flush = Some(decide);
        self.arrived.notify_one();
        match decided.await {
            Ok(fate) => fate,
            Err(_) => pending().await,
        }
    }

    /// Resolves once a flush waits.
    pub(crate) async fn flush_waits(&self) {
        while !self.has_flush() {
            self.arrived.notified().await;
        }
    }

    pub(crate) fn has_flush(&self) -> bool {
        self.state().flush.is_some()
    }

    pub(crate) fn decide(&self, fate: FlushFate) {
        let flush = self.state().flush.take();
        let decide = flush.expect("only a flush that waits is decided");
        decide.send(fate).expect("the flush waits as long as its process lives");
    }
}

impl Clock for Process {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now_micros.load(Ordering::SeqCst)).unwrap()
    }
}

/// The clock of a process as its stage takes it.
pub(crate) struct ProcessClock(pub(crate) Arc<Process>);

impl Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }
}
