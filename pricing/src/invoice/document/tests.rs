//! What documents say, and what notes give back.

use domain::{
    Aggregate, Cell, Dimensions, Epoch, LogId, Offset, Partition, ResourceKey, RowKey, SegmentId,
    Sku, Tenant, Unit, UsageRow,
};

use serde_json::json;

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
    let document = preview(&invoice, &mut 100);
    let shown = serde_json::to_value(&document).unwrap();
    let hour = |start: &str, sum: &str| {
        json!({"window_start": start, "count": "1", "sum": sum, "segments": [
            {"log_id": "01".repeat(16), "partition": 0, "epoch": 0, "segment_start": "7",
             "offset_last": "9"}]})
    };
    let expected = json!({
        "key": "usage [\"vm\",\"hour\"] {} from 2026-01-01T00:00:00Z",
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
    assert_eq!(document.lines()[0].steps_total(), "52.41".parse().ok());
    assert_eq!((&shown["document"], &shown["total"]), (&json!("preview"), &json!("52.41")));
    assert_eq!(shown["unpriced"][0]["reason"], "unknown_sku");
    assert_eq!(shown["unpriced"][0]["hours"][0]["sum"], "1");

    let cut = serde_json::to_value(preview(&invoice, &mut 1)).unwrap();
    assert_eq!(cut["lines"][0]["hours"].as_array().unwrap().len(), 1);
    assert_eq!(cut["lines"][0]["hours_left_out"], "1");
    assert_eq!(cut["unpriced"][0]["hours_left_out"], "1", "a cut stays a cut");
    let issued = super::invoice(&invoice);
    assert!(issued.lines()[0].hours.is_none() && issued.unpriced()[0].hours.is_none());
}

#[test]
fn a_credit_note_is_in_coins_and_names_what_it_gives_back() {
    let moment = "2024-09-01T00:00:00Z";
    let span = json!({"start": moment, "end": moment});
    let line = json!({"key": "k", "kind": "usage", "product_sku": "vm", "amount": "1.58088",
                      "detail": []});
    let period = json!({"start": moment, "end": moment, "first_day": "2024-09-01",
                        "last_day": "2024-09-01", "time_zone": "UTC", "whole": span});
    let sums = json!({"usage": "1.58088", "discount": "0", "commitment": "0", "tax": "0"});
    let issued = json!({"document": "invoice", "tenant": "t", "currency": "USD", "period": period,
                        "payment_term_days": 30, "contracts": [], "subtotals": sums,
                        "total": "1.58088", "lines": [line], "unpriced": []});
    let issued: InvoiceDocument = serde_json::from_value(issued).unwrap();
    let credited = [(Some(0), Amount::whole(1)), (None, Amount::whole(2))];
    let note =
        credit_note(("INV-000007", &issued), &credited, (NoteKind::Goodwill, "late", "")).unwrap();
    let note = serde_json::to_value(&note).unwrap();
    assert_eq!((&note["total"], &note["corrects"]), (&json!("-3.00"), &json!("INV-000007")));
    let first = &note["lines"][0];
    assert_eq!((&first["amount"], &first["product_sku"]), (&json!("-1.00"), &json!("vm")));
    assert_eq!(note["lines"][1]["name"], "late");
    let why = (NoteKind::Goodwill, "", "");
    let missing = credit_note(("INV-000007", &issued), &[(Some(1), Amount::whole(1))], why);
    assert_eq!(missing, Err("no line 2".to_owned()));
}
