//! Rating: laws that hold for every catalogue, and edges from both sides.

use std::collections::BTreeMap;

use domain::{
    Aggregate, Cell, Epoch, LogId, Partition, Quantity, ResourceKey, RowKey, WindowLength,
};
use proptest::prelude::*;

use super::*;
use crate::{file, moment};

const CATALOGUE: &str = r#"
catalogue: "2026-11"
currency: BRL
skus:
  - sku: tiered
    unit: hour
    dimensions: [region]
    prices:
      - valid_from: 2026-01-01T00:00:00Z
        model: graduated
        tiers:
          - {up_to: "100", unit_price: "0.50", flat_fee: "2"}
          - {unit_price: "0.40"}
  - sku: changing
    unit: hour
    prices:
      - {valid_from: 2026-01-01T00:00:00Z, model: package, package_size: "10", package_price: "1"}
      - valid_from: 2026-01-15T12:00:00Z
        valid_to: 2026-01-20T00:00:00Z
        model: package
        package_size: "10"
        package_price: "2"
        minimum: "50"
      - {valid_from: 2026-01-25T00:00:00Z, model: per_unit, unit_price: "1", currency: USD}
  - sku: matrix
    unit: hour
    dimensions: [region]
    prices:
      - valid_from: 2026-01-01T00:00:00Z
        model: matrix
        free_units: "4"
        maximum: "30"
        prices:
          - {when: {region: a}, unit_price: "1"}
          - {when: {region: b}, unit_price: "2"}
  - sku: peak
    unit: seat
    meter: max
    prices:
      - {valid_from: 2026-01-01T00:00:00Z, model: per_unit, unit_price: "0.333"}
  - sku: calls
    unit: call
    meter: count
    prices:
      - {valid_from: 2026-01-01T00:00:00Z, model: per_unit, unit_price: "0.01"}
  - sku: least
    unit: C
    meter: min
    prices:
      - {valid_from: 2026-01-01T00:00:00Z, model: per_unit, unit_price: "1"}
  - sku: level
    unit: GB
    meter: latest
    prices:
      - {valid_from: 2026-01-01T00:00:00Z, model: per_unit, unit_price: "1"}
  - sku: mean
    unit: GB
    meter: avg
    prices:
      - {valid_from: 2026-01-01T00:00:00Z, model: per_unit, unit_price: "1.5"}
  - sku: fees
    unit: BRL
    prices:
      - {valid_from: 2026-01-01T00:00:00Z, model: percentage, rate: "0.015", fixed_fee: "0.30"}
  - sku: payments
    unit: BRL
    dimensions: [region]
    prices:
      - valid_from: 2026-01-01T00:00:00Z
        model: percentage
        rate: "0.015"
        fixed_fee: "0.30"
        amount_dimension: region
        free_events: 2
        min_per_event: "1"
        max_per_event: "5"
  - sku: share
    unit: BRL
    prices:
      - valid_from: 2026-01-01T00:00:00Z
        model: graduated_percentage
        tiers:
          - {up_to: "100", rate: "0.03", flat_fee: "2"}
          - {rate: "0.01"}
  - sku: passed-on
    unit: BRL
    prices:
      - {valid_from: 2026-01-01T00:00:00Z, model: dynamic, multiplier: "1.1"}
  - sku: dear
    unit: hour
    prices:
      - {valid_from: 2026-01-01T00:00:00Z, model: per_unit, unit_price: "100000000000000000000"}
"#;

fn catalogue() -> Catalogue {
    file::parse("c", CATALOGUE.as_bytes()).unwrap().catalogue
}

fn january() -> Window {
    moment::month("2026-01").unwrap()
}

