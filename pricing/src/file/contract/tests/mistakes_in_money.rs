//! Mistakes in discounts, commitments, credits, exchange rates and taxes, one in turn.

use super::mistakes::check;

#[test]
fn in_discounts_and_commitments() {
    check(&[
        ("{name: partner, ", "{", "24:5: discounts[0]: `name` is missing (name it, as lines will)"),
        (
            "name: launch",
            "name: partner",
            "25:12: discounts[1].name: `partner` is the name of another entry of `discounts` (give each a name of its own)",
        ),
        (
            "percentage: \"12.5\"",
            "percentage: \"0\"",
            "24:33: discounts[0].percentage: 0 is not above zero",
        ),
        (
            "percentage: \"12.5\"",
            "percentage: \"100.01\"",
            "24:33: discounts[0].percentage: 100.01 is above 100 (give a percentage above 0 and up to 100",
        ),
        (
            "percentage: \"12.5\"",
            "percentage: \"-5\"",
            "24:33: discounts[0].percentage: -5 is not above zero",
        ),
        (
            "percentage: \"12.5\"",
            "percentage: 12.5",
            "24:33: discounts[0].percentage: a decimal in quotes is needed",
        ),
        (
            "percentage: \"12.5\"",
            "percentage: \"10 %\"",
            "24:33: discounts[0].percentage: `10 %`: not a decimal number",
        ),
        (
            "percentage: \"12.5\"",
            "percentage: \"0.00000000000000001\"",
            "24:33: discounts[0].percentage: 0.00000000000000001 has more than 16 digits after the point (give fewer",
        ),
        (
            ", percentage: \"12.5\"",
            "",
            "24:5: discounts[0]: exactly one of percentage and amount is needed (give `percentage: \"10\"`",
        ),
        (
            "percentage: \"12.5\"",
            "percentage: \"12.5\", amount: \"1\"",
            "24:5: discounts[0]: exactly one of percentage and amount is needed",
        ),
        ("amount: \"100.00\"", "amount: \"0\"", "26:29: discounts[2].amount: 0 is not above zero"),
        (
            "skus: [storage, compute.vm.small]",
            "skus: []",
            "25:45: discounts[1].skus: no SKUs (name at least one, or remove `skus` to mean all of them)",
        ),
        (
            "skus: [storage, compute.vm.small]",
            "skus: storage",
            "25:45: discounts[1].skus: a list is needed, but this is text",
        ),
        (
            "skus: [storage, compute.vm.small]",
            "skus: [storage, storag]",
            "25:55: discounts[1].skus[1]: SKU `storag` is not in catalogue `2026-11`; did you mean `storage`?",
        ),
        (
            "skus: [storage, compute.vm.small]",
            "skus: [storage, storage]",
            "25:55: discounts[1].skus[1]: SKU `storage` stands in the list twice (remove one)",
        ),
        (
            "skus: [storage, compute.vm.small]",
            "sku: [storage]",
            "25:39: discounts[1].sku: unknown key `sku`; did you mean `skus`?",
        ),
        (
            "  - {name: partner, percentage: \"12.5\"}",
            "  - partner",
            "24:5: discounts[0]: a map is needed, but this is text",
        ),
        ("{name: base, ", "{", "28:5: commitments[0]: `name` is missing"),
        (
            "amount: \"1000.00\", ",
            "",
            "28:5: commitments[0]: `amount` is missing (give the amount, as \"100.00\")",
        ),
        (
            "amount: \"1000.00\"",
            "amount: \"0.0\"",
            "28:26: commitments[0].amount: 0 is not above zero",
        ),
        (
            "overage_factor: \"0.8\"",
            "overage_factor: \"-1\"",
            "28:79: commitments[0].overage_factor: -1 is below zero (give zero or more)",
        ),
        (
            "overage_factor: \"0.8\"",
            "overage_factor: 1",
            "28:79: commitments[0].overage_factor: a decimal in quotes is needed",
        ),
        (
            "skus: [compute.vm.small], overage",
            "skus: [compute.vm], overage",
            "28:44: commitments[0].skus[0]: SKU `compute.vm` is not in catalogue `2026-11` (name",
        ),
        (
            "overage_factor: \"0.8\"}",
            "overage_factor: \"0.8\"}\n  - {name: base, amount: \"1\"}",
            "29:12: commitments[1].name: `base` is the name of another entry of `commitments`",
        ),
    ]);
}

