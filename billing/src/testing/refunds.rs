//! Golden refunds: each file of `tests/refunds/` is one case that an accountant can read and reckon
//! again.
//!
//! A file says in words what it shows, then tells steps in their order: `=== contract` (a file that is
//! applied), `=== usage` (`time | SKU | amount`), `=== run MONTH` and `=== deltas MONTH`, `=== credit
//! NUMBER KIND REASON [id=ID]` (`line | amount`, `*` for the document as a whole), `=== void NUMBER`. A row
//! `! WORDS` below a credit or a void says that it is refused with these words. `=== documents` holds all
//! documents so far (`number | kind | state | total | what credits pay or get back | due | reckoning`),
//! `=== lines NUMBER` those of one (`kind | name | amount | reckoning`), `=== credits` what is left of each
//! (`name | amount | reckoning`), `=== preview MONTH` (`total | what credits would pay | due`), `=== totals`
//! those of the list (`currency | documents | total | paid | due | void`). Prices: `vm` 1.00 an hour, `disk`
//! 0.10 a GB, `support` 30.00 a month. At the end every document verifies.

use std::{fs, path::Path};

use edge::Problem;
use pricing::{Amount, invoice::credits};

use super::story::{Note, Story};

/// Cases that there are at least, so that none gets lost.
const CASES_MIN: usize = 23;

#[tokio::test]
async fn every_golden_refund_comes_out_as_it_was_reckoned_by_hand() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/refunds");
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= CASES_MIN, "{} cases", paths.len());
    for path in paths {
        let name = path.file_stem().unwrap().to_str().unwrap();
        tell(name, &fs::read_to_string(&path).unwrap()).await;
    }
}

async fn tell(name: &str, text: &str) {
    let mut sections = text.split("\n=== ");
    assert!(!sections.next().unwrap().trim().is_empty(), "{name}: say in words what it shows");
    let mut story = Story::new().await;
    for (place, section) in (1..).zip(sections) {
        let (head, body) = section.split_once('\n').unwrap_or((section, ""));
        let (step, rest) = head.split_once(' ').unwrap_or((head, ""));
        let at = format!("{name}, step {place}: {head}");
        match step {
            "contract" => story.apply(body).await.unwrap_or_else(|error| panic!("{at}: {error:?}")),
            "usage" => use_up(&mut story, body).await,
            "run" => drop(story.run(rest, false).await),
            "deltas" => drop(story.run(rest, true).await),
            "credit" => check(&at, body, credit(&story, rest, body).await),
            "void" => check(&at, body, story.void(rest).await.map(drop)),
            "documents" => assert_eq!(documents(&story).await, table(body, 6), "{at}"),
            "lines" => assert_eq!(lines(&story, rest).await, table(body, 3), "{at}"),
            "credits" => assert_eq!(left(&story).await, table(body, 2), "{at}"),
            "preview" => assert_eq!(previewed(&story, rest).await, table(body, 3), "{at}"),
            "totals" => assert_eq!(totals(&story).await, table(body, 6), "{at}"),
            _ => panic!("{at}: no such step"),
        }
    }
    story.verify().await;
}

/// Rows of so many cells between bars; what is behind is the reckoning, for people.
fn table(body: &str, cells: usize) -> Vec<Vec<String>> {
    let lines = body.lines().map(str::trim);
    let rows = lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
    let row = |line: &str| {
        let row: Vec<String> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
        assert!(row.len() >= cells, "{line}: {cells} cells");
        row.into_iter().take(cells).collect()
    };
    rows.map(row).collect()
}

fn check<T>(at: &str, body: &str, done: Result<T, Problem>) {
    let refusal = body.lines().find_map(|line| line.trim().strip_prefix('!'));
    match (done, refusal) {
        (Ok(_), None) => {}
        (Err(problem), Some(words)) => {
            let message = format!("{} {}", problem.reason, problem.message);
            assert!(message.contains(words.trim()), "{at}: {message}");
        }
        (Ok(_), Some(words)) => panic!("{at}: not refused with {words}"),
        (Err(problem), None) => panic!("{at}: {problem:?}"),
    }
}

async fn use_up(story: &mut Story, body: &str) {
    let rows = table(body, 3);
    let unit = |sku: &str| match sku {
        "vm" => "hour",
        "disk" => "GB",
        _ => "month",
    };
    let row = |row: &'_ Vec<String>| (row[0].clone(), row[1].clone(), row[2].clone());
    let rows: Vec<(String, String, String)> = rows.iter().map(row).collect();
    let rows: Vec<_> = rows
        .iter()
        .map(|(time, sku, amount)| (time.as_str(), sku.as_str(), unit(sku), amount.as_str()))
        .collect();
    story.use_up(&rows).await;
}

async fn credit(story: &Story, head: &str, body: &str) -> Result<(), Problem> {
    let (head, request_id) = head.split_once(" id=").unwrap_or((head, ""));
    let mut words = head.splitn(3, ' ');
    let [number, kind, reason] = [words.next(), words.next(), words.next()].map(Option::unwrap);
    let lines = table(body, 2).into_iter().map(|row| {
        let line = if row[0] == "*" { 0 } else { row[0].parse().unwrap() };
        (line, row[1].clone())
    });
    let lines = lines.collect();
    story.credit(Note { number, kind, reason, request_id, lines }).await.map(drop)
}

async fn documents(story: &Story) -> Vec<Vec<String>> {
    let listed = story.listed().await.invoices.into_iter();
    let row = |found: proto::v1::Invoice| {
        let paid = found.payments.iter().map(|paid| format!("{} {}", paid.credit, paid.amount));
        let paid = paid.collect::<Vec<_>>().join(", ");
        vec![found.number, found.kind, found.state, found.total, paid, found.due]
    };
    listed.map(row).collect()
}

async fn lines(story: &Story, number: &str) -> Vec<Vec<String>> {
    let documents = &story.service.parts.books.documents;
    let found = documents.find(number).await.unwrap();
    let lines = story.content(&found.document).await.into_lines().into_iter();
    let row = |line: pricing::document::DocumentLine| {
        let sku = line.product_sku.or(line.name).unwrap_or_default();
        vec![line.kind.as_str().to_owned(), sku, line.amount.to_string()]
    };
    lines.map(row).collect()
}

/// What is left of each credit of the contracts.
async fn left(story: &Story) -> Vec<Vec<String>> {
    let ledger = story.ledger().await;
    let contracts = story.contracts().await;
    let mut names: Vec<&str> = contracts
        .iter()
        .flat_map(|contract| &contract.credits)
        .map(|it| it.name.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    let left = |name: &str| -> Option<Amount> {
        credits::stated(&contracts, name)?.checked_sub(ledger.used(name)?)
    };
    names.into_iter().map(|name| vec![name.to_owned(), left(name).unwrap().text(2)]).collect()
}

async fn previewed(story: &Story, month: &str) -> Vec<Vec<String>> {
    let invoices = story.preview(month).await.invoices.into_iter();
    let row = |made: crate::answers::preview::PreviewedInvoice| {
        let paid = made.payments.iter().map(|paid| format!("{} {}", paid.credit, paid.amount));
        let paid = paid.collect::<Vec<_>>().join(", ");
        vec![made.document.total().to_string(), paid, made.due]
    };
    invoices.map(row).collect()
}

async fn totals(story: &Story) -> Vec<Vec<String>> {
    let totals = story.listed().await.totals.into_iter();
    let row = |sum: proto::v1::InvoiceTotals| {
        vec![sum.currency, sum.documents.to_string(), sum.total, sum.paid, sum.due, sum.void]
    };
    totals.map(row).collect()
}
