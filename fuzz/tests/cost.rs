//! What no input of a target is long enough for: readers that hold one row of a file without an end,
//! and work that would grow with the square of a file.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read},
    time::Duration,
};

use fuzz::{memory, time_of};
use pulso::ingest::{
    cloudevents, csv_rows,
    focus::{self, FocusQuantity},
    jsonl,
    row::{ROW_BYTES_MAX, RowResult},
};

type ReadRows = fn(&mut dyn BufRead, &mut dyn FnMut(RowResult) -> io::Result<()>) -> io::Result<()>;

/// Memory for one row: its bytes, while they move to a larger block, and the values made of them.
const BYTES_MAX: usize = 5 * ROW_BYTES_MAX;
/// Length of a file that ought not to fit.
const FILE_BYTES: u64 = 32 << 20;
/// Far more than linear work takes in code that is not optimised.
const TIME_MAX: Duration = Duration::from_secs(10);

const READERS: [(&str, ReadRows); 4] = [
    ("jsonl", jsonl::read),
    ("csv", csv_rows::read),
    ("cloudevents", cloudevents::read),
    ("focus", |input, sink| focus::read(input, FocusQuantity::Pricing, sink)),
];

#[test]
fn a_row_without_an_end_takes_no_more_memory_than_a_row_may() {
    for (start, filling) in [
        ("", b'x'),
        ("\"", b'x'),
        ("product_sku,use_unity,used_amount,time\na,\"", b'x'),
        ("{\"tenant\":\"", b'x'),
        ("[{\"tenant\":\"", b'x'),
        ("[[", b' '),
        ("product_sku,use_unity,used_amount,time\n", b','),
    ] {
        for (name, read) in READERS {
            let file = start.as_bytes().chain(io::repeat(filling).take(FILE_BYTES));
            let mut input = BufReader::with_capacity(8 << 10, file);
            let mut outcomes = 0;
            let (_, peak) = memory::peak_of(|| {
                read(&mut input, &mut |_| {
                    outcomes += 1;
                    Ok(())
                })
            });
            assert!(peak <= BYTES_MAX, "{name}, {start:?}: {peak} bytes");
            assert!(outcomes <= 2, "{name}, {start:?}: {outcomes} outcomes");
        }
    }
}

/// So many different things, written one after the other.
fn many(count: usize, write: impl Fn(&mut String, usize)) -> String {
    let mut text = String::new();
    (0..count).for_each(|number| write(&mut text, number));
    text
}

#[test]
fn a_row_of_many_names_is_read_in_time() {
    const NAMES: usize = 60_000;
    let keys = many(NAMES, |text, n| write!(text, "\"k{n}\":1,").unwrap());
    let names = many(NAMES, |text, n| write!(text, "properties.k{n},").unwrap());
    let files = [
        ("jsonl", format!("{{{keys}\"used_amount\":1}}")),
        ("jsonl", format!("{{\"used_amount\":1,\"properties\":{{{keys}\"a\":1}}}}")),
        (
            "cloudevents",
            format!("{{\"specversion\":\"1.0\",{keys}\"data\":{{\"used_amount\":1}}}}"),
        ),
        ("csv", format!("{names}product_sku,use_unity,used_amount,time\n")),
        ("focus", format!("{names}SkuId\n")),
    ];
    for (wanted, file) in files {
        let (name, read) = READERS.into_iter().find(|(name, _)| *name == wanted).unwrap();
        let (_, time) = time_of(|| read(&mut file.as_bytes(), &mut |_| Ok(())));
        assert!(time < TIME_MAX, "{name}: {time:?}");
    }
}

/// Reads a file of prices, and gives the time and memory that it took.
fn read_prices(text: &str) -> (Duration, usize) {
    let parse = || pricing::file::parse("file.yaml", text.as_bytes()).is_ok();
    let ((_, peak), time) = time_of(|| memory::peak_of(parse));
    (time, peak)
}

#[test]
fn a_great_file_of_prices_is_read_in_time_and_memory() {
    const HEAD: &str = "catalogue: \"1\"\ncurrency: BRL\nskus:\n";
    let price = "prices: [{valid_from: 2026-01-01T00:00:00Z, model: flat, amount: \"1\"}]";
    let files = [
        ("unknown keys", many(60_000, |text, n| writeln!(text, "k{n}: 1").unwrap())),
        (
            "skus",
            many(8_000, |text, n| writeln!(text, "  - {{sku: s{n}, unit: u, {price}}}").unwrap()),
        ),
        (
            "equal skus",
            many(8_000, |text, _| writeln!(text, "  - {{sku: s, unit: u, {price}}}").unwrap()),
        ),
        (
            "wrong models",
            many(8_000, |text, n| {
                writeln!(text, "  - {{sku: s{n}, unit: u, {}}}", price.replace("flat", "flta"))
                    .unwrap();
            }),
        ),
        ("dimensions", {
            let names = many(20_000, |text, n| write!(text, "d{n}, ").unwrap());
            format!("  - {{sku: s, unit: u, dimensions: [{names}], {price}}}")
        }),
        ("cells", {
            let cells = many(8_000, |text, n| {
                write!(text, "{{when: {{d: \"{n}\"}}, unit_price: \"1\"}}, ").unwrap();
            });
            let model = format!("model: matrix, prices: [{cells}]");
            let price = price.replace("model: flat, amount: \"1\"", &model);
            format!("  - {{sku: s, unit: u, dimensions: [d], {price}}}")
        }),
        ("tiers", {
            let tiers = many(8_000, |text, n| {
                write!(text, "{{up_to: \"{}\", unit_price: \"1\"}}, ", n + 1).unwrap();
            });
            let model = format!("model: graduated, tiers: [{tiers}{{unit_price: \"1\"}}]");
            format!(
                "  - {{sku: s, unit: u, {}}}",
                price.replace("model: flat, amount: \"1\"", &model)
            )
        }),
        ("versions", {
            let versions = many(8_000, |text, n| {
                let (year, day) = (2000 + n / 28, n % 28 + 1);
                write!(
                    text,
                    "{{valid_from: {year}-01-{day:02}T00:00:00Z, model: flat, amount: \"1\"}}, "
                )
                .unwrap();
            });
            format!("  - {{sku: s, unit: u, prices: [{versions}]}}")
        }),
    ];
    for (what, body) in files {
        let text = format!("{HEAD}{body}\n");
        let (time, peak) = read_prices(&text);
        println!("{what}: {} bytes in {time:?} and {peak} bytes of memory", text.len());
        assert!(time < TIME_MAX, "{what}: {time:?}");
        assert!(peak < 400 * text.len(), "{what}: {peak} bytes");
    }
}
