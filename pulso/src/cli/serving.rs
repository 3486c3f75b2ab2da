//! Arguments of the commands that run stages.

use std::{
    num::{NonZeroU16, NonZeroU64},
    path::PathBuf,
};

use clap::{Args, Subcommand, ValueEnum};

/// `pulso dev`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso dev
  pulso dev --data-dir ./play --grpc-listen 127.0.0.1:0 --print-addresses addresses.json
  pulso dev --log memory: --store memory:

Not for production. It asks for no credentials and listens on loopback only, unless access.mode is
`required`. Its first start on a store without API keys makes one, `dev`, and prints it once.")]
pub struct DevArgs {}

/// `pulso demo`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso demo
  pulso demo --sample samples/focus-1.0-sample-1000.csv

Without --data-dir it works in a fresh directory of its own.")]
pub struct DemoArgs {
    /// The FOCUS file to run on.
    #[arg(long, value_name = "FILE", default_value = "samples/focus-1.0-sample-1000.csv")]
    pub sample: PathBuf,
}

/// `pulso serve`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso serve --stage ingest,consume,price,query --config pulso.toml")]
pub struct ServeArgs {
    /// Stages to run, separated by commas.
    #[arg(
        long = "stage",
        required = true,
        value_delimiter = ',',
        value_enum,
        value_name = "STAGE"
    )]
    pub stages: Vec<Stage>,
}

/// A part of the pipeline that can run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// Takes pulses into the log.
    Ingest,
    /// Drains the log into totals.
    Consume,
    /// Rates totals.
    Price,
    /// Answers queries.
    Query,
}

/// `pulso consume`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso consume --once                        drain what is there, then exit
  pulso consume --schedule '0 0 * * * *'      every hour, on the hour, in UTC
  pulso consume --follow                      keep up, a tick every second")]
pub struct ConsumeArgs {
    /// When to drain.
    #[command(flatten)]
    pub when: ConsumeWhen,
}

/// When to drain; without any of them, `consumer.schedule` says.
#[derive(Clone, Debug, Args)]
#[group(multiple = false)]
pub struct ConsumeWhen {
    /// Once: drain what is there, make it final, and exit.
    #[arg(long)]
    pub once: bool,
    /// By a cron expression of six fields in UTC, seconds first.
    #[arg(long, value_name = "CRON")]
    pub schedule: Option<String>,
    /// Again and again.
    #[arg(long)]
    pub follow: bool,
}

/// `pulso bench`.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// Measure the whole way, from a client to the totals.
    Pipeline(PipelineArgs),
    /// Fill a log, then measure draining and aggregating alone.
    Drain(PipelineArgs),
    /// Rate hourly rows of a month, on one core.
    Rate(RateArgs),
    /// Fold, merge and bill months of simulated time, and measure what the store is like after them.
    Years(YearsArgs),
}

/// `pulso bench years`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso bench years --resources 1000 --days 30
  pulso bench years --days 365 --replay -o json")]
pub struct YearsArgs {
    /// Resources, each with an agent of its own that sends a pulse every ten minutes.
    #[arg(long, default_value = "10000", value_name = "N")]
    pub resources: NonZeroU64,
    /// Tenants that they are spread over.
    #[arg(long, default_value = "100", value_name = "N")]
    pub tenants: NonZeroU64,
    /// Days of simulated time.
    #[arg(long, default_value = "30", value_name = "N")]
    pub days: NonZeroU64,
    /// Partitions of the log.
    #[arg(long, default_value = "4", value_name = "N")]
    pub partitions: NonZeroU16,
    /// Fold the last day again at half of the time, and use that.
    #[arg(long)]
    pub replay: bool,
}

/// `pulso bench rate`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso bench rate
  pulso bench rate --tenants 10000 --skus-per-tenant 100     a million keys")]
pub struct RateArgs {
    /// Tenants, one after the other.
    #[arg(long, default_value = "200", value_name = "N")]
    pub tenants: NonZeroU64,
    /// SKUs that each uses in every hour of the month.
    #[arg(long, default_value = "100", value_name = "N")]
    pub skus_per_tenant: NonZeroU64,
}

/// `pulso bench pipeline`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso bench pipeline
  pulso bench pipeline --pulses 100000000 --keys 1000 -o json
  pulso bench pipeline --mode unary --pulses 20000
  pulso bench drain --pulses 20000000 --keys 20000 --hours 23")]
pub struct PipelineArgs {
    /// Pulses to send.
    #[arg(long, default_value = "10000000", value_name = "N")]
    pub pulses: NonZeroU64,
    /// Different resources to spread them over.
    #[arg(long, default_value = "1000", value_name = "K")]
    pub keys: NonZeroU64,
    /// Spread the pulses' times over this many hours before now, at most 23; 0 for the last second.
    #[arg(long, default_value_t = 0, value_name = "H", value_parser = clap::value_parser!(u64).range(..=23))]
    pub hours: u64,
    /// How they are sent.
    #[arg(long, value_enum, default_value_t = Mode::Stream)]
    pub mode: Mode,
    /// What makes a retry safe.
    #[arg(long, value_enum, default_value_t = BenchIdentity::Numbered)]
    pub identity: BenchIdentity,
    /// Pulses in a batch.
    #[arg(long, default_value = "500", value_name = "N")]
    pub batch_size: NonZeroU64,
    /// Batches of one stream, or callers, that may wait for their ack.
    #[arg(long, default_value = "64", value_name = "N")]
    pub in_flight: NonZeroU64,
    /// Pulses a second to offer, over all streams. Default: as many as it takes.
    #[arg(long, value_name = "N")]
    pub rate: Option<NonZeroU64>,
}

/// How the bench sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Batches on a stream, many in flight.
    Stream,
    /// One pulse a call, one record, one commit.
    Unary,
}

/// The identity of the bench's pulses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchIdentity {
    /// Numbered batches.
    Numbered,
    /// An id on each pulse.
    Ids,
}
