//! The URLs that choose the adapters of log and store.

use std::{fmt, path::PathBuf};

use super::value::Setting;

/// Where an embedded log or store lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In `data_dir`.
    DataDirectory,
    /// In this directory.
    Directory(PathBuf),
    /// In memory: gone when the process ends.
    Memory,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDirectory => f.write_str("file:"),
            Self::Directory(path) => write!(f, "file:{}", path.display()),
            Self::Memory => f.write_str("memory:"),
        }
    }
}

impl Place {
    /// Reads an embedded place; `None` when the scheme is another.
    fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("file", "") => Some(Self::DataDirectory),
            ("file", path) => Some(Self::Directory(path.into())),
            ("memory", "" | "//") => Some(Self::Memory),
            _ => None,
        }
    }
}

/// Servers, each `HOST:PORT`, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers(Vec<String>);

impl Servers {
    /// Each of them.
    #[must_use]
    pub fn list(&self) -> &[String] {
        &self.0
    }

    fn parse(text: &str) -> Result<Self, String> {
        let servers = text.split(',').map(|server| {
            let port = server.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            match port.map(|(_, port)| port.parse::<u16>()) {
                Some(Ok(1..)) => Ok(server.to_owned()),
                _ => Err(format!("`{server}` is not HOST:PORT")),
            }
        });
        servers.collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// Where the pulse log lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogUrl {
    /// In this process.
    Embedded(Place),
    /// On Kafka brokers.
    Kafka(Servers),
}

impl fmt::Display for LogUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(place) => place.fmt(f),
            Self::Kafka(brokers) => write!(f, "kafka://{brokers}"),
        }
    }
}

impl Setting for LogUrl {
    fn expects() -> String {
        "`file:DIRECTORY`, `file:` (in data_dir), `kafka://HOST:PORT[,...]` or `memory:`".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        if let Some(place) = Place::parse(text) {
            return Ok(Self::Embedded(place));
        }
        refuse_credentials(text)?;
        match text.split_once("://") {
            Some(("kafka", brokers)) => Servers::parse(brokers).map(Self::Kafka),
            Some(("scylla" | "cassandra", _)) => {
                Err("a store, not a log: give it to store.url".to_owned())
            }
            _ => Err(unknown_scheme(text)),
        }
    }
}

/// Where usage store and billing store live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// In this process.
    Embedded(Place),
    /// On servers that speak CQL.
    Scylla {
        /// Some of them; the others are found.
        servers: Servers,
        /// The keyspace. Default `pulso`.
        keyspace: String,
        /// Copies of each row. Default 3.
        replication: u16,
    },
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(place) => place.fmt(f),
            Self::Scylla { servers, keyspace, replication } => {
                write!(f, "scylla://{servers}?keyspace={keyspace}&replication={replication}")
            }
        }
    }
}

impl Setting for StoreUrl {
    fn expects() -> String {
        "`file:DIRECTORY`, `file:` (in data_dir), `scylla://HOST:PORT[,...]?keyspace=pulso&replication=3` or `memory:`"
            .to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        if let Some(place) = Place::parse(text) {
            return Ok(Self::Embedded(place));
        }
        refuse_credentials(text)?;
        match text.split_once("://") {
            Some(("scylla", rest)) => parse_scylla(rest),
            Some(("kafka", _)) => Err("a log, not a store: give it to log.url".to_owned()),
            _ => Err(unknown_scheme(text)),
        }
    }
}

fn refuse_credentials(text: &str) -> Result<(), String> {
    match text.contains('@') {
        true => Err("user and password are settings of their own: `username` and `password` of \
                     `kafka` or `scylla`, better from a file"
            .to_owned()),
        false => Ok(()),
    }
}

fn parse_scylla(rest: &str) -> Result<StoreUrl, String> {
    let (servers, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (mut keyspace, mut replication) = ("pulso".to_owned(), 3);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            Some(("keyspace", name)) if is_keyspace(name) => name.clone_into(&mut keyspace),
            Some(("keyspace", name)) => {
                return Err(format!(
                    "keyspace `{name}` is not 1 to 48 lower-case letters, digits and underscores, a letter first"
                ));
            }
            Some(("replication", copies)) => {
                replication = copies
                    .parse()
                    .ok()
                    .filter(|copies| (1..=16).contains(copies))
                    .ok_or_else(|| format!("replication `{copies}` is not 1 to 16"))?;
            }
            _ => return Err(format!("`{parameter}` is neither keyspace= nor replication=")),
        }
    }
    Ok(StoreUrl::Scylla { servers: Servers::parse(servers)?, keyspace, replication })
}

fn is_keyspace(name: &str) -> bool {
    name.len() <= 48
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn unknown_scheme(text: &str) -> String {
    match text.split_once(':') {
        Some((scheme, _)) => format!("`{scheme}:` is not known"),
        None => "has no scheme".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_reads_back_as_it_prints() {
        for text in ["file:", "file:/var/lib/pulso", "memory:", "kafka://a:9092,[::1]:9093"] {
            assert_eq!(LogUrl::parse(text).unwrap().to_string(), text);
        }
        for text in ["file:x", "scylla://a:9042,b:9042?keyspace=k1&replication=1"] {
            assert_eq!(StoreUrl::parse(text).unwrap().to_string(), text);
        }
        let short = StoreUrl::parse("scylla://a:9042").unwrap().to_string();
        assert_eq!(short, "scylla://a:9042?keyspace=pulso&replication=3");
    }

    #[test]
    fn a_wrong_url_says_what_is_wrong() {
        for (text, problem) in [
            ("kafka://user:word@a:9092", "user and password are settings of their own"),
            ("kafka://", "`` is not HOST:PORT"),
            ("kafka://a", "`a` is not HOST:PORT"),
            ("kafka://a:1,b:0", "`b:0` is not HOST:PORT"),
            ("kafka://:9092", "`:9092` is not HOST:PORT"),
            ("scylla://a:1", "give it to store.url"),
            ("redis://a:1", "`redis:` is not known"),
            ("data", "has no scheme"),
        ] {
            let found = LogUrl::parse(text).unwrap_err();
            assert!(found.contains(problem), "{text}: {found}");
        }
        for (text, problem) in [
            ("kafka://a:1", "give it to log.url"),
            ("scylla://user:wo?rd@a:1", "user and password are settings of their own"),
            ("scylla://a:1?keyspace=A", "keyspace `A` is not"),
            ("scylla://a:1?replication=0", "replication `0` is not"),
            ("scylla://a:1?copies=3", "`copies=3` is neither"),
        ] {
            let found = StoreUrl::parse(text).unwrap_err();
            assert!(found.contains(problem), "{text}: {found}");
        }
    }
}
