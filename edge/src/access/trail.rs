//! Trail: who changed what and when, in the billing store's journals.
//!
//! Each call that writes has two entries. That it has begun is in the journal of its month,
//! `audit-2026-01`, before the call changes anything. How it ended is the only entry of a journal of
//! its own, `audit-2026-01/17` for the call at place 17, so the store itself holds a call to one end
//! and a reader finds it in one read. A call without an end is under way, or its process died: what
//! became of it is not known.
//!
//! Entries are only ever added. A month is read in pages and found without reading those before it,
//! so an export needs one page of memory however long the trail is. Of what processes add at once
//! each entry has its place; within a month the order is that of adding, which differs from that of
//! the times by as much as the processes' clocks do.

mod entry;
mod place;

use std::{fmt, sync::Arc};

use domain::{
    BillingStore, Clock, Timestamp,
    billing::{Appended, ENTRY_BYTES_MAX},
    store::StoreError,
};
use futures_util::{StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use tokio::sync::Mutex;

use self::place::Month;
use super::journal;

pub use entry::{Begun, Ended, Evidence, Outcome, TARGET_BYTES_MAX, TEXT_BYTES_MAX, Who};
pub use place::{NotAPlace, TrailPlace};

/// Most months of one query: twenty years.
pub const MONTHS_MAX: u32 = 240;

/// Most entries that one page reads; the page ends there, with what it has found.
pub const ENTRIES_READ_MAX: usize = 10_000;

/// A page ends behind the entry whose texts bring it to so many bytes or more. With that entry (at most
/// 130 KiB) and what encodes a thousand of them it has less than 4 MiB, the most that gRPC clients take
/// unless told otherwise.
pub const PAGE_BYTES_MAX: usize = 3 << 20;

/// Ends of calls that are read at once: with [`TEXT_BYTES_MAX`] before and after, 1 MiB.
const ENDS_AT_ONCE: usize = 8;

/// Tries to add an end while the store does not answer.
const END_TRIES_MAX: u32 = 3;

/// One call, with its end where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// That it has begun.
    pub begun: Begun,
    /// How it ended; `None` while that is not known.
    pub ended: Option<Ended>,
}

/// Which entries to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrailQuery {
    /// First moment at which a call has begun.
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

/// Entries in the order in which they were added.
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

/// Where the gate records calls, whatever store that is in.
pub trait Record: Send + Sync + 'static {
    /// The clock that entries go by.
    fn clock(&self) -> &Arc<dyn Clock>;

    /// As [`Trail::begin`].
    ///
    /// # Errors
    /// Those of the store.
    fn begin<'a>(&'a self, begun: &'a Begun) -> BoxFuture<'a, Result<TrailPlace, StoreError>>;

    /// As [`Trail::end`].
    ///
    /// # Errors
    /// Those of the store.
    fn end<'a>(
        &'a self,
        call: TrailPlace,
        ended: &'a Ended,
    ) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// The audit trail of a deployment. Share it by `Arc`.
pub struct Trail<S> {
    store: Arc<S>,
    clock: Arc<dyn Clock>,
    /// Where the next entry belongs, or a place before. Held while an entry is added, across that await:
    /// entries of one process that went for the same place together would take it from each other.
    next: Mutex<Option<TrailPlace>>,
}

impl<S> fmt::Debug for Trail<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trail")
    }
}

impl<S: BillingStore> Record for Trail<S> {
    fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    fn begin<'a>(&'a self, begun: &'a Begun) -> BoxFuture<'a, Result<TrailPlace, StoreError>> {
        Box::pin(Self::begin(self, begun))
    }

    fn end<'a>(
        &'a self,
        call: TrailPlace,
        ended: &'a Ended,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(Self::end(self, call, ended))
    }
}

