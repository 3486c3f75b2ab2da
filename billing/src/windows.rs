//! Windows: whether contracts and periods begin and end on edges of the windows that usage is kept by.
//!
//! Usage inside a window cannot be told apart. So a contract in a zone whose days begin inside a window
//! is refused when it is offered, and a period that begins or ends in one is not billed: refused with a
//! remedy, never cut somewhere near. On a log that got shorter windows by growing, rows from before may
//! still be across an edge; they are looked at one by one.

use std::{sync::Arc, time::Duration};

use domain::{
    BlockStore, LogWindows, SegmentId, Timestamp, UsageCursor, UsageRow, Window, WindowLength,
    contract::Contract, generation::Generation,
};
use pricing::{moment::Calendar, timeline::BillingPeriod};
use tokio::sync::OnceCell;

use crate::{BillingError, Refusal, usage};

/// Most rows that the check of one contract looks at. Only on a log that got shorter windows by growing,
/// and only of the contract's tenant from its first day on.
const ROWS_CHECKED_MAX: usize = 1_000_000;

/// The windows of the log, of which this process knows the newest generation.
pub(crate) struct Windows<U> {
    usage: Arc<U>,
    newest: Generation,
    page_rows: usize,
    /// Generations before the newest never change, and a process starts again on each new one.
    known: OnceCell<LogWindows>,
}

impl<U: BlockStore> Windows<U> {
    /// Takes the store, the log's newest generation, and how many rows are read at once.
    pub(crate) fn new(usage: Arc<U>, newest: Generation, page_rows: usize) -> Self {
        Self { usage, newest, page_rows: page_rows.max(1), known: OnceCell::new() }
    }

    /// Those of all generations. Asks the store the first time.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn of_log(&self) -> Result<&LogWindows, BillingError> {
        let reading = async || {
            let generations = self.usage.generations().await?;
            let older = generations.iter().take_while(|known| known.log_id != self.newest.log_id);
            Ok(LogWindows::of(&self.newest, older))
        };
        self.known.get_or_try_init(reading).await
    }

    /// Refuses a period that begins or ends inside a window.
    ///
    /// # Errors
    /// `WindowsTooLong`.
    pub(crate) fn check_edges(&self, period: Window) -> Result<(), BillingError> {
        let edges = [period.start, period.end];
        let are_on = |length: WindowLength| edges.iter().all(|at| length.start_of(*at) == *at);
        if are_on(self.newest.window) {
            return Ok(());
        }
        Err(too_long(format!(
            "the billing period from {} to {} does not begin and end on edges of the log's windows of {}: {}",
            period.start,
            period.end,
            self.newest.window,
            match WindowLength::OF_LOGS.into_iter().find(|length| are_on(*length)) {
                Some(length) => shorter(length),
                None => "windows of no length fit: apply a contract in another zone".to_owned(),
            }
        )))
    }

    /// Refuses a contract in whose zone a day begins inside a window, from its first day on, whatever
    /// the zone's clocks do. Usage that was counted in longer windows, before the log had its present
    /// ones, is looked at only if the zone's days begin inside those.
    ///
    /// # Errors
    /// `WindowsTooLong`, with a remedy. When the store fails.
    pub(crate) async fn check_contract(&self, contract: &Contract) -> Result<(), BillingError> {
        let zone = contract.terms.time_zone.as_str();
        let Some(calendar) = Calendar::named(zone) else { return Ok(()) };
        let (name, agreed) = (contract.name.as_str(), contract.agreed());
        check_zone(name, (&calendar, agreed), self.newest.window)?;
        let windows = self.of_log().await?;
        let was_inside = |length| calendar.day_inside(length, agreed).is_some();
        if windows.are_alike() || !was_inside(windows.longest()) {
            return Ok(());
        }
        let journal = self.usage.journal().await?;
        if windows.longer().any(|log_id| journal.log(log_id).sealed().is_none()) {
            return Err(too_long(format!(
                "contract {:?} is in {zone}, which needs the log's new windows of {}, and what has longer ones has not ended yet: apply it again once `pulso log show` says `ended`",
                name,
                windows.newest(),
            )));
        }
        let Some(last) = self.last_across(contract, &calendar, windows).await? else {
            return Ok(());
        };
        Err(too_long(format!(
            "contract {:?} is in {zone}, where a day begins inside {} to {}, which the log counted as one window of tenant {} before its windows became shorter: let it begin on {} or later",
            name,
            last.start,
            last.end,
            contract.tenant,
            first_day(&calendar, last.end),
        )))
    }

    /// The last window of the tenant's usage, from the contract's first day on, inside which a day of its
    /// zone begins.
    async fn last_across(
        &self,
        contract: &Contract,
        calendar: &Calendar,
        windows: &LogWindows,
    ) -> Result<Option<Window>, BillingError> {
        let agreed = windows.reaching_into(contract.agreed());
        let filter = usage::of_tenant(&contract.tenant, agreed);
        let view = self.usage.active_view().await?;
        let (mut last, mut looked_at): (Option<Window>, usize) = (None, 0);
        let wanted = |segment: &SegmentId| view.counts(segment);
        let mut cursor = UsageCursor::open(&*self.usage, filter, wanted).await?;
        while let Some(rows) = cursor.next(&*self.usage, self.page_rows).await? {
            for row in &rows {
                let window = windows.window_of(&row.key);
                let is_known = last.is_some_and(|last| window.end <= last.end);
                if !is_known && begins_inside(calendar, window) {
                    last = Some(window);
                }
            }
            looked_at += rows.len();
            if looked_at >= ROWS_CHECKED_MAX {
                return Err(too_long(format!(
                    "contract {:?}: tenant {} has more than {ROWS_CHECKED_MAX} rows of usage from its first day on, too many to tell whether windows from before the log grew fit {}: let it begin on a later day",
                    contract.name.as_str(),
                    contract.tenant,
                    calendar.zone(),
                )));
            }
        }
        Ok(last)
    }
}

