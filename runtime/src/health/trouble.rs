//! Trouble: work that fails again and again while its part lives, such as writes to a full disk.
//!
//! The part tells of each failure and never of success: trouble is over once nothing has failed for
//! [`TROUBLE_LASTS`]. Success could not end it anyway where readiness steers the traffic: a process
//! that is not ready is sent no work to succeed at. What only another start can mend lasts.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

use super::Check;
use crate::Shutdown;

/// How long after a failure a part is not ready. Longer than any wait between two tries of the
/// same work, or the check would turn back and forth.
pub const TROUBLE_LASTS: Duration = Duration::from_secs(15);

/// What a part fails at now. Clones share it.
#[derive(Clone, Debug)]
pub struct Trouble {
    latest: Arc<watch::Sender<Option<Failure>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    cause: String,
    lasts: Lasts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lasts {
    AWhile,
    ToTheEnd,
}

impl Default for Trouble {
    fn default() -> Self {
        Self { latest: Arc::new(watch::Sender::new(None)) }
    }
}

impl Trouble {
    /// Tells of a failure. Answers whether it is news, and so worth a log line of its own: the same
    /// cause, again and again, would fill a disk that is full already.
    #[must_use = "says whether the failure is to be logged"]
    pub fn met(&self, cause: impl fmt::Display) -> bool {
        self.tell(cause.to_string(), Lasts::AWhile)
    }

    /// The same of a failure that trying again cannot mend: there is trouble, with this cause, until the
    /// process ends.
    #[must_use = "says whether the failure is to be logged"]
    pub fn lasting(&self, cause: impl fmt::Display) -> bool {
        self.tell(cause.to_string(), Lasts::ToTheEnd)
    }

    fn tell(&self, cause: String, lasts: Lasts) -> bool {
        let failure = Failure { cause, lasts };
        let mut is_news = false;
        self.latest.send_if_modified(|latest| {
            if latest.as_ref().is_some_and(|before| before.lasts == Lasts::ToTheEnd) {
                return false;
            }
            is_news = latest.as_ref() != Some(&failure);
            *latest = Some(failure);
            true
        });
        is_news
    }

    /// Keeps a check to it until shutdown: not ready, with the cause, while there is trouble.
    pub async fn follow(&self, check: Check, shutdown: &Shutdown) {
        tokio::select! {
            () = self.keep(&check) => {}
            () = shutdown.requested() => {}
        }
    }

    async fn keep(&self, check: &Check) {
        let mut failures = self.latest.subscribe();
        loop {
            let failure = failures.borrow_and_update().clone();
            let Some(Failure { cause, .. }) = failure else {
                check.ready();
                // The sender lives as long as `self`, so this ends only with a failure.
                let _ = failures.changed().await;
                continue;
            };
            check.not_ready(cause);
            if timeout(TROUBLE_LASTS, failures.changed()).await.is_err() {
                self.latest.send_if_modified(|latest| {
                    latest.take_if(|failure| failure.lasts == Lasts::AWhile).is_some()
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;
    use crate::Health;

    #[tokio::test(start_paused = true)]
    async fn a_check_is_not_ready_until_nothing_has_failed_for_a_while() {
        let (health, trouble, shutdown) = (Health::new(), Trouble::default(), Shutdown::new());
        let check = health.register("log");
        let (following, until) = (trouble.clone(), shutdown.clone());
        let task = tokio::spawn(async move { following.follow(check, &until).await });
        let soon = Duration::from_millis(1);
        sleep(soon).await;
        assert!(health.report().is_ready());

        assert!(trouble.met("disk full"), "the first failure is news");
        sleep(TROUBLE_LASTS - soon).await;
        assert!(!trouble.met("disk full"), "the same again is not");
        sleep(TROUBLE_LASTS - soon).await;
        let failed = "[-]log failed: disk full\nnot ready\n";
        assert_eq!(health.report().to_string(), failed, "it failed again meanwhile");
        assert!(trouble.met("disk gone"), "another cause is news");
        sleep(TROUBLE_LASTS + soon).await;
        assert!(health.report().is_ready());
        assert!(trouble.met("disk gone"), "after a pause the same cause is news again");

        assert!(trouble.lasting("another log"), "so is what lasts");
        assert!(
            !trouble.met("disk full") && !trouble.lasting("another log"),
            "nothing after it is"
        );
        sleep(TROUBLE_LASTS * 3).await;
        let failed = "[-]log failed: another log\nnot ready\n";
        assert_eq!(health.report().to_string(), failed, "it lasts");

        shutdown.request();
        task.await.unwrap();
        assert!(!health.report().is_ready());
    }
}
