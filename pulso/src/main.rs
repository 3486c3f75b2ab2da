//! `pulso`: parses the command line, runs the command, and turns its outcome into an exit code.

use std::{io::Write, process::ExitCode};

use clap::{CommandFactory, Parser, builder::Resettable};
use pulso::{
    commands::{self, Cli},
    exit::Exit,
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return refuse(&without_environment(error)),
        Err(help) => return refuse(&help),
    };
    match commands::run(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            // Nothing is left to do when stderr itself is gone.
            let _ = writeln!(std::io::stderr(), "error: {failure}");
            failure.exit.into()
        }
    }
}

/// The same mistake as it is without the variables that flags are read from: what a variable gives
/// is in the usage line like a flag that has to be typed.
fn without_environment(error: clap::Error) -> clap::Error {
    let command = Cli::command().mut_args(|flag| flag.env(Resettable::Reset));
    let again = command.try_get_matches().err();
    again.filter(|again| again.kind() == error.kind()).unwrap_or(error)
}

/// Shows help and version on stdout with success, a mistake on stderr with the usage code.
fn refuse(error: &clap::Error) -> ExitCode {
    let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
    let _ = error.print();
    exit.into()
}
