//! `pulso bill run|status|resume|cancel`: billing runs and how far they are.

use std::time::Duration;

use crate::client::Channel;
use billing::answers;
use clap::Args;
use proto::v1::{
    CancelRunRequest, GetRunRequest, ListDuePeriodsRequest, ListRunsRequest, ResumeRunRequest, Run,
    RunOutcomes, StartRunRequest, billing_service_client::BillingServiceClient,
};
use serde_json::json;

use super::{connect, sentences};
use crate::{
    cli::Globals,
    exit::{Exit, Failure},
    output::{self, Answer, Printer, counted},
};

/// `pulso bill run`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso bill run --period 2024-09
  pulso bill run --period 2024-09 --tenant acme
  pulso bill run --period 2024-09 --deltas        bill what changed since")]
pub struct RunArgs {
    /// The month in which billing periods begin, such as 2024-09.
    #[arg(long, value_name = "YYYY-MM")]
    pub period: String,
    /// Only this tenant; may be given several times.
    #[arg(long)]
    pub tenant: Vec<String>,
    /// Bill what changed about periods that have an invoice, and give back what was billed for periods
    /// that there are no more.
    #[arg(long)]
    pub deltas: bool,
    /// Makes the call safe to repeat.
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Do not wait for its end.
    #[arg(long)]
    pub no_wait: bool,
}

/// `pulso bill status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// The run's number. Default: all of them, newest first, and what is due.
    pub run: Option<u64>,
}

/// `pulso bill resume`.
#[derive(Clone, Debug, Args)]
pub struct ResumeArgs {
    /// The run's number.
    pub run: u64,
    /// Do not wait for its end.
    #[arg(long)]
    pub no_wait: bool,
}

/// `pulso bill cancel`.
#[derive(Clone, Debug, Args)]
pub struct CancelArgs {
    /// The run's number.
    pub run: u64,
}

const COLUMNS: [&str; 10] = [
    "run",
    "period",
    "state",
    "outcomes.invoices",
    "outcomes.deltas",
    "outcomes.unchanged",
    "outcomes.not_due",
    "outcomes.failed",
    "outcomes.unpriced",
    "doing",
];
/// Time between two looks at a run.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

type Client = BillingServiceClient<Channel>;

/// `pulso bill run`.
pub(super) async fn start(globals: &Globals, args: RunArgs) -> Result<Exit, Failure> {
    let mut client = connect(globals).await?;
    let request = StartRunRequest {
        period: args.period,
        tenants: args.tenant,
        deltas: args.deltas,
        request_id: args.request_id.unwrap_or_default(),
    };
    let started = client.start_run(request).await;
    let run = started.map_err(|status| Failure::status(&status))?.into_inner();
    follow(globals, &mut client, run, args.no_wait).await
}

/// `pulso bill resume`.
pub(super) async fn resume(globals: &Globals, args: ResumeArgs) -> Result<Exit, Failure> {
    let mut client = connect(globals).await?;
    let resumed = client.resume_run(ResumeRunRequest { number: args.run }).await;
    let run = resumed.map_err(|status| Failure::status(&status))?.into_inner();
    follow(globals, &mut client, run, args.no_wait).await
}

/// `pulso bill cancel`.
pub(super) async fn cancel(globals: &Globals, args: CancelArgs) -> Result<Exit, Failure> {
    let cancelled = connect(globals).await?.cancel_run(CancelRunRequest { number: args.run }).await;
    let run = cancelled.map_err(|status| Failure::status(&status))?.into_inner();
    print(globals, &run)
}

/// `pulso bill status`.
pub(super) async fn status(globals: &Globals, args: StatusArgs) -> Result<Exit, Failure> {
    let mut client = connect(globals).await?;
    if let Some(number) = args.run {
        return print(globals, &get(&mut client, number).await?);
    }
    let listed = client.list_runs(ListRunsRequest {}).await;
    let runs = listed.map_err(|status| Failure::status(&status))?.into_inner().runs;
    let due = client.list_due_periods(ListDuePeriodsRequest {}).await;
    let due = due.map_err(|status| Failure::status(&status))?.into_inner();
    let mut document = json!(answers::runs(&runs));
    document["due"] = json!(answers::due(&due));
    let answer = Answer::list(document, "runs", &COLUMNS).note(counted(runs.len(), "run"));
    let answer = sentences::of_due(&due).into_iter().fold(answer, Answer::note);
    Printer::new(globals.output).print(&answer)?;
    Ok(Exit::Success)
}

async fn get(client: &mut Client, number: u64) -> Result<Run, Failure> {
    let found = client.get_run(GetRunRequest { number }).await;
    Ok(found.map_err(|status| Failure::status(&status))?.into_inner())
}

/// Waits for the end of a run, saying on stderr what it waits for.
async fn follow(
    globals: &Globals,
    client: &mut Client,
    mut run: Run,
    no_wait: bool,
) -> Result<Exit, Failure> {
    let mut said = String::new();
    while !no_wait && run.state == "open" {
        if run.doing != said {
            output::say(format_args!("run {}: {}", run.number, run.doing));
            said.clone_from(&run.doing);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
        run = get(client, run.number).await?;
    }
    print(globals, &run)
}

fn print(globals: &Globals, run: &Run) -> Result<Exit, Failure> {
    let answer = Answer::single(json!(answers::run(run)), &COLUMNS);
    let answer = sentences::of_run(run).into_iter().fold(answer, Answer::note);
    Printer::new(globals.output).print(&answer)?;
    let RunOutcomes { failed, blocked, .. } = run.outcomes.unwrap_or_default();
    let is_done = run.state == "cancelled" || (failed == 0 && blocked == 0);
    Ok(if is_done { Exit::Success } else { Exit::CheckFailed })
}
