//! `pulso catalog`: prices, from a provider's file or by hand, checked and tested here, published
//! there.

mod local;

use std::path::PathBuf;

use crate::client::Channel;
use billing::answers;
use clap::{Args, Subcommand, ValueEnum};
use proto::v1::{
    GetCatalogueRequest, ListCataloguesRequest, PublishCatalogueRequest,
    catalog_service_client::CatalogServiceClient,
};
use serde_json::json;

use super::files::read_text;
use crate::{
    cli::Globals,
    client,
    exit::{Exit, Failure},
    output::{Answer, Format, Printer, counted},
};

/// `pulso catalog`.
#[derive(Debug, Subcommand)]
pub enum CatalogCommand {
    /// Draw a price list from a provider's file and print it as a catalogue.
    Import(ImportArgs),
    /// Check a catalogue file and list every mistake.
    Check(FileArgs),
    /// Run a catalogue file's own tests; exits with 1 when one fails.
    Test(FileArgs),
    /// Publish a catalogue file under its version, for ever.
    Publish(PublishArgs),
    /// Show a published catalogue.
    Show(ShowArgs),
    /// List the published catalogues, newest first.
    List,
    /// Show what differs between two published catalogues, and what that makes of a month's usage.
    Diff(DiffArgs),
}

/// `pulso catalog import`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso catalog import --format focus focus.csv > catalogue.yaml
  pulso catalog test catalogue.yaml && pulso catalog publish catalogue.yaml")]
pub struct ImportArgs {
    /// The provider's file.
    pub file: PathBuf,
    /// What it looks like.
    #[arg(long, value_enum)]
    pub format: ImportFormat,
    /// Name of the version. Default: after the file's first billing month.
    #[arg(long, value_name = "VERSION")]
    pub catalogue: Option<String>,
}

/// Formats that carry prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    /// A FOCUS 1.0 export of cost and usage, as CSV.
    Focus,
}

/// A catalogue file.
#[derive(Clone, Debug, Args)]
pub struct FileArgs {
    /// The YAML file.
    pub file: PathBuf,
}

/// `pulso catalog publish`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso catalog publish catalogue.yaml
  pulso catalog publish catalogue.yaml --validate-only")]
pub struct PublishArgs {
    /// The YAML file.
    pub file: PathBuf,
    /// Have the server check it, and publish nothing.
    #[arg(long)]
    pub validate_only: bool,
}

/// `pulso catalog show`.
#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// Its version. Default: the latest.
    pub version: Option<String>,
}

/// `pulso catalog diff`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso catalog diff 2026-10 2026-11
  pulso catalog diff 2026-10 2026-11 --period 2026-09 -o csv")]
pub struct DiffArgs {
    /// The version before.
    pub before: String,
    /// The version after.
    pub after: String,
    /// The month whose usage is compared. Default: last month.
    #[arg(long, value_name = "YYYY-MM")]
    pub period: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// When the file is wrong, or the server cannot be reached or refuses.
pub async fn run(globals: &Globals, command: CatalogCommand) -> Result<Exit, Failure> {
    let printer = Printer::new(globals.output);
    match command {
        CatalogCommand::Import(args) => local::import(&printer, &args),
        CatalogCommand::Check(args) => local::check(&printer, &args.file),
        CatalogCommand::Test(args) => local::test(&printer, &args.file),
        CatalogCommand::Publish(args) => publish(globals, &printer, args).await,
        CatalogCommand::Show(args) => show(globals, &printer, args).await,
        CatalogCommand::List => list(globals, &printer).await,
        CatalogCommand::Diff(args) => diff(globals, &printer, args).await,
    }
}

async fn connect(globals: &Globals) -> Result<CatalogServiceClient<Channel>, Failure> {
    let channel = globals.connect().await?;
    Ok(CatalogServiceClient::new(channel).max_decoding_message_size(client::ANSWER_BYTES_MAX))
}

const COLUMNS: [&str; 4] = ["version", "published_at", "skus", "digest"];

async fn publish(globals: &Globals, printer: &Printer, args: PublishArgs) -> Result<Exit, Failure> {
    let text = read_text(&args.file)?;
    let mut client = connect(globals).await?;
    let validate_only = args.validate_only;
    let answered = client.publish_catalogue(PublishCatalogueRequest { text, validate_only }).await;
    let published = answered.map_err(|status| Failure::status(&status))?.into_inner();
    let document = json!(answers::published(&published, validate_only));
    let note = match (validate_only, published.already_published) {
        (true, _) => "checked; nothing is published",
        (false, true) => "this very content was published before",
        (false, false) => "published",
    };
    printer.print(&Answer::single(document, &COLUMNS).note(note))?;
    Ok(Exit::Success)
}

async fn show(globals: &Globals, printer: &Printer, args: ShowArgs) -> Result<Exit, Failure> {
    let mut client = connect(globals).await?;
    let request = GetCatalogueRequest { version: args.version.unwrap_or_default() };
    let answered = client.get_catalogue(request).await;
    let catalogue = answered.map_err(|status| Failure::status(&status))?.into_inner();
    if printer.format() == Format::Table {
        // For a person, and for a file, the catalogue is its text.
        Printer::print_text(&catalogue.text)?;
        return Ok(Exit::Success);
    }
    let document = json!(answers::catalogue(&catalogue));
    let columns = COLUMNS.into_iter().chain(["text"]).collect();
    printer.print(&Answer { columns, ..Answer::single(document, &[]) })?;
    Ok(Exit::Success)
}

async fn list(globals: &Globals, printer: &Printer) -> Result<Exit, Failure> {
    let mut client = connect(globals).await?;
    let answered = client.list_catalogues(ListCataloguesRequest {}).await;
    let catalogues = answered.map_err(|status| Failure::status(&status))?.into_inner().catalogues;
    let document = json!(answers::catalogues(&catalogues));
    let answer = Answer::list(document, "catalogues", &COLUMNS);
    printer.print(&answer.note(counted(catalogues.len(), "catalogue")))?;
    Ok(Exit::Success)
}

/// The lines that differ, on stderr but for a table, and the usage of a month under both.
async fn diff(globals: &Globals, printer: &Printer, args: DiffArgs) -> Result<Exit, Failure> {
    let mut client = connect(globals).await?;
    let mut texts = Vec::new();
    for version in [&args.before, &args.after] {
        let request = GetCatalogueRequest { version: version.clone() };
        let found = client.get_catalogue(request).await;
        texts.push(found.map_err(|status| Failure::status(&status))?.into_inner().text);
    }
    let changes = similar::TextDiff::from_lines(&texts[0], &texts[1]);
    let unified = changes.unified_diff().header(&args.before, &args.after).to_string();
    if printer.format() == Format::Table {
        Printer::print_text(&unified)?;
    }
    let period = match args.period {
        Some(period) => period,
        None => last_month()?,
    };
    let request = proto::v1::SimulateRequest {
        period,
        old_version: args.before,
        new_version: args.after,
        new_text: String::new(),
    };
    let simulation = super::bill::simulate::ask(globals, request).await?;
    let mut answer = super::bill::simulate::answer(&simulation);
    answer.document["text_diff"] = unified.into();
    printer.print(&answer)?;
    Ok(Exit::Success)
}

fn last_month() -> Result<String, Failure> {
    let now = domain::Clock::now(&runtime::clock::system()).to_string();
    let this: pricing::timeline::Month = now[..7].parse().map_err(Failure::internal)?;
    Ok(this.previous().to_string())
}
