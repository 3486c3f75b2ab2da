//! `pulso bill simulate` and `pulso catalog diff`: what another catalogue or other contracts make of
//! past usage.

use std::path::PathBuf;

use billing::{answers::simulation, print::picture};
use clap::Args;
use pricing::simulate::{CurrencyChange, Simulation, TenantChange};
use proto::v1::SimulateRequest;

use super::connect;
use crate::{
    cli::Globals,
    commands::files::read_text,
    exit::{Exit, Failure},
    output::{Answer, Printer, json},
};

/// `pulso bill simulate`.
#[derive(Clone, Debug, Args)]
#[group(id = "other", required = true, multiple = true)]
#[command(after_help = "Examples:
  pulso bill simulate --catalogue new.yaml --period 2024-09
  pulso bill simulate --catalogue new.yaml --period 2024-09 -o csv > changes.csv
  pulso bill simulate --catalogue new.yaml --period 2024-09 --picture changes.svg
  pulso bill simulate --contract acme-2027.yaml --period 2024-09")]
pub struct SimulateArgs {
    /// The YAML file of the other catalogue; it need not be published.
    #[arg(long, value_name = "FILE", group = "other")]
    pub catalogue: Option<PathBuf>,
    /// The YAML file of a contract or an amendment, as if it were applied; give it several times for
    /// several files, in their order. Without --catalogue, only the tenants of these are compared.
    #[arg(long, value_name = "FILE", group = "other")]
    pub contract: Vec<PathBuf>,
    /// The month in which billing periods begin, such as 2024-09.
    #[arg(long, value_name = "YYYY-MM")]
    pub period: String,
    /// Compare with this version instead of the latest.
    #[arg(long, value_name = "VERSION")]
    pub against: Option<String>,
    /// Draw how many bills change by how much into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    pub picture: Option<PathBuf>,
}

const COLUMNS: [&str; 9] = [
    "tenant",
    "first_day",
    "last_day",
    "currency",
    "old",
    "new",
    "difference",
    "change_permille",
    "documents",
];

/// Runs it.
pub(super) async fn run(globals: &Globals, args: SimulateArgs) -> Result<Exit, Failure> {
    let catalogue = args.catalogue.as_deref().map(read_text).transpose()?;
    let contracts = args.contract.iter().map(|path| read_text(path));
    let request = SimulateRequest {
        period: args.period,
        old_version: args.against.unwrap_or_default(),
        new_version: String::new(),
        new_text: catalogue.unwrap_or_default(),
        contract_texts: contracts.collect::<Result<_, _>>()?,
    };
    let simulation =
        ask(globals, request).await.map_err(|failure| in_files(failure, &args.contract))?;
    if let Some(path) = &args.picture {
        std::fs::write(path, picture::svg(&simulation)).map_err(|error| {
            Failure::new(Exit::Data, format_args!("{}: {error}", path.display()))
        })?;
    }
    Printer::new(globals.output).print(&answer(&simulation))?;
    Ok(Exit::Success)
}

/// A failure that names files of contracts by their paths.
fn in_files(failure: Failure, files: &[PathBuf]) -> Failure {
    let said = failure.to_string();
    let named = |said: String, (place, path): (usize, &PathBuf)| {
        said.replace(&format!("contract_texts[{place}]"), &path.display().to_string())
    };
    Failure::new(failure.exit, files.iter().enumerate().fold(said, named))
}

/// Asks the server for a comparison.
///
/// # Errors
/// When it cannot be reached or refuses.
pub(in crate::commands) async fn ask(
    globals: &Globals,
    request: SimulateRequest,
) -> Result<Simulation, Failure> {
    let simulated = connect(globals).await?.simulate(request).await;
    let simulated = simulated.map_err(|status| Failure::status(&status))?.into_inner();
    simulation::of_message(simulated).map_err(Failure::internal)
}

/// A comparison as an answer: a row a tenant, and the sums.
fn answer(simulation: &Simulation) -> Answer {
    let answer = Answer::list(json(simulation), "tenants", &COLUMNS);
    let nothing = simulation.tenants.is_empty() && simulation.failed.is_empty();
    let nothing =
        nothing.then(|| format!("nothing is billed in {} on either side", simulation.period));
    sums(simulation).chain(failures(simulation)).chain(nothing).fold(answer, Answer::note)
}

/// Tenants that could not be compared, in words.
fn failures(simulation: &Simulation) -> impl Iterator<Item = String> {
    let listed = simulation.failed.iter().map(|failed| {
        format!("{} cannot be billed and is in no sum: {}", failed.tenant, failed.message)
    });
    let more = simulation.failed_left_out;
    listed.chain((more > 0).then(|| format!("{more} more tenants cannot be billed")))
}

/// Comparisons of several months as one answer, whose rows say of which they are; that of one as it is.
#[must_use]
pub(in crate::commands) fn answer_of_all(simulations: &[Simulation]) -> Answer {
    if let [only] = simulations {
        return answer(only);
    }
    let row = |period: &str, tenant: &TenantChange| {
        let mut row = json(tenant);
        row["period"] = period.into();
        row
    };
    let rows = simulations.iter().flat_map(|simulation| {
        simulation.tenants.iter().map(|tenant| row(&simulation.period, tenant))
    });
    let document = serde_json::json!({
        "periods": simulations.iter().map(|it| it.period.as_str()).collect::<Vec<_>>(),
        "tenants": rows.collect::<Vec<_>>(),
    });
    let columns: Vec<&'static str> = std::iter::once("period").chain(COLUMNS).collect();
    let notes = simulations.iter().flat_map(|simulation| {
        let said = sums(simulation).chain(failures(simulation));
        said.map(|said| format!("{}: {said}", simulation.period))
    });
    notes.fold(Answer::list(document, "tenants", &columns), Answer::note)
}

fn sums(simulation: &Simulation) -> impl Iterator<Item = String> {
    let Simulation { old_catalogue, new_catalogue, totals, contracts, .. } = simulation;
    let with = match contracts.as_slice() {
        [] => String::new(),
        names => format!(" with {}", names.join(", ")),
    };
    totals.iter().map(move |CurrencyChange { currency, old, new, difference }| {
        format!(
            "{currency}: {old} under {old_catalogue}, {new} under {new_catalogue}{with}, difference {difference}"
        )
    })
}
