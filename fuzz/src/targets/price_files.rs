//! Catalogue files, files of contracts and amendments, and price lists out of FOCUS files.

use pricing::{
    examples,
    file::{
        self, FileError,
        contract::{self, amendment},
    },
    focus::{self, Basis},
};

/// Stands between a catalogue and a contract.
pub(crate) const SEPARATOR: &[u8] = b"\n=== contract\n";

/// Stands between a contract and an amendment.
pub(crate) const AMENDMENT: &[u8] = b"\n=== amendment\n";

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
    let (catalogue, bytes) = divided(bytes, SEPARATOR);
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

/// As for contracts: the outline finds no mistake that reading against the contract does not. What passes
/// makes values that tile the contract's time, and says nothing new when it is said twice.
/// The input is that for contracts, a line `=== amendment`, and an amendment.
pub(super) fn amendment(bytes: &[u8]) {
    let (agreed, bytes) = divided(bytes, AMENDMENT);
    let (catalogue, agreed) = divided(agreed, SEPARATOR);
    let outline = amendment::outline("fuzz.yaml", bytes);
    outline.as_ref().err().into_iter().for_each(|error| check_error(bytes, error));
    let Ok(catalogue) = file::parse("catalogue.yaml", catalogue).map(|file| file.catalogue) else {
        return;
    };
    let parsed = contract::parse_contract("contract.yaml", agreed, &|_| Some(catalogue.clone()));
    let Ok(contract) = parsed else { return };
    let base = amendment::Base { contract: &contract, amendments: &[], catalogue: &catalogue };
    let amendment = match amendment::parse_amendment("fuzz.yaml", bytes, base) {
        Ok(amendment) => amendment,
        Err(error) => return check_error(bytes, &error),
    };
    let outline = outline.expect("what passes with its contract passes without one");
    assert_eq!((&outline.name, &outline.contract), (&amendment.name, &amendment.contract));
    let values = contract.amended([&amendment]);
    assert_eq!(values[0].valid_from, contract.valid_from);
    assert_eq!(values[values.len() - 1].valid_to, contract.valid_to);
    for pair in values.windows(2) {
        assert_eq!(pair[0].valid_to, Some(pair[1].valid_from));
    }
    assert_eq!(contract.amended([&amendment, &amendment]), values);
}

/// What stands before a separator and behind it; all of it behind, where there is none.
fn divided<'b>(bytes: &'b [u8], separator: &[u8]) -> (&'b [u8], &'b [u8]) {
    match bytes.windows(separator.len()).position(|part| part == separator) {
        Some(at) => (&bytes[..at], &bytes[at + separator.len()..]),
        None => (&b""[..], bytes),
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
