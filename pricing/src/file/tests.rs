//! Catalogue files: what is read, and how every mistake is listed with its place.

use super::*;

const GOOD: &str = r#"
catalogue: "2026-11"
currency: BRL
rounding: {digits: 2, mode: half_up}
skus:
  - sku: compute.vm.small
    name: Small VM
    unit: hour
    meter: sum
    dimensions: [region]
    negative: refuse
    prices:
      - valid_from: 2026-01-01T00:00:00Z
        model: graduated
        tiers:
          - {up_to: "100", unit_price: "0.50", flat_fee: "0"}
          - {unit_price: "0.40"}
tests:
  - {name: at the edge of the first tier, sku: compute.vm.small, quantity: "100", expect: "50.00"}
"#;

fn errors(text: &str) -> FileError {
    parse("c.yaml", text.as_bytes()).expect_err(text)
}

/// A file whose only SKU has this one price, after `valid_from`, in flow style.
fn with_price(price: &str) -> String {
    format!(
        "catalogue: \"1\"\ncurrency: BRL\nskus:\n  - sku: a\n    unit: u\n    dimensions: [region, size]\n    prices:\n      - {{valid_from: 2026-01-01T00:00:00Z, {price}}}\n"
    )
}

#[test]
fn the_documented_example_is_read_and_passes_its_own_test() {
    let file = parse("c.yaml", GOOD.as_bytes()).unwrap();
    assert_eq!(file.catalogue.version.as_str(), "2026-11");
    assert_eq!(file.catalogue.skus[0].prices[0].model.as_str(), "graduated");
    assert_eq!(file.catalogue.skus[0].dimensions[0].as_str(), "region");
    assert!(crate::examples::run(&file).iter().all(|result| result.ok));
}

#[test]
fn a_byte_order_mark_and_crlf_change_nothing() {
    let windows = format!("\u{feff}{}", GOOD.replace('\n', "\r\n"));
    assert_eq!(parse("c.yaml", windows.as_bytes()), parse("c.yaml", GOOD.as_bytes()));
}

#[test]
fn a_failing_test_shows_both_numbers() {
    let file = parse("c", GOOD.replace("\"50.00\"", "\"49.99\"").as_bytes()).unwrap();
    let results = crate::examples::run(&file);
    assert_eq!((results[0].expect.as_str(), results[0].got.as_str()), ("49.99", "50.00"));
    assert!(!results[0].ok);
}

#[test]
fn an_issue_names_file_line_column_path_and_remedy() {
    let error = errors(&GOOD.replace("up_to: \"100\"", "up_to: \"-1\""));
    assert_eq!(
        error.to_string(),
        "c.yaml:16:21: skus[0].prices[0].tiers[0].up_to: -1 is not above zero (give a number above zero)"
    );
}

#[test]
fn every_mistake_is_listed_at_once_in_the_order_of_the_file() {
    let text = GOOD
        .replace("currency: BRL", "currency: REAL")
        .replace("meter: sum", "meter: summ")
        .replace("tiers:", "tierz:");
    let error = errors(&text);
    let paths: Vec<&str> = error.issues.iter().map(|issue| issue.path.as_str()).collect();
    let message = error.to_string();
    assert!(paths.starts_with(&["currency", "skus[0].meter"]), "{message}");
    assert!(message.contains("unknown key `tierz`; did you mean `tiers`?"), "{message}");
    assert!(message.contains("did you mean `sum`?"), "{message}");
}

