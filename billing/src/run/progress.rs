//! Progress: what this process is doing about its runs, for people.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use domain::Tenant;

use crate::books::runs::Outcomes;

/// What this process is doing about a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// What it does or waits for, for a person; empty once it has stopped.
    pub(crate) doing: String,
    /// Tenants that are through.
    pub(crate) tenants_done: u64,
    /// Periods so far.
    pub(crate) outcomes: Outcomes,
    /// Tenants that could not be billed, with the reason, at most 100; the run stays open.
    pub(crate) failures: Vec<(String, String)>,
    /// Tenants with periods that are blocked, with what to do, at most 100.
    pub(crate) blocked: Vec<(String, String)>,
}

pub(crate) const FAILURES_MAX: usize = 100;

/// Progress by run. All of it follows from the books again once a run goes on.
#[derive(Debug, Default)]
pub(crate) struct Progresses(Mutex<HashMap<u64, Progress>>);

impl Progresses {
    pub(crate) fn change(&self, run: u64, change: impl FnOnce(&mut Progress)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(run).or_default());
    }

    /// Notes what a period waits for.
    pub(crate) fn blocked(&self, run: u64, tenant: &Tenant, why: String) {
        tracing::warn!(run, %tenant, why, "a period was not billed");
        self.change(run, |progress| {
            if progress.blocked.len() < FAILURES_MAX {
                progress.blocked.push((tenant.to_string(), why));
            }
        });
    }

    pub(crate) fn of(&self, run: u64) -> Progress {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&run).cloned().unwrap_or_default()
    }
}
