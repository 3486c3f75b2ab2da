//! `pulso contract`: what tenants have agreed to, checked here, applied there.

use std::path::{Path, PathBuf};

use crate::client::Channel;
use billing::answers;
use clap::{Args, Subcommand};
use pricing::{
    file::contract::{self, Outline},
    moment::Calendar,
};
use proto::v1::{
    AmendContractRequest, ApplyContractRequest, Contract, GetContractRequest, ListContractsRequest,
    PeriodChange, billing_service_client::BillingServiceClient,
};
use serde_json::json;

use super::{bill::connect, files::read_text};
use crate::{
    cli::Globals,
    config::{log_window::LogWindow, value::Setting as _},
    exit::{Exit, Failure},
    output::{Answer, Format, Printer, counted, say},
};

/// `pulso contract`.
#[derive(Debug, Subcommand)]
pub enum ContractCommand {
    /// Check a contract file without a server: all but what its catalogue must know.
    Check(CheckArgs),
    /// Apply contract files, for ever; each holds from its first day until the next one begins.
    Apply(ApplyArgs),
    /// Change things of a contract from a day on, by a file.
    Amend(AmendArgs),
    /// Show a contract or an amendment.
    Show(ShowArgs),
    /// List contracts and amendments, in the order in which they were applied.
    List(ListArgs),
    /// Show which lines differ between two contracts, each a name or a file.
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

/// `pulso contract amend`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso contract amend acme-october.yaml --check
  pulso contract amend acme-october.yaml")]
pub struct AmendArgs {
    /// The YAML file.
    pub file: PathBuf,
    /// Have the server check it, say what it would change about billing periods, and apply nothing.
    #[arg(long, visible_alias = "validate-only")]
    pub check: bool,
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
    /// The name of one that was applied, or a file.
    pub before: String,
    /// The name of the other, or a file.
    pub after: String,
}

const COLUMNS: [&str; 7] =
    ["name", "tenant", "amends", "valid_from", "valid_to", "holds_from", "holds_to"];
const CHANGE_COLUMNS: [&str; 5] = ["from", "to", "what", "before", "after"];

/// Runs the command.
///
/// # Errors
/// When a file is wrong, or the server cannot be reached or refuses.
pub async fn run(globals: &Globals, command: ContractCommand) -> Result<Exit, Failure> {
    let printer = Printer::new(globals.output);
    match command {
        ContractCommand::Check(args) => check(globals, &printer, &args),
        ContractCommand::Apply(args) => apply(globals, &printer, args).await,
        ContractCommand::Amend(args) => amend(globals, &printer, args).await,
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
    let known = contracts.iter().filter(|contract| contract["already_applied"] == true).count();
    let mut note = match validate_only {
        true => format!("{} checked; nothing is applied", contracts.len()),
        false => format!("{} applied", contracts.len() - known),
    };
    if known > 0 {
        note = format!("{note}; {known} had been applied before with this very text");
    }
    let document = json!({"contracts": contracts, "validate_only": validate_only});
    printer.print(&Answer::list(document, "contracts", &COLUMNS).note(note))?;
    Ok(Exit::Success)
}

async fn amend(globals: &Globals, printer: &Printer, args: AmendArgs) -> Result<Exit, Failure> {
    let request = AmendContractRequest { text: read_text(&args.file)?, validate_only: args.check };
    let answered = connect(globals).await?.amend_contract(request).await;
    let amended = answered.map_err(|status| {
        let failure = Failure::status(&status);
        Failure::new(failure.exit, format_args!("{}: {failure}", args.file.display()))
    })?;
    let amended = amended.into_inner();
    let note = match (args.check, amended.already_applied) {
        (true, _) => "checked; nothing is applied",
        (false, true) => "this very text was applied before",
        (false, false) => "applied",
    };
    let document = json!(answers::amended(&amended, args.check));
    let answer = Answer::list(document, "changes", &CHANGE_COLUMNS);
    let answer = amended.periods.iter().map(period_note).fold(answer, Answer::note);
    let left_out = amended.months_left_out;
    let answer = match left_out {
        0 => answer,
        _ => answer.note(format!("{left_out} older months were not looked at")),
    };
    printer.print(&answer.note(note))?;
    Ok(Exit::Success)
}

/// What becomes of a billing period, in words.
fn period_note(change: &PeriodChange) -> String {
    let PeriodChange { period, currency, old, new, difference, documents, .. } = change;
    let billed = match documents.as_slice() {
        [] => "is not billed yet".to_owned(),
        documents => format!(
            "is billed by {}; `pulso bill run --period {period} --deltas` bills the difference",
            documents.join(", ")
        ),
    };
    format!("{period}: {old} becomes {new} {currency}, difference {difference}; it {billed}")
}

async fn show(globals: &Globals, printer: &Printer, args: ShowArgs) -> Result<Exit, Failure> {
    let mut client = connect(globals).await?;
    let found = get(&mut client, args.name).await?;
    if printer.format() == Format::Table {
        // For a person, and for a file, the contract is its text.
        Printer::print_text(&found.text)?;
        if found.agreed.len() > 1 {
            let request = ListContractsRequest { tenant: found.tenant };
            let all = client.list_contracts(request).await.map_err(|it| Failure::status(&it))?;
            let all = all.into_inner().contracts.into_iter();
            let amendments = all.filter(|other| other.amends == found.name);
            let names: Vec<String> = amendments.map(|amendment| amendment.name).collect();
            let names = names.join(", ");
            say(format_args!("amended by {names}; -o json has what holds from when"));
        }
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
    let mut columns = COLUMNS.to_vec();
    columns
        .extend(contracts.iter().any(|found| !found.unreadable.is_empty()).then_some("unreadable"));
    let answer = Answer::list(document, "contracts", &columns);
    let amendments = contracts.iter().filter(|found| !found.amends.is_empty()).count();
    let own = counted(contracts.len() - amendments, "contract");
    printer.print(&answer.note(format!("{own}, {}", counted(amendments, "amendment"))))?;
    Ok(Exit::Success)
}

/// Lines that only one of them has, in the manner of `diff`, by their texts.
async fn diff(globals: &Globals, args: DiffArgs) -> Result<Exit, Failure> {
    let before = text_of(globals, &args.before).await?;
    let after = text_of(globals, &args.after).await?;
    let changes = similar::TextDiff::from_lines(&before, &after);
    let mut unified = changes.unified_diff();
    Printer::print_text(&unified.header(&args.before, &args.after).to_string())?;
    Ok(Exit::Success)
}

/// The text of a file, or of what was applied under a name.
async fn text_of(globals: &Globals, named: &str) -> Result<String, Failure> {
    let path = Path::new(named);
    if path.is_file() {
        return read_text(path);
    }
    Ok(get(&mut connect(globals).await?, named.to_owned()).await?.text)
}

async fn get(
    client: &mut BillingServiceClient<Channel>,
    name: String,
) -> Result<Contract, Failure> {
    let answered = client.get_contract(GetContractRequest { name }).await;
    Ok(answered.map_err(|status| Failure::status(&status))?.into_inner())
}
