//! Catalogue files, contract files, and price lists out of FOCUS files.

use pricing::{
    examples,
    file::{self, FileError, contract},
    focus::{self, Basis},
};

/// Stands between a catalogue and a contract.
pub(crate) const SEPARATOR: &[u8] = b"\n=== contract\n";

/// Every mistake has its place; what passes has prices that can be rated, and does not depend on how
/// lines end.
pub(super) fn catalogue(bytes: &[u8]) {
    let parsed = file::parse("fuzz.yaml", bytes);
    match &parsed {
        Ok(file) => {
            let results = examples::run(file);
            assert_eq!(results.len(), file.tests.len());
        }
        Err(error) => check_error(bytes, error),
    }
    if !bytes.contains(&b'\r')
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        let windows = file::parse("fuzz.yaml", text.replace('\n', "\r\n").as_bytes());
        assert_eq!(windows.ok(), parsed.ok());
    }
}

/// As for catalogues, with and without a catalogue at hand: the check without one finds no mistake that
/// the other does not. The input is a catalogue, a line `=== contract`, and a contract.
pub(super) fn contract(bytes: &[u8]) {
    let at = bytes.windows(SEPARATOR.len()).position(|part| part == SEPARATOR);
    let (catalogue, bytes) = match at {
        Some(at) => (&bytes[..at], &bytes[at + SEPARATOR.len()..]),
        None => (&b""[..], bytes),
    };
    let catalogue = file::parse("catalogue.yaml", catalogue).ok().map(|file| file.catalogue);
    let outline = contract::check_contract("fuzz.yaml", bytes);
    let parsed = contract::parse_contract("fuzz.yaml", bytes, &|_| catalogue.clone());
    for error in [outline.as_ref().err(), parsed.as_ref().err()] {
        error.into_iter().for_each(|error| check_error(bytes, error));
    }
    if let Ok(contract) = parsed {
        let outline = outline.expect("what passes with its catalogue passes without one");
        assert_eq!((outline.name, outline.tenant), (contract.name, contract.tenant));
    }
}

/// Each issue says what to do, and points into the text.
fn check_error(bytes: &[u8], error: &FileError) {
    assert!((1..=50).contains(&error.issues.len()), "{} issues", error.issues.len());
    assert!(error.issues_left_out == 0 || error.issues.len() == 50);
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    // For YAML a carriage return alone ends a line, too.
    let lines: Vec<&str> = text.split(['\n', '\r']).collect();
    for issue in &error.issues {
        assert!(!issue.message.is_empty() && !issue.remedy.is_empty(), "{issue:?}");
        assert_eq!(issue.line.is_some(), issue.column.is_some(), "{issue:?}");
        if let (Some(line), Some(column)) = (issue.line, issue.column) {
            let line = usize::try_from(line).unwrap();
            assert!((1..=lines.len()).contains(&line), "{issue:?} of {} lines", lines.len());
            // One past the end: something is missing there.
            let columns = lines[line - 1].chars().count() as u64 + 1;
            assert!((1..=columns).contains(&column), "{issue:?} of {columns} columns");
        }
    }
}

/// Every row has one outcome; what a list implies is a catalogue whose own tests pass.
pub(super) fn price_list(bytes: &[u8]) {
    for basis in [Basis::Pricing, Basis::Consumed] {
        let Ok(rows) = focus::read(bytes, basis) else { continue };
        for (index, row) in rows.iter().enumerate() {
            if let Err(error) = row {
                assert_eq!(error.row, index as u64 + 2);
                assert!(!error.message.is_empty());
            }
        }
        let rows: Vec<_> = rows.into_iter().flatten().collect();
        let Ok(imported) = focus::import(&rows, None) else { continue };
        let file = file::parse("imported.yaml", imported.text.as_bytes())
            .unwrap_or_else(|error| panic!("{error}\n{}", imported.text));
        assert_eq!(file.tests.len(), imported.tests);
        for result in examples::run(&file) {
            assert!(result.ok, "{result:?}\n{}", imported.text);
        }
    }
}