/// Each row: what is replaced in the good file, by what, and what the error must say.
#[test]
fn mistakes_in_the_frame_are_named() {
    for (good, bad, part) in [
        ("catalogue: \"2026-11\"", "", "`catalogue` is missing"),
        ("catalogue: \"2026-11\"", "catalogue: 2026", "put it in quotes"),
        ("catalogue:", "catalog:", "did you mean `catalogue`?"),
        ("currency: BRL", "currency: brl", "`brl` is no currency of ISO 4217"),
        ("currency: BRL", "currency: NO", "`NO` is no currency"),
        ("digits: 2", "digits: 19", "a whole number from 0 to 18"),
        ("digits: 2", "digits: \"2\"", "without quotes"),
        ("digits: 2, mode: half_up", "digits: 2, mode: none", "keeps all digits"),
        ("mode: half_up", "mode: bankers", "is no rounding mode"),
        ("meter: sum", "meter: unique", "meter `unique` is not supported yet"),
        ("meter: sum", "meter: unique", "sum, count, min, max, avg, latest"),
        ("negative: refuse", "negative: deny", "use one of accept, refuse"),
        ("unit: hour", "unit:", "unit: text is needed, but this is nothing"),
        ("sku: compute.vm.small\n", "sku: 11472\n", "put it in quotes"),
        ("dimensions: [region]", "dimensions: [region, region]", "stands in the list twice"),
        ("dimensions: [region]", "dimensions: region", "a list is needed"),
        ("model: graduated", "model: percentage", "unknown key `tiers`"),
        ("model: graduated", "model: percent", "matrix, percentage, graduated_percentage, dynamic"),
        ("model: graduated", "model: graduated_percentage", "unknown key `unit_price`"),
        ("model: graduated", "model: dynamic", "the keys here are"),
        ("model: graduated", "model: gradated", "did you mean `graduated`?"),
        ("model: graduated", "model: per_unit", "unknown key `tiers`"),
        ("unit_price: \"0.40\"", "unit_price: 0.40", "a decimal in quotes is needed"),
        ("unit_price: \"0.40\"", "unit_price: \"0,40\"", "not a decimal number"),
        ("unit_price: \"0.40\"", "unit_price: \"1e-19\"", "more than 18 decimals"),
        (
            "{unit_price: \"0.40\"}",
            "{unit_price: \"0.40\", up_to: \"200\"}",
            "the last tier has an up_to",
        ),
        ("up_to: \"100\", ", "", "only the last tier may have no up_to"),
        (
            "{unit_price: \"0.40\"}",
            "{up_to: \"100\", unit_price: \"1\"}\n          - {unit_price: \"0.40\"}",
            "100 is not above the tier before it",
        ),
        (
            "{unit_price: \"0.40\"}",
            "{unit_price: \"0.40\", package_size: \"-5\"}",
            "-5 is not above zero",
        ),
        ("2026-01-01T00:00:00Z", "2026-01-01", "is not RFC 3339 with a zone"),
        (
            "sku: compute.vm.small, quantity",
            "sku: compute.vm.smal, quantity",
            "did you mean `compute.vm.small`?",
        ),
        ("quantity: \"100\"", "events: [1]", "tests[0].events[0]: a decimal in quotes is needed"),
        ("quantity: \"100\"", "events: []", "tests[0].events: no events"),
        ("quantity: \"100\"", "events: \"1\"", "tests[0].events: a list is needed"),
        ("quantity: \"100\"", "quantity: \"1\", events: [\"1\"]", "exactly one of quantity"),
        ("quantity: \"100\", ", "", "exactly one of quantity, groups and events"),
        (
            "quantity: \"100\"",
            "groups: [{dimensions: {zone: a}, quantity: \"1\"}]",
            "`zone` is no dimension",
        ),
        ("quantity: \"100\"", "quantity: \"100\", unit: second", "has no unit `second`"),
        (
            "quantity: \"100\"",
            "quantity: \"100\", quantity: \"100\"",
            "the key `quantity` stands here a second time (keep one of them)",
        ),
    ] {
        let text = GOOD.replace(good, bad);
        assert_ne!(text, GOOD, "{good} is not in the good file");
        let message = errors(&text).to_string();
        assert!(message.contains(part), "{bad}: wanted {part:?}, got {message}");
        assert!(message.starts_with("c.yaml:"), "{message}");
    }
}

