//! Document: an invoice, or the delta to earlier ones or their reversal, as the JSON that is stored,
//! published and shown. What is stored is never changed; a number, a date and payments are drawn when
//! it becomes final and stand beside it.
//!
//! Decimals and 64-bit integers are strings, keys stand in a fixed order: the same invoice gives the
//! same bytes. Keys are only ever added.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Name, Window, catalogue::Currency};
use serde_json::{Map, Value, json};

use super::{Invoice, Line, Subject, Usage, sum};
use crate::{
    Amount,
    moment::Calendar,
    rate::{Step, json},
};

/// An invoice as a document.
#[must_use]
pub fn invoice(invoice: &Invoice) -> Value {
    let digits = invoice.terms.rounding.digits();
    let lines = invoice.lines.iter().map(|found| (found.amount, line(found, digits)));
    document("invoice", invoice, lines.collect())
}

/// An invoice as it would be, with the hours of usage behind each line. `budget` is how many stretches
/// of the log may still be listed, and is left with the rest.
#[must_use]
pub fn preview(invoice: &Invoice, budget: &mut usize) -> Value {
    let digits = invoice.terms.rounding.digits();
    let lines = invoice.lines.iter().map(|found| {
        let mut value = line(found, digits);
        if let Subject::Usage(usage) = &found.subject {
            json::add_hours(&mut value, &usage.hours, budget);
        }
        (found.amount, value)
    });
    let mut value = document("preview", invoice, lines.collect());
    let waiting = value["unpriced"].as_array_mut().into_iter().flatten();
    for (value, unpriced) in waiting.zip(&invoice.unpriced) {
        json::add_hours(value, &unpriced.hours, budget);
    }
    value
}

/// What the documents of a billing period have billed, line by line.
#[derive(Clone, Debug, Default)]
pub struct Billed {
    lines: BTreeMap<String, (Amount, Value)>,
}

impl Billed {
    /// Adds a document of the period.
    ///
    /// # Errors
    /// Says what is wrong with a document that this module did not make.
    pub fn add(&mut self, document: &Value) -> Result<(), String> {
        let lines = document["lines"].as_array().ok_or("a document without lines")?;
        for line in lines {
            let key = line["key"].as_str().ok_or("a line without a key")?;
            let amount = line["amount"].as_str().and_then(|text| text.parse().ok());
            let amount: Amount = amount.ok_or_else(|| format!("line {key:?} without an amount"))?;
            let (before, _) = self.lines.remove(key).unwrap_or((Amount::ZERO, Value::Null));
            let after = before.checked_add(amount).ok_or("amounts out of range")?;
            self.lines.insert(key.to_owned(), (after, line.clone()));
        }
        Ok(())
    }

    /// What was billed in all.
    #[must_use]
    pub fn total(&self) -> Option<Amount> {
        sum(self.lines.values().map(|(amount, _)| *amount))
    }

    /// Tells whether all of it comes to nothing.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.lines.values().all(|(amount, _)| *amount == Amount::ZERO)
    }
}

/// The delta that brings what was billed to what an invoice says now: one line for each that
/// differs, with the difference. `None` where nothing does.
#[must_use]
pub fn delta(now: &Invoice, billed: &Billed) -> Option<Value> {
    let digits = now.terms.rounding.digits();
    let mut before = billed.lines.clone();
    let mut lines = Vec::new();
    for found in &now.lines {
        let was = before.remove(&found.key()).map_or(Amount::ZERO, |(amount, _)| amount);
        let Some(difference) = found.amount.checked_sub(was).filter(|it| *it != Amount::ZERO)
        else {
            continue;
        };
        let mut value = line(found, digits);
        value["amount"] = difference.text(digits).into();
        push_before(&mut value, was);
        lines.push((difference, value));
    }
    lines.extend(given_back(before, digits));
    (!lines.is_empty()).then(|| document("delta", now, lines))
}

/// The document that gives back all that was billed for a period that there is no more: one line for
/// each, of the period of the newest document. `None` where nothing is left to give back.
#[must_use]
pub fn reversal(newest: &Value, billed: &Billed) -> Option<Value> {
    let currency = newest["currency"].as_str().and_then(Currency::from_code);
    let digits = currency.map_or(0, Currency::minor_digits);
    let lines = given_back(billed.lines.clone(), digits);
    let kept = |key: &str| newest[key].clone();
    let head = Head {
        tenant: kept("tenant"),
        currency: kept("currency"),
        period: kept("period"),
        payment_term_days: kept("payment_term_days"),
        digits,
    };
    (!lines.is_empty()).then(|| headed("reversal", head, lines, Vec::new()))
}

