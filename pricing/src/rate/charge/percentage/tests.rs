//! Percentages per event: the allowance against a count of single events, the explained line, and
//! what happens where single amounts cannot be told.

use std::collections::BTreeMap;

use domain::{Dimensions, Name, UsageRow, catalogue::Catalogue};
use proptest::prelude::*;

use super::*;
use crate::{
    file, moment,
    rate::{
        Rated, bill, rate,
        tests::{amounts, detail_of, row},
    },
};

fn quantity(text: &str) -> Quantity {
    text.parse().unwrap()
}

/// A rate of 2 % and a fee of 0.20.
fn terms(per_event: PerEvent) -> Percentage {
    Percentage { rate: quantity("0.02"), fixed_fee: quantity("0.20"), per_event: Some(per_event) }
}

/// Prices events of (hour, amount, count).
fn price(terms: &Percentage, events: &[(u8, i64, u8)]) -> Charge {
    let mut sorted: BTreeMap<(u8, Quantity), u128> = BTreeMap::new();
    let mut sum = Quantity::ZERO;
    for (hour, halves, count) in events {
        let amount = halves_of(*halves);
        *sorted.entry((*hour, amount)).or_default() += u128::from(*count);
        for _ in 0..*count {
            sum = sum.checked_add(amount).unwrap();
        }
    }
    let amounts = sorted.iter().map(|((_, amount), count)| (*amount, *count));
    let events = Events { count: sorted.values().sum(), amounts: amounts.collect() };
    let mut charge = Charge::new();
    percentage(terms, sum, &events, &mut charge).unwrap();
    charge
}

fn halves_of(halves: i64) -> Quantity {
    Quantity::from_raw(i128::from(halves) * (Quantity::ONE.raw() / 2))
}

/// The same, one event after the other, as the law is written.
fn one_by_one(terms: &Percentage, events: &[(u8, i64, u8)]) -> Amount {
    let mut single: Vec<(u8, Quantity)> = Vec::new();
    for (hour, halves, count) in events {
        single.extend((0..*count).map(|_| (*hour, halves_of(*halves))));
    }
    single.sort();
    let bounds = terms.per_event.as_ref().unwrap();
    let limited = bounds.free_events.is_some() || bounds.free_amount.is_some();
    let mut events_left = if limited { bounds.free_events.unwrap_or(u64::MAX) } else { 0 };
    let mut amount_left = bounds.free_amount.unwrap_or(Quantity::MAX);
    let mut total = Amount::ZERO;
    for (_, mut amount) in single {
        let is_adjustment = amount < Quantity::ZERO;
        if !is_adjustment && events_left > 0 && amount_left > Quantity::ZERO {
            if amount <= amount_left {
                events_left -= 1;
                amount_left = amount_left.checked_sub(amount).unwrap();
                continue;
            }
            amount = amount.checked_sub(amount_left).unwrap();
            amount_left = Quantity::ZERO;
        }
        let fee = Amount::of(terms.fixed_fee);
        let mut price = Amount::product(amount, terms.rate).checked_add(fee).unwrap();
        if let Some(minimum) = bounds.minimum.filter(|_| !is_adjustment) {
            price = price.max(Amount::of(minimum));
        }
        if let Some(maximum) = bounds.maximum.map(Amount::of) {
            price = price.min(maximum).max(maximum.checked_neg().unwrap());
        }
        total = total.checked_add(price).unwrap();
    }
    total
}

fn per_event() -> impl Strategy<Value = PerEvent> {
    let bound = |most: i64| proptest::option::of((0..most).prop_map(halves_of));
    let free_amount = proptest::option::of((1i64..40).prop_map(halves_of));
    (proptest::option::of(1u64..12), free_amount, bound(3), bound(6)).prop_map(
        |(free_events, free_amount, one, other)| {
            let (minimum, maximum) = match (one, other) {
                (Some(one), Some(other)) => (Some(one.min(other)), Some(one.max(other))),
                bounds => bounds,
            };
            let amount_dimension = Name::new("amount").unwrap();
            PerEvent { amount_dimension, free_events, free_amount, minimum, maximum }
        },
    )
}

fn events() -> impl Strategy<Value = Vec<(u8, i64, u8)>> {
    // Amounts from where the minimum holds to where the maximum does, on both sides of zero.
    let amount = prop_oneof![-4i64..12, -400i64..400];
    proptest::collection::vec((0u8..3, amount, 1u8..5), 1..12)
}

const CATALOGUE: &str = r#"
catalogue: "2026-11"
currency: BRL
skus:
  - sku: payments
    unit: BRL
    dimensions: [amount]
    prices:
      - valid_from: 2026-01-01T00:00:00Z
        model: percentage
        rate: "0.02"
        fixed_fee: "0.20"
        amount_dimension: amount
        free_events: 4
        free_amount: "100"
        min_per_event: "1"
        max_per_event: "5"
