//! Readiness: each part of a process says whether it can do its work, and why not.
//!
//! `/readyz?verbose`, the gRPC health service and `pulso status` all read this one registry, so
//! they never disagree. A part that ends, by an error or a panic, drops its [`Check`] and is no
//! longer ready.

use std::{collections::BTreeMap, fmt, sync::Arc};

use tokio::sync::watch;
use tracing::{info, warn};

mod trouble;

pub use trouble::{TROUBLE_LASTS, Trouble};

/// All checks of a process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Health {
    checks: Arc<watch::Sender<Report>>,
}

/// Whether one part can do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It can, and needs an operator all the same, for this reason. The process keeps its traffic.
    Degraded(String),
    /// It cannot, for this reason.
    NotReady(String),
}

/// What all checks said at one moment, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Name and answer of each check.
    pub checks: BTreeMap<String, Readiness>,
}

/// One part's handle on its own check. Dropping it says that the part has stopped.
#[derive(Debug)]
pub struct Check {
    name: String,
    checks: Arc<watch::Sender<Report>>,
}

impl Health {
    /// A registry without checks, which is not ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check, not ready until its part says so. Names are unique in a process; a part that
    /// starts again drops its old check first, or the old one's end would be taken for its own.
    #[must_use]
    pub fn register(&self, name: impl Into<String>) -> Check {
        let name = name.into();
        let starting = Readiness::NotReady("starting".to_owned());
        self.checks.send_modify(|report| drop(report.checks.insert(name.clone(), starting)));
        Check { name, checks: self.checks.clone() }
    }

    /// What all checks say now.
    #[must_use]
    pub fn report(&self) -> Report {
        self.checks.borrow().clone()
    }

    /// A receiver that wakes at every change, for the gRPC health service.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Report> {
        self.checks.subscribe()
    }
}

impl Report {
    /// Whether no check is without readiness and there is at least one: a process that has not
    /// registered its parts yet must not be sent any work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let is_ready = |check: &Readiness| !matches!(check, Readiness::NotReady(_));
        !self.checks.is_empty() && self.checks.values().all(is_ready)
    }
}

impl fmt::Display for Report {
    /// One line for each check, as Kubernetes' own components print theirs: `[+]log ok`, or
    /// `[-]store failed: ` and the reason; `[~]tls degraded: ` and the reason is our own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, readiness) in &self.checks {
            match readiness {
                Readiness::Ready => writeln!(f, "[+]{name} ok")?,
                Readiness::Degraded(reason) => writeln!(f, "[~]{name} degraded: {reason}")?,
                Readiness::NotReady(reason) => writeln!(f, "[-]{name} failed: {reason}")?,
            }
        }
        f.write_str(if self.is_ready() { "ready\n" } else { "not ready\n" })
    }
}

impl Check {
    /// Says that the part can do its work.
    pub fn ready(&self) {
        self.set(Readiness::Ready);
    }

    /// Says that it can do its work for now, and what an operator has to mend.
    pub fn degraded(&self, reason: impl Into<String>) {
        self.set(Readiness::Degraded(reason.into()));
    }

    /// Says that it cannot, and why, for an operator.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Readiness::NotReady(reason.into()));
    }

    /// Logs and wakes the receivers only when something changes, so a part may say how it is after
    /// every piece of work.
    fn set(&self, readiness: Readiness) {
        let changed = self.checks.send_if_modified(|report| {
            let before = report.checks.insert(self.name.clone(), readiness.clone());
            before.as_ref() != Some(&readiness)
        });
        match readiness {
            _ if !changed => {}
            Readiness::Ready => info!(check = self.name, "ready"),
            Readiness::Degraded(reason) => warn!(check = self.name, reason, "degraded"),
            Readiness::NotReady(reason) => warn!(check = self.name, reason, "not ready"),
        }
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        // An end is in order; if it was not, its reason has been logged where it arose.
        let stopped = Readiness::NotReady("stopped".to_owned());
        self.checks.send_modify(|report| drop(report.checks.insert(self.name.clone(), stopped)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_once_all_its_parts_are() {
        let health = Health::new();
        assert!(!health.report().is_ready(), "a registry without checks is not ready");
        let (log, store) = (health.register("log"), health.register("store"));
        log.ready();
        assert_eq!(
            health.report().to_string(),
            "[+]log ok\n[-]store failed: starting\nnot ready\n"
        );
        store.ready();
        assert_eq!(health.report().to_string(), "[+]log ok\n[+]store ok\nready\n");
        log.not_ready("disk full");
        assert_eq!(
            health.report().to_string(),
            "[-]log failed: disk full\n[+]store ok\nnot ready\n"
        );
    }

    #[test]
    fn a_degraded_part_keeps_the_process_ready_and_says_why() {
        let health = Health::new();
        let check = health.register("tls");
        check.degraded("the new certificate cannot be read");
        assert!(health.report().is_ready());
        assert_eq!(
            health.report().to_string(),
            "[~]tls degraded: the new certificate cannot be read\nready\n"
        );
    }

    #[test]
    fn a_part_that_ended_is_not_ready() {
        let health = Health::new();
        let check = health.register("consumer");
        check.ready();
        drop(check);
        assert_eq!(health.report().to_string(), "[-]consumer failed: stopped\nnot ready\n");
    }

    #[test]
    fn receivers_wake_at_changes_only() {
        let health = Health::new();
        let check = health.register("log");
        check.ready();
        let mut changes = health.changes();
        check.ready();
        assert!(!changes.has_changed().unwrap());
        check.not_ready("disk full");
        assert!(changes.has_changed().unwrap());
        assert!(!changes.borrow_and_update().is_ready());
    }
}
