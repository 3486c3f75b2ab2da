//! Document: what was issued, or would be, as the JSON that is stored, published and shown.
//!
//! Invariant I9 rests on these types: the same document has the same bytes, because keys are written in
//! the order of the fields and amounts with the digits that they were read with. Keys are only ever
//! added. A reader ignores a key that it does not know; whoever is to reckon with a document or to
//! write a part of it again first checks that all of it is known, by writing it and comparing.
//!
//! `invoice/document.rs` makes documents of invoices; a number, a date and payments are drawn when one
//! becomes final, and the ledger keeps them.

use std::{collections::BTreeSet, fmt};

use domain::{Timestamp, Window, catalogue::Currency};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
};
use utoipa::ToSchema;

pub use hour::{Hour, PulseRef, SegmentRef};
pub use line::{ByDimensions, DocumentLine, LineKind, PriceRef, QuantityOf};
pub use note::NoteKind;
pub use waiting::Waiting;

use crate::{amount::Money, words};

mod hour;

mod line;
mod note;
mod waiting;

/// A document, by what it is. The key `document` comes first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "document", rename_all = "snake_case")]
pub enum InvoiceDocument {
    /// The bill of a period.
    Invoice(Bill),
    /// What changed about a period since it was billed.
    Delta(Bill),
    /// All that was billed for a period that no longer exists, given back.
    Reversal(Bill),
    /// An invoice as it would be now; never stored.
    Preview(Bill),
    /// A part of a document, given back for a reason that is not in the usage.
    CreditNote(CreditNote),
}

/// What a bill says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Bill {
    /// Tenant of the document.
    pub tenant: String,
    /// The currency of every amount, by ISO 4217.
    #[serde(with = "words")]
    #[schema(value_type = String, example = "BRL")]
    pub currency: Currency,
    /// The billing period.
    pub period: Period,
    /// Days from its issue until it is due.
    pub payment_term_days: u16,
    /// The contracts of its lines, sorted.
    pub contracts: BTreeSet<String>,
    /// Sums of its lines by kind.
    pub subtotals: Subtotals,
    /// Sum of its lines, exactly.
    pub total: Money,
    /// By contract: usage, amounts off, commitments, taxes.
    pub lines: Vec<DocumentLine>,
    /// Usage that waits for a price.
    pub unpriced: Vec<Waiting>,
}

/// What a credit note says. Its amounts are below zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreditNote {
    /// Number of the document of which it gives back a part.
    #[schema(example = "INV-000042")]
    pub corrects: String,
    /// Why, for the customer.
    pub reason: String,
    /// To whom.
    pub tenant: String,
    /// The currency of every amount, by ISO 4217.
    #[serde(with = "words")]
    #[schema(value_type = String, example = "BRL")]
    pub currency: Currency,
    /// That of the document.
    pub period: Period,
    /// That of the document.
    pub payment_term_days: u16,
    /// Sum of its lines, exactly.
    pub total: Money,
    /// What is given back, of a line or of the document as a whole.
    pub lines: Vec<DocumentLine>,
    /// Tells it apart from another note that reads the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Whether later deltas count it; goodwill where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note_kind: Option<NoteKind>,
}

/// A billing period: half-open, with its first and last day in the contract's zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Period {
    /// First moment.
    #[serde(with = "words")]
    #[schema(value_type = String, format = DateTime)]
    pub start: Timestamp,
    /// First moment after it.
    #[serde(with = "words")]
    #[schema(value_type = String, format = DateTime)]
    pub end: Timestamp,
    /// First day, in the zone.
    #[schema(example = "2024-09-01")]
    pub first_day: String,
    /// Last day, in the zone.
    #[schema(example = "2024-09-30")]
    pub last_day: String,
    /// The contract's, by the IANA database.
    #[schema(example = "America/Sao_Paulo")]
    pub time_zone: String,
    /// From anchor to anchor, of which the period is all or a part.
    pub whole: Span,
}

/// A half-open stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Span {
    /// First moment.
    #[serde(with = "words")]
    #[schema(value_type = String, format = DateTime)]
    pub start: Timestamp,
    /// First moment after it.
    #[serde(with = "words")]
    #[schema(value_type = String, format = DateTime)]
    pub end: Timestamp,
}

impl From<Window> for Span {
    fn from(Window { start, end }: Window) -> Self {
        Self { start, end }
    }
}