"#;

fn catalogue() -> Catalogue {
    file::parse("c", CATALOGUE.as_bytes()).unwrap().catalogue
}

fn rated(rows: &[UsageRow]) -> Rated {
    rate(&catalogue(), rows, moment::month("2026-01").unwrap())
}

/// A pulse at an hour of 10 January that repeats its amount, or not.
fn payment(amount: &str, repeated: Option<&str>, hour: u64, segment: u64) -> UsageRow {
    let time = format!("2026-01-10T{hour:02}:00:00Z");
    let mut row = row("payments", "BRL", "", amount, &time, segment);
    let pairs = repeated.map(|text| ("amount", text));
    row.key.resource.dimensions = Dimensions::from_pairs(pairs);
    row
}

fn paid(amount: &str, hour: u64, segment: u64) -> UsageRow {
    payment(amount, Some(amount), hour, segment)
}

/// Rows of one key merged, as they come out of a store.
fn merged(rows: &[UsageRow]) -> Vec<UsageRow> {
    let mut merged: BTreeMap<domain::RowKey, UsageRow> = BTreeMap::new();
    for row in rows {
        match merged.get_mut(&row.key) {
            Some(found) => found.cell.aggregate.merge(&row.cell.aggregate).unwrap(),
            None => _ = merged.insert(row.key.clone(), row.clone()),
        }
    }
    merged.into_values().collect()
}

#[test]
fn every_step_of_the_line_is_shown_and_they_add_up() {
    let rated = rated(&[
        paid("90", 1, 0),
        paid("20", 2, 0),
        paid("10", 3, 0),
        paid("10", 3, 1),
        paid("1000", 4, 0),
        paid("-1000", 5, 0),
        paid("-10", 6, 0),
    ]);
    // 90 and half of 20 are free; 10, 10 and 10 meet 1 each; 1000 is held at 5, its adjustment at
    // -5; -10 x 0.02 + 0.20 is nothing.
    let line = &rated.lines[0];
    assert_eq!(
        detail_of(line),
        concat!(
            r#"[{"step":"meter","meter":"sum","quantity":"120"},"#,
            r#"{"step":"events","events":"7","amount_dimension":"amount"},"#,
            r#"{"step":"free_events","events":"1","used":"100","quantity":"20"},"#,
            r#"{"step":"rate","quantity":"20","rate":"0.02","amount":"0.4"},"#,
            r#"{"step":"fixed_fee","events":"6","fixed_fee":"0.2","amount":"1.2"},"#,
            r#"{"step":"min_per_event","events":"3","bound":"1","amount":"1.8"},"#,
            r#"{"step":"max_per_event","events":"2","bound":"5","amount":"-0.4"}]"#,
        )
    );
    // 3 x (0.40 to 1), (20.20 to 5) and (-19.80 to -5).
    assert_eq!((amounts(&rated), line.model), (vec!["3.00".to_owned()], "percentage"));
    assert_eq!(line.steps_total(), line.amount);
    assert!(rated.unpriced.is_empty());
}

#[test]
fn an_event_at_a_bound_is_not_held_by_it() {
    let bounds = PerEvent {
        amount_dimension: Name::new("amount").unwrap(),
        free_events: None,
        free_amount: None,
        minimum: Some(quantity("1")),
        maximum: Some(quantity("5")),
    };
    // 40, 240 and -260 x 0.02 + 0.20 are 1, 5 and -5.
    let charge = price(&terms(bounds), &[(0, 80, 1), (1, 480, 1), (2, -520, 1)]);
    let steps: Vec<&str> = charge.steps.iter().map(Step::as_str).collect();
    assert_eq!(steps, ["events", "rate", "fixed_fee"]);
    assert_eq!(charge.amount, Amount::whole(1));
}

#[test]
fn the_allowance_is_used_by_hour_then_by_amount_whatever_came_first() {
    // 10 + 20 + 30 + 40 in one hour are the four free events; 50 pays 50 x 0.02 + 0.20.
    let one_hour: Vec<_> = ["50", "40", "10", "30", "20"].map(|text| paid(text, 1, 0)).into();
    assert_eq!(rated(&one_hour).total.text(2), "1.20");
    // An hour earlier, 50 comes first: 50 + 10 + 20 are free and 30 is so for 20 of it, which
    // leaves 10 x 0.02 + 0.20 to meet 1; 40 pays 1.
    let earlier: Vec<_> = [("50", 0), ("40", 1), ("10", 1), ("30", 1), ("20", 1)]
        .map(|(text, hour)| paid(text, hour, 0))
        .into();
    assert_eq!(rated(&earlier).total.text(2), "2.00");
}

