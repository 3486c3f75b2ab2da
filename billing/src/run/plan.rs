//! Plan: which runs a tick of the schedule opens.

use domain::{Tenant, Timestamp};
use pricing::timeline::Month;

use crate::{
    books::runs::{Ended, Run, RunRequest},
    config::{ScheduleConfig, ScheduledDeltas},
    due::Due,
    threshold::Threshold,
};

/// Tenants that a run of the schedule names. Where more are due, it is for all of them: that costs a
/// look at each ledger, and a list of thousands is for nobody to read.
const NAMED_MAX: usize = 100;

/// The runs of a tick, in the order in which they are to be worked on: what is due, from the oldest
/// month on, then deltas. `newest_first` are all runs.
pub(super) fn of_tick(
    now: Timestamp,
    schedule: &ScheduleConfig,
    due: &Due,
    newest_first: &[Run],
) -> Vec<RunRequest> {
    let is_open = |month: Month, deltas: bool| {
        let is_of = |run: &&Run| run.request.month == month && run.request.deltas == deltas;
        newest_first.iter().filter(is_of).any(|run| run.ended.is_none())
    };
    let waiting = due.months.iter().filter(|(month, _)| !is_open(**month, false));
    let mut requests: Vec<RunRequest> = waiting
        .map(|(month, tenants)| {
            let is_for_all = tenants.len() > NAMED_MAX || tenants.len() == due.tenants;
            let named = tenants.keys().filter(|_| !is_for_all);
            request(*month, named.map(Tenant::to_string).collect(), None)
        })
        .collect();
    if let ScheduledDeltas::Monthly(threshold) = &schedule.deltas {
        let this = Month::of(now);
        // Periods that begin in the last month may not be over yet.
        let mut month = due.from;
        while month < this.previous() {
            if was_billed(newest_first, month)
                && !is_open(month, true)
                && !had_deltas(newest_first, month, this)
            {
                requests.push(request(month, Vec::new(), Some(threshold)));
            }
            month = month.next();
        }
    }
    requests
}

fn request(month: Month, tenants: Vec<String>, deltas: Option<&Threshold>) -> RunRequest {
    RunRequest {
        month,
        tenants,
        deltas: deltas.is_some(),
        threshold: deltas.cloned().unwrap_or_default(),
        request_id: String::new(),
    }
}

/// Tells whether a run of the month has made documents, which may have changed.
fn was_billed(runs: &[Run], month: Month) -> bool {
    runs.iter().filter(|run| run.request.month == month).any(|run| match &run.ended {
        Some(Ended::Closed(results, _)) => results.outcomes.invoices > 0,
        // What it made before stays.
        Some(Ended::Cancelled(_)) => true,
        None => false,
    })
}

/// Tells whether a run for deltas of all tenants was opened in a calendar month.
fn had_deltas(runs: &[Run], month: Month, within: Month) -> bool {
    let is_for_all = |run: &&Run| run.request.deltas && run.request.tenants.is_empty();
    let of_month = runs.iter().filter(|run| run.request.month == month).filter(is_for_all);
    of_month.map(|run| Month::of(run.opened_at)).any(|opened| opened == within)
}

#[cfg(test)]
mod tests;