/// Lines that take back what was billed, but for what comes to nothing.
fn given_back(billed: BTreeMap<String, (Amount, Value)>, digits: u8) -> Vec<(Amount, Value)> {
    let mut lines = Vec::new();
    for (was, mut value) in billed.into_values() {
        let Some(difference) = was.checked_neg().filter(|it| *it != Amount::ZERO) else { continue };
        value["amount"] = difference.text(digits).into();
        value["quantity"] = "0".into();
        value["detail"] = json!([]);
        push_before(&mut value, was);
        lines.push((difference, value));
    }
    lines
}

/// What a credit note gives back: of the line at a place, or with `None` of the document as a whole.
pub type Credited = (Option<usize>, Amount);

/// The credit note for a document that was issued. Amounts are above zero here and negative in the
/// note.
///
/// # Errors
/// Says which line there is not, or which is given back beyond its amount.
pub fn credit_note(
    (number, issued): (&str, &Value),
    credited: &[Credited],
    (reason, request_id): (&str, &str),
) -> Result<Value, String> {
    // Somebody is paid it, in coins, whatever the document was rounded to.
    let currency = issued["currency"].as_str().and_then(Currency::from_code);
    let digits = currency.map_or(0, Currency::minor_digits);
    let mut lines = Vec::with_capacity(credited.len());
    let mut total = Amount::ZERO;
    for (place, amount) in credited {
        let negative = amount.checked_neg().ok_or("an amount out of range")?;
        total = total.checked_add(negative).ok_or("amounts out of range")?;
        let mut line = match place {
            None => json!({"key": format!("credit of {number}"), "kind": "credit", "name": reason}),
            Some(place) => {
                let of = &issued["lines"][*place];
                let key = of["key"].as_str().ok_or_else(|| format!("no line {}", place + 1))?;
                let mut line =
                    json!({"key": format!("credit {key} of {number}"), "kind": "credit"});
                for kept in ["name", "product_sku", "use_unity", "dimensions", "contract"] {
                    if !of[kept].is_null() {
                        line[kept] = of[kept].clone();
                    }
                }
                line
            }
        };
        line["amount"] = negative.text(digits).into();
        line["detail"] = json!([]);
        lines.push(line);
    }
    let mut note = json!({
        "document": "credit_note",
        "corrects": number,
        "reason": reason,
        "tenant": issued["tenant"],
        "currency": issued["currency"],
        "period": issued["period"],
        "payment_term_days": issued["payment_term_days"],
        "total": total.text(digits),
        "lines": lines,
    });
    if !request_id.is_empty() {
        note["request_id"] = request_id.into();
    }
    Ok(note)
}

/// Says at the end of a line's steps what earlier documents have billed of it.
fn push_before(line: &mut Value, was: Amount) {
    let Some(amount) = was.checked_neg().filter(|amount| *amount != Amount::ZERO) else { return };
    if let Some(detail) = line["detail"].as_array_mut() {
        detail.push(json::step(&Step::Invoiced { amount }));
    }
}

fn document(kind: &str, invoice: &Invoice, lines: Vec<(Amount, Value)>) -> Value {
    let head = Head {
        tenant: invoice.tenant.as_str().into(),
        currency: invoice.currency().code().into(),
        period: period(invoice),
        payment_term_days: invoice.terms.payment_term_days.into(),
        digits: invoice.terms.rounding.digits(),
    };
    headed(kind, head, lines, invoice.unpriced.iter().map(json::waiting).collect())
}

/// What stands at the head of a document.
struct Head {
    tenant: Value,
    currency: Value,
    period: Value,
    payment_term_days: Value,
    /// Decimals that amounts have at least.
    digits: u8,
}

