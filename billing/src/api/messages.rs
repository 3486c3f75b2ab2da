//! From billing's words to those of the wire.

use std::sync::Arc;

use domain::Timestamp;
use proto::v1;

use crate::{
    books::{
        contracts::AppliedContract,
        document::{Document, number_text},
        documents::Found,
        rejections::Rejection,
        runs::{Ended, Outcomes, Run},
    },
    run::progress::Progress,
};

pub(super) fn moment(moment: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = moment.parts();
    prost_types::Timestamp { seconds, nanos }
}

/// A contract without its text.
pub(super) fn contract(applied: &Arc<AppliedContract>) -> v1::Contract {
    let contract = &applied.contract;
    v1::Contract {
        name: contract.name.as_str().to_owned(),
        tenant: contract.tenant.as_str().to_owned(),
        valid_from: Some(moment(contract.valid_from)),
        valid_to: contract.valid_to.map(moment),
        applied_at: Some(moment(applied.applied_at)),
        text: String::new(),
    }
}

pub(super) fn run(run: &Run, progress: Progress) -> v1::Run {
    let (state, ended_at, outcomes) = match run.ended {
        None => ("open", None, progress.outcomes),
        Some(Ended::Closed(outcomes, at)) => ("closed", Some(at), outcomes),
        Some(Ended::Cancelled(at)) => ("cancelled", Some(at), progress.outcomes),
    };
    let by_tenant = |list: Vec<(String, String)>| {
        let entries = list.into_iter();
        entries.map(|(tenant, message)| v1::RunFailure { tenant, message }).collect()
    };
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
        tenants_done: progress.tenants_done,
        failures: by_tenant(progress.failures),
        blocked: by_tenant(progress.blocked),
    }
}

const fn wire_outcomes(outcomes: Outcomes) -> v1::RunOutcomes {
    let Outcomes { invoices, deltas, unchanged, empty, not_due, unpriced, blocked, uncovered } =
        outcomes;
    v1::RunOutcomes { invoices, deltas, unchanged, empty, not_due, unpriced, blocked, uncovered }
}

/// A document without its lines.
pub(super) fn invoice(Found { tenant, document }: &Found) -> v1::Invoice {
    let Document { draft, state, number, issued_at, payments, void_reason, .. } = document;
    let payments = payments.iter().map(|payment| v1::CreditPayment {
        credit: payment.credit.clone(),
        amount: draft.text(payment.amount),
    });
    v1::Invoice {
        number: number.map(number_text).unwrap_or_default(),
        kind: draft.kind.as_str().to_owned(),
        state: state.as_str().to_owned(),
        tenant: tenant.as_str().to_owned(),
        currency: draft.currency.clone(),
        total: draft.text(draft.total),
        due: document.due().map(|due| draft.text(due)).unwrap_or_default(),
        period_start: Some(moment(draft.start)),
        period_end: Some(moment(draft.end)),
        issued_at: issued_at.map(moment),
        run: draft.run,
        payments: payments.collect(),
        void_reason: void_reason.clone().unwrap_or_default(),
        digest: draft.content.clone(),
        document: None,
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
