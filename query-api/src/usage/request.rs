//! A question about usage: read from either door, checked once, and typed from then on.
//!
//! All that is wrong with a question is said in one answer, field by field under the names of the
//! door it came through.

use domain::{
    Sku, Tenant, Timestamp, Unit, Window, WindowLength, hash, name::NameError, store::UsageFilter,
    suggest, time::rfc3339_parts,
};
use edge::{
    paging::{self, TokenKey},
    problem::{Problem, Violation, reasons},
};
use jiff::tz::TimeZone;

use super::{
    group::{GroupBy, GroupKey, KeptDimensions},
    windows::{self, WindowKind, Windows, WindowsError},
};

/// Longest name of a dimension in bytes: that of a property's key.
const DIMENSION_BYTES_MAX: usize = 64;
/// What a dimension may be written with where its own name means a field: `dimensions.tenant`.
const DIMENSION_PREFIX: &str = "dimensions.";
const TIME_HINT: &str = "an instant such as 2024-09-01T00:00:00Z (write + as %2B in an address), or \
                         a date such as 2024-09-01, which means its start in time_zone";

/// What was asked, as it came. Empty text stands for an absent field.
#[derive(Clone, Debug, Default)]
pub struct UsageRequest {
    /// One tenant, or all.
    pub tenant: String,
    /// One SKU, or all.
    pub product_sku: String,
    /// One unit, or all.
    pub use_unity: String,
    /// First moment that counts.
    pub from: Option<Moment>,
    /// First moment that counts no more.
    pub to: Option<Moment>,
    /// `PT1H`, `P1D`, `P1M` or `total`.
    pub window: String,
    /// Names to keep apart; none means all.
    pub group_by: Vec<String>,
    /// IANA name; UTC when empty.
    pub time_zone: String,
    /// 1 to 1000; 50 when empty.
    pub page_size: String,
    /// From the answer before; empty for the first page.
    pub page_token: String,
}

/// A moment as a door spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    /// RFC 3339, or a date.
    Text(String),
    /// The parts of a protobuf timestamp.
    Parts {
        /// Since 1970.
        seconds: i64,
        /// 0 to 999,999,999.
        nanos: i32,
    },
}

/// What a door calls the fields whose names differ.
#[derive(Clone, Copy, Debug)]
pub struct FieldNames {
    /// Name of the SKU's field.
    pub product_sku: &'static str,
    /// Name of the unit's field.
    pub use_unity: &'static str,
}

impl FieldNames {
    /// The names in `query.proto`.
    pub const GRPC: Self = Self { product_sku: "product_sku", use_unity: "use_unity" };
    /// The names of the query parameters.
    pub const HTTP: Self = Self { product_sku: "sku", use_unity: "unit" };
}

/// What a question is read against.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Length of the store's windows.
    pub store_window: WindowLength,
    /// Opens page tokens.
    pub token_key: TokenKey,
    /// What to call the fields.
    pub fields: FieldNames,
}

/// A question that can be answered.
#[derive(Clone, Debug)]
pub struct UsageQuery {
    /// Which rows of the store count.
    pub filter: UsageFilter,
    /// What they are added up per.
    pub windows: Windows,
    /// What is kept apart.
    pub group_by: GroupBy,
    /// Most rows of the answer, 1 to 1000.
    pub page_size: usize,
    /// Key of the last row before this page.
    pub after: Option<GroupKey>,
    /// Hash of the question without page size and token; tokens are bound to it.
    pub fingerprint: u128,
}

impl UsageRequest {
    /// Checks every field.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with a violation for each field that is wrong.
    pub fn parse(&self, rules: &Rules) -> Result<UsageQuery, Problem> {
        let mut check = Check { violations: Vec::new() };
        let fields = rules.fields;
        let tenant = check.name("tenant", &self.tenant, Tenant::new);
        let product_sku = check.name(fields.product_sku, &self.product_sku, Sku::new);
        let use_unity = check.name(fields.use_unity, &self.use_unity, Unit::new);
        let kind = check.window(&self.window);
        let group_by = check.group_by(&self.group_by);
        let zone = check.zone(&self.time_zone);
        let page_size = check.take("page_size", paging::size(&self.page_size));
        let (from, to) = match &zone {
            Some(zone) => (
                check.moment("from", self.from.as_ref(), zone, rules.store_window),
                check.moment("to", self.to.as_ref(), zone, rules.store_window),
            ),
            None => (None, None),
        };
        let range = check.range(from, to);
        let windows = match (range, kind, &zone) {
            (Some(range), Some(kind), Some(zone)) => {
                let cut = Windows::cut(range, kind, zone, rules.store_window);
                check.take_windows(cut)
            }
            _ => None,
        };
        Problem::check(check.violations)?;
        let (Some(windows), Some(kind), Some(group_by), Some(zone), Some(page_size)) =
            (windows, kind, group_by, zone, page_size)
        else {
            return Err(Problem::internal("a field was refused without a reason"));
        };
        let Window { start: from, end: to } = windows.range();
        let filter = UsageFilter { tenant, product_sku, use_unity, from, to };
        let fingerprint = fingerprint(&filter, kind, &group_by, &zone);
        let after = paging::position(&rules.token_key, fingerprint, &self.page_token, |bytes| {
            GroupKey::decode(bytes)
        })?;
        Ok(UsageQuery { filter, windows, group_by, page_size, after, fingerprint })
    }
}

