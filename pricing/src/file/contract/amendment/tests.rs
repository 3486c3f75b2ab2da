//! Amendments as they are read, and the mistakes that are found.

use domain::contract::DiscountValue;

use super::*;
use crate::file::{contract::parse_contract, parse};

const CATALOGUE: &str = r#"
catalogue: "2026-11"
currency: BRL
skus:
  - sku: vm
    unit: hour
    prices: [{valid_from: 2025-01-01T00:00:00Z, model: per_unit, unit_price: "0.50"}]
  - {sku: storage, unit: byte, prices: []}
  - {sku: storage, unit: GB, prices: []}
  - sku: support
    unit: month
    prices: [{valid_from: 2025-01-01T00:00:00Z, model: flat, amount: "10.00", currency: USD}]
"#;

const CONTRACT: &str = r#"
contract: acme-2026
tenant: acme
valid_from: 2026-01-01
valid_to: 2027-01-01
currency: BRL
time_zone: America/Sao_Paulo
subscriptions: [{sku: support}]
overrides:
  - {sku: storage, unit: GB, prices: [{valid_from: 2025-01-01T00:00:00Z, model: per_unit, unit_price: "2"}]}
discounts:
  - {name: partner, percentage: "10"}
  - {name: launch, percentage: "50", skus: [vm]}
commitments: [{name: base, amount: "1000.00"}]
credits: [{name: prepaid, amount: "500.00", valid_from: 2026-02-01}]
exchange: [{from: USD, valid_from: 2026-01-01, rate: "5.10"}]
taxes: [{name: ISS, rate: "0.05", on: [usage]}]
"#;

const GOOD: &str = r#"
amendment: acme-2026-1
contract: acme-2026
from: 2026-10-16
set:
  subscriptions: [{sku: vm}]
  discounts: [{name: loyalty, amount: "100.00"}]
  exchange: [{from: USD, valid_from: 2026-10-16, rate: "5.40"}]
replace:
  payment_term_days: 15
  overrides:
    - {sku: storage, unit: GB, prices: [{valid_from: 2025-01-01T00:00:00Z, model: per_unit, unit_price: "1"}]}
  discounts: [{name: partner, percentage: "15"}]
  credits: [{name: prepaid, amount: "900.00"}]
end:
  discounts: [launch]
  commitments: [base]
  subscriptions: [{sku: support}]
"#;

fn read_after(text: &str, before: &[Amendment]) -> Result<Amendment, FileError> {
    let catalogue = parse("c", CATALOGUE.as_bytes()).unwrap().catalogue;
    let contract = parse_contract("c", CONTRACT.as_bytes(), &|_| Some(catalogue.clone())).unwrap();
    let base = Base { contract: &contract, amendments: before, catalogue: &catalogue };
    parse_amendment("a.yaml", text.as_bytes(), base)
}

fn read(text: &str) -> Result<Amendment, FileError> {
    read_after(text, &[])
}

fn edited(good: &str, bad: &str) -> String {
    assert_eq!(GOOD.matches(good).count(), 1, "{good:?} must stand in the good file once");
    GOOD.replace(good, bad)
}

#[test]
fn every_key_is_read() {
    let amendment = read(GOOD).unwrap();
    assert_eq!(amendment.name.as_str(), "acme-2026-1");
    assert_eq!(amendment.from, "2026-10-16T03:00:00Z".parse().unwrap(), "midnight in Sao Paulo");
    assert_eq!(amendment.until, None);
    let Changes {
        payment_term_days,
        subscriptions,
        overrides,
        discounts,
        commitments,
        credits,
        exchange,
        taxes,
    } = &amendment.changes;
    assert_eq!(*payment_term_days, Some(15));
    assert!(
        matches!(&subscriptions[..], [Change::Stated(_), Change::Ended((sku, _))] if sku.as_str() == "support")
    );
    assert!(matches!(&overrides[..], [Change::Stated(_)]));
    let names: Vec<Name> = discounts.iter().map(Change::key).collect();
    assert_eq!(
        names.iter().map(Name::as_str).collect::<Vec<_>>(),
        ["loyalty", "partner", "launch"]
    );
    assert!(
        matches!(&discounts[1], Change::Stated(found) if matches!(found.value, DiscountValue::Share(_)))
    );
    assert!(matches!(&commitments[..], [Change::Ended(_)]));
    let [Change::Stated(credit)] = &credits[..] else { panic!("{credits:?}") };
    let since = "2026-02-01T03:00:00Z".parse().unwrap();
    assert_eq!(credit.valid_from, since, "a credit that is replaced begins when it began");
    assert_eq!((exchange.len(), taxes.len()), (1, 0));
    let outlined = outline("a", GOOD.as_bytes()).unwrap();
    assert_eq!((outlined.name.as_str(), outlined.contract.as_str()), ("acme-2026-1", "acme-2026"));
}

