//! Which partitions a consumer takes, as a setting.

use std::fmt;

use super::value::Setting;

/// Which partitions of a shared log a consumer takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// A share of the group on Kafka, all of an embedded log.
    Auto,
    /// All, whatever others do.
    All,
    /// A share of the consumer group, moved when members come and go.
    Group,
    /// These, ascending.
    These(Vec<u16>),
}

impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::All => f.write_str("all"),
            Self::Group => f.write_str("group"),
            Self::These(partitions) => {
                let numbers: Vec<_> = partitions.iter().map(u16::to_string).collect();
                f.write_str(&numbers.join(","))
            }
        }
    }
}

impl Setting for Assignment {
    fn expects() -> String {
        "`auto`, `all`, `group`, or partitions such as `0-3,7`".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "all" => Ok(Self::All),
            "group" => Ok(Self::Group),
            _ => parse_partitions(text).map(Self::These),
        }
    }
}

fn parse_partitions(text: &str) -> Result<Vec<u16>, String> {
    let mut partitions = std::collections::BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.parse::<u16>(), last.parse::<u16>()) {
            (Ok(first), Ok(last @ ..1_024)) if first <= last => partitions.extend(first..=last),
            _ => return Err(format!("`{part}` is no partition below 1024 and no range of them")),
        }
    }
    Ok(partitions.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_read_as_ranges_and_numbers() {
        let these = |numbers: &[u16]| Ok(Assignment::These(numbers.to_vec()));
        for (text, expected) in [
            ("auto", Ok(Assignment::Auto)),
            ("7,0-2,1", these(&[0, 1, 2, 7])),
            ("1023", these(&[1_023])),
        ] {
            assert_eq!(Assignment::parse(text), expected, "{text}");
        }
        for text in ["", "3-1", "1024", "a", "1,,2"] {
            assert!(Assignment::parse(text).is_err(), "{text}");
        }
    }
}
