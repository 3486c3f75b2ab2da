//! Patience: how long a body may keep its reader waiting, in all.
//!
//! Only the time in which the reader waits for the client counts: what the server spends on its own
//! work, or waits for room, is not the client's fault.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// What is left of the time that one message may take.
#[derive(Debug)]
pub(super) struct Patience {
    full: Duration,
    left: Duration,
    waiting_since: Option<Instant>,
    /// Made when it is first waited for; a body that comes at once needs no timer.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub(super) const fn new(full: Duration) -> Self {
        Self { full, left: full, waiting_since: None, alarm: None }
    }

    /// The client sent something.
    pub(super) fn came(&mut self) {
        if let Some(since) = self.waiting_since.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
    }

    /// The reader was busy elsewhere, so the time since it last asked does not count.
    pub(super) const fn forgive(&mut self) {
        self.waiting_since = None;
    }

    /// The next message begins.
    pub(super) const fn renew(&mut self) {
        self.left = self.full;
        self.waiting_since = None;
    }

    /// Nothing came: resolves once the time is used up, and else wakes the reader then.
    pub(super) fn poll_used_up(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let deadline = since + self.left;
        while Instant::now() < deadline {
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            // One set for an earlier wait rings early; it is not moved each time something comes,
            // because setting a timer costs more than reading a chunk.
            if alarm.deadline() > deadline {
                alarm.as_mut().reset(deadline);
            }
            if alarm.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            alarm.as_mut().reset(deadline);
        }
        Poll::Ready(())
    }
}
