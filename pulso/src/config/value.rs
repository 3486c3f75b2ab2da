//! Values of the configuration: types that cannot be wrong, each read from text and printed back.
//!
//! Ranges are part of the type, so that no stage checks a number again. Text is the one form for
//! all sources: a file's `4`, an environment's `4` and a flag's `4` are the same.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use jiff::SignedDuration;

/// A value that can be set.
pub trait Setting: Sized + fmt::Display {
    /// What is accepted, for error messages: "needs ...".
    fn expects() -> String;

    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with the text, without the text itself.
    fn parse(text: &str) -> Result<Self, String>;
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Count<MIN, MAX> {
    /// The number, from `MIN` to `MAX`.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number as a size in memory.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// The number, or the greatest that fits.
    #[must_use]
    pub fn as_u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl<const MIN: u64, const MAX: u64> fmt::Display for Count<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MIN: u64, const MAX: u64> Setting for Count<MIN, MAX> {
    fn expects() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn parse(text: &str) -> Result<Self, String> {
        let number: u64 = text.parse().map_err(|_| "not a whole number".to_owned())?;
        in_range(number, MIN, MAX).map(Self)
    }
}

/// A number of bytes from `MIN` to `MAX`, written with its unit: `64 MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize<const MIN: u64, const MAX: u64>(u64);

/// Units of a size with their bytes, greatest first.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

impl<const MIN: u64, const MAX: u64> ByteSize<MIN, MAX> {
    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes as a size in memory.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<const MIN: u64, const MAX: u64> fmt::Display for ByteSize<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bytes_text(self.0))
    }
}

/// Bytes in the greatest unit that keeps the number whole.
fn bytes_text(bytes: u64) -> String {
    let whole = |(_, size): &&(&str, u64)| bytes >= *size && bytes.is_multiple_of(*size);
    let (name, size) = UNITS.iter().find(whole).unwrap_or(&("B", 1));
    format!("{} {name}", bytes / size)
}

impl<const MIN: u64, const MAX: u64> Setting for ByteSize<MIN, MAX> {
    fn expects() -> String {
        format!("a size from {} to {}, such as `64 MiB`", bytes_text(MIN), bytes_text(MAX))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = (&text[..digits], text[digits..].trim());
        let number: u64 =
            number.parse().map_err(|_| "does not start with a whole number".to_owned())?;
        if unit.is_empty() {
            return Err("has no unit".to_owned());
        }
        let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let (_, size) = known.ok_or_else(|| format!("`{unit}` is not a unit of size"))?;
        let bytes = number.checked_mul(*size).ok_or_else(|| "out of range".to_owned())?;
        in_range(bytes, MIN, MAX).map(Self)
    }
}

/// A length of time from `MIN` to `MAX` milliseconds, written with its unit: `30s`, `24h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span<const MIN: u64, const MAX: u64>(Duration);

impl<const MIN: u64, const MAX: u64> Span<MIN, MAX> {
    /// The length of time.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }
}

/// Reads a length of time such as `30s` or `1h 30m`.
///
/// # Errors
/// What is wrong with the text, without the text itself.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("has no unit (ms, s, m, h)".to_owned());
    }
    let span: SignedDuration = text.parse().map_err(|_| "not a length of time".to_owned())?;
    Duration::try_from(span).map_err(|_| "is negative".to_owned())
}

/// Writes a length of time so that [`parse_duration`] reads it back.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    SignedDuration::try_from(duration).map_or_else(|_| "forever".to_owned(), |d| format!("{d:#}"))
}

impl<const MIN: u64, const MAX: u64> fmt::Display for Span<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration_text(self.0))
    }
}

impl<const MIN: u64, const MAX: u64> Setting for Span<MIN, MAX> {
    fn expects() -> String {
        let text = |ms| duration_text(Duration::from_millis(ms));
        format!("a length of time from {} to {}, such as `30s`", text(MIN), text(MAX))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let duration = parse_duration(text)?;
        let within = Duration::from_millis(MIN)..=Duration::from_millis(MAX);
        if within.contains(&duration) { Ok(Self(duration)) } else { Err("out of range".to_owned()) }
    }
}

fn in_range(number: u64, min: u64, max: u64) -> Result<u64, String> {
    if (min..=max).contains(&number) { Ok(number) } else { Err("out of range".to_owned()) }
}

/// A count of threads, or as many as the machine suggests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lanes {
    /// One for each core, at most one for each partition.
    Auto,
    /// This many.
    Fixed(Count<1, 1_024>),
}

impl Lanes {
    /// The number on a machine with `cores` cores for a log with `partitions`: at least 1.
    #[must_use]
    pub fn on(self, cores: usize, partitions: usize) -> usize {
        match self {
            Self::Auto => cores.min(partitions).max(1),
            Self::Fixed(count) => count.as_usize(),
        }
    }
}

