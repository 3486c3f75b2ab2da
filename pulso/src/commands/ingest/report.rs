//! The report of a transfer: how many rows were sent, accepted and rejected, and why.

use domain::Timestamp;
use serde_json::{Value, json};
use tonic::Code;

use super::outcomes::Outcomes;
use crate::{
    client::Sent,
    commands::wire,
    ingest::{row::Rejection, times::TimeCounts},
    output::Answer,
};

/// Most rejections that are listed; the rest is counted, so that a file of nothing but bad rows
/// does not fill the memory.
const REJECTIONS_MAX: usize = 10_000;

/// What became of the rows so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Rows handed to the server.
    pub(crate) sent: u64,
    /// Rows durable in the log.
    pub(crate) accepted: u64,
    /// Rows not taken, by this program or by the server.
    pub(crate) rejected: u64,
    /// Rows of which it is not known whether they are in the log.
    pub(crate) unknown: u64,
    /// Rows by what their times mean; all zero where the server does not tell its bounds.
    pub(crate) times: TimeCounts,
    /// What is too late, where rows are judged by their times and the server tells its bounds.
    pub(crate) late: Option<Late>,
    /// What became of the rows, where it was asked and is known.
    pub(crate) outcomes: Option<Outcomes>,
    rejections: Vec<Rejection>,
}

/// Where rows began to be in time, and how the others can be counted.
#[derive(Clone, Debug)]
pub(crate) struct Late {
    /// Rows before this are too late.
    pub(crate) earliest: Timestamp,
    /// What to do, in words.
    pub(crate) remedy: String,
}

impl Report {
    /// Tells whether every row is in a total, as far as is known.
    pub(crate) fn is_whole(&self) -> bool {
        let TimeCounts { too_late, in_the_future, .. } = self.times;
        let set_aside = match &self.outcomes {
            Some(outcomes) => outcomes.not_counted(),
            None => too_late + in_the_future,
        };
        self.rejected == 0 && set_aside == 0
    }

    /// Counts and lists a row that was not taken.
    pub(crate) fn refuse(&mut self, rejection: Rejection) {
        self.rejected += 1;
        self.list(rejection);
    }

    /// Takes the final ack of a batch.
    pub(crate) fn settle(&mut self, rows: &[u64], Sent { ack, .. }: Sent) {
        let code = Code::from_i32(ack.code);
        if code != Code::Ok {
            for row in rows {
                self.refuse(Rejection {
                    row: *row,
                    code: code_name(code),
                    reason: ack.reason.clone(),
                    field: String::new(),
                    message: ack.message.clone(),
                });
            }
            return;
        }
        self.accepted += u64::from(ack.accepted);
        self.rejected += u64::from(ack.rejected);
        for error in ack.errors {
            let place = usize::try_from(error.index).unwrap_or(usize::MAX);
            // An index beyond the batch names no row of ours: row 0 says so.
            let row = rows.get(place).copied().unwrap_or(0);
            let prefix = format!("pulses[{}]", error.index);
            let field = error.field.strip_prefix(&prefix).unwrap_or(&error.field);
            self.list(Rejection {
                row,
                code: code_name(Code::from_i32(error.code)),
                reason: error.reason,
                field: field.trim_start_matches('.').to_owned(),
                message: error.message,
            });
        }
    }

    fn list(&mut self, rejection: Rejection) {
        if self.rejections.len() < REJECTIONS_MAX {
            self.rejections.push(rejection);
        }
    }

    /// The answer, with the rejections by row.
    pub(crate) fn answer(&self) -> Answer {
        let mut listed: Vec<&Rejection> = self.rejections.iter().collect();
        listed.sort_by_key(|rejection| rejection.row);
        let unlisted = self.rejected - (listed.len() as u64).min(self.rejected);
        let TimeCounts { too_late, in_the_future, left_out, .. } = self.times;
        let document = json!({
            "sent": wire::integer(self.sent),
            "accepted": wire::integer(self.accepted),
            "rejected": wire::integer(self.rejected),
            "rejections": listed.into_iter().map(rejection).collect::<Vec<_>>(),
            "rejections_unlisted": wire::integer(unlisted),
            "outcome_unknown": wire::integer(self.unknown),
            "too_late": wire::integer(too_late),
            "in_the_future": wire::integer(in_the_future),
            "left_out": wire::integer(left_out),
            "in_time_from": self.late.as_ref().map(|late| late.earliest.to_string()),
            "outcomes": self.outcomes.as_ref().map(Outcomes::document),
        });
        let columns = ["row", "reason", "field", "message"];
        Answer { notes: self.notes(unlisted), ..Answer::list(document, "rejections", &columns) }
    }

    fn notes(&self, unlisted: u64) -> Vec<String> {
        let mut notes = vec![format!(
            "{} sent, {} accepted, {} rejected",
            self.sent, self.accepted, self.rejected
        )];
        let mut note = |count: u64, what: &str| {
            if count > 0 {
                notes.push(format!("{count} {what}"));
            }
        };
        note(unlisted, "more rejections are not listed");
        note(self.unknown, "rows may be in the log or not");
        note(self.times.left_out, "rows left out, because they are not before --before");
        if self.outcomes.is_none() {
            note(self.times.too_late, "of the rows sent are too late to be counted");
            note(self.times.in_the_future, "of the rows sent are too far ahead to be counted");
        }
        note(self.times.recent, "rows are young enough to have been counted without --backfill");
        notes.extend(self.outcomes.iter().flat_map(Outcomes::notes));
        notes.extend(self.remedy());
        notes
    }

    /// What to do about rows that were too late. It would count twice what was in time at first and
    /// late on its way, so such rows are told apart.
    fn remedy(&self) -> Option<String> {
        let late = self.late.as_ref()?;
        let late_last = match &self.outcomes {
            Some(outcomes) => Some(outcomes.late_last()?),
            None if self.times.too_late == 0 => return None,
            None => None,
        };
        Some(match late_last {
            Some(last) if last >= late.earliest => format!(
                "{}. Rows of {} to {last} became late on their way: put those of them that are dead letters into a file of their own and send it as another backfill",
                late.remedy, late.earliest
            ),
            _ => late.remedy.clone(),
        })
    }
}

fn rejection(rejection: &Rejection) -> Value {
    let Rejection { row, code, reason, field, message } = rejection;
    json!({
        "row": wire::integer(*row),
        "code": code,
        "reason": reason,
        "field": field,
        "message": message,
    })
}

/// The canonical name of a code.
const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
