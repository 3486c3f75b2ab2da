//! The contract file: what one tenant agreed to, read and checked as the catalogue file is.
//!
//! SKUs, units and prices are held against the catalogue that the contract names, so that what
//! passes can be rated; [`check_contract`] does without a catalogue, for a look before anything is
//! at hand. [`domain::contract`] says what the values mean, docs/contracts.md what the keys do.

use domain::{
    Name, Tenant, Timestamp, Window,
    catalogue::{Catalogue, Currency},
    contract::{CatalogueChoice, Contract, Terms},
};

use super::{
    FileError, Kind, currency,
    cursor::{Cursor, Fields, suggestion},
    default_rounding,
    known::Known,
    parse_as, rounding,
};
use crate::moment::Calendar;
use prices::Coverage;

mod prices;

mod money;

pub mod amendment;

const CONTRACT: Kind = Kind {
    beginning: "start with `contract: acme-2026`, `tenant: acme`, `valid_from: 2026-01-01` and \
                `currency: BRL`",
    too_long: "remove what the catalogue says already",
};

const KEYS: &[&str] = &[
    "contract",
    "tenant",
    "valid_from",
    "valid_to",
    "supersedes",
    "catalogue",
    "currency",
    "rounding",
    "time_zone",
    "billing_anchor",
    "payment_term_days",
    "subscriptions",
    "overrides",
    "discounts",
    "commitments",
    "credits",
    "exchange",
    "taxes",
];

/// What a contract file says of itself, before any catalogue is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The contract's name.
    pub name: Name,
    /// Whose contract it is.
    pub tenant: Tenant,
    /// The catalogue that it is to be checked against.
    pub catalogue: CatalogueChoice,
    /// The zone in whose midnights its days begin.
    pub time_zone: Name,
    /// From its first day until it no longer holds, other contracts aside.
    pub agreed: Window,
}

/// How a contract's catalogue is found: by its version, `None` for the newest. It is asked once at
/// most.
pub type CatalogueSource<'s> = &'s dyn Fn(Option<&str>) -> Option<Catalogue>;

/// Reads and checks a contract file against its catalogue. `name` is what errors call the file.
///
/// # Errors
/// Every mistake that was found. Where the catalogue does not exist, that is one of them, and the
/// rest is checked as far as [`check_contract`] goes.
pub fn parse_contract(
    name: &str,
    bytes: &[u8],
    catalogue_of: CatalogueSource<'_>,
) -> Result<Contract, FileError> {
    parse_as(name, bytes, &CONTRACT, |root| read(root, Some(catalogue_of)))
}

/// Reads and checks a contract file without a catalogue: all but whether its SKUs, units and
/// dimensions exist, and whether every price can be brought into its currency.
///
/// # Errors
/// Every mistake that was found.
pub fn check_contract(name: &str, bytes: &[u8]) -> Result<Outline, FileError> {
    let contract = parse_as(name, bytes, &CONTRACT, |root| read(root, None))?;
    let agreed = contract.agreed();
    let Contract { name, tenant, catalogue, terms, .. } = contract;
    Ok(Outline { name, tenant, catalogue, time_zone: terms.time_zone, agreed })
}

/// What the parts of a file are read against. What has a mistake, which is noted then, is `None`.
struct Setting<'s> {
    calendar: Option<Calendar>,
    currency: Option<Currency>,
    valid_from: Option<Timestamp>,
    /// The catalogue's SKUs, where there is a catalogue at hand.
    known: Option<Known<'s>>,
}

impl<'s> Setting<'s> {
    fn read(fields: &Fields<'_>, catalogue: Option<&'s Catalogue>) -> Self {
        let mut setting = Setting {
            calendar: time_zone(fields),
            currency: fields
                .need("currency", "name the currency of the bills, as `currency: BRL`")
                .and_then(|cursor| currency(&cursor)),
            valid_from: None,
            known: catalogue.map(|catalogue| {
                Known::new(&catalogue.skus, format!("catalogue `{}`", catalogue.version))
            }),
        };
        setting.valid_from = fields
            .need("valid_from", "give its first day, as 2026-01-01")
            .and_then(|cursor| setting.date(&cursor));
        setting
    }

