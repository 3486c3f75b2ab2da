//! Effects: what a change of the books would do to a tenant's billing periods, by the totals as they
//! stand now. It writes nothing.

use std::collections::BTreeSet;

use domain::{BillingStore, BlockStore, Timestamp, Window};
use edge::Compute;
use pricing::{
    Amount,
    invoice::{Invoice, Line},
    timeline::Month,
};

use crate::{
    BillingError,
    account::Account,
    books::{
        Books,
        document::number_text,
        ledger::{Group, Ledger},
    },
    periods::{self, Billable},
    rater::Rater,
    usage::Below,
};

/// Most months that are looked at: the newest. Each is rated twice.
const MONTHS_MAX: usize = 60;

/// What a change would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// Periods that would come to something else, in order of time.
    pub(crate) periods: Vec<Effect>,
    /// Months that were not looked at.
    pub(crate) months_left_out: usize,
}

/// A billing period that would come to something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) month: Month,
    pub(crate) window: Window,
    /// Currency of the amounts.
    pub(crate) currency: &'static str,
    /// What it comes to before.
    pub(crate) old: Amount,
    /// What it comes to after.
    pub(crate) new: Amount,
    /// Numbers of the documents that bill it.
    pub(crate) documents: Vec<String>,
}

/// A billing period, rated as it is and as it would be.
pub(crate) struct PeriodComparison {
    /// The period as it would be, where there is one; else as it is.
    pub(crate) period: Billable,
    /// `None` where there is no such period.
    pub(crate) before: Option<Invoice>,
    /// `None` where there would be none.
    pub(crate) after: Option<Invoice>,
    /// Numbers of the documents that bill it.
    pub(crate) documents: Vec<String>,
}

impl PeriodComparison {
    /// Tells whether any line differs.
    pub(crate) fn differs(&self) -> bool {
        lines(self.before.as_ref()) != lines(self.after.as_ref())
    }

    /// Tells whether either side has a line.
    pub(crate) fn has_lines(&self) -> bool {
        [&self.before, &self.after].into_iter().any(|side| !lines(side.as_ref()).is_empty())
    }
}

fn lines(invoice: Option<&Invoice>) -> &[Line] {
    invoice.map_or(&[], |invoice| &invoice.lines)
}

impl From<PeriodComparison> for Effect {
    fn from(compared: PeriodComparison) -> Self {
        let PeriodComparison { period, before, after, documents } = compared;
        let total = |invoice: Option<Invoice>| invoice.map_or(Amount::ZERO, |it| it.total);
        Self {
            month: period.month,
            window: period.window,
            currency: period.currency.code(),
            old: total(before),
            new: total(after),
            documents,
        }
    }
}

/// What a change is looked at with.
pub(crate) struct Comparison<'a, U, B> {
    pub(crate) books: &'a Books<B>,
    pub(crate) rater: &'a Rater<U>,
    pub(crate) compute: &'a Compute,
    pub(crate) before: &'a Account,
    pub(crate) after: &'a Account,
}

impl<U: BlockStore, B: BillingStore> Comparison<'_, U, B> {
    /// Compares the periods that begin in the months from one moment to another. A period that exists on
    /// one side only costs nothing on the other.
    ///
    /// # Errors
    /// When the store fails, or a period cannot be billed.
    pub(crate) async fn effects(
        &self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Effects, BillingError> {
        let (months, months_left_out) = months(from, to);
        let below = self.rater.usage().now().await?;
        let ledger = self.books.documents.ledger(&self.before.tenant).await?;
        let mut periods = Vec::new();
        for month in months {
            let compared = self.compare(&below, &ledger, (month, to)).await?;
            periods
                .extend(compared.into_iter().filter(PeriodComparison::differs).map(Effect::from));
        }
        Ok(Effects { periods, months_left_out })
    }

    /// Rates the periods that begin in a month and before a moment on both sides, in order.
    ///
    /// # Errors
    /// When the store fails, or a period cannot be billed.
    pub(crate) async fn compare(
        &self,
        below: &Below,
        ledger: &Ledger,
        (month, to): (Month, Timestamp),
    ) -> Result<Vec<PeriodComparison>, BillingError> {
        let old = periods::billable(&self.before.contracts, month)?;
        let new = periods::billable(&self.after.contracts, month)?;
        let mut compared = Vec::new();
        for (start, currency) in beginnings(&old, &new, to) {
            let of = |side: &[Billable]| {
                let is_it = |period: &&Billable| {
                    period.window.start == start && period.currency.code() == currency
                };
                side.iter().find(is_it).copied()
            };
            let (old, new) = (of(&old), of(&new));
            let Some(period) = new.or(old) else { continue };
            let before = self.rate(below, self.before, old).await?;
            let after = self.rate(below, self.after, new).await?;
            let documents = documents(ledger, period);
            compared.push(PeriodComparison { period, before, after, documents });
        }
        Ok(compared)
    }

    async fn rate(
        &self,
        below: &Below,
        account: &Account,
        period: Option<Billable>,
    ) -> Result<Option<Invoice>, BillingError> {
        let Some(period) = period else { return Ok(None) };
        let of = (period.month, period.window);
        Ok(Some(self.rater.rate_window(self.compute, below, account, of).await?))
    }
}

/// Numbers of the documents that bill a period.
fn documents(ledger: &Ledger, period: Billable) -> Vec<String> {
    numbers(&ledger.group(period.window.start, period.currency.code()))
}

/// The numbers of some documents.
pub(crate) fn numbers(group: &Group) -> Vec<String> {
    group.documents().iter().filter_map(|found| found.number.map(number_text)).collect()
}

/// When periods begin, before a moment, and in which currency, in order.
fn beginnings(
    old: &[Billable],
    new: &[Billable],
    to: Timestamp,
) -> BTreeSet<(Timestamp, &'static str)> {
    let all = old.iter().chain(new).filter(|period| period.window.start < to);
    all.map(|period| (period.window.start, period.currency.code())).collect()
}

/// The months whose periods may hold any moment of a span, and how many older ones are left out. A
/// period reaches into the month after its own, and zones begin a month a day earlier or later.
fn months(from: Timestamp, to: Timestamp) -> (Vec<Month>, usize) {
    let first = Month::of(from).previous().previous();
    Month::newest(first, Month::of(to).next(), MONTHS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_months_are_looked_at_and_the_older_ones_counted() {
        let at = |text: &str| text.parse().unwrap();
        let to = at("2026-11-30T00:00:00Z");
        let shown = |from: &str| {
            let (months, left_out) = months(at(from), to);
            let text = |month: Option<&Month>| month.map(ToString::to_string).unwrap_or_default();
            (text(months.first()), text(months.last()), months.len(), left_out)
        };
        let row = |first: &str, count, left_out| {
            (first.to_owned(), "2026-12".to_owned(), count, left_out)
        };
        assert_eq!(shown("2026-11-01T00:00:00Z"), row("2026-09", 4, 0));
        assert_eq!(shown("2022-03-01T00:00:00Z"), row("2022-01", 60, 0));
        assert_eq!(shown("2022-02-28T23:00:00Z"), row("2022-01", 60, 1));
        assert_eq!(months(to, at("2026-01-01T00:00:00Z")).0, [], "the future has no periods yet");
    }
}
