//! Timeline: which of a tenant's contracts holds when, and the billing periods that follow.

use domain::{
    Timestamp, Window,
    contract::{Contract, Terms},
};

use crate::moment::Calendar;

/// A stretch of time in which one contract holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch<'c> {
    /// The contract.
    pub contract: &'c Contract,
    /// The stretch.
    pub window: Window,
}

/// A billing period: what one invoice is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillingPeriod<'c> {
    /// From anchor to anchor: what amounts and allowances are for.
    pub whole: Window,
    /// The stretch of it that is billed: all, but where contracts begin, end, or go over into others
    /// with other terms.
    pub window: Window,
    /// The contracts that hold in it, in order. They have the same terms and tile the window, but
    /// for time in which none holds.
    pub parts: Vec<Stretch<'c>>,
}

impl<'c> BillingPeriod<'c> {
    /// How and when it is billed: the payment term is that of its last day.
    ///
    /// # Panics
    /// Never for a period that [`periods`] gave: it has a part.
    #[must_use]
    pub fn terms(&self) -> &'c Terms {
        &self.parts.last().expect("a period is of some contract").contract.terms
    }
}

/// The stretches in which contracts hold, in order of time. `contracts` are a tenant's; the values of
/// one that was [amended](Contract::amended) have its name, and come together and in order.
///
/// Each holds from its first day until its own end, or until the next one begins. One that another
/// names, which begins before it or with it, does not begin. So the order of `contracts` decides
/// nothing, but of two from one first day of which neither names the other: then the later one holds.
#[must_use]
pub fn stretches<'c>(contracts: impl IntoIterator<Item = &'c Contract>) -> Vec<Stretch<'c>> {
    let contracts: Vec<&Contract> = contracts.into_iter().collect();
    let mut agreed: Vec<Agreed<'_, 'c>> =
        contracts.chunk_by(|one, other| one.name == other.name).map(Agreed::of).collect();
    let all = agreed.clone();
    agreed.retain(|one| !all.iter().any(|other| other.keeps_out(one)));
    agreed.sort_by_key(|one| one.window.start);
    let next = agreed.iter().skip(1).map(|next| next.window.start).chain([Timestamp::MAX]);
    let held = agreed.iter().zip(next).flat_map(|(one, next)| {
        let Window { start, end } = one.window;
        let held = Window { start, end: end.min(next) };
        one.values
            .iter()
            .map(move |value| Stretch { contract: value, window: value.agreed().overlap(held) })
    });
    held.filter(|stretch| stretch.window.start < stretch.window.end).collect()
}

/// A contract with its values, as amendments make them.
#[derive(Clone)]
struct Agreed<'v, 'c> {
    values: &'v [&'c Contract],
    window: Window,
}

impl<'v, 'c> Agreed<'v, 'c> {
    /// Takes values that tile the time of a contract, at least one.
    fn of(values: &'v [&'c Contract]) -> Self {
        let (first, last) = (values[0], values[values.len() - 1]);
        let window = Window { start: first.valid_from, end: last.agreed().end };
        Self { values, window }
    }

    fn keeps_out(&self, other: &Self) -> bool {
        let (own, other_name) = (self.values[0], &other.values[0].name);
        own.supersedes.contains(other_name) && self.window.start <= other.window.start
    }
}

