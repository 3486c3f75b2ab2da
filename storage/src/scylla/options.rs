//! How the CQL adapter is set up.

use std::{fmt, path::PathBuf, time::Duration};

/// How a cluster is reached and how much is asked of it at once.
#[derive(Clone, Debug)]
pub struct ScyllaOptions {
    /// Nodes to start from, each `host:port`. The rest are learnt from them.
    pub hosts: Vec<String>,
    /// Keyspace that holds the tables: a lower-case letter, then letters, digits and `_`, 48 at
    /// most.
    pub keyspace: String,
    /// Replicas of every row, in every data centre, for a keyspace that is still to be made.
    /// Default 3. With 1 a lost disk loses totals, which can then only be folded again.
    pub replication: u16,
    /// Who this process is to the cluster. Default nobody.
    pub credentials: Option<Credentials>,
    /// Set to encrypt connections. Needs the feature `scylla-tls`. Default none.
    pub tls: Option<Tls>,
    /// Data centre whose nodes are asked, and whose quorum counts. Default the nodes of `hosts`,
    /// wherever they are; wrong where a keyspace spans data centres.
    pub local_dc: Option<String>,
    /// How long one request may take, retries included. Default 10 s; a little more than the
    /// cluster's own limit, so that the cluster says what was wrong.
    pub request_timeout: Duration,
    /// How long an open, or a step of a migration, tries to reach the cluster. Default 20 s.
    pub connect_timeout: Duration,
    /// Writes sent and not yet acknowledged, of all flushes together. Default 256. More burdens the
    /// cluster without being faster; fewer make large flushes slow.
    pub writes_in_flight: usize,
}

impl ScyllaOptions {
    /// The options for these servers and this keyspace, with defaults else.
    #[must_use]
    pub fn new(
        hosts: impl IntoIterator<Item = impl Into<String>>,
        keyspace: impl Into<String>,
    ) -> Self {
        Self {
            hosts: hosts.into_iter().map(Into::into).collect(),
            keyspace: keyspace.into(),
            replication: 3,
            credentials: None,
            tls: None,
            local_dc: None,
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(20),
            writes_in_flight: 256,
        }
    }

    /// The hosts in words.
    pub(super) fn hosts_listed(&self) -> String {
        self.hosts.join(", ")
    }

    /// What keeps these from being used, in words for an operator.
    ///
    /// # Errors
    /// The first fault.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.hosts.is_empty() || self.hosts.iter().any(String::is_empty) {
            return Err("no host is named: give at least one `host:port`".to_owned());
        }
        // The name goes into statements as it is, so nothing else may pass.
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let starts = self.keyspace.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts || self.keyspace.len() > 48 || !self.keyspace.chars().all(word) {
            return Err(format!(
                "{:?} is no keyspace name: a lower-case letter, then lower-case letters, digits \
                 and _, 48 at most",
                self.keyspace
            ));
        }
        if self.replication == 0 || self.writes_in_flight == 0 {
            return Err("replication and writes in flight are at least 1".to_owned());
        }
        if self.tls.is_some() && !HAS_TLS {
            return Err(
                "this build speaks no TLS to the store: build it with the feature scylla-tls"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// A user and a password. The password is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Role of the cluster.
    pub username: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (secret)", self.username)
    }
}

/// Whether this build has the feature `scylla-tls`: TLS to nodes.
pub const HAS_TLS: bool = cfg!(feature = "scylla-tls");

/// How connections are encrypted. Nodes' certificates must name the address they are reached at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates (PEM) that the nodes' certificates must chain to. Default the system's.
    pub ca_file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_printed() {
        let mut options = ScyllaOptions::new(["db:9042"], "pulso");
        let credentials = ("pulso".to_owned(), "hunter2".to_owned());
        options.credentials =
            Some(Credentials { username: credentials.0, password: credentials.1 });
        let printed = format!("{options:?}");
        assert!(printed.contains("pulso (secret)") && !printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn what_cannot_work_is_refused_with_words() {
        let check = |keyspace: &str| ScyllaOptions::new(["db:9042"], keyspace).check();
        assert_eq!(check("pulso_2"), Ok(()));
        for name in ["", "2pulso", "Pulso", "pulso-2", "a\"; DROP", &"a".repeat(49)] {
            assert!(check(name).unwrap_err().contains("no keyspace name"), "{name}");
        }
        let no_hosts = ScyllaOptions::new(Vec::<String>::new(), "pulso").check();
        assert!(no_hosts.unwrap_err().contains("host:port"));
    }

    #[test]
    fn tls_is_refused_where_the_build_has_none() {
        let mut options = ScyllaOptions::new(["db:9042"], "pulso");
        options.tls = Some(Tls::default());
        assert_eq!(options.check().is_ok(), cfg!(feature = "scylla-tls"));
    }
}
