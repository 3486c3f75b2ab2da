//! Output: one answer, printed as table, JSON document, JSON lines or CSV.
//!
//! Data goes to stdout and everything else to stderr, so that a pipe only ever sees data. A command
//! builds one [`Answer`] and does not know how it will be printed: the table and the CSV are drawn
//! from the same records that JSON shows.

pub mod pages;
pub mod progress;

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{Cell, CellAlignment, Table};
use domain::Quantity;
use serde::Serialize;
use serde_json::Value;

use self::pages::{Header, Pages};
use crate::exit::Failure;

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One document.
    Json,
    /// One document a line, one for each record.
    Jsonl,
    /// A header and one line for each record.
    Csv,
}

/// A document as the JSON that is printed.
pub fn json<T: Serialize>(document: &T) -> Value {
    serde_json::to_value(document).expect("documents are plain structures")
}

/// The keys of a document and what they say, for people.
pub fn facts<T: Serialize>(document: &T) -> Vec<(String, String)> {
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    match json(document) {
        Value::Object(keys) => keys.into_iter().map(|(key, value)| (key, text(value))).collect(),
        _ => Vec::new(),
    }
}

/// What a command found out.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The whole answer, as `-o json` prints it.
    pub document: Value,
    /// Where in the document the records are, through lists of objects too after a dot; the document
    /// itself is the one record without it.
    pub records: Option<&'static str>,
    /// Keys of the records that table and CSV show, in order. A dot reaches into an object.
    pub columns: Vec<&'static str>,
    /// What a person should know besides; on stdout below a table, on stderr elsewhere.
    pub notes: Vec<String>,
}

impl Answer {
    /// An answer that is one record.
    #[must_use]
    pub fn single(document: Value, columns: &[&'static str]) -> Self {
        Self { document, records: None, columns: columns.to_vec(), notes: Vec::new() }
    }

    /// An answer whose records stand under a key, or under one of each entry of a list:
    /// `invoices.lines`.
    #[must_use]
    pub fn list(document: Value, records: &'static str, columns: &[&'static str]) -> Self {
        Self { records: Some(records), ..Self::single(document, columns) }
    }

    /// The same with one more note.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    fn records(&self) -> Vec<&Value> {
        let Some(path) = self.records else { return vec![&self.document] };
        path.split('.').fold(vec![&self.document], |found, key| {
            let lists = found.into_iter().filter_map(|value| value.get(key)?.as_array());
            lists.flatten().collect()
        })
    }

    fn row(&self, record: &Value, text: fn(&Value) -> String) -> Vec<String> {
        let at = |path: &&str| path.split('.').try_fold(record, |value, key| value.get(key));
        self.columns.iter().map(|path| at(path).map_or_else(String::new, text)).collect()
    }
}

/// Prints answers in one format.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    format: Format,
}

impl Printer {
    /// A printer to stdout.
    #[must_use]
    pub const fn new(format: Format) -> Self {
        Self { format }
    }

    /// The format asked for.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Prints an answer. A reader that has gone away, such as `head`, is no error.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn print(&self, answer: &Answer) -> Result<(), Failure> {
        written(self.write(answer, &mut io::stdout().lock(), &mut io::stderr().lock()))
    }

    /// A printer for an answer that comes in pages.
    #[must_use]
    pub const fn pages(self) -> Pages {
        Pages::new(self.format)
    }

    /// Prints text as it is, for commands whose answer is a file.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn print_text(text: &str) -> Result<(), Failure> {
        Self::print_bytes(text.as_bytes())
    }

    /// Prints bytes as they are.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        written(stdout.write_all(bytes).and_then(|()| stdout.flush()))
    }

    /// Writes an answer: data to `out`, notes to `aside` unless the format is for people.
    ///
    /// # Errors
    /// Those of the writers.
    pub fn write(
        &self,
        answer: &Answer,
        out: &mut dyn Write,
        aside: &mut dyn Write,
    ) -> io::Result<()> {
        match self.format {
            Format::Table => {
                write_table(answer, out)?;
                return write_notes(answer, out).and_then(|()| out.flush());
            }
            Format::Json => write_json(answer, out)?,
            Format::Jsonl => write_jsonl(answer, out)?,
            Format::Csv => write_csv(answer, out, Header::Wanted)?,
        }
        out.flush()?;
        // JSON carries in its document what the notes say.
        if self.format == Format::Csv { write_notes(answer, aside) } else { Ok(()) }
    }
}