#[test]
fn mistakes_in_a_price_are_named() {
    for (price, part) in [
        ("model: flat", "`amount` is missing"),
        (
            "model: package, package_price: \"1\", package_size: \"-1000\"",
            "-1000 is not above zero",
        ),
        ("model: package, package_price: \"1\"", "`package_size` is missing"),
        ("model: graduated, tiers: []", "no tiers"),
        ("model: flat, amount: \"1\", free_units: \"-1\"", "-1 is below zero"),
        (
            "model: flat, amount: \"1\", minimum: \"2\", maximum: \"1\"",
            "minimum 2 is greater than maximum 1",
        ),
        ("model: flat, amount: \"1\", convert: {}", "exactly one of divide_by and multiply_by"),
        ("model: flat, amount: \"1\", convert: {divide_by: \"0\"}", "0 is not above zero"),
        (
            "model: flat, amount: \"1\", convert: {divide_by: \"2\", digits: 1}",
            "`digits` without `round`",
        ),
        (
            "model: flat, amount: \"1\", valid_to: 2026-01-01T00:00:00Z",
            "valid_to is not after valid_from",
        ),
        ("model: flat, amount: \"1\", currency: BTC", "`BTC` is no currency"),
        ("model: matrix, prices: []", "a matrix without any price"),
        ("model: matrix, prices: [{when: {}, unit_price: \"1\"}]", "it would be a second default"),
        (
            "model: matrix, prices: [{when: {zone: a}, unit_price: \"1\"}]",
            "`zone` is no dimension of this SKU",
        ),
        (
            "model: matrix, prices: [{when: {regio: a}, unit_price: \"1\"}]",
            "did you mean `region`?",
        ),
        (
            "model: matrix, prices: [{when: {region: no}, unit_price: \"1\"}, {when: {region: \"no\"}, unit_price: \"2\"}]",
            "a second time",
        ),
        (
            "model: matrix, prices: [{when: {region: a}, unit_price: \"1\"}, {when: {size: b}, unit_price: \"2\"}]",
            "neither would win",
        ),
        (
            "model: matrix, default: \"1\", default: \"2\", prices: []",
            "the key `default` stands here a second time",
        ),
    ] {
        let message = errors(&with_price(price)).to_string();
        assert!(message.contains(part), "{price}: wanted {part:?}, got {message}");
    }
}

