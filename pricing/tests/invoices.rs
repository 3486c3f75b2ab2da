//! Golden invoices: each file of `invoices/` is one case that an accountant can read and reckon again.
//!
//! A file says in words what it shows, then holds sections: `=== catalogue`, again for each later
//! version (`=== catalogue published TIME` where its file has no date), any number of `=== contract` and
//! `=== amendment` in the order of application, each checked against the catalogue above it, `=== usage` (`time | SKU | unit | amount | dimensions`, a
//! row a pulse), and for each billing period `=== invoice MONTH` with rows `kind | what | amount |
//! reckoning`. Amounts are compared as numbers, the reckoning is for people. The rows are all lines of
//! the invoice in their order, then `total`, then what credits pay and what is `due` where there are
//! any, and `waiting | what | reason` for usage without a price. A `window SECONDS` after `usage` sets
//! the length of the store's windows.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests too; the lint only knows functions.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, sync::Arc, time::Duration};

use domain::{
    Aggregate, Cell, Dimensions, Epoch, LogId, Offset, Partition, Quantity, ResourceKey, RowKey,
    SegmentId, Sku, Tenant, Timestamp, Unit, UsageRow, WindowLength, amendment::Amendment,
    catalogue::Catalogue, contract::Contract,
};
use pricing::{
    Amount,
    editions::{Editions, Published},
    file::{self, contract::amendment},
    invoice::{self, Invoice, Subject, credits},
    moment::Calendar,
    rate::{Sources, Step},
    timeline::{self, Month},
};

#[path = "invoices/documents.rs"]
mod documents;

/// Cases that there are at least, so that none gets lost.
const CASES_MIN: usize = 200;

struct Case {
    name: String,
    /// In the order of publishing.
    catalogues: Vec<Published>,
    contracts: Vec<Contract>,
    /// In the order of application.
    amendments: Vec<Amendment>,
    usage: Vec<UsageRow>,
    /// Month and rows.
    invoices: Vec<(String, Vec<Vec<String>>)>,
}

impl Case {
    /// The catalogue that was published last.
    fn newest(&self) -> Catalogue {
        Catalogue::clone(&self.catalogues.last().expect("a catalogue comes first").catalogue)
    }

