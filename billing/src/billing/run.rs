//! Run: the billing of a month, for all tenants or for some.
//!
//! A run is opened in one journal and keeps a journal of its own: its cut, and how it ended. All
//! periods that begin in the month and were over, with the grace, when the cut was taken are billed;
//! those that have an invoice already are left as they are, or get a delta where the run is for
//! deltas. Such a run also reverses documents of the month whose periods there are no more. Opening a
//! run that is open gives that run.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use domain::{BillingStore, PulseLog, Tenant, Timestamp, UsageStore, billing::Appended};
use futures_util::StreamExt as _;
use runtime::fault;
use serde::{Deserialize, Serialize};

use super::{
    Billing, BillingError, Refusal,
    cut::{Below, Cut},
    journal,
};
use pricing::{moment::Calendar, timeline::Month};

const RUNS: &str = "runs";

/// What a run is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRequest {
    /// The month in which periods begin.
    #[serde(with = "journal::text")]
    pub month: Month,
    /// The tenants, sorted; empty for all.
    pub tenants: Vec<String>,
    /// Whether periods that have an invoice get a delta where something changed since, and documents
    /// whose periods there are no more a reversal.
    pub deltas: bool,
    /// What names the request, so that asking again gives the same run; may be empty.
    #[serde(default)]
    pub request_id: String,
}

/// A run as it was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Opened {
    #[serde(flatten)]
    request: RunRequest,
    #[serde(with = "journal::moment")]
    opened_at: Timestamp,
}

/// An entry of a run's own journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    /// Its cut was taken.
    Cut(Cut),
    /// Every period is through.
    Closed {
        outcomes: Outcomes,
        #[serde(with = "journal::moment")]
        at: Timestamp,
    },
    /// It was cancelled; drafts are discarded, what is final stays.
    Cancelled {
        #[serde(with = "journal::moment")]
        at: Timestamp,
    },
}

/// How many periods came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// New invoices.
    pub invoices: u64,
    /// New deltas and reversals.
    pub deltas: u64,
    /// Periods that had an invoice, and nothing to add.
    pub unchanged: u64,
    /// Periods without anything to bill.
    pub empty: u64,
    /// Periods that are not over yet, with the grace.
    pub not_due: u64,
    /// Resources of usage that wait for a price, over all periods that were billed.
    pub unpriced: u64,
    /// Periods that wait for a run for deltas: documents of other periods bill a part of them, or their
    /// own do not bill all of it.
    #[serde(default)]
    pub blocked: u64,
    /// Resources that were used in the month behind a contract that ended, or between two.
    #[serde(default)]
    pub uncovered: u64,
}

/// What came of one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Invoice,
    Delta,
    Unchanged,
    Empty,
    NotDue,
    Blocked,
}

/// A run and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its number, from 1.
    pub number: u64,
    /// What it is for.
    pub request: RunRequest,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// The line below which it bills, once it has one.
    pub cut: Option<Cut>,
    /// How it ended.
    pub ended: Option<Ended>,
    /// Entries of its journal.
    entries: u64,
}

impl Run {
    /// Tells whether it has billed periods and left none of its month to wait for.
    #[must_use]
    pub const fn is_through(&self) -> bool {
        match self.ended {
            Some(Ended::Closed(outcomes, _)) => {
                let Outcomes { invoices, unchanged, empty, not_due, blocked, .. } = outcomes;
                not_due + blocked == 0 && invoices + unchanged + empty > 0
            }
            _ => false,
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every period is through.
    Closed(Outcomes, Timestamp),
    /// It was cancelled.
    Cancelled(Timestamp),
}

/// What this process is doing about a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What it does or waits for, for a person; empty once it has stopped.
    pub doing: String,
    /// Tenants that are through.
    pub tenants_done: u64,
    /// Periods so far.
    pub outcomes: Outcomes,
    /// Tenants that could not be billed, with the reason, at most 100; the run stays open.
    pub failures: Vec<(String, String)>,
    /// Tenants with periods that are blocked, with what to do, at most 100.
    pub blocked: Vec<(String, String)>,
}

const FAILURES_MAX: usize = 100;

/// Progress by run.
#[derive(Debug, Default)]
pub(super) struct Progresses(Mutex<HashMap<u64, Progress>>);

impl Progresses {
    fn change(&self, run: u64, change: impl FnOnce(&mut Progress)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(run).or_default());
    }

