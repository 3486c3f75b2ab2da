//! What goes over the wire comes back as the same JSON; and what a message costs against that JSON.

use std::{hint::black_box, time::Instant};

use pricing::{document::SegmentRef, rate::Step};
use prost::Message as _;

use super::*;

/// One document of each kind.
const TEXTS: &str =
    include_str!("../../../pricing/tests/documents/everything_on_one_invoice.jsonl");

/// One step of each kind.
const STEPS: &str = r#"[
    {"step":"meter","meter":"sum","quantity":"1.5"},
    {"step":"meter","meter":"avg","quantity":"1.5","resources":"3"},
    {"step":"meter","meter":"latest","quantity":"1.5","resources":"3","carried":"1"},
    {"step":"below_zero","quantity":"-5"},
    {"step":"days","days":15,"of":31,"amount":"-3.2"},
    {"step":"convert","divide_by":"60","rounding":"up to 0 digits","quantity":"2"},
    {"step":"convert","multiply_by":"0.001","rounding":"none","quantity":"2"},
    {"step":"free_units","used":"1","quantity":"2"},
    {"step":"proration","days":3,"of":31},
    {"step":"flat","amount":"-0.000000000000000000000000000000000001"},
    {"step":"units","quantity":"1","unit_price":"2","amount":"2"},
    {"step":"units","quantity":"1","unit_price":"2","when":{"zone":"b","area":"a"},"amount":"2"},
    {"step":"packages","quantity":"11","package_size":"10","packages":"-2","package_price":"3","amount":"-6"},
    {"step":"tier","tier":1,"above":"0","up_to":"10","quantity":"10","unit_price":"1","amount":"10"},
    {"step":"tier","tier":2,"above":"10","up_to":null,"quantity":"5","package_size":"4","packages":"2","unit_price":"1","amount":"2"},
    {"step":"tier_fee","tier":2,"amount":"1"},
    {"step":"events","events":"340282366920938463463374607431768211455"},
    {"step":"events","events":"2","amount_dimension":"price"},
    {"step":"free_events","events":"1","used":"2","quantity":"3"},
    {"step":"rate","quantity":"1","rate":"0.1","amount":"0.1"},
    {"step":"fixed_fee","events":"2","fixed_fee":"0.3","amount":"0.6"},
    {"step":"min_per_event","events":"2","bound":"1","amount":"0.6"},
    {"step":"max_per_event","events":"2","bound":"1","amount":"-0.6"},
    {"step":"rate_tier","tier":1,"above":"0","up_to":null,"quantity":"3","rate":"0.1","amount":"0.3"},
    {"step":"multiplier","quantity":"3","multiplier":"2","amount":"6"},
    {"step":"discount","name":"friends","share":"0.1","amount":"-1"},
    {"step":"exchange","from":"USD","rate":"5","amount":"4"},
    {"step":"amount_off","offered":"5","base":"4","amount":"-4"},
    {"step":"shortfall","committed":"5","spent":"4","amount":"1"},
    {"step":"overage","committed":"5","beyond":"4","factor":"1.5","amount":"2"},
    {"step":"tax","base":"5","rate":"0.19","amount":"0.95"},
    {"step":"invoiced_before","amount":"-5"},
    {"step":"corrected_before","amount":"5"},
    {"step":"goodwill","amount":"5"},
    {"step":"maximum","bound":"5","amount":"-1"},
    {"step":"minimum","bound":"5","amount":"1"},
    {"step":"rounding","rounding":"half_even to 2 digits","amount":"0.002"}
]"#;

fn through_the_wire(document: InvoiceDocument) -> InvoiceDocument {
    let bytes = super::document(document).encode_to_vec();
    of_document(v1::InvoiceDocument::decode(bytes.as_slice()).unwrap()).unwrap()
}

#[test]
fn every_document_comes_back_as_the_same_json() {
    for text in TEXTS.lines() {
        let document = through_the_wire(serde_json::from_str(text).unwrap());
        assert_eq!(serde_json::to_string(&document).unwrap(), text);
    }
}

#[test]
fn a_delta_with_lines_about_notes_has_their_subtotal() {
    let text = TEXTS.lines().find(|text| text.starts_with("{\"document\":\"delta\"")).unwrap();
    let text = text.replacen("},\"total\"", ",\"credit\":\"1.00\"},\"total\"", 1);
    let read: InvoiceDocument = serde_json::from_str(&text).unwrap();
    let back = of_document(super::document(read)).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
}

#[test]
fn every_step_has_the_message_of_its_name() {
    let steps: Vec<Step> = serde_json::from_str(STEPS).unwrap();
    let mut names = std::collections::BTreeSet::new();
    for step in steps {
        let (word, json) = (step.as_str(), serde_json::to_string(&step).unwrap());
        assert!(STEPS.contains(&json), "{json}");
        let message = step::message(step);
        let name = format!("{:?}", message.kind.as_ref().unwrap());
        let name = name.split_once('(').unwrap().0.to_lowercase();
        assert_eq!(name, word.replace('_', ""));
        let back = step::of_message(message).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), json);
        names.insert(name);
    }
    assert_eq!(names.len(), 31);
}

