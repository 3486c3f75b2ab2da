//! Charges that hold several lines together: amounts off, commitments, taxes.
//!
//! Each counts for the days on which it stays the same, whoever's contract it stands in, and is rounded
//! once, by the contract's rule, on a line of its own. A line that is for more days than such a stretch
//! counts in it by its days.

use std::collections::HashMap;

use domain::{
    Name, Window,
    contract::{Commitment, Contract, Discount, DiscountValue, Scope, Tax, TaxedKind},
};

use super::{Line, Subject, sum};
use crate::{
    Amount,
    rate::{Agreed, RatingTerms, Share, Step},
};

/// The lines that follow from the usage lines of a bill, in the order of the files: amounts off,
/// commitments, taxes. `None` where a sum leaves the range of money.
pub(super) fn charges(terms: &RatingTerms<'_>, usage: &[Line]) -> Option<Vec<Line>> {
    let mut charges = Charges { terms, usage, off: Vec::new() };
    let mut lines = charges.amounts_off()?;
    let commitments = charges.commitments()?;
    let taxes = charges.taxes(&lines, &commitments)?;
    lines.extend(commitments);
    lines.extend(taxes);
    Some(lines)
}

/// A named thing for as long as it stays the same.
struct Standing<'c, T> {
    thing: &'c T,
    /// The contract in which it begins.
    contract: &'c Name,
    window: Window,
}

/// The named things of the contracts: by name in the order in which they first appear, then by time.
fn over_time<'c, T: PartialEq>(
    parts: &[Agreed<'c>],
    things: fn(&'c Contract) -> &'c [T],
    name_of: fn(&T) -> &Name,
) -> Vec<Standing<'c, T>> {
    let mut names: HashMap<&Name, usize> = HashMap::new();
    let mut by_name: Vec<Vec<Standing<'c, T>>> = Vec::new();
    for part in parts {
        let Some(contract) = part.contract else { continue };
        for thing in things(contract) {
            let next = by_name.len();
            let place = *names.entry(name_of(thing)).or_insert(next);
            if place == next {
                by_name.push(Vec::new());
            }
            let known = &mut by_name[place];
            let goes_on = |last: &&mut Standing<'_, T>| {
                last.window.end == part.window.start && last.thing == thing
            };
            match known.last_mut().filter(goes_on) {
                Some(last) => last.window.end = part.window.end,
                None => {
                    known.push(Standing { thing, contract: &contract.name, window: part.window })
                }
            }
        }
    }
    by_name.into_iter().flatten().collect()
}

struct Charges<'a> {
    terms: &'a RatingTerms<'a>,
    usage: &'a [Line],
    /// What was taken off so far, of what and when.
    off: Vec<(&'a Scope, Window, Amount)>,
}

impl<'a> Charges<'a> {
    /// Discounts of an amount: each takes what it offers for its days, but no more than is left of the
    /// lines that it is for.
    fn amounts_off(&mut self) -> Option<Vec<Line>> {
        let mut lines = Vec::new();
        let discounts = over_time(&self.terms.parts, |it| &it.discounts, |it: &Discount| &it.name);
        for Standing { thing: discount, contract, window } in discounts {
            let DiscountValue::Amount(amount) = discount.value else { continue };
            let offered = self.terms.share(window).of(amount);
            let taken = self.taken(window, |scope| meet(scope, &discount.scope))?;
            let base = self.spent(&discount.scope, window)?.checked_add(taken)?;
            let most = Amount::of(offered).min(base.max(Amount::ZERO));
            let amount = most.checked_neg()?;
            if amount == Amount::ZERO {
                continue;
            }
            let subject = Subject::Discount(discount.name.clone());
            let step = Step::AmountOff { offered, base, amount };
            let line = self.line(subject, (contract, window), step)?;
            self.off.push((&discount.scope, window, line.amount));
            lines.push(line);
        }
        Some(lines)
    }

    /// What is missing to each commitment, or what the spend beyond it costs more or less.
    fn commitments(&self) -> Option<Vec<Line>> {
        let mut lines = Vec::new();
        let parts = &self.terms.parts;
        let commitments = over_time(parts, |it| &it.commitments, |it: &Commitment| &it.name);
        for Standing { thing: commitment, contract, window } in commitments {
            let off = self.taken(window, |scope| within(scope, &commitment.scope))?;
            let spent = self.spent(&commitment.scope, window)?.checked_add(off)?;
            let share = self.terms.share(window);
            if let Some(step) = commitment_step(commitment, share, spent)? {
                let subject = Subject::Commitment(commitment.name.clone());
                lines.push(self.line(subject, (contract, window), step)?);
            }
        }
        Some(lines)
    }