/// Collects what is wrong, so that one answer says it all.
struct Check {
    violations: Vec<Violation>,
}

impl Check {
    fn refuse(&mut self, field: &str, reason: &'static str, message: impl Into<String>) {
        self.violations.push(Violation::new(field, reason, message));
    }

    fn take<T>(&mut self, field: &str, value: Result<T, (&'static str, String)>) -> Option<T> {
        value.map_err(|(reason, message)| self.refuse(field, reason, message)).ok()
    }

    fn name<T>(
        &mut self,
        field: &str,
        text: &str,
        name: fn(&str) -> Result<T, NameError>,
    ) -> Option<T> {
        if text.is_empty() {
            return None;
        }
        let named = name(text).map_err(|error| (reasons::of_name(error), error.to_string()));
        self.take(field, named)
    }

    fn window(&mut self, word: &str) -> Option<WindowKind> {
        let kind = WindowKind::parse(word);
        if kind.is_none() {
            let message = if word.is_empty() {
                "needed: one of PT1H, P1D, P1M and total".to_owned()
            } else {
                let words = WindowKind::WORDS.iter().map(|(word, _)| *word);
                let hint = suggest::did_you_mean(word, words);
                format!("{word:?} is not one of PT1H, P1D, P1M and total{hint}")
            };
            self.refuse("window", reasons::WINDOW_INVALID, message);
        }
        kind
    }

    fn zone(&mut self, name: &str) -> Option<TimeZone> {
        if name.is_empty() {
            return Some(TimeZone::UTC);
        }
        let zone = TimeZone::get(name).ok().filter(|zone| !zone.is_unknown());
        if zone.is_none() {
            let known: Vec<_> = jiff::tz::db().available().collect();
            let hint = suggest::did_you_mean(name, known.iter().map(|name| name.as_str()));
            let message = format!("{name:?} is not in the IANA time zone database{hint}");
            self.refuse("time_zone", reasons::ZONE_UNKNOWN, message);
        }
        zone
    }

    fn moment(
        &mut self,
        field: &str,
        moment: Option<&Moment>,
        zone: &TimeZone,
        store: WindowLength,
    ) -> Option<Timestamp> {
        let Some(moment) = moment else {
            self.refuse(field, reasons::RANGE_INVALID, format!("needed: {TIME_HINT}"));
            return None;
        };
        let Some(time) = read_moment(moment, zone) else {
            let message = match moment {
                Moment::Text(text) => format!("{text:?} is not {TIME_HINT}"),
                Moment::Parts { .. } => {
                    "not a moment of the years 1 to 9999 in whole microseconds".to_owned()
                }
            };
            self.refuse(field, reasons::RANGE_INVALID, message);
            return None;
        };
        if store.start_of(time) != time {
            let seconds = store.duration().as_secs();
            let before = store.start_of(time);
            let message = format!(
                "{time} is inside one of the store's windows of {seconds} s, whose usage cannot be \
                 split; take {before} or the edge after it"
            );
            self.refuse(field, reasons::RANGE_INVALID, message);
            return None;
        }
        Some(time)
    }

    fn range(&mut self, from: Option<Timestamp>, to: Option<Timestamp>) -> Option<Window> {
        let (start, end) = (from?, to?);
        if start >= end {
            let message = format!("{end} is not after from, {start}; the range is half-open");
            self.refuse("to", reasons::RANGE_INVALID, message);
            return None;
        }
        Some(Window { start, end })
    }

    fn take_windows(&mut self, cut: Result<Windows, WindowsError>) -> Option<Windows> {
        let error = match cut {
            Ok(windows) => return Some(windows),
            Err(error) => error,
        };
        let (field, reason) = match error {
            WindowsError::NoHours(_) => ("window", reasons::WINDOW_INVALID),
            WindowsError::NotAligned { .. } => ("time_zone", reasons::ZONE_UNKNOWN),
            WindowsError::TooMany | WindowsError::OutOfCalendar => ("to", reasons::RANGE_INVALID),
        };
        self.refuse(field, reason, error.to_string());
        None
    }

    fn group_by(&mut self, names: &[String]) -> Option<GroupBy> {
        if names.is_empty() {
            return Some(GroupBy::RESOURCE);
        }
        let mut group_by = GroupBy {
            tenant: false,
            product_sku: false,
            use_unity: false,
            dimensions: KeptDimensions::Named(Vec::new()),
        };
        let before = self.violations.len();
        for (at, name) in names.iter().enumerate() {
            if let Err(message) = keep(&mut group_by, name) {
                let field = format!("group_by[{at}]");
                self.refuse(&field, reasons::GROUP_BY_INVALID, message);
            }
        }
        (self.violations.len() == before).then_some(group_by)
    }
}

fn keep(group_by: &mut GroupBy, name: &str) -> Result<(), String> {
    let again = || Err(format!("{name:?} is given twice"));
    let field = match name {
        "tenant" => &mut group_by.tenant,
        "product_sku" => &mut group_by.product_sku,
        "use_unity" => &mut group_by.use_unity,
        other => {
            let dimension = dimension_of(other)?;
            let KeptDimensions::Named(kept) = &mut group_by.dimensions else { return again() };
            if kept.iter().any(|known| known == dimension) {
                return again();
            }
            kept.push(dimension.to_owned());
            return Ok(());
        }
    };
    if std::mem::replace(field, true) { again() } else { Ok(()) }
}

/// Reads the name of a dimension. Names that are most likely a field misspelt are refused, because
/// every row lacks a dimension that nobody declared and the answer would look right.
fn dimension_of(text: &str) -> Result<&str, String> {
    let meant = match text {
        "sku" => Some("product_sku"),
        "unit" => Some("use_unity"),
        _ => suggest::nearest(text, ["tenant", "product_sku", "use_unity"]),
    };
    let prefixed = text.strip_prefix(DIMENSION_PREFIX);
    if let (None, Some(field)) = (prefixed, meant) {
        return Err(format!(
            "{text:?} is not a field; did you mean {field}? For a dimension of that name write \
             {DIMENSION_PREFIX}{text}"
        ));
    }
    let dimension = prefixed.unwrap_or(text);
    if dimension.is_empty() {
        return Err("empty; give tenant, product_sku, use_unity or a dimension".to_owned());
    }
    if dimension.len() > DIMENSION_BYTES_MAX || dimension.chars().any(char::is_control) {
        return Err(format!(
            "a dimension's name has at most {DIMENSION_BYTES_MAX} bytes and no control characters"
        ));
    }
    Ok(dimension)
}

fn read_moment(moment: &Moment, zone: &TimeZone) -> Option<Timestamp> {
    let (seconds, nanos) = match moment {
        Moment::Parts { seconds, nanos } => (*seconds, *nanos),
        // Ten characters, because jiff would also read the date out of a whole date and time.
        Moment::Text(text) if text.len() == 10 => {
            return windows::start_of(text.parse().ok()?, zone);
        }
        Moment::Text(text) => rfc3339_parts(text).ok()?,
    };
    // A moment that the pipeline would cut is refused, so that nobody takes the answer for another's.
    (nanos % 1_000 == 0).then(|| Timestamp::from_parts(seconds, nanos)).flatten()
}

fn fingerprint(
    filter: &UsageFilter,
    kind: WindowKind,
    group_by: &GroupBy,
    zone: &TimeZone,
) -> u128 {
    let fields = [group_by.tenant, group_by.product_sku, group_by.use_unity].map(u8::from);
    let (all, names) = match &group_by.dimensions {
        KeptDimensions::All => (1, &[][..]),
        KeptDimensions::Named(names) => (0, &names[..]),
    };
    // A set: the order in which dimensions are named changes no answer.
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    let from = filter.from.micros().to_le_bytes();
    let to = filter.to.micros().to_le_bytes();
    let flags = [kind as u8, all, fields[0], fields[1], fields[2]];
    let fixed: [&[u8]; 7] = [
        filter.tenant.as_ref().map_or("", Tenant::as_str).as_bytes(),
        filter.product_sku.as_ref().map_or("", Sku::as_str).as_bytes(),
        filter.use_unity.as_ref().map_or("", Unit::as_str).as_bytes(),
        &from,
        &to,
        &flags,
        zone.iana_name().unwrap_or("UTC").as_bytes(),
    ];
    hash::parts(0, fixed.into_iter().chain(names.iter().map(|name| name.as_bytes())))
}

#[cfg(test)]
mod tests;