#[test]
fn hours_with_pulses_come_back_as_the_same_json() {
    let pulse = |known: &str| {
        format!(
            r#"{{"offset":"7","index":0,"time":"2024-09-01T00:00:00Z","amount":"1","request_id":"r"{known}}}"#
        )
    };
    let pulses = [
        pulse(""),
        pulse(r#","source":"","id":"i""#),
        pulse(
            r#","producer_id":"000000000000000000000000000000ff","sequence":"18446744073709551615""#,
        ),
        pulse(r#","backfill":"b","row":"0""#),
    ];
    let place = r#""log_id":"03030303030303030303030303030303","partition":1,"epoch":2,"segment_start":"3","offset_last":"4""#;
    let segments = [
        format!("{{{place}}}"),
        format!(r#"{{{place},"in_log":false}}"#),
        format!(r#"{{{place},"pulses":[]}}"#),
        format!(r#"{{{place},"pulses":[{}],"pulses_left_out":"3"}}"#, pulses.join(",")),
    ];
    for text in segments {
        let read: SegmentRef = serde_json::from_str(&text).unwrap();
        let back = of_segment(segment(read)).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
    }
}

#[test]
fn an_answer_of_a_newer_server_says_where_it_is_not_understood() {
    let text = TEXTS.lines().next().unwrap();
    let message = || super::document(serde_json::from_str(text).unwrap());
    let mut newer = message();
    let Some(v1::invoice_document::Document::Invoice(bill)) = &mut newer.document else { panic!() };
    bill.lines[0].kind = "gift".to_owned();
    let error = of_document(newer).unwrap_err().to_string();
    assert!(error.contains("`line.kind`") && error.contains("as new as the server"), "{error}");
    assert_eq!(of_document(v1::InvoiceDocument::default()), Err(NotUnderstood("document")));
}

/// An invoice of as many lines.
fn long(lines: usize) -> InvoiceDocument {
    let text = TEXTS.lines().next().unwrap();
    let mut document: InvoiceDocument = serde_json::from_str(text).unwrap();
    let InvoiceDocument::Invoice(bill) = &mut document else { panic!() };
    bill.lines = bill.lines.iter().cycle().take(lines).cloned().collect();
    document
}

#[test]
fn an_invoice_of_ten_thousand_lines_is_within_what_clients_accept_by_default() {
    const DEFAULT_BYTES_MAX: usize = 4 << 20;
    let document = long(10_000);
    assert!(serde_json::to_vec(&document).unwrap().len() > DEFAULT_BYTES_MAX);
    assert!(super::document(document).encoded_len() < DEFAULT_BYTES_MAX);
}

/// Prints bytes and times of an invoice of 10,000 lines, as a message and as JSON text in one.
#[test]
#[ignore = "a measurement: cargo test -p billing --lib messages_against_json -- --ignored --nocapture"]
fn messages_against_json() {
    let document = long(10_000);
    let stored = serde_json::to_string(&document).unwrap();
    // The server reads what is stored; the client needs the types.
    let timed = |what: &str, run: &dyn Fn() -> usize| {
        let mut times: Vec<_> = (0..7)
            .map(|_| {
                let start = Instant::now();
                black_box(run());
                start.elapsed()
            })
            .collect();
        times.sort();
        println!("{what}: {:?} median of 7, {} bytes", times[3], run());
    };
    let json = v1::InvoiceMessage { number: 1, message_json: stored.clone() }.encode_to_vec();
    let message = super::document(document.clone()).encode_to_vec();
    timed("JSON, encode stored text", &|| {
        v1::InvoiceMessage { number: 1, message_json: stored.clone() }.encode_to_vec().len()
    });
    timed("JSON, encode from types", &|| {
        let message_json = serde_json::to_string(&document).unwrap();
        v1::InvoiceMessage { number: 1, message_json }.encode_to_vec().len()
    });
    timed("JSON, decode to types", &|| {
        let text = v1::InvoiceMessage::decode(json.as_slice()).unwrap().message_json;
        let document: InvoiceDocument = serde_json::from_str(&text).unwrap();
        black_box(&document);
        json.len()
    });
    timed("message, encode from stored text", &|| {
        let document: InvoiceDocument = serde_json::from_str(&stored).unwrap();
        super::document(document).encode_to_vec().len()
    });
    timed("message, encode from types", &|| {
        super::document(document.clone()).encode_to_vec().len()
    });
    timed("message, decode to types", &|| {
        let decoded = v1::InvoiceDocument::decode(message.as_slice()).unwrap();
        black_box(of_document(decoded).unwrap());
        message.len()
    });
}
