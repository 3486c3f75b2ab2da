//! `pulso contract`: what tenants have agreed to, checked here, applied there.

use std::path::PathBuf;

use crate::client::Channel;
use billing::answers;
use clap::{Args, Subcommand};
use pricing::{
    file::contract::{self, Outline},
    moment::Calendar,
};
use proto::v1::{
    ApplyContractRequest, Contract, GetContractRequest, ListContractsRequest,
    billing_service_client::BillingServiceClient,
};
use serde_json::json;

use super::{bill::connect, files::read_text};
use crate::{
    cli::Globals,
    config::{log_window::LogWindow, value::Setting as _},
    exit::{Exit, Failure},
    output::{Answer, Format, Printer, counted},
};

/// `pulso contract`.
#[derive(Debug, Subcommand)]
pub enum ContractCommand {
    /// Check a contract file without a server: all but what its catalogue must know.
    Check(CheckArgs),
    /// Apply contract files, for ever; from its first day on, each supersedes those before it.
    Apply(ApplyArgs),
    /// Show a contract.
    Show(ShowArgs),
    /// List the contracts, in the order in which they were applied.
    List(ListArgs),
    /// Show which lines differ between two contracts.
    Diff(DiffArgs),
}

/// `pulso contract check`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso contract check acme.yaml
  pulso contract check acme.yaml --window 15m       for a log with windows of 15 minutes")]
pub struct CheckArgs {
    /// The YAML file.
    pub file: PathBuf,
    /// Windows of the log that is to bill it, as `pulso log show` says: 15m, 30m or 1h. Default:
    /// log.window of the configuration here. The days of the contract's zone have to begin on them.
    #[arg(long, value_name = "LENGTH", value_parser = LogWindow::parse)]
    pub window: Option<LogWindow>,
}

/// `pulso contract apply`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso contract apply acme.yaml
  pulso contract apply contracts/*.yaml --validate-only")]
pub struct ApplyArgs {
    /// The YAML files, applied in this order; the first that is refused ends it.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Have the server check them, and apply nothing.
    #[arg(long)]
    pub validate_only: bool,
}

/// `pulso contract show`.
#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// Its name.
    pub name: String,
}

/// `pulso contract list`.
#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// Only this tenant's.
    #[arg(long)]
    pub tenant: Option<String>,
}

/// `pulso contract diff`.
#[derive(Clone, Debug, Args)]
pub struct DiffArgs {
    /// The name of the one that was applied.
    pub before: String,
    /// The name of the other.
    pub after: String,
}

const COLUMNS: [&str; 5] = ["name", "tenant", "valid_from", "valid_to", "applied_at"];

/// Runs the command.
///
/// # Errors
/// When a file is wrong, or the server cannot be reached or refuses.
pub async fn run(globals: &Globals, command: ContractCommand) -> Result<Exit, Failure> {
    let printer = Printer::new(globals.output);
    match command {
        ContractCommand::Check(args) => check(globals, &printer, &args),
        ContractCommand::Apply(args) => apply(globals, &printer, args).await,
        ContractCommand::Show(args) => show(globals, &printer, args).await,
        ContractCommand::List(args) => list(globals, &printer, args).await,
        ContractCommand::Diff(args) => diff(globals, args).await,
    }
}

fn check(globals: &Globals, printer: &Printer, args: &CheckArgs) -> Result<Exit, Failure> {
    let text = read_text(&args.file)?;
    let name = args.file.display().to_string();
    let outline = contract::check_contract(&name, text.as_bytes()).map_err(Failure::data)?;
    check_zone(globals, args.window, &outline)
        .map_err(|failure| Failure::new(failure.exit, format_args!("{name}: {failure}")))?;
    let document = json!({"name": outline.name.as_str(), "tenant": outline.tenant.as_str()});
    let answer = Answer::single(document, &["name", "tenant"]);
    printer.print(&answer.note("checked, but for what only its catalogue knows"))?;
    Ok(Exit::Success)
}

/// Refuses a zone whose days begin inside the log's windows.
fn check_zone(
    globals: &Globals,
    window: Option<LogWindow>,
    outline: &Outline,
) -> Result<(), Failure> {
    let window = match window {
        Some(window) => window,
        None => globals.serving.load()?.config.log.window,
    };
    let zone = outline.time_zone.as_str();
    let Some(calendar) = Calendar::named(zone) else { return Ok(()) };
    let zone = (&calendar, outline.agreed);
    billing::check_zone(outline.name.as_str(), zone, window.length()).map_err(|error| {
        Failure::data(format_args!(
            "{error}. If the log has other windows than log.window says here, name them by --window"
        ))
    })
}

async fn apply(globals: &Globals, printer: &Printer, args: ApplyArgs) -> Result<Exit, Failure> {
    let mut client = connect(globals).await?;
    let validate_only = args.validate_only;
    let mut contracts = Vec::new();
    for file in &args.files {
        let text = read_text(file)?;
        let answered = client.apply_contract(ApplyContractRequest { text, validate_only }).await;
        let applied = answered.map_err(|status| {
            let failure = Failure::status(&status);
            Failure::new(failure.exit, format_args!("{}: {failure}", file.display()))
        })?;
        let applied = applied.into_inner();
        let mut document = json!(answers::contract(&applied.contract.unwrap_or_default()));
        document["already_applied"] = applied.already_applied.into();
        contracts.push(document);
    }
    let note = format!(
        "{} {}",
        contracts.len(),
        if validate_only { "checked; nothing is applied" } else { "applied" }
    );
    let document = json!({"contracts": contracts, "validate_only": validate_only});
    printer.print(&Answer::list(document, "contracts", &COLUMNS).note(note))?;
    Ok(Exit::Success)
}

async fn show(globals: &Globals, printer: &Printer, args: ShowArgs) -> Result<Exit, Failure> {
    let found = get(&mut connect(globals).await?, args.name).await?;
    if printer.format() == Format::Table {
        // For a person, and for a file, the contract is its text.
        Printer::print_text(&found.text)?;
        return Ok(Exit::Success);
    }
    let document = json!(answers::contract(&found));
    let columns = COLUMNS.into_iter().chain(["text"]).collect();
    printer.print(&Answer { columns, ..Answer::single(document, &[]) })?;
    Ok(Exit::Success)
}

async fn list(globals: &Globals, printer: &Printer, args: ListArgs) -> Result<Exit, Failure> {
    let request = ListContractsRequest { tenant: args.tenant.unwrap_or_default() };
    let answered = connect(globals).await?.list_contracts(request).await;
    let contracts = answered.map_err(|status| Failure::status(&status))?.into_inner().contracts;
    let document = json!(answers::contracts(&contracts));
    let answer = Answer::list(document, "contracts", &COLUMNS);
    printer.print(&answer.note(counted(contracts.len(), "contract")))?;
    Ok(Exit::Success)
}

/// Lines that only one of them has, in the manner of `diff`, by their texts.
async fn diff(globals: &Globals, args: DiffArgs) -> Result<Exit, Failure> {
    let mut client = connect(globals).await?;
    let before = get(&mut client, args.before).await?;
    let after = get(&mut client, args.after).await?;
    let changes = similar::TextDiff::from_lines(&before.text, &after.text);
    let mut unified = changes.unified_diff();
    Printer::print_text(&unified.header(&before.name, &after.name).to_string())?;
    Ok(Exit::Success)
}

async fn get(
    client: &mut BillingServiceClient<Channel>,
    name: String,
) -> Result<Contract, Failure> {
    let answered = client.get_contract(GetContractRequest { name }).await;
    Ok(answered.map_err(|status| Failure::status(&status))?.into_inner())
}
