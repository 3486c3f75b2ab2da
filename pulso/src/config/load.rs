//! Loading: every source becomes a list of (key, text, origin), and the later source wins.
//!
//! All sources are read to their end before anything is refused, so that one run shows every
//! mistake. The process's own environment and directory come in as values, for tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use toml::{Spanned, de::DeTable, de::DeValue};

use super::{
    assignment::Assignment,
    edge::edge_contradiction,
    error::{ConfigError, ConfigErrors, suggest_key},
    keys::{Config, KEYS, Key, find},
    loaded::Loaded,
    origin::Origin,
    tls::tls_contradictions,
    urls::{LogUrl, Place, StoreUrl},
    value::SecurityProtocol,
};

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "pulso.toml";

/// Variables that are no settings: those of client commands, of logs and of tests.
const OTHER_VARIABLES: &[&str] = &[
    "PULSO_SERVER",
    "PULSO_HTTP",
    "PULSO_CA",
    "PULSO_CERT",
    "PULSO_CERT_KEY",
    "PULSO_KEY",
    "PULSO_KEY_FILE",
    "PULSO_OUTPUT",
    "PULSO_CONFIG",
    "PULSO_PRINT_ADDRESSES",
    "PULSO_LOG",
    "PULSO_FAULT",
];

/// Where the configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A file that must exist.
    pub file: Option<PathBuf>,
    /// A file that is read if it exists, when `file` names none.
    pub file_if_present: Option<PathBuf>,
    /// The environment, of which only `PULSO_*` matters.
    pub environment: Vec<(String, String)>,
    /// Flags that were given: (flag, key, value).
    pub flags: Vec<(&'static str, &'static str, String)>,
}

/// Reads all sources.
///
/// # Errors
/// Every mistake of every source.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigErrors> {
    let mut loader = Loader::default();
    loader.read_file(sources);
    loader.read_environment(&sources.environment);
    for (flag, key, value) in &sources.flags {
        loader.set(key, key, value, Origin::Flag(flag));
    }
    loader.finish()
}

#[derive(Default)]
struct Loader {
    config: Config,
    origins: BTreeMap<&'static str, Origin>,
    errors: ConfigErrors,
}

impl Loader {
    fn read_file(&mut self, sources: &Sources) {
        let (path, required) = match (&sources.file, &sources.file_if_present) {
            (Some(path), _) => (path, true),
            (None, Some(path)) => (path, false),
            (None, None) => return,
        };
        match fs::read_to_string(path) {
            Ok(text) => self.read_toml(path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => {}
            Err(error) => self.unreadable(Origin::File(path.clone(), 0), &error),
        }
    }

    fn unreadable(&mut self, origin: Origin, error: &io::Error) {
        self.errors.note(|| ConfigError::Unreadable { origin, message: error.to_string() });
    }

    fn read_toml(&mut self, path: &Path, text: &str) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        let lines = Lines::of(text);
        for error in &errors {
            let line = error.span().map_or(0, |span| lines.line_of(span.start));
            let origin = Origin::File(path.to_owned(), line);
            self.errors
                .note(|| ConfigError::Syntax { origin, message: error.message().to_owned() });
        }
        if errors.is_empty() {
            self.read_table("", table.get_ref(), &|at| {
                Origin::File(path.to_owned(), lines.line_of(at))
            });
        }
    }