    fn taxes(&self, off: &[Line], commitments: &[Line]) -> Option<Vec<Line>> {
        let mut lines = Vec::new();
        let taxes = over_time(&self.terms.parts, |it| &it.taxes, |it: &Tax| &it.name);
        for Standing { thing: tax, contract, window } in taxes {
            let portion = |line: &Line| self.portion(line.span, line.amount, window);
            let mut base = Amount::ZERO;
            for kind in &tax.on {
                let of_kind = match kind {
                    TaxedKind::Usage => sum_all(self.usage.iter().chain(off).map(portion))?,
                    TaxedKind::Commitment => sum_all(commitments.iter().map(portion))?,
                };
                base = base.checked_add(of_kind)?;
            }
            let amount = base.scaled(tax.rate)?;
            if base == Amount::ZERO {
                continue;
            }
            let step = Step::Taxed { base, rate: tax.rate, amount };
            lines.push(self.line(Subject::Tax(tax.name.clone()), (contract, window), step)?);
        }
        Some(lines)
    }

    /// What the usage of a scope comes to in a stretch of time.
    fn spent(&self, scope: &Scope, window: Window) -> Option<Amount> {
        let lines = self.usage.iter().filter(|line| is_about(line, scope));
        sum_all(lines.map(|line| self.portion(line.span, line.amount, window)))
    }

    /// What was taken off in a stretch of time, of the scopes that are wanted.
    fn taken(&self, window: Window, wanted: impl Fn(&Scope) -> bool) -> Option<Amount> {
        let off = self.off.iter().filter(|(scope, ..)| wanted(scope));
        sum_all(off.map(|(_, span, amount)| self.portion(*span, *amount, window)))
    }

    /// What of an amount for a span counts in a window: all of it, or its share of the span's days.
    fn portion(&self, span: Window, amount: Amount, window: Window) -> Option<Amount> {
        let shared = span.overlap(window);
        if shared == span {
            return Some(amount);
        }
        let calendar = self.terms.calendar;
        let of = calendar.days(span);
        if of == 0 {
            return Some(if window.holds(span.start) { amount } else { Amount::ZERO });
        }
        let before = calendar.days(Window { start: span.start, end: shared.start });
        Share { before, days: calendar.days(shared), of }.of_amount(amount)
    }

    /// A line of one step, rounded.
    fn line(
        &self,
        subject: Subject,
        (contract, span): (&Name, Window),
        step: Step,
    ) -> Option<Line> {
        let rounding = self.terms.rounding;
        let exact = step.amount();
        let amount = exact.rounded(rounding)?;
        let mut steps = vec![step];
        if amount != exact {
            steps.push(Step::Rounded { rounding, amount: amount.checked_sub(exact)? });
        }
        Some(Line { subject, contract: contract.clone(), span, amount, rounding, steps })
    }
}

/// The outer `None` is past the range, the inner one says that nothing is due.
fn commitment_step(commitment: &Commitment, share: Share, spent: Amount) -> Option<Option<Step>> {
    let committed = share.of(commitment.amount);
    let missing = Amount::of(committed).checked_sub(spent)?;
    if missing > Amount::ZERO {
        return Some(Some(Step::Shortfall { committed, spent, amount: missing }));
    }
    let (beyond, factor) = (missing.checked_neg()?, commitment.overage_factor);
    let amount = beyond.scaled(factor)?.checked_sub(beyond)?;
    let overage = Step::Overage { committed, beyond, factor, amount };
    Some((amount != Amount::ZERO).then_some(overage))
}

/// Adds amounts of which none may be past the range.
fn sum_all(amounts: impl Iterator<Item = Option<Amount>>) -> Option<Amount> {
    sum(amounts.collect::<Option<Vec<Amount>>>()?)
}

fn is_about(line: &Line, scope: &Scope) -> bool {
    match &line.subject {
        Subject::Usage(usage) => scope.holds(&usage.product_sku),
        _ => false,
    }
}

/// Tells whether two scopes share a SKU.
fn meet(one: &Scope, other: &Scope) -> bool {
    match (one, other) {
        (Scope::All, _) | (_, Scope::All) => true,
        (Scope::Skus(one), Scope::Skus(other)) => one.iter().any(|sku| other.contains(sku)),
    }
}

/// Tells whether all of a scope is in another.
fn within(inner: &Scope, outer: &Scope) -> bool {
    match (inner, outer) {
        (_, Scope::All) => true,
        (Scope::All, Scope::Skus(_)) => false,
        (Scope::Skus(inner), Scope::Skus(outer)) => inner.iter().all(|sku| outer.contains(sku)),
    }
}
