//! Runs: which billing runs were opened, below which cut each bills, and how it ended.
//!
//! A run is opened in one journal and keeps a journal of its own. Opening a run that is open gives that
//! run.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use domain::{BillingStore, Clock, Timestamp, billing::Appended};
use pricing::timeline::Month;
use runtime::fault;
use serde::{Deserialize, Serialize};

use super::journal;
use crate::{BillingError, Refusal, threshold::Threshold};

pub(crate) mod results;

use results::Results;

const RUNS: &str = "runs";

/// What a run is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRequest {
    /// The month in which periods begin.
    #[serde(with = "journal::text")]
    pub(crate) month: Month,
    /// The tenants, sorted; empty for all.
    pub(crate) tenants: Vec<String>,
    /// Whether periods that have an invoice get a delta where something changed since, and documents
    /// whose periods there are no more a reversal.
    pub(crate) deltas: bool,
    /// Deltas that come to less than this, whichever way, are not made.
    #[serde(default, skip_serializing_if = "Threshold::is_none")]
    pub(crate) threshold: Threshold,
    /// What names the request, so that asking again gives the same run; may be empty.
    #[serde(default)]
    pub(crate) request_id: String,
}

/// A run as it was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Opened {
    #[serde(flatten)]
    request: RunRequest,
    #[serde(with = "journal::text")]
    opened_at: Timestamp,
}

/// An entry of a run's own journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    /// Its cut was taken.
    Cut(Cut),
    /// Every tenant is through, or failed.
    Closed {
        #[serde(flatten)]
        results: Results,
        #[serde(with = "journal::text")]
        at: Timestamp,
    },
    /// It was cancelled; drafts are discarded, what is final stays.
    Cancelled {
        #[serde(with = "journal::text")]
        at: Timestamp,
    },
}

/// A run and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Its number, from 1.
    pub(crate) number: u64,
    /// What it is for.
    pub(crate) request: RunRequest,
    /// When it was opened.
    pub(crate) opened_at: Timestamp,
    /// The line below which it bills, once it has one.
    pub(crate) cut: Option<Cut>,
    /// How it ended.
    pub(crate) ended: Option<Ended>,
    /// Entries of its journal.
    entries: u64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Every tenant is through, or failed.
    Closed(Results, Timestamp),
    /// It was cancelled.
    Cancelled(Timestamp),
}

/// A cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cut {
    /// When it was taken.
    #[serde(with = "journal::text")]
    pub(crate) taken_at: Timestamp,
    /// Entries of the journal of epochs that count: which epochs are meant.
    pub(crate) log_events: u64,
    /// Where each partition ends, in the order of generations and partitions.
    pub(crate) ends: Vec<CutEnd>,
    /// The versions of the catalogue that were in use, in the order in which they were published.
    pub(crate) catalogues: Vec<String>,
    /// Contracts and amendments that count: those that were applied before.
    pub(crate) contracts: u64,
}

/// Where a partition ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CutEnd {
    /// The log, in hexadecimal.
    pub(crate) log_id: String,
    /// Number of the partition in its log.
    pub(crate) partition: u16,
    /// First offset that is not below the cut.
    pub(crate) end: u64,
}

/// Most runs that have ended and are kept in memory: a look at what is due asks for all of them.
const KEPT_MAX: usize = 1_000;

/// Keeps the journals of billing runs.
pub(crate) struct Runs<B> {
    store: Arc<B>,
    clock: Arc<dyn Clock>,
    /// Runs that are known to have ended, which none takes back: nobody reads them again to find
    /// those that have not. The newest are kept.
    ended: Mutex<BTreeMap<u64, Option<Run>>>,
}

