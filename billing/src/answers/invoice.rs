//! Answer: an invoice as `pulso invoice get -o json` and HTTP print it: what its ledger holds of it, and
//! what the document says.

use std::collections::BTreeSet;

use domain::Timestamp;
use pricing::document::{DocumentLine, InvoiceDocument, NoteKind, Period, Subtotals, Waiting};
use proto::{convert, v1};
use serde::Serialize;
use utoipa::ToSchema;

use super::written::{text, text_or_null};
use crate::wire::{self, NotUnderstood};

/// What the ledger holds of an invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct InvoiceHeadAnswer {
    /// Its number, such as `INV-000042`; empty of a draft.
    pub number: String,
    /// `invoice`, `delta`, `reversal` or `credit_note`.
    pub kind: String,
    /// `draft`, `final`, `discarded` or `void`.
    pub state: String,
    /// Tenant of the invoice.
    pub tenant: String,
    /// The currency of its amounts, by ISO 4217.
    pub currency: String,
    /// Sum of its lines, a decimal.
    #[schema(example = "52.40")]
    pub total: String,
    /// What credits pay of it, a decimal; below zero what goes back to them.
    #[schema(example = "0.00")]
    pub paid: String,
    /// What is owed after the credits, a decimal: below zero what is owed to the customer, 0 of a document
    /// that is not owed.
    #[schema(example = "52.40")]
    pub due: String,
    /// What was owed until it was void; null where it is not.
    #[schema(required)]
    pub due_before_void: Option<String>,
    /// First moment of the billing period.
    #[serde(serialize_with = "text_or_null")]
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub period_start: Option<Timestamp>,
    /// First moment after it.
    #[serde(serialize_with = "text_or_null")]
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub period_end: Option<Timestamp>,
    /// First day of the billing period, in its zone.
    #[schema(example = "2024-09-01")]
    pub first_day: String,
    /// Last day of it.
    #[schema(example = "2024-09-30")]
    pub last_day: String,
    /// The contract's, by the IANA database.
    #[schema(example = "America/Sao_Paulo")]
    pub time_zone: String,
    /// When it became final; null of a draft.
    #[serde(serialize_with = "text_or_null")]
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub issued_at: Option<Timestamp>,
    /// Number of the run that made it, a whole number.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String, example = "7")]
    pub run: u64,
    /// What prepaid credits pay of it, below zero what they get back; of a void document, what they did
    /// until then.
    pub payments: Vec<PaymentAnswer>,
    /// Why it is void; empty where it is not.
    pub void_reason: String,
    /// Digest of the stored document, 32 hexadecimal digits.
    pub digest: String,
}

/// An invoice with what its document says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct InvoiceAnswer {
    /// What the ledger holds of it.
    #[serde(flatten)]
    pub head: InvoiceHeadAnswer,
    /// What the document says; only a server of another version sends none.
    #[serde(flatten)]
    #[schema(value_type = DocumentContent)]
    pub content: Option<DocumentContent>,
}

/// What a prepaid credit pays, or gets back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PaymentAnswer {
    /// Name of the contract's credit.
    pub credit: String,
    /// How much, a decimal; below zero where it goes back to the credit.
    #[schema(example = "10.00")]
    pub amount: String,
}

/// What a document says beside its tenant, currency and total.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct DocumentContent {
    /// `invoice`, `delta`, `reversal` or `credit_note`.
    pub document: String,
    /// Number of the document of which a credit note gives back a part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrects: Option<String>,
    /// Why a credit note gives it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The billing period.
    pub period: Period,
    /// Days from its issue until it is due.
    pub payment_term_days: u16,
    /// The contracts of its lines, sorted; not of a credit note.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contracts: Option<BTreeSet<String>>,
    /// Sums of its lines by kind; not of a credit note.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subtotals: Option<Subtotals>,
    /// Its lines.
    pub lines: Vec<DocumentLine>,
    /// Usage that waits for a price; not of a credit note.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpriced: Option<Vec<Waiting>>,
    /// What tells a credit note from another that reads the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Whether later deltas count a credit note.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note_kind: Option<NoteKind>,
}

/// A page of invoices, without their content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct InvoicesAnswer {
    /// In the order of their numbers; of one tenant oldest first, with drafts.
    pub invoices: Vec<InvoiceHeadAnswer>,
    /// Of these invoices, by currency.
    pub totals: Vec<TotalsAnswer>,
    /// For the page after this; empty on the last.
    pub next_page_token: String,
}

