//! The catalogue file: YAML that a person reviews, checked as a whole before anything believes it.
//!
//! Every mistake names its line, column and path, and what to do; as many as can be found are given
//! at once. What passes is a [`Catalogue`] that rating needs no second look at, and the file's own
//! tests, which [`crate::examples`] runs. Contracts are read by the same means, in
//! [`contract`].

use std::fmt;

use domain::{
    Dimensions, Name, Quantity, Sku, Timestamp, Unit,
    catalogue::{Catalogue, Currency, Rounding, RoundingMode, SkuDefinition},
};
use thiserror::Error;

use crate::{amount::Amount, moment::Calendar};
use cursor::{Cursor, Fields, Issues};
use node::Node;

mod node;

mod cursor;

mod frame;
mod known;
mod tiers;

mod percentage;

mod model;

mod sku;

mod examples;

pub mod contract;

/// Most bytes of a file: what one gRPC message carries.
pub const BYTES_MAX: usize = 4 << 20;
/// Most SKUs in a file, and most tests.
pub const ENTRIES_MAX: usize = 20_000;
/// Most issues that one error lists.
const ISSUES_MAX: usize = 50;

/// A catalogue file that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueFile {
    /// The prices.
    pub catalogue: Catalogue,
    /// The file's own tests, in the order of the file.
    pub tests: Vec<CatalogueTest>,
}

/// An example of a bill that stands in the file beside its prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueTest {
    /// What it shows.
    pub name: String,
    /// The SKU.
    pub sku: Sku,
    /// The unit, which the file may leave out where the SKU has one only.
    pub unit: Unit,
    /// The moment whose price is meant; `None` means the newest price.
    pub at: Option<Timestamp>,
    /// What is used in the period.
    pub usage: TestUsage,
    /// What the bill must come to.
    pub expect: Amount,
}

/// The usage of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TestUsage {
    /// Quantities by dimensions, as the meter gives them.
    Groups(Vec<(Dimensions, Quantity)>),
    /// Amounts of single events, at least one, one an hour in this order.
    Events(Vec<Quantity>),
}

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Line, from 1, where it is known.
    pub line: Option<u64>,
    /// Column, from 1, where it is known.
    pub column: Option<u64>,
    /// Path of the value, for example `skus[2].prices[0].tiers[1].up_to`; empty for the file.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

/// Why a file is no catalogue, or no contract.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct FileError {
    /// The file's name, as the caller gave it.
    pub file: String,
    /// At least one, in the order of the file, at most 50.
    pub issues: Vec<Issue>,
    /// Issues that were found but are not listed.
    pub issues_left_out: usize,
}

impl fmt::Display for FileError {
    /// Prints one line for each issue: `file:line:column: path: message; remedy`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, issue) in self.issues.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{issue}", self.file)?;
        }
        if self.issues_left_out > 0 {
            write!(f, "\n{}: and {} more", self.file, self.issues_left_out)?;
        }
        Ok(())
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}:")?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {} ({})", self.message, self.remedy)
    }
}

/// Reads and checks a catalogue file. `name` is what errors call it. A byte order mark and CRLF are
/// accepted.
///
/// # Errors
/// Every mistake that was found.
pub fn parse(name: &str, bytes: &[u8]) -> Result<CatalogueFile, FileError> {
    parse_as(name, bytes, &CATALOGUE, read)
}

/// What to tell the author of a file in which there is nothing to point at.
struct Kind {
    /// How to begin.
    beginning: &'static str,
    /// What to do about too many bytes.
    too_long: &'static str,
}

const CATALOGUE: Kind = Kind {
    beginning: "start with `catalogue: \"2026-01\"`, `currency: BRL` and `skus:`",
    too_long: "split the catalogue",
};

