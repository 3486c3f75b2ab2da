//! Shutdown: the first SIGTERM or SIGINT asks every stage to finish its work, the second ends the
//! process at once.
//!
//! Ending at once is safe: whatever a crash may do to the pipeline, it may do at any moment anyway.

use std::{future::Future, io};

use tokio::{
    signal::unix::{self, SignalKind},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Whether this process was asked to shut down. Clones share one answer, which never turns back.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// One that nobody has requested yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for it. Asking again changes nothing.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Resolves once it was requested. Cancel-safe.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Whether it was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// One that is also requested when this is, but not the other way: for a part that may end
    /// before the process does.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token() }
    }

    /// Requests it on the process's first SIGTERM or SIGINT; exits on the second with 143 or 130.
    /// Watching ends when the returned value is dropped.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn on_signals(&self) -> io::Result<SignalWatch> {
        let signals = ProcessSignals {
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
        };
        Ok(SignalWatch { task: tokio::spawn(watch(self.clone(), signals, exit_now)) })
    }
}

/// Watches for signals until it is dropped.
#[derive(Debug)]
pub struct SignalWatch {
    task: JoinHandle<()>,
}

impl Drop for SignalWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Terminate,
    Interrupt,
}

impl Signal {
    /// What a shell reports for a process that this signal killed: 128 and its number.
    const fn exit_code(self) -> i32 {
        match self {
            Self::Interrupt => 128 + libc::SIGINT,
            Self::Terminate => 128 + libc::SIGTERM,
        }
    }
}

/// Where signals come from: the process, or a test.
trait Signals: Send + 'static {
    /// The next one, or `None` when there will be no more.
    fn next(&mut self) -> impl Future<Output = Option<Signal>> + Send;
}

struct ProcessSignals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

impl Signals for ProcessSignals {
    async fn next(&mut self) -> Option<Signal> {
        tokio::select! {
            signal = self.terminate.recv() => signal.map(|()| Signal::Terminate),
            signal = self.interrupt.recv() => signal.map(|()| Signal::Interrupt),
        }
    }
}

async fn watch(shutdown: Shutdown, mut signals: impl Signals, exit: impl FnOnce(i32) + Send) {
    let Some(signal) = signals.next().await else { return };
    info!(?signal, "shutting down: finishing the work in hand; a second signal ends it at once");
    shutdown.request();
    let Some(signal) = signals.next().await else { return };
    warn!(?signal, "ending at once; the next start takes up from what is durable");
    exit(signal.exit_code());
}

/// Ends the process without running exit handlers, which may wait for threads that never come.
fn exit_now(code: i32) {
    // SAFETY: takes a plain integer and does not return; nothing of ours is touched after it.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::sync::mpsc;

    use super::*;

    impl Signals for mpsc::Receiver<Signal> {
        async fn next(&mut self) -> Option<Signal> {
            self.recv().await
        }
    }

    /// Runs the watch over these signals; gives whether it was requested and the exit code.
    async fn after(signals: &[Signal]) -> (Shutdown, Option<i32>) {
        let (sender, receiver) = mpsc::channel(signals.len() + 1);
        for signal in signals {
            sender.try_send(*signal).unwrap();
        }
        drop(sender);
        let (shutdown, code) = (Shutdown::new(), Arc::new(Mutex::new(None)));
        let exit_code = code.clone();
        watch(shutdown.clone(), receiver, move |code| *exit_code.lock().unwrap() = Some(code))
            .await;
        let code = *code.lock().unwrap();
        (shutdown, code)
    }

    #[tokio::test]
    async fn the_first_signal_requests_and_the_second_exits() {
        use Signal::{Interrupt, Terminate};
        for (signals, requested, code) in [
            (&[][..], false, None),
            (&[Terminate], true, None),
            (&[Interrupt], true, None),
            (&[Terminate, Terminate], true, Some(143)),
            (&[Terminate, Interrupt], true, Some(130)),
        ] {
            let (shutdown, exit_code) = after(signals).await;
            assert_eq!((shutdown.is_requested(), exit_code), (requested, code), "{signals:?}");
        }
    }

    #[tokio::test]
    async fn every_clone_and_child_sees_the_request_and_a_child_asks_only_for_itself() {
        let shutdown = Shutdown::new();
        let (clone, child) = (shutdown.clone(), shutdown.child());
        child.request();
        assert!(!shutdown.is_requested());
        let late_child = shutdown.child();
        clone.request();
        shutdown.requested().await;
        late_child.requested().await;
    }
}
