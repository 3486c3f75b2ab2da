//! Laws of invoices, for whatever usage and contracts: parts tile, sums are sums, deltas bring what was
//! billed to the truth, credits are spent once, and the same inputs give the same bytes.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests too; the lint only knows functions.

use std::time::Duration;

use domain::{
    Aggregate, Cell, Dimensions, Epoch, LogId, Offset, Partition, Quantity, ResourceKey, RowKey,
    SegmentId, Sku, Tenant, Timestamp, Unit, UsageRow, Window, WindowLength, catalogue::Catalogue,
    contract::Contract,
};
use pricing::{
    Amount,
    document::InvoiceDocument,
    file,
    invoice::{self, Invoice, credits, document},
    rate::Sources,
    timeline,
};
use proptest::prelude::*;

const CATALOGUE: &str = r#"
catalogue: laws
currency: BRL
skus:
  - sku: tiered
    unit: hour
    dimensions: [region]
    prices:
      - valid_from: 2025-01-01T00:00:00Z
        model: graduated
        free_units: "10"
        tiers: [{up_to: "100", unit_price: "0.50", flat_fee: "2"}, {unit_price: "0.37"}]
      - {valid_from: 2026-01-20T03:00:00Z, model: per_unit, unit_price: "0.333"}
  - sku: regional
    unit: hour
    dimensions: [region]
    prices:
      - valid_from: 2025-01-01T00:00:00Z
        model: matrix
        minimum: "3"
        default: "0.01"
        prices: [{when: {region: a}, unit_price: "0.1"}]
  - sku: fee
    unit: month
    prices: [{valid_from: 2025-01-01T00:00:00Z, model: flat, amount: "30.01"}]
  - sku: seats
    unit: hour
    meter: max
    dimensions: [region]
    prices:
      - {valid_from: 2025-01-01T00:00:00Z, model: package, package_size: "10", package_price: "7.77", minimum: "5"}
      - {valid_from: 2026-01-20T03:00:00Z, model: per_unit, unit_price: "0.9", minimum: "5"}
  - sku: disk
    unit: hour
    meter: time_weighted
    carry: true
    dimensions: [region]
    prices:
      - {valid_from: 2025-01-01T00:00:00Z, model: per_unit, unit_price: "0.123"}
      - {valid_from: 2026-01-14T03:00:00Z, model: graduated, tiers: [{up_to: "5", unit_price: "1"}, {unit_price: "0.5"}]}
  - sku: foreign
    unit: hour
    prices: [{valid_from: 2025-01-01T00:00:00Z, model: package, package_size: "7", package_price: "1.1", currency: USD}]
"#;

/// Contracts in the order in which they are applied; a case takes the first of them.
const CONTRACTS: [&str; 4] = [
    r#"
contract: one
tenant: acme
valid_from: 2025-06-05
currency: BRL
time_zone: America/Sao_Paulo
billing_anchor: 5
exchange: [{from: USD, valid_from: 2025-01-01, rate: "5.1"}, {from: USD, valid_from: 2026-01-25, rate: "5.3"}]
subscriptions: [{sku: fee, unit: month}]
"#,
    r#"
contract: two
tenant: acme
valid_from: 2026-01-17
currency: BRL
time_zone: America/Sao_Paulo
billing_anchor: 5
exchange: [{from: USD, valid_from: 2025-01-01, rate: "4.9"}]
discounts: [{name: third, percentage: "33.3"}, {name: off, amount: "4", skus: [tiered]}]
commitments: [{name: base, amount: "50", overage_factor: "0.8"}]
taxes: [{name: ISS, rate: "0.05", on: [usage, commitment]}]
"#,
    r#"
contract: three
tenant: acme
valid_from: 2026-01-10
valid_to: 2026-02-01
currency: BRL
time_zone: America/Sao_Paulo
billing_anchor: 5
exchange: [{from: USD, valid_from: 2025-01-01, rate: "5"}]
rounding: {digits: 2, mode: half_up}
overrides:
  - sku: tiered
    unit: hour
    prices: [{valid_from: 2025-01-01T00:00:00Z, model: per_unit, unit_price: "0.25"}]
"#,
    r#"
contract: four
tenant: acme
valid_from: 2026-01-31
currency: BRL
time_zone: America/Sao_Paulo
billing_anchor: 5
exchange: [{from: USD, valid_from: 2025-01-01, rate: "5"}]
"#,
];

fn catalogue() -> Catalogue {
    file::parse("laws", CATALOGUE.as_bytes()).unwrap().catalogue
}

fn contracts(count: usize) -> Vec<Contract> {
    let parse = |text: &&str| {
        file::contract::parse_contract("c", text.as_bytes(), &|_| Some(catalogue())).unwrap()
    };
    CONTRACTS[..count].iter().map(parse).collect()
}

fn tenant() -> Tenant {
    Tenant::new("acme").unwrap()
}