/// Says something to a person at once, on stderr; nobody may be there.
pub fn say(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::internal(format_args!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

fn write_notes(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    answer.notes.iter().try_for_each(|note| writeln!(out, "{note}"))
}

fn write_table(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<Vec<String>> =
        answer.records().iter().map(|record| answer.row(record, shown)).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let numeric: Vec<bool> = (0..answer.columns.len())
        .map(|column| rows.iter().all(|row| is_number(&row[column])))
        .collect();
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(answer.columns.iter().map(|column| column.replace(['_', '.'], " ")));
    for row in rows {
        table.add_row(row.into_iter().zip(&numeric).map(|(text, numeric)| {
            let alignment = if *numeric { CellAlignment::Right } else { CellAlignment::Left };
            Cell::new(text).set_alignment(alignment)
        }));
    }
    writeln!(out, "{}", table.trim_fmt())
}

fn is_number(text: &str) -> bool {
    text.is_empty() || text.parse::<Quantity>().is_ok()
}

fn write_json(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    if io::stdout().is_terminal() {
        serde_json::to_writer_pretty(&mut *out, &answer.document)?;
    } else {
        serde_json::to_writer(&mut *out, &answer.document)?;
    }
    writeln!(out)
}

fn write_jsonl(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    for record in answer.records() {
        serde_json::to_writer(&mut *out, record)?;
        writeln!(out)?;
    }
    Ok(())
}

fn write_csv(answer: &Answer, out: &mut dyn Write, header: Header) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    // Its own conversion forgets what kind of error it was.
    let io_error = |error: csv::Error| match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    };
    if header == Header::Wanted {
        csv.write_record(&answer.columns).map_err(io_error)?;
    }
    for record in answer.records() {
        csv.write_record(answer.row(record, plain)).map_err(io_error)?;
    }
    csv.flush()
}

/// A value for a person: objects as `name=value` pairs, null as nothing, no control characters.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => {
            // Nothing has a place in a list, too.
            let item = |item: &Value| if item.is_null() { "-".to_owned() } else { shown(item) };
            items.iter().map(item).collect::<Vec<_>>().join(", ")
        }
        Value::Object(entries) => {
            let pairs =
                entries.iter().map(|(key, value)| format!("{}={}", printable(key), shown(value)));
            pairs.collect::<Vec<_>>().join(" ")
        }
    }
}

/// A value for a program: text as it is, null as nothing, objects and lists as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A number with its noun: `1 row`, `2 rows`, `0 mismatches`.
#[must_use]
pub fn counted(number: impl std::fmt::Display, noun: &str) -> String {
    let number = number.to_string();
    let ending = match (number.as_str(), noun.ends_with("ch")) {
        ("1", _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{number} {noun}{ending}")
}

/// The text with control characters escaped: names come from clients, and a terminal obeys escapes.
#[must_use]
pub fn printable(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Answer {
        let rows = json!([
            {"sku": "a,\"b\"", "sum": "12.5", "dimensions": {"region": "br", "tier": "x"}, "last": null},
            {"sku": "c\u{1b}[2J", "sum": "-3", "dimensions": {}, "last": "1"},
        ]);
        let document = json!({"rows": rows, "freshness": {"as_of": "2024-09-01T00:00:00Z"}});
        Answer::list(document, "rows", &["sku", "sum", "dimensions", "last"]).note("as of now")
    }

    fn written(format: Format) -> (String, String) {
        let (mut out, mut aside) = (Vec::new(), Vec::new());
        Printer::new(format).write(&sample(), &mut out, &mut aside).unwrap();
        (String::from_utf8(out).unwrap(), String::from_utf8(aside).unwrap())
    }

    #[test]
    fn json_is_one_document_and_jsonl_one_record_a_line() {
        let (json, aside) = written(Format::Json);
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), sample().document);
        assert_eq!(aside, "");
        let (lines, _) = written(Format::Jsonl);
        let lines: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(Value::Array(lines), sample().document["rows"]);
    }

    /// A pipe whose reader has gone away.
    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_reader_that_has_gone_away_is_known_as_such_in_every_format() {
        let record = json!({"text": "t".repeat(100_000)});
        let answer = Answer::list(json!({"records": [record]}), "records", &["text"]);
        for format in [Format::Table, Format::Json, Format::Jsonl, Format::Csv] {
            let error = Printer::new(format).write(&answer, &mut Gone, &mut Vec::new());
            assert_eq!(error.unwrap_err().kind(), io::ErrorKind::BrokenPipe, "{format:?}");
        }
    }

    #[test]
    fn csv_quotes_and_keeps_notes_off_stdout() {
        let (csv, aside) = written(Format::Csv);
        assert_eq!(
            csv,
            "sku,sum,dimensions,last\n\"a,\"\"b\"\"\",12.5,\"{\"\"region\"\":\"\"br\"\",\"\"tier\"\":\"\"x\"\"}\",\n\
             c\u{1b}[2J,-3,{},1\n"
        );
        assert_eq!(aside, "as of now\n");
    }

    #[test]
    fn a_table_aligns_numbers_and_shows_no_escapes() {
        let (table, aside) = written(Format::Table);
        assert!(table.contains(" 12.5 ") && table.contains("   -3 "), "{table}");
        assert!(!table.contains('\u{1b}') && table.ends_with("as of now\n"), "{table}");
        assert_eq!(aside, "");
    }

    #[test]
    fn one_is_not_counted_as_many() {
        for (counted, expected) in [
            (counted(0, "row"), "0 rows"),
            (counted(1, "row"), "1 row"),
            (counted(2, "mismatch"), "2 mismatches"),
            (counted("1", "mismatch"), "1 mismatch"),
            (counted(21, "pulse"), "21 pulses"),
        ] {
            assert_eq!(counted, expected);
        }
    }
}
