//! Which deltas the schedule bills.

use std::fmt;

use billing::Threshold;

use super::value::{Setting, words};

words! {
    /// When the schedule bills deltas.
    ScheduledDeltas {
        /// Never.
        Off = "off",
        /// Once in each calendar month.
        Monthly = "monthly",
    }
}

/// What a delta has to come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltasThreshold(pub Threshold);

impl fmt::Display for DeltasThreshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Setting for DeltasThreshold {
    fn expects() -> String {
        "currencies with amounts above zero, such as `BRL 5.00, USD 1.00`, or nothing".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: billing::ThresholdError| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_settings_print_as_they_are_read_and_mistakes_are_named() {
        for text in ["off", "monthly"] {
            assert_eq!(ScheduledDeltas::parse(text).unwrap().to_string(), text);
        }
        assert!(ScheduledDeltas::parse("daily").is_err());
        for text in ["", "BRL 5.00, USD 1.00"] {
            assert_eq!(DeltasThreshold::parse(text).unwrap().to_string(), text);
        }
        assert!(DeltasThreshold::parse("1.00").unwrap_err().contains("not a currency"));
    }
}