    fn amendment(&self, text: &str) -> Amendment {
        let outline = amendment::outline(&self.name, text.as_bytes());
        let outline = outline.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let contract = self.contracts.iter().find(|found| found.name == outline.contract);
        let before: Vec<Amendment> = self.amendments_of(&outline.contract).cloned().collect();
        let base = amendment::Base {
            contract: contract.expect("an amendment follows its contract"),
            amendments: &before,
            catalogue: &self.newest(),
        };
        amendment::parse_amendment(&self.name, text.as_bytes(), base)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    fn amendments_of(&self, contract: &domain::Name) -> impl Iterator<Item = &Amendment> {
        self.amendments.iter().filter(move |found| found.contract == *contract)
    }

    /// The contracts as their amendments make them.
    fn agreed(&self) -> Vec<Contract> {
        let amended = |contract: &Contract| contract.amended(self.amendments_of(&contract.name));
        self.contracts.iter().flat_map(amended).collect()
    }

    /// The invoices of a month by some usage.
    fn invoices(&self, month: Month, usage: &[UsageRow]) -> Vec<Invoice> {
        let tenant = Tenant::new("acme").unwrap();
        let editions = Editions::of(&self.catalogues).expect("a case has a catalogue");
        let mut contracts = editions.standard_contracts(&tenant);
        contracts.extend(self.agreed());
        let stretches = timeline::stretches(&contracts);
        let mut invoices = Vec::new();
        for mut period in timeline::periods(&stretches, month).unwrap() {
            let by_name = |version: &domain::Name| {
                let found =
                    self.catalogues.iter().find(|found| found.catalogue.version == *version);
                Arc::clone(&found.expect("a version that was published").catalogue)
            };
            let (parts, catalogues): (Vec<_>, Vec<_>) =
                editions.parts(&period, by_name).into_iter().unzip();
            period.parts = parts;
            let catalogues: Vec<&Catalogue> = catalogues.iter().map(|found| &**found).collect();
            let sources = Sources::Listed;
            let made = invoice::invoice(&tenant, &period, &catalogues, usage, sources);
            let mut made = made.unwrap();
            editions.name_retired(&mut made);
            invoices.push(made);
        }
        invoices
    }
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/invoices");
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "txt"));
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Case {
    let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
    let text = fs::read_to_string(path).unwrap();
    let mut sections = text.split("\n=== ");
    assert!(!sections.next().unwrap().trim().is_empty(), "{name}: say in words what it shows");
    let mut case = Case {
        name,
        catalogues: Vec::new(),
        contracts: Vec::new(),
        amendments: Vec::new(),
        usage: Vec::new(),
        invoices: Vec::new(),
    };
    for section in sections {
        let (head, body) = section.split_once('\n').unwrap_or((section, ""));
        let mut words = head.split_whitespace();
        match words.next().unwrap() {
            "catalogue" => {
                let parsed = file::parse(&case.name, body.as_bytes());
                let parsed = parsed.unwrap_or_else(|error| panic!("{}: {error}", case.name));
                case.catalogues.push(Published {
                    catalogue: Arc::new(parsed.catalogue),
                    sequence: case.catalogues.len() as u64 + 1,
                    published_at: words.nth(1).map_or(Timestamp::MIN, |at| at.parse().unwrap()),
                });
            }
            "contract" => {
                let catalogue = case.newest();
                let parsed = file::contract::parse_contract(&case.name, body.as_bytes(), &|_| {
                    Some(catalogue.clone())
                });
                case.contracts
                    .push(parsed.unwrap_or_else(|error| panic!("{}: {error}", case.name)));
            }
            "amendment" => {
                let amendment = case.amendment(body);
                case.amendments.push(amendment);
            }
            "usage" => {
                let seconds = words.nth(1).map_or(3_600, |seconds| seconds.parse().unwrap());
                let window = WindowLength::new(Duration::from_secs(seconds)).unwrap();
                case.usage = table(body).iter().map(|row| usage_row(row, window)).collect();
            }
            "invoice" => {
                let month = words.next().unwrap_or_else(|| panic!("{}: which month?", case.name));
                case.invoices.push((month.to_owned(), table(body)));
            }
            other => panic!("{}: no section is called {other:?}", case.name),
        }
    }
    case
}

