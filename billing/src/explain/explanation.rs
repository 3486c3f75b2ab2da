//! Explanation: the lines of a document with the hours behind them, given part by part.
//!
//! An invoice of 12,000 lines explains itself in tens of megabytes. So the text of a part is made when
//! it is asked for and forgotten when it is given: beside the rated period, which stays in memory, an
//! answer costs a chunk. Everything is checked before the first part, so an answer that has begun
//! does not end with a refusal.

use std::collections::HashMap;

use domain::{Timestamp, catalogue::Meter, refold::Question};
use pricing::{
    Amount,
    invoice::{Invoice, Line, Subject, Usage},
    rate::json,
    rate::{Hour, Step},
};
use serde_json::{Value, json};

use crate::{
    BillingError, Refusal,
    books::{document::number_text, documents::Found},
    evidence::{self, Evidence, PulsesWanted},
    lines::key_of,
};

/// A piece of an explanation, as JSON text. The head comes first, with `lines` empty as its last key;
/// each line is followed by its hours, and has `hours` empty as its last key where it may have some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What the document is.
    Head(String),
    /// A line.
    Line(String),
    /// An hour of the last line.
    Hour(String),
}

impl Part {
    /// What is sent of the part, without its kind.
    #[must_use]
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Head(text) | Self::Line(text) | Self::Hour(text) => text,
        }
    }
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
    value: Value,
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
        lines: Vec<Value>,
        line: usize,
    ) -> Self {
        let mut places: HashMap<String, usize> = HashMap::new();
        for (place, own) in invoice.iter().flat_map(|invoice| invoice.lines.iter().enumerate()) {
            places.entry(key_now(own)).or_insert(place);
        }
        let numbered = (1..).zip(lines).filter(|(place, _)| line == 0 || *place == line);
        let explained = |(place, value): (usize, Value)| {
            let own = places.get(key_of(&value)).copied();
            Explained { place, value, own }
        };
        let lines = numbered.map(explained).collect();
        Self { found, invoice, lines, evidence: None, next: Next::Head }
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
        let (Some(invoice), Some(own)) = (&self.invoice, self.own(line)) else { return Ok(()) };
        let Explained { place, value, .. } = line;
        let billed = json::steps_total(value).ok_or("a step without an amount")?;
        if value["amount"] != billed.text(invoice.terms.rounding.digits()).as_str() {
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

    /// The next parts, as many as make `bytes_max` bytes full and at least one; none at the end.
    pub(crate) fn chunk(&mut self, bytes_max: usize) -> Vec<Part> {
        let (mut parts, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max {
            let Some(part) = self.part() else { break };
            bytes += part.text().len();
            parts.push(part);
        }
        parts
    }

    fn part(&mut self) -> Option<Part> {
        match self.next {
            Next::Head => {
                self.next = Next::Line(0);
                Some(Part::Head(self.head().to_string()))
            }
            Next::Line(at) => {
                let line = self.lines.get_mut(at)?;
                let (mut value, place) = (line.value.take(), line.place);
                value["line"] = place.into();
                self.next = if self.hours(at).is_some() {
                    value["hours"] = json!([]);
                    Next::Hour(at, 0)
                } else {
                    Next::Line(at + 1)
                };
                Some(Part::Line(value.to_string()))
            }
            Next::Hour(at, hour) => match self.hours(at).and_then(|(_, hours)| hours.get(hour)) {
                Some(_) => {
                    self.next = Next::Hour(at, hour + 1);
                    Some(Part::Hour(self.hour(at, hour)?.to_string()))
                }
                None => {
                    self.next = Next::Line(at + 1);
                    self.part()
                }
            },
        }
    }

    fn head(&self) -> Value {
        let draft = &self.found.document.draft;
        json!({
            "number": number_text(self.found.document.number.unwrap_or_default()),
            "tenant": self.found.tenant.as_str(),
            "currency": draft.currency,
            "run": draft.run,
            "lines": [],
        })
    }

    fn hour(&self, at: usize, hour: usize) -> Option<Value> {
        let (usage, hours) = self.hours(at)?;
        let hour = hours.get(hour)?;
        let mut rendered = json::hour(hour);
        if let Some(evidence) = &self.evidence {
            evidence.add_to(&self.found.tenant, usage, hour, &mut rendered);
        }
        Some(rendered)
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

fn usage_of(line: &Line) -> Option<&Usage> {
    match &line.subject {
        Subject::Usage(usage) => Some(usage),
        _ => None,
    }
}

/// What the hours of a line add up to, where its meter is a sum.
fn usage_sum(line: &Line) -> Option<Amount> {
    line.steps.iter().find_map(|step| match step {
        Step::Metered { meter: Meter::Sum, quantity } => Some(Amount::of(*quantity)),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