    /// Tells people what a period waits for.
    pub(super) fn blocked(&self, run: u64, tenant: &Tenant, why: String) {
        tracing::warn!(run, %tenant, why, "a period was not billed");
        self.change(run, |progress| {
            if progress.blocked.len() < FAILURES_MAX {
                progress.blocked.push((tenant.to_string(), why));
            }
        });
    }

    fn of(&self, run: u64) -> Progress {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&run).cloned().unwrap_or_default()
    }
}

impl Outcomes {
    pub(super) fn count(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Invoice => &mut self.invoices,
            Outcome::Delta => &mut self.deltas,
            Outcome::Unchanged => &mut self.unchanged,
            Outcome::Empty => &mut self.empty,
            Outcome::NotDue => &mut self.not_due,
            Outcome::Blocked => &mut self.blocked,
        } += 1;
    }

    fn add(&mut self, other: Self) {
        let Self { invoices, deltas, unchanged, empty, not_due, unpriced, blocked, uncovered } =
            other;
        self.invoices += invoices;
        self.deltas += deltas;
        self.unchanged += unchanged;
        self.empty += empty;
        self.not_due += not_due;
        self.unpriced += unpriced;
        self.blocked += blocked;
        self.uncovered += uncovered;
    }
}

impl<U: UsageStore, B: BillingStore, L: PulseLog> Billing<U, B, L> {
    /// Opens a run, or gives the one that is open for the same, or has the same request id.
    ///
    /// # Errors
    /// When no period of the month is over yet; when the store fails.
    pub async fn open_run(&self, request: RunRequest) -> Result<Run, BillingError> {
        self.check_due(&request).await?;
        loop {
            let opened: Vec<Opened> = journal::read(&*self.billing, RUNS, 0).await?;
            for (number, before) in (1..).zip(&opened) {
                let same_id = !request.request_id.is_empty()
                    && before.request.request_id == request.request_id;
                let alike = RunRequest { request_id: String::new(), ..before.request.clone() }
                    == RunRequest { request_id: String::new(), ..request.clone() };
                if same_id || (alike && self.run(number).await?.ended.is_none()) {
                    return self.run(number).await;
                }
            }
            let place = opened.len() as u64;
            let entry = Opened { request: request.clone(), opened_at: self.now() };
            if journal::append(&*self.billing, RUNS, place, &entry).await? == Appended::Added {
                fault::point("billing.after_open");
                return self.run(place + 1).await;
            }
        }
    }

    /// Refuses a month of which no period can be due yet.
    async fn check_due(&self, request: &RunRequest) -> Result<(), BillingError> {
        // The earliest end of a period that begins in the month: a day after its first moment, in
        // the zone that is furthest ahead. What is due in detail is decided tenant by tenant.
        let starts = request.month.window(&Calendar::UTC).map(|month| month.start);
        let day = std::time::Duration::from_secs(86_400);
        let earliest =
            starts.map_or(Timestamp::MAX, |start| start.minus(day).plus(self.config.grace));
        if self.now() < earliest {
            return Err(BillingError::refused(
                Refusal::NotDue,
                format!(
                    "{} has not come yet: its periods are billed after their end and {:?} of grace",
                    request.month, self.config.grace
                ),
            ));
        }
        Ok(())
    }