fn invoices(contracts: &[Contract], usage: &[UsageRow]) -> Vec<Invoice> {
    let stretches = timeline::stretches(contracts);
    let periods = timeline::periods(&stretches, "2026-01".parse().unwrap()).unwrap();
    let catalogue = catalogue();
    let bill = |period: &timeline::BillingPeriod<'_>| {
        let catalogues = vec![&catalogue; period.parts.len()];
        invoice::invoice(&tenant(), period, &catalogues, usage, Sources::Listed).unwrap()
    };
    periods.iter().map(bill).collect()
}

fn usage() -> impl Strategy<Value = Vec<UsageRow>> {
    let skus = ["tiered", "regional", "foreign", "nobody"].map(|sku| (sku, "hour"));
    usage_of(skus.to_vec())
}

/// With levels, whose hours may stand behind several lines.
fn usage_with_levels() -> impl Strategy<Value = Vec<UsageRow>> {
    let skus = ["tiered", "regional", "foreign", "nobody", "seats", "disk"];
    usage_of(skus.map(|sku| (sku, "hour")).to_vec())
}

fn usage_of(skus: Vec<(&'static str, &'static str)>) -> impl Strategy<Value = Vec<UsageRow>> {
    let pulse = (0..skus.len(), 0usize..3, -20_000i64..200_000, 0i64..45 * 24);
    let row = move |(sku, region, thousandths, hour): (usize, usize, i64, i64)| {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let time = start.plus(Duration::from_secs(3_600 * hour.unsigned_abs()));
        let region = ["", "a", "b"][region];
        let amount = Quantity::from_decimal(thousandths, 3).unwrap();
        UsageRow {
            key: RowKey {
                resource: ResourceKey {
                    tenant: tenant(),
                    product_sku: Sku::new(skus[sku].0).unwrap(),
                    use_unity: Unit::new(skus[sku].1).unwrap(),
                    dimensions: Dimensions::from_pairs(
                        (!region.is_empty()).then_some(("region", region)),
                    ),
                },
                window_start: WindowLength::HOUR.start_of(time),
                segment: SegmentId {
                    log_id: LogId([1; 16]),
                    partition: Partition(0),
                    epoch: Epoch(0),
                    start: Offset(hour.unsigned_abs() % 5),
                },
            },
            cell: Cell { offset_last: Offset(9), aggregate: Aggregate::of(amount, time) },
        }
    };
    proptest::collection::vec(pulse.prop_map(row), 0..30)
}

