//! `pulso completions`, `pulso man` and `pulso openapi`: what a shell, a manual and a generator of
//! clients need, made from the program itself.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use crate::{
    exit::{Exit, Failure},
    output::Printer,
    serve::description,
};

/// `pulso completions`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso completions bash > ~/.local/share/bash-completion/completions/pulso
  pulso completions zsh > ~/.zfunc/_pulso")]
pub struct CompletionsArgs {
    /// The shell that will run the script.
    pub shell: Shell,
}

/// Prints a completion script.
///
/// # Errors
/// When stdout cannot be written.
pub fn completions(args: CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pulso", &mut script);
    Printer::print_text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Success)
}

/// Prints the manual page.
///
/// # Errors
/// When stdout cannot be written.
pub fn man() -> Result<Exit, Failure> {
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
    rendered.map_err(|error| Failure::internal(format_args!("cannot render the page: {error}")))?;
    Printer::print_text(&String::from_utf8_lossy(&page))?;
    Ok(Exit::Success)
}

/// Prints the description of HTTP with the routes of all stages.
///
/// # Errors
/// When stdout cannot be written.
pub fn openapi() -> Result<Exit, Failure> {
    Printer::print_text(&description::openapi())?;
    Ok(Exit::Success)
}
