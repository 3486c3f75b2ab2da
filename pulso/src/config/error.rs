//! What is wrong with a configuration: every mistake with its key, value, source and remedy.

use std::fmt;

use super::{keys::KEYS, origin::Origin};

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A source that cannot be read.
    #[error("{origin}: cannot be read: {message}")]
    Unreadable {
        /// The file or variable.
        origin: Origin,
        /// The system's words.
        message: String,
    },
    /// A file that is not TOML.
    #[error("{origin}: not TOML: {message}")]
    Syntax {
        /// The file and line.
        origin: Origin,
        /// The parser's words.
        message: String,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown key `{key}`{}", hint(.suggestion.as_deref()))]
    Unknown {
        /// The file and line, the variable or the flag.
        origin: Origin,
        /// The key as it was written there.
        key: String,
        /// What was probably meant, as it would be written there.
        suggestion: Option<String>,
    },
    /// A value that is not accepted.
    #[error("{origin}: {key} = `{value}`: {problem}; needs {expects}")]
    Value {
        /// The file and line, the variable or the flag.
        origin: Origin,
        /// The setting's whole path.
        key: &'static str,
        /// The value as it was given, without credentials.
        value: String,
        /// What is wrong with it.
        problem: String,
        /// What is accepted.
        expects: String,
    },
    /// A variable and its `_FILE` twin, both set.
    #[error("{first} and {second} are both set: unset one of them")]
    Twice {
        /// The variable that holds the value itself.
        first: String,
        /// Its twin.
        second: String,
    },
    /// Values that are each fine but not together.
    #[error("{key} = `{value}` ({origin}): {problem}")]
    Together {
        /// The key that is easiest to mend.
        key: &'static str,
        /// Its value.
        value: String,
        /// Where it was set.
        origin: Origin,
        /// What is wrong and what to do.
        problem: String,
    },
}

fn hint(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(
        || "; `pulso config show` lists the keys".to_owned(),
        |name| format!("; did you mean `{name}`?"),
    )
}

/// Mistakes that are listed. The others are counted: nobody reads more, and looking for what was meant by
/// each key of a long file of another program takes seconds.
pub const LISTED_MAX: usize = 100;

/// All that is wrong, at least one mistake.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    /// The first mistakes, at most [`LISTED_MAX`]: those of the file in its order, then those of the
    /// environment and of flags.
    pub listed: Vec<ConfigError>,
    /// How many more there are.
    pub more: usize,
}

impl ConfigErrors {
    /// Notes a mistake, which is made only where it is listed.
    pub(super) fn note(&mut self, mistake: impl FnOnce() -> ConfigError) {
        if self.listed.len() < LISTED_MAX {
            self.listed.push(mistake());
        } else {
            self.more += 1;
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} mistake(s):", self.listed.len() + self.more)?;
        self.listed.iter().try_for_each(|error| write!(f, "\n  {error}"))?;
        match self.more {
            0 => Ok(()),
            more => write!(f, "\n  ... and {more} more"),
        }
    }
}

/// The key that was probably meant, or `None` when nothing is near.
pub(super) fn suggest_key(written: &str) -> Option<&'static str> {
    suggest(written, KEYS.iter().map(|key| key.path))
}

/// The candidate nearest to what was written: the same words in another order, or few letters away.
pub(crate) fn suggest<'a>(
    written: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let nearness = |candidate: &str| {
        if words(candidate) == words(written) {
            return 1.0;
        }
        match (candidate.rsplit_once('.'), written.rsplit_once('.')) {
            // The section says nothing then, and a long one would make everything in it look near.
            (Some((section, name)), Some((same, written))) if section == same => {
                strsim::jaro_winkler(name, written)
            }
            // A key at the top that was meant for a section, as `queue_bytes` for `log.queue_bytes`.
            (Some((_, name)), None) => {
                strsim::jaro_winkler(candidate, written).max(strsim::jaro_winkler(name, written))
            }
            _ => strsim::jaro_winkler(candidate, written),
        }
    };
    let scored = candidates.map(|candidate| (nearness(candidate), candidate));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.84).then_some(best.1)
}

fn words(name: &str) -> Vec<&str> {
    let mut words: Vec<&str> = name.split(['.', '_']).filter(|word| !word.is_empty()).collect();
    words.sort_unstable();
    words
}
