//! Commands: what each of them does, one file each.
//!
//! Client commands talk gRPC to `--server` and print one answer; serving commands are handed to
//! [`crate::serve`] with the configuration in effect.

pub mod audit;
pub mod bill;
pub mod catalog;
pub mod config;
pub mod contract;
pub mod dlq;
pub mod ingest;
pub mod invoice;
pub mod log;
pub mod query;
pub mod replay;
pub mod schema;
pub mod shell;
pub mod status;
pub mod topics;
mod wire;

use std::future::Future;

use runtime::fault;

use crate::{
    cli::{Cli, Command, Globals, serving::BenchCommand},
    exit::{Exit, Failure},
    output::Printer,
    serve::{self, Serving},
};

/// Runs a command to its end.
///
/// # Errors
/// When it cannot; the failure knows its exit code.
pub fn run(cli: Cli) -> Result<Exit, Failure> {
    let Cli { globals, command } = cli;
    match command {
        Command::Dev(args) => served(&globals, |serving| serve::dev(serving, args)),
        Command::Demo(args) => served(&globals, |serving| serve::demo(serving, args)),
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
        Command::Ingest(args) => block_on(ingest::run(&globals, args)),
        Command::Query(command) => block_on(query::run(&globals, command)),
        Command::Status(args) => block_on(status::run(&globals, args)),
        Command::Bill(command) => block_on(bill::run(&globals, command)),
        Command::Invoice(command) => block_on(invoice::run(&globals, command)),
        Command::Contract(command) => block_on(contract::run(&globals, command)),
        Command::Catalog(command) => block_on(catalog::run(&globals, command)),
        Command::Dlq(command) => block_on(dlq::run(&globals, command)),
        Command::Audit(args) => block_on(audit::run(&globals, args)),
        Command::Replay(args) => block_on(replay::run(&globals, args)),
        Command::Log(command) => block_on(log::run(&globals, command)),
        Command::Topics(command) => block_on(topics::run(&globals, command)),
        Command::Schema(command) => block_on(schema::run(&globals, command)),
        Command::Config(command) => config::run(&globals, command),
        Command::Completions(args) => shell::completions(args),
        Command::Man => shell::man(),
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
