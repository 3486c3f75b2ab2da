//! Which append times the fold believes: those of the log, but where an operator took them back.

use domain::{Timestamp, log::LogRecord, rebase::Rebase};

/// What the journal says about the append times of one partition in one epoch. A few entries at the
/// most: each is a person's word.
#[derive(Clone, Debug, Default)]
pub(super) struct Believed(Vec<Rebase>);

impl Believed {
    pub(super) const fn of(rebases: Vec<Rebase>) -> Self {
        Self(rebases)
    }

    /// When the record reached the log. Of two words about it, the later one counts.
    pub(super) fn time_of(&self, record: &LogRecord<'_>) -> Timestamp {
        let newest_first = self.0.iter().rev();
        let mut said =
            newest_first.filter_map(|one| one.time_of(record.offset, record.appended_at));
        said.next().unwrap_or(record.appended_at)
    }
}
