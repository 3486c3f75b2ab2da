//! Laws of refunds, over random histories of usage, contracts, amendments, catalogues with dates, invoices,
//! deltas, notes of both kinds, reversals and voids: no more goes back than was billed, of a period and of each of its lines; what
//! credits paid goes back to them before cash; and after a run for deltas the documents add up to what
//! rating from scratch gives, less the goodwill.

use std::collections::BTreeMap;

use domain::Timestamp;
use edge::problem::reasons;
use pricing::{
    Amount,
    document::{InvoiceDocument, LineKind, NoteKind},
    invoice::credits,
};
use proptest::prelude::*;

use super::story::{self, Note, Story};
use crate::books::document::{Document, Kind};

/// Histories, unless `PULSO_TEST_HISTORIES` asks for another number.
const HISTORIES: u32 = 64;
const MONTHS: [&str; 2] = ["2024-09", "2024-10"];
/// The last two are levels, of which one is carried into the next month.
const USAGE: [(&str, &str); 5] =
    [("vm", "hour"), ("disk", "GB"), ("support", "month"), ("seats", "seat"), ("kept", "GB")];
/// What contracts say behind their names.
const TERMS: [&str; 8] = [
    "valid_from: 2024-09-01\ndiscounts: [{name: half, percentage: \"50\"}]\n",
    "valid_from: 2024-09-01\ncredits: [{name: prepaid, amount: \"100.00\"}]\n",
    "valid_from: 2024-09-01\ncredits: [{name: prepaid, amount: \"150.00\"}, {name: bonus, amount: \"20.00\", expires: 2024-10-01, priority: 1}]\n",
    "valid_from: 2024-08-05\nbilling_anchor: 5\n",
    "valid_from: 2024-09-01\ndiscounts: [{name: off, amount: \"30.00\"}]\ntaxes: [{name: VAT, rate: \"0.19\", on: [usage]}]\n",
    "valid_from: 2024-09-01\ndiscounts: [{name: free, percentage: \"100\", skus: [vm]}]\n",
    "valid_from: 2024-09-16\ncommitments: [{name: base, amount: \"40.00\"}]\n",
    "valid_from: 2024-09-01\n",
];

/// What amendments of the newest contract say behind their names. Not every contract can be amended so.
const AMENDMENTS: [&str; 6] = [
    "from: 2024-09-16\nset: {discounts: [{name: loyal, percentage: \"10\"}]}\n",
    "from: 2024-09-11\nuntil: 2024-10-06\nset: {commitments: [{name: floor, amount: \"60.00\"}]}\n",
    "from: 2024-10-01\nset: {subscriptions: [{sku: support, unit: month}], taxes: [{name: GST, rate: \"0.1\", on: [usage]}]}\n",
    "from: 2024-09-21\nend: {discounts: [half]}\n",
    "from: 2024-10-11\nreplace: {credits: [{name: prepaid, amount: \"60.00\"}]}\n",
    "from: 2024-09-16\nset: {overrides: [{sku: seats, unit: seat, prices: [{valid_from: 2024-09-16T00:00:00Z, model: per_unit, unit_price: \"3.00\"}]}]}\n",
];
/// From when further versions of the catalogue hold, and what an hour costs under them.
const VERSIONS: [(&str, &str); 4] = [
    ("2024-09-01", "0.90"),
    ("2024-09-13T07:00:00Z", "1.10"),
    ("2024-10-01", "2.00"),
    ("2024-10-09T12:00:00Z", "0.50"),
];

/// Documents are counted from the newest.
#[derive(Clone, Debug)]
enum Step {
    /// Of what in which month, and how much.
    Use(usize, usize, i64),
    Bill(usize),
    Deltas(usize),
    /// Of a document, of a line or of the whole, how many thousandths.
    Note(usize, Option<usize>, u64, NoteKind),
    Void(usize),
    Apply(usize),
    Amend(usize),
    Publish(usize),
}

