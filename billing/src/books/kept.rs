//! Kept: how the text of a document is stored: whole, or in parts with an index.
//!
//! A text of at most [`PART_BYTES`] is one content under its digest. A longer one is cut between the
//! entries of its lists. Each part is a content of its own, and an index under the document's digest
//! names them in their order. The index is written last, and before any journal names the document:
//! a process that dies in between repeats work and leaves no half document.

use domain::BillingStore;
use pricing::document::{Bill, CreditNote, InvoiceDocument};
use runtime::fault;
use serde::{Deserialize, Serialize};
use serde_json::{
    Map, Value,
    value::{RawValue, to_raw_value},
};

use super::journal::{self, CHUNK_BYTES, DigestOfText};
use crate::BillingError;

/// Bytes of a part, unless one entry is longer, and of a document that is kept whole.
pub(crate) const PART_BYTES: usize = CHUNK_BYTES;

/// A list of a document, which is as long as the usage is wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum List {
    Lines,
    Unpriced,
}

impl List {
    /// In the order in which a document has them.
    pub(crate) const ALL: [Self; 2] = [Self::Lines, Self::Unpriced];

    /// Its key in the document.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Unpriced => "unpriced",
        }
    }
}

/// A document as it is stored.
#[derive(Debug)]
pub(crate) enum Kept {
    /// Its text.
    Whole(Vec<u8>),
    /// Where its text is.
    Parts(Index),
}

impl Kept {
    /// Bytes of its text.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Whole(text) => text.len() as u64,
            Self::Parts(index) => index.bytes,
        }
    }

    /// The text of the document with empty lists, and how many entries those have: lines, then
    /// resources without a price.
    ///
    /// # Errors
    /// Says where a document that is kept whole is damaged.
    pub(crate) fn frame(&self) -> Result<(String, [u64; 2]), String> {
        let text = match self {
            Self::Parts(index) => {
                return Ok((index.frame(), List::ALL.map(|list| index.entries(list))));
            }
            Self::Whole(text) => text,
        };
        let mut frame: Map<String, Value> =
            serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let counts = List::ALL.map(|list| match frame.get_mut(list.key()) {
            Some(Value::Array(entries)) => std::mem::take(entries).len() as u64,
            _ => 0,
        });
        Ok((Value::Object(frame).to_string(), counts))
    }
}

/// The pieces of a document's text, in order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Index {
    /// Bytes of the whole text.
    pub(crate) bytes: u64,
    pub(crate) pieces: Vec<Piece>,
}

/// A stretch of a document's text.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Piece {
    /// As it is. Without the parts, these are the text of the document with empty lists.
    Text(String),
    /// So many entries of a list, as content. Each but the list's first follows a comma.
    Part { list: List, entries: u64, digest: String },
}

/// An index with its own digest, so that a damaged one is known as such.
#[derive(Serialize, Deserialize)]
struct Sealed {
    digest: String,
    index: Box<RawValue>,
}

impl Index {
    /// The text of the document with empty lists.
    pub(crate) fn frame(&self) -> String {
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => Some(text.clone()),
            Piece::Part { .. } => None,
        };
        self.pieces.iter().filter_map(text).collect()
    }

    /// How many entries a list has.
    fn entries(&self, of: List) -> u64 {
        self.parts().filter(|(list, ..)| *list == of).map(|(_, entries, _)| entries).sum()
    }

    /// The parts, in order: list, entries, digest.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (List, u64, &str)> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Part { list, entries, digest } => Some((*list, *entries, digest.as_str())),
        })
    }
}

