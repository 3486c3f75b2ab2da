//! The file of an amendment: which contract changes from which day on, and what of it. Read by the
//! means that contracts are read by, and held against the contract as it is on that day.

use domain::{
    Name, Timestamp,
    amendment::{Amendment, Change, Changes, Thing},
    catalogue::{Catalogue, Currency},
    contract::{Contract, Credit, Override},
};

use super::{
    super::{
        FileError, Kind, currency,
        cursor::{Cursor, Fields},
        known::Known,
        parse_as,
    },
    Setting, money, own_name,
    prices::{self, Coverage},
};
use crate::moment::Calendar;

const AMENDMENT: Kind = Kind {
    beginning: "start with `amendment: acme-2026-1`, `contract: acme-2026` and `from: 2026-10-01`",
    too_long: "split the amendment",
};

const KEYS: &[&str] = &["amendment", "contract", "from", "until", "set", "replace", "end"];
/// Most changes of one kind: each is looked for among the contract's things.
const CHANGES_MAX: usize = 1_000;
/// What a contract may get; what it may have in another way; what of it may end.
const SET: &[&str] =
    &["subscriptions", "overrides", "discounts", "commitments", "credits", "exchange", "taxes"];
const REPLACE: &[&str] =
    &["payment_term_days", "overrides", "discounts", "commitments", "credits", "exchange", "taxes"];
const END: &[&str] = SET;
/// Terms of a contract that move the ends of its periods, or what these are billed in.
const FIXED: [&str; 4] = ["currency", "rounding", "time_zone", "billing_anchor"];
/// Lists that are read in another order than that of the file.
const SORTED: [&str; 2] = ["subscriptions", "exchange"];

/// What an amendment file says of itself, before its contract is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The amendment's name.
    pub name: Name,
    /// The contract that it changes.
    pub contract: Name,
}

/// What an amendment is read against.
#[derive(Clone, Copy, Debug)]
pub struct Base<'b> {
    /// The contract, as it was applied.
    pub contract: &'b Contract,
    /// Its amendments so far, in the order in which they were applied.
    pub amendments: &'b [Amendment],
    /// The catalogue that its SKUs and prices are held against.
    pub catalogue: &'b Catalogue,
}

/// Tells whether a file is meant as an amendment: one has a name under a key that contracts do not have.
/// What is no YAML is none.
#[must_use]
pub fn is_amendment(bytes: &[u8]) -> bool {
    let named = |root: &Cursor<'_>| Some(root.any_map()?.get("amendment").is_some());
    parse_as("", bytes, &AMENDMENT, named).unwrap_or(false)
}

/// Reads what an amendment file says of itself.
///
/// # Errors
/// When it is no YAML, has keys that there are not, or does not name itself or its contract.
pub fn outline(name: &str, bytes: &[u8]) -> Result<Outline, FileError> {
    parse_as(name, bytes, &AMENDMENT, |root| {
        let fields = amendment(root)?;
        let (name, contract) = names(&fields);
        Some(Outline { name: name?, contract: contract? })
    })
}

/// Notes that the contract which a file names was not applied, at its place.
#[must_use]
pub fn unknown_contract(name: &str, bytes: &[u8], known: &[&str]) -> FileError {
    let noted: Result<(), FileError> = parse_as(name, bytes, &AMENDMENT, |root| {
        let cursor = root.map(KEYS)?.get("contract")?;
        let text = cursor.text()?;
        let near = cursor.suggestion(text, known.iter().copied());
        cursor.fail(format!("no contract was applied as `{text}`{near}"), "name one that was")
    });
    noted.expect_err("a mistake is noted")
}

/// Reads and checks an amendment against its contract.
///
/// # Errors
/// Every mistake that was found.
pub fn parse_amendment(name: &str, bytes: &[u8], base: Base<'_>) -> Result<Amendment, FileError> {
    parse_as(name, bytes, &AMENDMENT, |root| read(root, base))
}

fn names(fields: &Fields<'_>) -> (Option<Name>, Option<Name>) {
    let name = fields
        .need("amendment", "name the amendment, as `amendment: acme-2026-1`")
        .and_then(|cursor| own_name(&cursor));
    let contract = fields
        .need("contract", "name the contract that it changes, as `contract: acme-2026`")
        .and_then(|cursor| cursor.name(Name::new));
    (name, contract)
}