impl<S: BillingStore> Trail<S> {
    /// The trail in a store.
    #[must_use]
    pub fn new(store: Arc<S>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, next: Mutex::new(None) }
    }

    /// Adds that a call has begun, durable on return, and gives its place.
    ///
    /// # Errors
    /// Those of the store. With `Unavailable` it may be there all the same, as a call without an end.
    pub async fn begin(&self, begun: &Begun) -> Result<TrailPlace, StoreError> {
        let month = Month::of(begun.at);
        let mut next = self.next.lock().await;
        let known = next.filter(|next| next.month == month).map_or(0, |next| next.place);
        let place = journal::add(&*self.store, &month.journal(), known, begun).await?;
        *next = Some(TrailPlace { month, place: place + 1 });
        Ok(TrailPlace { month, place })
    }

    /// Adds how a call ended, durable on return. A call has one end: adding another changes nothing.
    ///
    /// # Errors
    /// Those of the store. After `Unavailable` it may be added again.
    pub async fn end(&self, call: TrailPlace, ended: &Ended) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(ended).expect("entries are plain structures");
        if bytes.len() > ENTRY_BYTES_MAX {
            let message = format!("the end of the call at {call} with {} bytes", bytes.len());
            return Err(StoreError::TooLarge(message));
        }
        let journal = call.end_journal();
        let mut tries = 1;
        loop {
            match self.store.append_entry(&journal, 0, &bytes).await {
                Ok(Appended::Added | Appended::Taken) => return Ok(()),
                Err(StoreError::Unavailable(_)) if tries < END_TRIES_MAX => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads a page. Reads at most [`ENTRIES_READ_MAX`] calls, and the ends of those that it gives;
    /// repeat it with `next` until that is `None`.
    ///
    /// # Errors
    /// See [`TrailError`].
    pub async fn page(&self, query: &TrailQuery) -> Result<TrailPage, TrailError> {
        let (first, last) = (Month::of(query.from), Month::of(query.to));
        if query.from >= query.to || first.until(last) >= MONTHS_MAX {
            return Err(TrailError::Range { from: query.from, to: query.to });
        }
        let start = TrailPlace::start_of(first);
        let mut at = query.after.map_or(start, |after| after.max(start));
        let mut page = Page { entries: Vec::new(), bytes: 0, limit: query.limit };
        let mut reads = 0;
        while at.month <= last {
            let journal = at.month.journal();
            let read: Vec<Begun> =
                journal::page(&*self.store, &journal, at.place, journal::PAGE).await?;
            let is_end = read.len() < journal::PAGE;
            reads += read.len();
            let places = (at.place..).map(|place| TrailPlace { place, ..at });
            at.place += read.len() as u64;
            let taken = places.zip(read).filter(|(_, begun)| query.takes(begun));
            if let Some(next) = self.fill(&mut page, taken).await? {
                return Ok(TrailPage { entries: page.entries, next: Some(next) });
            }
            if is_end {
                at = TrailPlace::start_of(at.month.next());
            } else if reads >= ENTRIES_READ_MAX {
                return Ok(TrailPage { entries: page.entries, next: Some(at) });
            }
        }
        Ok(TrailPage { entries: page.entries, next: None })
    }

    /// Puts calls with their ends onto a page. Gives where the next page begins once this one is full.
    async fn fill(
        &self,
        page: &mut Page,
        calls: impl Iterator<Item = (TrailPlace, Begun)> + Send,
    ) -> Result<Option<TrailPlace>, StoreError> {
        let ends = stream::iter(calls).map(|(place, begun)| self.ended(place, begun));
        let mut ends = std::pin::pin!(ends.buffered(ENDS_AT_ONCE));
        while let Some((place, entry)) = ends.try_next().await? {
            page.bytes += entry.begun.bytes() + entry.ended.as_ref().map_or(0, Ended::bytes);
            page.entries.push(entry);
            if page.is_full() {
                return Ok(Some(TrailPlace { place: place.place + 1, ..place }));
            }
        }
        Ok(None)
    }

    /// A call with its end.
    async fn ended(
        &self,
        place: TrailPlace,
        mut begun: Begun,
    ) -> Result<(TrailPlace, AuditEntry), StoreError> {
        let ended = match begun.ended.take() {
            Some(ended) => Some(ended),
            None => journal::page(&*self.store, &place.end_journal(), 0, 1).await?.pop(),
        };
        Ok((place, AuditEntry { begun, ended }))
    }
}

/// A page that is being filled.
struct Page {
    entries: Vec<AuditEntry>,
    /// Of the texts of all entries.
    bytes: usize,
    limit: usize,
}

impl Page {
    fn is_full(&self) -> bool {
        self.entries.len() >= self.limit || self.bytes >= PAGE_BYTES_MAX
    }
}

impl TrailQuery {
    fn takes(&self, begun: &Begun) -> bool {
        let is_who = |who: &String| *who == begun.who.id || *who == begun.who.name;
        self.from <= begun.at
            && begun.at < self.to
            && self.who.as_ref().is_none_or(is_who)
            && self.method.as_ref().is_none_or(|method| *method == begun.method)
    }
}

#[cfg(test)]
mod tests;
