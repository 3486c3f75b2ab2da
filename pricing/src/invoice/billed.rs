//! Billed: what the documents of a billing period have billed and given back, line by line, and what is
//! left to bill so that no more is given back than was billed.
//!
//! A note of the kind `correction` counts as billed less. A note of the kind `goodwill` does not: deltas
//! bring the period to what it comes to now less the goodwill. But what goodwill gave back of a line, or
//! of all, is not given back again when that turns out to cost less.

use std::collections::BTreeMap;

use super::sum;
use crate::{
    amount::{Amount, Money},
    document::{CreditNote, DocumentLine, InvoiceDocument, LineKind, NoteKind},
    rate::Step,
};

/// The key of the line of a delta or reversal that brings goodwill to what is left of it in all.
const GOODWILL: &str = "goodwill";

/// What the documents of a billing period have billed, line by line.
#[derive(Clone, Debug)]
pub struct Billed {
    lines: BTreeMap<String, BilledLine>,
    /// What goodwill notes gave back of documents as a whole.
    goodwill: Amount,
}

impl Default for Billed {
    fn default() -> Self {
        Self { lines: BTreeMap::new(), goodwill: Amount::ZERO }
    }
}

/// What was billed of one line.
#[derive(Clone, Debug)]
struct BilledLine {
    /// As the newest document that bills it has it.
    line: DocumentLine,
    billed: Amount,
    /// What notes gave back of it, by their kind.
    corrected: Amount,
    goodwill: Amount,
}

impl Billed {
    /// Adds a document of the period. Notes come after the documents that they correct.
    ///
    /// # Errors
    /// When the lines of one key add up to more than an amount holds; when a note names a line that
    /// nothing bills.
    pub fn add(&mut self, document: &InvoiceDocument) -> Result<(), String> {
        match document.credit_note() {
            None => document.lines().iter().try_for_each(|line| self.bill(line)),
            Some(note) => note.lines.iter().try_for_each(|line| self.give_back(note, line)),
        }
    }

    fn bill(&mut self, line: &DocumentLine) -> Result<(), String> {
        let known = self.lines.entry(line.key.clone()).or_insert_with(|| BilledLine {
            line: line.clone(),
            billed: Amount::ZERO,
            corrected: Amount::ZERO,
            goodwill: Amount::ZERO,
        });
        known.line.clone_from(line);
        add_to(&mut known.billed, line.amount.amount())
    }

    fn give_back(&mut self, note: &CreditNote, line: &DocumentLine) -> Result<(), String> {
        let amount = line.amount.amount().checked_neg().ok_or(OUT_OF_RANGE)?;
        let Some(key) = note.line_key(line) else {
            return match note.kind() {
                // The next delta bills it again as a line, whatever the period comes to then.
                NoteKind::Correction => self.bill(line),
                NoteKind::Goodwill => add_to(&mut self.goodwill, amount),
            };
        };
        let known = self.lines.get_mut(key).ok_or_else(|| format!("nothing bills {key:?}"))?;
        add_to(
            match note.kind() {
                NoteKind::Correction => &mut known.corrected,
                NoteKind::Goodwill => &mut known.goodwill,
            },
            amount,
        )
    }

    /// What counts as billed in all: without corrections, goodwill aside.
    #[must_use]
    pub fn total(&self) -> Option<Amount> {
        sum(self.lines.values().map(BilledLine::counted).collect::<Option<Vec<_>>>()?)
    }

    /// What is left of it once all notes are taken off.
    #[must_use]
    pub fn left(&self) -> Option<Amount> {
        let lines = self.lines.values().map(BilledLine::left).collect::<Option<Vec<_>>>()?;
        sum(lines)?.checked_sub(self.goodwill)
    }

    /// What is left of the line of a key once all notes are taken off; nothing where there is none.
    #[must_use]
    pub fn left_of(&self, key: &str) -> Option<Amount> {
        self.lines.get(key).map_or(Some(Amount::ZERO), BilledLine::left)
    }

    /// Tells whether notes give back more of the line of a key than is billed of it.
    #[must_use]
    pub fn is_overdrawn_at(&self, key: &str) -> bool {
        let line = self.lines.get(key);
        line.is_some_and(|line| {
            let has_notes = line.corrected > Amount::ZERO || line.goodwill > Amount::ZERO;
            has_notes && line.left().is_none_or(|left| left < Amount::ZERO)
        })
    }

