//! Contract files: what is read, and how every mistake is named with its place and remedy.

use domain::{
    Quantity, Sku, Unit,
    catalogue::{Rounding, RoundingMode},
    contract::{DiscountValue, Scope, TaxedKind},
};

use super::*;
use crate::file::parse;

mod mistakes;
mod mistakes_in_money;

const GOOD: &str = r#"contract: acme-2026
tenant: acme
valid_from: 2026-01-01
valid_to: "2027-01-01"
catalogue: "2026-11"
currency: BRL
rounding: {digits: 3, mode: half_even}
time_zone: america/sao_paulo
billing_anchor: 5
payment_term_days: 15
subscriptions:
  - {sku: support.gold, unit: month}
  - {sku: storage, unit: GB}
overrides:
  - sku: compute.vm.small
    unit: hour
    prices:
      - valid_from: 2026-01-01T00:00:00Z
        model: graduated
        tiers:
          - {up_to: "100", unit_price: "0.45"}
          - {unit_price: "0.35"}
discounts:
  - {name: partner, percentage: "12.5"}
  - {name: launch, percentage: "100", skus: [storage, compute.vm.small]}
  - {name: loyalty, amount: "100.00", skus: [compute.vm.small]}
commitments:
  - {name: base, amount: "1000.00", skus: [compute.vm.small], overage_factor: "0.8"}
credits:
  - {name: prepaid-1, amount: "500.00", valid_from: 2026-02-01, expires: 2026-07-01, priority: 1}
  - {name: prepaid-2, amount: "1"}
exchange:
  - {from: USD, valid_from: 2026-01-01, rate: "5.10"}
  - {from: USD, valid_from: 2026-02-01, rate: "5.20"}
  - {from: EUR, valid_from: 2026-01-01, rate: "6.00"}
taxes:
  - {name: ISS, rate: "0.05", on: [commitment, usage]}
"#;

const CATALOGUE: &str = r#"
catalogue: "2026-11"
currency: BRL
skus:
  - sku: compute.vm.small
    unit: hour
    dimensions: [region]
    prices:
      - {valid_from: 2025-01-01T00:00:00Z, model: per_unit, unit_price: "0.50"}
  - {sku: storage, unit: byte, prices: []}
  - {sku: storage, unit: GB, prices: []}
  - {sku: requests, unit: call, meter: count, prices: []}
  - sku: support.gold
    unit: month
    prices:
      - {valid_from: 2025-01-01T00:00:00Z, model: flat, amount: "10.00", currency: USD}
"#;

fn catalogue(text: &str) -> Catalogue {
    parse("catalogue.yaml", text.as_bytes()).unwrap().catalogue
}

