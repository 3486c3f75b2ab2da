//! Compute: the threads on which calls do arithmetic, so that the threads that serve never do.
//!
//! A call that rates a period, derives an invoice again or groups usage keeps a core busy for
//! seconds. On a thread of the runtime it would hold up every other call, health and ingest
//! included. Here it waits for one of few threads instead. Three bounds hold, each a setting:
//! closures that run at once, calls that are admitted, and admitted calls that hold a billing
//! period in memory. A call beyond the second is refused with a time to wait.

use std::{cell::Cell, sync::Arc, time::Duration, time::Instant};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::problem::{Problem, reasons};

/// How many calls compute and wait at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComputeConfig {
    /// Closures that run at once, each on a thread, at least 1. Default: one less than the machine
    /// has cores. As many as cores leave none to the threads that serve.
    pub threads: usize,
    /// Calls that are admitted at once, at least 1. Default 256. One more is refused. Too few refuse a
    /// burst of small questions, too many let each of them wait long.
    pub calls_max: usize,
    /// Admitted calls that hold a billing period in memory at once, at least 1; others wait.
    /// Default 4. Each takes memory by the rows and lines of its period.
    pub periods_max: usize,
    /// How long a refused call is asked to wait. Default 1 s.
    pub retry_after: Duration,
    /// How long a streamed answer waits for a client that does not read. Default 30 s. Longer lets
    /// such clients keep periods in memory; shorter cuts off clients on slow networks.
    pub stall_timeout: Duration,
}

impl Default for ComputeConfig {
    fn default() -> Self {
        Self {
            threads: cores().saturating_sub(1).max(1),
            calls_max: 256,
            periods_max: 4,
            retry_after: Duration::from_secs(1),
            stall_timeout: Duration::from_secs(30),
        }
    }
}

/// Cores of this machine, at least 1.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The threads and their bounds. Clones share them.
#[derive(Clone, Debug)]
pub struct Compute {
    config: ComputeConfig,
    threads: Arc<Semaphore>,
    calls: Arc<Semaphore>,
    periods: Arc<Semaphore>,
}

/// A call's admission. Dropping it makes room for another call.
#[derive(Debug)]
pub struct Call {
    _admitted: OwnedSemaphorePermit,
    _period: Option<OwnedSemaphorePermit>,
}

impl Default for Compute {
    fn default() -> Self {
        Self::new(ComputeConfig::default())
    }
}

impl Compute {
    /// Takes the bounds; a bound of 0 counts as 1.
    #[must_use]
    pub fn new(config: ComputeConfig) -> Self {
        let bound = |most: usize| Arc::new(Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS)));
        Self {
            config,
            threads: bound(config.threads),
            calls: bound(config.calls_max),
            periods: bound(config.periods_max),
        }
    }

    /// A pool for work that no call waits for and that has a bound of its own: as many threads as
    /// cores.
    #[must_use]
    pub fn background() -> Self {
        Self::new(ComputeConfig { threads: cores(), ..ComputeConfig::default() })
    }

    /// How many calls compute and wait at once.
    #[must_use]
    pub const fn config(&self) -> &ComputeConfig {
        &self.config
    }

    /// Admits a call that needs little memory.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED, `COMPUTE_EXHAUSTED`, when as many calls are admitted as may be.
    pub fn admit(&self) -> Result<Call, Problem> {
        let admitted = Arc::clone(&self.calls).try_acquire_owned().map_err(|_| {
            metrics::counter!("pulso_compute_refused_total").increment(1);
            let message = format!(
                "the server works on {} calls that compute, and takes no more (compute.calls_max); \
                 nothing was done; ask again after the given wait",
                self.config.calls_max
            );
            Problem::exhausted(reasons::COMPUTE_EXHAUSTED, message)
                .with_retry_after(self.config.retry_after)
        })?;
        Ok(Call { _admitted: admitted, _period: None })
    }

    /// Admits a call that holds a billing period in memory, and waits until it may.
    ///
    /// # Errors
    /// As [`Compute::admit`].
    pub async fn admit_period(&self) -> Result<Call, Problem> {
        let call = self.admit()?;
        let period = Arc::clone(&self.periods).acquire_owned().await;
        Ok(Call { _period: Some(period.expect("never closed")), ..call })
    }

    /// Runs a closure on one of the threads, once one is free; first come, first served. A caller that
    /// is dropped meanwhile leaves its closure to run to its end.
    ///
    /// # Errors
    /// INTERNAL when the closure panics.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        self.run_with_pauses(|_| work()).await
    }

    /// The same, with pauses in which the closure waits for something and others compute.
    ///
    /// # Errors
    /// As [`Compute::run`].
    pub async fn run_with_pauses<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Pauses) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let asked = Instant::now();
        let thread = Arc::clone(&self.threads).acquire_owned().await.expect("never closed");
        metrics::histogram!("pulso_compute_wait_seconds").record(asked.elapsed());
        let mut pauses = Pauses { threads: Arc::clone(&self.threads), thread: Some(thread) };
        let done = tokio::task::spawn_blocking(move || {
            let _here = Here::enter();
            work(&mut pauses)
        });
        done.await.map_err(|error| {
            tracing::error!(%error, "a computation did not finish");
            Problem::internal("a computation did not finish; the server's log says why")
        })
    }
}

