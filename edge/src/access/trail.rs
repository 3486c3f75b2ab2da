//! Trail: who changed what and when, in the billing store's journals `audit-2026-01`, one a month.
//!
//! Entries are only ever added. A month is read in pages and found without reading those before it,
//! so an export needs one page of memory however long the trail is. Of what processes add at once
//! each entry has its place; within a month the order is that of adding, which differs from that of
//! the times by as much as the processes' clocks do.

mod entry;

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use domain::{BillingStore, Clock, Timestamp, store::StoreError};

use super::{journal, principal::Principal};
use crate::CorrelationId;

pub use entry::{AuditEntry, Evidence, Outcome, TEXT_BYTES_MAX, Who};

/// Most months of one query: twenty years.
pub const MONTHS_MAX: u32 = 240;

/// Most entries that one page reads; the page ends there, with what it has found.
pub const ENTRIES_READ_MAX: usize = 10_000;

/// A month of the years 1 to 9999, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Month(u32);

impl Month {
    /// The month of a moment.
    fn of(moment: Timestamp) -> Self {
        let text = moment.to_string();
        let number = |text: Option<&str>| text.and_then(|digits| digits.parse::<u32>().ok());
        let (year, month) = (number(text.get(..4)), number(text.get(5..7)));
        let (year, month) = year.zip(month).expect("a moment prints as year and month");
        Self(year * 12 + month - 1)
    }

    const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    fn journal(self) -> String {
        format!("audit-{self}")
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0 / 12, self.0 % 12 + 1)
    }
}

/// A place in the trail, to read on from. As text: `2026-01/17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrailPlace {
    month: Month,
    place: u64,
}

impl fmt::Display for TrailPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.month, self.place)
    }
}

/// A text that is no place in the trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a place in the audit trail; one looks like 2026-01/17")]
pub struct NotAPlace;

impl FromStr for TrailPlace {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let (month, place) = text.split_once('/').ok_or(NotAPlace)?;
        let (year, number) = month.split_once('-').ok_or(NotAPlace)?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let is_month = year.len() == 4 && number.len() == 2 && digits(year) && digits(number);
        let parsed = (year.parse::<u32>(), number.parse::<u32>(), place.parse::<u64>());
        match parsed {
            (Ok(year @ 1..=9_999), Ok(number @ 1..=12), Ok(place))
                if is_month && digits(text.get(8..).unwrap_or("")) =>
            {
                Ok(Self { month: Month(year * 12 + number - 1), place })
            }
            _ => Err(NotAPlace),
        }
    }
}

/// Which entries to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrailQuery {
    /// First moment.
    pub from: Timestamp,
    /// First moment after.
    pub to: Timestamp,
    /// Only those of the principal with this id or name.
    pub who: Option<String>,
    /// Only those of this method.
    pub method: Option<String>,
    /// Where to read on, as the page before said.
    pub after: Option<TrailPlace>,
    /// Most entries; at least 1.
    pub limit: usize,
}

/// Entries, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrailPage {
    /// The entries. May be fewer than asked for, or none, before the end.
    pub entries: Vec<AuditEntry>,
    /// Where to read on; `None` at the end.
    pub next: Option<TrailPlace>,
}

/// What cannot be read of the trail.
#[derive(Debug, thiserror::Error)]
pub enum TrailError {
    /// The range is reversed or too long.
    #[error("the range from {from} to {to} is empty, or has more than {MONTHS_MAX} months")]
    Range {
        /// As asked for.
        from: Timestamp,
        /// As asked for.
        to: Timestamp,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The audit trail of a deployment. Share it by `Arc`.
pub struct Trail<S> {
    store: Arc<S>,
    clock: Arc<dyn Clock>,
    /// The month that was added to last, and how many entries it has at least.
    end: Mutex<(Month, u64)>,
}

impl<S> fmt::Debug for Trail<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trail")
    }
}

impl<S: BillingStore> Trail<S> {
    /// The trail in a store.
    #[must_use]
    pub fn new(store: Arc<S>, clock: Arc<dyn Clock>) -> Self {
        let end = Mutex::new((Month(0), 0));
        Self { store, clock, end }
    }

    /// An entry about a call that is being answered now; [`Trail::record`] adds it.
    #[must_use]
    pub fn entry(
        &self,
        principal: &Principal,
        method: &str,
        request_id: &CorrelationId,
    ) -> AuditEntry {
        AuditEntry::new(self.clock.now(), principal, method, request_id)
    }

    /// Adds an entry, durable on return, and gives its place.
    ///
    /// # Errors
    /// Those of the store. With `Unavailable` it may be there all the same; recording it again could
    /// then add it twice.
    pub async fn record(&self, entry: &AuditEntry) -> Result<TrailPlace, StoreError> {
        let month = Month::of(entry.at);
        let known_end = match *self.end() {
            (last, end) if last == month => end,
            _ => 0,
        };
        let place = journal::add(&*self.store, &month.journal(), known_end, entry).await?;
        let mut end = self.end();
        if (month, place + 1) > *end {
            *end = (month, place + 1);
        }
        Ok(TrailPlace { month, place })
    }

    /// Reads a page. Reads at most [`ENTRIES_READ_MAX`] entries; repeat it with `next` until that is
    /// `None`.
    ///
    /// # Errors
    /// See [`TrailError`].
    pub async fn page(&self, query: &TrailQuery) -> Result<TrailPage, TrailError> {
        let (first, last) = (Month::of(query.from), Month::of(query.to));
        if query.from >= query.to || last.0 - first.0 >= MONTHS_MAX {
            return Err(TrailError::Range { from: query.from, to: query.to });
        }
        let start = TrailPlace { month: first, place: 0 };
        let mut at = query.after.map_or(start, |after| after.max(start));
        let (mut entries, mut reads) = (Vec::new(), 0);
        while at.month <= last {
            let journal = at.month.journal();
            let read: Vec<AuditEntry> =
                journal::page(&*self.store, &journal, at.place, journal::PAGE).await?;
            let is_end = read.len() < journal::PAGE;
            reads += read.len();
            for entry in read {
                at.place += 1;
                if query.takes(&entry) {
                    entries.push(entry);
                }
                if entries.len() >= query.limit {
                    return Ok(TrailPage { entries, next: Some(at) });
                }
            }
            if is_end {
                at = TrailPlace { month: at.month.next(), place: 0 };
            } else if reads >= ENTRIES_READ_MAX {
                return Ok(TrailPage { entries, next: Some(at) });
            }
        }
        Ok(TrailPage { entries, next: None })
    }

    fn end(&self) -> std::sync::MutexGuard<'_, (Month, u64)> {
        // Holds whole values only, so it is sound whoever panicked.
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TrailQuery {
    fn takes(&self, entry: &AuditEntry) -> bool {
        let is_who = |who: &String| *who == entry.who.id || *who == entry.who.name;
        self.from <= entry.at
            && entry.at < self.to
            && self.who.as_ref().is_none_or(is_who)
            && self.method.as_ref().is_none_or(|method| *method == entry.method)
    }
}

#[cfg(test)]
mod tests;