/// The fields of an amendment. A contract is told apart by what only contracts have.
fn amendment<'d>(root: &Cursor<'d>) -> Option<Fields<'d>> {
    let fields = root.any_map()?;
    if fields.get("amendment").is_none() && fields.get("tenant").is_some() {
        return root.fail("this is a contract", "send it by `pulso contract apply`");
    }
    fields.only(KEYS);
    Some(fields)
}

fn read(root: &Cursor<'_>, base: Base<'_>) -> Option<Amendment> {
    let fields = amendment(root)?;
    let (name, contract) = names(&fields);
    let Base { contract: agreed, amendments, catalogue } = base;
    let known = Known::new(&catalogue.skus, format!("catalogue `{}`", catalogue.version));
    let mut setting = Setting {
        calendar: Calendar::named(agreed.terms.time_zone.as_str()),
        currency: Some(agreed.terms.currency),
        valid_from: None,
        known: Some(known),
    };
    let (from, until) = days(&fields, &setting, agreed)?;
    setting.valid_from = Some(from);
    let before = agreed.amended(amendments);
    let before = before.iter().rfind(|piece| piece.valid_from <= from).unwrap_or(agreed);
    let ends = until.or(agreed.valid_to);
    let reader = Reader { fields: &fields, setting: &setting, before, until, ends };
    let changes = reader.changes()?;
    if changes == Changes::default() {
        return root.fail("it changes nothing", "say what under `set`, `replace` or `end`");
    }
    Some(Amendment { name: name?, contract: contract?, from, until, changes })
}

/// The first day and the end, both within the contract's time.
fn days(
    fields: &Fields<'_>,
    setting: &Setting<'_>,
    agreed: &Contract,
) -> Option<(Timestamp, Option<Timestamp>)> {
    let date = |moment| setting.calendar().date_of(moment);
    let from = fields.need("from", "give the first day, as 2026-10-01")?;
    let moment = setting.date(&from)?;
    if !agreed.is_valid_at(moment) {
        let end = agreed.valid_to.map_or_else(String::new, |end| format!(" to {}", date(end)));
        return from.fail(
            format!(
                "contract `{}` does not hold on {}: it is valid from {}{end}",
                agreed.name,
                date(moment),
                date(agreed.valid_from)
            ),
            "give a day on which it holds, or apply a contract",
        );
    }
    let Some(until) = fields.get("until") else { return Some((moment, None)) };
    let end = setting.date(&until)?;
    if end <= moment {
        return until.fail(
            format!("{} is not after from, {}", date(end), date(moment)),
            "give a later date, or remove it: then it counts to the contract's end",
        );
    }
    Some((moment, Some(end)))
}

/// Reads the three lists of changes against the contract as it is on the first day.
struct Reader<'r, 'd> {
    fields: &'r Fields<'d>,
    setting: &'r Setting<'r>,
    before: &'r Contract,
    until: Option<Timestamp>,
    /// Where it or the contract ends.
    ends: Option<Timestamp>,
}