/// Rows of cells between bars, without empty lines and those that begin with `#`.
fn table(body: &str) -> Vec<Vec<String>> {
    let lines =
        body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// A pulse as the store keeps it: each a row of its own, as if of its own segment.
fn usage_row(row: &[String], window: WindowLength) -> UsageRow {
    let time: Timestamp = row[0].parse().unwrap_or_else(|error| panic!("{:?}: {error}", row[0]));
    let amount: Quantity = row[3].parse().unwrap();
    let pairs: Vec<(&str, &str)> = row
        .get(4)
        .into_iter()
        .flat_map(|pairs| pairs.split(','))
        .filter_map(|pair| pair.trim().split_once('='))
        .collect();
    let segment = SegmentId {
        log_id: LogId([1; 16]),
        partition: Partition(0),
        epoch: Epoch(0),
        start: Offset(time.micros().unsigned_abs()),
    };
    UsageRow {
        key: RowKey {
            resource: ResourceKey {
                tenant: Tenant::new("acme").unwrap(),
                product_sku: Sku::new(&row[1]).unwrap(),
                use_unity: Unit::new(&row[2]).unwrap(),
                dimensions: Dimensions::from_pairs(pairs),
            },
            window_start: window.start_of(time),
            segment,
        },
        cell: Cell {
            offset_last: Offset(segment.start.0 + 1),
            aggregate: Aggregate::of(amount, time),
        },
    }
}

/// The invoices of a case, in the order in which it lists them.
fn bill(case: &Case) -> Vec<(String, Invoice)> {
    let mut months: Vec<&String> = case.invoices.iter().map(|(month, _)| month).collect();
    months.dedup();
    let mut invoices = Vec::new();
    for month in months {
        for made in case.invoices(month.parse().unwrap(), &case.usage) {
            // Most cases have no usage before their first contract.
            let first = case.contracts.iter().map(|contract| contract.valid_from).min();
            let is_before = first.is_some_and(|first| made.window.end <= first);
            if !is_before || !made.lines.is_empty() || !made.unpriced.is_empty() {
                invoices.push((month.clone(), made));
            }
        }
    }
    invoices
}

/// An invoice as the rows that a case holds.
fn rows(
    invoice: &Invoice,
    contracts: &[Contract],
    used: &mut BTreeMap<String, Amount>,
) -> Vec<(String, String, Option<Amount>)> {
    let calendar = Calendar::named(invoice.terms.time_zone.as_str()).unwrap();
    let last = invoice.window.end.minus(Duration::from_micros(1));
    let days = format!("{} to {}", calendar.date_of(invoice.window.start), calendar.date_of(last));
    let mut rows = vec![("period".to_owned(), days, None)];
    for line in &invoice.lines {
        let what = match &line.subject {
            Subject::Usage(usage) => {
                let mut what = format!("{} {}", usage.product_sku, usage.use_unity);
                for (name, value) in usage.dimensions.pairs() {
                    write!(what, " {name}={value}").unwrap();
                }
                what
            }
            Subject::Discount(name) | Subject::Commitment(name) | Subject::Tax(name) => {
                name.as_str().to_owned()
            }
            Subject::Rounding => String::new(),
        };
        let is_bound = line.steps.iter().all(Step::is_bound);
        let kind = if is_bound { "bound" } else { line.subject.kind() };
        rows.push((kind.to_owned(), what, Some(line.amount)));
    }
    for waiting in &invoice.unpriced {
        let what =
            format!("{} {}: {}", waiting.product_sku, waiting.use_unity, waiting.reason.as_str());
        rows.push(("waiting".to_owned(), what, Some(waiting.quantity)));
    }
    rows.push(("total".to_owned(), String::new(), Some(invoice.total)));
    let period = (invoice.currency().code(), invoice.window);
    let of = |credit: &str| used.get(credit).copied().unwrap_or(Amount::ZERO);
    let payments = credits::payments(contracts, period, invoice.total, of);
    let mut due = invoice.total;
    for (credit, amount) in payments {
        let name = credit.name.as_str().to_owned();
        due = due.checked_sub(amount).unwrap();
        let sum = used.entry(name.clone()).or_insert(Amount::ZERO);
        *sum = sum.checked_add(amount).unwrap();
        assert!(*sum <= Amount::of(credit.amount), "{name} is spent twice");
        rows.push(("credit".to_owned(), name, amount.checked_neg()));
    }
    if contracts.iter().any(|contract| !contract.credits.is_empty()) {
        rows.push(("due".to_owned(), String::new(), Some(due)));
    }
    rows
}

fn expected(row: &[String]) -> (String, String, Option<Amount>) {
    let amount = row.get(2).filter(|amount| !amount.is_empty());
    let amount =
        amount.map(|amount| amount.parse().unwrap_or_else(|error| panic!("{row:?}: {error}")));
    (row[0].clone(), row.get(1).cloned().unwrap_or_default(), amount)
}

#[test]
fn every_golden_invoice_comes_out_as_it_was_reckoned_by_hand() {
    let cases = cases();
    let mut wrong = String::new();
    for case in &cases {
        let invoices = bill(case);
        let mut used = BTreeMap::new();
        if invoices.len() != case.invoices.len() {
            writeln!(
                wrong,
                "{}: {} invoices, {} expected",
                case.name,
                invoices.len(),
                case.invoices.len()
            )
            .unwrap();
        }
        for ((month, wanted), (_, invoice)) in case.invoices.iter().zip(&invoices) {
            let found = rows(invoice, &case.agreed(), &mut used);
            let wanted: Vec<_> = wanted.iter().map(|row| expected(row)).collect();
            if found != wanted {
                writeln!(wrong, "{} {month}:", case.name).unwrap();
                let text = |(kind, what, amount): &(String, String, Option<Amount>)| {
                    format!("{kind} | {what} | {}", amount.map_or(String::new(), |a| a.to_string()))
                };
                for (side, rows) in [("expected", &wanted), ("found", &found)] {
                    for row in rows.iter() {
                        writeln!(wrong, "  {side:<9} {}", text(row)).unwrap();
                    }
                }
            }
            for line in &invoice.lines {
                let steps = line.steps.iter().map(Step::amount);
                let sum = steps.into_iter().try_fold(Amount::ZERO, Amount::checked_add);
                assert_eq!(sum, Some(line.amount), "{}: the steps of {}", case.name, line.key());
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(cases.len() >= CASES_MIN, "{} cases", cases.len());
}
