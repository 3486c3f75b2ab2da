//! What `pulso catalog` does without a server: import, check and test a file.

use std::path::Path;

use pricing::{
    examples,
    file::{self, CatalogueFile},
    focus::{self, Basis, FocusRow},
};
use serde_json::json;

use super::{ImportArgs, ImportFormat};
use crate::{
    commands::files::read_bytes,
    exit::{Exit, Failure},
    output::{self, Answer, Format, Printer, counted},
};

/// Most row mistakes that an import lists.
const MISTAKES_MAX: usize = 20;

/// Draws a price list from a provider's file.
pub(super) fn import(printer: &Printer, args: &ImportArgs) -> Result<Exit, Failure> {
    let ImportFormat::Focus = args.format;
    let bytes = read_bytes(&args.file)?;
    let at = |message: &dyn std::fmt::Display| {
        Failure::data(format_args!("{}: {message}", args.file.display()))
    };
    let (rows, mistakes) = focus_rows(&bytes).map_err(|error| at(&error))?;
    let version = args.catalogue.as_deref();
    let imported = focus::import(&rows, version).map_err(|error| at(&error))?;
    let counts = format!(
        "{}: {}, {}, {}; {} without a price, {} whose own cost does not follow from their price",
        counted(imported.rows, "row"),
        counted(imported.skus, "SKU"),
        counted(imported.prices, "price"),
        counted(imported.tests, "test"),
        counted(imported.rows_without_price, "row"),
        imported.rows_not_checkable
    );
    output::say(&counts);
    for mistake in mistakes.iter().take(MISTAKES_MAX) {
        output::say(format_args!("left out: {mistake}"));
    }
    if mistakes.len() > MISTAKES_MAX {
        output::say(format_args!("left out: and {} more rows", mistakes.len() - MISTAKES_MAX));
    }
    if printer.format() == Format::Table {
        Printer::print_text(&imported.text)?;
    } else {
        let document = json!({
            "text": imported.text,
            "rows": imported.rows,
            "skus": imported.skus,
            "prices": imported.prices,
            "tests": imported.tests,
            "rows_without_price": imported.rows_without_price,
            "rows_not_checkable": imported.rows_not_checkable,
            "rows_left_out": mistakes.len(),
        });
        let columns = ["rows", "skus", "prices", "tests", "rows_left_out", "text"];
        printer.print(&Answer::single(document, &columns))?;
    }
    Ok(if mistakes.is_empty() { Exit::Success } else { Exit::Data })
}

fn focus_rows(bytes: &[u8]) -> Result<(Vec<FocusRow>, Vec<focus::RowError>), focus::FocusError> {
    let mut rows = Vec::new();
    let mut mistakes = Vec::new();
    for row in focus::read(bytes, Basis::Pricing)? {
        match row {
            Ok(row) => rows.push(row),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    Ok((rows, mistakes))
}

/// Checks a file.
pub(super) fn check(printer: &Printer, path: &Path) -> Result<Exit, Failure> {
    let file = parse(path)?;
    let document = json!({
        "ok": true,
        "catalogue": file.catalogue.version.as_str(),
        "skus": file.catalogue.skus.len(),
        "tests": file.tests.len(),
    });
    printer.print(&Answer::single(document, &["ok", "catalogue", "skus", "tests"]))?;
    Ok(Exit::Success)
}

/// Runs a file's own tests.
pub(super) fn test(printer: &Printer, path: &Path) -> Result<Exit, Failure> {
    let results = examples::run(&parse(path)?);
    let passed = results.iter().filter(|result| result.ok).count();
    let failed = results.len() - passed;
    let rows: Vec<_> = results
        .iter()
        .map(|result| {
            json!({
                "name": result.name,
                "sku": result.sku,
                "expect": result.expect,
                "got": result.got,
                "ok": result.ok,
            })
        })
        .collect();
    let document = json!({"passed": passed, "failed": failed, "results": rows});
    let answer = Answer::list(document, "results", &["name", "sku", "expect", "got", "ok"]);
    printer.print(&answer.note(format!("{passed} passed, {failed} failed")))?;
    Ok(if failed == 0 { Exit::Success } else { Exit::CheckFailed })
}

fn parse(path: &Path) -> Result<CatalogueFile, Failure> {
    file::parse(&path.display().to_string(), &read_bytes(path)?).map_err(Failure::data)
}