/// Each row: a price, the place of the mistake, and what is said about it.
#[test]
fn mistakes_in_prices_of_amounts_are_named_with_place_and_remedy() {
    let percentage = "model: percentage, rate: \"0.01\", amount_dimension: region";
    let tiers = "model: graduated_percentage, tiers:";
    for (price, path, part) in [
        ("model: percentage", "", "`rate` is missing (give the share as a factor"),
        ("model: percentage, rate: \"-0.01\"", "rate", "-0.01 is below zero (give zero or more)"),
        ("model: percentage, rate: 0.01", "rate", "a decimal in quotes is needed"),
        ("model: percentage, rate: \"1 %\"", "rate", "(write digits with a point"),
        ("model: percentage, rate: \"0\", fixed_fee: \"-1\"", "fixed_fee", "-1 is below zero"),
        (
            "model: percentage, rate: \"0\", min_per_event: \"1\"",
            "min_per_event",
            "(let pulses repeat their amount in a property, list it under the SKU's `dimensions`",
        ),
        (
            "model: percentage, rate: \"0\", max_per_event: \"1\"",
            "max_per_event",
            "`max_per_event` looks at the amount of each event",
        ),
        (
            "model: percentage, rate: \"0\", free_events: 1",
            "free_events",
            "amount_dimension: amount",
        ),
        (
            "model: percentage, rate: \"0\", free_amount: \"1\"",
            "free_amount",
            "`free_amount` looks at the amount of each event",
        ),
        (
            "model: percentage, rate: \"0\", amount_dimension: regio, free_events: 1",
            "amount_dimension",
            "`regio` is no dimension of this SKU; did you mean `region`? (add it to the SKU's `dimensions`",
        ),
        (
            percentage,
            "amount_dimension",
            "nothing here asks for the amount of each event (remove it",
        ),
        ("{percentage}, free_events: -1", "free_events", "not a whole number from 1 to"),
        ("{percentage}, free_events: 0", "free_events", "(give a whole number from 1 to"),
        ("{percentage}, free_events: 1.5", "free_events", "not a whole number from 1 to"),
        ("{percentage}, free_events: \"3\"", "free_events", "without quotes"),
        ("{percentage}, free_amount: \"0\"", "free_amount", "0 is not above zero"),
        ("{percentage}, free_amount: \"-1\"", "free_amount", "(give a number above zero)"),
        ("{percentage}, min_per_event: \"-1\"", "min_per_event", "-1 is below zero"),
        ("{percentage}, max_per_event: \"-1\"", "max_per_event", "-1 is below zero"),
        (
            "{percentage}, min_per_event: \"2\", max_per_event: \"1\"",
            "min_per_event",
            "min_per_event 2 is greater than max_per_event 1 (raise max_per_event",
        ),
        (
            "{percentage}, free_events: 1, convert: {divide_by: \"100\"}",
            "convert",
            "`free_events` looks at single events (send amounts in the unit that is priced)",
        ),
        ("{percentage}, free_events: 1, free_units: \"1\"", "free_units", "(use free_amount)"),
        ("{percentage}, free_event: 1", "free_event", "did you mean `free_events`?"),
        ("{percentage}, tiers: []", "tiers", "unknown key `tiers`"),
        ("{percentage}, multiplier: \"1\"", "multiplier", "the keys here are valid_from"),
        (
            "model: graduated_percentage",
            "",
            "`tiers` is missing (list at least one tier, as `- {rate",
        ),
        ("model: graduated_percentage, rate: \"1\", tiers: [{rate: \"1\"}]", "rate", "unknown key"),
        ("{tiers} []", "tiers", "no tiers"),
        ("{tiers} [{rate: \"-0.01\"}]", "tiers[0].rate", "-0.01 is below zero"),
        ("{tiers} [{flat_fee: \"1\"}]", "tiers[0]", "`rate` is missing"),
        ("{tiers} [{rate: \"1\", flat_fee: 1}]", "tiers[0].flat_fee", "a decimal in quotes"),
        ("{tiers} [{rate: \"1\", unit_price: \"1\"}]", "tiers[0].unit_price", "unknown key"),
        ("{tiers} [{rate: \"1\", package_size: \"1\"}]", "tiers[0].package_size", "unknown key"),
        ("{tiers} [{rate: \"1\", up_to: \"1\"}]", "tiers[0].up_to", "the last tier has an up_to"),
        (
            "{tiers} [{rate: \"1\"}, {rate: \"2\"}]",
            "tiers[0]",
            "only the last tier may have no up_to",
        ),
        (
            "{tiers} [{rate: \"1\", up_to: \"5\"}, {rate: \"1\", up_to: \"5\"}, {rate: \"2\"}]",
            "tiers[1].up_to",
            "5 is not above the tier before it (list tiers from the lowest",
        ),
        ("{tiers} [{rate: \"1\"}], flat_fee_at_zero: 1", "flat_fee_at_zero", "true or false"),
        ("model: dynamic, multiplier: \"-1\"", "multiplier", "-1 is below zero"),
        ("model: dynamic, multiplier: 1.1", "multiplier", "a decimal in quotes is needed"),
        ("model: dynamic, rate: \"1\"", "rate", "unknown key `rate`"),
    ] {
        let price = price.replace("{percentage}", percentage).replace("{tiers}", tiers);
        let error = errors(&with_price(&price));
        let path = match path {
            "" => "skus[0].prices[0]".to_owned(),
            path => format!("skus[0].prices[0].{path}"),
        };
        let issue = error.issues.iter().find(|issue| issue.path == path);
        let issue = issue.unwrap_or_else(|| panic!("{price}: nothing at {path}: {error}"));
        assert!(issue.to_string().contains(part), "{price}: wanted {part:?}, got {issue}");
        assert_eq!(issue.line, Some(8), "{price}");
        assert!(issue.column > Some(8) && !issue.remedy.is_empty(), "{price}: {issue}");
    }
}

#[test]
fn amounts_of_money_need_a_meter_that_gives_them() {
    let tiers = "model: graduated_percentage, tiers: [{rate: \"1.5\"}]";
    let percentage = "model: percentage, rate: \"1.5\"";
    for (meter, price, part) in [
        ("sum", percentage, None),
        ("max", percentage, Some("the meter is `max` (remove `meter`")),
        ("count", percentage, Some("the meter is `count`")),
        ("avg", tiers, None),
        ("count", tiers, Some("the meter `count` gives a number of pulses")),
        ("latest", "model: dynamic", None),
        ("count", "model: dynamic", Some("(remove `meter`, or use per_unit)")),
    ] {
        let text = with_price(price)
            .replace("    unit: u\n", &format!("    unit: u\n    meter: {meter}\n"));
        match (parse("c", text.as_bytes()), part) {
            (Ok(_), None) => {}
            (Err(error), Some(part)) => {
                let message = error.to_string();
                assert!(
                    message.contains("prices[0].model: ") && message.contains(part),
                    "{message}"
                );
            }
            (result, _) => panic!("{meter}, {price}: {result:?}"),
        }
    }
}

