//! From billing's words to those of the wire.

use std::sync::Arc;

use domain::{Tenant, Timestamp, catalogue::Currency, contract::Contract};
use pricing::{
    agreement::{self, Difference, Thing},
    timeline::Stretch,
};
use proto::v1;

use crate::{
    books::{
        contracts::{Agreed, Applied, Filed},
        document::{Document, number_text},
        documents::Found,
        rejections::Rejection,
        runs::{
            Ended, Run,
            results::{Outcomes, Results, Totals, Words},
        },
    },
    due::{Due, Waiting},
    effects::Effect,
    run::progress::Progress,
};

pub(super) fn moment(moment: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = moment.parts();
    prost_types::Timestamp { seconds, nanos }
}

/// A contract or an amendment without its text.
pub(super) fn contract(applied: &Arc<Applied>) -> v1::Contract {
    let (valid_from, valid_to, supersedes) = match &applied.agreed {
        Agreed::Contract(contract) => {
            (contract.valid_from, contract.valid_to, contract.supersedes.as_slice())
        }
        Agreed::Amendment(amendment) => (amendment.from, amendment.until, &[][..]),
    };
    let text = |name: &domain::Name| name.as_str().to_owned();
    v1::Contract {
        name: text(applied.name()),
        tenant: applied.tenant.as_str().to_owned(),
        valid_from: Some(moment(valid_from)),
        valid_to: valid_to.map(moment),
        applied_at: Some(moment(applied.applied_at)),
        amends: applied.amends().map(text).unwrap_or_default(),
        supersedes: supersedes.iter().map(text).collect(),
        ..v1::Contract::default()
    }
}

