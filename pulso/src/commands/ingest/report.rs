//! The report of a transfer: how many rows were sent, accepted and rejected, and why.

use serde_json::{Value, json};
use tonic::Code;

use crate::{client::Sent, commands::wire, ingest::row::Rejection, output::Answer};

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
    rejections: Vec<Rejection>,
}

impl Report {
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
        let document = json!({
            "sent": wire::integer(self.sent),
            "accepted": wire::integer(self.accepted),
            "rejected": wire::integer(self.rejected),
            "rejections": listed.into_iter().map(rejection).collect::<Vec<_>>(),
            "rejections_unlisted": wire::integer(unlisted),
            "outcome_unknown": wire::integer(self.unknown),
        });
        let columns = ["row", "reason", "field", "message"];
        let mut notes = vec![format!(
            "{} sent, {} accepted, {} rejected",
            self.sent, self.accepted, self.rejected
        )];
        if unlisted > 0 {
            notes.push(format!("{unlisted} more rejections are not listed"));
        }
        if self.unknown > 0 {
            notes.push(format!("{} rows may be in the log or not", self.unknown));
        }
        Answer { notes, ..Answer::list(document, "rejections", &columns) }
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