fn headed(kind: &str, head: Head, lines: Vec<(Amount, Value)>, unpriced: Vec<Value>) -> Value {
    let Head { tenant, currency, period, payment_term_days, digits } = head;
    let of_kind = |kind: &str| {
        let amounts = lines.iter().filter(|(_, line)| line["kind"] == kind);
        let amounts = sum(amounts.map(|(amount, _)| *amount));
        Value::from(amounts.expect("no more than the total's lines").text(digits))
    };
    let subtotals: Map<String, Value> = ["usage", "discount", "commitment", "tax"]
        .into_iter()
        .map(|kind| (kind.to_owned(), of_kind(kind)))
        .collect();
    let total = sum(lines.iter().map(|(amount, _)| *amount));
    let total = total.expect("differences of two totals in range").text(digits);
    let contracts: BTreeSet<&str> =
        lines.iter().filter_map(|(_, line)| line["contract"].as_str()).collect();
    json!({
        "document": kind,
        "tenant": tenant,
        "currency": currency,
        "period": period,
        "payment_term_days": payment_term_days,
        "contracts": contracts,
        "subtotals": subtotals,
        "total": total,
        "lines": lines.into_iter().map(|(_, line)| line).collect::<Vec<_>>(),
        "unpriced": unpriced,
    })
}

/// The period with its first and last day in the contract's zone.
fn period(invoice: &Invoice) -> Value {
    let zone: &Name = &invoice.terms.time_zone;
    let calendar = Calendar::named(zone.as_str()).unwrap_or(Calendar::UTC);
    let Window { start, end } = invoice.window;
    let last = end.minus(std::time::Duration::from_micros(1));
    json!({
        "start": start.to_string(),
        "end": end.to_string(),
        "first_day": calendar.date_of(start),
        "last_day": calendar.date_of(last),
        "time_zone": zone.as_str(),
        "whole": json::period(invoice.whole),
    })
}

/// A line without its hours, which are as many as the usage; they are derived again when asked for.
fn line(line: &Line, digits: u8) -> Value {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| _ = object.insert(key.to_owned(), value);
    put("key", line.key().into());
    put("kind", line.subject.kind().into());
    match &line.subject {
        Subject::Usage(usage) => put_usage(usage, &mut put),
        Subject::Discount(name) | Subject::Commitment(name) | Subject::Tax(name) => {
            put("name", name.as_str().into());
        }
    }
    put("contract", line.contract.as_str().into());
    put("span", json::period(line.span));
    put("amount", line.amount.text(digits).into());
    put("rounding", line.rounding.to_string().into());
    put("detail", line.steps.iter().map(json::step).collect::<Vec<_>>().into());
    Value::Object(object)
}

fn put_usage(usage: &Usage, put: &mut impl FnMut(&str, Value)) {
    put("name", usage.name.as_str().into());
    put("product_sku", usage.product_sku.as_str().into());
    put("use_unity", usage.use_unity.as_str().into());
    put("dimensions", json::dimensions(&usage.dimensions));
    put("model", usage.model.into());
    put("quantity", usage.quantity.to_string().into());
    let price = json!({
        "catalogue": usage.catalogue.as_str(),
        "valid_from": usage.valid_from.to_string(),
    });
    put("price", price);
}

#[cfg(test)]
mod tests {
    use domain::{
        Aggregate, Cell, Dimensions, Epoch, LogId, Offset, Partition, ResourceKey, RowKey,
        SegmentId, Sku, Tenant, Unit, UsageRow,
    };

    use super::*;
    use crate::{file, invoice::standard_contract, rate::Sources, timeline};

    /// A row of one pulse, in a segment of its own.
    fn row(sku: &str, unit: &str, amount: &str, time: &str) -> UsageRow {
        let (time, start) = (time.parse().unwrap(), Offset(7));
        UsageRow {
            key: RowKey {
                resource: ResourceKey {
                    tenant: Tenant::new("t").unwrap(),
                    product_sku: Sku::new(sku).unwrap(),
                    use_unity: Unit::new(unit).unwrap(),
                    dimensions: Dimensions::none(),
                },
                window_start: time,
                segment: SegmentId {
                    log_id: LogId([1; 16]),
                    partition: Partition(0),
                    epoch: Epoch(0),
                    start,
                },
            },
            cell: Cell {
                offset_last: Offset(9),
                aggregate: Aggregate::of(amount.parse().unwrap(), time),
            },
        }
    }