/// Steps; `least` is the least that is used at once.
fn steps(least: i64) -> impl Strategy<Value = Vec<Step>> {
    let month = || 0..MONTHS.len();
    let part = prop_oneof![1u64..1_000, 1_000u64..1_500, Just(1_000)];
    let kind = prop_oneof![Just(NoteKind::Correction), Just(NoteKind::Goodwill)];
    let step = prop_oneof![
        3 => (0..USAGE.len(), month(), least..120).prop_map(|(what, month, much)| Step::Use(what, month, much)),
        2 => month().prop_map(Step::Bill),
        3 => month().prop_map(Step::Deltas),
        5 => (0usize..5, proptest::option::weighted(0.5, 0usize..4), part, kind)
            .prop_map(|(document, line, part, kind)| Step::Note(document, line, part, kind)),
        3 => (0usize..4).prop_map(Step::Void),
        2 => (0..TERMS.len()).prop_map(Step::Apply),
        2 => (0..AMENDMENTS.len()).prop_map(Step::Amend),
        1 => (0..VERSIONS.len()).prop_map(Step::Publish),
    ];
    proptest::collection::vec(step, 4..24)
}

fn histories() -> u32 {
    std::env::var("PULSO_TEST_HISTORIES").map_or(HISTORIES, |number| number.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(histories()))]

    #[test]
    fn no_history_gives_more_back_than_was_billed_nor_otherwise_than_it_was_paid(
        steps in prop_oneof![3 => steps(1), 1 => steps(-60)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(live(steps));
    }
}

async fn live(steps: Vec<Step>) {
    let mut story = Story::new().await;
    let text = contract(&story, 0, TERMS[1]).await;
    story.apply(&text).await.unwrap();
    story.use_up(&[("2024-09-10T10:00:00Z", "vm", "hour", "105")]).await;
    story.run(MONTHS[0], false).await;
    story.use_up(&[("2024-09-20T10:00:00Z", "vm", "hour", "50")]).await;
    story.run(MONTHS[0], true).await;
    let (mut seen, mut is_below) = (0, false);
    for (place, step) in (1..).zip(steps) {
        if let Step::Use(.., much) = step {
            is_below |= much < 0;
        }
        let ran = take(&mut story, place, step).await;
        let periods = periods(&story).await;
        for period in periods.values() {
            period.check(is_below, seen);
        }
        check_credits(&story).await;
        if let Some(month) = ran {
            check_truth(&story, month, &periods).await;
        }
        seen = story.ledger().await.documents().last().map_or(0, |newest| newest.place + 1);
    }
    story.verify().await;
}

/// A contract that takes the place of those that hold from the same day.
async fn contract(story: &Story, place: usize, terms: &str) -> String {
    let applied = story.service.parts.books.contracts.all().await.unwrap();
    let standing = |name: &str| {
        let named = format!("[{name}]");
        !applied.iter().any(|other| other.text().contains(&named))
    };
    let day = terms.lines().next().unwrap();
    let same = applied.iter().filter(|other| other.text().lines().any(|line| line == day));
    let names: Vec<String> = same.map(|other| other.name().as_str().to_owned()).collect();
    let mut names = names.iter().filter(|name| standing(name)).map(|name| format!("[{name}]"));
    // Each supersedes the one before it, so at most one stands.
    let supersedes =
        names.next_back().map_or_else(String::new, |name| format!("supersedes: {name}\n"));
    format!("contract: c{place}\ntenant: acme\ncurrency: USD\n{supersedes}{terms}")
}

/// Takes a step, which may be refused. Gives the month of a run for deltas that nothing blocked.
async fn take(story: &mut Story, place: usize, step: Step) -> Option<&'static str> {
    match step {
        Step::Use(what, month, much) => {
            let (sku, unit) = USAGE[what];
            let time = format!("{}-{:02}T10:00:00Z", MONTHS[month], 1 + place % 28);
            story.use_up(&[(&time, sku, unit, &much.to_string())]).await;
        }
        Step::Bill(month) => drop(story.run(MONTHS[month], false).await),
        Step::Deltas(month) => {
            let outcomes = story.run(MONTHS[month], true).await;
            return Some(MONTHS[month]).filter(|_| outcomes.blocked == 0);
        }
        Step::Note(document, line, part, kind) => {
            note(story, place, (document, line, part, kind)).await
        }
        Step::Void(document) => {
            if let Some(number) = newest(story, document).await {
                drop(story.void(&number).await);
            }
        }
        Step::Apply(terms) => {
            let text = contract(story, place, TERMS[terms]).await;
            story.apply(&text).await.unwrap();
        }
        Step::Amend(changes) => amend(story, place, AMENDMENTS[changes]).await,
        Step::Publish(version) => {
            let (from, price) = VERSIONS[version];
            let text = story::CATALOGUE.replace("\"1.00\"", &format!("\"{price}\""));
            let named = format!("catalogue: \"{}\"\neffective_from: {from}", place + 1);
            story.publish(&text.replace("catalogue: \"1\"", &named)).await;
        }
    }
    None
}