/// The parts of a month in which none of the contracts holds, in order. The month is one of the last
/// contract's zone; `None` as for [`periods`].
#[must_use]
pub fn gaps(stretches: &[Stretch<'_>], month: Month) -> Option<Vec<Window>> {
    let Some(last) = stretches.last() else { return Some(Vec::new()) };
    let month = month.window(&Calendar::named(last.contract.terms.time_zone.as_str())?)?;
    let (mut gaps, mut from) = (Vec::new(), month.start);
    for stretch in stretches {
        let held = stretch.window.overlap(month);
        if held.start < held.end {
            gaps.push(Window { start: from, end: held.start });
            from = held.end;
        }
    }
    gaps.push(Window { start: from, end: month.end });
    gaps.retain(|gap| gap.start < gap.end);
    Some(gaps)
}

/// The billing periods that begin in a month of the terms' own zone, in order. A period goes on from
/// one contract to the next where their terms [go on](Terms::go_on); a tenant's first one begins its
/// own. `None` for a zone that this program does not know, which no contract that was applied has.
#[must_use]
pub fn periods<'c>(stretches: &[Stretch<'c>], month: Month) -> Option<Vec<BillingPeriod<'c>>> {
    let mut periods = Vec::new();
    for alike in stretches.chunk_by(go_on) {
        let terms = &alike.first().expect("a chunk has an entry").contract.terms;
        let calendar = Calendar::named(terms.time_zone.as_str())?;
        let agreed = Window {
            start: alike.first().expect("as above").window.start,
            end: alike.last().expect("as above").window.end,
        };
        let asked = month.window(&calendar)?;
        // A period that begins in the month lies within it and the next two.
        let from = agreed.start.max(asked.start);
        let to = agreed.end.min(asked.end);
        if to <= from {
            continue;
        }
        for whole in calendar.periods(terms.anchor_day, from, to) {
            let window = whole.overlap(agreed);
            if asked.start <= window.start && window.start < asked.end {
                periods.push(BillingPeriod { whole, window, parts: parts(alike, window) });
            }
        }
    }
    Some(periods)
}

/// Tells whether a period goes on where one stretch follows another.
fn go_on(one: &Stretch<'_>, other: &Stretch<'_>) -> bool {
    let Stretch { contract, window } = one;
    other.contract.terms.go_on(&contract.terms)
        && window.end == other.window.start
        && !contract.is_standard()
}

fn parts<'c>(stretches: &[Stretch<'c>], window: Window) -> Vec<Stretch<'c>> {
    let clipped = stretches.iter().map(|stretch| Stretch {
        contract: stretch.contract,
        window: stretch.window.overlap(window),
    });
    clipped.filter(|stretch| stretch.window.start < stretch.window.end).collect()
}

/// A calendar month, in whatever zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    /// 1 to 9999.
    pub year: i16,
    /// 1 to 12.
    pub month: i8,
}

impl Month {
    /// The month of a moment in UTC.
    #[must_use]
    pub fn of(moment: Timestamp) -> Self {
        moment.to_string()[..7].parse().expect("a moment prints its month first")
    }

    /// The month after.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.month {
            12 => Self { year: self.year + 1, month: 1 },
            month => Self { year: self.year, month: month + 1 },
        }
    }

    /// The month before.
    #[must_use]
    pub const fn previous(self) -> Self {
        match self.month {
            1 => Self { year: self.year - 1, month: 12 },
            month => Self { year: self.year, month: month - 1 },
        }
    }

    /// The months from one to another, in order: the newest, at most so many, and how many older ones are
    /// left out.
    #[must_use]
    pub fn newest(first: Self, last: Self, most: usize) -> (Vec<Self>, usize) {
        let count = |month: Self| i64::from(month.year) * 12 + i64::from(month.month);
        let all = usize::try_from(count(last) - count(first) + 1).unwrap_or(0);
        let back = std::iter::successors(Some(last), |month| Some(month.previous()));
        let mut months: Vec<Self> = back.take(all.min(most)).collect();
        months.reverse();
        (months, all.saturating_sub(most))
    }

    /// From its first local midnight to the next month's.
    #[must_use]
    pub fn window(self, calendar: &Calendar) -> Option<Window> {
        let next = self.next();
        let start = calendar.midnight(self.year, self.month, 1)?;
        Some(Window { start, end: calendar.midnight(next.year, next.month, 1)? })
    }
}

/// Text that is no month, as 2024-09 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a month: write it as 2024-09")]
pub struct NotAMonth;

impl std::str::FromStr for Month {
    type Err = NotAMonth;

    fn from_str(text: &str) -> Result<Self, NotAMonth> {
        crate::moment::month(text).ok_or(NotAMonth)?;
        let (year, month) = text.split_once('-').ok_or(NotAMonth)?;
        let (year, month) = (year.parse().ok(), month.parse().ok());
        Ok(Self { year: year.ok_or(NotAMonth)?, month: month.ok_or(NotAMonth)? })
    }
}

impl std::fmt::Display for Month {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

#[cfg(test)]
mod tests;
