//! Files of usage: JSON lines, CSV, CloudEvents, FOCUS.

use std::io::{self, BufRead, BufReader};

use pulso::ingest::{
    cloudevents, csv_rows,
    focus::{self, FocusQuantity},
    jsonl,
    row::RowResult,
};

/// A reader of one format.
type Read = fn(&mut dyn BufRead, &mut dyn FnMut(RowResult) -> io::Result<()>) -> io::Result<()>;

/// Every line with something on it is a row or a rejection.
pub(super) fn json_lines(bytes: &[u8]) {
    let (rows, end) = outcomes(jsonl::read, bytes);
    assert_eq!(end, None);
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    assert_eq!(rows.len(), lines.count());
}

/// Rows are numbered without a gap.
pub(super) fn csv(bytes: &[u8]) {
    let (rows, _) = outcomes(csv_rows::read, bytes);
    check_numbers(&rows);
}

/// Rows are numbered without a gap, whichever quantity is read.
pub(super) fn focus_rows(bytes: &[u8]) {
    let pricing: Read = |input, sink| focus::read(input, FocusQuantity::Pricing, sink);
    let consumed: Read = |input, sink| focus::read(input, FocusQuantity::Consumed, sink);
    for read in [pricing, consumed] {
        check_numbers(&outcomes(read, bytes).0);
    }
}

/// One event a line, or one list.
pub(super) fn cloud_events(bytes: &[u8]) {
    let (rows, end) = outcomes(cloudevents::read, bytes);
    let is_list = bytes.trim_ascii_start().starts_with(b"[");
    if is_list {
        check_numbers(&rows);
        // A list is read to its end wherever it is one.
        let list = serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(bytes);
        if let (Ok(list), None) = (&list, &end) {
            assert_eq!(rows.len(), list.len());
        }
        assert!(list.is_ok() || end.is_some(), "what is no list of JSON was read to its end");
    } else {
        assert_eq!(end, None);
    }
}

fn check_numbers(rows: &[RowResult]) {
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(number(row), index as u64 + 1);
    }
}

const fn number(row: &RowResult) -> u64 {
    match row {
        Ok(row) => row.number,
        Err(rejection) => rejection.row,
    }
}

/// Every outcome in order, and why reading ended early. It is the same however the bytes arrive.
fn outcomes(read: Read, bytes: &[u8]) -> (Vec<RowResult>, Option<String>) {
    let whole = collect(read, &mut &bytes[..]);
    for row in &whole.0 {
        if let Err(rejection) = row {
            assert!(!rejection.reason.is_empty() && !rejection.message.is_empty());
        }
    }
    assert!(whole.0.is_sorted_by(|one, next| number(one) < number(next)));
    // Pieces of one byte only where that is not thousands of calls.
    let least = if bytes.len() <= 2_048 { 1 } else { 61 };
    for piece in [least, 7.max(least), 1_024] {
        let pieces = collect(read, &mut BufReader::with_capacity(piece, bytes));
        assert_eq!(pieces, whole, "in pieces of {piece}");
    }
    whole
}

fn collect(read: Read, input: &mut dyn BufRead) -> (Vec<RowResult>, Option<String>) {
    let mut rows = Vec::new();
    let end = read(input, &mut |row| {
        rows.push(row);
        Ok(())
    });
    (rows, end.err().map(|error| error.to_string()))
}
