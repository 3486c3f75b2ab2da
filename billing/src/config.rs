//! What billing may use and how long it tries.

use std::time::Duration;

use runtime::Backoff;

use crate::threshold::Threshold;

/// What the service may use and how long it tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillingConfig {
    /// First ceiling of the back-off between tries to append declarations. Default 50 ms. Too short
    /// presses on a log that is already full.
    pub declare_backoff_first: Duration,
    /// Last ceiling of that back-off. Default 2 s. Too long keeps publishers waiting after the log
    /// has recovered.
    pub declare_backoff_max: Duration,
    /// Tries to append the declarations to one partition before publishing answers UNAVAILABLE.
    /// Default 20 (about half a minute), at least 1.
    pub declare_tries_max: u32,
    /// Most usage rows of a period that one preview reads. Default 1,000,000 (about half a gigabyte
    /// while it rates). Beyond it the answer is RESULT_TOO_LARGE.
    pub preview_rows_max: usize,
    /// Stretches of the log that one preview lists as sources. Default 10,000, about 1.5 MB of JSON;
    /// gRPC clients take 4 MiB unless told otherwise.
    pub preview_sources_max: usize,
    /// Pulses that one explanation lists; the others are counted only. Default 20,000, about 4 MB of
    /// JSON.
    pub explained_pulses_max: usize,
    /// How large documents may be.
    pub documents: DocumentLimits,
    /// How runs work.
    pub runs: RunConfig,
    /// What a tick of the schedule bills.
    pub schedule: ScheduleConfig,
}

impl Default for BillingConfig {
    fn default() -> Self {
        Self {
            declare_backoff_first: Duration::from_millis(50),
            declare_backoff_max: Duration::from_secs(2),
            declare_tries_max: 20,
            preview_rows_max: 1_000_000,
            preview_sources_max: 10_000,
            explained_pulses_max: 20_000,
            documents: DocumentLimits::default(),
            runs: RunConfig::default(),
            schedule: ScheduleConfig::default(),
        }
    }
}

/// What a tick of the schedule bills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleConfig {
    /// Months before the current one in which periods that are due are looked for. Default 24. Too few,
    /// and a contract that is entered late is not found; many cost a look-up of usage for each month in
    /// which a tenant used something and was not billed.
    pub look_back_months: u32,
    /// Whether ticks bill deltas. Default: they do not.
    pub deltas: ScheduledDeltas,
}

/// Whether a schedule bills deltas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ScheduledDeltas {
    /// Only runs by hand do.
    #[default]
    Off,
    /// Once in each calendar month, for each month of the look-back but the last, as far as a delta is
    /// not below the threshold.
    Monthly(Threshold),
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self { look_back_months: 24, deltas: ScheduledDeltas::Off }
    }
}

/// How large documents may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentLimits {
    /// Most lines of a document, with its resources without a price. Default 250,000. A period with
    /// more is refused before its document has a number. A line takes about 3 KB of memory while its
    /// period is billed, and 8 KB while it is explained or verified.
    pub lines_max: usize,
    /// Bytes of a document's text up to which answers and messages have all of it. Default 512 KiB, at
    /// most 3 MiB. Larger, and consumers of the outbox have to take larger messages; smaller, and they
    /// have to ask for the lines of more documents.
    pub inline_bytes_max: usize,
}

impl Default for DocumentLimits {
    fn default() -> Self {
        Self { lines_max: 250_000, inline_bytes_max: 512 << 10 }
    }
}

/// How billing runs work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunConfig {
    /// How long after its end a period is billed at the earliest, so that usage may be late. Default
    /// 24 hours, the log's default lateness: what comes later is never counted. Shorter, and late
    /// usage makes deltas.
    pub grace: Duration,
    /// Tenants that are billed at once. Default 16, at least 1. Each holds one period's resources and
    /// lines in memory.
    pub tenants_at_once: usize,
    /// Rows read from the store at once. Default 5,000, at least 1.
    pub page_rows: usize,
    /// Time between two looks at a partition that a cut waits for. Default 200 ms.
    pub poll_interval: Duration,
    /// Tries to append a boundary before a run fails. Default 20, at least 1.
    pub tries_max: u32,
    /// First and last ceiling of the back-off between tries. Default 50 ms and 2 s.
    pub backoff: (Duration, Duration),
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(24 * 3_600),
            tenants_at_once: 16,
            page_rows: 5_000,
            poll_interval: Duration::from_millis(200),
            tries_max: 20,
            backoff: (Duration::from_millis(50), Duration::from_secs(2)),
        }
    }
}

impl RunConfig {
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.backoff.0, self.backoff.1)
    }
}
