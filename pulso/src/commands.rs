//! Commands: what can be typed, and what each command does, one file each.
//!
//! Client commands talk gRPC to `--server` and print one answer; serving commands are handed to
//! [`crate::serve`] with the configuration in effect.

pub mod config;
mod files;
pub mod schema;
pub mod shell;
pub mod topics;
mod wire;
pub mod audit;
pub mod audit_log;
pub mod bill;
pub mod catalog;
pub mod contract;
pub mod dlq;
pub mod doctor;
pub mod invoice;
pub mod key;
pub mod log;
pub mod query;
pub mod replay;
pub mod status;
pub mod token;
pub mod ingest;
pub mod demo;

use std::future::Future;

use clap::{Parser, Subcommand};
use runtime::fault;

use self::{
    audit::AuditArgs, audit_log::AuditLogArgs, bill::BillCommand, catalog::CatalogCommand,
    config::ConfigCommand, contract::ContractCommand, dlq::DlqCommand, doctor::DoctorArgs,
    ingest::IngestArgs, invoice::InvoiceCommand, key::KeyCommand, log::LogCommand,
    query::QueryCommand, replay::ReplayArgs, schema::SchemaCommand, shell::CompletionsArgs,
    status::StatusArgs, token::TokenCommand, topics::TopicsCommand,
};
use crate::{
    cli::{
        Globals,
        serving::{BenchCommand, ConsumeArgs, DemoArgs, DevArgs, ServeArgs},
    },
    exit::{Exit, Failure},
    output::Printer,
    serve::{self, Serving},
};

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

/// All commands, in the order of `--help`.
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
    /// Who changed what and when: every call that writes. For export, `-o jsonl`.
    AuditLog(AuditLogArgs),
    /// What an embedded directory holds by kind, and what to change.
    Doctor(DoctorArgs),
    /// Fold the log again into another epoch, compare it, put it to use.
    Replay(ReplayArgs),
    /// API keys: make, list and revoke them.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Tokens of an issuer: what they say.
    #[command(subcommand)]
    Token(TokenCommand),
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
    /// Print the description of HTTP, OpenAPI 3.1, to generate clients from.
    Openapi,
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot; the failure knows its exit code.
pub fn run(cli: Cli) -> Result<Exit, Failure> {
    let Cli { globals, command } = cli;
    match command {
        Command::Dev(args) => served(&globals, |serving| serve::dev(serving, args)),
        Command::Demo(args) => served(&globals, |serving| demo::run(serving, args)),
        Command::Serve(args) => served(&globals, |serving| serve::serve(serving, args)),
        Command::Consume(args) => served(&globals, |serving| serve::consume(serving, args)),
        Command::Bench(BenchCommand::Pipeline(args)) => {
            served(&globals, |serving| serve::bench(serving, args))
        }
        Command::Bench(BenchCommand::Drain(args)) => {
            served(&globals, |serving| serve::bench_drain(serving, args))
        }
        Command::Bench(BenchCommand::Rate(args)) => {
            served(&globals, |serving| async move { serve::bench::rate::run(&serving, &args) })
        }
        Command::Bench(BenchCommand::Years(args)) => {
            served(&globals, |serving| serve::bench::years::run(serving, args))
        }
        Command::Ingest(args) => block_on(ingest::run(&globals, args)),
        Command::Query(command) => block_on(query::run(&globals, command)),
        Command::Status(args) => block_on(status::run(&globals, args)),
        Command::Bill(command) => block_on(bill::run(&globals, command)),
        Command::Invoice(command) => block_on(invoice::run(&globals, command)),
        Command::Contract(command) => block_on(contract::run(&globals, command)),
        Command::Catalog(command) => block_on(catalog::run(&globals, command)),
        Command::Dlq(command) => block_on(dlq::run(&globals, command)),
        Command::Audit(args) => block_on(audit::run(&globals, args)),
        Command::AuditLog(args) => block_on(audit_log::run(&globals, args)),
        Command::Doctor(args) => doctor::run(&globals, args),
        Command::Replay(args) => block_on(replay::run(&globals, args)),
        Command::Key(command) => block_on(key::run(&globals, command)),
        Command::Token(command) => token::run(&globals, command),
        Command::Log(command) => block_on(log::run(&globals, command)),
        Command::Topics(command) => block_on(topics::run(&globals, command)),
        Command::Schema(command) => block_on(schema::run(&globals, command)),
        Command::Config(command) => config::run(&globals, command),
        Command::Completions(args) => shell::completions(args),
        Command::Man => shell::man(),
        Command::Openapi => shell::openapi(),
    }
}

/// Loads the configuration and runs a serving command.
fn served<F>(globals: &Globals, command: impl FnOnce(Serving) -> F) -> Result<Exit, Failure>
where
    F: Future<Output = Result<Exit, Failure>>,
{
    fault::check().map_err(|error| Failure::new(Exit::Config, error))?;
    let loaded = globals.serving.load()?;
    let print_addresses = globals.serving.print_addresses.clone();
    let printer = Printer::new(globals.output);
    block_on(command(Serving { loaded, print_addresses, printer }))
}

fn block_on<F>(command: F) -> Result<Exit, Failure>
where
    F: Future<Output = Result<Exit, Failure>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("serve")
        .enable_all()
        .build()
        .map_err(|error| Failure::internal(format_args!("cannot start threads: {error}")))?;
    let ended = runtime.block_on(command);
    // What matters was waited for. A fold that answers a question nobody waits for is not.
    runtime.shutdown_background();
    ended
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::output::Format;

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
