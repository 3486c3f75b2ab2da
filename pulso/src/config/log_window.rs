//! The windows of a log, as they are configured.

use std::fmt;

use domain::WindowLength;

use super::value::{Setting, parse_duration};

/// Length of a log's windows, as it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogWindow(WindowLength);

impl LogWindow {
    /// As the log's generation has it.
    #[must_use]
    pub const fn length(self) -> WindowLength {
        self.0
    }
}

impl fmt::Display for LogWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Setting for LogWindow {
    fn expects() -> String {
        "`15m`, `30m` or `1h` (or `PT15M`, `PT30M`, `PT1H`)".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let length = parse_duration(text)?;
        let known = WindowLength::OF_LOGS.into_iter().find(|known| known.duration() == length);
        known.map(Self).ok_or_else(|| "none of them".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_window_is_a_quarter_a_half_or_a_whole_hour_in_either_spelling() {
        for (text, minutes) in [
            ("15m", 15),
            ("PT15M", 15),
            ("900s", 15),
            ("30m", 30),
            ("PT30M", 30),
            ("1h", 60),
            ("PT1H", 60),
            ("60m", 60),
        ] {
            let window = LogWindow::parse(text).unwrap();
            assert_eq!(window.length().duration(), Duration::from_secs(minutes * 60), "{text}");
            assert_eq!(LogWindow::parse(&window.to_string()), Ok(window));
        }
        for text in ["0s", "14m", "15m 1ms", "20m", "45m", "2h", "24h", "-15m", "15", "", "hour"] {
            assert!(LogWindow::parse(text).is_err(), "{text}");
        }
    }
}