/// Amends the newest contract, unless it is refused.
async fn amend(story: &Story, place: usize, changes: &str) {
    let files = story.service.parts.books.contracts.all().await.unwrap();
    let own = files.of(&Story::tenant()).unwrap();
    let newest = own.iter().rev().find_map(|applied| applied.contract()).unwrap();
    let text = format!("amendment: a{place}\ncontract: {}\n{changes}", newest.name.as_str());
    if let Err(refused) = story.amend(&text).await {
        let known = [reasons::CONTRACT_CONFLICTS, reasons::CONTRACT_INVALID];
        let said = refused.violations.iter().map(|it| it.reason).chain([refused.reason]);
        assert!(said.into_iter().any(|reason| known.contains(&reason)), "{refused:?}");
    }
}

/// The number of the document before which so many newer ones are owed.
async fn newest(story: &Story, back: usize) -> Option<String> {
    let ledger = story.ledger().await;
    let mut owed = ledger.documents().iter().rev().filter(|found| found.is_owed());
    Some(owed.nth(back)?.named())
}

async fn note(
    story: &Story,
    place: usize,
    (document, line, part, kind): (usize, Option<usize>, u64, NoteKind),
) {
    let Some(number) = newest(story, document).await else { return };
    let found = story.service.parts.books.documents.find(&number).await.unwrap();
    let content = story.content(&found.document).await;
    let of = match line.map(|line| content.lines().get(line)) {
        Some(Some(line)) => line.amount.amount(),
        Some(None) => return,
        None => content.total().amount(),
    };
    let cents = domain::catalogue::Rounding::To {
        digits: 2,
        mode: domain::catalogue::RoundingMode::HalfUp,
    };
    let thousandths = domain::Quantity::from_decimal(part.try_into().unwrap(), 3).unwrap();
    let amount = of.scaled(thousandths).unwrap().rounded(cents).unwrap();
    let line = line.map_or(0, |line| u32::try_from(line + 1).unwrap());
    let (reason, lines) = (format!("step {place}"), vec![(line, amount.text(2))]);
    let (kind, request_id) = (kind.as_str(), "");
    drop(story.credit(Note { number: &number, kind, reason: &reason, request_id, lines }).await);
}

/// What is owed of one period.
#[derive(Default)]
struct Period {
    documents: Vec<(Document, InvoiceDocument)>,
}

/// What bills and notes come to by line, notes by their kind.
#[derive(Default)]
struct Sums {
    net: BTreeMap<String, (LineKind, Amount)>,
    goodwill: BTreeMap<String, Amount>,
    goodwill_in_all: Vec<Amount>,
}

fn sum(amounts: impl IntoIterator<Item = Amount>) -> Amount {
    amounts.into_iter().fold(Amount::ZERO, |sum, amount| sum.checked_add(amount).unwrap())
}

fn add(to: &mut Amount, amount: Amount) {
    *to = to.checked_add(amount).unwrap();
}

