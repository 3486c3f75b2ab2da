//! Entries: the lines of a document and its resources without a price, read a page at a time.
//!
//! A page costs the parts that it is in, wherever in the document that is. All entries of a document
//! are numbered together, from 0: first the lines, then those under `unpriced`.

use domain::BillingStore;
use edge::Compute;
use pricing::document::{DocumentLine, Waiting};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    journal,
    kept::{Kept, List, PART_BYTES, list_text},
};
use crate::{BillingError, error::compute};

/// Bytes of text at which a page is full, whatever was asked for. A client of gRPC takes four times as
/// much unless told otherwise.
pub(crate) const PAGE_BYTES: usize = PART_BYTES;

/// Entries of a document that follow one another.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) lines: Vec<DocumentLine>,
    pub(crate) unpriced: Vec<Waiting>,
    /// The place of the entry behind them, where there may be one.
    pub(crate) next: Option<u64>,
    bytes: usize,
}

impl Page {
    fn count(&self) -> usize {
        self.lines.len() + self.unpriced.len()
    }

    fn is_full(&self, limit: usize) -> bool {
        self.count() >= limit || self.bytes >= PAGE_BYTES
    }

    /// Adds entries of one list until the page is full.
    fn add(&mut self, list: List, entries: &[&RawValue], limit: usize) -> Result<(), String> {
        for entry in entries {
            // A page that has an entry stays within its bytes.
            let fits = self.count() == 0 || self.bytes + entry.get().len() <= PAGE_BYTES;
            if self.is_full(limit) || !fits {
                self.bytes = PAGE_BYTES;
                break;
            }
            self.bytes += entry.get().len();
            match list {
                List::Lines => self.lines.push(parsed(entry.get())?),
                List::Unpriced => self.unpriced.push(parsed(entry.get())?),
            }
        }
        Ok(())
    }
}

/// A page of a document from an entry on: at most `limit` entries and about [`PAGE_BYTES`], and one at
/// least where there is one.
///
/// # Errors
/// When the store fails. Within: why an entry is not understood.
pub(crate) async fn page(
    (store, pool): (&impl BillingStore, &Compute),
    kept: Kept,
    from: u64,
    limit: usize,
) -> Result<Result<Page, String>, BillingError> {
    let index = match kept {
        Kept::Whole(text) => {
            return compute(pool, move || of_whole(&text, from, limit)).await;
        }
        Kept::Parts(index) => index,
    };
    let (mut page, mut place, total) = (Page::default(), 0, index.parts().map(|part| part.1).sum());
    for (list, entries, digest) in index.parts() {
        let end = place + entries;
        if end > from && !page.is_full(limit) {
            let text = journal::content(store, digest).await?;
            let skipped = within(from.saturating_sub(place));
            let added = compute(pool, move || {
                let text = list_text(&text);
                let entries: Vec<&RawValue> = parsed(&text)?;
                page.add(list, entries.get(skipped..).unwrap_or_default(), limit).map(|()| page)
            });
            page = match added.await? {
                Ok(page) => page,
                Err(message) => return Ok(Err(message)),
            };
        }
        place = end;
    }
    page.next = next(&page, from, total);
    Ok(Ok(page))
}

fn of_whole(text: &[u8], from: u64, limit: usize) -> Result<Page, String> {
    let Lists { lines, unpriced } =
        serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let total = (lines.len() + unpriced.len()) as u64;
    let (skipped, mut page) = (within(from), Page::default());
    page.add(List::Lines, lines.get(skipped..).unwrap_or_default(), limit)?;
    let skipped = skipped.saturating_sub(lines.len());
    if !page.is_full(limit) {
        page.add(List::Unpriced, unpriced.get(skipped..).unwrap_or_default(), limit)?;
    }
    page.next = next(&page, from, total);
    Ok(page)
}

fn next(page: &Page, from: u64, total: u64) -> Option<u64> {
    Some(from.saturating_add(page.count() as u64)).filter(|next| *next < total)
}

fn within(place: u64) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

/// The lists of a document that is kept whole.
#[derive(Deserialize)]
struct Lists<'t> {
    #[serde(borrow)]
    lines: Vec<&'t RawValue>,
    #[serde(borrow, default)]
    unpriced: Vec<&'t RawValue>,
}

fn parsed<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}