#[test]
fn an_hour_that_holds_several_amounts_in_one_waits_and_the_others_are_billed() {
    let rows = [
        paid("1000", 1, 0),
        // Neither of these repeats its amount, and both do so in one hour.
        payment("10", None, 2, 0),
        payment("20", None, 2, 1),
        // Alone in its hour, an amount is known; so it is where it was repeated in other words.
        payment("10", None, 3, 0),
        payment("500", Some("500.00"), 4, 0),
        payment("7", Some("500.00"), 5, 0),
    ];
    let rated = rated(&rows);
    assert_eq!(rated.unpriced.len(), 1);
    let waiting = &rated.unpriced[0];
    assert_eq!((waiting.reason.as_str(), waiting.count), ("amounts_unknown", 2));
    assert_eq!(waiting.quantity.to_string(), "30");
    assert_eq!(waiting.hours.len(), 1);
    // 100 of the 1000 are free, and the rest is held at 5; 10 and 7 meet 1; 500 is held at 5.
    assert_eq!(rated.total.text(2), "12.00");
    assert_eq!(amounts(&rated), ["12.00"]);
    assert_eq!(rate(&catalogue(), &merged(&rows), rated.period), rated);
}

#[test]
fn amounts_beyond_the_arithmetic_wait() {
    let most = "170141183460469231731";
    let one = rated(&[paid(most, 1, 0)]);
    let rated = rated(&[paid(most, 1, 0), paid(most, 1, 1)]);
    assert_eq!(rated.unpriced[0].reason.as_str(), "out_of_range");
    assert_eq!(one.total.text(2), "5.00", "one of them is held at its maximum");
}

#[test]
fn without_terms_per_event_the_sum_and_the_number_are_enough() {
    let text = CATALOGUE
        .lines()
        .filter(|line| !["_event", "free_", "amount_dim"].iter().any(|part| line.contains(part)));
    let text = text.collect::<Vec<_>>().join("\n");
    let catalogue = file::parse("c", text.as_bytes()).unwrap().catalogue;
    let rows = [payment("10", None, 2, 0), payment("20.5", None, 2, 1)];
    let rated = rate(&catalogue, &merged(&rows), moment::month("2026-01").unwrap());
    // 30.5 x 0.02 + 2 x 0.20
    assert_eq!(rated.total.text(2), "1.01");
    let steps: Vec<&str> = rated.lines[0].steps.iter().map(Step::as_str).collect();
    assert_eq!(steps, ["meter", "events", "rate", "fixed_fee"]);
}

proptest! {
    #[test]
    fn the_sums_are_those_of_the_events_one_by_one(per_event in per_event(), events in events()) {
        let terms = terms(per_event);
        let charge = price(&terms, &events);
        prop_assert_eq!(charge.amount, one_by_one(&terms, &events));
        let steps = charge.steps.iter().map(Step::amount);
        prop_assert_eq!(bill::sum(steps), charge.amount);
    }

    #[test]
    fn bounds_that_never_hold_change_nothing(events in events()) {
        let amount_dimension = Name::new("amount").unwrap();
        let far = PerEvent {
            amount_dimension,
            free_events: None,
            free_amount: None,
            minimum: Some(Quantity::ZERO),
            maximum: Some(quantity("1000000")),
        };
        let bounded = terms(far);
        let plain = Percentage { per_event: None, ..bounded.clone() };
        prop_assert_eq!(price(&bounded, &events).amount, price(&plain, &events).amount);
    }

    #[test]
    fn order_and_splitting_of_events_never_matter(
        // One in four does not repeat its amount, so that some hours are mixed.
        events in proptest::collection::vec((-3i64..90, 0u8..4, 0u64..4, 0u64..3), 1..30), seed: u64,
    ) {
        let rows: Vec<UsageRow> = events
            .iter()
            .map(|(halves, repeated, hour, segment)| {
                let text = halves_of(*halves).to_string();
                let repeated = (*repeated > 0).then_some(text.as_str());
                payment(&text, repeated, *hour, *segment)
            })
            .collect();
        let whole = rated(&rows);
        let mut shuffled = rows.clone();
        shuffled.sort_by_key(|row| {
            (row.cell.aggregate.sum.raw() as u64 ^ seed).wrapping_mul(row.key.segment.start.0 * 2 + 31)
        });
        prop_assert_eq!(&rated(&shuffled), &whole);
        prop_assert_eq!(&rated(&merged(&rows)), &whole);
        // All of it in one segment, and each pulse in its own, come to the same money.
        let mut apart = rows.clone();
        for (index, row) in apart.iter_mut().enumerate() {
            row.key.segment.start = domain::Offset(10 * index as u64);
        }
        let mut together = rows;
        for row in &mut together {
            row.key.segment.start = domain::Offset(0);
        }
        prop_assert_eq!(rated(&apart).total, whole.total);
        prop_assert_eq!(rated(&merged(&together)).total, whole.total);
        for line in &whole.lines {
            prop_assert_eq!(line.steps_total(), line.amount);
        }
    }
}
