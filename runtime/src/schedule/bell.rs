//! Bell: tokio-cron-scheduler rings it when a moment of an expression comes.
//!
//! The scheduler's tasks end with the runtime they were spawned on and no sooner, so each bell has a
//! thread with a runtime of its own, which it joins when it is dropped.

use std::{io, sync::Arc, thread};

use tokio::sync::{Notify, oneshot};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tracing::{
    subscriber::{NoSubscriber, with_default},
    warn,
};

use super::CronExpression;

/// A bell that rings at the moments of one expression, until it is dropped.
pub(super) struct Bell {
    rung: Arc<Notify>,
    /// Dropped to end the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Bell {
    /// Starts the scheduler. If it cannot start, the bell stays silent and a warning is logged.
    pub(super) fn start(expression: &CronExpression) -> Self {
        let rung = Arc::new(Notify::new());
        let (stop, stopped) = oneshot::channel();
        let (text, ringing) = (expression.to_string(), rung.clone());
        let thread = thread::Builder::new().name("schedule".to_owned()).spawn(move || {
            // The scheduler logs its own inner steps at INFO; nobody can act on them.
            let rang = with_default(NoSubscriber::new(), || ring(&text, ringing, stopped));
            if let Err(error) = rang {
                silent(&text, &error);
            }
        });
        let thread = thread.inspect_err(|error| silent(expression, error)).ok();
        Self { rung, stop: Some(stop), thread }
    }

    /// What the scheduler notifies: it holds one ring at most, however many came.
    pub(super) fn rung(&self) -> &Notify {
        &self.rung
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        drop(self.stop.take());
        // The thread only waits, so it ends within microseconds.
        if let Some(Err(_)) = self.thread.take().map(thread::JoinHandle::join) {
            warn!("the thread of a schedule's bell had panicked; its ticks came a second late");
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum BellError {
    #[error(transparent)]
    Runtime(#[from] io::Error),
    #[error(transparent)]
    Scheduler(#[from] JobSchedulerError),
}

/// Rings until it is stopped. Every task of the scheduler has ended when it returns.
fn ring(
    expression: &str,
    rung: Arc<Notify>,
    stopped: oneshot::Receiver<()>,
) -> Result<(), BellError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let mut scheduler = JobScheduler::new().await?;
        scheduler.init().await?;
        scheduler.add(Job::new(expression, move |_, _| rung.notify_one())?).await?;
        scheduler.start().await?;
        // An error: the bell was dropped, which is what it waits for.
        let (Ok(()) | Err(_)) = stopped.await;
        Ok(())
    })
}

fn silent(expression: impl std::fmt::Display, error: &dyn std::error::Error) {
    warn!(%expression, %error, "no scheduler rings for this schedule; its ticks come a second late");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_bell_rings_in_time_again_and_again_and_leaves_nothing_behind() {
        let bell = Bell::start(&CronExpression::parse("* * * * * *").unwrap());
        for _ in 0..2 {
            // A second until the next moment, half a second until the scheduler looks, and time for
            // a machine that is busy.
            let ring = tokio::time::timeout(Duration::from_secs(30), bell.rung().notified());
            ring.await.expect("the bell rings");
        }
        let rung = bell.rung.clone();
        drop(bell);
        assert_eq!(Arc::strong_count(&rung), 1, "the scheduler's job is gone");
    }
}