impl Period {
    fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for (_, content) in &self.documents {
            for line in content.lines() {
                let amount = line.amount.amount();
                let note = content.credit_note();
                let of = note.and_then(|note| note.line_key(line));
                let key = of.unwrap_or(&line.key).to_owned();
                let net = sums.net.entry(key.clone()).or_insert((line.kind, Amount::ZERO));
                add(&mut net.1, amount);
                if note.is_some_and(|note| note.kind() == NoteKind::Goodwill) {
                    let given = amount.checked_neg().unwrap();
                    sums.goodwill_in_all.push(given);
                    if of.is_some() {
                        add(sums.goodwill.entry(key).or_insert(Amount::ZERO), given);
                    }
                }
            }
        }
        sums
    }

    fn total(&self) -> Amount {
        sum(self.documents.iter().map(|(document, _)| document.draft.total))
    }

    fn paid(&self) -> BTreeMap<&str, Amount> {
        let mut paid = BTreeMap::new();
        for payment in self.documents.iter().flat_map(|(document, _)| &document.payments) {
            add(paid.entry(payment.credit.as_str()).or_insert(Amount::ZERO), payment.amount);
        }
        paid
    }

    /// What holds at any time. Documents from the place `seen` on are new.
    fn check(&self, is_below: bool, seen: u64) {
        self.documents.iter().for_each(|(_, content)| check_subtotals(content));
        let (total, paid) = (self.total(), self.paid());
        let due = sum(self.documents.iter().map(|(document, _)| document.due().unwrap()));
        assert_eq!(sum(paid.values().copied()).checked_add(due), Some(total));
        assert!(paid.values().all(|paid| *paid >= Amount::ZERO), "{paid:?}");
        let new = self.documents.iter().filter(|(document, _)| document.place >= seen);
        for (document, _) in new {
            if document.due().unwrap() < Amount::ZERO {
                let back = paid.values().all(|paid| *paid == Amount::ZERO);
                assert!(back, "cash goes back before credits: {document:?} {paid:?}");
            }
        }
        if is_below {
            return;
        }
        assert!(total >= Amount::ZERO, "{total} is left of a period");
        assert!(due >= Amount::ZERO, "{due} is left of what was paid in cash");
        for (key, (kind, net)) in self.sums().net {
            let is_owed = !matches!(kind, LineKind::Discount | LineKind::Credit);
            assert!(!is_owed || net >= Amount::ZERO, "{net} is left of {key}");
        }
    }

    /// What it comes to is `truth` less the goodwill, line by line and in all, and not below zero for it.
    fn check_truth(&self, truth: &InvoiceDocument) {
        let sums = self.sums();
        let least = |goodwill: Amount, now: Amount| {
            now.checked_sub(goodwill.min(now.max(Amount::ZERO))).unwrap()
        };
        for line in truth.lines() {
            let now = line.amount.amount();
            let goodwill = sums.goodwill.get(&line.key).copied().unwrap_or(Amount::ZERO);
            let net = sums.net.get(&line.key).map_or(Amount::ZERO, |(_, net)| *net);
            assert_eq!(net, least(goodwill, now), "{}", line.key);
        }
        assert_eq!(self.total(), least(sum(sums.goodwill_in_all), truth.total().amount()));
    }
}

fn check_subtotals(content: &InvoiceDocument) {
    use InvoiceDocument::{Delta, Invoice, Reversal};
    let (Invoice(bill) | Delta(bill) | Reversal(bill)) = content else { return };
    let of = &bill.subtotals;
    let subtotals =
        [Some(of.usage), Some(of.discount), Some(of.commitment), Some(of.tax), of.credit];
    let subtotals = subtotals.into_iter().flatten().map(|money| money.amount());
    assert_eq!(sum(subtotals), bill.total.amount());
}

/// The documents that are owed, by period.
async fn periods(story: &Story) -> BTreeMap<Timestamp, Period> {
    let mut periods: BTreeMap<Timestamp, Period> = BTreeMap::new();
    for document in story.ledger().await.documents().iter().filter(|found| found.is_owed()) {
        let content = story.content(document).await;
        let period = periods.entry(document.draft.start).or_default();
        period.documents.push((document.clone(), content));
    }
    periods
}

async fn check_credits(story: &Story) {
    let ledger = story.ledger().await;
    let contracts = story.contracts().await;
    for credit in ["prepaid", "bonus"] {
        let most = contracts.iter().flat_map(|contract| &contract.credits);
        let most =
            most.filter(|stated| stated.name.as_str() == credit).map(|it| Amount::of(it.amount));
        let (used, most) = (ledger.used(credit).unwrap(), most.max().unwrap_or(Amount::ZERO));
        assert!(Amount::ZERO <= used && used <= most, "{used} of {credit}");
        assert!(credits::stated(&contracts, credit).is_none_or(|stated| stated <= most));
    }
}

/// The month's documents add up to what its previews say, and those of periods that are no more to nothing.
async fn check_truth(story: &Story, month: &str, periods: &BTreeMap<Timestamp, Period>) {
    for made in story.preview(month).await.invoices {
        let nothing = Period::default();
        let period = periods.get(&made.document.period().start).unwrap_or(&nothing);
        period.check_truth(&made.document);
    }
    let begins_here = |start: &Timestamp| start.to_string().starts_with(month);
    for (_, period) in periods.iter().filter(|(start, _)| begins_here(start)) {
        let mut bills = period.documents.iter().map(|(document, _)| document.draft.kind);
        if bills.rfind(|kind| *kind != Kind::CreditNote) == Some(Kind::Reversal) {
            assert_eq!(period.total(), Amount::ZERO, "a period that is no more");
        }
    }
}