/// A row of one pulse: SKU, unit, dimensions, amount, time, and the segment it came from.
pub(super) fn row(
    sku: &str,
    unit: &str,
    region: &str,
    amount: &str,
    time: &str,
    segment: u64,
) -> UsageRow {
    let time = time.parse().unwrap();
    let region = (!region.is_empty()).then_some(("region", region));
    let resource = ResourceKey {
        tenant: Tenant::new("t").unwrap(),
        product_sku: Sku::new(sku).unwrap(),
        use_unity: Unit::new(unit).unwrap(),
        dimensions: Dimensions::from_pairs(region),
    };
    let segment = SegmentId {
        log_id: LogId([1; 16]),
        partition: Partition(0),
        epoch: Epoch(0),
        start: Offset(segment),
    };
    let window_start = WindowLength::HOUR.start_of(time);
    UsageRow {
        key: RowKey { resource, window_start, segment },
        cell: Cell {
            offset_last: Offset(segment.start.0 + 5),
            aggregate: Aggregate::of(amount.parse::<Quantity>().unwrap(), time),
        },
    }
}

const NOON: &str = "2026-01-10T12:00:00Z";

fn rated(rows: &[UsageRow]) -> Rated {
    rate(&catalogue(), rows, january())
}

pub(super) fn amounts(rated: &Rated) -> Vec<String> {
    rated.lines.iter().map(|line| line.amount.text(2)).collect()
}

/// The steps of a line as a document shows them.
pub(super) fn detail_of(line: &Line) -> String {
    serde_json::to_string(&line.steps).unwrap()
}

/// SKU, reason and quantity of what waits.
fn waiting(rated: &Rated) -> Vec<(&str, &str, String)> {
    let entry = |found: &'_ Unpriced| (found.reason.as_str(), found.quantity.to_string());
    let entries = rated.unpriced.iter().map(|found| (found.product_sku.as_str(), entry(found)));
    entries.map(|(sku, (reason, quantity))| (sku, reason, quantity)).collect()
}

#[test]
fn tiers_act_on_the_whole_period_over_all_hours_and_dimensions() {
    let rated = rated(&[
        row("tiered", "hour", "a", "60", NOON, 0),
        row("tiered", "hour", "b", "60", "2026-01-31T23:59:59Z", 7),
    ]);
    // 100 x 0.50 + 2 + 20 x 0.40
    assert_eq!(amounts(&rated), ["60.00"]);
    let line = &rated.lines[0];
    assert!(line.dimensions.is_empty());
    let steps: Vec<&str> = line.steps.iter().map(Step::as_str).collect();
    assert_eq!(steps, ["meter", "tier", "tier_fee", "tier"]);
    assert_eq!(line.hours.len(), 2);
    assert_eq!(line.hours[1].segments[0].offset_last, Some(Offset(12)));
}

#[test]
fn usage_outside_the_period_is_no_part_of_it() {
    let rated = rated(&[
        row("tiered", "hour", "", "1", "2025-12-31T23:59:59Z", 0),
        row("tiered", "hour", "", "1", "2026-02-01T00:00:00Z", 0),
    ]);
    assert!(rated.lines.is_empty() && rated.unpriced.is_empty());
    assert_eq!(rated.total, Amount::ZERO);
}

#[test]
fn a_price_that_changes_inside_the_period_splits_the_usage_and_starts_packages_again() {
    let rated = rated(&[
        row("changing", "hour", "", "5", "2026-01-15T11:59:59Z", 0),
        row("changing", "hour", "", "11", "2026-01-15T12:00:00Z", 0),
        row("changing", "hour", "", "14", "2026-01-19T23:00:00Z", 0),
        row("changing", "hour", "", "3", "2026-01-20T00:00:00Z", 0),
        row("changing", "hour", "", "9", "2026-01-26T00:00:00Z", 0),
    ]);
    // 1 package of the old price; 3 of the new (11 + 14 = 25) are 6.00, which its minimum of 50 raises to
    // its 4 of 31 days.
    assert_eq!(amounts(&rated), ["1.00", "6.45"]);
    let steps: Vec<&str> = rated.lines[1].steps.iter().map(Step::as_str).collect();
    assert_eq!(steps, ["meter", "proration", "packages", "minimum", "rounding"]);
    let expected =
        [("changing", "no_price", "3".into()), ("changing", "no_price_in_currency", "9".into())];
    assert_eq!(waiting(&rated), expected);
}