impl<'d> Reader<'_, 'd> {
    fn changes(&self) -> Option<Changes> {
        let (set, replace, end) =
            (self.part("set", SET), self.part("replace", REPLACE), self.part("end", END));
        let parts = Parts { set: set?, replace: replace?, end: end? };
        let (setting, before) = (self.setting, self.before);
        let exchange = self.list(
            &parts,
            "exchange",
            &before.exchange,
            |fields| money::exchange(fields, setting),
            |entry| ended_rate(entry, setting),
            |(from, since): &(Currency, Timestamp)| {
                format!("rate from {from} from {}", setting.calendar().date_of(*since))
            },
        );
        let coverage = self.coverage(exchange.as_deref());
        let overrides = self.list(
            &parts,
            "overrides",
            &before.overrides,
            |fields| prices::overrides(fields, setting, coverage.as_ref()),
            |entry| ended_resource(entry, before.overrides.iter().map(Override::key)),
            resource_words,
        );
        let subscriptions = self.list(
            &parts,
            "subscriptions",
            &before.subscriptions,
            |fields| prices::subscriptions(fields, setting),
            |entry| ended_resource(entry, before.subscriptions.iter().cloned()),
            resource_words,
        );
        let discounts = self.named(&parts, "discounts", &before.discounts, |fields| {
            money::discounts(fields, setting)
        });
        let commitments = self.named(&parts, "commitments", &before.commitments, |fields| {
            money::commitments(fields, setting)
        });
        let credits = self.credits(&parts);
        let taxes = self.named(&parts, "taxes", &before.taxes, money::taxes);
        let payment_term_days = payment_term(&parts);
        Some(Changes {
            payment_term_days: payment_term_days?,
            subscriptions: subscriptions?,
            overrides: overrides?,
            discounts: discounts?,
            commitments: commitments?,
            credits: credits?,
            exchange: exchange?,
            taxes: taxes?,
        })
    }

    /// `Some(None)` where the part is absent.
    fn part(&self, key: &str, known: &[&'static str]) -> Option<Option<Fields<'d>>> {
        let Some(cursor) = self.fields.get(key) else { return Some(None) };
        let fields = cursor.any_map()?;
        let mut fixed = FIXED.iter().filter_map(|term| fields.get(term));
        if let Some(term) = fixed.next() {
            return term.fail("no amendment changes this", "apply a contract from that day on");
        }
        fields.only(known);
        Some(Some(fields))
    }

    /// The rates that hold from the first day on, for the prices that are in other currencies.
    fn coverage(
        &self,
        exchange: Option<&[Change<domain::contract::ExchangeRate>]>,
    ) -> Option<Coverage<'static>> {
        let mut rates = self.before.exchange.clone();
        for change in exchange? {
            let key = change.key();
            rates.retain(|rate| !rate.is(&key));
            if let Change::Stated(rate) = change {
                rates.push(*rate);
            }
        }
        Coverage::of(self.setting, self.ends, rates)
    }

    fn credits(&self, parts: &Parts<'d>) -> Option<Vec<Change<Credit>>> {
        let mut changes = self.named(parts, "credits", &self.before.credits, |fields| {
            money::credits(fields, self.setting)
        })?;
        if self.until.is_some() && !changes.is_empty() {
            return self.fields.get("until")?.fail(
                "credits do not come back: what was used of them stays used",
                "give the credit its own `expires`, or change it by an amendment without `until`",
            );
        }
        let replaced = parts.replace.as_ref().and_then(|fields| fields.get("credits"));
        for entry in replaced.iter().flat_map(|list| list.list(CHANGES_MAX).unwrap_or_default()) {
            let entry = entry.any_map()?;
            if entry.get("valid_from").is_some() {
                continue;
            }
            // The same credit, and not one that begins anew.
            let name = entry.get("name")?.text()?;
            let known = self.before.credits.iter().find(|credit| credit.name.as_str() == name);
            let stated = changes.iter_mut().find_map(|change| match change {
                Change::Stated(credit) if credit.name.as_str() == name => Some(credit),
                _ => None,
            });
            if let (Some(known), Some(stated)) = (known, stated) {
                stated.valid_from = known.valid_from;
            }
        }
        Some(changes)
    }

    fn named<T: Thing<Key = Name>>(
        &self,
        parts: &Parts<'d>,
        key: &'static str,
        before: &[T],
        read: impl Fn(&Fields<'_>) -> Option<Vec<T>>,
    ) -> Option<Vec<Change<T>>> {
        let ended = |entry: &Cursor<'_>| {
            let name = entry.name(Name::new)?;
            if before.iter().any(|thing| thing.is(&name)) {
                return Some(name);
            }
            let names: Vec<Name> = before.iter().map(Thing::key).collect();
            let near = entry.suggestion(name.as_str(), names.iter().map(Name::as_str));
            entry.fail(
                format!("the contract has no `{name}` among its {key} on that day{near}"),
                "name one that it has",
            )
        };
        self.list(parts, key, before, read, ended, |name: &Name| format!("`{name}`"))
    }

    /// What the parts say of one kind of thing: each thing once, `set` of those that the contract has
    /// not, `replace` and `end` of those that it has.
    fn list<T: Thing>(
        &self,
        parts: &Parts<'d>,
        key: &'static str,
        before: &[T],
        read: impl Fn(&Fields<'_>) -> Option<Vec<T>>,
        ended: impl Fn(&Cursor<'_>) -> Option<T::Key>,
        words: impl Fn(&T::Key) -> String,
    ) -> Option<Vec<Change<T>>> {
        let is_known = |wanted: &T::Key| before.iter().any(|thing| thing.is(wanted));
        let mut changes: Vec<Change<T>> = Vec::new();
        let mut complete = true;
        for (fields, is_replaced) in [(&parts.set, false), (&parts.replace, true)] {
            let Some(cursor) = fields.as_ref().and_then(|fields| fields.get(key)) else { continue };
            let entries = cursor.list(CHANGES_MAX);
            let things = entries.as_ref().and_then(|_| fields.as_ref().and_then(&read));
            let (Some(entries), Some(things)) = (entries, things) else {
                complete = false;
                continue;
            };
            for (place, thing) in things.into_iter().enumerate() {
                let wrong = match (is_known(&thing.key()), is_replaced) {
                    (true, false) => Some(("has", "put it under `replace`")),
                    (false, true) => Some(("does not have", "put it under `set`, or respell it")),
                    _ => None,
                };
                if let Some((has, remedy)) = wrong {
                    complete = false;
                    // Those that are sorted as they are read have no place in the file.
                    let entry = if SORTED.contains(&key) { &cursor } else { &entries[place] };
                    let what = words(&thing.key());
                    let message = format!("the contract {has} {what} among its {key} on that day");
                    entry.fail::<()>(message, remedy);
                }
                changes.push(Change::Stated(thing));
            }
        }
        let listed = parts.end.as_ref().and_then(|fields| fields.get(key));
        let listed = listed.map(|cursor| cursor.list(CHANGES_MAX));
        complete &= !matches!(listed, Some(None));
        for entry in listed.flatten().unwrap_or_default() {
            match ended(&entry) {
                Some(gone) if is_known(&gone) => changes.push(Change::Ended(gone)),
                Some(gone) => {
                    complete = false;
                    let message = format!("the contract has no {} on that day", words(&gone));
                    entry.fail::<()>(message, "name one that it has");
                }
                None => complete = false,
            }
        }
        complete &= self.each_once(key, &changes, words);
        complete.then_some(changes)
    }

    fn each_once<T: Thing>(
        &self,
        key: &str,
        changes: &[Change<T>],
        words: impl Fn(&T::Key) -> String,
    ) -> bool {
        let keys: Vec<T::Key> = changes.iter().map(Change::key).collect();
        let twice = keys.iter().enumerate().find(|(place, key)| keys[..*place].contains(key));
        if let Some((_, twice)) = twice {
            let message = format!("{} is changed twice among the {key}", words(twice));
            self.fields.here().fail::<()>(message, "say once what becomes of it");
        }
        twice.is_none()
    }
}

/// The lists of a file, where it has them.
struct Parts<'d> {
    set: Option<Fields<'d>>,
    replace: Option<Fields<'d>>,
    end: Option<Fields<'d>>,
}

/// `Some(None)` where it does not change.
fn payment_term(parts: &Parts<'_>) -> Option<Option<u16>> {
    let cursor = parts.replace.as_ref().and_then(|fields| fields.get("payment_term_days"));
    let Some(cursor) = cursor else { return Some(None) };
    let days = cursor.whole(0, 365)?;
    Some(Some(u16::try_from(days).expect("is at most 365")))
}

fn resource_words((sku, unit): &(domain::Sku, domain::Unit)) -> String {
    format!("`{sku}` in `{unit}`")
}

/// A SKU and unit of those that the contract has, where the unit may be left out if there is one only.
fn ended_resource(
    entry: &Cursor<'_>,
    known: impl Iterator<Item = (domain::Sku, domain::Unit)>,
) -> Option<(domain::Sku, domain::Unit)> {
    let fields = entry.map(&["sku", "unit"])?;
    let sku = fields.need("sku", "name the SKU")?.name(domain::Sku::new)?;
    let unit = match fields.get("unit") {
        Some(unit) => Some(unit.name(domain::Unit::new)?),
        None => None,
    };
    let fits = |(of, in_unit): &(domain::Sku, domain::Unit)| {
        *of == sku && unit.as_ref().is_none_or(|unit| unit == in_unit)
    };
    let found: Vec<_> = known.filter(fits).collect();
    match found.as_slice() {
        [only] => Some(only.clone()),
        [] => entry.fail(
            format!("the contract has none for SKU `{sku}` on that day"),
            "name a SKU and unit for which it has one",
        ),
        several => {
            let units: Vec<&str> = several.iter().map(|(_, unit)| unit.as_str()).collect();
            entry.fail(
                format!("the contract has SKU `{sku}` in several units: {}", units.join(", ")),
                "name one, as `unit:`",
            )
        }
    }
}

fn ended_rate(entry: &Cursor<'_>, setting: &Setting<'_>) -> Option<(Currency, Timestamp)> {
    let fields = entry.map(&["from", "valid_from"])?;
    let from = fields.need("from", "name the other currency, as `from: USD`");
    let from = from.and_then(|cursor| currency(&cursor));
    let since = fields.need("valid_from", "give the first day of the rate, as 2026-01-01");
    let since = since.and_then(|cursor| setting.date(&cursor));
    Some((from?, since?))
}

#[cfg(test)]
mod tests;
