//! `pulso bill`: what usage costs. Previews, runs, and why an invoice comes to what it does.

mod dlq;
mod explain;
mod sentences;
mod run;
pub(super) mod simulate;

use crate::client::Channel;
use crate::{
    cli::Globals,
    client,
    exit::{Exit, Failure},
    output::{Answer, Printer, counted, json},
};
use billing::answers::{
    invoice::PaymentAnswer,
    preview::{PreviewAnswer, PreviewedInvoice},
    verification::VerificationAnswer,
};
use clap::{Args, Subcommand};
use proto::v1::{
    PreviewBillRequest, VerifyInvoiceRequest, billing_service_client::BillingServiceClient,
};

/// `pulso bill`.
#[derive(Debug, Subcommand)]
pub enum BillCommand {
    /// Rate a tenant's usage of a month as it stands now. Writes nothing.
    Preview(PreviewArgs),
    /// Bill the periods that begin in a month, once each, and wait for the end.
    Run(run::RunArgs),
    /// Show billing runs with what they wait for, and which periods are due.
    Status(run::StatusArgs),
    /// Go on with a run that stopped.
    Resume(run::ResumeArgs),
    /// End a run: its drafts are discarded, final invoices stay.
    Cancel(run::CancelArgs),
    /// Say what another catalogue or other contracts would have made of past usage.
    Simulate(simulate::SimulateArgs),
    /// Messages about invoices that a consumer could not take.
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// Say why an invoice, or a line of it, comes to what it does.
    Explain(explain::ExplainArgs),
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
        BillCommand::Explain(args) => explain::run(globals, args).await,
        BillCommand::Verify(args) => verify(globals, args).await,
    }
}

/// A client of the billing service.
pub(super) async fn connect(globals: &Globals) -> Result<BillingServiceClient<Channel>, Failure> {
    let channel = globals.connect().await?;
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
    let preview = answered.map_err(|status| Failure::status(&status))?.into_inner();
    let preview = PreviewAnswer::of_message(preview).map_err(Failure::internal)?;
    Printer::new(globals.output).print(&previewed(&preview))?;
    Ok(Exit::Success)
}

/// One sentence for each outcome, and the command that comes next.
fn previewed(preview: &PreviewAnswer) -> Answer {
    let PreviewAnswer { tenant, period: month, invoices, .. } = preview;
    let mut notes = Vec::new();
    for made in &preview.invoices {
        let PreviewedInvoice { document: invoice, payments, due, documents } = made;
        let period = invoice.period();
        let (first, last, zone) = (&period.first_day, &period.last_day, &period.time_zone);
        let (tenant, total, currency) = (invoice.tenant(), invoice.total(), invoice.currency());
        notes.push(format!("{tenant}, {first} to {last} ({zone}): {total} {currency}"));
        if !payments.is_empty() {
            let paid = payments.iter().map(|PaymentAnswer { credit, amount }| {
                format!("credit {credit} would pay {amount} {currency}")
            });
            let paid = paid.collect::<Vec<_>>().join(", ");
            notes.push(format!("{paid}: {due} {currency} would be due"));
        }
        if !documents.is_empty() {
            notes.push(format!(
                "billed by {}; this is the whole period, as if there were none; `pulso bill run --period {month} --tenant {tenant:?} --deltas` bills what differs",
                documents.join(", ")
            ));
        }
        if let waiting @ 1.. = invoice.unpriced().len() {
            notes.push(format!(
                "resources that have no price yet: {waiting}, see `unpriced` in -o json"
            ));
        }
    }
    let is_new = invoices.iter().any(|made| made.documents.is_empty());
    notes.push(match (invoices.is_empty(), is_new) {
        (true, _) => format!("nothing to bill of {tenant} for periods that begin in {month}"),
        (false, false) => "nothing was written".to_owned(),
        (false, true) => format!(
            "nothing was written; `pulso bill run --period {month} --tenant {tenant:?}` bills what is over"
        ),
    });
    notes.extend(set_aside(preview));
    notes.into_iter().fold(Answer::list(json(preview), "invoices.lines", &COLUMNS), Answer::note)
}

/// What the preview lacks, if anything.
fn set_aside(PreviewAnswer { tenant, set_aside, .. }: &PreviewAnswer) -> Option<String> {
    let rest = if set_aside.complete { "" } else { ", and there are more" };
    (set_aside.pulses > 0 || !set_aside.complete).then(|| {
        format!(
            "up to {} of {tenant} in this period were late or dead-lettered and are not in it{rest}: pulso dlq list --tenant {tenant:?}",
            counted(set_aside.pulses, "pulse")
        )
    })
}

async fn verify(globals: &Globals, args: VerifyArgs) -> Result<Exit, Failure> {
    let request = VerifyInvoiceRequest { number: args.invoice.clone(), from_log: args.from_log };
    let verified = connect(globals).await?.verify_invoice(request).await;
    let verified = verified.map_err(|status| Failure::status(&status))?.into_inner();
    let verified =
        VerificationAnswer::of_message(&args.invoice, verified).map_err(Failure::internal)?;
    let columns = ["line", "invoiced.amount", "computed.amount"];
    let lines = counted(verified.lines, "line");
    let note = match verified.differences.len() as u64 + verified.differences_left_out {
        0 => format!("{lines} computed again: all as invoiced"),
        1 => format!("{lines} computed again: 1 differs"),
        more => format!("{lines} computed again: {more} differ"),
    };
    let mut answer = Answer::list(json(&verified), "differences", &columns).note(note);
    if verified.differences_left_out > 0 {
        answer = answer.note(format!("the first {} are listed", verified.differences.len()));
    }
    if args.from_log {
        answer = answer.note(format!(
            "out of {} of the log, folded again; {} no longer in it, out of the stored totals",
            counted(verified.segments_folded, "segment"),
            verified.segments_missing
        ));
    }
    Printer::new(globals.output).print(&answer)?;
    Ok(if verified.matches { Exit::Success } else { Exit::CheckFailed })
}

#[cfg(test)]
mod tests {
    use billing::answers::preview::SetAsideAnswer;

    use super::*;

    #[test]
    fn a_preview_says_what_its_period_lacks() {
        let notes = |pulses: u64, complete: bool| {
            let [tenant, period, catalogue] = ["acme", "2024-09", "1"].map(str::to_owned);
            let (invoices, set_aside) = (Vec::new(), SetAsideAnswer { pulses, complete });
            let preview = PreviewAnswer { tenant, period, catalogue, invoices, set_aside };
            previewed(&preview).notes
        };
        assert_eq!(notes(0, true), ["nothing to bill of acme for periods that begin in 2024-09"]);
        let lacks = &notes(7, true)[1];
        assert!(lacks.starts_with("up to 7 pulses of acme in this period were late"), "{lacks}");
        assert!(lacks.ends_with("pulso dlq list --tenant \"acme\""), "{lacks}");
        assert!(notes(7, false)[1].contains("and there are more"));
        assert_eq!(notes(0, false).len(), 2);
    }
}