    fn read_table(&mut self, prefix: &str, table: &DeTable<'_>, origin: &dyn Fn(usize) -> Origin) {
        // In the order of the file, which the table's own is not.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let path = format!("{prefix}{}", key.get_ref());
            let at = origin(key.span().start);
            match text_of(value) {
                Leaf::Table(table) if is_section(&path) => {
                    self.read_table(&format!("{path}."), table, origin);
                }
                Leaf::Table(_) => self.unknown(&path, at, str::to_owned),
                Leaf::Text(text) => self.set(&path, &path, &text, at),
                Leaf::Other(kind) => match find(&path) {
                    Some(key) => self.refuse(key, kind, "not one value".to_owned(), at),
                    None => self.unknown(&path, at, str::to_owned),
                },
            }
        }
    }

    fn read_environment(&mut self, environment: &[(String, String)]) {
        let ours = environment.iter().filter(|(name, _)| is_setting(name));
        let names: BTreeSet<&str> = environment.iter().map(|(name, _)| name.as_str()).collect();
        // First, so that the setting's own variable wins.
        self.read_log_filter(environment);
        for (name, value) in ours {
            match name.strip_suffix("_FILE").filter(|base| find_variable(base).is_some()) {
                Some(base) if names.contains(base) => {
                    let (first, second) = (base.to_owned(), name.clone());
                    self.errors.note(|| ConfigError::Twice { first, second });
                }
                Some(base) => self.read_secret(base, name, Path::new(value)),
                None => self.set_variable(name, name, value),
            }
        }
    }

    /// `PULSO_LOG` is short for `PULSO_TELEMETRY__FILTER`. Someone who gives it an address means the
    /// pulse log.
    fn read_log_filter(&mut self, environment: &[(String, String)]) {
        const NAME: &str = "PULSO_LOG";
        const SCHEMES: [&str; 3] = ["file:", "memory:", "kafka:"];
        let Some((_, value)) = environment.iter().find(|(name, _)| name == NAME) else { return };
        if SCHEMES.iter().any(|scheme| value.starts_with(scheme)) {
            self.errors.note(|| ConfigError::Unknown {
                origin: Origin::Variable(NAME.to_owned()),
                key: "PULSO_LOG as an address (it filters what is logged)".to_owned(),
                suggestion: Some("PULSO_LOG__URL".to_owned()),
            });
        } else if !value.is_empty() {
            self.set("telemetry.filter", NAME, value, Origin::Variable(NAME.to_owned()));
        }
    }

    fn read_secret(&mut self, variable: &str, file_variable: &str, path: &Path) {
        match fs::read_to_string(path) {
            Ok(text) => {
                self.set_variable(variable, file_variable, text.trim_end_matches(['\r', '\n']))
            }
            Err(error) => self.errors.note(|| ConfigError::Unreadable {
                origin: Origin::Variable(file_variable.to_owned()),
                message: format!("{}: {error}", path.display()),
            }),
        }
    }

    fn set_variable(&mut self, variable: &str, written: &str, value: &str) {
        let origin = Origin::Variable(written.to_owned());
        match find_variable(variable) {
            Some(key) => self.set_key(key, value, origin),
            None => {
                let path = variable["PULSO_".len()..].to_lowercase().replace("__", ".");
                self.unknown(&path, origin, |path| {
                    find(path).map_or_else(String::new, Key::variable)
                });
            }
        }
    }

    fn set(&mut self, path: &str, written: &str, value: &str, origin: Origin) {
        match find(path) {
            Some(key) => self.set_key(key, value, origin),
            None => self.unknown(written, origin, str::to_owned),
        }
    }

    fn set_key(&mut self, key: &'static Key, value: &str, origin: Origin) {
        match (key.set)(&mut self.config, value) {
            Ok(()) => {
                self.origins.insert(key.path, origin);
            }
            Err(problem) => self.refuse(key, value.to_owned(), problem, origin),
        }
    }

    fn refuse(&mut self, key: &'static Key, value: String, problem: String, origin: Origin) {
        self.errors.note(|| {
            let (value, expects) = (without_credentials(value), (key.expects)());
            ConfigError::Value { origin, key: key.path, value, problem, expects }
        });
    }

    fn unknown(&mut self, path: &str, origin: Origin, write: impl Fn(&str) -> String) {
        self.errors.note(|| {
            let suggestion = suggest_key(path).map(write);
            ConfigError::Unknown { origin, key: path.to_owned(), suggestion }
        });
    }

    fn finish(mut self) -> Result<Loaded, ConfigErrors> {
        let loaded = Loaded { config: self.config, origins: self.origins };
        if self.errors.listed.is_empty() {
            self.errors.listed = check_together(&loaded);
        }
        if self.errors.listed.is_empty() { Ok(loaded) } else { Err(self.errors) }
    }
}

/// Finds values that are each in their range but contradict one another.
fn check_together(loaded: &Loaded) -> Vec<ConfigError> {
    let config = &loaded.config;
    let mut errors = Vec::new();
    let mut contradict = |key: &'static str, problem: String| {
        let value = find(key).map_or_else(String::new, |key| (key.text)(config));
        errors.push(ConfigError::Together { key, value, origin: loaded.origin(key), problem });
    };
    if let Err(error) = loaded.generation().check() {
        let key = match &error {
            domain::generation::GenerationError::Range("segment_span", _) => "log.segment_span",
            _ => "log.lateness",
        };
        contradict(key, error.to_string());
    }
    if let Err(error) = loaded.limits().check() {
        let path = format!("ingest.{}", error.key);
        contradict(find(&path).map_or("ingest", |key| key.path), error.remedy);
    }
    for (key, problem) in shared_contradictions(loaded)
        .into_iter()
        .chain(edge_contradiction(loaded))
        .chain(tls_contradictions(loaded))
    {
        contradict(key, problem);
    }
    if config.listen.grpc == config.listen.http && config.listen.grpc.port() != 0 {
        contradict("listen.http", "listen.grpc has the same address: give another port".to_owned());
    }
    let shutdown = &config.shutdown;
    if shutdown.calls_timeout.duration() >= shutdown.timeout.duration() {
        contradict(
            "shutdown.calls_timeout",
            format!(
                "shutdown.timeout is {}: give less, or nothing is left to drain the log",
                shutdown.timeout
            ),
        );
    }
    errors
}