impl<B: BillingStore> Runs<B> {
    pub(crate) fn new(store: Arc<B>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, ended: Mutex::default() }
    }

    /// Opens a run, or gives the one that is open for the same, or has the same request id.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn open(&self, request: RunRequest) -> Result<Run, BillingError> {
        loop {
            let opened: Vec<Opened> = journal::read(&*self.store, RUNS, 0).await?;
            for (number, before) in (1..).zip(&opened) {
                let same_id = !request.request_id.is_empty()
                    && before.request.request_id == request.request_id;
                let alike = RunRequest { request_id: String::new(), ..before.request.clone() }
                    == RunRequest { request_id: String::new(), ..request.clone() };
                if same_id || (alike && self.get(number).await?.ended.is_none()) {
                    return self.get(number).await;
                }
            }
            let place = opened.len() as u64;
            let entry = Opened { request: request.clone(), opened_at: self.clock.now() };
            if journal::append(&*self.store, RUNS, place, &entry).await? == Appended::Added {
                fault::point("billing.after_open");
                return self.get(place + 1).await;
            }
        }
    }

    /// The run with a number.
    ///
    /// # Errors
    /// When there is no such run; when the store fails.
    pub(crate) async fn get(&self, number: u64) -> Result<Run, BillingError> {
        if let Some(Some(run)) = self.ended().get(&number) {
            return Ok(run.clone());
        }
        let run = self.read(number).await?;
        if run.ended.is_some() {
            self.keep(&run);
        }
        Ok(run)
    }

    /// Keeps a run that has ended.
    fn keep(&self, run: &Run) {
        let mut ended = self.ended();
        ended.insert(run.number, Some(run.clone()));
        let mut kept = ended.iter().rev().filter(|(_, run)| run.is_some());
        if let Some(oldest) = kept.nth(KEPT_MAX).map(|(number, _)| *number) {
            ended.insert(oldest, None);
        }
    }

    async fn read(&self, number: u64) -> Result<Run, BillingError> {
        let missing = || {
            BillingError::refused(Refusal::RunNotFound, format!("there is no billing run {number}"))
        };
        let place = number.checked_sub(1).ok_or_else(missing)?;
        let opened: Vec<Opened> = journal::read_page(&*self.store, RUNS, place, 1).await?;
        let Opened { request, opened_at } = opened.into_iter().next().ok_or_else(missing)?;
        let events: Vec<Event> = journal::read(&*self.store, &journal_of(number), 0).await?;
        let entries = events.len() as u64;
        let mut run = Run { number, request, opened_at, cut: None, ended: None, entries };
        for event in events {
            match event {
                // The first of each kind stands; nothing is added behind an end.
                Event::Cut(cut) => _ = run.cut.get_or_insert(cut),
                Event::Closed { results, at } => {
                    _ = run.ended.get_or_insert(Ended::Closed(results, at));
                }
                Event::Cancelled { at } => _ = run.ended.get_or_insert(Ended::Cancelled(at)),
            }
        }
        Ok(run)
    }

    /// All runs, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn all(&self) -> Result<Vec<Run>, BillingError> {
        let opened: Vec<Opened> = journal::read(&*self.store, RUNS, 0).await?;
        let mut runs = Vec::with_capacity(opened.len());
        for number in (1..=opened.len() as u64).rev() {
            runs.push(self.get(number).await?);
        }
        Ok(runs)
    }

    /// The runs that have not ended, oldest first: what a start goes on with.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn open_numbers(&self) -> Result<Vec<u64>, BillingError> {
        let opened: Vec<Opened> = journal::read(&*self.store, RUNS, 0).await?;
        let mut numbers: Vec<u64> = (1..=opened.len() as u64).collect();
        numbers.retain(|number| !self.ended().contains_key(number));
        let mut open = Vec::new();
        for number in numbers {
            if self.get(number).await?.ended.is_none() {
                open.push(number);
            }
        }
        Ok(open)
    }

    fn ended(&self) -> MutexGuard<'_, BTreeMap<u64, Option<Run>>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Journals the cut of a run, unless something was journalled since the run was read.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn set_cut(&self, run: &Run, cut: Cut) -> Result<Appended, BillingError> {
        let journal = journal_of(run.number);
        journal::append(&*self.store, &journal, run.entries, &Event::Cut(cut)).await
    }

    /// Closes a run, unless it has ended, and gives it as it is then.
    ///
    /// # Errors
    /// When there is no such run; when the store fails.
    pub(crate) async fn close(&self, number: u64, results: Results) -> Result<Run, BillingError> {
        self.end(number, |at| Event::Closed { results: results.clone(), at }).await
    }

    /// Cancels a run, unless it has ended, and gives it as it is then.
    ///
    /// # Errors
    /// When there is no such run; when the store fails.
    pub(crate) async fn cancel(&self, number: u64) -> Result<Run, BillingError> {
        self.end(number, |at| Event::Cancelled { at }).await
    }

    async fn end(
        &self,
        number: u64,
        event: impl Fn(Timestamp) -> Event,
    ) -> Result<Run, BillingError> {
        loop {
            let run = self.get(number).await?;
            if run.ended.is_some() {
                return Ok(run);
            }
            let event = event(self.clock.now());
            journal::append(&*self.store, &journal_of(number), run.entries, &event).await?;
        }
    }

    /// Tells whether a run has ended.
    ///
    /// # Errors
    /// When there is no such run; when the store fails.
    pub(crate) async fn has_ended(&self, number: u64) -> Result<bool, BillingError> {
        Ok(self.get(number).await?.ended.is_some())
    }

    /// Tells whether a run was cancelled.
    ///
    /// # Errors
    /// When there is no such run; when the store fails.
    pub(crate) async fn is_cancelled(&self, number: u64) -> Result<bool, BillingError> {
        Ok(matches!(self.get(number).await?.ended, Some(Ended::Cancelled(_))))
    }
}

fn journal_of(run: u64) -> String {
    format!("run/{run}")
}