    /// The zone, or a stand-in, so that the mistakes of dates show too.
    fn calendar(&self) -> &Calendar {
        static UTC: Calendar = Calendar::UTC;
        self.calendar.as_ref().unwrap_or(&UTC)
    }

    /// The currency, or a stand-in, so that the mistakes of prices show too.
    fn currency(&self) -> Currency {
        let none = || Currency::from_code("XXX").expect("ISO 4217 has a code for no currency");
        self.currency.unwrap_or_else(none)
    }

    /// A date: the first moment of that day in the contract's zone.
    fn date(&self, cursor: &Cursor<'_>) -> Option<Timestamp> {
        let text = cursor.text()?;
        match self.calendar().parse_date(text) {
            Some(moment) => Some(moment),
            None => cursor.fail(
                format!("`{text}` is not a date of the years 1 to 9999"),
                "write the date alone, as 2026-01-31: it begins at midnight of the time_zone",
            ),
        }
    }

    /// A date that may be absent, and has to come after another: `Some(None)` where it is absent.
    fn end(
        &self,
        cursor: Option<Cursor<'_>>,
        start: Option<Timestamp>,
    ) -> Option<Option<Timestamp>> {
        let Some(cursor) = cursor else { return Some(None) };
        let (end, start) = (self.date(&cursor)?, start?);
        if end > start {
            return Some(Some(end));
        }
        let (end, start) = (self.calendar().date_of(end), self.calendar().date_of(start));
        cursor.fail(
            format!("{end} is not after valid_from, {start}"),
            "give a later date, or remove it: then there is no end",
        )
    }
}

/// Reads the whole file. Without a `source` of catalogues, units that are left out are stood in
/// for, so the result is good for an [`Outline`] only.
fn read(root: &Cursor<'_>, source: Option<CatalogueSource<'_>>) -> Option<Contract> {
    if root.any_map()?.get("amendment").is_some() {
        return root.fail("this is an amendment", "send it by `pulso contract amend`");
    }
    let fields = root.map(KEYS)?;
    let name = fields
        .need("contract", "name the contract, as `contract: acme-2026`")
        .and_then(|cursor| own_name(&cursor));
    let tenant = fields
        .need("tenant", "name whose contract it is, as pulses do")
        .and_then(|cursor| cursor.name(Tenant::new));
    let choice = choice(&fields);
    let catalogue = choice.as_ref().zip(source);
    let catalogue = catalogue.and_then(|(choice, source)| find(&fields, choice, source));
    let setting = Setting::read(&fields, catalogue.as_ref());
    let valid_to = setting.end(fields.get("valid_to"), setting.valid_from);
    let supersedes = supersedes(&fields, name.as_ref());
    let terms = terms(&fields, &setting);
    let exchange = money::exchange(&fields, &setting);
    let coverage = Coverage::new(&setting, valid_to, exchange.as_deref());
    let overrides = prices::overrides(&fields, &setting, coverage.as_ref());
    if let (Some(coverage), Some(catalogue), Some(overrides)) = (coverage, &catalogue, &overrides) {
        coverage.check_catalogue(&fields, catalogue, overrides);
    }
    let subscriptions = prices::subscriptions(&fields, &setting);
    let discounts = money::discounts(&fields, &setting);
    let commitments = money::commitments(&fields, &setting);
    let credits = money::credits(&fields, &setting);
    let taxes = money::taxes(&fields);
    Some(Contract {
        name: name?,
        tenant: tenant?,
        valid_from: setting.valid_from?,
        valid_to: valid_to?,
        supersedes: supersedes?,
        catalogue: choice?,
        terms: terms?,
        subscriptions: subscriptions?,
        overrides: overrides?,
        discounts: discounts?,
        commitments: commitments?,
        credits: credits?,
        exchange: exchange?,
        taxes: taxes?,
    })
}

