//! `pulso config`: what is in effect and where it was set, whether it is right, and a file to start
//! from.

use std::{fs::OpenOptions, io::Write, path::PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    cli::Globals,
    config::{self, KEYS},
    exit::{Exit, Failure},
    output::{Answer, Format, Printer},
    serve,
};

/// `pulso config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show the settings in effect.
    Show(ShowArgs),
    /// Check the settings; exits with 78 and lists every mistake.
    Check,
    /// Write a commented file with every setting at its default.
    Init(InitArgs),
}

/// `pulso config show`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso config show --origin
  PULSO_LOG__PARTITIONS=8 pulso config show --origin -o json")]
pub struct ShowArgs {
    /// Show where each was set: default, file and line, variable or flag.
    #[arg(long)]
    pub origin: bool,
}

/// `pulso config init`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso config init
  pulso config init - | less")]
pub struct InitArgs {
    /// The file to write, or - for stdout. A file that exists is left alone.
    #[arg(default_value = config::load::DEFAULT_FILE, value_name = "FILE")]
    pub file: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// When the configuration has mistakes, or the file cannot be written.
pub fn run(globals: &Globals, command: ConfigCommand) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Show(args) => show(globals, &args)?,
        ConfigCommand::Check => check(globals)?,
        ConfigCommand::Init(args) => init(globals, &args)?,
    }
    Ok(Exit::Success)
}

fn show(globals: &Globals, args: &ShowArgs) -> Result<(), Failure> {
    let loaded = globals.serving.load()?;
    let mut columns = vec!["key", "value"];
    if args.origin {
        columns.push("origin");
    }
    let settings: Vec<_> = KEYS
        .iter()
        .map(|key| {
            let mut setting = json!({"key": key.path, "value": (key.text)(&loaded.config)});
            if args.origin {
                setting["origin"] = loaded.origin(key.path).to_string().into();
            }
            setting
        })
        .collect();
    let answer = Answer::list(json!({ "settings": settings }), "settings", &columns);
    Printer::new(globals.output).print(&answer)
}

fn check(globals: &Globals) -> Result<(), Failure> {
    let loaded = globals.serving.load()?;
    // Files are a part of it that a start would refuse.
    serve::tls::load(&loaded.config)?;
    serve::access::load_certificates(&loaded.config.access)?;
    let set = KEYS.iter().filter(|key| loaded.origin(key.path) != config::Origin::Default).count();
    let document = json!({"ok": true, "settings": KEYS.len(), "set": set});
    Printer::new(globals.output).print(&Answer::single(document, &["ok", "settings", "set"]))
}

fn init(globals: &Globals, args: &InitArgs) -> Result<(), Failure> {
    let text = config::write::default_file();
    if args.file.as_os_str() == "-" {
        return Printer::print_text(&text);
    }
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&args.file)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Failure::file("write", &args.file, &error))?;
    if globals.output == Format::Table {
        return Printer::print_text(&format!("wrote {}\n", args.file.display()));
    }
    let document = json!({"file": args.file.display().to_string()});
    Printer::new(globals.output).print(&Answer::single(document, &["file"]))
}