impl fmt::Display for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(count) => count.fmt(f),
        }
    }
}

impl Setting for Lanes {
    fn expects() -> String {
        "`auto` or a whole number from 1 to 1024".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text == "auto" { Ok(Self::Auto) } else { Count::parse(text).map(Self::Fixed) }
    }
}

/// When the consumer drains the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Again and again, `consumer.follow_interval` apart.
    Follow,
    /// By a cron expression of six fields (seconds first), in UTC.
    Cron(String),
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Follow => f.write_str("follow"),
            Self::Cron(expression) => f.write_str(expression),
        }
    }
}

impl Setting for Schedule {
    fn expects() -> String {
        "`follow` or a cron expression of six fields, seconds first, such as `0 0 * * * *` (every hour)"
            .to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text.split_whitespace().count() {
            _ if text == "follow" => Ok(Self::Follow),
            6 => Ok(Self::Cron(text.to_owned())),
            fields => Err(format!("has {fields} fields")),
        }
    }
}

/// When the price stage bills what is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BillingSchedule {
    /// Only when it is told to.
    Off,
    /// By a cron expression of six fields (seconds first), in UTC.
    Cron(String),
}

impl fmt::Display for BillingSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Cron(expression) => f.write_str(expression),
        }
    }
}

impl Setting for BillingSchedule {
    fn expects() -> String {
        "`off` or a cron expression of six fields, seconds first, such as `0 30 4 * * *` (each day)"
            .to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        match runtime::Schedule::parse(text) {
            Ok(_) => Ok(Self::Cron(text.to_owned())),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory(pub PathBuf);

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl Setting for Directory {
    fn expects() -> String {
        "the path of a directory".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("empty".to_owned()) } else { Ok(Self(text.into())) }
    }
}

impl Setting for SocketAddr {
    fn expects() -> String {
        "an address and a port, such as `127.0.0.1:7070` (port 0 takes a free one)".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        local.as_deref().unwrap_or(text).parse().map_err(|_| "not an address and a port".to_owned())
    }
}

/// Makes a setting of a few words.
macro_rules! words {
    ($(#[doc = $doc:literal])+ $Name:ident { $( $(#[doc = $word_doc:literal])+ $Word:ident = $word:literal, )+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Name {
            $( $(#[doc = $word_doc])+ $Word, )+
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $( Self::$Word => $word, )+ })
            }
        }

        impl Setting for $Name {
            fn expects() -> String {
                ["one of", $( concat!(" `", $word, "`") ),+].concat()
            }

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $( $word => Ok(Self::$Word), )+
                    _ => Err("not one of them".to_owned()),
                }
            }
        }
    };
}

pub(super) use words;

words! {
    /// How logs are written.
    LogFormat {
        /// Text on a terminal, JSON elsewhere.
        Auto = "auto",
        /// For people.
        Text = "text",
        /// For machines.
        Json = "json",
    }
}

words! {
    /// How a broker is spoken to, in Kafka's own words.
    SecurityProtocol {
        /// In the clear, as nobody.
        Plaintext = "plaintext",
        /// By TLS, as nobody.
        Ssl = "ssl",
        /// In the clear, with a user and a password.
        SaslPlaintext = "sasl_plaintext",
        /// By TLS, with a user and a password.
        SaslSsl = "sasl_ssl",
    }
}

words! {
    /// How a password is shown to a broker.
    SaslMechanism {
        /// As it is.
        Plain = "PLAIN",
        /// By challenge, with SHA-256.
        ScramSha256 = "SCRAM-SHA-256",
        /// By challenge, with SHA-512.
        ScramSha512 = "SCRAM-SHA-512",
    }
}

words! {
    /// How records are compressed on their way to a broker.
    Compression {
        /// They are not.
        None = "none",
        /// LZ4.
        Lz4 = "lz4",
    }
}

words! {
    /// Whether a connection is secured.
    Tls {
        /// In the clear.
        Off = "off",
        /// By TLS.
        On = "on",
    }
}

/// Text that may be empty: then it is not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// The text, unless it is empty.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(self.0.as_str())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Setting for Text {
    fn expects() -> String {
        "text, or nothing".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }
}

/// A password. It is never printed; nothing means that there is none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The password, unless it is empty.
    #[must_use]
    pub fn reveal(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(self.0.as_str())
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "" } else { "(hidden)" })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Setting for Secret {
    fn expects() -> String {
        "a password, or nothing".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }
}

/// What is logged, in the words of `tracing_subscriber`'s filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Setting for LogFilter {
    fn expects() -> String {
        "`info` or `warn,storage=debug`".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        match runtime::telemetry::check_filter(text) {
            Ok(()) => Ok(Self(text.to_owned())),
            Err(why) => Err(format!("is no log filter ({why})")),
        }
    }
}