/// Knows one version, which is the newest too.
fn read(text: &str) -> Result<Contract, FileError> {
    let catalogue = catalogue(CATALOGUE);
    parse_contract("c.yaml", text.as_bytes(), &|version| {
        version.is_none_or(|version| version == "2026-11").then(|| catalogue.clone())
    })
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn quantity(text: &str) -> Quantity {
    text.parse().unwrap()
}

fn edited(good: &str, bad: &str) -> String {
    assert_eq!(GOOD.matches(good).count(), 1, "{good:?} must stand in the good file once");
    GOOD.replace(good, bad)
}

#[test]
fn every_key_is_read() {
    let contract = read(GOOD).unwrap();
    assert_eq!((contract.name.as_str(), contract.tenant.as_str()), ("acme-2026", "acme"));
    assert_eq!(contract.valid_from, at("2026-01-01T03:00:00Z"));
    assert_eq!(contract.valid_to, Some(at("2027-01-01T03:00:00Z")));
    assert_eq!(contract.catalogue, CatalogueChoice::Version(Name::new("2026-11").unwrap()));
    let terms = &contract.terms;
    assert_eq!(terms.currency.code(), "BRL");
    assert_eq!(terms.rounding, Rounding::To { digits: 3, mode: RoundingMode::HalfEven });
    assert_eq!(terms.time_zone.as_str(), "America/Sao_Paulo", "as the database spells it");
    assert_eq!((terms.anchor_day, terms.payment_term_days), (5, 15));
    let resources: Vec<_> = contract
        .subscriptions
        .iter()
        .map(|(sku, unit): &(Sku, Unit)| (sku.as_str(), unit.as_str()))
        .collect();
    assert_eq!(resources, [("storage", "GB"), ("support.gold", "month")], "sorted");
    let only = &contract.overrides[0];
    assert_eq!((only.sku.as_str(), only.unit.as_str()), ("compute.vm.small", "hour"));
    assert_eq!(only.prices[0].currency.code(), "BRL");
}

#[test]
fn money_is_read_to_the_last_digit() {
    let contract = read(GOOD).unwrap();
    let values: Vec<_> = contract.discounts.iter().map(|discount| discount.value).collect();
    assert_eq!(
        values,
        [
            DiscountValue::Share(quantity("0.125")),
            DiscountValue::Share(Quantity::ONE),
            DiscountValue::Amount(quantity("100")),
        ]
    );
    let skus = |skus: &[&str]| Scope::Skus(skus.iter().map(|sku| Sku::new(sku).unwrap()).collect());
    assert_eq!(contract.discounts[0].scope, Scope::All);
    assert_eq!(contract.discounts[1].scope, skus(&["compute.vm.small", "storage"]), "sorted");
    let commitment = &contract.commitments[0];
    assert_eq!((commitment.amount, commitment.overage_factor), (quantity("1000"), quantity("0.8")));
    let first = &contract.credits[0];
    assert_eq!(first.valid_from, at("2026-02-01T03:00:00Z"));
    assert_eq!(first.expires, Some(at("2026-07-01T03:00:00Z")));
    assert_eq!((first.amount, first.priority), (quantity("500"), 1));
    let second = &contract.credits[1];
    assert_eq!(
        (second.valid_from, second.expires, second.priority),
        (contract.valid_from, None, 100)
    );
    let rates: Vec<_> = contract
        .exchange
        .iter()
        .map(|rate| (rate.from.code(), rate.valid_from.to_string(), rate.rate.to_string()))
        .collect();
    let rate = |from, moment: &str, rate: &str| (from, moment.to_owned(), rate.to_owned());
    assert_eq!(
        rates,
        [
            rate("EUR", "2026-01-01T03:00:00Z", "6"),
            rate("USD", "2026-01-01T03:00:00Z", "5.1"),
            rate("USD", "2026-02-01T03:00:00Z", "5.2"),
        ]
    );
    let tax = &contract.taxes[0];
    assert_eq!((tax.name.as_str(), tax.rate), ("ISS", quantity("0.05")));
    assert_eq!(tax.on, TaxedKind::ALL, "sorted");
}

#[test]
fn what_is_left_out_has_its_default() {
    let text = "contract: c\ntenant: t\nvalid_from: 2026-01-01\ncurrency: JPY\n";
    let empty = catalogue("catalogue: \"1\"\ncurrency: BRL\nskus: []\n");
    let contract = parse_contract("c", text.as_bytes(), &|_| Some(empty.clone())).unwrap();
    let terms = Terms {
        currency: Currency::from_code("JPY").unwrap(),
        rounding: Rounding::To { digits: 0, mode: RoundingMode::HalfUp },
        time_zone: Name::new("UTC").unwrap(),
        anchor_day: 1,
        payment_term_days: 30,
    };
    let wanted = Contract {
        name: Name::new("c").unwrap(),
        tenant: Tenant::new("t").unwrap(),
        valid_from: at("2026-01-01T00:00:00Z"),
        valid_to: None,
        supersedes: Vec::new(),
        catalogue: CatalogueChoice::Latest,
        terms,
        subscriptions: Vec::new(),
        overrides: Vec::new(),
        discounts: Vec::new(),
        commitments: Vec::new(),
        credits: Vec::new(),
        exchange: Vec::new(),
        taxes: Vec::new(),
    };
    assert_eq!(contract, wanted);
}

#[test]
fn a_unit_may_be_left_out_where_the_sku_has_one_only() {
    let contract = read(&edited("    unit: hour\n", "")).unwrap();
    assert_eq!(contract, read(GOOD).unwrap());
}

#[test]
fn the_source_is_asked_for_the_version_that_the_file_names() {
    for (key, wanted) in
        [("", None), ("catalogue: latest\n", None), ("catalogue: \"2026-11\"\n", Some("2026-11"))]
    {
        let asked = std::cell::RefCell::new(Vec::new());
        let text = edited("catalogue: \"2026-11\"\n", key);
        let contract = parse_contract("c", text.as_bytes(), &|version| {
            asked.borrow_mut().push(version.map(str::to_owned));
            Some(catalogue(CATALOGUE))
        });
        assert_eq!(*asked.borrow(), [wanted.map(str::to_owned)]);
        assert_eq!(contract.unwrap().catalogue == CatalogueChoice::Latest, wanted.is_none());
    }
}

#[test]
fn days_that_begin_late_begin_when_clocks_show_them() {
    let text = edited("valid_from: 2026-01-01\nvalid_to: \"2027-01-01\"", "valid_from: 2018-11-04")
        .replace("{from: USD, valid_from: 2026-01-01", "{from: USD, valid_from: 2018-11-04");
    let contract = read(&text).unwrap();
    // Clocks of Sao Paulo went from midnight to 01:00, which was -02:00.
    assert_eq!(contract.valid_from, at("2018-11-04T03:00:00Z"));
    assert_eq!(contract.credits[1].valid_from, contract.valid_from);
}

#[test]
fn without_a_catalogue_only_what_it_knows_goes_unchecked() {
    let outline = check_contract("c", GOOD.as_bytes()).unwrap();
    assert_eq!((outline.name.as_str(), outline.tenant.as_str()), ("acme-2026", "acme"));
    assert_eq!(outline.catalogue, CatalogueChoice::Version(Name::new("2026-11").unwrap()));
    let unknown = GOOD
        .replace("sku: compute.vm.small\n    unit: hour", "sku: compute.vm.smal")
        .replace("{sku: storage, unit: GB}", "{sku: storag}")
        .replace("model: graduated\n        tiers:", "model: matrix\n        prices:")
        .replace("{up_to: \"100\", unit_price", "{when: {zone: a}, unit_price")
        .replace("{unit_price: \"0.35\"}", "{when: {zone: b}, unit_price: \"1\"}");
    check_contract("c", unknown.as_bytes()).unwrap();
    assert_eq!(read(&unknown).unwrap_err().issues.len(), 2);
    for (good, bad, part) in [
        ("percentage: \"12.5\"", "percentage: \"0\"", "0 is not above zero"),
        ("sku: compute.vm.small", "skus: compute.vm.small", "did you mean `sku`?"),
        ("rate: \"0.05\"", "rate: 0.05", "a decimal in quotes is needed"),
        (
            "{sku: storage, unit: GB}",
            "{sku: support.gold, unit: month}",
            "stands here a second time",
        ),
    ] {
        let message = check_contract("c", edited(good, bad).as_bytes()).unwrap_err().to_string();
        assert!(message.contains(part), "{bad}: {message}");
    }
}

/// The example of docs/contracts.md, against that of docs/catalogue.md.
#[test]
fn the_documented_example_is_a_contract() {
    fn example(text: &str) -> &str {
        let (_, rest) = text.split_once("```yaml\n").unwrap();
        rest.split_once("```\n").unwrap().0
    }
    let prices = catalogue(example(include_str!("../../../../docs/catalogue.md")));
    let text = example(include_str!("../../../../docs/contracts.md"));
    let contract = parse_contract("docs", text.as_bytes(), &|_| Some(prices.clone())).unwrap();
    assert_eq!(contract.terms.anchor_day, 5);
    check_contract("docs", text.as_bytes()).unwrap();
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = read(&String::from_utf8_lossy(&bytes));
        let _ = check_contract("c", &bytes);
    }

    #[test]
    fn a_good_file_with_a_piece_cut_out_never_panics(from in 0usize..1_700, length in 1usize..40) {
        let from = from.min(GOOD.len());
        let text = [&GOOD[..from], &GOOD[(from + length).min(GOOD.len())..]].concat();
        let (checked, parsed) = (check_contract("c", text.as_bytes()), read(&text));
        // What the catalogue is not needed for is found with it too.
        proptest::prop_assert!(checked.is_ok() || parsed.is_err());
    }
}
