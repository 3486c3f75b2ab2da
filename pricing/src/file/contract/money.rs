//! The parts of a contract that are money: discounts, commitments, credits, exchange rates, taxes.

use std::collections::{BTreeMap, HashSet};

use domain::{
    Name, Quantity,
    catalogue::{Rounding, RoundingMode},
    contract::{Commitment, Credit, Discount, DiscountValue, ExchangeRate, Tax, TaxedKind},
};

use super::{
    super::{
        currency,
        cursor::{Cursor, Fields},
    },
    Setting, prices,
};
use crate::Amount;

/// Most entries of a list whose entries have names.
const NAMED_MAX: usize = 1_000;
/// Most exchange rates: one a day of 27 years.
const RATES_MAX: usize = 10_000;
/// A credit's place among others where the file gives none.
const PRIORITY_DEFAULT: u32 = 100;

const AMOUNT_REMEDY: &str = "give the amount, as \"100.00\"";

/// Reads `discounts`, in the order of the file.
pub(super) fn discounts(fields: &Fields<'_>, setting: &Setting<'_>) -> Option<Vec<Discount>> {
    named(fields, "discounts", |discount| &discount.name, |entry| discount(entry, setting))
}

fn discount(entry: &Cursor<'_>, setting: &Setting<'_>) -> Option<Discount> {
    let fields = entry.map(&["name", "percentage", "amount", "skus"])?;
    let name = name(&fields);
    let scope = prices::scope(&fields, setting);
    let value = match (fields.get("percentage"), fields.get("amount")) {
        (Some(percentage), None) => share(&percentage).map(DiscountValue::Share),
        (None, Some(amount)) => amount.decimal_above_zero().map(DiscountValue::Amount),
        _ => entry.fail(
            "exactly one of percentage and amount is needed",
            "give `percentage: \"10\"` of each line, or `amount: \"100.00\"` a period",
        ),
    };
    Some(Discount { name: name?, scope: scope?, value: value? })
}

/// A percentage above 0 and up to 100, as a factor.
fn share(cursor: &Cursor<'_>) -> Option<Quantity> {
    let percentage = cursor.decimal_above_zero()?;
    let hundred = Quantity::from_decimal(100, 0).expect("a scale of 0 is allowed");
    if percentage > hundred {
        return cursor.fail(
            format!("{percentage} is above 100"),
            "give a percentage above 0 and up to 100: \"10\" is 10 %",
        );
    }
    if percentage.raw() % 100 != 0 {
        return cursor.fail(
            format!("{percentage} has more than 16 digits after the point"),
            "give fewer digits: as a factor it would lose some",
        );
    }
    Some(Quantity::from_raw(percentage.raw() / 100))
}

/// Reads `commitments`, in the order of the file.
pub(super) fn commitments(fields: &Fields<'_>, setting: &Setting<'_>) -> Option<Vec<Commitment>> {
    named(fields, "commitments", |commitment| &commitment.name, |entry| commitment(entry, setting))
}

fn commitment(entry: &Cursor<'_>, setting: &Setting<'_>) -> Option<Commitment> {
    let fields = entry.map(&["name", "amount", "skus", "overage_factor"])?;
    let name = name(&fields);
    let scope = prices::scope(&fields, setting);
    let amount = fields.need("amount", AMOUNT_REMEDY);
    let amount = amount.and_then(|amount| amount.decimal_above_zero());
    let overage_factor = match fields.get("overage_factor") {
        Some(factor) => factor.decimal_not_negative(),
        None => Some(Quantity::ONE),
    };
    Some(Commitment {
        name: name?,
        scope: scope?,
        amount: amount?,
        overage_factor: overage_factor?,
    })
}

/// Reads `credits`, in the order of the file.
pub(super) fn credits(fields: &Fields<'_>, setting: &Setting<'_>) -> Option<Vec<Credit>> {
    named(fields, "credits", |credit| &credit.name, |entry| credit(entry, setting))
}

fn credit(entry: &Cursor<'_>, setting: &Setting<'_>) -> Option<Credit> {
    let fields = entry.map(&["name", "amount", "valid_from", "expires", "priority"])?;
    let name = name(&fields);
    let amount = fields.need("amount", AMOUNT_REMEDY);
    let amount = amount.and_then(|amount| in_coins(&amount, setting));
    let valid_from = match fields.get("valid_from") {
        Some(cursor) => setting.date(&cursor),
        None => setting.valid_from,
    };
    let expires = setting.end(fields.get("expires"), valid_from);
    let priority = match fields.get("priority") {
        Some(cursor) => cursor.whole(0, u32::MAX.into()),
        None => Some(PRIORITY_DEFAULT.into()),
    };
    Some(Credit {
        name: name?,
        amount: amount?,
        valid_from: valid_from?,
        expires: expires?,
        priority: u32::try_from(priority?).expect("is at most u32::MAX"),
    })
}

