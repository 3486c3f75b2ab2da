//! `pulso invoice`: documents that are owed, and the stream of them that others read.

use std::io::IsTerminal as _;

use billing::{
    answers::invoice::{InvoiceAnswer, InvoiceHeadAnswer, TotalsAnswer},
    print::{self, PdfError},
};
use clap::{Args, Subcommand, ValueEnum};
use proto::v1::{
    CreditInvoiceRequest, CreditLine, GetInvoiceRequest, ListInvoicesRequest, VoidInvoiceRequest,
    WatchInvoicesRequest,
};
use serde_json::{Value, json};

use super::{bill::connect, wire};
use crate::{
    cli::Globals,
    exit::{Exit, Failure},
    output::{self, Answer, Printer, counted},
};

mod totals;

/// `pulso invoice`.
#[derive(Debug, Subcommand)]
pub enum InvoiceCommand {
    /// List invoices in the order of their numbers; with --tenant also drafts.
    List(ListArgs),
    /// Show an invoice with its lines.
    Get(NumberArgs),
    /// Print an invoice for people.
    Render(RenderArgs),
    /// Take a final invoice back. Its number stays its own; the period may be invoiced again.
    Void(VoidArgs),
    /// Give back a part of a final invoice, by a credit note with a number of its own.
    Credit(CreditArgs),
    /// Print the messages about invoices, one JSON document a line, as they come.
    Watch(WatchArgs),
}

/// `pulso invoice list`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso invoice list --period 2024-09 --state final
  pulso invoice list --tenant acme --state draft")]
pub struct ListArgs {
    /// Only this tenant's, with drafts.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only of periods that begin in this month of their own zone, such as 2024-09.
    #[arg(long, value_name = "YYYY-MM")]
    pub period: Option<String>,
    /// Only in this state: draft, final, discarded or void; drafts and discarded ones with --tenant.
    #[arg(long)]
    pub state: Option<String>,
}

/// An invoice number.
#[derive(Clone, Debug, Args)]
pub struct NumberArgs {
    /// Such as INV-000042, or the digits.
    pub number: String,
}

/// `pulso invoice render`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso invoice render INV-000042 > invoice.html
  pulso invoice render INV-000042 --format pdf > invoice.pdf")]
pub struct RenderArgs {
    /// Such as INV-000042, or the digits.
    pub number: String,
    /// What for.
    #[arg(long, value_enum, default_value_t = RenderFormat::Html)]
    pub format: RenderFormat,
}

/// How an invoice is printed for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RenderFormat {
    /// One page that stands by itself, for a browser and for printing.
    Html,
    /// PDF/A for archives, in a program that was built with `--features billing/pdf`.
    Pdf,
}

/// `pulso invoice void`.
#[derive(Clone, Debug, Args)]
pub struct VoidArgs {
    /// Such as INV-000042, or the digits.
    pub number: String,
    /// Why; it is kept with the invoice.
    #[arg(long)]
    pub reason: String,
}

/// `pulso invoice credit`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso invoice credit INV-000042 --amount 5.00 --reason 'service level missed'
  pulso invoice credit INV-000042 --line 1=5.00 --line 3=0.25 --kind correction --reason 'wrong region' --check")]
pub struct CreditArgs {
    /// Such as INV-000042, or the digits.
    pub number: String,
    /// What is given back of the invoice as a whole, taxes included.
    #[arg(long, required_unless_present = "line")]
    pub amount: Option<String>,
    /// What is given back of a line, by its place from 1.
    #[arg(long, value_name = "PLACE=AMOUNT", value_parser = parse_credit, conflicts_with = "amount")]
    pub line: Vec<CreditLine>,
    /// Why; it stands on the note.
    #[arg(long)]
    pub reason: String,
    /// Whether later deltas count the note.
    #[arg(long, value_enum, default_value_t = CreditKind::Goodwill)]
    pub kind: CreditKind,
    /// Makes the credit safe to repeat, and tells it from another one that reads the same.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub request_id: String,
    /// Check only, write nothing.
    #[arg(long)]
    pub check: bool,
}

/// Why a credit note gives money back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CreditKind {
    /// The invoice billed too much: later deltas count the note as billed less.
    Correction,
    /// The invoice is right, and money is given back all the same: deltas ignore the note.
    Goodwill,
}

impl CreditKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Correction => "correction",
            Self::Goodwill => "goodwill",
        }
    }
}

