//! Which version is in effect when, and what becomes of SKUs that it leaves out.

use std::time::Duration;

use super::*;
use crate::{file, timeline};

const HOUR: Duration = Duration::from_secs(3_600);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn day(text: &str) -> Timestamp {
    Calendar::UTC.parse_date(text).unwrap()
}

/// A catalogue in a currency with SKUs at a price of 1, and what else the file says.
fn catalogue(version: &str, currency: &str, skus: &[&str], more: &str) -> Arc<Catalogue> {
    let sku = |sku: &&str| {
        format!(
            "  - {{sku: {sku}, unit: hour, prices: [{{valid_from: 2024-01-01T00:00:00Z, model: per_unit, unit_price: \"1\"}}]}}\n"
        )
    };
    let skus: String = skus.iter().map(sku).collect();
    let skus = if skus.is_empty() { " []\n".to_owned() } else { format!("\n{skus}") };
    let text = format!("catalogue: \"{version}\"\ncurrency: {currency}\n{more}\nskus:{skus}");
    Arc::new(file::parse("c", text.as_bytes()).unwrap().catalogue)
}

fn published(sequence: u64, catalogue: Arc<Catalogue>, published_at: &str) -> Published {
    Published { catalogue, sequence, published_at: at(published_at) }
}

fn version_at(editions: &Editions, moment: &str) -> (String, usize) {
    let found = editions.at(at(moment));
    let priced = found.skus.iter().filter(|definition| !definition.prices.is_empty()).count();
    (found.version.as_str().to_owned(), priced)
}

fn tenant() -> Tenant {
    Tenant::new("acme").unwrap()
}

fn contract(text: &str, catalogue: &Catalogue) -> Contract {
    let text = format!("tenant: acme\nvalid_from: 2026-01-01\ncurrency: BRL\n{text}");
    file::contract::parse_contract("c", text.as_bytes(), &|_| Some(catalogue.clone())).unwrap()
}

#[test]
fn a_version_is_in_effect_from_its_date_or_from_when_it_was_published() {
    let later = "effective_from: 2026-03-01";
    let versions = [
        published(1, catalogue("1", "BRL", &["vm"], ""), "2026-01-01T00:00:00Z"),
        published(2, catalogue("2", "BRL", &["vm"], later), "2026-01-10T00:00:00Z"),
        published(3, catalogue("3", "BRL", &["vm"], ""), "2026-02-10T13:37:00Z"),
    ];
    let editions = Editions::of(&versions).unwrap();
    for (moment, version) in [
        ("2020-01-01T00:00:00Z", "1"),
        ("2026-02-10T13:36:59Z", "1"),
        ("2026-02-10T13:37:00Z", "3"),
        ("2026-02-28T23:59:59Z", "3"),
        ("2026-03-01T00:00:00Z", "2"),
    ] {
        assert_eq!(version_at(&editions, moment), (version.to_owned(), 1), "{moment}");
    }
}

#[test]
fn of_two_with_one_date_the_one_that_was_published_last_is_in_effect() {
    let date = "effective_from: 2026-03-01T00:00:00-03:00";
    let versions = [
        published(1, catalogue("1", "BRL", &[], ""), "2026-01-01T00:00:00Z"),
        published(5, catalogue("right", "BRL", &[], date), "2026-01-10T00:00:00Z"),
        published(4, catalogue("wrong", "BRL", &[], date), "2026-01-09T00:00:00Z"),
    ];
    let editions = Editions::of(&versions).unwrap();
    assert_eq!(version_at(&editions, "2026-03-01T02:59:59Z").0, "1");
    assert_eq!(version_at(&editions, "2026-03-01T03:00:00Z").0, "right");
    assert_eq!(Editions::of(&[]), None);
}

#[test]
fn before_the_first_date_that_a_file_gives_nothing_has_a_price() {
    let date = "effective_from: 2026-03-01";
    let versions = [published(1, catalogue("1", "BRL", &["vm"], date), "2026-01-01T00:00:00Z")];
    let editions = Editions::of(&versions).unwrap();
    assert_eq!(version_at(&editions, "2026-02-28T23:00:00Z"), ("1".to_owned(), 0));
    assert_eq!(version_at(&editions, "2026-03-01T00:00:00Z"), ("1".to_owned(), 1));
}

#[test]
fn a_part_ends_where_the_next_version_begins_but_for_a_contract_that_names_one() {
    let first = catalogue("1", "BRL", &["vm"], "");
    let second = catalogue("2", "BRL", &["vm"], "");
    let versions = [
        published(1, Arc::clone(&first), "2025-01-01T00:00:00Z"),
        published(2, Arc::clone(&second), "2026-01-18T13:37:00Z"),
    ];
    let editions = Editions::of(&versions).unwrap();
    let contracts = [contract("contract: latest", &first)];
    let named = [contract("contract: named\ncatalogue: \"1\"", &first)];
    let parts = |contracts: &[Contract]| -> Vec<_> {
        let stretches = timeline::stretches(contracts);
        let periods = timeline::periods(&stretches, "2026-01".parse().unwrap()).unwrap();
        let parts = editions.parts(&periods[0], |_| Arc::clone(&first));
        parts
            .into_iter()
            .map(|(part, catalogue)| {
                (part.window.start, part.window.end, catalogue.version.as_str().to_owned())
            })
            .collect()
    };
    let (start, end) = (day("2026-01-01"), day("2026-02-01"));
    let cut = at("2026-01-18T13:37:00Z");
    assert_eq!(parts(&contracts), [(start, cut, "1".to_owned()), (cut, end, "2".to_owned())]);
    assert_eq!(parts(&named), [(start, end, "1".to_owned())]);
}

