//! Telemetry: logs on stderr, and the metrics that `/metrics` shows.
//!
//! Stages log through `tracing` and count through `metrics`; this module decides where both go.
//! Standard output is never written to: it belongs to the commands' data.

use std::{env, fmt, io::IsTerminal, str::FromStr};

use metrics_exporter_prometheus::BuildError;
use tracing_subscriber::{EnvFilter, fmt as format, util::SubscriberInitExt};

mod recorder;

pub use recorder::{Kind, METRICS, Metric, Metrics};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Telemetry that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter cannot be read.
    #[error(
        "log filter {source_name}={filter:?} cannot be read: {message}; a right one is `info` or \
         `warn,storage=debug`"
    )]
    Filter {
        /// Where it came from: `RUST_LOG` or the name of the setting.
        source_name: String,
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        message: String,
    },
    /// No such format.
    #[error("log format {0:?} does not exist; use auto, text or json")]
    Format(String),
    /// Something installed a logger before.
    #[error("logging was already started in this process: {0}")]
    LogInstalled(String),
    /// Something installed a recorder before.
    #[error("metrics cannot start: {0}")]
    Metrics(#[from] BuildError),
}

impl FromStr for LogFormat {
    type Err = TelemetryError;

    fn from_str(text: &str) -> Result<Self, TelemetryError> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(TelemetryError::Format(other.to_owned())),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Starts logging to stderr. `filter` is the configured one and `source_name` where it came from;
/// `RUST_LOG`, when set, is used in its place, as in every Rust program.
///
/// # Errors
/// When the filter cannot be read, or logging was started before.
pub fn start_logs(
    log_format: LogFormat,
    filter: &str,
    source_name: &str,
) -> Result<(), TelemetryError> {
    let (filter, source_name) = match env::var(EnvFilter::DEFAULT_ENV) {
        Ok(variable) if !variable.is_empty() => (variable, EnvFilter::DEFAULT_ENV),
        _ => (filter.to_owned(), source_name),
    };
    let filter = parse_filter(&filter, source_name)?;
    let terminal = std::io::stderr().is_terminal();
    // A line that cannot be written is lost: to say so would go to stderr too, and panic where nobody
    // reads that any more.
    let lines =
        format().with_env_filter(filter).log_internal_errors(false).with_writer(std::io::stderr);
    let installed = match log_format {
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
        LogFormat::Auto if !terminal => lines.json().flatten_event(true).finish().try_init(),
        LogFormat::Auto | LogFormat::Text => {
            let colours = terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            lines.with_ansi(colours).finish().try_init()
        }
    };
    installed.map_err(|error| TelemetryError::LogInstalled(error.to_string()))
}

/// Says why a filter cannot be read, so that it is refused with the rest of the configuration.
///
/// # Errors
/// What is wrong with it.
pub fn check_filter(filter: &str) -> Result<(), String> {
    EnvFilter::try_new(filter).map(drop).map_err(|error| error.to_string())
}

fn parse_filter(filter: &str, source_name: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(filter).map_err(|error| TelemetryError::Filter {
        source_name: source_name.to_owned(),
        filter: filter.to_owned(),
        message: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_filter_or_format_is_named_with_a_right_one() {
        let filter = parse_filter("pulso=loud", "telemetry.filter").unwrap_err().to_string();
        assert!(filter.contains("telemetry.filter=\"pulso=loud\""), "{filter}");
        assert!(filter.contains("`info`"), "{filter}");
        let format = "xml".parse::<LogFormat>().unwrap_err().to_string();
        assert!(format.contains("\"xml\"") && format.contains("auto, text or json"), "{format}");
        for format in [LogFormat::Auto, LogFormat::Text, LogFormat::Json] {
            assert_eq!(format.to_string().parse::<LogFormat>().unwrap(), format);
        }
    }
}
