//! Mistakes, one in turn: each is named once, with its place, path, message and remedy.

use super::*;

/// What the reader says of one mistake, which must be the only one it finds.
fn only_issue(text: &str) -> String {
    let error = read(text).expect_err(text);
    assert_eq!(error.issues.len(), 1, "{error}");
    assert!(!error.issues[0].remedy.is_empty(), "{error}");
    error.issues[0].to_string()
}

/// Each row: what is replaced in the good file, by what, and how the one issue begins.
pub(super) fn check(rows: &[(&str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (good, bad, wanted) in rows {
        let got = only_issue(&edited(good, bad));
        if !got.starts_with(wanted) {
            wrong.push(format!("{bad}\n  wanted {wanted}\n  got    {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn in_who_and_when() {
    check(&[
        (
            "contract: acme-2026\n",
            "",
            "1:1: `contract` is missing (name the contract, as `contract: acme-2026`)",
        ),
        (
            "contract: acme-2026",
            "contract: 2026",
            "1:11: contract: text is needed, but this is a number without quotes (put it in quotes",
        ),
        (
            "contract: acme-2026",
            "contract: \"\"",
            "1:11: contract: not a name: empty; 1 to 128 bytes are needed (shorten or respell it)",
        ),
        (
            "contract: acme-2026",
            "contract: a\ncontract: b",
            "2:1: the key `contract` stands here a second time (keep one of them)",
        ),
        (
            "contract: acme-2026",
            "contract: acme-2026\ncontrat: x",
            "2:1: contrat: unknown key `contrat`; did you mean `contract`? (the keys here are contract, tenant,",
        ),
        (
            "tenant: acme\n",
            "",
            "1:1: `tenant` is missing (name whose contract it is, as pulses do)",
        ),
        ("tenant: acme", "tenant: [acme]", "2:9: tenant: text is needed, but this is a list"),
        (
            "valid_from: 2026-01-01\n",
            "",
            "1:1: `valid_from` is missing (give its first day, as 2026-01-01)",
        ),
        (
            "valid_from: 2026-01-01\n",
            "valid_from: 20260101\n",
            "3:13: valid_from: text is needed, but this is a number without quotes (put it in quotes",
        ),
        (
            "valid_from: 2026-01-01\n",
            "valid_from: 2026-02-30\n",
            "3:13: valid_from: `2026-02-30` is not a date of the years 1 to 9999 (write the date alone, as 2026-01-31",
        ),
        (
            "valid_from: 2026-01-01\n",
            "valid_from: 2026-01-01T00:00:00Z\n",
            "3:13: valid_from: `2026-01-01T00:00:00Z` is not a date of the years 1 to 9999 (write the date alone",
        ),
        (
            "\"2027-01-01\"",
            "01/01/2027",
            "4:11: valid_to: `01/01/2027` is not a date of the years 1 to 9999 (write the date alone",
        ),
        (
            "\"2027-01-01\"",
            "2026-01-01",
            "4:11: valid_to: 2026-01-01 is not after valid_from, 2026-01-01 (give a later date, or remove it",
        ),
        (
            "\"2027-01-01\"",
            "2025-12-31",
            "4:11: valid_to: 2025-12-31 is not after valid_from, 2026-01-01 (give a later date",
        ),
        (
            "catalogue: \"2026-11\"",
            "catalogue: 2026-12",
            "5:12: catalogue: there is no catalogue `2026-12` (name one that is published, or `latest`)",
        ),
        (
            "catalogue: \"2026-11\"",
            "catalogue: 2026",
            "5:12: catalogue: text is needed, but this is a number without quotes",
        ),
        (
            "catalogue: \"2026-11\"",
            "catalogue: Latest",
            "5:12: catalogue: there is no catalogue `Latest` (name one",
        ),
    ]);
}

#[test]
fn in_the_terms() {
    check(&[
        (
            "currency: BRL\n",
            "",
            "1:1: `currency` is missing (name the currency of the bills, as `currency: BRL`)",
        ),
        (
            "currency: BRL",
            "currency: REAL",
            "6:11: currency: `REAL` is no currency of ISO 4217 (give its three capital letters",
        ),
        (
            "digits: 3",
            "digits: 19",
            "7:20: rounding.digits: not a whole number from 0 to 18 (give a whole number from 0 to 18",
        ),
        (
            "mode: half_even",
            "mode: bankers",
            "7:29: rounding.mode: `bankers` is no rounding mode (use one of half_up, half_even",
        ),
        (
            "mode: half_even",
            "mode: none",
            "7:20: rounding.digits: rounding `none` keeps all digits (remove `digits`",
        ),
        (
            "america/sao_paulo",
            "America/Sao_Paolo",
            "8:12: time_zone: `America/Sao_Paolo` is no time zone of the IANA database; did you mean `America/Sao_Paulo`? (name one by continent and city",
        ),
        (
            "america/sao_paulo",
            "Sao Paulo",
            "8:12: time_zone: `Sao Paulo` is no time zone of the IANA database; did you mean `America/Sao_Paulo`?",
        ),
        (
            "america/sao_paulo",
            "GMT-03:00 Brasilia",
            "8:12: time_zone: `GMT-03:00 Brasilia` is no time zone of the IANA database (name one",
        ),
        (
            "america/sao_paulo",
            "-3",
            "8:12: time_zone: text is needed, but this is a number without quotes",
        ),
        (
            "billing_anchor: 5",
            "billing_anchor: 0",
            "9:17: billing_anchor: not a whole number from 1 to 31 (give a whole number from 1 to 31, without quotes)",
        ),
        (
            "billing_anchor: 5",
            "billing_anchor: 32",
            "9:17: billing_anchor: not a whole number from 1 to 31",
        ),
        (
            "billing_anchor: 5",
            "billing_anchor: \"5\"",
            "9:17: billing_anchor: a whole number is needed, but this is text",
        ),
        (
            "payment_term_days: 15",
            "payment_term_days: 366",
            "10:20: payment_term_days: not a whole number from 0 to 365 (give a whole number from 0 to 365",
        ),
        (
            "payment_term_days: 15",
            "payment_term_days: -1",
            "10:20: payment_term_days: not a whole number from 0 to 365",
        ),
        (
            "payment_term_days: 15",
            "payment_term_days:",
            "10:18: payment_term_days: a whole number is needed, but this is nothing",
        ),
    ]);
}

#[test]
fn in_subscriptions_and_overrides() {
    check(&[
        (
            "  - {sku: support.gold, unit: month}\n  - {sku: storage, unit: GB}",
            "  sku: storage",
            "12:3: subscriptions: a list is needed, but this is a map (write `- ` before each entry)",
        ),
        (
            "{sku: storage, unit: GB}",
            "{unit: GB}",
            "13:5: subscriptions[1]: `sku` is missing (name the SKU)",
        ),
        (
            "{sku: storage, unit: GB}",
            "{sku: storag, unit: GB}",
            "13:11: subscriptions[1].sku: SKU `storag` is not in catalogue `2026-11`; did you mean `storage`? (name a SKU of catalogue `2026-11`)",
        ),
        (
            "{sku: storage, unit: GB}",
            "{sku: storage, unit: Gb}",
            "13:26: subscriptions[1].unit: SKU `storage` has no unit `Gb`; did you mean `GB`? (name one of byte, GB)",
        ),
        (
            "{sku: storage, unit: GB}",
            "{sku: storage}",
            "13:5: subscriptions[1]: SKU `storage` has several units: byte, GB (name one, as `unit:`)",
        ),
        (
            "{sku: storage, unit: GB}",
            "{sku: support.gold}",
            "13:5: subscriptions[1]: SKU `support.gold` stands here a second time in the same unit (keep one",
        ),
        (
            "{sku: storage, unit: GB}",
            "{sku: storage, unit: GB, units: 2}",
            "13:30: subscriptions[1].units: unknown key `units`; did you mean `unit`? (the keys here are sku, unit)",
        ),
        (
            "  - sku: compute.vm.small\n",
            "  - sku: compute.vm.tiny\n",
            "15:10: overrides[0].sku: SKU `compute.vm.tiny` is not in catalogue `2026-11`; did you mean `compute.vm.small`? (name a SKU",
        ),
        (
            "    unit: hour\n",
            "    unit: second\n",
            "16:11: overrides[0].unit: SKU `compute.vm.small` has no unit `second` (name one of hour)",
        ),
        (
            "    unit: hour\n",
            "    unit: hour\n    meter: max\n",
            "17:5: overrides[0].meter: unknown key `meter` (the keys here are sku, unit, prices)",
        ),
    ]);
}

/// The only override of the good file.
const OVERRIDE: &str = "  - sku: compute.vm.small
    unit: hour
    prices:
      - valid_from: 2026-01-01T00:00:00Z
        model: graduated
        tiers:
          - {up_to: \"100\", unit_price: \"0.45\"}
          - {unit_price: \"0.35\"}
";

/// Overrides of `compute.vm.small` by these prices, in flow style, from line 15 on.
fn overridden(prices: &str) -> String {
    edited(OVERRIDE, &format!("  - {{sku: compute.vm.small, prices: [\n{prices}]}}\n"))
}

#[test]
fn in_prices_of_overrides() {
    let at = "valid_from: 2026-01-01T00:00:00Z";
    let later = "valid_from: 2026-02-01T00:00:00Z";
    let flat = "model: flat, amount: \"1\"";
    let rows = [
        (
            String::new(),
            "15:37: overrides[0].prices: no prices (list at least one, or remove the override)",
        ),
        (
            format!("{{{flat}}}"),
            "16:1: overrides[0].prices[0]: `valid_from` is missing (give the first moment",
        ),
        (
            format!("{{valid_from: 2026-01-01, {flat}}}"),
            "16:14: overrides[0].prices[0].valid_from: `2026-01-01` is not RFC 3339 with a zone, such as 2024-09-18T22:00:00Z (write date, time and zone",
        ),
        (format!("{{{at}}}"), "16:1: overrides[0].prices[0]: `model` is missing (name the model"),
        (
            format!("{{{at}, model: per_unit, unit_price: 0.5}}"),
            "16:65: overrides[0].prices[0].unit_price: a decimal in quotes is needed",
        ),
        (
            format!("{{{at}, model: package, package_price: \"1\", package_size: \"-5\"}}"),
            "16:86: overrides[0].prices[0].package_size: -5 is not above zero (give a number above zero)",
        ),
        (
            format!(
                "{{{at}, model: volume, tiers: [\n{{up_to: \"5\", unit_price: \"1\"}},\n{{up_to: \"5\", unit_price: \"1\"}},\n{{unit_price: \"1\"}}]}}"
            ),
            "18:9: overrides[0].prices[0].tiers[1].up_to: 5 is not above the tier before it (list tiers from the lowest",
        ),
        (
            format!("{{{at}, model: matrix, default: \"1\", default: \"2\", prices: []}}"),
            "16:65: the key `default` stands here a second time (keep one of them)",
        ),
        (
            format!("{{{at}, model: matrix, prices: [{{when: {{regio: a}}, unit_price: \"1\"}}]}}"),
            "16:75: overrides[0].prices[0].prices[0].when.regio: `regio` is no dimension of this SKU; did you mean `region`? (add it to the SKU's `dimensions`",
        ),
        (
            format!("{{{later}, {flat}}},\n{{{at}, {flat}}}"),
            "17:1: overrides[0].prices[1]: valid_from 2026-01-01T00:00:00Z is not after the price before it, 2026-02-01T00:00:00Z (list prices",
        ),
        (
            format!("{{{at}, {flat}}},\n{{{at}, {flat}}}"),
            "17:1: overrides[0].prices[1]: valid_from 2026-01-01T00:00:00Z is not after the price before it",
        ),
        (
            format!("{{{at}, valid_to: 2026-03-01T00:00:00Z, {flat}}},\n{{{later}, {flat}}}"),
            "17:1: overrides[0].prices[1]: overlaps the price before it, which is valid to 2026-03-01T00:00:00Z",
        ),
        (
            format!("{{{at}, currency: CHF, {flat}}}"),
            "16:46: overrides[0].prices[0].currency: a price in CHF, and no rate in `exchange` from it begins at or before the price and the contract (add the rate to `exchange`, or give the price in BRL)",
        ),
    ];
    let mut wrong = Vec::new();
    for (prices, wanted) in rows {
        let got = only_issue(&overridden(&prices));
        if !got.starts_with(wanted) {
            wrong.push(format!("{prices}\n  wanted {wanted}\n  got    {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let one =
        format!("  - sku: compute.vm.small\n    unit: hour\n    prices: [{{{at}, {flat}}}]\n");
    for (text, wanted) in [
        (one.replace("    prices", "    price"), "15:5: overrides[0]: `prices` is missing"),
        (
            format!("{one}{one}"),
            "18:5: overrides[1]: SKU `compute.vm.small` stands here a second time in the same unit (keep one entry",
        ),
        (
            one.replace("compute.vm.small\n    unit: hour", "requests")
                .replace(flat, "model: percentage, rate: \"0\""),
            "16:56: overrides[0].prices[0].model: bills the sum of the events' amounts, but the meter is `count` (remove `meter`",
        ),
    ] {
        let error = read(&edited(OVERRIDE, &text)).unwrap_err().to_string();
        assert!(error.contains(wanted), "wanted {wanted}\ngot    {error}");
    }
}

#[test]
fn in_currencies_that_nothing_exchanges() {
    check(&[(
        "{from: USD, valid_from: 2026-01-01",
        "{from: USD, valid_from: 2026-01-02",
        "6:11: currency: catalogue `2026-11` prices `support.gold` in USD, not in BRL, and no rate in `exchange` from USD begins at or before valid_from (add the rate to `exchange`, or override these prices in BRL)",
    )]);
    let foreign = catalogue(&CATALOGUE.replace("currency: BRL", "currency: CLP"));
    let parse = |text: &str| {
        parse_contract("c", text.as_bytes(), &|_| Some(foreign.clone()))
            .map_err(|error| error.to_string())
    };
    // The override covers the only SKU that is priced in the catalogue's currency.
    assert!(parse(GOOD).is_ok());
    let without = edited(OVERRIDE, "").replace("overrides:\n", "");
    let message = parse(&without).unwrap_err();
    assert!(message.contains("prices `compute.vm.small` in CLP, not in BRL"), "{message}");
    let rate = "exchange:\n  - {from: CLP, valid_from: 2025-12-01, rate: \"0.006\"}\n";
    assert!(parse(&without.replace("exchange:\n", rate)).is_ok());
}

/// Each row: when a price in dollars is valid, the first day of the dollar's rate, and whether that
/// will do for the year 2026 of UTC.
#[test]
fn a_rate_is_needed_from_where_both_price_and_contract_are_valid() {
    let (before, year, later) = ("2025-01-01", "2026-01-01", "2026-06-01");
    for (from, to, rate, fine) in [
        (before, None, year, true),
        (before, None, later, false),
        (before, Some(year), later, true),
        (before, Some("2026-01-02"), later, false),
        (later, None, later, true),
        (later, None, "2026-06-02", false),
        ("2027-01-01", None, "2027-06-01", true),
        ("2026-12-31", None, "2027-06-01", false),
    ] {
        let to = to.map_or_else(String::new, |to| format!(", valid_to: {to}T00:00:00Z"));
        let catalogue = catalogue(&format!(
            "catalogue: \"1\"\ncurrency: USD\nskus:\n  - sku: a\n    unit: u\n    prices: \
             [{{valid_from: {from}T00:00:00Z{to}, model: flat, amount: \"1\"}}]\n"
        ));
        let text = format!(
            "contract: c\ntenant: t\nvalid_from: {year}\nvalid_to: 2027-01-01\ncurrency: BRL\n\
             exchange: [{{from: USD, valid_from: {rate}, rate: \"5\"}}]\n"
        );
        let result = parse_contract("c", text.as_bytes(), &|_| Some(catalogue.clone()));
        assert_eq!(result.is_ok(), fine, "{from}{to}, rate from {rate}: {result:?}");
    }
}

#[test]
fn all_at_once_in_the_order_of_the_file() {
    let text = GOOD
        .replace("tenant: acme", "tenant:")
        .replace("currency: BRL", "currency: REAL")
        .replace("america/sao_paulo", "Sao Paulo")
        .replace("sku: support.gold", "sku: support.golf")
        .replace("percentage: \"12.5\"", "percentage: \"0\"")
        .replace("on: [commitment, usage]", "on: []");
    let error = read(&text).unwrap_err();
    let paths: Vec<_> = error.issues.iter().map(|issue| issue.path.as_str()).collect();
    let wanted = [
        "tenant",
        "currency",
        "time_zone",
        "subscriptions[0].sku",
        "discounts[0].percentage",
        "taxes[0].on",
    ];
    assert_eq!(paths, wanted, "{error}");
}

#[test]
fn a_missing_catalogue_hides_no_other_mistake() {
    let text = edited("percentage: \"12.5\"", "percentage: \"0\"");
    let error = parse_contract("c", text.as_bytes(), &|_| None).unwrap_err();
    let paths: Vec<_> = error.issues.iter().map(|issue| issue.path.as_str()).collect();
    assert_eq!(paths, ["catalogue", "discounts[0].percentage"], "{error}");
    let latest = edited("catalogue: \"2026-11\"\n", "");
    let message = parse_contract("c", latest.as_bytes(), &|_| None).unwrap_err().to_string();
    assert_eq!(message, "c:1:1: no catalogue is published yet (publish one before its contracts)");
}

#[test]
fn what_is_no_contract_at_all_says_how_to_begin() {
    let message = check_contract("c", b"").unwrap_err().to_string();
    assert!(message.contains("the file is empty (start with `contract: acme-2026`"), "{message}");
    let huge = vec![b'#'; crate::file::BYTES_MAX + 1];
    let message = check_contract("c", &huge).unwrap_err().to_string();
    assert!(message.contains("(remove what the catalogue says already)"), "{message}");
    let message = check_contract("c", CATALOGUE.as_bytes()).unwrap_err().to_string();
    assert!(message.contains("unknown key `skus`"), "{message}");
}