/// The name of a contract or an amendment, which is not that of the standard terms.
fn own_name(cursor: &Cursor<'_>) -> Option<Name> {
    let name = cursor.name(Name::new)?;
    if name.as_str() == Contract::STANDARD {
        return cursor.fail(
            format!("`{name}` is what lines call the terms before a tenant's first contract"),
            "give it another name",
        );
    }
    Some(name)
}

/// Most contracts that one names as superseded.
const SUPERSEDES_MAX: usize = 1_000;

fn supersedes(fields: &Fields<'_>, own: Option<&Name>) -> Option<Vec<Name>> {
    let Some(cursor) = fields.get("supersedes") else { return Some(Vec::new()) };
    let names = cursor.names(SUPERSEDES_MAX)?;
    if own.is_some_and(|own| names.contains(own)) {
        return cursor.fail("a contract cannot supersede itself", "remove its own name");
    }
    Some(names)
}

fn choice(fields: &Fields<'_>) -> Option<CatalogueChoice> {
    let Some(cursor) = fields.get("catalogue") else { return Some(CatalogueChoice::Latest) };
    let version = cursor.name(Name::new)?;
    Some(match version.as_str() {
        "latest" => CatalogueChoice::Latest,
        _ => CatalogueChoice::Version(version),
    })
}

fn find(
    fields: &Fields<'_>,
    choice: &CatalogueChoice,
    source: CatalogueSource<'_>,
) -> Option<Catalogue> {
    let version = match choice {
        CatalogueChoice::Latest => None,
        CatalogueChoice::Version(version) => Some(version.as_str()),
    };
    if let Some(catalogue) = source(version) {
        return Some(catalogue);
    }
    let cursor = fields.get("catalogue").unwrap_or_else(|| fields.here().clone());
    match version {
        None => cursor.fail("no catalogue is published yet", "publish one before its contracts"),
        Some(version) => cursor.fail(
            format!("there is no catalogue `{version}`"),
            "name one that is published, or `latest`",
        ),
    }
}

fn time_zone(fields: &Fields<'_>) -> Option<Calendar> {
    let Some(cursor) = fields.get("time_zone") else { return Some(Calendar::UTC) };
    let text = cursor.text()?;
    if let Some(calendar) = Calendar::named(text) {
        return Some(calendar);
    }
    let zones = Calendar::zones();
    // A city alone is the usual mistake, and far from its zone's name by letters.
    let city = text.replace(' ', "_");
    let is_city = |zone: &&String| {
        zone.rsplit('/').next().is_some_and(|name| name.eq_ignore_ascii_case(&city))
    };
    let near = match zones.iter().find(is_city) {
        Some(zone) => format!("; did you mean `{zone}`?"),
        None => suggestion(text, &zones.iter().map(String::as_str).collect::<Vec<_>>()),
    };
    cursor.fail(
        format!("`{text}` is no time zone of the IANA database{near}"),
        "name one by continent and city, as America/Sao_Paulo, or UTC",
    )
}

fn terms(fields: &Fields<'_>, setting: &Setting<'_>) -> Option<Terms> {
    let rounding = match fields.get("rounding") {
        Some(cursor) => rounding(&cursor, setting.currency()),
        None => Some(default_rounding(setting.currency())),
    };
    let anchor_day = match fields.get("billing_anchor") {
        Some(cursor) => cursor.whole(1, 31),
        None => Some(1),
    };
    let payment_term_days = match fields.get("payment_term_days") {
        Some(cursor) => cursor.whole(0, 365),
        None => Some(30),
    };
    Some(Terms {
        currency: setting.currency?,
        rounding: rounding?,
        time_zone: Name::new(setting.calendar.as_ref()?.zone())
            .expect("zones have short printable names"),
        anchor_day: u8::try_from(anchor_day?).expect("is at most 31"),
        payment_term_days: u16::try_from(payment_term_days?).expect("is at most 365"),
    })
}

#[cfg(test)]
mod tests;
