//! `pulso catalog`: prices, from a provider's file or by hand, checked and tested here, published
//! there.

mod local;

use std::path::{Path, PathBuf};

use crate::client::Channel;
use billing::answers;
use clap::{Args, Subcommand, ValueEnum};
use pricing::timeline::Month;
use proto::v1::{
    GetCatalogueRequest, ListCataloguesRequest, PublishCatalogueRequest, RetiredSku,
    SimulateRequest, catalog_service_client::CatalogServiceClient,
};
use serde_json::json;

use super::{bill::simulate, files::read_text};
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
    /// Show what differs between two catalogues, and what that makes of past usage and its documents.
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
  pulso catalog publish catalogue.yaml --validate-only
  pulso catalog publish mended.yaml --about-the-past")]
pub struct PublishArgs {
    /// The YAML file.
    pub file: PathBuf,
    /// Have the server check it, and publish nothing.
    #[arg(long)]
    pub validate_only: bool,
    /// The file's effective_from may lie in the past: runs for deltas then correct what was billed.
    #[arg(long)]
    pub about_the_past: bool,
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
  pulso catalog diff 2026-10 2026-11 --period 2026-09 -o csv
  pulso catalog diff 2026-10 mended.yaml")]
pub struct DiffArgs {
    /// The version before.
    pub before: String,
    /// The version after, or a file. A file with an `effective_from` is compared with what is in effect
    /// now, beside which it would be published.
    pub after: String,
    /// The month whose usage is compared. Default: last month, or each since the file's date, if that
    /// is in the past.
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

const COLUMNS: [&str; 5] = ["version", "effective_from", "published_at", "skus", "digest"];
/// Most retired SKUs that a note names.
const NAMED_MAX: usize = 20;
/// Most months that are compared: the newest.
const MONTHS_MAX: usize = 60;

async fn publish(globals: &Globals, printer: &Printer, args: PublishArgs) -> Result<Exit, Failure> {
    let text = read_text(&args.file)?;
    let mut client = connect(globals).await?;
    let PublishArgs { validate_only, about_the_past, .. } = args;
    let request = PublishCatalogueRequest { text, validate_only, about_the_past };
    let answered = client.publish_catalogue(request).await;
    let published = answered.map_err(|status| Failure::status(&status))?.into_inner();
    let document = json!(answers::published(&published, validate_only));
    let note = match (validate_only, published.already_published) {
        (true, _) => "checked; nothing is published",
        (false, true) => "this very content was published before",
        (false, false) => "published",
    };
    let answer = Answer::single(document, &COLUMNS).note(note);
    printer.print(&retired_note(&published.retired).into_iter().fold(answer, Answer::note))?;
    Ok(Exit::Success)
}

/// Which SKUs have no price any more once the version is in effect.
fn retired_note(retired: &[RetiredSku]) -> Option<String> {
    let named = retired.iter().take(NAMED_MAX);
    let named: Vec<String> =
        named.map(|sku| format!("{} in {}", sku.product_sku, sku.use_unity)).collect();
    let more = match retired.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!named.is_empty()).then(|| {
        format!(
            "retired, but for tenants that subscribe to them or have prices of their own: {}{more}",
            named.join(", ")
        )
    })
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

/// The lines that differ, on stderr but for a table, and the usage of months under both.
async fn diff(globals: &Globals, printer: &Printer, args: DiffArgs) -> Result<Exit, Failure> {
    let before = published_text(globals, &args.before).await?;
    let path = Path::new(&args.after);
    let (after, offered) = if path.is_file() {
        let text = read_text(path)?;
        (text.clone(), Some(text))
    } else {
        (published_text(globals, &args.after).await?, None)
    };
    let changes = similar::TextDiff::from_lines(&before, &after);
    let unified = changes.unified_diff().header(&args.before, &args.after).to_string();
    if printer.format() == Format::Table {
        Printer::print_text(&unified)?;
    }
    let since = match &offered {
        Some(text) => effective_from(path, text)?,
        None => None,
    };
    let (months, left_out) = match args.period {
        Some(period) => (vec![period], 0),
        None => months_since(domain::Clock::now(&runtime::clock::system()), since),
    };
    let request = |period| SimulateRequest {
        period,
        // Beside those that are in effect, because the file says from when it counts.
        old_version: if since.is_some() { String::new() } else { args.before.clone() },
        new_version: if offered.is_some() { String::new() } else { args.after.clone() },
        new_text: offered.clone().unwrap_or_default(),
        contract_texts: Vec::new(),
    };
    let mut simulations = Vec::with_capacity(months.len());
    for period in months {
        simulations.push(simulate::ask(globals, request(period)).await?);
    }
    let mut answer = simulate::answer_of_all(&simulations);
    answer.document["text_diff"] = unified.into();
    if left_out > 0 {
        let note = format!("{left_out} older months were not compared; --period compares one");
        answer.notes.push(note);
    }
    printer.print(&answer)?;
    Ok(Exit::Success)
}

async fn published_text(globals: &Globals, version: &str) -> Result<String, Failure> {
    let request = GetCatalogueRequest { version: version.to_owned() };
    let found = connect(globals).await?.get_catalogue(request).await;
    Ok(found.map_err(|status| Failure::status(&status))?.into_inner().text)
}

/// The date that a file gives.
fn effective_from(path: &Path, text: &str) -> Result<Option<domain::Timestamp>, Failure> {
    let name = path.display().to_string();
    let file = pricing::file::parse(&name, text.as_bytes()).map_err(Failure::data)?;
    Ok(file.catalogue.effective_from)
}

/// The months in which periods begin that may reach behind a moment in the past, to this one, in order, the
/// newest, and how many older ones are left out; last month where there is none. A period reaches into the
/// month after its own, zones begin a month a day earlier or later, and a period that began this month may
/// be billed up to its end before it.
fn months_since(now: domain::Timestamp, since: Option<domain::Timestamp>) -> (Vec<String>, usize) {
    let this = Month::of(now);
    let (first, last) = match since {
        Some(since) => (Month::of(since).min(this).previous().previous(), this),
        None => (this.previous(), this.previous()),
    };
    let (months, left_out) = Month::newest(first, last, MONTHS_MAX);
    (months.iter().map(Month::to_string).collect(), left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_compared_for_every_month_whose_periods_may_reach_behind_its_date() {
        let months = |since: Option<&str>| {
            let since = since.map(|since| since.parse().unwrap());
            months_since("2026-11-30T00:00:00Z".parse().unwrap(), since)
        };
        let named =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(months(None), (named(&["2026-10"]), 0));
        // A period of September in Sao Paulo ends in October, and one from 31 August on 29 September.
        let since_october = named(&["2026-08", "2026-09", "2026-10", "2026-11"]);
        assert_eq!(months(Some("2026-10-01T00:00:00Z")), (since_october, 0));
        let future = months(Some("2027-01-01T00:00:00Z"));
        assert_eq!(future, (named(&["2026-09", "2026-10", "2026-11"]), 0));
        let (newest, left_out) = months(Some("2000-01-01T00:00:00Z"));
        assert_eq!((newest.len(), newest.last().unwrap().as_str()), (MONTHS_MAX, "2026-11"));
        assert_eq!(left_out, 26 * 12 + 13 - MONTHS_MAX);
    }
}
