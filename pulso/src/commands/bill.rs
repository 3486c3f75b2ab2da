//! `pulso bill`: what usage costs. Previews, runs, and why an invoice comes to what it does.

mod dlq;
mod run;
pub(super) mod simulate;

use clap::{Args, Subcommand};
use pricing::documents;
use proto::v1::{
    ExplainInvoiceRequest, PreviewBillRequest, VerifyInvoiceRequest,
    billing_service_client::BillingServiceClient,
};
use serde_json::Value;
use tonic::transport::Channel;

use super::wire::parse_moment;
use crate::{
    cli::Globals,
    client,
    exit::{Exit, Failure},
    output::{Answer, Printer},
};

/// `pulso bill`.
#[derive(Debug, Subcommand)]
pub enum BillCommand {
    /// Rate a tenant's usage of a month as it stands now. Writes nothing.
    Preview(PreviewArgs),
    /// Bill the periods that begin in a month, once each, and wait for the end.
    Run(run::RunArgs),
    /// Show billing runs, and what they wait for.
    Status(run::StatusArgs),
    /// Go on with a run that stopped.
    Resume(run::ResumeArgs),
    /// End a run: its drafts are discarded, final invoices stay.
    Cancel(run::CancelArgs),
    /// Say what another catalogue would have made of past usage.
    Simulate(simulate::SimulateArgs),
    /// Messages about invoices that a consumer could not take.
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// Say why an invoice, or a line of it, comes to what it does.
    Explain(ExplainArgs),
    /// Compute an invoice again and name the lines that differ; exits with 1 when one does.
    Verify(VerifyArgs),
}

/// `pulso bill preview`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso bill preview --tenant acme --period 2024-09
  pulso bill preview --tenant acme --period 2024-09 --catalogue 2026-11 -o json")]
pub struct PreviewArgs {
    /// Whose invoices.
    #[arg(long)]
    pub tenant: String,
    /// The month in which billing periods begin, such as 2024-09; they need not be over.
    #[arg(long, value_name = "YYYY-MM")]
    pub period: String,
    /// Let this version of the catalogue stand for the latest.
    #[arg(long, value_name = "VERSION")]
    pub catalogue: Option<String>,
}

/// `pulso bill explain`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso bill explain INV-000042
  pulso bill explain INV-000042/3 -o json
  pulso bill explain INV-000042/3 --pulses --hour 2024-09-03T10:00:00Z")]
pub struct ExplainArgs {
    /// An invoice number, or one of its lines: INV-000042/3.
    pub invoice: String,
    /// Go on to the pulses behind the hours, out of the log for as long as it keeps them.
    #[arg(long)]
    pub pulses: bool,
    /// With --pulses: of the hour that starts then only.
    #[arg(long, value_name = "TIME", requires = "pulses", value_parser = parse_moment)]
    pub hour: Option<domain::Timestamp>,
}

/// `pulso bill verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// An invoice number.
    pub invoice: String,
    /// Take the usage from the pulses in the log instead of the stored totals.
    #[arg(long)]
    pub from_log: bool,
}

const COLUMNS: [&str; 8] =
    ["contract", "kind", "product_sku", "use_unity", "name", "dimensions", "quantity", "amount"];

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub async fn run(globals: &Globals, command: BillCommand) -> Result<Exit, Failure> {
    match command {
        BillCommand::Preview(args) => preview(globals, args).await,
        BillCommand::Run(args) => run::start(globals, args).await,
        BillCommand::Status(args) => run::status(globals, args).await,
        BillCommand::Resume(args) => run::resume(globals, args).await,
        BillCommand::Cancel(args) => run::cancel(globals, args).await,
        BillCommand::Simulate(args) => simulate::run(globals, args).await,
        BillCommand::Dlq(command) => dlq::run(globals, command).await,
        BillCommand::Explain(args) => explain(globals, args).await,
        BillCommand::Verify(args) => verify(globals, args).await,
    }
}

/// A client of the billing service.
pub(super) async fn connect(globals: &Globals) -> Result<BillingServiceClient<Channel>, Failure> {
    let channel = client::connect(&globals.server).await?;
    Ok(BillingServiceClient::new(channel).max_decoding_message_size(client::ANSWER_BYTES_MAX))
}

async fn preview(globals: &Globals, args: PreviewArgs) -> Result<Exit, Failure> {
    let mut client = connect(globals).await?;
    let request = PreviewBillRequest {
        tenant: args.tenant,
        period: args.period,
        catalogue_version: args.catalogue.unwrap_or_default(),
    };
    let answered = client.preview_bill(request).await;
    let text = answered.map_err(|status| Failure::status(&status))?.into_inner().preview_json;
    let preview = serde_json::from_str(&text).map_err(Failure::internal)?;
    Printer::new(globals.output).print(&previewed(preview))?;
    Ok(Exit::Success)
}

fn previewed(preview: Value) -> Answer {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut notes = Vec::new();
    for invoice in preview["invoices"].as_array().into_iter().flatten() {
        let period = &invoice["period"];
        notes.push(format!(
            "{}, {} to {}: {} {}",
            text(&invoice["tenant"]),
            text(&period["first_day"]),
            text(&period["last_day"]),
            text(&invoice["total"]),
            text(&invoice["currency"])
        ));
        if let Some(waiting @ 1..) = invoice["unpriced"].as_array().map(Vec::len) {
            notes.push(format!(
                "resources that have no price yet: {waiting}, see `unpriced` in -o json"
            ));
        }
    }
    if notes.is_empty() {
        notes.push("nothing to bill".to_owned());
    }
    notes.into_iter().fold(Answer::list(preview, "invoices.lines", &COLUMNS), Answer::note)
}

