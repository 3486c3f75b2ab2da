//! Cron expressions: which moments match, as pure functions of the moment.

use std::{fmt, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use croner::{
    Cron,
    errors::CronError,
    parser::{CronParser, Seconds, Year},
};
use domain::Timestamp;

/// A clock that goes back by less than this was corrected; by more, it was set.
const CORRECTION_MAX: Duration = Duration::from_secs(60);

/// A cron expression of six fields that matches some moment, in UTC.
#[derive(Clone)]
pub struct CronExpression {
    text: String,
    /// Shared, because the engine's bit sets are large and a schedule is copied about.
    cron: Arc<Cron>,
}

/// An expression that is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It cannot be read.
    #[error(
        "schedule `{expression}` cannot be read: {message}; six fields are needed: second, \
         minute, hour, day of month, month, day of week, in UTC, such as `0 0 * * * *` for every \
         full hour or `0 30 2 * * MON-FRI` for 02:30 on weekdays"
    )]
    Unreadable {
        /// The expression as given.
        expression: String,
        /// What is wrong with it.
        message: String,
    },
    /// It can be read, and no day is ever like that.
    #[error(
        "schedule `{expression}` is never due: no date matches its day of month, month and day of \
         week together; put `*` in the fields that do not matter"
    )]
    NeverDue {
        /// The expression as given.
        expression: String,
    },
}

impl CronExpression {
    /// Reads an expression.
    ///
    /// # Errors
    /// See [`ScheduleError`].
    pub fn parse(expression: &str) -> Result<Self, ScheduleError> {
        let unreadable =
            |message| ScheduleError::Unreadable { expression: expression.to_owned(), message };
        let fields: Vec<&str> = expression.split_whitespace().collect();
        // Counted here, because the engine's own message speaks of five or six. A single `@hourly`
        // stands for six.
        if fields.len() != 6 && !expression.contains('@') {
            return Err(unreadable(format!("it has {} fields", fields.len())));
        }
        // The same settings as tokio-cron-scheduler, but for years: a schedule that ends is no
        // schedule.
        let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed);
        let text = fields.join(" ");
        let parser = parser.dom_and_dow(true).build();
        let cron = parser.parse(&text).map_err(|error| unreadable(words(&error)))?;
        let parsed = Self { text, cron: Arc::new(cron) };
        // Dates repeat every 400 years, so what is due once after 1970 is due again and again.
        match parsed.next_after(Timestamp::EPOCH) {
            Some(_) => Ok(parsed),
            None => Err(ScheduleError::NeverDue { expression: expression.to_owned() }),
        }
    }

    /// When the next tick is due, or was, given the moment and the tick before it, which is at most a
    /// minute ahead of `now`. A moment not after `now` means at once; of several that have passed since
    /// `last` it is the newest. `None` where no moment is left before year 10000.
    #[must_use]
    pub fn due(&self, now: Timestamp, last: Timestamp) -> Option<Timestamp> {
        if now < last {
            return self.next_after(last);
        }
        let newest = self.newest_until(now).filter(|newest| *newest > last);
        newest.or_else(|| self.next_after(now))
    }

    /// The first matching moment after this one.
    fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        let found = self.cron.find_next_occurrence(&whole_second(moment)?, false).ok()?;
        Timestamp::from_parts(found.timestamp(), 0)
    }

    /// The last matching moment that is not after this one.
    fn newest_until(&self, moment: Timestamp) -> Option<Timestamp> {
        let found = self.cron.find_previous_occurrence(&whole_second(moment)?, true).ok()?;
        Timestamp::from_parts(found.timestamp(), 0)
    }
}

/// The tick before, or `now` where the clock was set back past it: waiting for that moment to come
/// again could take years. After a small correction the tick stays, so that it does not come twice.
pub(super) fn settle(last: Timestamp, now: Timestamp) -> Timestamp {
    if last <= now.plus(CORRECTION_MAX) { last } else { now }
}

/// The moment in the engine's type, cut to its second: cron knows no fractions.
fn whole_second(moment: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(moment.parts().0, 0)
}

/// The engine's message in the form of ours: without its prefix, capital and full stop.
fn words(error: &CronError) -> String {
    let (CronError::InvalidPattern(message)
    | CronError::IllegalCharacters(message)
    | CronError::ComponentError(message)) = error
    else {
        return "it names no moment".to_owned();
    };
    let mut characters = message.trim_end_matches('.').chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

impl fmt::Display for CronExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for CronExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CronExpression({})", self.text)
    }
}