/// Refuses a contract in whose zone a day begins inside a window of this length, while it holds.
///
/// # Errors
/// `WindowsTooLong`, with a remedy.
pub fn check_zone(
    contract: &str,
    (calendar, agreed): (&Calendar, Window),
    window: WindowLength,
) -> Result<(), BillingError> {
    let Some(day) = calendar.day_inside(window, agreed) else { return Ok(()) };
    let fits = |length: &WindowLength| calendar.day_inside(*length, agreed).is_none();
    Err(too_long(format!(
        "contract {contract:?} is in {}, where the day {} begins at {day}, inside one of the log's windows of {window}: {}",
        calendar.zone(),
        calendar.date_of(day),
        match WindowLength::OF_LOGS.into_iter().find(fits) {
            Some(length) => shorter(length),
            None => later(calendar, agreed),
        }
    )))
}

/// Refuses rows whose windows are across an edge of a period, or of a contract inside it.
///
/// # Errors
/// `WindowsTooLong`, for the first of them.
pub(crate) fn check_rows(
    windows: &LogWindows,
    period: &BillingPeriod<'_>,
    rows: &[UsageRow],
) -> Result<(), BillingError> {
    if windows.are_alike() {
        return Ok(());
    }
    let parts = period.parts.iter().map(|part| part.window);
    let edges = parts.chain([period.window]).flat_map(|window| [window.start, window.end]);
    let edges: Vec<Timestamp> = edges.collect();
    let inside = |row: &UsageRow| {
        let edge = edges.iter().find(|edge| windows.is_across(&row.key, **edge))?;
        Some((windows.window_of(&row.key), *edge))
    };
    let Some((Window { start, end }, edge)) = rows.iter().find_map(inside) else { return Ok(()) };
    let zone = period.terms().time_zone.as_str();
    let day = first_day(&Calendar::named(zone).unwrap_or(Calendar::UTC), end);
    Err(too_long(format!(
        "usage of {start} to {end} was counted as one window, before the log's windows became shorter, and {edge}, where a period or a contract begins or ends, is inside it: apply a contract in UTC up to a day from {day} on, and behind it one in {zone}"
    )))
}

fn begins_inside(calendar: &Calendar, window: Window) -> bool {
    let after_start = window.start.plus(Duration::from_micros(1));
    calendar.day_from(after_start).is_some_and(|day| day < window.end)
}

/// The date of the first day that begins at a moment or later.
fn first_day(calendar: &Calendar, moment: Timestamp) -> String {
    calendar.date_of(calendar.day_from(moment).unwrap_or(Timestamp::MAX))
}

/// What to do, where windows of this length would fit.
fn shorter(length: WindowLength) -> String {
    format!(
        "let the log have windows of {length}. On Kafka `pulso log grow --window {length}` makes them so; an embedded log keeps its own, so begin a new one (another data_dir) with log.window = \"{length}\" and send the usage again"
    )
}

/// What to do where no windows fit: long ago, zones were odd minutes and seconds off UTC.
fn later(calendar: &Calendar, agreed: Window) -> String {
    match calendar.day_from_which_fit(WindowLength::QUARTER_HOUR, agreed) {
        Some(day) => format!(
            "windows of no length fit the zone as it was then: let the contract begin on {} or later, or take another zone",
            calendar.date_of(day)
        ),
        None => "windows of no length fit the zone: take another one".to_owned(),
    }
}

fn too_long(message: String) -> BillingError {
    BillingError::refused(Refusal::WindowsTooLong, message)
}

#[cfg(test)]
mod tests;