#[test]
fn a_matrix_gives_a_line_for_each_price_and_holds_their_sum() {
    let rated = rated(&[
        row("matrix", "hour", "b", "10", NOON, 0),
        row("matrix", "hour", "a", "20", NOON, 0),
        row("matrix", "hour", "c", "1", NOON, 0),
        row("matrix", "hour", "", "1", NOON, 0),
    ]);
    // Free units go to a first: 16 x 1 and 10 x 2, held to 30.
    assert_eq!(amounts(&rated), ["16.00", "20.00", "-6.00"]);
    assert_eq!(rated.lines[0].dimensions.as_str(), r#"{"region":"a"}"#);
    assert_eq!(rated.lines[2].steps[0].as_str(), "maximum");
    assert_eq!(rated.total.text(2), "30.00");
    let expected =
        [("matrix", "no_matrix_price", "1".into()), ("matrix", "no_matrix_price", "1".into())];
    assert_eq!(waiting(&rated), expected);
}

#[test]
fn a_matrix_is_scaled_once_for_a_part_of_a_period_whatever_the_number_of_its_cells() {
    let cells = |price: &str| {
        let cell = |at: u32| format!("{{when: {{region: r{at}}}, unit_price: \"{price}\"}}");
        (0..50).map(cell).collect::<Vec<_>>().join(", ")
    };
    let text = format!(
        "catalogue: c\ncurrency: BRL\nskus:\n  - sku: m\n    unit: u\n    dimensions: [region]\n    prices:\n\
        \x20     - {{valid_from: 2026-01-01T00:00:00Z, model: matrix, prices: [{}]}}\n\
        \x20     - {{valid_from: 2026-01-11T00:00:00Z, model: matrix, prices: [{}]}}\n",
        cells("1"),
        cells("2")
    );
    let catalogue = file::parse("c", text.as_bytes()).unwrap().catalogue;
    let used = |at: u32| {
        let region = format!("r{at}");
        [NOON, "2026-01-20T12:00:00Z"].map(|time| row("m", "u", &region, "1", time, 0))
    };
    let rows: Vec<UsageRow> = (0..50).flat_map(used).collect();
    terms::SCALED.set(0);
    let rated = rate(&catalogue, &rows, january());
    assert_eq!((rated.lines.len(), rated.total.text(2)), (100, "150.00".to_owned()));
    assert_eq!(terms::SCALED.get(), 2);
}

#[test]
fn each_meter_takes_its_aggregate_of_the_whole_period() {
    for (sku, unit, quantity, amount) in [
        ("peak", "seat", "7", "2.33"),
        ("calls", "call", "4", "0.04"),
        // There is no level below zero.
        ("least", "C", "0", "0.00"),
        ("level", "GB", "5", "5.00"),
        // (7 - 2 + 3 + 5) / 4
        ("mean", "GB", "3.25", "4.88"),
    ] {
        let rated = rated(&[
            row(sku, unit, "", "7", "2026-01-10T12:00:00Z", 0),
            row(sku, unit, "", "-2", "2026-01-10T12:30:00Z", 0),
            row(sku, unit, "", "3", "2026-01-10T13:00:00Z", 1),
            row(sku, unit, "", "5", "2026-01-10T13:00:00Z", 2),
        ]);
        let line = &rated.lines[0];
        assert_eq!(
            (line.quantity.to_string(), line.amount.text(2)),
            (quantity.into(), amount.into())
        );
    }
}

#[test]
fn what_cannot_be_priced_waits_with_its_quantity_and_reason() {
    let rated = rated(&[
        row("nobody", "hour", "", "1.5", NOON, 0),
        row("nobody", "hour", "", "1.5", NOON, 1),
        row("tiered", "second", "", "9", NOON, 0),
        row("dear", "hour", "", "100000000000000000000", NOON, 0),
        row("calls", "call", "", "170141183460469231731", NOON, 0),
        row("level", "GB", "", "1", "2026-01-10T12:00:00Z", 0),
    ]);
    assert_eq!(
        waiting(&rated),
        [
            ("dear", "out_of_range", "100000000000000000000".into()),
            ("nobody", "unknown_sku", "3".into()),
            ("tiered", "unit_mismatch", "9".into()),
        ]
    );
    assert_eq!(rated.unpriced[1].count, 2);
    assert_eq!(rated.unpriced[1].hours[0].segments.len(), 2);
    assert_eq!(amounts(&rated), ["0.01", "1.00"], "the others are billed all the same");
}

#[test]
fn sums_wider_than_a_quantity_wait_whatever_the_order() {
    let most = "170141183460469231731";
    let rows = [row("tiered", "hour", "", most, NOON, 0), row("tiered", "hour", "", most, NOON, 1)];
    assert_eq!(
        waiting(&rated(&rows)),
        [("tiered", "out_of_range", "340282366920938463462".into())]
    );
    let back =
        [rows[0].clone(), rows[1].clone(), row("tiered", "hour", "", &format!("-{most}"), NOON, 2)];
    let rated = rated(&back);
    assert!(rated.unpriced.is_empty());
    assert_eq!(rated.lines[0].quantity.to_string(), most);
}

#[test]
fn shares_of_amounts_show_their_steps() {
    for (sku, amount, detail) in [
        (
            "share",
            "5.01",
            concat!(
                r#"[{"step":"meter","meter":"sum","quantity":"100.5"},"#,
                r#"{"step":"rate_tier","tier":1,"above":"0","up_to":"100","quantity":"100","rate":"0.03","amount":"3"},"#,
                r#"{"step":"tier_fee","tier":1,"amount":"2"},"#,
                r#"{"step":"rate_tier","tier":2,"above":"100","up_to":null,"quantity":"0.5","rate":"0.01","amount":"0.005"},"#,
                r#"{"step":"rounding","rounding":"half_up to 2 digits","amount":"0.005"}]"#,
            ),
        ),
        (
            "passed-on",
            "110.55",
            concat!(
                r#"[{"step":"meter","meter":"sum","quantity":"100.5"},"#,
                r#"{"step":"multiplier","quantity":"100.5","multiplier":"1.1","amount":"110.55"}]"#,
            ),
        ),
    ] {
        let rated = rated(&[row(sku, "BRL", "", "100.5", NOON, 0)]);
        assert_eq!(
            (detail_of(&rated.lines[0]), amounts(&rated)),
            (detail.into(), vec![amount.into()])
        );
    }
}

const SKUS: &[(&str, &str)] = &[
    ("tiered", "hour"),
    ("changing", "hour"),
    ("matrix", "hour"),
    ("peak", "seat"),
    ("calls", "call"),
    ("least", "C"),
    ("level", "GB"),
    ("mean", "GB"),
    ("fees", "BRL"),
    ("payments", "BRL"),
    ("share", "BRL"),
    ("passed-on", "BRL"),
    ("nobody", "hour"),
];

/// Pulses of January as rows of their own, with amounts that need all decimals.
fn usage() -> impl Strategy<Value = Vec<UsageRow>> {
    let pulse = (0..SKUS.len(), 0usize..3, any::<i64>(), 0i64..31 * 24 * 4, 0u64..4);
    let to_row = |(sku, region, raw, quarter, segment): (usize, usize, i64, i64, u64)| {
        let (sku, unit) = SKUS[sku];
        let mut row = row(sku, unit, ["", "a", "b"][region], "0", NOON, segment);
        let time = january().start.plus(std::time::Duration::from_secs(900 * quarter as u64));
        row.key.window_start = WindowLength::HOUR.start_of(time);
        let quantity = Quantity::from_raw(i128::from(raw) * 123);
        row.cell.aggregate = Aggregate::of(quantity, time);
        row
    };
    proptest::collection::vec(pulse.prop_map(to_row), 1..40)
}

proptest! {
    #[test]
    fn order_and_splitting_of_usage_never_matter(rows in usage(), seed: u64) {
        let whole = rated(&rows);
        let mut shuffled = rows.clone();
        shuffled.sort_by_key(|row| (row.cell.aggregate.sum.raw() as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        prop_assert_eq!(&rated(&shuffled), &whole);
        // Rows of one key come merged out of a store; here they were one for each pulse.
        let mut merged: BTreeMap<RowKey, UsageRow> = BTreeMap::new();
        for row in &rows {
            match merged.get_mut(&row.key) {
                Some(found) => found.cell.aggregate.merge(&row.cell.aggregate).unwrap(),
                None => _ = merged.insert(row.key.clone(), row.clone()),
            }
        }
        let merged: Vec<UsageRow> = merged.into_values().collect();
        prop_assert_eq!(&rated(&merged), &whole);
    }

    #[test]
    fn pages_come_to_what_all_rows_at_once_come_to(rows in usage(), size in 1usize..20) {
        let (catalogue, calendar, whole) = (catalogue(), Calendar::UTC, rated(&rows));
        let terms = RatingTerms::of(&catalogue, january(), &calendar);
        let paged = rate_pages(&terms, rows.chunks(size).map(<[UsageRow]>::to_vec));
        let without = |mut rated: Rated| {
            rated.lines.iter_mut().for_each(|line| line.hours.clear());
            rated.unpriced.iter_mut().for_each(|unpriced| unpriced.hours.clear());
            // Sorted by their hours last, which pages do not list.
            rated.unpriced.sort_by(|one, other| one.order().cmp(&other.order()));
            rated
        };
        prop_assert_eq!(without(paged), without(whole));
    }

    #[test]
    fn parts_add_up_to_lines_and_lines_to_the_total(rows in usage()) {
        let rated = rated(&rows);
        let mut total = Amount::ZERO;
        for line in &rated.lines {
            prop_assert_eq!(line.steps_total(), line.amount);
            prop_assert_eq!(line.amount.rounded(rated.rounding), Some(line.amount));
            total = total.checked_add(line.amount).unwrap();
        }
        prop_assert_eq!(rated.total, total);
    }

    #[test]
    fn no_pulse_is_lost_between_lines_and_unpriced(rows in usage()) {
        let rated = rated(&rows);
        let lines = rated.lines.iter().flat_map(|line| &line.hours);
        let unpriced = rated.unpriced.iter().flat_map(|unpriced| &unpriced.hours);
        let (mut count, mut sum) = (0, Amount::ZERO);
        for hour in lines.chain(unpriced) {
            count += hour.count;
            sum = sum.checked_add(hour.sum).unwrap();
        }
        prop_assert_eq!(count, rows.len() as u128);
        let sent = bill::sum(rows.iter().map(|row| Amount::of(row.cell.aggregate.sum)));
        prop_assert_eq!(sum, sent);
    }

    #[test]
    fn tiers_tile_the_quantity_and_cost_no_more_than_their_dearest(raw in 1i64..) {
        let quantity = Quantity::from_raw(i128::from(raw) * 100);
        let mut row = row("tiered", "hour", "", "0", NOON, 0);
        row.cell.aggregate = Aggregate::of(quantity, row.key.window_start);
        let rated = rated(&[row]);
        let (mut units, mut edge) = (Quantity::ZERO, Quantity::ZERO);
        for step in &rated.lines[0].steps {
            if let Step::Tier { above, up_to, quantity, .. } = step {
                prop_assert_eq!(*above, edge, "a tier begins where the one before ends");
                units = units.checked_add(*quantity).unwrap();
                edge = up_to.unwrap_or(units);
                prop_assert!(units <= edge);
            }
        }
        prop_assert_eq!(units, quantity);
    }
}
