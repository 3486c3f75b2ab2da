//! `pulso`: parses the command line, runs the command, and turns its outcome into an exit code.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use pulso::{
    commands::{self, Cli},
    exit::Exit,
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
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

/// Shows help and version on stdout with success, a mistake on stderr with the usage code.
fn refuse(error: &clap::Error) -> ExitCode {
    let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
    let _ = error.print();
    exit.into()
}