#[test]
fn what_is_left_out_is_named_and_stays_for_those_who_subscribe_to_it_until_it_is_retired() {
    let first = catalogue("1", "BRL", &["vm", "old", "own"], "");
    let second = catalogue("2", "BRL", &["vm"], "effective_from: 2026-02-01");
    let third = catalogue("3", "BRL", &["vm"], "effective_from: 2026-03-01\nretired: [{sku: old}]");
    assert_eq!(
        left_out(&first, &second).iter().map(|(sku, _)| sku.as_str()).collect::<Vec<_>>(),
        ["old", "own"]
    );
    let versions = [
        published(1, Arc::clone(&first), "2025-01-01T00:00:00Z"),
        published(2, second, "2026-01-01T00:00:00Z"),
        published(3, third, "2026-01-01T00:00:00Z"),
    ];
    let editions = Editions::of(&versions).unwrap();
    let prices = "overrides: [{sku: own, prices: [{valid_from: 2026-01-01T00:00:00Z, model: per_unit, unit_price: \"3\"}]}]";
    let subscribed =
        contract(&format!("contract: a\nsubscriptions: [{{sku: old}}]\n{prices}"), &first);
    let plain = contract("contract: b", &first);
    let skus = |contract: &Contract, month: &str| -> Vec<String> {
        let of = [contract.clone()];
        let stretches = timeline::stretches(&of);
        let periods = timeline::periods(&stretches, month.parse().unwrap()).unwrap();
        let parts = editions.parts(&periods[0], |_| Arc::clone(&first));
        assert_eq!(parts.len(), 1);
        parts[0].1.skus.iter().map(|definition| definition.sku.as_str().to_owned()).collect()
    };
    assert_eq!(skus(&plain, "2026-01"), ["vm", "old", "own"]);
    assert_eq!(skus(&plain, "2026-02"), ["vm"]);
    assert_eq!(skus(&subscribed, "2026-02"), ["vm", "old", "own"]);
    assert_eq!(skus(&subscribed, "2026-03"), ["vm", "own"], "named as retired");
    let of = |sku: &str, from: &str, to: &str| {
        let (sku, unit) = (Sku::new(sku).unwrap(), Unit::new("hour").unwrap());
        editions.retired_in(Window { start: day(from), end: day(to) })((&sku, &unit))
    };
    assert!(!of("old", "2026-01-01", "2026-02-01"));
    assert!(of("old", "2026-02-01", "2026-03-01"));
    assert!(of("old", "2026-01-01", "2026-03-01"), "of a part of it");
    assert!(!of("vm", "2026-01-01", "2026-04-01"));
    assert!(!of("never", "2026-01-01", "2026-04-01"));
}

#[test]
fn standard_terms_change_with_a_month() {
    let versions = [
        published(1, catalogue("1", "BRL", &[], ""), "2025-01-01T00:00:00Z"),
        published(2, catalogue("2", "BRL", &[], ""), "2026-01-18T13:37:00Z"),
        published(3, catalogue("3", "BRL", &[], "rounding: {digits: 3}"), "2026-02-18T13:37:00Z"),
        published(
            4,
            catalogue("4", "USD", &[], "effective_from: 2026-05-01"),
            "2026-03-01T00:00:00Z",
        ),
    ];
    let contracts = Editions::of(&versions).unwrap().standard_contracts(&tenant());
    let shown: Vec<_> = contracts
        .iter()
        .map(|contract| (contract.valid_from, contract.valid_to, contract.terms.currency.code()))
        .collect();
    assert_eq!(
        shown,
        [
            (Timestamp::MIN, Some(day("2026-03-01")), "BRL"),
            (day("2026-03-01"), Some(day("2026-05-01")), "BRL"),
            (day("2026-05-01"), None, "USD"),
        ]
    );
    assert!(contracts.iter().all(Contract::is_standard));
    let stretches = timeline::stretches(&contracts);
    let of = |month: &str| timeline::periods(&stretches, month.parse().unwrap()).unwrap();
    for month in ["2026-02", "2026-04", "2026-05"] {
        assert_eq!(of(month).len(), 1, "{month} is whole");
        assert_eq!(of(month)[0].window, of(month)[0].whole);
    }
}

#[test]
fn the_version_before_a_date_and_currencies_that_change_inside_a_month_are_known() {
    let of = |from: &str| {
        let date = format!("effective_from: {from}");
        let versions = [
            published(1, catalogue("1", "BRL", &[], ""), "2025-01-01T00:00:00Z"),
            published(2, catalogue("2", "USD", &[], &date), "2026-01-01T00:00:00Z"),
        ];
        Editions::of(&versions).unwrap()
    };
    let editions = of("2026-02-01");
    let before =
        |moment: Timestamp| editions.before(moment).map(|it| it.version.as_str().to_owned());
    assert_eq!(before(day("2026-02-01")).as_deref(), Some("1"));
    assert_eq!(before(day("2026-02-01").plus(HOUR)).as_deref(), Some("2"));
    assert_eq!(before(Timestamp::MIN), None);
    assert_eq!(editions.currency_changes_inside_months(), []);
    let currency = |code| domain::catalogue::Currency::from_code(code).unwrap();
    assert_eq!(
        of("2026-02-02").currency_changes_inside_months(),
        [(day("2026-02-02"), currency("BRL"), currency("USD"))]
    );
}
