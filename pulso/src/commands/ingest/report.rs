//! The report of a transfer: how many rows were sent, accepted and rejected, and why.

use domain::Timestamp;
use serde_json::{Value, json};
use tonic::Code;

use super::outcomes::Outcomes;
use crate::{
    client::Sent,
    commands::wire,
    ingest::{row::Rejection, times::TimeCounts},
    output::{Answer, counted},
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
        note(self.times.left_out, "rows skipped: their time is not before --before");
        if self.outcomes.is_none() {
            note(self.times.too_late, "of the rows sent are too late to be counted");
            note(self.times.in_the_future, "of the rows sent are too far ahead to be counted");
        }
        note(self.times.recent, "rows are recent enough to count without --backfill");
        notes.extend(self.outcomes.iter().flat_map(Outcomes::notes));
        notes.extend(self.remedy());
        notes
    }

    /// What to do about rows that were too late, where that counts no row twice.
    fn remedy(&self) -> Option<String> {
        let Late { earliest, remedy } = self.late.as_ref()?;
        let expected = self.times.too_late;
        let Some(outcomes) = &self.outcomes else {
            return (expected > 0).then(|| remedy.clone());
        };
        let (count, last) = outcomes.late().unwrap_or((0, *earliest));
        // Of rows that were rejected it is not known which they were.
        if count < expected && self.rejected == 0 {
            return Some(format!(
                "{} that looked too late count or counted before, so --before {earliest} would count some twice: put the rows that are dead letters into a file of their own, and send that as a backfill",
                counted(expected - count, "row")
            ));
        }
        (count > 0).then(|| match last >= *earliest {
            true => format!(
                "{remedy}. Rows from {earliest} to {last} became late on their way: put those that are dead letters into a file of their own, and send it as another backfill"
            ),
            false => remedy.clone(),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::refold::SetAside;

    use super::*;

    const EARLIEST: Timestamp = Timestamp::EPOCH;

    fn report(expected: u64, outcomes: Option<(u64, Timestamp)>) -> Report {
        let times = TimeCounts { too_late: expected, ..TimeCounts::default() };
        let late = Some(Late { earliest: EARLIEST, remedy: "the remedy".to_owned() });
        let outcomes = outcomes.map(|(count, last)| {
            let set_aside = SetAside { count, times: Some((last, last)), message: String::new() };
            let set_aside = BTreeMap::from([("too_late".to_owned(), set_aside)]);
            Outcomes {
                set_aside: if count > 0 { set_aside } else { BTreeMap::new() },
                ..Outcomes::default()
            }
        });
        Report { times, late, outcomes, ..Report::default() }
    }

    #[test]
    fn a_remedy_is_offered_only_where_it_counts_no_row_twice() {
        let before = Timestamp::from_micros(-1).unwrap();
        for (expected, outcomes, words) in [
            (0, None, None),
            (2, None, Some("the remedy")),
            (2, Some((2, before)), Some("the remedy")),
            // Sent again, the same rows are there twice.
            (2, Some((4, before)), Some("the remedy")),
            (0, Some((0, before)), None),
            (2, Some((1, before)), Some("1 row that looked too late count or counted before")),
            (2, Some((0, before)), Some("2 rows that looked too late count or counted before")),
            (0, Some((1, EARLIEST)), Some("became late on their way")),
            (2, Some((3, EARLIEST)), Some("became late on their way")),
        ] {
            let said = report(expected, outcomes).remedy();
            let fits = match (words, &said) {
                (None, None) => true,
                (Some(words), Some(said)) => said.contains(words),
                _ => false,
            };
            assert!(fits, "{expected} {outcomes:?}: {said:?}");
        }
    }
}
