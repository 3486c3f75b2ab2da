//! One table for each format: what comes in, and the rows or rejections that come out.

use std::io::{self, BufRead};

use domain::Quantity;
use edge::problem::reasons;
use proptest::prelude::*;

use super::{
    cloudevents, csv_rows,
    focus::{self, FocusQuantity},
    jsonl,
    row::{
        AMOUNT_NOT_A_NUMBER, FIELD_REPEATED, FIELD_TYPE, FIELD_UNKNOWN, ROW_BYTES_MAX, ROW_CELLS,
        ROW_MALFORMED, ROW_TOO_LONG, RowResult, TIME_INVALID,
    },
};

type Read = fn(&mut dyn BufRead, &mut dyn FnMut(RowResult) -> io::Result<()>) -> io::Result<()>;

const READ_FOCUS: Read = |input, sink| focus::read(input, FocusQuantity::Pricing, sink);

/// Reads all through a tiny buffer, so that rows and line ends fall on its edges.
fn read(read: Read, text: &[u8]) -> io::Result<Vec<RowResult>> {
    let mut rows = Vec::new();
    let mut input = io::BufReader::with_capacity(3, text);
    read(&mut input, &mut |row| {
        rows.push(row);
        Ok(())
    })?;
    Ok(rows)
}

/// The number of each row, with the reason and the field where it was rejected.
fn outcomes(rows: &[RowResult]) -> Vec<(u64, &str, &str)> {
    rows.iter()
        .map(|row| match row {
            Ok(row) => (row.number, "", ""),
            Err(bad) => (bad.row, bad.reason.as_str(), bad.field.as_str()),
        })
        .collect()
}

