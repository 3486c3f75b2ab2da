//! What can be typed: the commands, their flags, and examples in every `--help`.
//!
//! Argument types stand beside the commands that read them; those of serving commands are in
//! [`serving`].

pub mod serving;

use std::{env, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::{
    commands::{
        audit::AuditArgs, bill::BillCommand, catalog::CatalogCommand, config::ConfigCommand,
        contract::ContractCommand, dlq::DlqCommand, ingest::IngestArgs, invoice::InvoiceCommand,
        log::LogCommand, query::QueryCommand, replay::ReplayArgs, schema::SchemaCommand,
        shell::CompletionsArgs, status::StatusArgs, topics::TopicsCommand,
    },
    config::{self, Loaded, Sources},
    exit::{Exit, Failure},
    output::Format,
};
use serving::{BenchCommand, ConsumeArgs, DemoArgs, DevArgs, ServeArgs};

/// Meters usage and turns it into money.
///
/// Services stream pulses (one usage measurement each) over gRPC; a log keeps them; a consumer
/// drains the log into exact totals; a price list turns totals into bills; analysts query all of
/// it.
#[derive(Debug, Parser)]
#[command(
    name = "pulso",
    version,
    after_help = "Examples:
  pulso demo                                  see it work on real usage, in one command
  pulso dev                                   run everything on this machine
  pulso ingest usage.csv --format csv         send a file of usage
  pulso query usage --from 2024-09 --to 2024-10 --window P1D
  pulso bill preview --tenant acme --period 2024-09

Exit codes: 0 done, 1 a check failed, 10 unhealthy, 64 usage, 65 bad data, 69 unavailable,
70 internal, 75 try again, 77 permission, 78 configuration."
)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Clone, Debug, Args)]
pub struct Globals {
    /// How answers are printed on stdout.
    #[arg(long, short, global = true, env = "PULSO_OUTPUT", value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// The server's gRPC address.
    #[arg(
        long,
        global = true,
        env = "PULSO_SERVER",
        default_value = "http://127.0.0.1:7070",
        value_name = "URL",
        help_heading = "Client options"
    )]
    pub server: String,
    /// The server's HTTP address, for what is only there.
    #[arg(
        long,
        global = true,
        env = "PULSO_HTTP",
        default_value = "http://127.0.0.1:7080",
        value_name = "URL",
        help_heading = "Client options"
    )]
    pub http: String,
    /// Settings that flags override.
    #[command(flatten)]
    pub serving: ServingFlags,
}

/// Flags that override settings, for commands that serve.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Server options")]
pub struct ServingFlags {
    /// Configuration file. Without it, ./pulso.toml is read if there is one.
    #[arg(long, global = true, env = "PULSO_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the embedded log and store keep their files (`data_dir`).
    #[arg(long, global = true, value_name = "DIRECTORY")]
    pub data_dir: Option<String>,
    /// Where to listen for gRPC (`listen.grpc`). Port 0 takes a free port.
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub grpc_listen: Option<String>,
    /// Where to listen for HTTP (`listen.http`). Port 0 takes a free port.
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub http_listen: Option<String>,
    /// The pulse log: file:DIRECTORY, kafka://HOST:PORT or memory: (`log.url`).
    #[arg(long, global = true, value_name = "URL")]
    pub log: Option<String>,
    /// The store: file:DIRECTORY, scylla://HOST:PORT or memory: (`store.url`).
    #[arg(long, global = true, value_name = "URL")]
    pub store: Option<String>,
    /// Write the bound addresses to this file, as JSON, once ready.
    #[arg(long, global = true, env = "PULSO_PRINT_ADDRESSES", value_name = "FILE")]
    pub print_addresses: Option<PathBuf>,
}

impl ServingFlags {
    /// The sources of configuration: these flags, this process's environment, and the file.
    #[must_use]
    pub fn sources(&self) -> Sources {
        let flags = [
            ("--data-dir", "data_dir", &self.data_dir),
            ("--grpc-listen", "listen.grpc", &self.grpc_listen),
            ("--http-listen", "listen.http", &self.http_listen),
            ("--log", "log.url", &self.log),
            ("--store", "store.url", &self.store),
        ];
        // A variable that is not UTF-8 cannot be one of ours; `vars` would panic on it.
        let environment = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Sources {
            file: self.config.clone(),
            file_if_present: Some(config::load::DEFAULT_FILE.into()),
            environment,
            flags: flags
                .into_iter()
                .filter_map(|(flag, key, value)| Some((flag, key, value.clone()?)))
                .collect(),
        }
    }

    /// The configuration in effect.
    ///
    /// # Errors
    /// With the configuration code and every mistake of every source.
    pub fn load(&self) -> Result<Loaded, Failure> {
        config::load::load(&self.sources()).map_err(|errors| Failure::new(Exit::Config, errors))
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in this process, for development.
    Dev(DevArgs),
    /// Show the whole way on real usage: stream, drain, rate, explain; then end.
    Demo(DemoArgs),
    /// Run the chosen stages.
    Serve(ServeArgs),
    /// Drain the log into totals, without serving.
    Consume(ConsumeArgs),
    /// Send a file of usage.
    Ingest(IngestArgs),
    /// Ask for totals.
    #[command(subcommand)]
    Query(QueryCommand),
    /// Show where the pipeline stands; exits with 10 when it is not healthy.
    Status(StatusArgs),
    /// What usage costs: previews, billing runs, explanations.
    #[command(subcommand)]
    Bill(BillCommand),
    /// Invoices: list, show, print and void them.
    #[command(subcommand)]
    Invoice(InvoiceCommand),
    /// What tenants have agreed to: check, apply and show contracts.
    #[command(subcommand)]
    Contract(ContractCommand),
    /// Prices: import, check, test and publish them.
    #[command(subcommand)]
    Catalog(CatalogCommand),
    /// Pulses that reached the log but no total.
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// Fold the log again and compare it with the store.
    Audit(AuditArgs),
    /// Fold the log again into another epoch, compare it, put it to use.
    Replay(ReplayArgs),
    /// Measure this machine.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// The log on Kafka: show its generations, give it more partitions.
    #[command(subcommand)]
    Log(LogCommand),
    /// The Kafka topics: make them, compare them.
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// The tables on ScyllaDB: make them, compare them, migrate them.
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// The configuration: show it, check it, write a file of defaults.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell.
    Completions(CompletionsArgs),
    /// Print the manual page.
    Man,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        for line in ["pulso --server a:1 status -o json", "pulso -o json status --server a:1"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!((cli.globals.server.as_str(), cli.globals.output), ("a:1", Format::Json));
        }
    }
}
