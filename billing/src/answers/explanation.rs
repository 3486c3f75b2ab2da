//! The parts of an explanation put together again: one document, or one a line, without ever holding
//! the whole.

use pricing::document::DocumentLine;
use proto::{
    convert,
    v1::{self, explanation_part::Part as Wire},
};
use serde::Serialize;
use utoipa::ToSchema;

pub use crate::explain::explanation::{ExplanationHead, Part};
use crate::wire::{self, NotUnderstood};

/// Why an invoice comes to what it does, as HTTP answers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ExplanationAnswer {
    /// What is explained.
    #[serde(flatten)]
    pub head: ExplanationHead,
    /// Its lines, each with its place and with the hours behind it.
    pub lines: Vec<DocumentLine>,
}

/// A part as a message has it; `None` of a kind that this program does not know.
///
/// # Errors
/// When it is not understood.
pub fn of_message(message: v1::ExplanationPart) -> Result<Option<Part>, NotUnderstood> {
    Ok(match message.part {
        Some(Wire::Head(head)) => Some(Part::Head(ExplanationHead {
            number: head.number,
            tenant: head.tenant,
            currency: head.currency,
            run: head.run,
            period_start: wire::moment("period_start", head.period_start)?,
            period_end: wire::moment("period_end", head.period_end)?,
            first_day: head.first_day,
            last_day: head.last_day,
            time_zone: head.time_zone,
        })),
        Some(Wire::Line(line)) => Some(Part::Line(Box::new(wire::of_line(line)?))),
        Some(Wire::Hour(hour)) => Some(Part::Hour(wire::of_hour(hour)?)),
        None => None,
    })
}

/// A part as a message.
pub(crate) fn message(part: Part) -> v1::ExplanationPart {
    let part = match part {
        Part::Head(head) => Wire::Head(v1::ExplanationHead {
            number: head.number,
            tenant: head.tenant,
            currency: head.currency,
            run: head.run,
            period_start: Some(convert::wire_time(head.period_start)),
            period_end: Some(convert::wire_time(head.period_end)),
            first_day: head.first_day,
            last_day: head.last_day,
            time_zone: head.time_zone,
        }),
        Part::Line(line) => Wire::Line(wire::line(*line)),
        Part::Hour(hour) => Wire::Hour(wire::hour(hour)),
    };
    v1::ExplanationPart { part: Some(part) }
}

/// Writes the text of parts that come in their order.
#[derive(Debug)]
pub struct ExplanationText {
    form: Form,
    lines: usize,
    line: Line,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Document,
    Lines,
}

/// The line that was begun last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Ended,
    /// Its hours, so many so far, are open.
    Open(usize),
}

impl ExplanationText {
    /// One document: the head, with the lines in it.
    #[must_use]
    pub const fn document() -> Self {
        Self { form: Form::Document, lines: 0, line: Line::Ended }
    }

    /// The lines alone, each ended by a line feed.
    #[must_use]
    pub const fn lines() -> Self {
        Self { form: Form::Lines, lines: 0, line: Line::Ended }
    }

    /// Adds the text of a part.
    pub fn push(&mut self, part: &Part, text: &mut String) {
        match part {
            Part::Head(head) if self.form == Form::Document => {
                let head = written(head);
                text.push_str(head.strip_suffix('}').unwrap_or(&head));
                text.push_str(",\"lines\":[");
            }
            Part::Line(line) => {
                self.end_line(text);
                text.push_str(if self.lines > 0 && self.form == Form::Document { "," } else { "" });
                self.lines += 1;
                let json = written(line);
                // Hours are the last key of a line that has some.
                match line.hours.is_some() {
                    true => {
                        text.push_str(json.strip_suffix("]}").unwrap_or(&json));
                        self.line = Line::Open(0);
                    }
                    false => {
                        text.push_str(&json);
                        text.push_str(self.line_end());
                    }
                }
            }
            Part::Hour(hour) => {
                if let Line::Open(hours) = &mut self.line {
                    text.push_str(if *hours > 0 { "," } else { "" });
                    *hours += 1;
                    text.push_str(&written(hour));
                }
            }
            Part::Head(_) => {}
        }
    }

    /// Ends the text.
    pub fn finish(&mut self, text: &mut String) {
        self.end_line(text);
        if self.form == Form::Document {
            text.push_str("]}");
        }
    }

    fn end_line(&mut self, text: &mut String) {
        if self.line != Line::Ended {
            self.line = Line::Ended;
            text.push_str("]}");
            text.push_str(self.line_end());
        }
    }

    const fn line_end(&self) -> &'static str {
        match self.form {
            Form::Document => "",
            Form::Lines => "\n",
        }
    }
}

fn written<T: Serialize>(part: &T) -> String {
    serde_json::to_string(part).expect("parts are plain structures")
}

#[cfg(test)]
mod tests {
    use pricing::{
        Amount,
        amount::Money,
        document::{Hour, LineKind},
    };
    use serde_json::Value;

    use super::*;

    fn line(place: usize, hours: Option<Vec<Hour>>) -> DocumentLine {
        let amount = Money::new(Amount::whole(1), 2);
        let key = "\"hours\":[]}".to_owned();
        let line = DocumentLine::new(key, LineKind::Usage, amount);
        DocumentLine { line: Some(place), hours, ..line }
    }

    fn hour(count: u128) -> Hour {
        let (window_start, sum) = (domain::Timestamp::MIN, Amount::ZERO);
        Hour { window_start, count, sum, segments: Vec::new() }
    }

    fn head() -> ExplanationHead {
        let [number, tenant, currency] = ["INV-000001", "acme", "BRL"].map(str::to_owned);
        let [first_day, last_day, time_zone] =
            ["2024-09-01", "2024-09-30", "UTC"].map(str::to_owned);
        let [period_start, period_end] =
            ["2024-09-01T00:00:00Z", "2024-10-01T00:00:00Z"].map(|time| time.parse().unwrap());
        ExplanationHead {
            number,
            tenant,
            currency,
            run: 7,
            period_start,
            period_end,
            first_day,
            last_day,
            time_zone,
        }
    }

    fn parts() -> Vec<Part> {
        let line = |place, hours| Part::Line(Box::new(line(place, hours)));
        vec![
            Part::Head(head()),
            line(1, Some(Vec::new())),
            Part::Hour(hour(1)),
            Part::Hour(hour(2)),
            line(2, None),
            line(3, Some(Vec::new())),
        ]
    }

    fn text_of(mut writer: ExplanationText, parts: &[Part]) -> String {
        let mut text = String::new();
        parts.iter().for_each(|part| writer.push(part, &mut text));
        writer.finish(&mut text);
        text
    }

    #[test]
    fn parts_come_together_as_one_document_or_a_line_each() {
        let lines =
            vec![line(1, Some(vec![hour(1), hour(2)])), line(2, None), line(3, Some(Vec::new()))];
        let texts: Vec<String> = lines.iter().map(written).collect();
        let whole = written(&ExplanationAnswer { head: head(), lines });
        assert_eq!(text_of(ExplanationText::document(), &parts()), whole);
        let text = text_of(ExplanationText::lines(), &parts());
        assert_eq!(text.lines().collect::<Vec<_>>(), texts);
        let text = text_of(ExplanationText::document(), &parts()[..1]);
        let empty: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(empty["lines"], Value::Array(Vec::new()));
    }
}