#[test]
fn jsonl_takes_the_wire_names_their_aliases_and_exact_numbers() {
    let text = br#"{"tenant":"a","product_sku":"s","use_unity":"h","used_amount":"12.50","time":"2024-09-18T22:00:00Z","id":"1","source":"x","properties":{"region":"br","cores":4,"spot":true,"none":null}}

{"customer_id":"a","event_name":"s","unit":"h","used_amount":2.0E-7,"timestamp":"2024-09-18T22:00:00Z","transaction_id":7}
{"subject":"a","type":"s","unit":"h","used_amount":0.1234567890123456,"time":"2024-09-18T22:00:00Z"}"#;
    let rows: Vec<_> = read(jsonl::read, text).unwrap().into_iter().map(Result::unwrap).collect();
    let amounts: Vec<String> = rows
        .iter()
        .map(|row| row.pulse.used_amount.as_ref().unwrap())
        .map(|decimal| Quantity::from_decimal(decimal.unscaled, decimal.scale).unwrap().to_string())
        .collect();
    assert_eq!(amounts, ["12.5", "0.0000002", "0.1234567890123456"]);
    assert_eq!(rows.iter().map(|row| row.number).collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(rows.iter().map(|row| row.pulse.id.as_str()).collect::<Vec<_>>(), ["1", "7", ""]);
    let mut properties: Vec<_> = rows[0].pulse.properties.clone().into_iter().collect();
    properties.sort();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(properties, [pair("cores", "4"), pair("region", "br"), pair("spot", "true")]);
    for row in &rows {
        assert_eq!((row.pulse.tenant.as_str(), row.pulse.use_unity.as_str()), ("a", "h"));
    }
}

#[test]
fn a_bad_json_line_is_rejected_alone() {
    let good = r#"{"tenant":"a","product_sku":"s","use_unity":"h","used_amount":"1","time":"2024-09-18T22:00:00Z"}"#;
    for (bad, reason, field) in [
        (r#"{"used_amount":NaN}"#, ROW_MALFORMED, ""),
        (r#"{"used_amount":"1""#, ROW_MALFORMED, ""),
        ("[1]", ROW_MALFORMED, ""),
        (r#"{"used_amount":"NaN"}"#, AMOUNT_NOT_A_NUMBER, "used_amount"),
        (r#"{"used_amount":1e-19}"#, reasons::AMOUNT_SCALE, "used_amount"),
        (r#"{"used_amount":1e400}"#, reasons::AMOUNT_OUT_OF_RANGE, "used_amount"),
        (r#"{"tenant":"a"}"#, reasons::AMOUNT_MISSING, "used_amount"),
        (r#"{"used_amount":null}"#, reasons::AMOUNT_MISSING, "used_amount"),
        (r#"{"used_amount":{"unscaled":1}}"#, FIELD_TYPE, "used_amount"),
        (r#"{"used_amount":1,"tenat":"a"}"#, FIELD_UNKNOWN, "tenat"),
        (r#"{"used_amount":1,"used_amount":2}"#, FIELD_REPEATED, "used_amount"),
        (r#"{"used_amount":1,"tenant":"a","subject":"b"}"#, FIELD_REPEATED, "tenant"),
        (
            r#"{"used_amount":1,"properties":{"a":1},"properties":{"b":2}}"#,
            FIELD_REPEATED,
            "properties",
        ),
        (r#"{"used_amount":1,"time":"yesterday"}"#, TIME_INVALID, "time"),
        (r#"{"used_amount":1,"time":"0000-01-01T00:00:00Z"}"#, reasons::TIME_OUT_OF_RANGE, "time"),
        (r#"{"used_amount":1,"properties":"x"}"#, FIELD_TYPE, "properties"),
        (r#"{"used_amount":1,"properties":{"a":[]}}"#, FIELD_TYPE, "properties.a"),
    ] {
        let text = format!("{good}\r\n{bad}\r\n{good}\r\n");
        let rows = read(jsonl::read, text.as_bytes()).unwrap();
        assert_eq!(outcomes(&rows), [(1, "", ""), (2, reason, field), (3, "", "")], "{bad}");
    }
}

#[test]
fn a_key_that_an_object_within_a_row_has_twice_rejects_the_row() {
    let event = |data: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"1","source":"s","time":"2024-09-18T22:00:00Z","subject":"a","type":"vm","data":{data}}}"#
        )
    };
    let row = |properties: &str| {
        format!(
            r#"{{"tenant":"a","product_sku":"s","use_unity":"h","used_amount":1.50,"time":"2024-09-18T22:00:00Z","properties":{properties}}}"#
        )
    };
    for (name, text, reader, repeated) in [
        (
            "data",
            event(r#"{"used_amount":"1","used_amount":"1000","use_unity":"h"}"#),
            cloudevents::read as Read,
            "data.used_amount",
        ),
        (
            "in a list",
            format!("[{}]", event(r#"{"used_amount":1,"use_unity":"h","use_unity":"h"}"#)),
            cloudevents::read,
            "data.use_unity",
        ),
        (
            "deeper",
            event(r#"{"used_amount":1,"use_unity":"h","properties":{"a":"1","a":"2"}}"#),
            cloudevents::read,
            "data.a",
        ),
        ("properties", row(r#"{"a":"1","a":"2"}"#), jsonl::read, "properties.a"),
        ("a list of objects", row(r#"{"a":[{"b":1,"b":2}]}"#), jsonl::read, "properties.b"),
    ] {
        let rows = read(reader, text.as_bytes()).unwrap();
        assert_eq!(outcomes(&rows), [(1, FIELD_REPEATED, repeated)], "{name}");
    }
    for text in [
        event(r#"{"used_amount":12.50,"use_unity":"h","a":{"used_amount":1}}"#),
        event(r#"{"used_amount":1e-18,"use_unity":"h","null":null,"true":true,"n":-7}"#),
    ] {
        let rows = read(cloudevents::read, text.as_bytes()).unwrap();
        assert!(!rows[0].as_ref().is_err_and(|bad| bad.reason == FIELD_REPEATED), "{text}");
    }
    let [Ok(good)] =
        &read(jsonl::read, row(r#"{"digits":1.2300,"flag":true}"#).as_bytes()).unwrap()[..]
    else {
        panic!("digits are kept")
    };
    assert_eq!(good.pulse.properties["digits"], "1.2300");
}

#[test]
fn the_name_of_a_field_is_shortened_where_it_is_told() {
    let name = "n".repeat(900_000);
    let text = format!(
        "tenant,product_sku,use_unity,used_amount,time,properties.{name}\na,s,h,1,2024-09-18T22:00:00Z,"
    );
    let rows = read(csv_rows::read, &[text.as_bytes(), b"\xff\n"].concat()).unwrap();
    let Err(bad) = &rows[0] else { panic!("not UTF-8") };
    assert!(bad.field.starts_with("properties.nnn") && bad.field.len() < 80, "{}", bad.field);
}

#[test]
fn a_line_without_end_does_not_fill_the_memory() {
    let mut text = vec![b'x'; 3 * ROW_BYTES_MAX];
    text.extend_from_slice(b"\n{\"used_amount\":1}\n\xff\xfe\n");
    let mut rows = Vec::new();
    jsonl::read(&mut text.as_slice(), &mut |row| {
        rows.push(row);
        Ok(())
    })
    .unwrap();
    assert_eq!(outcomes(&rows), [(1, ROW_TOO_LONG, ""), (2, "", ""), (3, ROW_MALFORMED, "")]);
}

#[test]
fn a_csv_row_without_end_is_rejected_alone_and_does_not_fill_the_memory() {
    let long = "x".repeat(2 * ROW_BYTES_MAX);
    let cells = ",".repeat(ROW_BYTES_MAX);
    let row = "a,s,h,1,2024-09-18T22:00:00Z\n";
    let text = format!(
        "tenant,product_sku,unit,used_amount,time\n{row}a,\"{long}\",h\n{cells}\n{row}a,\"{long}"
    );
    let rows = read(csv_rows::read, text.as_bytes()).unwrap();
    let expected = [
        (1, "", ""),
        (2, ROW_TOO_LONG, ""),
        (3, ROW_TOO_LONG, ""),
        (4, "", ""),
        (5, ROW_TOO_LONG, ""),
    ];
    assert_eq!(outcomes(&rows), expected);
    let header = format!("\"{long}");
    for reader in [csv_rows::read as Read, READ_FOCUS] {
        let error = read(reader, header.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("longer than 1048576 bytes"), "{error}");
    }
}

#[test]
fn an_event_without_end_ends_its_list() {
    let good = r#"{"specversion":"1.0","data":{"used_amount":1}}"#;
    let text = format!("[{good},{good},{{\"x\":\"{}", "x".repeat(2 * ROW_BYTES_MAX));
    let mut rows = Vec::new();
    let error = cloudevents::read(&mut text.as_bytes(), &mut |row| {
        rows.push(row);
        Ok(())
    })
    .unwrap_err()
    .to_string();
    assert!(error.contains("an event is longer than 1048576 bytes"), "{error}");
    assert_eq!(outcomes(&rows), [(1, "", ""), (2, "", "")]);
    // A list may be longer than an event.
    let many = format!("[{}]", vec![good; 30_000].join(","));
    assert_eq!(read(cloudevents::read, many.as_bytes()).unwrap().len(), 30_000);
}

#[test]
fn csv_rows_are_read_and_bad_ones_rejected_alone() {
    let text = b"customer_id,product_sku,unit,used_amount,timestamp,id,properties.region\r\n\
        a,s,h,1.5,2024-09-18T22:00:00Z,7,br\r\n\
        a,s,h,\r\n\
        a,\"s,\n2\",h,2,2024-09-18T22:00:00Z,,\r\n\
        a,s,h,,2024-09-18T22:00:00Z,,\r\n\
        a,s,h,1,2024-09-18T22:00:00Z,,\xff\r\n\
        a,s,h,1,18/09/2024,,\r\n\
        a,s,h,1,2024-09-18T22:00:00Z,,x,y\r\n\
        a,\"s,h,1,2024-09-18T22:00:00Z,,\r\n";
    let rows = read(csv_rows::read, text).unwrap();
    assert_eq!(
        outcomes(&rows),
        [
            (1, "", ""),
            (2, ROW_CELLS, ""),
            (3, "", ""),
            (4, reasons::AMOUNT_MISSING, "used_amount"),
            (5, reasons::NAME_NOT_UTF8, "properties.region"),
            (6, TIME_INVALID, "time"),
            (7, ROW_CELLS, ""),
            (8, ROW_CELLS, ""),
        ]
    );
    let third = &rows[2].as_ref().unwrap().pulse;
    assert_eq!((third.product_sku.as_str(), third.id.as_str()), ("s,\n2", ""));
    assert!(third.properties.is_empty());
}

#[test]
fn a_csv_header_that_is_not_understood_refuses_the_file() {
    for (header, needed) in [
        ("", "empty"),
        ("tenant,product_sku,use_unity,time", "column `used_amount` is missing"),
        ("tenant,product_sku,used_amount,time", "column `use_unity` or `unit` is missing"),
        ("tenant,tenant,product_sku,use_unity,used_amount,time", "column `tenant` comes twice"),
        ("tenant,subject,product_sku,use_unity,used_amount,time", "`subject` comes twice"),
        ("tenat,product_sku,use_unity,used_amount,time", "did you mean `tenant`?"),
        ("zebra,product_sku,use_unity,used_amount,time", "name free columns `properties.NAME`"),
    ] {
        let error = read(csv_rows::read, header.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(needed), "{header} gave: {error}");
    }
}

#[test]
fn cloudevents_come_one_a_line_or_as_one_list() {
    let event = |data: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"e1","source":"/host/1","type":"s","subject":"a","time":"2024-09-18T22:00:00Z","datacontenttype":"application/json","traceparent":"00-1","data":{data}}}"#
        )
    };
    let good = event(r#"{"used_amount":2.0E-7,"unit":"h","region":"br"}"#);
    let bad = good.replace("1.0\"", "0.3\"");
    let no_data = event("5");
    for text in
        [format!("{good}\n{bad}\n{no_data}\n7\n"), format!(" [{good},\n{bad},{no_data},7] \n")]
    {
        let rows = read(cloudevents::read, text.as_bytes()).unwrap();
        let outcomes = outcomes(&rows);
        assert_eq!(
            outcomes[..3],
            [(1, "", ""), (2, ROW_MALFORMED, "specversion"), (3, FIELD_TYPE, "data")],
            "{text}"
        );
        assert_eq!((outcomes[3].0, outcomes[3].1), (4, ROW_MALFORMED), "{text}");
        let pulse = &rows[0].as_ref().unwrap().pulse;
        let amount = pulse.used_amount.as_ref().unwrap();
        assert_eq!((amount.unscaled, amount.scale), (2, 7));
        assert_eq!((pulse.id.as_str(), pulse.source.as_str()), ("e1", "/host/1"));
        assert_eq!((pulse.tenant.as_str(), pulse.product_sku.as_str()), ("a", "s"));
        assert_eq!(pulse.properties["region"], "br");
        assert_eq!(pulse.properties["traceparent"], "00-1");
        assert_eq!(pulse.properties.len(), 2);
    }
    let cut = format!("[{good},");
    assert!(
        read(cloudevents::read, cut.as_bytes()).unwrap_err().to_string().contains("breaks off")
    );
    assert_eq!(read(cloudevents::read, b" \n").unwrap(), []);
}

#[test]
fn focus_rows_become_pulses_in_utc() {
    let header = "SubAccountId,SkuId,SkuPriceId,PricingQuantity,PricingUnit,ChargePeriodStart,Id,RegionId,Other";
    let text = format!(
        "{header}\n\"7\",S,S.1,0.002007490000000,LCU-Hours,2024-09-30 22:00:00,19384,us-west-2,x\n\
         7,S,NULL,NULL,h,2024-09-30T22:00:00Z,1,,\n7,S\n7,S,,1,h,2024-09-30T22:00:00Z,,NULL,\n"
    );
    let rows = read(READ_FOCUS, text.as_bytes()).unwrap();
    let missing = (2, reasons::AMOUNT_MISSING, "PricingQuantity");
    assert_eq!(outcomes(&rows), [(1, "", ""), missing, (3, ROW_CELLS, ""), (4, "", "")]);
    let pulse = &rows[0].as_ref().unwrap().pulse;
    assert_eq!((pulse.tenant.as_str(), pulse.id.as_str()), ("7", "19384"));
    assert_eq!(pulse.time.as_ref().unwrap().seconds, 1_727_733_600);
    assert_eq!(pulse.properties["sku_price_id"], "S.1");
    assert!(rows[3].as_ref().unwrap().pulse.properties.is_empty());
    for (from, to, needed) in [
        ("PricingUnit", "Unit", "column `PricingUnit` is missing"),
        ("Other", "SkuId", "column `SkuId` comes twice"),
    ] {
        let error = read(READ_FOCUS, header.replace(from, to).as_bytes()).unwrap_err().to_string();
        assert!(error.contains(needed), "{error}");
    }
}

proptest! {
    /// Whatever the bytes, a reader ends, numbers its rows upwards, and panics nowhere.
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let lead = b"tenant,product_sku,use_unity,used_amount,time\n";
        let headed: Vec<u8> = lead.iter().chain(&bytes).copied().collect();
        for (reader, text) in [
            (jsonl::read as Read, &bytes),
            (cloudevents::read, &bytes),
            (csv_rows::read, &bytes),
            (csv_rows::read, &headed),
            (READ_FOCUS, &bytes),
        ] {
            if let Ok(rows) = read(reader, text) {
                let numbers: Vec<u64> = outcomes(&rows).iter().map(|(row, ..)| *row).collect();
                prop_assert!(numbers.is_sorted_by(|a, b| a < b));
            }
        }
    }

    /// An amount in a file is the amount on the wire, to the last digit.
    #[test]
    fn amounts_survive_every_format(unscaled: i64, scale in 0u32..=18) {
        let amount = Quantity::from_decimal(unscaled, scale).unwrap();
        let json = format!("{{\"used_amount\":{amount}}}");
        let csv = format!("tenant,product_sku,use_unity,used_amount,time\na,s,h,{amount},2024-01-01T00:00:00Z\n");
        for (reader, text) in [(jsonl::read as Read, json), (csv_rows::read, csv)] {
            let rows = read(reader, text.as_bytes()).unwrap();
            let decimal = rows[0].as_ref().unwrap().pulse.used_amount.unwrap();
            prop_assert_eq!(Quantity::from_decimal(decimal.unscaled, decimal.scale).unwrap(), amount);
        }
    }
}
