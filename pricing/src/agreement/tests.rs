//! Contracts in words.

use super::*;
use crate::{file, timeline};

const CATALOGUE: &str = r#"
catalogue: "1"
currency: BRL
skus:
  - {sku: vm, unit: hour, dimensions: [region], prices: []}
  - {sku: disk, unit: GB, prices: []}
"#;

fn contract(text: &str) -> Contract {
    let catalogue = file::parse("c", CATALOGUE.as_bytes()).unwrap().catalogue;
    let text = format!("tenant: acme\ncurrency: BRL\n{text}");
    file::contract::parse_contract("c", text.as_bytes(), &|_| Some(catalogue.clone())).unwrap()
}

fn everything() -> Contract {
    contract(
        r#"
contract: acme-2026
valid_from: 2026-01-01
time_zone: America/Sao_Paulo
subscriptions: [{sku: disk}]
overrides:
  - sku: vm
    prices:
      - {valid_from: 2026-01-01T00:00:00Z, model: graduated, tiers: [{up_to: "100", unit_price: "0.5"}, {unit_price: "0.4"}]}
discounts: [{name: partner, percentage: "12.5"}, {name: off, amount: "100", skus: [vm, disk]}]
commitments: [{name: base, amount: "1000", overage_factor: "0.8"}]
credits: [{name: prepaid, amount: "500", expires: 2026-07-01}]
exchange: [{from: USD, valid_from: 2026-01-01, rate: "5.10"}]
taxes: [{name: ISS, rate: "0.05", on: [usage, commitment]}]
"#,
    )
}

#[test]
fn every_thing_of_a_contract_has_words() {
    let things = things(&everything());
    let found: Vec<String> =
        things.iter().skip(6).map(|thing| format!("{}: {}", thing.what, thing.words)).collect();
    let expected = [
        "payment term: 30 days",
        "subscription to disk in GB: billed in every period",
        "price of vm in hour: graduated 0.5 to 100, 0.4 beyond BRL from 2026-01-01T00:00:00Z",
        "discount partner: 12.5 % of each line",
        "discount off: 100 BRL a period, of disk, vm",
        "commitment base: 1000 BRL a period, overage x 0.8",
        "credit prepaid: 500 BRL from 2026-01-01 to 2026-07-01, priority 100",
        "exchange from USD from 2026-01-01: 5.1 BRL",
        "tax ISS: 0.05 on usage and commitment",
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_differs_is_told_once_for_its_time() {
    let before = [contract(
        "contract: a\nvalid_from: 2026-01-01\ndiscounts: [{name: partner, percentage: \"10\"}]",
    )];
    let after = [
        before[0].clone(),
        contract(
            "contract: b\nvalid_from: 2026-02-01\npayment_term_days: 15\ndiscounts: [{name: partner, percentage: \"15\"}]",
        ),
    ];
    let (one, other) = (timeline::stretches(&before), timeline::stretches(&after));
    let found = differences(&one, &other);
    let shown: Vec<_> = found
        .iter()
        .map(|found| (found.what.as_str(), found.before.as_deref(), found.after.as_deref()))
        .collect();
    assert_eq!(
        shown,
        [
            ("contract", Some("a"), Some("b")),
            ("payment term", Some("30 days"), Some("15 days")),
            ("discount partner", Some("10 % of each line"), Some("15 % of each line")),
        ]
    );
    let from = Calendar::UTC.parse_date("2026-02-01").unwrap();
    assert!(found.iter().all(|found| found.window == Window { start: from, end: Timestamp::MAX }));
    assert_eq!(differences(&one, &one), []);
    let back = differences(&other, &one);
    assert_eq!((back[0].before.as_deref(), back[0].after.as_deref()), (Some("b"), Some("a")));
}

#[test]
fn terms_of_a_price_that_have_no_words_differ_all_the_same() {
    let with = |default: &str| {
        contract(&format!(
            "contract: a\nvalid_from: 2026-01-01\noverrides: [{{sku: vm, prices: [{{valid_from: 2026-01-01T00:00:00Z, model: matrix, prices: [{{when: {{region: a}}, unit_price: \"1\"}}], default: \"{default}\"}}]}}]"
        ))
    };
    let (before, after) = ([with("2")], [with("3")]);
    let found = differences(&timeline::stretches(&before), &timeline::stretches(&after));
    assert_eq!(found.len(), 1);
    let words = "matrix in BRL from 2026-01-01T00:00:00Z";
    assert_eq!(found[0].before.as_deref(), Some(words));
    assert_eq!(found[0].after, Some(format!("{words}, with other terms")));
}