/// A computing thread's place among those that run at once.
#[derive(Debug)]
pub struct Pauses {
    threads: Arc<Semaphore>,
    /// None only while it waits.
    thread: Option<OwnedSemaphorePermit>,
}

impl Pauses {
    /// Waits for something, and leaves its place to others meanwhile.
    pub fn wait<T>(&mut self, wait: impl FnOnce() -> T) -> T {
        self.thread = None;
        let found = wait();
        let again = Handle::current().block_on(Arc::clone(&self.threads).acquire_owned());
        self.thread = Some(again.expect("never closed"));
        found
    }
}

thread_local! {
    static HERE: Cell<bool> = const { Cell::new(false) };
}

/// Marks the thread for as long as it computes, also past a panic.
struct Here;

impl Here {
    fn enter() -> Self {
        HERE.set(true);
        Self
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        HERE.set(false);
    }
}

/// Tells whether this thread runs a closure of [`Compute::run`]; for assertions.
#[must_use]
pub fn is_here() -> bool {
    HERE.get()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tonic::Code;

    use super::*;

    fn compute(threads: usize, calls_max: usize, periods_max: usize) -> Compute {
        let default = ComputeConfig::default();
        Compute::new(ComputeConfig { threads, calls_max, periods_max, ..default })
    }

    #[tokio::test]
    async fn a_closure_that_pauses_lets_others_compute_and_goes_on_behind_them() {
        let compute = compute(1, 1, 1);
        let (tell, told) = mpsc::channel();
        let pausing = compute.run_with_pauses(move |pauses| {
            let told = pauses.wait(|| told.recv().unwrap());
            (told, is_here())
        });
        // On the only thread there is.
        let telling = compute.run(move || tell.send("told").unwrap());
        let (paused, told) = tokio::join!(pausing, telling);
        assert_eq!((paused.unwrap(), told.unwrap()), (("told", true), ()));
    }

    #[tokio::test]
    async fn one_call_more_than_the_bound_is_refused_until_another_ends() {
        let compute = compute(1, 2, 1);
        let (_first, second) = (compute.admit().unwrap(), compute.admit().unwrap());
        let refused = compute.admit().unwrap_err();
        assert_eq!(
            (refused.code, refused.reason, refused.retry_after),
            (Code::ResourceExhausted, reasons::COMPUTE_EXHAUSTED, Some(Duration::from_secs(1)))
        );
        drop(second);
        assert!(compute.admit().is_ok());
    }

    #[tokio::test]
    async fn a_second_period_waits_for_the_first() {
        let compute = compute(1, 3, 1);
        let first = compute.admit_period().await.unwrap();
        let mut second = std::pin::pin!(compute.admit_period());
        let waker = &mut std::task::Context::from_waker(std::task::Waker::noop());
        assert!(second.as_mut().poll(waker).is_pending());
        assert!(compute.admit().is_ok(), "a call without a period is not held up");
        drop(first);
        assert!(second.await.is_ok());
    }

    /// On a runtime of one thread: were a closure run there, nothing could let it go on.
    #[tokio::test(flavor = "current_thread")]
    async fn no_closure_holds_up_the_runtime_and_no_more_run_than_there_are_threads() {
        let compute = compute(1, 8, 1);
        let (go, gate) = mpsc::channel::<()>();
        let (started, has_started) = tokio::sync::oneshot::channel();
        let running = compute.clone();
        let first = tokio::spawn(async move {
            let work = move || {
                started.send(is_here()).unwrap();
                gate.recv().unwrap();
            };
            running.run(work).await
        });
        assert!(has_started.await.unwrap() && !is_here());
        let mut second = std::pin::pin!(compute.run(|| 2));
        let waker = &mut std::task::Context::from_waker(std::task::Waker::noop());
        assert!(second.as_mut().poll(waker).is_pending(), "the one thread is taken");
        go.send(()).unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(second.await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_panic_is_answered_and_gives_the_thread_back() {
        let compute = compute(1, 8, 1);
        let failed = compute.run(|| panic!("a mistake of this test")).await;
        let failed: Result<(), Problem> = failed;
        assert_eq!(failed.unwrap_err().code, Code::Internal);
        assert_eq!(compute.run(|| 1).await.unwrap(), 1);
    }
}