/// Reads a file by `read`, which gives `None` only after it has noted why.
fn parse_as<T>(
    name: &str,
    bytes: &[u8],
    kind: &Kind,
    read: impl FnOnce(&Cursor<'_>) -> Option<T>,
) -> Result<T, FileError> {
    let root = text_of(bytes, kind).and_then(tree_of).map_err(|issue| FileError {
        file: name.to_owned(),
        issues: vec![issue],
        issues_left_out: 0,
    })?;
    let issues = Issues::default();
    let file = read(&Cursor::root(&root, &issues));
    let (issues, issues_left_out) = issues.into_sorted();
    if issues.is_empty() {
        return Ok(file.expect("a reading function gives None only after it has noted why"));
    }
    Err(FileError { file: name.to_owned(), issues, issues_left_out })
}

/// Checks what comes before YAML: size, encoding, emptiness.
fn text_of<'b>(bytes: &'b [u8], kind: &Kind) -> Result<&'b str, Issue> {
    if bytes.len() > BYTES_MAX {
        let message = format!("{} bytes are more than the {BYTES_MAX} allowed", bytes.len());
        return Err(whole_file(message, kind.too_long));
    }
    let text = str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        Issue {
            line: u64::try_from(line).ok(),
            column: Some(1),
            ..whole_file("not UTF-8 text".to_owned(), "save the file as UTF-8 text")
        }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.contains('\0') {
        return Err(whole_file(
            "holds NUL bytes, so it is not text".to_owned(),
            "give a YAML file",
        ));
    }
    if text.trim().is_empty() {
        return Err(whole_file("the file is empty".to_owned(), kind.beginning));
    }
    Ok(text)
}

fn tree_of(text: &str) -> Result<Node, Issue> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        merge_keys: serde_saphyr::MergeKeyPolicy::Error,
        budget: serde_saphyr::budget! { max_aliases: 0, max_anchors: 0, max_depth: 32 },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location();
        let line = place.map(|place| place.line());
        let tab = line
            .and_then(|line| usize::try_from(line).ok())
            .and_then(|line| text.lines().nth(line.saturating_sub(1)))
            .is_some_and(|line| line.trim_start_matches(' ').starts_with('\t'));
        let (message, remedy) = match &error {
            // The library's own words name its options, which are no business of the author's.
            serde_saphyr::Error::DuplicateMappingKey { key, .. } => {
                let key = key.as_ref().map_or_else(String::new, |key| format!(" `{key}`"));
                (format!("the key{key} stands here a second time"), "keep one of them")
            }
            _ if tab => (error.to_string(), "indent with spaces: YAML allows no tabs"),
            _ => (error.to_string(), "mend the YAML"),
        };
        Issue { line, column: place.map(|place| place.column()), ..whole_file(message, remedy) }
    })
}

fn whole_file(message: String, remedy: &str) -> Issue {
    Issue { line: None, column: None, path: String::new(), message, remedy: remedy.to_owned() }
}

fn read(root: &Cursor<'_>) -> Option<CatalogueFile> {
    let known = ["catalogue", "currency", "rounding", "effective_from", "skus", "retired", "tests"];
    let fields = root.map(&known)?;
    let version = fields
        .need("catalogue", "name the version, as `catalogue: \"2026-01\"`")
        .and_then(|cursor| cursor.name(Name::new));
    let currency = fields
        .need("currency", "name the currency of the bills, as `currency: BRL`")
        .and_then(|cursor| currency(&cursor));
    // Without a currency, prices are read against a stand-in, so that their mistakes show too.
    let assumed = currency.or_else(|| Currency::from_code("XXX"))?;
    let rounding = match fields.get("rounding") {
        Some(cursor) => rounding(&cursor, assumed),
        None => Some(default_rounding(assumed)),
    };
    let effective_from = match fields.get("effective_from") {
        Some(cursor) => moment_or_day(&cursor).map(Some),
        None => Some(None),
    };
    let skus = skus(&fields, assumed)?;
    let retired = retired(&fields, &skus);
    let tests = match fields.get("tests") {
        Some(cursor) => examples::read(&cursor, &skus)?,
        None => Vec::new(),
    };
    let catalogue = Catalogue {
        version: version?,
        currency: currency?,
        rounding: rounding?,
        effective_from: effective_from?,
        skus,
        retired: retired?,
    };
    Some(CatalogueFile { catalogue, tests })
}

/// The SKUs, or `None` where one has mistakes: then the file's tests wait for the next check,
/// because each that names such a SKU would only repeat that it is wrong.
fn skus(fields: &Fields<'_>, currency: Currency) -> Option<Vec<SkuDefinition>> {
    let list = fields.need("skus", "list the SKUs, each with its prices")?;
    let mut seen = std::collections::HashSet::new();
    let mut skus = Vec::new();
    let mut complete = true;
    for cursor in list.list(ENTRIES_MAX)? {
        let Some(definition) = sku::read(&cursor, currency) else {
            complete = false;
            continue;
        };
        if !seen.insert((definition.sku.clone(), definition.unit.clone())) {
            cursor.fail::<()>(
                format!(
                    "SKU `{}` in unit `{}` stands here a second time",
                    definition.sku, definition.unit
                ),
                "keep one entry for each SKU and unit, with all its prices",
            );
        }
        skus.push(definition);
    }
    complete.then_some(skus)
}

