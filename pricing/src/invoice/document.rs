//! Document: an invoice becomes the document that is stored, or the delta to earlier ones, their
//! reversal, or a note that gives back a part. The types are those of [`crate::document`].

use std::collections::BTreeSet;

use domain::{Window, catalogue::Currency};

use super::{Invoice, Line, Subject, Usage, sum};
use crate::{
    amount::{Amount, Money},
    document::{
        Bill, ByDimensions, CreditNote, DocumentLine, Hour, InvoiceDocument, LineKind, NoteKind,
        Period, PriceRef, Subtotals, Waiting,
    },
    rate,
    words::Pairs,
};

pub use super::billed::Billed;

/// An invoice as a document.
#[must_use]
pub fn invoice(invoice: &Invoice) -> InvoiceDocument {
    InvoiceDocument::Invoice(bill(invoice, lines(invoice)))
}

/// The lines of that document, each made when it is taken.
pub fn lines(invoice: &Invoice) -> impl Iterator<Item = DocumentLine> {
    let digits = invoice.terms.rounding.digits();
    invoice.lines.iter().map(move |found| line(found, digits))
}

/// An invoice as it would be, with the hours of usage behind each line. `budget` is how many stretches
/// of the log may still be listed, and is left with the rest.
#[must_use]
pub fn preview(invoice: &Invoice, budget: &mut usize) -> InvoiceDocument {
    let digits = invoice.terms.rounding.digits();
    let lines = invoice.lines.iter().map(|found| {
        let mut shown = line(found, digits);
        if let Subject::Usage(usage) = &found.subject {
            let (hours, left_out) = hours(&usage.hours, budget);
            (shown.hours, shown.hours_left_out) = (Some(hours), left_out);
        }
        shown
    });
    let mut bill = bill(invoice, lines);
    for (shown, unpriced) in bill.unpriced.iter_mut().zip(&invoice.unpriced) {
        let (hours, left_out) = hours(&unpriced.hours, budget);
        (shown.hours, shown.hours_left_out) = (Some(hours), left_out);
    }
    InvoiceDocument::Preview(bill)
}

/// The hours behind an entry, for as long as the stretches of the log in them are within a budget, so
/// that the document stays small enough to send; and how many are left out, where some are.
fn hours(found: &[rate::Hour], budget: &mut usize) -> (Vec<Hour>, Option<u64>) {
    let mut listed = Vec::new();
    for hour in found {
        let Some(left) = budget.checked_sub(hour.segments.len()) else { break };
        *budget = left;
        listed.push(Hour::from(hour));
    }
    let left_out = found.len() - listed.len();
    if left_out == 0 {
        return (listed, None);
    }
    // Later entries do not fill the gap with hours of their own: a cut stays a cut.
    *budget = 0;
    (listed, Some(left_out as u64))
}

/// The delta that brings what was billed to what an invoice says now: one line for each that
/// differs, with the difference. `None` where nothing does.
#[must_use]
pub fn delta(now: &Invoice, billed: &Billed) -> Option<InvoiceDocument> {
    let digits = now.terms.rounding.digits();
    let mut before = billed.settling();
    let mut lines = Vec::new();
    for found in &now.lines {
        let Some((difference, steps)) = before.line(&found.key(), found.amount) else { continue };
        let mut shown = line(found, digits);
        shown.amount = Money::new(difference, digits);
        shown.detail.extend(steps);
        lines.push(shown);
    }
    lines.extend(before.rest(now.total, digits));
    (!lines.is_empty()).then(|| InvoiceDocument::Delta(bill(now, lines.into_iter())))
}

/// The document that gives back all that was billed for a period that no longer exists: one line for
/// each, of the period of the newest document. `None` where nothing is left to give back.
#[must_use]
pub fn reversal(newest: &InvoiceDocument, billed: &Billed) -> Option<InvoiceDocument> {
    let digits = newest.currency().minor_digits();
    let lines = billed.settling().rest(Amount::ZERO, digits);
    let head = Head {
        tenant: newest.tenant().to_owned(),
        currency: newest.currency(),
        period: newest.period().clone(),
        payment_term_days: newest.payment_term_days(),
        digits,
        contracts: BTreeSet::new(),
    };
    (!lines.is_empty()).then(|| InvoiceDocument::Reversal(headed(head, lines, Vec::new())))
}

/// What a credit note gives back: of the line at a place, or with `None` of the document as a whole.
pub type Credited = (Option<usize>, Amount);

/// The credit note for a document that was issued. Amounts are above zero here and negative in the
/// note.
///
/// # Errors
/// Says which line there is not, or which is given back beyond its amount.
pub fn credit_note(
    (number, issued): (&str, &InvoiceDocument),
    credited: &[Credited],
    (kind, reason, request_id): (NoteKind, &str, &str),
) -> Result<InvoiceDocument, String> {
    // Somebody is paid it, in coins, whatever the document was rounded to.
    let digits = issued.currency().minor_digits();
    let mut lines = Vec::with_capacity(credited.len());
    let mut total = Amount::ZERO;
    for (place, amount) in credited {
        let negative = amount.checked_neg().ok_or("an amount out of range")?;
        total = total.checked_add(negative).ok_or("amounts out of range")?;
        let amount = Money::new(negative, digits);
        lines.push(match place {
            None => {
                let key = format!("credit of {number}");
                let name = Some(reason.to_owned());
                DocumentLine { name, ..DocumentLine::new(key, LineKind::Credit, amount) }
            }
            Some(place) => {
                let of = issued.lines().get(*place);
                credit_line(number, of.ok_or_else(|| format!("no line {}", place + 1))?, amount)
            }
        });
    }
    Ok(InvoiceDocument::CreditNote(CreditNote {
        corrects: number.to_owned(),
        reason: reason.to_owned(),
        tenant: issued.tenant().to_owned(),
        currency: issued.currency(),
        period: issued.period().clone(),
        payment_term_days: issued.payment_term_days(),
        total: Money::new(total, digits),
        lines,
        request_id: (!request_id.is_empty()).then(|| request_id.to_owned()),
        note_kind: Some(kind),
    }))
}