#[test]
fn in_credits_exchange_and_taxes() {
    check(&[
        (
            "{name: prepaid-2, amount: \"1\"}",
            "{amount: \"1\"}",
            "31:5: credits[1]: `name` is missing",
        ),
        (
            "{name: prepaid-2, amount: \"1\"}",
            "{name: prepaid-1, amount: \"1\"}",
            "31:12: credits[1].name: `prepaid-1` is the name of another entry of `credits`",
        ),
        (
            "{name: prepaid-2, amount: \"1\"}",
            "{name: prepaid-2}",
            "31:5: credits[1]: `amount` is missing",
        ),
        (
            "{name: prepaid-2, amount: \"1\"}",
            "{name: prepaid-2, amount: \"-1\"}",
            "31:31: credits[1].amount: -1 is not above zero",
        ),
        (
            "{name: prepaid-2, amount: \"1\"}",
            "{name: prepaid-2, amount: \"0.005\"}",
            "31:31: credits[1].amount: 0.005 has more than the 2 decimals of BRL (give what was paid, in whole coins)",
        ),
        (
            "expires: 2026-07-01",
            "expires: 2026-02-01",
            "30:74: credits[0].expires: 2026-02-01 is not after valid_from, 2026-02-01 (give a later date, or remove it",
        ),
        (
            "expires: 2026-07-01",
            "expires: 2026-01-15",
            "30:74: credits[0].expires: 2026-01-15 is not after valid_from, 2026-02-01",
        ),
        (
            "expires: 2026-07-01",
            "expires: never",
            "30:74: credits[0].expires: `never` is not a date",
        ),
        (
            "{name: prepaid-2, amount: \"1\"}",
            "{name: prepaid-2, amount: \"1\", expires: 2026-01-01}",
            "31:45: credits[1].expires: 2026-01-01 is not after valid_from, 2026-01-01",
        ),
        (
            "valid_from: 2026-02-01, expires",
            "valid_from: 2026-2-1, expires",
            "30:53: credits[0].valid_from: `2026-2-1` is not a date",
        ),
        (
            "priority: 1",
            "priority: -1",
            "30:96: credits[0].priority: not a whole number from 0 to 4294967295",
        ),
        (
            "priority: 1",
            "priority: first",
            "30:96: credits[0].priority: a whole number is needed, but this is text",
        ),
        (
            "priority: 1",
            "prio: 1",
            "30:86: credits[0].prio: unknown key `prio` (the keys here are name, amount, valid_from, expires, priority)",
        ),
        (
            "from: EUR, ",
            "",
            "35:5: exchange[2]: `from` is missing (name the other currency, as `from: USD`)",
        ),
        ("from: EUR", "from: EURO", "35:12: exchange[2].from: `EURO` is no currency of ISO 4217"),
        (
            "from: EUR",
            "from: BRL",
            "35:12: exchange[2].from: BRL is the contract's own currency (name another currency, or remove the entry)",
        ),
        (
            "{from: EUR, valid_from: 2026-01-01, ",
            "{from: EUR, ",
            "35:5: exchange[2]: `valid_from` is missing (give the first day of the rate",
        ),
        (
            ", rate: \"6.00\"",
            "",
            "35:5: exchange[2]: `rate` is missing (give what one unit of it is",
        ),
        ("rate: \"6.00\"", "rate: \"0\"", "35:47: exchange[2].rate: 0 is not above zero"),
        ("rate: \"6.00\"", "rate: 6.00", "35:47: exchange[2].rate: a decimal in quotes is needed"),
        (
            "valid_from: 2026-02-01, rate",
            "valid_from: 2026-01-01, rate",
            "34:29: exchange[1].valid_from: 2026-01-01 is not after the rate from USD before it, 2026-01-01 (list the rates of a currency from the oldest to the newest, one a date)",
        ),
        (
            "valid_from: 2026-02-01, rate",
            "valid_from: 2025-12-31, rate",
            "34:29: exchange[1].valid_from: 2025-12-31 is not after the rate from USD before it, 2026-01-01",
        ),
        ("{name: ISS, ", "{", "37:5: taxes[0]: `name` is missing"),
        (
            "rate: \"0.05\", ",
            "",
            "37:5: taxes[0]: `rate` is missing (give the share as a factor: \"0.05\" is 5 %)",
        ),
        ("rate: \"0.05\"", "rate: \"-0.05\"", "37:23: taxes[0].rate: -0.05 is below zero"),
        (
            "rate: \"0.05\"",
            "rate: \"5\"",
            "37:23: taxes[0].rate: 5 is above 1, which is 100 % (give the share as a factor",
        ),
        (
            ", on: [commitment, usage]",
            "",
            "37:5: taxes[0]: `on` is missing (name the lines it is on, as `on: [usage, commitment]`)",
        ),
        (
            "on: [commitment, usage]",
            "on: []",
            "37:35: taxes[0].on: no kinds of lines (name usage, commitment or both)",
        ),
        (
            "on: [commitment, usage]",
            "on: usage",
            "37:35: taxes[0].on: a list is needed, but this is text",
        ),
        (
            "on: [commitment, usage]",
            "on: [usage, commitments]",
            "37:43: taxes[0].on[1]: `commitments` is no kind of line; did you mean `commitment`? (use one of usage, commitment)",
        ),
        (
            "on: [commitment, usage]",
            "on: [usage, usage]",
            "37:43: taxes[0].on[1]: `usage` stands in the list twice",
        ),
        (
            "on: [commitment, usage]}",
            "on: [usage]}\n  - {name: ISS, rate: \"0\", on: [usage]}",
            "38:12: taxes[1].name: `ISS` is the name of another entry of `taxes`",
        ),
    ]);
}