fn parse_credit(text: &str) -> Result<CreditLine, String> {
    let parsed = text.split_once('=').and_then(|(line, amount)| {
        let line = line.parse().ok().filter(|line| *line > 0)?;
        Some(CreditLine { line, amount: amount.to_owned() })
    });
    parsed.ok_or_else(|| "write it as 3=0.25: a line's place from 1, and an amount".to_owned())
}

/// `pulso invoice watch`.
#[derive(Clone, Debug, Args)]
pub struct WatchArgs {
    /// The last message that was seen.
    #[arg(long, default_value_t = 0, value_name = "MESSAGE")]
    pub after: u64,
    /// End once all there is was printed.
    #[arg(long)]
    pub until_now: bool,
}

const COLUMNS: [&str; 11] = [
    "number",
    "kind",
    "state",
    "tenant",
    "first_day",
    "last_day",
    "time_zone",
    "total",
    "paid",
    "due",
    "currency",
];
const LINE_COLUMNS: [&str; 7] =
    ["kind", "product_sku", "name", "dimensions", "model", "quantity", "amount"];

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub async fn run(globals: &Globals, command: InvoiceCommand) -> Result<Exit, Failure> {
    match command {
        InvoiceCommand::List(args) => list(globals, args).await,
        InvoiceCommand::Get(args) => show(globals, args).await,
        InvoiceCommand::Render(args) => render(globals, args).await,
        InvoiceCommand::Void(args) => void(globals, args).await,
        InvoiceCommand::Credit(args) => credit(globals, args).await,
        InvoiceCommand::Watch(args) => watch(globals, args).await,
    }
}

async fn list(globals: &Globals, args: ListArgs) -> Result<Exit, Failure> {
    let client = connect(globals).await?;
    let asked = ListInvoicesRequest {
        tenant: args.tenant.unwrap_or_default(),
        period: args.period.unwrap_or_default(),
        state: args.state.unwrap_or_default(),
        page_size: 1_000,
        page_token: String::new(),
    };
    let pages = wire::all_pages(|page_token| {
        let request = ListInvoicesRequest { page_token, ..asked.clone() };
        let mut client = client.clone();
        async move {
            let listed = client.list_invoices(request).await;
            let page = listed.map_err(|status| Failure::status(&status))?.into_inner();
            Ok((vec![(page.invoices, page.totals)], page.next_page_token))
        }
    })
    .await?;
    let (invoices, totals): (Vec<_>, Vec<_>) = pages.into_iter().unzip();
    let invoices = invoices.into_iter().flatten().map(InvoiceHeadAnswer::new).collect::<Vec<_>>();
    let totals = totals::added(totals.into_iter().flatten())?;
    let notes = totals.iter().map(|totals| {
        let TotalsAnswer { currency, documents, total, paid, due, void } = totals;
        let documents = counted(*documents, "document");
        format!("{currency}: {documents} of {total}, credits paid {paid}, {due} due; void: {void}")
    });
    let count = counted(invoices.len(), "invoice");
    let notes = [count].into_iter().chain(notes).collect::<Vec<_>>();
    let document = json!({"invoices": invoices, "totals": totals});
    let answer = Answer::list(document, "invoices", &COLUMNS);
    Printer::new(globals.output).print(&notes.into_iter().fold(answer, Answer::note))?;
    Ok(Exit::Success)
}

async fn get(globals: &Globals, number: String) -> Result<InvoiceAnswer, Failure> {
    let found = connect(globals).await?.get_invoice(GetInvoiceRequest { number }).await;
    let invoice = found.map_err(|status| Failure::status(&status))?.into_inner();
    InvoiceAnswer::of_message(invoice).map_err(Failure::internal)
}

async fn show(globals: &Globals, args: NumberArgs) -> Result<Exit, Failure> {
    print_document(globals, &get(globals, args.number).await?)
}

async fn credit(globals: &Globals, args: CreditArgs) -> Result<Exit, Failure> {
    let CreditArgs { number, amount, mut line, reason, kind, request_id, check } = args;
    line.extend(amount.map(|amount| CreditLine { line: 0, amount }));
    let kind = kind.as_str().to_owned();
    let (lines, validate_only) = (line, check);
    let request = CreditInvoiceRequest { number, lines, reason, request_id, validate_only, kind };
    let credited = connect(globals).await?.credit_invoice(request).await;
    let note = credited.map_err(|status| not_credited(&status, check))?.into_inner();
    print_document(globals, &InvoiceAnswer::of_message(note).map_err(Failure::internal)?)
}