const EXPLAIN_COLUMNS: [&str; 6] = ["line", "kind", "product_sku", "name", "quantity", "amount"];

async fn explain(globals: &Globals, args: ExplainArgs) -> Result<Exit, Failure> {
    let (number, line) = match args.invoice.split_once('/') {
        None => (args.invoice.as_str(), 0),
        Some((number, line)) => {
            let parsed = line.parse().ok().filter(|line| *line > 0);
            let wrong = || {
                Failure::new(
                    Exit::Usage,
                    format_args!("`{line}` is no line: give its place from 1, as {number}/1"),
                )
            };
            (number, parsed.ok_or_else(wrong)?)
        }
    };
    let hour = args.hour.map(proto::convert::wire_time);
    let request =
        ExplainInvoiceRequest { number: number.to_owned(), line, pulses: args.pulses, hour };
    let explained = connect(globals).await?.explain_invoice(request).await;
    let text = explained.map_err(|status| Failure::status(&status))?.into_inner();
    let document: Value =
        serde_json::from_str(&text.explanation_json).map_err(Failure::internal)?;
    let lines = document["lines"].as_array().cloned().unwrap_or_default();
    let notes: Vec<String> = lines.iter().flat_map(explanation).collect();
    let answer = Answer::list(document, "lines", &EXPLAIN_COLUMNS);
    Printer::new(globals.output).print(&notes.into_iter().fold(answer, Answer::note))?;
    Ok(Exit::Success)
}

/// A line in words: its price, its steps, the usage behind it.
fn explanation(line: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut words = vec![format!("line {}: {}", line["line"], text(&line["amount"]))];
    if let Some(price) = line["price"].as_object() {
        words.push(format!(
            "  {} price of catalogue {} from {}, under contract {}",
            text(&line["model"]),
            text(&price["catalogue"]),
            text(&price["valid_from"]),
            text(&line["contract"])
        ));
    }
    for step in line["detail"].as_array().into_iter().flatten() {
        let parts = step.as_object().into_iter().flatten().filter(|(key, _)| *key != "step");
        let parts: Vec<String> =
            parts.map(|(key, value)| format!("{key} {}", text(value))).collect();
        words.push(format!("  {}: {}", text(&step["step"]), parts.join(", ")));
    }
    let hours = line["hours"].as_array().map_or(0, Vec::len);
    let stretches = line["hours"].as_array().into_iter().flatten();
    let stretches: usize =
        stretches.map(|hour| hour["segments"].as_array().map_or(0, Vec::len)).sum();
    if hours > 0 {
        words.push(format!(
            "  {hours} hours of usage out of {stretches} stretches of the log (in -o json)"
        ));
    }
    words.extend(line["hours"].as_array().into_iter().flatten().flat_map(pulses_of));
    words
}

/// Pulses of an hour that are shown to a person.
const PULSES_SHOWN_MAX: usize = 20;

/// An hour in words: where its pulses are in the log, and what each is known by.
fn pulses_of(hour: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut pulses = Vec::new();
    for part in hour["segments"].as_array().into_iter().flatten() {
        let place = format!("partition {}", part["partition"]);
        if part["in_log"] == false {
            let start = text(&part["segment_start"]);
            pulses.push(format!("    {place}, segment {start}: no longer in the log"));
        }
        for pulse in part["pulses"].as_array().into_iter().flatten() {
            let known = pulse.as_object().into_iter().flatten();
            let known: Vec<String> = known
                .filter(|(key, _)| !["offset", "index", "time", "amount"].contains(&key.as_str()))
                .map(|(key, value)| format!("{key} {}", text(value)))
                .collect();
            pulses.push(format!(
                "    {place}, offset {}, pulse {}: {} at {} ({})",
                text(&pulse["offset"]),
                pulse["index"],
                text(&pulse["amount"]),
                text(&pulse["time"]),
                known.join(", ")
            ));
        }
    }
    if pulses.is_empty() {
        return pulses;
    }
    if let Some(more @ 1..) = pulses.len().checked_sub(PULSES_SHOWN_MAX) {
        pulses.truncate(PULSES_SHOWN_MAX);
        pulses.push(format!("    and {more} more (in -o json)"));
    }
    let (start, count) = (text(&hour["window_start"]), text(&hour["count"]));
    pulses.insert(0, format!("  {start}: {count} pulses, {} in all", text(&hour["sum"])));
    pulses
}

async fn verify(globals: &Globals, args: VerifyArgs) -> Result<Exit, Failure> {
    let request = VerifyInvoiceRequest { number: args.invoice.clone(), from_log: args.from_log };
    let verified = connect(globals).await?.verify_invoice(request).await;
    let verified = verified.map_err(|status| Failure::status(&status))?.into_inner();
    let document = documents::verification(&args.invoice, &verified);
    let columns = ["line", "invoiced.amount", "computed.amount"];
    let note = match verified.differences.len() {
        0 => format!("{} lines computed again: all as invoiced", verified.lines),
        more => format!("{} lines computed again: {more} differ", verified.lines),
    };
    let mut answer = Answer::list(document, "differences", &columns).note(note);
    if args.from_log {
        answer = answer.note(format!(
            "out of {} segments of the log, folded again; {} are no longer in it and came from the stored totals",
            verified.segments_folded, verified.segments_missing
        ));
    }
    Printer::new(globals.output).print(&answer)?;
    Ok(if verified.matches { Exit::Success } else { Exit::CheckFailed })
}
