//! The parts of an explanation put together again: one document, or one a line, without ever holding
//! the whole.

use proto::v1::{ExplanationPart, explanation_part::Part};

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
    pub fn push(&mut self, part: &ExplanationPart, text: &mut String) {
        match &part.part {
            Some(Part::HeadJson(head)) if self.form == Form::Document => {
                text.push_str(head.strip_suffix("]}").unwrap_or(head));
            }
            Some(Part::LineJson(line)) => {
                self.end_line(text);
                text.push_str(if self.lines > 0 && self.form == Form::Document { "," } else { "" });
                self.lines += 1;
                // `hours` is always the last key, so no text of a client ends like this.
                match line.strip_suffix("\"hours\":[]}") {
                    Some(_) => {
                        text.push_str(&line[..line.len() - "]}".len()]);
                        self.line = Line::Open(0);
                    }
                    None => {
                        text.push_str(line);
                        text.push_str(self.line_end());
                    }
                }
            }
            Some(Part::HourJson(hour)) => {
                if let Line::Open(hours) = &mut self.line {
                    text.push_str(if *hours > 0 { "," } else { "" });
                    *hours += 1;
                    text.push_str(hour);
                }
            }
            Some(Part::HeadJson(_)) | None => {}
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parts() -> Vec<ExplanationPart> {
        let head = json!({"number": "INV-000001", "lines": []}).to_string();
        let with_hours = json!({"name": "\"hours\":[]}", "line": 1, "hours": []}).to_string();
        let without = json!({"name": "\"hours\":[]}", "line": 2}).to_string();
        let hour = |hour: u8| Part::HourJson(json!({"window_start": hour}).to_string());
        let parts = [
            Part::HeadJson(head),
            Part::LineJson(with_hours.clone()),
            hour(1),
            hour(2),
            Part::LineJson(without),
            Part::LineJson(with_hours),
        ];
        parts.map(|part| ExplanationPart { part: Some(part) }).into()
    }

    fn written(mut writer: ExplanationText, parts: &[ExplanationPart]) -> String {
        let mut text = String::new();
        parts.iter().for_each(|part| writer.push(part, &mut text));
        writer.finish(&mut text);
        text
    }

    #[test]
    fn parts_come_together_as_one_document_or_a_line_each() {
        let name = "\"hours\":[]}";
        let lines = [
            json!({"name": name, "line": 1, "hours": [{"window_start": 1}, {"window_start": 2}]}),
            json!({"name": name, "line": 2}),
            json!({"name": name, "line": 1, "hours": []}),
        ];
        let text = written(ExplanationText::document(), &parts());
        let whole: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(whole, json!({"number": "INV-000001", "lines": lines}));
        let text = written(ExplanationText::lines(), &parts());
        let read: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, lines);
        let text = written(ExplanationText::document(), &parts()[..1]);
        let empty: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(empty, json!({"number": "INV-000001", "lines": []}));
    }
}