/// Stores a document and gives the digest of its text. Storing it again changes nothing.
///
/// # Errors
/// When the store fails, or holds other content under a digest.
pub(crate) async fn put(
    store: &impl BillingStore,
    document: &InvoiceDocument,
) -> Result<String, BillingError> {
    let (digest, bytes) = measured(document).await;
    if bytes <= PART_BYTES as u64 {
        return journal::put_content(store, &journal::bytes(document)).await;
    }
    if find_index(store, &digest).await?.is_some() {
        return Ok(digest);
    }
    let mut pieces = Vec::new();
    for cut in Cutting::new(document) {
        pieces.push(match cut {
            Cut::Text(text) => Piece::Text(text),
            Cut::Part { list, entries, text } => {
                fault::point("billing.before_part");
                let digest = journal::put_content(store, &text).await?;
                Piece::Part { list, entries, digest }
            }
        });
    }
    fault::point("billing.before_index");
    put_index(store, &digest, &Index { bytes, pieces }).await?;
    Ok(digest)
}

/// Finds a document by the digest of its text.
///
/// # Errors
/// When the store fails, or has nothing or something else under that digest.
pub(crate) async fn find(store: &impl BillingStore, digest: &str) -> Result<Kept, BillingError> {
    if let Some(text) = journal::find_content(store, digest).await? {
        return Ok(Kept::Whole(text));
    }
    let index = find_index(store, digest).await?;
    let missing = || journal::damaged(index_journal(digest), "there is no such document");
    index.map(Kept::Parts).ok_or_else(missing)
}

/// The text of a document.
///
/// # Errors
/// When the store fails, or a part is not what its digest says.
pub(crate) async fn text(
    store: &impl BillingStore,
    wanted: &str,
    kept: Kept,
) -> Result<Vec<u8>, BillingError> {
    let index = match kept {
        Kept::Whole(text) => return Ok(text),
        Kept::Parts(index) => index,
    };
    let mut text = Vec::new();
    for piece in index.pieces {
        match piece {
            Piece::Text(piece) => text.extend_from_slice(piece.as_bytes()),
            Piece::Part { digest, .. } => {
                text.extend_from_slice(&journal::content(store, &digest).await?);
            }
        }
    }
    match journal::digest(&text) == wanted {
        true => Ok(text),
        false => Err(journal::damaged(index_journal(wanted), "its parts are another document")),
    }
}

/// The digest and the bytes of a document's text, which is never in memory as a whole. Other tasks of
/// the thread run between the parts.
async fn measured(document: &InvoiceDocument) -> (String, u64) {
    let (mut digest, mut bytes) = (DigestOfText::new(), 0);
    for cut in Cutting::new(document) {
        let text = match &cut {
            Cut::Text(text) => text.as_bytes(),
            Cut::Part { text, .. } => text,
        };
        digest.push(text);
        bytes += text.len() as u64;
        if bytes > PART_BYTES as u64 {
            tokio::task::yield_now().await;
        }
    }
    (digest.digest(), bytes)
}

fn index_journal(digest: &str) -> String {
    format!("parts/{digest}")
}

async fn put_index(
    store: &impl BillingStore,
    digest: &str,
    index: &Index,
) -> Result<(), BillingError> {
    let index = to_raw_value(index).expect("an index is a plain structure");
    let sealed = Sealed { digest: journal::digest(index.get().as_bytes()), index };
    // Taken is as good: another process has stored the same document.
    journal::append(store, &index_journal(digest), 0, &sealed).await.map(drop)
}

async fn find_index(
    store: &impl BillingStore,
    digest: &str,
) -> Result<Option<Index>, BillingError> {
    let journal = index_journal(digest);
    let sealed: Vec<Sealed> = journal::read_page(store, &journal, 0, 1).await?;
    let Some(Sealed { digest, index }) = sealed.into_iter().next() else { return Ok(None) };
    if journal::digest(index.get().as_bytes()) != digest {
        return Err(journal::damaged(journal, "the index is not what its digest says"));
    }
    let read = serde_json::from_str(index.get());
    read.map(Some).map_err(|error| journal::damaged(journal, &error.to_string()))
}

/// A stretch of a document's text that was cut.
enum Cut {
    Text(String),
    Part { list: List, entries: u64, text: Vec<u8> },
}