/// An amount that somebody pays: above zero, with no more decimals than the currency has.
fn in_coins(cursor: &Cursor<'_>, setting: &Setting<'_>) -> Option<Quantity> {
    let amount = cursor.decimal_above_zero()?;
    let Some(currency) = setting.currency else { return Some(amount) };
    let digits = currency.minor_digits();
    let coins = Rounding::To { digits, mode: RoundingMode::Down };
    if Amount::of(amount).rounded(coins) != Some(Amount::of(amount)) {
        return cursor.fail(
            format!("{amount} has more than the {digits} decimals of {currency}"),
            "give what was paid, in whole coins",
        );
    }
    Some(amount)
}

/// Reads `exchange`, sorted by currency and first moment.
pub(super) fn exchange(fields: &Fields<'_>, setting: &Setting<'_>) -> Option<Vec<ExchangeRate>> {
    let Some(cursor) = fields.get("exchange") else { return Some(Vec::new()) };
    let entries = cursor.list(RATES_MAX)?;
    let mut newest = BTreeMap::new();
    let mut rates = Vec::new();
    for entry in &entries {
        let Some(rate) = exchange_rate(entry, setting) else { continue };
        if let Some(before) = newest.insert(rate.from.code(), rate.valid_from)
            && rate.valid_from <= before
        {
            let date = |moment| setting.calendar().date_of(moment);
            entry.any_map()?.get("valid_from")?.fail::<()>(
                format!(
                    "{} is not after the rate from {} before it, {}",
                    date(rate.valid_from),
                    rate.from,
                    date(before)
                ),
                "list the rates of a currency from the oldest to the newest, one a date",
            );
            continue;
        }
        rates.push(rate);
    }
    rates.sort_by_key(|rate| (rate.from.code(), rate.valid_from));
    (rates.len() == entries.len()).then_some(rates)
}

fn exchange_rate(entry: &Cursor<'_>, setting: &Setting<'_>) -> Option<ExchangeRate> {
    let fields = entry.map(&["from", "valid_from", "rate"])?;
    let from = fields.need("from", "name the other currency, as `from: USD`").and_then(|cursor| {
        let from = currency(&cursor)?;
        if setting.currency == Some(from) {
            return cursor.fail(
                format!("{from} is the contract's own currency"),
                "name another currency, or remove the entry",
            );
        }
        Some(from)
    });
    let valid_from = fields
        .need("valid_from", "give the first day of the rate, as 2026-01-01")
        .and_then(|cursor| setting.date(&cursor));
    let rate = fields
        .need("rate", "give what one unit of it is in the contract's currency, as \"5.10\"")
        .and_then(|cursor| cursor.decimal_above_zero());
    Some(ExchangeRate { from: from?, valid_from: valid_from?, rate: rate? })
}

/// Reads `taxes`, in the order of the file.
pub(super) fn taxes(fields: &Fields<'_>) -> Option<Vec<Tax>> {
    named(fields, "taxes", |tax| &tax.name, tax)
}

fn tax(entry: &Cursor<'_>) -> Option<Tax> {
    let fields = entry.map(&["name", "rate", "on"])?;
    let name = name(&fields);
    let remedy = "give the share as a factor: \"0.05\" is 5 %";
    let rate = fields.need("rate", remedy).and_then(|cursor| {
        let rate = cursor.decimal_not_negative()?;
        // Five for 5 % would be billed as 500 % before anyone looks.
        if rate > Quantity::ONE {
            return cursor.fail(format!("{rate} is above 1, which is 100 %"), remedy);
        }
        Some(rate)
    });
    let on = fields.need("on", "name the lines it is on, as `on: [usage, commitment]`");
    let on = on.and_then(|on| taxed_kinds(&on));
    Some(Tax { name: name?, rate: rate?, on: on? })
}

fn taxed_kinds(cursor: &Cursor<'_>) -> Option<Vec<TaxedKind>> {
    let words: Vec<_> = TaxedKind::ALL.iter().map(|kind| (kind.as_str(), *kind)).collect();
    let mut kinds = Vec::new();
    for entry in cursor.list(NAMED_MAX)? {
        let kind = entry.word("kind of line", &words, &[])?;
        if kinds.contains(&kind) {
            return entry
                .fail(format!("`{}` stands in the list twice", kind.as_str()), "remove one");
        }
        kinds.push(kind);
    }
    if kinds.is_empty() {
        return cursor.fail("no kinds of lines", "name usage, commitment or both");
    }
    kinds.sort();
    Some(kinds)
}

fn name(fields: &Fields<'_>) -> Option<Name> {
    fields.need("name", "name it, as lines will").and_then(|name| name.name(Name::new))
}

/// Reads a list, empty where the key is not given, whose entries have different names.
fn named<T>(
    fields: &Fields<'_>,
    key: &str,
    name_of: fn(&T) -> &Name,
    read: impl Fn(&Cursor<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(cursor) = fields.get(key) else { return Some(Vec::new()) };
    let entries = cursor.list(NAMED_MAX)?;
    let mut seen = HashSet::new();
    let mut list = Vec::new();
    for entry in &entries {
        let Some(value) = read(entry) else { continue };
        let name = name_of(&value);
        if seen.insert(name.clone()) {
            list.push(value);
        } else {
            entry.any_map()?.get("name")?.fail::<()>(
                format!("`{name}` is the name of another entry of `{key}`"),
                "give each a name of its own",
            );
        }
    }
    (list.len() == entries.len()).then_some(list)
}
