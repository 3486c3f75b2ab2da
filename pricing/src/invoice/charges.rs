//! Charges that hold several lines of one contract together: amounts off, commitments, taxes.
//!
//! Each is rounded once, by the contract's rule, on a line of its own.

use domain::{
    Name, Window,
    contract::{Commitment, Contract, DiscountValue, Scope, TaxedKind},
};

use super::{Line, Subject, Usage, sum};
use crate::{
    Amount,
    rate::{Share, Step},
};

/// The lines that follow from a contract's usage lines, in the order of the file: amounts off,
/// commitments, taxes. `None` where a sum leaves the range of money.
pub(super) fn charges(
    contract: &Contract,
    share: Share,
    span: Window,
    usage: &[Line],
) -> Option<Vec<Line>> {
    let mut charges = Charges { contract, share, span, usage, off: Vec::new() };
    let mut lines = charges.amounts_off()?;
    let commitments = charges.commitments()?;
    let taxes = charges.taxes(&lines, &commitments)?;
    lines.extend(commitments);
    lines.extend(taxes);
    Some(lines)
}

struct Charges<'a> {
    contract: &'a Contract,
    share: Share,
    span: Window,
    usage: &'a [Line],
    /// What was taken off so far, and of what.
    off: Vec<(&'a Scope, Amount)>,
}

impl<'a> Charges<'a> {
    /// Discounts of an amount: each takes what it offers for the part, but no more than is left of
    /// the lines that it is for.
    fn amounts_off(&mut self) -> Option<Vec<Line>> {
        let mut lines = Vec::new();
        for discount in &self.contract.discounts {
            let DiscountValue::Amount(amount) = discount.value else { continue };
            let offered = self.share.of(amount);
            let taken = self.off.iter().filter(|(scope, _)| meet(scope, &discount.scope));
            let taken = sum(taken.map(|(_, amount)| *amount))?;
            let base = self.spent(&discount.scope)?.checked_add(taken)?;
            let most = Amount::of(offered).min(base.max(Amount::ZERO));
            let amount = most.checked_neg()?;
            if amount == Amount::ZERO {
                continue;
            }
            let step = Step::AmountOff { offered, base, amount };
            let line = self.line(Subject::Discount(discount.name.clone()), step)?;
            self.off.push((&discount.scope, line.amount));
            lines.push(line);
        }
        Some(lines)
    }

    /// What is missing to each commitment, or what the spend beyond it costs more or less.
    fn commitments(&self) -> Option<Vec<Line>> {
        let mut lines = Vec::new();
        for commitment in &self.contract.commitments {
            let off = self.off.iter().filter(|(scope, _)| within(scope, &commitment.scope));
            let off = sum(off.map(|(_, amount)| *amount))?;
            let spent = self.spent(&commitment.scope)?.checked_add(off)?;
            if let Some(step) = self.commitment(commitment, spent)? {
                lines.push(self.line(Subject::Commitment(commitment.name.clone()), step)?);
            }
        }
        Some(lines)
    }

    /// The outer `None` is past the range, the inner one says that nothing is due.
    fn commitment(&self, commitment: &Commitment, spent: Amount) -> Option<Option<Step>> {
        let committed = self.share.of(commitment.amount);
        let missing = Amount::of(committed).checked_sub(spent)?;
        if missing > Amount::ZERO {
            return Some(Some(Step::Shortfall { committed, spent, amount: missing }));
        }
        let (beyond, factor) = (missing.checked_neg()?, commitment.overage_factor);
        let amount = beyond.scaled(factor)?.checked_sub(beyond)?;
        let overage = Step::Overage { committed, beyond, factor, amount };
        Some((amount != Amount::ZERO).then_some(overage))
    }

    fn taxes(&self, off: &[Line], commitments: &[Line]) -> Option<Vec<Line>> {
        let mut lines = Vec::new();
        for tax in &self.contract.taxes {
            let mut base = Amount::ZERO;
            for kind in &tax.on {
                let of_kind = match kind {
                    TaxedKind::Usage => sum(self.usage.iter().chain(off).map(|line| line.amount))?,
                    TaxedKind::Commitment => sum(commitments.iter().map(|line| line.amount))?,
                };
                base = base.checked_add(of_kind)?;
            }
            let amount = base.scaled(tax.rate)?;
            if base == Amount::ZERO {
                continue;
            }
            let step = Step::Taxed { base, rate: tax.rate, amount };
            lines.push(self.line(Subject::Tax(tax.name.clone()), step)?);
        }
        Some(lines)
    }

    /// What the usage of a scope comes to.
    fn spent(&self, scope: &Scope) -> Option<Amount> {
        sum(self.usage.iter().filter(|line| is_about(line, scope)).map(|line| line.amount))
    }

    /// A line of one step, rounded.
    fn line(&self, subject: Subject, step: Step) -> Option<Line> {
        let rounding = self.contract.terms.rounding;
        let exact = step.amount();
        let amount = exact.rounded(rounding)?;
        let mut steps = vec![step];
        if amount != exact {
            steps.push(Step::Rounded { rounding, amount: amount.checked_sub(exact)? });
        }
        let contract: Name = self.contract.name.clone();
        Some(Line { subject, contract, span: self.span, amount, rounding, steps })
    }
}

fn is_about(line: &Line, scope: &Scope) -> bool {
    match &line.subject {
        Subject::Usage(Usage { product_sku, .. }) => scope.holds(product_sku),
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