/// Contradictions of what several processes share.
fn shared_contradictions(loaded: &Loaded) -> Vec<(&'static str, String)> {
    let Config { kafka, log, store, scylla, .. } = &loaded.config;
    let mut found = Vec::new();
    let mut contradict = |key, problem: &str| found.push((key, problem.to_owned()));
    let on_kafka = matches!(log.url, LogUrl::Kafka(_));
    if on_kafka && store.url == StoreUrl::Embedded(Place::Memory) {
        contradict(
            "store.url",
            "the log outlives this process and totals in memory do not: give a store that is kept",
        );
    }
    if !on_kafka && !matches!(loaded.config.consumer.partitions, Assignment::Auto | Assignment::All)
    {
        contradict(
            "consumer.partitions",
            "an embedded log has one consumer, which takes all partitions: use `auto`, or a log on Kafka",
        );
    }
    if kafka.min_insync_replicas.get() > kafka.replication.get() {
        contradict(
            "kafka.min_insync_replicas",
            "more copies than kafka.replication makes: no append could ever be acknowledged",
        );
    }
    use SecurityProtocol::{SaslPlaintext, SaslSsl};
    let sasl = matches!(kafka.security_protocol, SaslPlaintext | SaslSsl);
    if sasl && (kafka.username.get().is_none() || kafka.password.reveal().is_none()) {
        contradict(
            "kafka.security_protocol",
            "needs kafka.username and kafka.password (or PULSO_KAFKA__PASSWORD_FILE)",
        );
    }
    if !sasl && kafka.username.get().is_some() {
        contradict(
            "kafka.username",
            "is not sent with this kafka.security_protocol: use sasl_ssl or sasl_plaintext",
        );
    }
    if scylla.username.get().is_some() != scylla.password.reveal().is_some() {
        contradict(
            "scylla.username",
            "a user needs a password and a password a user: set both or none (the password also by PULSO_SCYLLA__PASSWORD_FILE)",
        );
    }
    found
}

enum Leaf<'a> {
    Table(&'a DeTable<'a>),
    Text(String),
    Other(String),
}

fn text_of<'a>(value: &'a Spanned<DeValue<'a>>) -> Leaf<'a> {
    match value.get_ref() {
        DeValue::String(text) => Leaf::Text(text.to_string()),
        DeValue::Integer(integer) => Leaf::Text(integer.to_string()),
        DeValue::Float(float) => Leaf::Text(float.to_string()),
        DeValue::Boolean(flag) => Leaf::Text(flag.to_string()),
        DeValue::Datetime(moment) => Leaf::Text(moment.to_string()),
        DeValue::Table(table) => Leaf::Table(table),
        DeValue::Array(_) => Leaf::Other("[...]".to_owned()),
    }
}

fn find_variable(variable: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.variable() == variable)
}

fn is_section(path: &str) -> bool {
    super::keys::SECTIONS.iter().any(|(name, _)| *name == path)
}

/// Tells whether a variable has to be a setting: it starts with our prefix and is no other of ours.
fn is_setting(name: &str) -> bool {
    name.starts_with("PULSO_")
        && !name.starts_with("PULSO_TEST_")
        && !OTHER_VARIABLES.contains(&name)
}

/// Where the lines of a text end. Counted once: to count anew for each key took time by the square of
/// the file.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    /// The line of a byte, from 1.
    fn line_of(&self, at: usize) -> usize {
        1 + self.0.partition_point(|end| *end < at)
    }
}

/// An address without the user and password that do not belong in it, for an error message.
fn without_credentials(value: String) -> String {
    match value.split_once(':').zip(value.rsplit_once('@')) {
        Some(((scheme, _), (_, host))) => format!("{scheme}:***@{host}"),
        None => value,
    }
}