    /// A run.
    ///
    /// # Errors
    /// When there is no such run; when the store fails.
    pub async fn run(&self, number: u64) -> Result<Run, BillingError> {
        let missing = || {
            BillingError::refused(Refusal::RunNotFound, format!("there is no billing run {number}"))
        };
        let place = number.checked_sub(1).ok_or_else(missing)?;
        let opened: Vec<Opened> = journal::read_page(&*self.billing, RUNS, place, 1).await?;
        let Opened { request, opened_at } = opened.into_iter().next().ok_or_else(missing)?;
        let events: Vec<Event> = journal::read(&*self.billing, &journal_of(number), 0).await?;
        let entries = events.len() as u64;
        let mut run = Run { number, request, opened_at, cut: None, ended: None, entries };
        for event in events {
            match event {
                // The first of each kind stands; nothing is added behind an end.
                Event::Cut(cut) => _ = run.cut.get_or_insert(cut),
                Event::Closed { outcomes, at } => {
                    _ = run.ended.get_or_insert(Ended::Closed(outcomes, at));
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
    pub async fn runs(&self) -> Result<Vec<Run>, BillingError> {
        let opened: Vec<Opened> = journal::read(&*self.billing, RUNS, 0).await?;
        let mut runs = Vec::with_capacity(opened.len());
        for number in (1..=opened.len() as u64).rev() {
            runs.push(self.run(number).await?);
        }
        Ok(runs)
    }

    /// What this process is doing about a run.
    #[must_use]
    pub fn progress(&self, run: u64) -> Progress {
        self.shared.progress.of(run)
    }

    /// Says that this process is about to go on with a run: whoever asks from now on is told nothing
    /// of an attempt before.
    pub fn begin(&self, number: u64) {
        let beginning = Progress { doing: "beginning".to_owned(), ..Progress::default() };
        self.shared.progress.change(number, |progress| *progress = beginning);
    }

    /// Takes a run to its end: its cut, then every tenant. Whatever was done before is found and not
    /// done again, by this process or by others at the same time.
    ///
    /// # Errors
    /// When the cut cannot be taken, or the store fails. What a tenant fails at is in the progress,
    /// and leaves the run open.
    pub async fn execute(&self, number: u64) -> Result<Run, BillingError> {
        self.shared.progress.change(number, |progress| *progress = Progress::default());
        let executed = self.execute_steps(number).await;
        self.shared.progress.change(number, |progress| match &executed {
            Ok(_) => progress.doing.clear(),
            Err(error) => progress.doing = format!("stopped: {error}"),
        });
        executed
    }

    async fn execute_steps(&self, number: u64) -> Result<Run, BillingError> {
        let run = self.with_cut(number).await?;
        let Some(cut) = run.cut.clone().filter(|_| run.ended.is_none()) else { return Ok(run) };
        let below = self.below(&cut).await?;
        let tenants = self.tenants(&run, &cut).await?;
        let total = tenants.len();
        self.shared.progress.change(number, |progress| {
            progress.doing = format!("billing {total} tenants");
        });
        let (run, below) = (&run, &below);
        futures_util::stream::iter(tenants)
            .map(|tenant| async move { self.bill_one(run, below, tenant).await })
            .buffer_unordered(self.config.tenants_at_once.max(1))
            .collect::<Vec<()>>()
            .await;
        let progress = self.progress(number);
        if progress.failures.is_empty() {
            fault::point("billing.before_close");
            self.end(number, |at| Event::Closed { outcomes: progress.outcomes, at }).await?;
        }
        self.run(number).await
    }

    async fn bill_one(&self, run: &Run, below: &Below, tenant: Tenant) {
        let billed = self.bill_tenant(run, below, &tenant).await;
        self.shared.progress.change(run.number, |progress| match billed {
            Ok(outcomes) => {
                progress.tenants_done += 1;
                progress.outcomes.add(outcomes);
            }
            Err(error) => {
                tracing::warn!(run = run.number, %tenant, %error, "a tenant was not billed");
                if progress.failures.len() < FAILURES_MAX {
                    progress.failures.push((tenant.to_string(), error.to_string()));
                }
            }
        });
    }

    /// The run with its cut, which is taken now if it has none.
    async fn with_cut(&self, number: u64) -> Result<Run, BillingError> {
        loop {
            let run = self.run(number).await?;
            if run.cut.is_some() || run.ended.is_some() {
                return Ok(run);
            }
            let catalogue = self.latest_catalogue().await?;
            let contracts = self.contracts().await?.len() as u64;
            let tell = |waiting: String| {
                self.shared.progress.change(number, |progress| progress.doing = waiting);
            };
            tell("taking the cut".to_owned());
            // What is due is what was over, with the grace, at this moment of log time.
            let complete = self.now();
            let cut = self.take_cut(complete, catalogue, contracts, &tell).await?;
            let cut = Cut { taken_at: complete, ..cut };
            fault::point("billing.before_cut");
            let journal = journal_of(number);
            journal::append(&*self.billing, &journal, run.entries, &Event::Cut(cut)).await?;
            fault::point("billing.after_cut");
        }
    }

    /// The tenants of a run: all that have usage or a contract, or those it names. Sorted.
    async fn tenants(&self, run: &Run, cut: &Cut) -> Result<BTreeSet<Tenant>, BillingError> {
        if !run.request.tenants.is_empty() {
            let named = run.request.tenants.iter().filter_map(|tenant| Tenant::new(tenant).ok());
            return Ok(named.collect());
        }
        self.all_tenants(cut.contracts).await
    }

    /// All tenants that have usage, or one of the first `count` contracts.
    pub(super) async fn all_tenants(&self, count: u64) -> Result<BTreeSet<Tenant>, BillingError> {
        let mut tenants = BTreeSet::new();
        let contracts = self.contracts().await?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let known = contracts.iter().take(count).map(|known| known.contract.tenant.clone());
        tenants.extend(known);
        let mut after: Option<Tenant> = None;
        loop {
            let page = self.usage.tenants(after.as_ref(), self.config.page_rows.max(1)).await?;
            let Some(last) = page.last().cloned() else { return Ok(tenants) };
            after = Some(last);
            tenants.extend(page);
        }
    }

    /// Cancels a run: nobody makes more documents for it, and its drafts are discarded. What is final
    /// stays, and what already has a number becomes final. Cancelling again does nothing.
    ///
    /// # Errors
    /// When the run is closed or there is none; when the store fails.
    pub async fn cancel(&self, number: u64) -> Result<Run, BillingError> {
        let run = self.end(number, |at| Event::Cancelled { at }).await?;
        if let Some(Ended::Closed(..)) = run.ended {
            let message = format!(
                "run {number} has ended; a final invoice is taken back with `pulso invoice void`"
            );
            return Err(BillingError::refused(Refusal::RunEnded, message));
        }
        if let Some(cut) = &run.cut {
            for tenant in self.tenants(&run, cut).await? {
                self.settle_drafts(&run, &tenant).await?;
            }
        }
        Ok(run)
    }

    /// Ends a run, unless it has ended.
    async fn end(
        &self,
        number: u64,
        event: impl Fn(Timestamp) -> Event,
    ) -> Result<Run, BillingError> {
        loop {
            let run = self.run(number).await?;
            if run.ended.is_some() {
                return Ok(run);
            }
            let journal = journal_of(number);
            journal::append(&*self.billing, &journal, run.entries, &event(self.now())).await?;
        }
    }

    /// The runs that have not ended, oldest first: what a start goes on with.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open_runs(&self) -> Result<Vec<u64>, BillingError> {
        let mut runs = self.runs().await?;
        runs.retain(|run| run.ended.is_none());
        Ok(runs.iter().rev().map(|run| run.number).collect())
    }
}

fn journal_of(run: u64) -> String {
    format!("run/{run}")
}