fn sum(amounts: impl Iterator<Item = Amount>) -> Amount {
    amounts.fold(Amount::ZERO, |sum, amount| sum.checked_add(amount).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn steps_add_up_to_lines_lines_to_the_total_and_the_same_inputs_give_the_same_bytes(
        rows in usage_with_levels(), count in 1usize..=4, seed: u64,
    ) {
        let contracts = contracts(count);
        let made = invoices(&contracts, &rows);
        let mut shuffled = rows.clone();
        shuffled.sort_by_key(|row| (row.cell.aggregate.sum.raw() as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let again = invoices(&contracts, &shuffled);
        for (invoice, again) in made.iter().zip(&again) {
            let bytes = |invoice: &Invoice| serde_json::to_string(&document::invoice(invoice)).unwrap();
            prop_assert_eq!(bytes(invoice), bytes(again));
            prop_assert_eq!(invoice.total, sum(invoice.lines.iter().map(|line| line.amount)));
            let mut keys = std::collections::BTreeSet::new();
            for line in &invoice.lines {
                prop_assert_eq!(line.amount, sum(line.steps.iter().map(|step| step.amount())));
                prop_assert!(keys.insert(line.key()), "two lines of one key: {}", line.key());
            }
        }
    }

    #[test]
    fn parts_tile_the_period_and_every_pulse_in_it_is_billed_or_waits_once(
        rows in usage(), count in 1usize..=4,
    ) {
        let contracts = contracts(count);
        let stretches = timeline::stretches(&contracts);
        for (period, invoice) in timeline::periods(&stretches, "2026-01".parse().unwrap()).unwrap().iter().zip(invoices(&contracts, &rows)) {
            let mut edge = period.window.start;
            for part in &period.parts {
                prop_assert_eq!(part.window.start, edge);
                edge = part.window.end;
            }
            prop_assert_eq!(edge, period.window.end);
            let inside = |row: &&UsageRow| period.window.start <= row.key.window_start && row.key.window_start < period.window.end;
            let pulses = rows.iter().filter(inside).count() as u128;
            let billed = invoice.lines.iter().filter_map(|line| match &line.subject {
                invoice::Subject::Usage(usage) => Some(&usage.hours),
                _ => None,
            });
            let waiting = invoice.unpriced.iter().map(|waiting| &waiting.hours);
            let found: u128 = billed.chain(waiting).flatten().map(|hour| hour.count).sum();
            prop_assert_eq!(found, pulses);
        }
    }

    #[test]
    fn an_invoice_and_its_deltas_add_up_to_rating_the_final_truth_from_scratch(
        first in usage_with_levels(), late in usage_with_levels(), later in usage_with_levels(), before in 1usize..=2, after in 1usize..=2,
    ) {
        // The first contracts have one period of the same terms, so the documents are about the same.
        let early = contracts(before);
        let billed_first = invoices(&early, &first);
        let mut all = first;
        let mut documents: Vec<Vec<InvoiceDocument>> =
            billed_first.iter().map(|invoice| vec![document::invoice(invoice)]).collect();
        for (more, contracts) in [(late, early.clone()), (later, contracts(before.max(after)))] {
            all.extend(more);
            for (documents, now) in documents.iter_mut().zip(invoices(&contracts, &all)) {
                let mut billed = document::Billed::default();
                documents.iter().for_each(|document| billed.add(document).unwrap());
                documents.extend(document::delta(&now, &billed));
                let mut billed = document::Billed::default();
                documents.iter().for_each(|document| billed.add(document).unwrap());
                prop_assert_eq!(billed.total().unwrap(), now.total);
                let totals = documents.iter().map(|document| document.total().amount());
                prop_assert_eq!(sum(totals), now.total);
                prop_assert_eq!(document::delta(&now, &billed), None, "nothing is left to bill");
            }
        }
    }

    #[test]
    fn the_same_terms_split_over_any_number_of_contracts_and_catalogues_give_the_same_bill(
        rows in usage_with_levels(), which in 0usize..4, days in proptest::collection::btree_set(1i64..31, 1..6),
    ) {
        let whole = contracts(4).remove(which);
        let mut split = vec![whole.clone()];
        for (place, day) in days.iter().enumerate() {
            // Midnights of the contract's zone, three hours behind UTC.
            let midnight: Timestamp = "2026-01-01T03:00:00Z".parse().unwrap();
            let day = midnight.plus(Duration::from_secs(86_400 * day.unsigned_abs()));
            if day > whole.valid_from && whole.valid_to.is_none_or(|end| day < end) {
                let name = domain::Name::new(&format!("again-{place}")).unwrap();
                split.push(Contract { name, valid_from: day, ..whole.clone() });
            }
        }
        let amounts = |contracts: &[Contract]| -> Vec<Vec<(String, Amount, Quantity)>> {
            let bill = |invoice: Invoice| {
                let quantity = |line: &invoice::Line| match &line.subject {
                    invoice::Subject::Usage(usage) => usage.quantity.to_quantity().unwrap(),
                    _ => Quantity::ZERO,
                };
                invoice.lines.iter().map(|line| (line.key(), line.amount, quantity(line))).collect()
            };
            invoices(contracts, &rows).into_iter().map(bill).collect()
        };
        prop_assert_eq!(amounts(&split), amounts(&[whole]));
    }

    #[test]
    fn a_total_is_money_and_nothing_is_given_back_where_nothing_was_used_below_zero(
        rows in usage_with_levels(), count in 1usize..=4,
    ) {
        let mut rows = rows;
        rows.retain(|row| !row.cell.aggregate.min.is_negative());
        for invoice in invoices(&contracts(count), &rows) {
            prop_assert!(invoice.total >= Amount::ZERO, "{}", invoice.total);
            let cents = domain::catalogue::Rounding::To { digits: 2, mode: domain::catalogue::RoundingMode::HalfUp };
            prop_assert_eq!(invoice.total.rounded(cents), Some(invoice.total));
        }
    }

    #[test]
    fn credits_never_pay_more_than_they_are_nor_more_than_is_owed(
        totals in proptest::collection::vec(-5_000i64..20_000, 1..8), amounts in proptest::collection::vec(1i64..9_000, 1..4),
    ) {
        let mut contract = contracts(1).remove(0);
        contract.credits = (0u32..).zip(&amounts).map(|(place, cents)| domain::contract::Credit {
            name: domain::Name::new(&format!("credit-{place}")).unwrap(),
            amount: Quantity::from_decimal(*cents, 2).unwrap(),
            valid_from: Timestamp::MIN,
            expires: None,
            priority: place % 2,
        }).collect();
        let period = Window { start: Timestamp::EPOCH, end: Timestamp::MAX };
        let mut used: std::collections::BTreeMap<String, Amount> = std::collections::BTreeMap::new();
        for cents in totals {
            let total = Amount::of(Quantity::from_decimal(cents, 2).unwrap());
            let of = |name: &str| used.get(name).copied().unwrap_or(Amount::ZERO);
            let payments = credits::payments([&contract], ("BRL", period), total, of);
            let paid = sum(payments.iter().map(|(_, amount)| *amount));
            prop_assert!(paid <= total.max(Amount::ZERO));
            for (credit, amount) in payments {
                let used = used.entry(credit.name.as_str().to_owned()).or_insert(Amount::ZERO);
                *used = used.checked_add(amount).unwrap();
                prop_assert!(*used <= Amount::of(credit.amount));
            }
            let left = contract.credits.iter().any(|credit| {
                used.get(credit.name.as_str()).copied().unwrap_or(Amount::ZERO) < Amount::of(credit.amount)
            });
            prop_assert!(paid == total.max(Amount::ZERO) || !left, "something is owed and a credit is left");
        }
    }
}