/// What identifies the credit of a line among the lines of notes.
#[must_use]
pub fn credit_key(line: &DocumentLine, number: &str) -> String {
    format!("credit {} of {number}", line.key)
}

fn credit_line(number: &str, of: &DocumentLine, amount: Money) -> DocumentLine {
    DocumentLine {
        name: of.name.clone(),
        product_sku: of.product_sku.clone(),
        use_unity: of.use_unity.clone(),
        dimensions: of.dimensions.clone(),
        contract: of.contract.clone(),
        ..DocumentLine::new(credit_key(of, number), LineKind::Credit, amount)
    }
}

fn bill(invoice: &Invoice, lines: impl Iterator<Item = DocumentLine>) -> Bill {
    let head = Head {
        tenant: invoice.tenant.as_str().to_owned(),
        currency: invoice.currency(),
        period: period(invoice),
        payment_term_days: invoice.terms.payment_term_days,
        digits: invoice.terms.rounding.digits(),
        contracts: invoice.contracts.iter().map(|name| name.as_str().to_owned()).collect(),
    };
    headed(head, lines.collect(), invoice.unpriced.iter().map(Waiting::from).collect())
}

/// What stands at the head of a document.
struct Head {
    tenant: String,
    currency: Currency,
    period: Period,
    payment_term_days: u16,
    /// Decimals that amounts have at least.
    digits: u8,
    /// Those of the period; those of the lines are added.
    contracts: BTreeSet<String>,
}

fn headed(head: Head, lines: Vec<DocumentLine>, unpriced: Vec<Waiting>) -> Bill {
    let Head { tenant, currency, period, payment_term_days, digits, mut contracts } = head;
    let of_kind = |kind: LineKind| {
        let amounts = lines.iter().filter(|line| line.kind == kind);
        let amounts = sum(amounts.map(|line| line.amount.amount()));
        Money::new(amounts.expect("no more than the total's lines"), digits)
    };
    let has_credit = lines.iter().any(|line| line.kind == LineKind::Credit);
    let total = sum(lines.iter().map(|line| line.amount.amount()));
    contracts.extend(lines.iter().filter_map(|line| line.contract.clone()));
    Bill {
        tenant,
        currency,
        period,
        payment_term_days,
        contracts,
        subtotals: Subtotals {
            usage: of_kind(LineKind::Usage),
            discount: of_kind(LineKind::Discount),
            commitment: of_kind(LineKind::Commitment),
            tax: of_kind(LineKind::Tax),
            rounding: lines
                .iter()
                .any(|line| line.kind == LineKind::Rounding)
                .then(|| of_kind(LineKind::Rounding)),
            credit: has_credit.then(|| of_kind(LineKind::Credit)),
        },
        total: Money::new(total.expect("differences of two totals in range"), digits),
        lines,
        unpriced,
    }
}

/// The period with its first and last day in the contract's zone.
fn period(invoice: &Invoice) -> Period {
    let Window { start, end } = invoice.window;
    let (first_day, last_day) = invoice.days();
    Period {
        start,
        end,
        first_day,
        last_day,
        time_zone: invoice.terms.time_zone.as_str().to_owned(),
        whole: invoice.whole.into(),
    }
}

/// A line without its hours, which are as many as the usage; they are derived again when asked for.
fn line(line: &Line, digits: u8) -> DocumentLine {
    let amount = Money::new(line.amount, digits);
    let of_kind = |kind| DocumentLine {
        contract: Some(line.contract.as_str().to_owned()),
        span: Some(line.span.into()),
        rounding: Some(line.rounding),
        detail: line.steps.clone(),
        ..DocumentLine::new(line.key(), kind, amount)
    };
    let named = |kind, name: &domain::Name| DocumentLine {
        name: Some(name.as_str().to_owned()),
        ..of_kind(kind)
    };
    match &line.subject {
        Subject::Usage(usage) => usage_line(usage, of_kind(LineKind::Usage)),
        Subject::Discount(name) => named(LineKind::Discount, name),
        Subject::Commitment(name) => named(LineKind::Commitment, name),
        Subject::Tax(name) => named(LineKind::Tax, name),
        Subject::Rounding => of_kind(LineKind::Rounding),
    }
}

fn usage_line(usage: &Usage, line: DocumentLine) -> DocumentLine {
    DocumentLine {
        name: Some(usage.name.clone()),
        product_sku: Some(usage.product_sku.as_str().to_owned()),
        use_unity: Some(usage.use_unity.as_str().to_owned()),
        dimensions: Some(Pairs(usage.dimensions.pairs())),
        by_dimensions: ByDimensions::of(&usage.by_dimensions),
        model: Some(usage.model.to_owned()),
        quantity: Some(usage.quantity),
        price: Some(PriceRef {
            catalogue: usage.catalogue.as_str().to_owned(),
            valid_from: usage.valid_from,
        }),
        ..line
    }
}

#[cfg(test)]
mod tests;
