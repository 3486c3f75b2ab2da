//! Progress: what this process is doing about its runs, for people.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::books::runs::results::Results;

/// What this process is doing about a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// What it does or waits for, for a person; empty once it has stopped.
    pub(crate) doing: String,
    /// What came of it so far.
    pub(crate) results: Results,
}

/// Progress by run. All of it follows from the books again once a run goes on.
#[derive(Debug, Default)]
pub(crate) struct Progresses(Mutex<HashMap<u64, Progress>>);

impl Progresses {
    pub(crate) fn change<T>(&self, run: u64, change: impl FnOnce(&mut Progress) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(run).or_default())
    }

    pub(crate) fn of(&self, run: u64) -> Progress {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&run).cloned().unwrap_or_default()
    }

    /// Forgets a run that has ended: the books know more.
    pub(crate) fn forget(&self, run: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }
}