/// Sums over invoices of one currency. Drafts count nowhere, and what is void only as that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TotalsAnswer {
    /// By ISO 4217.
    pub currency: String,
    /// How many are final, a whole number.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String, example = "1")]
    pub documents: u64,
    /// What they come to, a decimal.
    #[schema(example = "52.40")]
    pub total: String,
    /// What credits paid of it, less what went back to them, a decimal.
    #[schema(example = "0.00")]
    pub paid: String,
    /// What is owed, a decimal.
    #[schema(example = "52.40")]
    pub due: String,
    /// What documents came to that are void, a decimal; nothing of it is owed.
    #[schema(example = "0.00")]
    pub void: String,
}

impl From<v1::InvoiceTotals> for TotalsAnswer {
    fn from(totals: v1::InvoiceTotals) -> Self {
        let v1::InvoiceTotals { currency, documents, total, paid, due, void } = totals;
        Self { currency, documents, total, paid, due, void }
    }
}

impl From<v1::CreditPayment> for PaymentAnswer {
    fn from(v1::CreditPayment { credit, amount }: v1::CreditPayment) -> Self {
        Self { credit, amount }
    }
}

impl From<PaymentAnswer> for v1::CreditPayment {
    fn from(PaymentAnswer { credit, amount }: PaymentAnswer) -> Self {
        Self { credit, amount }
    }
}

impl InvoiceHeadAnswer {
    /// What a message holds of it.
    #[must_use]
    pub fn new(head: v1::Invoice) -> Self {
        let time = |time: Option<prost_types::Timestamp>| convert::timestamp(time.as_ref()?);
        let payments = head.payments.into_iter().map(PaymentAnswer::from);
        Self {
            number: head.number,
            kind: head.kind,
            state: head.state,
            tenant: head.tenant,
            currency: head.currency,
            total: head.total,
            paid: head.paid,
            due: head.due,
            due_before_void: head.due_before_void,
            period_start: time(head.period_start),
            period_end: time(head.period_end),
            first_day: head.first_day,
            last_day: head.last_day,
            time_zone: head.time_zone,
            issued_at: time(head.issued_at),
            run: head.run,
            payments: payments.collect(),
            void_reason: head.void_reason,
            digest: head.digest,
        }
    }
}

impl InvoiceAnswer {
    /// What a ledger holds of a document, with what the document says. Its own total counts, which has
    /// the digits of its rounding.
    #[must_use]
    pub fn new(head: v1::Invoice, document: Option<InvoiceDocument>) -> Self {
        let mut head = InvoiceHeadAnswer::new(head);
        if let Some(document) = &document {
            head.total = document.total().to_string();
        }
        Self { head, content: document.map(DocumentContent::from) }
    }

    /// An invoice as a message has it.
    ///
    /// # Errors
    /// When the document in it is not understood.
    pub fn of_message(mut message: v1::Invoice) -> Result<Self, NotUnderstood> {
        let document = message.document.take().map(wire::of_document).transpose()?;
        Ok(Self::new(message, document))
    }
}

impl From<InvoiceDocument> for DocumentContent {
    fn from(document: InvoiceDocument) -> Self {
        let kind = document.kind().to_owned();
        match document {
            InvoiceDocument::CreditNote(note) => Self {
                document: kind,
                corrects: Some(note.corrects),
                reason: Some(note.reason),
                period: note.period,
                payment_term_days: note.payment_term_days,
                contracts: None,
                subtotals: None,
                lines: note.lines,
                unpriced: None,
                request_id: note.request_id,
                note_kind: note.note_kind,
            },
            InvoiceDocument::Invoice(bill)
            | InvoiceDocument::Delta(bill)
            | InvoiceDocument::Reversal(bill)
            | InvoiceDocument::Preview(bill) => Self {
                document: kind,
                corrects: None,
                reason: None,
                period: bill.period,
                payment_term_days: bill.payment_term_days,
                contracts: Some(bill.contracts),
                subtotals: Some(bill.subtotals),
                lines: bill.lines,
                unpriced: Some(bill.unpriced),
                request_id: None,
                note_kind: None,
            },
        }
    }
}