    #[test]
    fn a_preview_reads_as_documented_and_its_parts_add_up() {
        let text = r#"
catalogue: "2026-11"
currency: BRL
skus:
  - sku: vm
    name: Machine
    unit: hour
    prices:
      - valid_from: 2026-01-01T00:00:00Z
        model: graduated
        tiers: [{up_to: "100", unit_price: "0.50", flat_fee: "2"}, {unit_price: "0.405"}]
"#;
        let catalogue = file::parse("c", text.as_bytes()).unwrap().catalogue;
        let contracts = [standard_contract(&Tenant::new("t").unwrap(), &catalogue)];
        let stretches = timeline::stretches(&contracts);
        let period = &timeline::periods(&stretches, "2026-01".parse().unwrap()).unwrap()[0];
        let usage = [
            row("vm", "hour", "60", "2026-01-10T12:00:00Z"),
            row("vm", "hour", "41", "2026-01-10T13:00:00Z"),
            row("nobody", "hour", "1", "2026-01-10T12:00:00Z"),
        ];
        let tenant = &contracts[0].tenant;
        let invoice =
            super::super::invoice(tenant, period, &[&catalogue], &usage, Sources::Listed).unwrap();
        let shown = preview(&invoice, &mut 100);
        let hour = |start: &str, sum: &str| {
            json!({"window_start": start, "count": "1", "sum": sum, "segments": [
                {"log_id": "01".repeat(16), "partition": 0, "epoch": 0, "segment_start": "7",
                 "offset_last": "9"}]})
        };
        let expected = json!({
            "key": "usage [\"vm\",\"hour\"] {} priced 2026-01-01T00:00:00Z from \
                    2026-01-01T00:00:00Z under standard",
            "kind": "usage", "name": "Machine", "product_sku": "vm", "use_unity": "hour",
            "dimensions": {}, "model": "graduated", "quantity": "101",
            "price": {"catalogue": "2026-11", "valid_from": "2026-01-01T00:00:00Z"},
            "contract": "standard",
            "span": {"start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z"},
            "amount": "52.41", "rounding": "half_up to 2 digits",
            "detail": [
                {"step": "meter", "meter": "sum", "quantity": "101"},
                {"step": "tier", "tier": 1, "above": "0", "up_to": "100", "quantity": "100",
                 "unit_price": "0.5", "amount": "50"},
                {"step": "tier_fee", "tier": 1, "amount": "2"},
                {"step": "tier", "tier": 2, "above": "100", "up_to": null, "quantity": "1",
                 "unit_price": "0.405", "amount": "0.405"},
                {"step": "rounding", "rounding": "half_up to 2 digits", "amount": "0.005"},
            ],
            "hours": [hour("2026-01-10T12:00:00Z", "60"), hour("2026-01-10T13:00:00Z", "41")],
        });
        assert_eq!(shown["lines"], json!([expected]));
        assert_eq!(json::steps_total(&shown["lines"][0]), "52.41".parse().ok());
        assert_eq!((&shown["document"], &shown["total"]), (&json!("preview"), &json!("52.41")));
        assert_eq!(shown["unpriced"][0]["reason"], "unknown_sku");
        assert_eq!(shown["unpriced"][0]["hours"][0]["sum"], "1");

        let cut = preview(&invoice, &mut 1);
        assert_eq!(cut["lines"][0]["hours"].as_array().unwrap().len(), 1);
        assert_eq!(cut["lines"][0]["hours_left_out"], "1");
        assert_eq!(cut["unpriced"][0]["hours_left_out"], "1", "a cut stays a cut");
        let issued = super::invoice(&invoice);
        assert!(issued["lines"][0]["hours"].is_null() && issued["unpriced"][0]["hours"].is_null());
    }

    #[test]
    fn a_credit_note_is_in_coins_and_names_what_it_gives_back() {
        let line = json!({"key": "k", "kind": "usage", "product_sku": "vm", "amount": "1.58088"});
        let issued = json!({"currency": "USD", "total": "1.58088", "lines": [line]});
        let credited = [(Some(0), Amount::whole(1)), (None, Amount::whole(2))];
        let note = credit_note(("INV-000007", &issued), &credited, ("late", "")).unwrap();
        assert_eq!((&note["total"], &note["corrects"]), (&json!("-3.00"), &json!("INV-000007")));
        let first = &note["lines"][0];
        assert_eq!((&first["amount"], &first["product_sku"]), (&json!("-1.00"), &json!("vm")));
        assert_eq!(note["lines"][1]["name"], "late");
        let missing =
            credit_note(("INV-000007", &issued), &[(Some(1), Amount::whole(1))], ("", ""));
        assert_eq!(missing, Err("no line 2".to_owned()));
    }
}