/// A moment as RFC 3339, or a date: the first moment of that day in UTC.
fn moment_or_day(cursor: &Cursor<'_>) -> Option<Timestamp> {
    let text = cursor.text()?;
    match Calendar::UTC.parse_date(text).or_else(|| text.parse().ok()) {
        Some(moment) => Some(moment),
        None => cursor.fail(
            format!("`{text}` is no moment"),
            "write a date, which begins at midnight in UTC, or date, time and zone, as \
             2026-01-01T00:00:00-03:00",
        ),
    }
}

/// The SKUs that have no price any more, none of which is priced here.
fn retired(fields: &Fields<'_>, skus: &[SkuDefinition]) -> Option<Vec<(Sku, Option<Unit>)>> {
    let Some(cursor) = fields.get("retired") else { return Some(Vec::new()) };
    let priced: std::collections::HashMap<&Sku, Vec<&Unit>> =
        skus.iter().fold(std::collections::HashMap::new(), |mut priced, definition| {
            priced.entry(&definition.sku).or_insert_with(Vec::new).push(&definition.unit);
            priced
        });
    let entries = cursor.list(ENTRIES_MAX)?;
    let mut retired = std::collections::BTreeSet::new();
    for entry in &entries {
        let Some((sku, unit)) = retired_sku(entry) else { continue };
        let units = priced.get(&sku).map_or(&[][..], Vec::as_slice);
        if units.iter().any(|priced| unit.as_ref().is_none_or(|unit| unit == *priced)) {
            entry.fail::<()>(
                format!("SKU `{sku}` is priced in this file too"),
                "remove it from `skus` or from `retired`, or name the unit that is retired",
            );
        } else if !retired.insert((sku.clone(), unit)) {
            entry.fail::<()>(format!("SKU `{sku}` is named twice"), "remove one");
        }
    }
    (retired.len() == entries.len()).then(|| retired.into_iter().collect())
}

fn retired_sku(entry: &Cursor<'_>) -> Option<(Sku, Option<Unit>)> {
    let fields = entry.map(&["sku", "unit"])?;
    let sku = fields.need("sku", "name the SKU")?.name(Sku::new)?;
    match fields.get("unit") {
        Some(unit) => Some((sku, Some(unit.name(Unit::new)?))),
        None => Some((sku, None)),
    }
}

fn currency(cursor: &Cursor<'_>) -> Option<Currency> {
    let code = cursor.text()?;
    match Currency::from_code(code) {
        Some(currency) => Some(currency),
        None => cursor.fail(
            format!("`{code}` is no currency of ISO 4217"),
            "give its three capital letters, as BRL, USD or EUR",
        ),
    }
}

fn default_rounding(currency: Currency) -> Rounding {
    Rounding::To { digits: currency.minor_digits(), mode: RoundingMode::HalfUp }
}

const ROUNDING_WORDS: &[(&str, Option<RoundingMode>)] = &[
    ("half_up", Some(RoundingMode::HalfUp)),
    ("half_even", Some(RoundingMode::HalfEven)),
    ("up", Some(RoundingMode::Up)),
    ("down", Some(RoundingMode::Down)),
    ("none", None),
];

fn rounding(cursor: &Cursor<'_>, currency: Currency) -> Option<Rounding> {
    let fields = cursor.map(&["digits", "mode"])?;
    let mode = match fields.get("mode") {
        Some(mode) => mode.word("rounding mode", ROUNDING_WORDS, &[])?,
        None => Some(RoundingMode::HalfUp),
    };
    to_rounding(mode, fields.get("digits"), currency.minor_digits())
}

/// Joins a mode with its digits, which `none` has not.
fn to_rounding(
    mode: Option<RoundingMode>,
    digits: Option<Cursor<'_>>,
    digits_default: u8,
) -> Option<Rounding> {
    match (mode, digits) {
        (None, None) => Some(Rounding::Exact),
        (None, Some(digits)) => {
            digits.fail("rounding `none` keeps all digits", "remove `digits`, or name a mode")
        }
        (Some(mode), None) => Some(Rounding::To { digits: digits_default, mode }),
        (Some(mode), Some(digits)) => Some(Rounding::To { digits: digits.digits(18)?, mode }),
    }
}

#[cfg(test)]
mod tests;