#[test]
fn cells_that_cannot_fit_the_same_usage_may_name_different_dimensions() {
    for prices in [
        "{when: {region: a}, unit_price: \"1\"}, {when: {region: a, size: b}, unit_price: \"2\"}",
        "{when: {region: a}, unit_price: \"1\"}, {when: {region: b}, unit_price: \"2\"}",
    ] {
        let text = with_price(&format!("model: matrix, prices: [{prices}]"));
        parse("c", text.as_bytes()).unwrap();
    }
}

#[test]
fn prices_of_a_currency_must_follow_one_another() {
    let file = |prices: &[&str]| {
        let prices: String = prices
            .iter()
            .map(|price| format!("      - {{model: flat, amount: \"1\", {price}}}\n"))
            .collect();
        let text = format!(
            "catalogue: \"1\"\ncurrency: BRL\nskus:\n  - sku: a\n    unit: u\n    prices:\n{prices}"
        );
        parse("c", text.as_bytes())
    };
    let (january, march, may) = (
        "valid_from: 2026-01-01T00:00:00Z",
        "valid_from: 2026-03-01T00:00:00Z",
        "valid_from: 2026-05-01T00:00:00Z",
    );
    let until_april = format!("{january}, valid_to: 2026-04-01T00:00:00Z");
    let until_march = format!("{january}, valid_to: 2026-03-01T00:00:00Z");
    let dollars = format!("{january}, currency: USD");
    for (prices, part) in [
        (vec![march, january], "is not after the price before it"),
        (vec![january, january], "is not after the price before it"),
        (vec![until_april.as_str(), march], "overlaps the price before it"),
    ] {
        let message = file(&prices).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    assert!(file(&[&until_march, march]).is_ok());
    assert!(file(&[march, &dollars]).is_ok(), "another currency has its own order");
    let prices = file(&[january, march, may]).unwrap().catalogue.skus[0].prices.clone();
    let ends: Vec<_> =
        prices.iter().map(|price| price.valid_to.map(|end| end.to_string())).collect();
    let end = |text: &str| Some(text.to_owned());
    assert_eq!(ends, [end("2026-03-01T00:00:00Z"), end("2026-05-01T00:00:00Z"), None]);
}

#[test]
fn a_sku_may_stand_once_for_each_unit() {
    let sku = |unit: &str| format!("  - {{sku: a, unit: {unit}, prices: []}}\n");
    let file = |skus: String| format!("catalogue: \"1\"\ncurrency: BRL\nskus:\n{skus}");
    assert!(parse("c", file(sku("hour") + &sku("GB")).as_bytes()).is_ok());
    let message = errors(&file(sku("hour") + &sku("hour"))).to_string();
    assert!(message.contains("SKU `a` in unit `hour` stands here a second time"), "{message}");
    let test = "tests:\n  - {name: t, sku: a, quantity: \"1\", expect: \"1\"}\n";
    let message = errors(&(file(sku("hour") + &sku("GB")) + test)).to_string();
    assert!(message.contains("has several units: hour, GB"), "{message}");
}

#[test]
fn what_is_no_yaml_text_is_refused_with_its_remedy() {
    for (bytes, part) in [
        (b"".as_slice(), "the file is empty"),
        (b" \n\t\n", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        (b"catalogue: \"1\"\n\xff\xfe", "c.yaml:2:1: not UTF-8 text"),
        (b"PK\x03\x04\0\0", "NUL bytes"),
        (b"skus:\n\t- sku: a\n", "YAML allows no tabs"),
        (b"skus: [\n", "mend the YAML"),
        (b"- a\n- b\n", "a map is needed, but this is a list"),
        (b"just words", "a map is needed, but this is text"),
        (b"a: &x 1\nb: *x\n", "mend the YAML"),
    ] {
        let message = parse("c.yaml", bytes).unwrap_err().to_string();
        assert!(message.contains(part), "{bytes:?}: wanted {part:?}, got {message}");
    }
    let huge = vec![b'#'; BYTES_MAX + 1];
    let message = parse("c.yaml", &huge).unwrap_err().to_string();
    assert!(message.contains("more than the 4194304 allowed"), "{message}");
    let deep = format!("skus: {}{}", "[".repeat(5_000), "]".repeat(5_000));
    parse("c.yaml", deep.as_bytes()).unwrap_err();
}

#[test]
fn a_flood_of_mistakes_is_cut_and_counted() {
    let skus: String = (0..200).map(|i| format!("  - {{sku: s{i}}}\n")).collect();
    let error = errors(&format!("catalogue: \"1\"\ncurrency: BRL\nskus:\n{skus}"));
    assert_eq!(error.issues.len(), ISSUES_MAX);
    assert_eq!(error.issues_left_out, 400 - ISSUES_MAX);
    assert!(error.to_string().ends_with("and 350 more"));
}

#[test]
fn the_first_mistakes_of_the_file_are_listed_whenever_they_are_found() {
    // Unknown keys of the file are found first and stand last.
    let last: String = (0..2_000).map(|i| format!("unknown{i}: 1\n")).collect();
    let skus: String = (0..60).map(|i| format!("  - {{sku: s{i}}}\n")).collect();
    let error = errors(&format!("catalogue: \"1\"\ncurrency: BRL\nskus:\n{skus}{last}"));
    let lines: Vec<_> = error.issues.iter().map(|issue| issue.line).collect();
    assert_eq!(lines.len(), ISSUES_MAX);
    assert!(lines.is_sorted() && lines[0] == Some(4) && lines[ISSUES_MAX - 1] == Some(28));
    assert_eq!(error.issues_left_out, 2_000 + 120 - ISSUES_MAX);
}

#[test]
fn a_word_as_long_as_a_file_is_near_to_none_and_costs_nothing() {
    // Compared letter by letter with each time zone, a word of 4 MiB would take 640 MB and minutes.
    let long = "a".repeat(4_000_000);
    assert_eq!(cursor::suggestion(&long, &["America/Sao_Paulo", "UTC"]), "");
    assert_eq!(cursor::suggestion("UTD", &["UTC"]), "; did you mean `UTC`?");
}

/// A matrix of as many cells, each naming a set of dimensions of its own, and all of them one with other
/// values, so that none clash.
fn matrix_of_sets(sets: usize) -> String {
    let names: Vec<String> = (0..16).map(|number| format!("d{number}")).collect();
    let pairs = (1..16).flat_map(|one| (one + 1..16).map(move |other| (one, other)));
    let cells = pairs.take(sets).enumerate().map(|(at, (one, other))| {
        format!("          - {{when: {{d0: v{at}, d{one}: v, d{other}: v}}, unit_price: \"1\"}}\n")
    });
    let (names, cells) = (names.join(", "), cells.collect::<String>());
    format!(
        "catalogue: \"1\"\ncurrency: USD\nskus:\n  - sku: a\n    unit: u\n    dimensions: [{names}]\n    prices:\n      - valid_from: 2026-01-01T00:00:00Z\n        model: matrix\n        prices:\n{cells}"
    )
}

#[test]
fn a_matrix_names_at_most_100_sets_of_dimensions() {
    assert!(parse("c", matrix_of_sets(100).as_bytes()).is_ok());
    let error = errors(&matrix_of_sets(101)).to_string();
    assert!(error.contains("101 different sets of dimensions"), "{error}");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = parse("c", &bytes);
    }

    #[test]
    fn a_good_file_with_a_piece_cut_out_never_panics(from in 0usize..700, length in 1usize..40) {
        let mut text = GOOD.as_bytes().to_vec();
        let from = from.min(text.len());
        let to = (from + length).min(text.len());
        text.drain(from..to);
        let _ = parse("c", &text);
    }
}
