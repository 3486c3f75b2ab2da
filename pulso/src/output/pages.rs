//! An answer that comes in pages: each is printed before the next one is asked for.

use std::{
    io::{self, Write},
    ops::ControlFlow,
};

use super::{Answer, Format, write_csv, write_jsonl, written};
use crate::exit::Failure;

/// Prints the records of an answer page by page, as JSON lines, or as CSV with one header above all.
#[derive(Clone, Copy, Debug)]
pub struct Pages {
    format: Format,
    header: Header,
}

/// Whether CSV begins with the names of its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    Wanted,
    Printed,
}

impl Pages {
    pub(super) const fn new(format: Format) -> Self {
        Self { format, header: Header::Wanted }
    }

    /// Prints a page. Breaks when the reader has gone away.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn print(&mut self, page: &Answer) -> Result<ControlFlow<()>, Failure> {
        ended(self.write(page, &mut io::stdout().lock()))
    }

    fn write(&mut self, page: &Answer, out: &mut dyn Write) -> io::Result<()> {
        match self.format {
            Format::Csv => write_csv(page, out, self.header)?,
            Format::Table | Format::Json | Format::Jsonl => write_jsonl(page, out)?,
        }
        self.header = Header::Printed;
        out.flush()
    }
}

/// Prints a piece of a text that is printed as it comes. Breaks when the reader has gone away.
///
/// # Errors
/// When stdout cannot be written.
pub fn print_text(text: &str) -> Result<ControlFlow<()>, Failure> {
    let mut out = io::stdout().lock();
    ended(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Whether to go on, after a write.
fn ended(result: io::Result<()>) -> Result<ControlFlow<()>, Failure> {
    let gone = result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
    written(result)?;
    Ok(if gone { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::output::Printer;

    #[test]
    fn pages_of_csv_have_one_header_and_pages_of_lines_have_none() {
        let page = &Answer::list(json!({"rows": [{"sku": "a"}, {"sku": "b"}]}), "rows", &["sku"]);
        for (format, lines) in [(Format::Csv, 1 + 2 * 2), (Format::Jsonl, 2 * 2)] {
            let (mut pages, mut out) = (Printer::new(format).pages(), Vec::new());
            pages.write(page, &mut out).unwrap();
            pages.write(page, &mut out).unwrap();
            let out = String::from_utf8(out).unwrap();
            assert_eq!(out.lines().count(), lines, "{out}");
        }
    }
}