    /// Tells whether nothing of it is left to give back.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.settling().rest(Amount::ZERO, 0).is_empty()
    }

    /// Begins to compare it with what the period comes to now.
    pub(super) fn settling(&self) -> Settling {
        let lines = self.lines.values().map(|line| line.goodwill);
        let given = sum(lines.chain([self.goodwill]));
        Settling { before: self.lines.clone(), given, holds: Some(self.goodwill) }
    }
}

impl BilledLine {
    /// What counts as billed.
    fn counted(&self) -> Option<Amount> {
        self.billed.checked_sub(self.corrected)
    }

    fn left(&self) -> Option<Amount> {
        self.counted()?.checked_sub(self.goodwill)
    }
}

/// A comparison on its way through the lines.
///
/// Of a line that comes to `t` now and of which goodwill notes gave back `g`, as much stays billed as `g`
/// goes beyond `t`: the line is left with `t - min(g, t)`. A line of its own brings the period to `T -
/// min(G, T)`, with `T` and `G` the sums: below zero where lines that cost less now, or are no more,
/// held goodwill that the others can bear; above zero where all of them cannot. Below zero, `t` and `T`
/// count as nothing in the minimum.
pub(super) struct Settling {
    /// Lines that were not compared yet.
    before: BTreeMap<String, BilledLine>,
    /// `G`. As the next, `None` past the range of an amount.
    given: Option<Amount>,
    /// What of it the lines and the documents as a whole hold.
    holds: Option<Amount>,
}

impl Settling {
    /// What a delta has to bill of a line that comes to `now`, and the steps behind those of the line.
    /// `None` where that is nothing.
    pub(super) fn line(&mut self, key: &str, now: Amount) -> Option<(Amount, Vec<Step>)> {
        match self.before.remove(key) {
            Some(before) => self.settle(&before, now),
            None => (now != Amount::ZERO).then(|| (now, Vec::new())),
        }
    }

    fn settle(&mut self, before: &BilledLine, now: Amount) -> Option<(Amount, Vec<Step>)> {
        let held = before.goodwill.min(now.max(Amount::ZERO));
        self.holds = self.holds.and_then(|holds| holds.checked_add(held));
        let kept = before.goodwill.checked_sub(held)?;
        let difference = now.checked_add(kept)?.checked_sub(before.counted()?)?;
        let steps = [
            Step::Goodwill { amount: kept },
            Step::Invoiced { amount: before.billed.checked_neg()? },
            Step::Corrected { amount: before.corrected },
        ];
        changed(difference, steps)
    }

    /// The lines that take back what was billed and is no longer due, and the one about goodwill in all.
    /// `total` is what the period comes to now.
    pub(super) fn rest(mut self, total: Amount, digits: u8) -> Vec<DocumentLine> {
        let whole = self.before.remove(GOODWILL);
        let mut lines = Vec::new();
        for before in std::mem::take(&mut self.before).into_values() {
            let Some((difference, steps)) = self.settle(&before, Amount::ZERO) else { continue };
            lines.push(DocumentLine {
                amount: Money::new(difference, digits),
                quantity: Some(Amount::ZERO),
                by_dimensions: None,
                detail: steps,
                ..before.line
            });
        }
        let before = whole.map_or(Amount::ZERO, |whole| whole.billed);
        lines.extend(self.whole(before, total, digits));
        lines
    }

    /// The line about goodwill in all, where it changes from what was billed of it before.
    fn whole(&self, before: Amount, total: Amount, digits: u8) -> Option<DocumentLine> {
        let left = self.given?.min(total.max(Amount::ZERO));
        let amount = self.holds?.checked_sub(left)?;
        let difference = amount.checked_sub(before)?;
        let steps = [Step::Goodwill { amount }, Step::Invoiced { amount: before.checked_neg()? }];
        let (difference, detail) = changed(difference, steps)?;
        let amount = Money::new(difference, digits);
        let name = Some("goodwill given before".to_owned());
        let line = DocumentLine::new(GOODWILL.to_owned(), LineKind::Credit, amount);
        Some(DocumentLine { name, detail, ..line })
    }
}

/// A difference with those of its steps that add to it; `None` where there is none.
fn changed(
    difference: Amount,
    steps: impl IntoIterator<Item = Step>,
) -> Option<(Amount, Vec<Step>)> {
    if difference == Amount::ZERO {
        return None;
    }
    let adds = |step: &Step| step.amount() != Amount::ZERO;
    Some((difference, steps.into_iter().filter(adds).collect()))
}

const OUT_OF_RANGE: &str = "amounts out of range";

fn add_to(sum: &mut Amount, amount: Amount) -> Result<(), String> {
    *sum = sum.checked_add(amount).ok_or(OUT_OF_RANGE)?;
    Ok(())
}
