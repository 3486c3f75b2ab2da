//! Explanation: the lines of a document with the hours behind them, given part by part.
//!
//! An invoice of 12,000 lines explains itself in tens of megabytes. So a part is made when it is asked
//! for and forgotten when it is given: beside the rated period, which stays in memory, an answer costs
//! a chunk. Everything is checked before the first part, so an answer that has begun
//! does not end with a refusal.

use std::{
    cell::LazyCell,
    collections::{HashMap, HashSet},
};

use domain::{Timestamp, catalogue::Meter, refold::Question};
use pricing::{
    Amount,
    amount::Money,
    document::{self, DocumentLine},
    invoice::{Invoice, Line, Subject, Usage},
    rate::{Hour, Step},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    BillingError, Refusal,
    books::{document::number_text, documents::Found, journal},
    evidence::{self, Evidence, PulsesWanted},
    lines::key_of,
    sources::{Hours, hours_of},
};

/// A piece of an explanation. The head comes first; each line is followed by its hours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// What the document is.
    Head(ExplanationHead),
    /// A line with its place. It has `hours`, which are empty, where some may follow.
    Line(Box<DocumentLine>),
    /// An hour of the last line.
    Hour(document::Hour),
}

/// What is explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplanationHead {
    /// The document's number.
    #[schema(example = "INV-000042")]
    pub number: String,
    /// Tenant of the invoice.
    pub tenant: String,
    /// The currency of its amounts.
    pub currency: String,
    /// The run that made it.
    pub run: u64,
    /// First moment of the billing period.
    #[serde(with = "journal::text")]
    #[schema(value_type = String, format = DateTime)]
    pub period_start: Timestamp,
    /// First moment after it.
    #[serde(with = "journal::text")]
    #[schema(value_type = String, format = DateTime)]
    pub period_end: Timestamp,
    /// First day of the billing period, in its zone.
    #[schema(example = "2024-09-01")]
    pub first_day: String,
    /// Last day of it.
    #[schema(example = "2024-09-30")]
    pub last_day: String,
    /// The contract's, by the IANA database.
    #[schema(example = "America/Sao_Paulo")]
    pub time_zone: String,
}

/// An explanation that is being given.
#[derive(Debug)]
pub(crate) struct Explanation {
    pub(super) found: Found,
    invoice: Option<Invoice>,
    lines: Vec<Explained>,
    pub(super) evidence: Option<Evidence>,
    next: Next,
}

/// A line that is explained.
#[derive(Debug)]
struct Explained {
    /// Its place in the document, from 1.
    place: usize,
    /// As it was issued; taken when it is given.
    issued: Option<Box<DocumentLine>>,
    /// The place in the invoice of the line that it was made of.
    own: Option<usize>,
}

/// The next part: the head, the line at a place, or the hour at the second place of the line at the
/// first.
#[derive(Clone, Copy, Debug)]
enum Next {
    Head,
    Line(usize),
    Hour(usize, usize),
}

/// The key of a line as it comes out now.
fn key_now(line: &Line) -> String {
    #[cfg(test)]
    crate::testing::count_a_key();
    line.key()
}

impl Explanation {
    /// The explanation of the line at a place from 1, or with 0 of all lines.
    pub(super) fn new(
        found: Found,
        invoice: Option<Invoice>,
        lines: Vec<DocumentLine>,
        line: usize,
    ) -> Self {
        let own: &[Line] = invoice.as_ref().map_or(&[], |invoice| &invoice.lines);
        // An invoice has the lines of its period in their order; others are found by their keys.
        let places = LazyCell::new(|| {
            let mut places: HashMap<String, usize> = HashMap::new();
            for (place, own) in own.iter().enumerate() {
                places.entry(key_now(own)).or_insert(place);
            }
            places
        });
        let numbered = (1..).zip(lines).filter(|(place, _)| line == 0 || *place == line);
        let explained = |(place, issued): (usize, DocumentLine)| {
            let key = key_of(&issued);
            let is_there = own.get(place - 1).is_some_and(|own| key_now(own) == key);
            let own = if is_there { Some(place - 1) } else { places.get(key).copied() };
            Explained { place, issued: Some(Box::new(issued)), own }
        };
        let lines = numbered.map(explained).collect();
        Self { found, invoice, lines, evidence: None, next: Next::Head }
    }

    /// Whether the document is made of usage, and not of other documents.
    pub(super) const fn has_usage(&self) -> bool {
        self.invoice.is_some()
    }

    /// The document, and the hours of the lines that are explained.
    pub(super) fn told(&mut self) -> (&Found, impl Iterator<Item = Hours<'_>>) {
        let explained: HashSet<usize> = self.lines.iter().filter_map(|line| line.own).collect();
        let lines = self.invoice.iter_mut().flat_map(|invoice| &mut invoice.lines).enumerate();
        let lines = lines.filter(move |(place, _)| explained.contains(place));
        (&self.found, lines.filter_map(|(_, line)| hours_of(line)))
    }

