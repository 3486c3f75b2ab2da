//! `pulso schema`: the tables on ScyllaDB or another server that speaks CQL, as versioned migrations.

use clap::Subcommand;
use serde_json::json;
use storage::scylla::schema;

use crate::{
    cli::Globals,
    exit::{Exit, Failure},
    output::{Answer, Printer},
    serve::backends::scylla,
};

/// `pulso schema`.
#[derive(Clone, Copy, Debug, Subcommand)]
#[command(after_help = "Examples:
  pulso schema apply --store 'scylla://127.0.0.1:9042?keyspace=pulso&replication=1'
  pulso schema check --config pulso.toml -o json")]
pub enum SchemaCommand {
    /// Make the keyspace and its tables where they are missing. Two may do it at once.
    Apply,
    /// Compare the schema's version with this program's; exits with 78 when it is another.
    Check,
    /// Bring an older schema to this program's version.
    Migrate,
}

/// Runs the command.
///
/// # Errors
/// When servers cannot be reached, or the schema is another.
pub async fn run(globals: &Globals, command: SchemaCommand) -> Result<Exit, Failure> {
    let loaded = globals.serving.load()?;
    let options = scylla::options(&loaded)?;
    let report = match command {
        SchemaCommand::Apply => schema::apply(&options).await,
        SchemaCommand::Check => schema::check(&options).await,
        SchemaCommand::Migrate => schema::migrate(&options).await,
    };
    let report = report.map_err(|error| scylla::schema_failure(&error))?;
    let document = json!({
        "keyspace": options.keyspace,
        "version": report.version,
        "applied": report.applied,
    });
    Printer::new(globals.output)
        .print(&Answer::single(document, &["keyspace", "version", "applied"]))?;
    Ok(Exit::Success)
}