/// Sums of lines by kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subtotals {
    /// Of usage.
    pub usage: Money,
    /// Of amounts off.
    pub discount: Money,
    /// Of what is missing to commitments, and of overages.
    pub commitment: Money,
    /// Of taxes.
    pub tax: Money,
    /// Of what brings the total to whole coins, where lines keep more digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounding: Option<Money>,
    /// Of what a delta or reversal makes of notes on documents as a whole; absent where it has no such line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit: Option<Money>,
}

impl InvoiceDocument {
    /// The word for what it is, as in its key `document`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Invoice(_) => "invoice",
            Self::Delta(_) => "delta",
            Self::Reversal(_) => "reversal",
            Self::Preview(_) => "preview",
            Self::CreditNote(_) => "credit_note",
        }
    }

    /// Tenant of the document.
    #[must_use]
    pub fn tenant(&self) -> &str {
        match self.content() {
            Ok(bill) => &bill.tenant,
            Err(note) => &note.tenant,
        }
    }

    /// The currency of its amounts.
    #[must_use]
    pub const fn currency(&self) -> Currency {
        match self.content() {
            Ok(bill) => bill.currency,
            Err(note) => note.currency,
        }
    }

    /// What it bills or gives back a part of.
    #[must_use]
    pub const fn period(&self) -> &Period {
        match self.content() {
            Ok(bill) => &bill.period,
            Err(note) => &note.period,
        }
    }

    /// Days from its issue until it is due.
    #[must_use]
    pub const fn payment_term_days(&self) -> u16 {
        match self.content() {
            Ok(bill) => bill.payment_term_days,
            Err(note) => note.payment_term_days,
        }
    }

    /// Sum of its lines.
    #[must_use]
    pub const fn total(&self) -> Money {
        match self.content() {
            Ok(bill) => bill.total,
            Err(note) => note.total,
        }
    }

    /// Its lines, in order.
    #[must_use]
    pub fn lines(&self) -> &[DocumentLine] {
        match self.content() {
            Ok(bill) => &bill.lines,
            Err(note) => &note.lines,
        }
    }

    /// Its lines, of which all else is forgotten.
    #[must_use]
    pub fn into_lines(self) -> Vec<DocumentLine> {
        match self {
            Self::Invoice(bill)
            | Self::Delta(bill)
            | Self::Reversal(bill)
            | Self::Preview(bill) => bill.lines,
            Self::CreditNote(note) => note.lines,
        }
    }

    /// Usage that it does not bill for want of a price.
    #[must_use]
    pub fn unpriced(&self) -> &[Waiting] {
        self.content().map_or(&[], |bill| &bill.unpriced)
    }

    /// The note, where it is one.
    #[must_use]
    pub const fn credit_note(&self) -> Option<&CreditNote> {
        match self {
            Self::CreditNote(note) => Some(note),
            _ => None,
        }
    }

    const fn content(&self) -> Result<&Bill, &CreditNote> {
        match self {
            Self::Invoice(bill)
            | Self::Delta(bill)
            | Self::Reversal(bill)
            | Self::Preview(bill) => Ok(bill),
            Self::CreditNote(note) => Err(note),
        }
    }
}

/// Read without a copy of the whole, which what serde derives for a tag would make.
impl<'de> Deserialize<'de> for InvoiceDocument {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(DocumentVisitor)
    }
}

/// What a document is, by its first key.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Invoice,
    Delta,
    Reversal,
    Preview,
    CreditNote,
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = InvoiceDocument;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a document that begins with `document`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InvoiceDocument, A::Error> {
        if map.next_key::<std::borrow::Cow<'_, str>>()?.as_deref() != Some("document") {
            return Err(A::Error::custom("the first key is not `document`, which says what it is"));
        }
        let kind = map.next_value()?;
        let rest = MapAccessDeserializer::new(map);
        Ok(match kind {
            Kind::Invoice => InvoiceDocument::Invoice(Bill::deserialize(rest)?),
            Kind::Delta => InvoiceDocument::Delta(Bill::deserialize(rest)?),
            Kind::Reversal => InvoiceDocument::Reversal(Bill::deserialize(rest)?),
            Kind::Preview => InvoiceDocument::Preview(Bill::deserialize(rest)?),
            Kind::CreditNote => InvoiceDocument::CreditNote(CreditNote::deserialize(rest)?),
        })
    }
}

#[cfg(test)]
mod tests;