    /// What the log is asked for the pulses behind the lines.
    ///
    /// # Errors
    /// When no usage of these lines is of the hour that is wanted.
    pub(super) fn question(&self, wanted: PulsesWanted) -> Result<Question, BillingError> {
        let own = self.lines.iter().filter_map(|line| self.own(line));
        let usage: Vec<&Usage> = own.filter_map(usage_of).collect();
        let mut hours = usage.iter().flat_map(|usage| &usage.hours);
        if let Some(hour) = wanted.hour
            && !hours.any(|found| found.window_start == hour)
        {
            return Err(self.no_hour(hour));
        }
        let window = self.found.document.window();
        Ok(evidence::question(&self.found.tenant, window, &usage, wanted))
    }

    fn no_hour(&self, hour: Timestamp) -> BillingError {
        let number = self.found.document.number.map_or_else(String::new, number_text);
        let message = format!("no usage of the hour {hour} is in these lines of {number}");
        BillingError::refused(Refusal::InvoiceNotFound, message)
    }

    /// Checks that every line is the sum of its steps and its hours, and these of their pulses.
    pub(super) fn check(&self) -> Result<(), BillingError> {
        self.lines.iter().try_for_each(|line| {
            self.check_line(line).map_err(|message| self.found.unreadable(&message))
        })
    }

    fn check_line(&self, line: &Explained) -> Result<(), String> {
        let Explained { place, issued, .. } = line;
        let (Some(invoice), Some(own), Some(issued)) = (&self.invoice, self.own(line), issued)
        else {
            return Ok(());
        };
        let billed = issued.steps_total().ok_or("its steps are out of range")?;
        if issued.amount != Money::new(billed, invoice.terms.rounding.digits()) {
            return Err(format!("the steps of line {place} do not add up to it"));
        }
        let Some(usage) = usage_of(own) else { return Ok(()) };
        for hour in &usage.hours {
            let checked = self
                .evidence
                .as_ref()
                .map_or(Ok(()), |evidence| evidence.check(&self.found.tenant, usage, hour));
            checked.map_err(|message| {
                format!("line {place}, hour {}: {message}", hour.window_start)
            })?;
        }
        let added = usage.hours.iter().map(|hour| hour.sum);
        let added = added.into_iter().try_fold(Amount::ZERO, Amount::checked_add);
        let metered_sum = usage_sum(own);
        if metered_sum.is_some() && metered_sum != added {
            return Err(format!("the hours of line {place} do not add up to it"));
        }
        Ok(())
    }

    fn head(&self) -> ExplanationHead {
        let draft = &self.found.document.draft;
        let (first_day, last_day) = draft.days();
        ExplanationHead {
            number: number_text(self.found.document.number.unwrap_or_default()),
            tenant: self.found.tenant.as_str().to_owned(),
            currency: draft.currency.clone(),
            run: draft.run,
            period_start: draft.start,
            period_end: draft.end,
            first_day,
            last_day,
            time_zone: draft.time_zone.clone(),
        }
    }

    fn hour(&self, at: usize, hour: usize) -> Option<document::Hour> {
        let (usage, hours) = self.hours(at)?;
        let hour = hours.get(hour)?;
        let mut shown = document::Hour::from(hour);
        if let Some(evidence) = &self.evidence {
            evidence.add_to(&self.found.tenant, usage, hour, &mut shown);
        }
        Some(shown)
    }

    /// The line of the invoice behind one of the document.
    fn own(&self, line: &Explained) -> Option<&Line> {
        self.invoice.as_ref()?.lines.get(line.own?)
    }

    fn hours(&self, at: usize) -> Option<(&Usage, &[Hour])> {
        let usage = usage_of(self.own(self.lines.get(at)?)?)?;
        Some((usage, &usage.hours))
    }
}

/// The parts, in order. Each is made when it is taken.
impl Iterator for Explanation {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        match self.next {
            Next::Head => {
                self.next = Next::Line(0);
                Some(Part::Head(self.head()))
            }
            Next::Line(at) => {
                let line = self.lines.get_mut(at)?;
                let (mut given, place) = (line.issued.take()?, line.place);
                given.line = Some(place);
                self.next = Next::Line(at + 1);
                if self.hours(at).is_some() {
                    given.hours = Some(Vec::new());
                    self.next = Next::Hour(at, 0);
                }
                Some(Part::Line(given))
            }
            Next::Hour(at, hour) => match self.hour(at, hour) {
                Some(shown) => {
                    self.next = Next::Hour(at, hour + 1);
                    Some(Part::Hour(shown))
                }
                None => {
                    self.next = Next::Line(at + 1);
                    self.next()
                }
            },
        }
    }
}

fn usage_of(line: &Line) -> Option<&Usage> {
    match &line.subject {
        Subject::Usage(usage) => Some(usage),
        _ => None,
    }
}

/// What the hours of a line add up to, where its meter is a sum.
fn usage_sum(line: &Line) -> Option<Amount> {
    line.steps.iter().find_map(|step| match step {
        Step::Metered { meter: Meter::Sum, quantity, .. } => Some(Amount::of(*quantity)),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