/// A credit that was refused, or of which nobody knows whether it was given.
fn not_credited(status: &tonic::Status, check: bool) -> Failure {
    let mut failure = Failure::status(status);
    let is_known = matches!(failure.exit, Exit::Data | Exit::Permission | Exit::Usage);
    if !is_known && !check {
        failure.message.push_str(
            "\nthe credit may have been given all the same. Run the same command again: it gives a \
             credit once, and says which note there is if it was given.",
        );
    }
    failure
}

fn print_document(globals: &Globals, invoice: &InvoiceAnswer) -> Result<Exit, Failure> {
    let mut notes = Vec::new();
    if let Some(content) = &invoice.content {
        notes.push(format!(
            "{} {} for {}, {} to {} ({}): {} {}",
            content.document,
            invoice.head.number,
            invoice.head.tenant,
            content.period.first_day,
            content.period.last_day,
            content.period.time_zone,
            invoice.head.total,
            invoice.head.currency
        ));
    }
    notes.extend(paid(&invoice.head));
    let unpriced = invoice.content.as_ref().and_then(|content| content.unpriced.as_ref());
    if let waiting @ 1.. = unpriced.map_or(0, Vec::len) {
        notes.push(format!("{waiting} resources had no price: see `unpriced` in -o json"));
    }
    let answer = Answer::list(output::json(invoice), "lines", &LINE_COLUMNS);
    let answer = notes.into_iter().fold(answer, Answer::note);
    Printer::new(globals.output).print(&answer)?;
    Ok(Exit::Success)
}

/// What credits pay of an invoice or get back, and what is due, where that is not the total.
fn paid(head: &InvoiceHeadAnswer) -> Option<String> {
    let InvoiceHeadAnswer { paid, due, due_before_void, currency, .. } = head;
    if let Some(before) = due_before_void {
        return Some(format!("void: nothing is due; until then {before} {currency} were"));
    }
    if head.payments.is_empty() {
        return None;
    }
    Some(match (paid.strip_prefix('-'), due.strip_prefix('-')) {
        (None, _) => format!("credits pay {paid} {currency}: {due} {currency} due"),
        (Some(back), None) => format!("{back} {currency} go back to credits: {due} {currency} due"),
        (Some(back), Some(cash)) => format!(
            "{back} {currency} go back to credits, {cash} {currency} are due to the customer"
        ),
    })
}

async fn render(globals: &Globals, args: RenderArgs) -> Result<Exit, Failure> {
    let document = get(globals, args.number).await?;
    match args.format {
        RenderFormat::Html => Printer::print_text(&print::html(&document))?,
        RenderFormat::Pdf if std::io::stdout().is_terminal() => {
            return Err(Failure::new(
                Exit::Usage,
                "a PDF is no text: write it to a file by `> invoice.pdf`",
            ));
        }
        RenderFormat::Pdf => {
            Printer::print_bytes(&print::pdf(&document).map_err(|error| match error {
                PdfError::NotBuilt => Failure::new(Exit::Config, error),
                PdfError::Typesetting(_) => Failure::data(error),
            })?)?
        }
    }
    Ok(Exit::Success)
}

async fn void(globals: &Globals, args: VoidArgs) -> Result<Exit, Failure> {
    let VoidArgs { number, reason } = args;
    let voided = connect(globals).await?.void_invoice(VoidInvoiceRequest { number, reason }).await;
    let invoice = voided.map_err(|status| Failure::status(&status))?.into_inner();
    let answer = Answer::single(output::json(&InvoiceHeadAnswer::new(invoice)), &COLUMNS);
    Printer::new(globals.output).print(&answer)?;
    Ok(Exit::Success)
}

async fn watch(globals: &Globals, args: WatchArgs) -> Result<Exit, Failure> {
    let WatchArgs { after, until_now } = args;
    let request = WatchInvoicesRequest { after, until_now };
    let opened = connect(globals).await?.watch_invoices(request).await;
    let mut messages = opened.map_err(|status| Failure::status(&status))?.into_inner();
    loop {
        let next = messages.message().await.map_err(|status| Failure::status(&status))?;
        let Some(message) = next else { return Ok(Exit::Success) };
        let body: Value = serde_json::from_str(&message.message_json).map_err(Failure::internal)?;
        let line = json!({"message": wire::integer(message.number), "body": body});
        Printer::print_text(&format!("{line}\n"))?;
    }
}
