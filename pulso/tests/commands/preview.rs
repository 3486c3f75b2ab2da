//! A preview that a server gives, and what the program prints of it.

use super::*;

/// The bills of [`bill`] as messages.
pub(super) fn preview_message() -> PreviewBillResponse {
    let text = |text: &str| text.to_owned();
    let day = |day: i64| Some(Timestamp { seconds: 1_725_148_800 + 86_400 * day, nanos: 0 });
    let period = |(start, first_day): (i64, &str), (end, last_day): (i64, &str)| v1::BillPeriod {
        start: day(start),
        end: day(end),
        first_day: text(first_day),
        last_day: text(last_day),
        time_zone: text("UTC"),
        whole: Some(v1::TimeSpan { start: day(start), end: day(end) }),
    };
    let subtotals = |usage: &str, discount: &str| v1::Subtotals {
        usage: text(usage),
        discount: text(discount),
        commitment: text("0"),
        tax: text("0"),
        rounding: None,
        credit: None,
    };
    let metered =
        v1::step::Meter { meter: text("sum"), quantity: text("2"), ..v1::step::Meter::default() };
    let usage = v1::DocumentLine {
        key: text("usage of s"),
        kind: text("usage"),
        name: Some(text("Server")),
        product_sku: Some(text("s")),
        use_unity: Some(text("h")),
        dimensions: Some(v1::Dimensions::default()),
        quantity: Some(text("2")),
        contract: Some(text("one")),
        amount: text("1.00"),
        detail: vec![v1::Step { kind: Some(v1::step::Kind::Meter(metered)) }],
        ..v1::DocumentLine::default()
    };
    let discount = v1::DocumentLine {
        key: text("welcome"),
        kind: text("discount"),
        name: Some(text("welcome")),
        contract: Some(text("two")),
        amount: text("-0.50"),
        ..v1::DocumentLine::default()
    };
    let waiting = v1::UnpricedUsage {
        product_sku: text("t"),
        use_unity: text("h"),
        dimensions: Some(v1::Dimensions::default()),
        quantity: text("1"),
        count: text("1"),
        reason: text("unknown_sku"),
        remedy: text("publish it"),
        hours: None,
    };
    let first = v1::Bill {
        tenant: text("a"),
        currency: text("BRL"),
        period: Some(period((0, "2024-09-01"), (9, "2024-09-09"))),
        payment_term_days: 30,
        contracts: vec![text("one")],
        subtotals: Some(subtotals("1.00", "0")),
        total: text("1.00"),
        lines: vec![usage],
        unpriced: vec![waiting],
    };
    let second = v1::Bill {
        currency: text("USD"),
        period: Some(period((9, "2024-09-10"), (39, "2024-10-09"))),
        contracts: vec![text("two")],
        subtotals: Some(subtotals("0", "-0.50")),
        total: text("-0.50"),
        lines: vec![discount],
        unpriced: Vec::new(),
        ..first.clone()
    };
    let invoice = |bill| v1::InvoiceDocument {
        document: Some(v1::invoice_document::Document::Preview(bill)),
    };
    // A server of another version says nothing about the second.
    let payment = v1::CreditPayment { credit: text("prepaid"), amount: text("0.25") };
    let paid = v1::PreviewPayments {
        payments: vec![payment],
        due: text("0.75"),
        documents: vec![text("INV-000007")],
    };
    PreviewBillResponse {
        tenant: text("a"),
        period: text("2024-09"),
        catalogue: text("1"),
        invoices: [first, second].map(invoice).into(),
        payments: vec![paid],
        set_aside: Some(v1::UsageSetAside { pulses: 0, complete: true }),
    }
}

fn bill() -> Value {
    let of = |currency: &str, from: [&str; 2], to: [&str; 2], line: &Value, waiting: &Value| {
        let (total, kind) = (&line["amount"], line["kind"].as_str().unwrap());
        let mut subtotals = json!({"usage": "0", "discount": "0", "commitment": "0", "tax": "0"});
        subtotals[kind] = total.clone();
        json!({
            "document": "preview", "tenant": "a", "currency": currency,
            "period": {"start": from[0], "end": to[0], "first_day": from[1], "last_day": to[1],
                       "time_zone": "UTC", "whole": {"start": from[0], "end": to[0]}},
            "payment_term_days": 30, "contracts": [line["contract"]], "subtotals": subtotals,
            "total": total, "lines": [line], "unpriced": waiting,
        })
    };
    let usage = json!({
        "key": "usage of s", "kind": "usage", "name": "Server", "product_sku": "s",
        "use_unity": "h", "dimensions": {}, "quantity": "2", "contract": "one", "amount": "1.00",
        "detail": [{"step": "meter", "meter": "sum", "quantity": "2"}],
    });
    let discount = json!({
        "key": "welcome", "kind": "discount", "name": "welcome", "contract": "two",
        "amount": "-0.50", "detail": [],
    });
    let waiting = json!([{
        "product_sku": "t", "use_unity": "h", "dimensions": {}, "quantity": "1", "count": "1",
        "reason": "unknown_sku", "remedy": "publish it",
    }]);
    let first = ["2024-09-01T00:00:00Z", "2024-09-01"];
    let (second, last) =
        (["2024-09-10T00:00:00Z", "2024-09-10"], ["2024-10-10T00:00:00Z", "2024-10-09"]);
    let mut first = of("BRL", first, ["2024-09-10T00:00:00Z", "2024-09-09"], &usage, &waiting);
    first["payments"] = json!([{"credit": "prepaid", "amount": "0.25"}]);
    (first["due"], first["documents"]) = ("0.75".into(), json!(["INV-000007"]));
    let mut second = of("USD", second, last, &discount, &json!([]));
    (second["payments"], second["due"]) = (json!([]), "".into());
    second["documents"] = json!([]);
    json!({
        "tenant": "a", "period": "2024-09", "catalogue": "1",
        "invoices": [first, second],
        "set_aside": {"pulses": "0", "complete": true},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bill_is_printed_as_the_server_gave_it() {
    let output = pulso("bill preview --tenant a --period 2024-09 -o json").await;
    assert_eq!(document(&output), bill());
    let table = pulso("bill preview --tenant a --period 2024-09").await;
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("a, 2024-09-01 to 2024-09-09 (UTC): 1.00 BRL"), "{table}");
    assert!(table.contains("resources that have no price yet: 1"), "{table}");
    assert!(table.contains("billed by INV-000007; this is the whole period"), "{table}");
    assert!(table.contains("a, 2024-09-10 to 2024-10-09 (UTC): -0.50 USD"), "{table}");
    let csv = pulso("bill preview --tenant a --period 2024-09 -o csv").await;
    let csv = String::from_utf8_lossy(&csv.stdout).into_owned();
    assert_eq!(csv.lines().nth(1), Some("one,usage,s,h,Server,{},2,1.00"));
    assert_eq!(csv.lines().nth(2), Some("two,discount,,,welcome,,,-0.50"));
}