/// A file that was applied, and when it holds among the tenant's contracts; one that cannot be read with
/// the reason.
pub(super) fn filed(filed: &Filed, stretches: &[Stretch<'_>]) -> v1::Contract {
    match filed {
        Filed::Read(applied) => held(contract(applied), applied, stretches),
        Filed::Unread(unread) => v1::Contract {
            name: unread.name.as_str().to_owned(),
            tenant: unread.tenant.as_str().to_owned(),
            applied_at: Some(moment(unread.applied_at)),
            amends: unread.amends.clone().unwrap_or_default(),
            unreadable: unread.message.clone(),
            ..v1::Contract::default()
        },
    }
}

/// Adds when it holds, among the tenant's contracts: an amendment while its contract does.
fn held(contract: v1::Contract, applied: &Applied, stretches: &[Stretch<'_>]) -> v1::Contract {
    let of = applied.amends().unwrap_or_else(|| applied.name());
    let mut own = stretches.iter().filter(|stretch| stretch.contract.name == *of);
    let Some(first) = own.next() else { return contract };
    let (mut from, mut to) = (first.window.start, own.next_back().unwrap_or(first).window.end);
    if let Agreed::Amendment(amendment) = &applied.agreed {
        from = from.max(amendment.from);
        to = amendment.until.map_or(to, |until| to.min(until));
    }
    if from >= to {
        return contract;
    }
    v1::Contract { holds_from: Some(moment(from)), holds_to: end(to), ..contract }
}

/// An end, but for the end of time.
fn end(to: Timestamp) -> Option<prost_types::Timestamp> {
    (to < Timestamp::MAX).then(|| moment(to))
}

/// What a contract says for a stretch of time.
pub(super) fn agreed(value: &Contract) -> v1::AgreedTerms {
    let things = agreement::things(value).into_iter();
    v1::AgreedTerms {
        from: Some(moment(value.valid_from)),
        to: value.valid_to.map(moment),
        things: things.map(|Thing { what, words }| v1::AgreedThing { what, words }).collect(),
    }
}

/// A thing of a contract that differs.
pub(super) fn difference(found: Difference) -> v1::AgreementChange {
    let Difference { window, what, before, after } = found;
    v1::AgreementChange {
        from: Some(moment(window.start)),
        to: end(window.end),
        what,
        before: before.unwrap_or_default(),
        after: after.unwrap_or_default(),
    }
}

/// A period that comes to something else.
pub(super) fn effect(found: Effect) -> v1::PeriodChange {
    let Effect { month, window, currency, old, new, documents } = found;
    v1::PeriodChange {
        period: month.to_string(),
        period_start: Some(moment(window.start)),
        period_end: Some(moment(window.end)),
        currency: currency.to_owned(),
        old: old.to_string(),
        new: new.to_string(),
        difference: new.checked_sub(old).map(|it| it.to_string()).unwrap_or_default(),
        documents,
    }
}

/// A run. What the books say of one that has closed counts, whoever worked on it.
pub(super) fn run(run: &Run, progress: Progress) -> v1::Run {
    let (state, ended_at, results) = match &run.ended {
        None => ("open", None, progress.results),
        Some(Ended::Closed(results, at)) => {
            let has_failures = results.outcomes.failed > 0;
            let state = if has_failures { "closed_with_failures" } else { "closed" };
            (state, Some(*at), results.clone())
        }
        Some(Ended::Cancelled(at)) => ("cancelled", Some(*at), progress.results),
    };
    let Results { tenants_done, outcomes, totals, failures, blocked } = results;
    v1::Run {
        number: run.number,
        period: run.request.month.to_string(),
        tenants: run.request.tenants.clone(),
        deltas: run.request.deltas,
        state: state.to_owned(),
        opened_at: Some(moment(run.opened_at)),
        ended_at: ended_at.map(moment),
        // The task that closed it may not yet have put its words away.
        doing: if run.ended.is_none() { progress.doing } else { String::new() },
        cut_at: run.cut.as_ref().map(|cut| moment(cut.taken_at)),
        outcomes: Some(wire_outcomes(outcomes)),
        tenants_done,
        failures: failures.into_iter().map(said).collect(),
        blocked: blocked.into_iter().map(said).collect(),
        totals: totals.iter().map(|(currency, totals)| total(currency, *totals)).collect(),
        threshold: run.request.threshold.to_string(),
    }
}

fn said(Words { tenant, message }: Words) -> v1::RunFailure {
    v1::RunFailure { tenant, message }
}

fn total(currency: &str, Totals { invoices, deltas }: Totals) -> v1::RunTotal {
    let digits = Currency::from_code(currency).map_or(0, Currency::minor_digits);
    let (invoices, deltas) = (invoices.text(digits), deltas.text(digits));
    v1::RunTotal { currency: currency.to_owned(), invoices, deltas }
}

const fn wire_outcomes(outcomes: Outcomes) -> v1::RunOutcomes {
    v1::RunOutcomes {
        invoices: outcomes.invoices,
        deltas: outcomes.deltas,
        unchanged: outcomes.unchanged,
        empty: outcomes.empty,
        not_due: outcomes.not_due,
        unpriced: outcomes.unpriced,
        uncovered: outcomes.uncovered,
        blocked: outcomes.blocked,
        failed: outcomes.failed,
        below_threshold: outcomes.below_threshold,
    }
}

/// What is due, with at most so many tenants of each month.
pub(super) fn due(due: &Due, tenants_max: usize) -> v1::ListDuePeriodsResponse {
    let months = due.months.iter().map(|(month, tenants)| {
        let count = |state: &str| {
            tenants.values().filter(|waiting| waiting.as_str() == state).count() as u64
        };
        let mut listed: Vec<_> = tenants.iter().collect();
        listed.sort_by_key(|(_, waiting)| match waiting {
            Waiting::Failed(_) => 0,
            Waiting::Blocked(_) => 1,
            Waiting::Run => 2,
        });
        listed.truncate(tenants_max);
        let tenant = |(tenant, waiting): (&Tenant, &Waiting)| v1::DueTenant {
            tenant: tenant.to_string(),
            state: waiting.as_str().to_owned(),
            message: match waiting {
                Waiting::Run => String::new(),
                Waiting::Failed(why) | Waiting::Blocked(why) => why.clone(),
            },
        };
        v1::DueMonth {
            period: month.to_string(),
            waiting: count("waiting"),
            failed: count("failed"),
            blocked: count("blocked"),
            tenants: listed.into_iter().map(tenant).collect(),
        }
    });
    v1::ListDuePeriodsResponse {
        looked_at: Some(moment(due.looked_at)),
        from: due.from.to_string(),
        months: months.collect(),
    }
}

/// A document without its lines.
pub(super) fn invoice(Found { tenant, document }: &Found) -> v1::Invoice {
    let Document { draft, state, number, issued_at, payments, void_reason, .. } = document;
    let payments = payments.iter().map(|payment| v1::CreditPayment {
        credit: payment.credit.clone(),
        amount: draft.text(payment.amount),
    });
    let (first_day, last_day) = draft.days();
    v1::Invoice {
        number: number.map(number_text).unwrap_or_default(),
        kind: draft.kind.as_str().to_owned(),
        state: state.as_str().to_owned(),
        tenant: tenant.as_str().to_owned(),
        currency: draft.currency.clone(),
        total: draft.text(draft.total),
        paid: document.paid().map(|paid| draft.text(paid)).unwrap_or_default(),
        due: document.due().map(|due| draft.text(due)).unwrap_or_default(),
        due_before_void: document.due_before_void().map(|due| draft.text(due)),
        period_start: Some(moment(draft.start)),
        period_end: Some(moment(draft.end)),
        issued_at: issued_at.map(moment),
        run: draft.run,
        payments: payments.collect(),
        void_reason: void_reason.clone().unwrap_or_default(),
        digest: draft.content.clone(),
        document: None,
        first_day,
        last_day,
        time_zone: draft.time_zone.clone(),
        left_out: None,
    }
}

pub(super) fn rejection(Rejection { number, body, replayed_as }: Rejection) -> v1::Rejection {
    v1::Rejection {
        number,
        message: body.message,
        tenant: body.tenant,
        invoice: body.invoice,
        consumer: body.consumer,
        reason: body.reason,
        rejected_at: Some(moment(body.rejected_at)),
        replayed_as: replayed_as.unwrap_or_default(),
    }
}