/// The text of a document, cut between the entries of its lists. A stretch is made when it is taken.
struct Cutting<'d> {
    document: &'d InvoiceDocument,
    frame: std::vec::IntoIter<(String, Option<List>)>,
    /// The list that is being cut, and the place of its next entry.
    open: Option<(List, usize)>,
}

impl<'d> Cutting<'d> {
    fn new(document: &'d InvoiceDocument) -> Self {
        Self { document, frame: frame(document).into_iter(), open: None }
    }
}

impl Iterator for Cutting<'_> {
    type Item = Cut;

    fn next(&mut self) -> Option<Cut> {
        if let Some((list, from)) = self.open.take() {
            let (text, taken) = match list {
                List::Lines => cut(self.document.lines(), from),
                List::Unpriced => cut(self.document.unpriced(), from),
            };
            if taken > 0 {
                self.open = Some((list, from + taken));
                return Some(Cut::Part { list, entries: taken as u64, text });
            }
        }
        let (text, list) = self.frame.next()?;
        self.open = list.map(|list| (list, 0));
        Some(Cut::Text(text))
    }
}

/// The text of a list from an entry on, as much of it as fills a part, and how many entries that is.
fn cut<T: Serialize>(entries: &[T], from: usize) -> (Vec<u8>, usize) {
    let (mut text, mut taken) = (Vec::new(), 0);
    for (place, entry) in entries.iter().enumerate().skip(from) {
        let before = text.len();
        if place > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, entry).expect("entries are plain structures");
        if before > 0 && text.len() > PART_BYTES {
            text.truncate(before);
            break;
        }
        taken += 1;
    }
    (text, taken)
}

/// The text of a part as a list.
pub(crate) fn list_text(part: &[u8]) -> String {
    let entries = part.strip_prefix(b",").unwrap_or(part);
    format!("[{}]", String::from_utf8_lossy(entries))
}

/// The text around the lists of a document, each stretch with the list that it is followed by.
fn frame(document: &InvoiceDocument) -> Vec<(String, Option<List>)> {
    let text = journal::bytes(&without_lists(document));
    let mut rest = std::str::from_utf8(&text).expect("JSON is text");
    let mut frame = Vec::new();
    for list in List::ALL {
        // A quote within a text is escaped, so this is the key and nothing else.
        let key = format!(",\"{}\":[]", list.key());
        let Some(place) = rest.find(&key) else { continue };
        let (before, after) = rest.split_at(place + key.len() - 1);
        frame.push((before.to_owned(), Some(list)));
        rest = after;
    }
    frame.push((rest.to_owned(), None));
    frame
}

/// A document with empty lists.
pub(crate) fn without_lists(document: &InvoiceDocument) -> InvoiceDocument {
    match document {
        InvoiceDocument::Invoice(bill) => InvoiceDocument::Invoice(empty_bill(bill)),
        InvoiceDocument::Delta(bill) => InvoiceDocument::Delta(empty_bill(bill)),
        InvoiceDocument::Reversal(bill) => InvoiceDocument::Reversal(empty_bill(bill)),
        InvoiceDocument::Preview(bill) => InvoiceDocument::Preview(empty_bill(bill)),
        InvoiceDocument::CreditNote(note) => InvoiceDocument::CreditNote(CreditNote {
            corrects: note.corrects.clone(),
            reason: note.reason.clone(),
            tenant: note.tenant.clone(),
            currency: note.currency,
            period: note.period.clone(),
            payment_term_days: note.payment_term_days,
            total: note.total,
            lines: Vec::new(),
            request_id: note.request_id.clone(),
            note_kind: note.note_kind,
        }),
    }
}

fn empty_bill(bill: &Bill) -> Bill {
    Bill {
        tenant: bill.tenant.clone(),
        currency: bill.currency,
        period: bill.period.clone(),
        payment_term_days: bill.payment_term_days,
        contracts: bill.contracts.clone(),
        subtotals: bill.subtotals.clone(),
        total: bill.total,
        lines: Vec::new(),
        unpriced: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