#[test]
fn each_is_read_against_the_contract_as_it_is_on_its_day() {
    let first = read(GOOD).unwrap();
    let more = |from: &str, part: &str| {
        format!("amendment: second\ncontract: acme-2026\nfrom: {from}\n{part}\n")
    };
    let end = "end: {discounts: [loyalty]}";
    let before = [first];
    read_after(&more("2026-10-16", end), &before).unwrap();
    let message = read_after(&more("2026-10-15", end), &before).unwrap_err().to_string();
    assert!(message.contains("has no `loyalty` among its discounts on that day"), "{message}");
    let again = "set: {discounts: [{name: launch, percentage: \"5\"}]}";
    read_after(&more("2026-11-01", again), &before).unwrap();
}

#[test]
fn mistakes_say_where_what_and_what_to_do() {
    for (good, bad, part) in [
        (
            "amendment: acme-2026-1",
            "amendment: standard",
            "2:12: amendment: `standard` is what lines call",
        ),
        (
            "from: 2026-10-16\nset",
            "from: 2025-12-31\nset",
            "4:7: from: contract `acme-2026` does not hold on 2025-12-31: it is valid from 2026-01-01 to 2027-01-01",
        ),
        ("from: 2026-10-16\nset", "from: 2027-01-01\nset", "does not hold on 2027-01-01"),
        ("from: 2026-10-16\nset", "from: 2026-10-16T00:00:00Z\nset", "is not a date"),
        (
            "from: 2026-10-16\nset",
            "from: 2026-10-16\nuntil: 2026-10-16\nset",
            "5:8: until: 2026-10-16 is not after from, 2026-10-16",
        ),
        (
            "from: 2026-10-16\nset",
            "from: 2026-10-16\nuntil: 2026-12-01\nset",
            "credits do not come back",
        ),
        ("set:", "sett:", "unknown key `sett`; did you mean `set`?"),
        (
            "name: loyalty",
            "name: partner",
            "has `partner` among its discounts on that day (put it under `replace`)",
        ),
        (
            "name: partner",
            "name: partnr",
            "13:15: replace.discounts[0]: the contract does not have `partnr`",
        ),
        (
            "[launch]",
            "[lunch]",
            "16:15: end.discounts[0]: the contract has no `lunch` among its discounts on that day; did you mean `launch`?",
        ),
        ("[launch]", "[partner]", "`partner` is changed twice among the discounts"),
        ("{sku: support}]", "{sku: vm}]", "the contract has none for SKU `vm` on that day"),
        (
            "[{sku: vm}]",
            "[{sku: vn}]",
            "SKU `vn` is not in catalogue `2026-11`; did you mean `vm`?",
        ),
        ("payment_term_days: 15", "payment_term_days: 366", "not a whole number from 0 to 365"),
        (
            "payment_term_days: 15",
            "billing_anchor: 15",
            "replace.billing_anchor: no amendment changes this",
        ),
        ("payment_term_days: 15", "payment_days: 15", "unknown key `payment_days`"),
    ] {
        let message = read(&edited(good, bad)).unwrap_err().to_string();
        assert!(message.contains(part), "{bad}: {message}");
    }
    let contract = "contract: acme-2026\ntenant: acme\nvalid_from: 2026-01-01\ncurrency: BRL\n";
    let told = read(contract).unwrap_err();
    assert_eq!((told.issues.len(), is_amendment(contract.as_bytes())), (1, false));
    assert!(told.to_string().contains("this is a contract (send it by `pulso contract apply`)"));
    let told = super::super::check_contract("c", GOOD.as_bytes()).unwrap_err();
    assert_eq!((told.issues.len(), is_amendment(GOOD.as_bytes())), (1, true));
    assert!(told.to_string().contains("this is an amendment (send it by `pulso contract amend`)"));
    let nothing = "amendment: a\ncontract: acme-2026\nfrom: 2026-10-16\nset: {}\n";
    assert!(read(nothing).unwrap_err().to_string().contains("it changes nothing"));
    let message = unknown_contract("a", GOOD.as_bytes(), &["acme-2025"]).to_string();
    assert!(
        message.contains(
            "3:11: contract: no contract was applied as `acme-2026`; did you mean `acme-2025`?"
        ),
        "{message}"
    );
}

#[test]
fn a_list_of_changes_has_a_bound() {
    let of = |count: usize| {
        let names: Vec<String> =
            (0..count).map(|place| format!("{{name: n{place}, percentage: \"1\"}}")).collect();
        format!(
            "amendment: a\ncontract: acme-2026\nfrom: 2026-10-16\nset: {{discounts: [{}]}}\n",
            names.join(", ")
        )
    };
    assert_eq!(read(&of(CHANGES_MAX)).unwrap().changes.discounts.len(), CHANGES_MAX);
    let message = read(&of(CHANGES_MAX + 1)).unwrap_err().to_string();
    assert!(message.contains("1001 entries are more than the 1000 allowed"), "{message}");
}

proptest::proptest! {
    #[test]
    fn a_good_file_with_a_piece_cut_out_never_panics(from in 0usize..900, length in 1usize..40) {
        let from = from.min(GOOD.len());
        let text = [&GOOD[..from], &GOOD[(from + length).min(GOOD.len())..]].concat();
        let outlined = outline("a", text.as_bytes());
        proptest::prop_assert!(outlined.is_ok() || read(&text).is_err());
    }
}
