//! `pulso bill explain`: why an invoice comes to what it does, printed as it comes.

use std::io::{self, Write};

use billing::answers::explanation::{self, ExplanationHead, ExplanationText, Part};
use clap::Args;
use pricing::document::{DocumentLine, Hour};
use proto::v1::{ExplainInvoiceRequest, ExplainInvoiceResponse};
use serde_json::Value;
use tonic::Streaming;

use super::connect;
use crate::{
    cli::Globals,
    commands::wire::parse_moment,
    exit::{Exit, Failure},
    output::{self, Answer, Format, Printer, counted, printable},
};

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

const COLUMNS: [&str; 6] = ["line", "kind", "product_sku", "name", "quantity", "amount"];

/// Pulses of an hour that are shown to a person.
const PULSES_SHOWN_MAX: usize = 20;

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub(super) async fn run(globals: &Globals, args: ExplainArgs) -> Result<Exit, Failure> {
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
    let messages = explained.map_err(|status| Failure::status(&status))?.into_inner();
    print(messages, ExplanationPrinter::new(globals.output)).await?;
    Ok(Exit::Success)
}

async fn print(
    mut messages: Streaming<ExplainInvoiceResponse>,
    mut printer: ExplanationPrinter,
) -> Result<(), Failure> {
    while let Some(message) = messages.message().await.map_err(|status| Failure::status(&status))? {
        let mut text = String::new();
        for part in message.parts {
            let part = explanation::of_message(part).map_err(Failure::internal)?;
            part.iter().for_each(|part| printer.take(part, &mut text));
        }
        if !printer.show(&text)? {
            return Ok(());
        }
    }
    printer.finish()
}

/// What was printed so far, in the format asked for.
enum ExplanationPrinter {
    /// The text of one document, or of one a line.
    Text(ExplanationText),
    /// In words; the lines, without what is in words, are a table or rows at the end.
    Words { format: Format, rows: Vec<Value>, line: Words },
}

impl ExplanationPrinter {
    fn new(format: Format) -> Self {
        match format {
            Format::Json => Self::Text(ExplanationText::document()),
            Format::Jsonl => Self::Text(ExplanationText::lines()),
            Format::Table | Format::Csv => {
                Self::Words { format, rows: Vec::new(), line: Words::default() }
            }
        }
    }

    /// Adds to the text that is printed next.
    fn take(&mut self, part: &Part, text: &mut String) {
        match self {
            Self::Text(writer) => writer.push(part, text),
            Self::Words { rows, line: words, .. } => match part {
                Part::Line(line) => {
                    words.end(text);
                    in_words(line).iter().for_each(|words| add(text, words));
                    let kept = output::json(line);
                    let kept = COLUMNS
                        .iter()
                        .filter_map(|key| Some(((*key).to_owned(), kept.get(*key)?.clone())));
                    rows.push(Value::Object(kept.collect()));
                }
                Part::Hour(hour) => words.hour(hour, text),
                Part::Head(head) => add(text, &heading(head)),
            },
        }
    }

    /// Prints text where its kind belongs. `false` once nobody reads any more.
    fn show(&self, text: &str) -> Result<bool, Failure> {
        let mut out: Box<dyn Write> = match self {
            Self::Words { format: Format::Csv, .. } => Box::new(io::stderr().lock()),
            _ => Box::new(io::stdout().lock()),
        };
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(Failure::internal(format_args!("cannot write: {error}"))),
        }
    }

    fn finish(mut self) -> Result<(), Failure> {
        let mut text = String::new();
        match &mut self {
            Self::Text(writer) => writer.finish(&mut text),
            Self::Words { line, .. } => line.end(&mut text),
        }
        if matches!(&self, Self::Text(_)) && text.ends_with('}') {
            text.push('\n');
        }
        if !self.show(&text)? {
            return Ok(());
        }
        let Self::Words { format, rows, .. } = self else { return Ok(()) };
        let document = serde_json::json!({ "lines": rows });
        Printer::new(format).print(&Answer::list(document, "lines", &COLUMNS))
    }
}

/// What is known of a line's hours before its last came.
#[derive(Debug, Default)]
struct Words {
    hours: usize,
    stretches: usize,
}

impl Words {
    fn hour(&mut self, hour: &Hour, text: &mut String) {
        self.hours += 1;
        self.stretches += hour.segments.len();
        pulses_of(hour).iter().for_each(|words| add(text, words));
    }

    fn end(&mut self, text: &mut String) {
        let Self { hours, stretches } = std::mem::take(self);
        if hours > 0 {
            let words = format!(
                "  {} of usage out of {} of the log (in -o json)",
                counted(hours, "hour"),
                counted(stretches, "stretch")
            );
            add(text, &words);
        }
    }
}

fn add(text: &mut String, words: &str) {
    text.push_str(&printable(words));
    text.push('\n');
}

/// What is explained, in words.
fn heading(head: &ExplanationHead) -> String {
    let ExplanationHead { number, tenant, currency, first_day, last_day, time_zone, .. } = head;
    format!("{number} for {tenant}, {first_day} to {last_day} ({time_zone}), in {currency}")
}

/// A line in words: its price and its steps.
fn in_words(line: &DocumentLine) -> Vec<String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut words = vec![format!("line {}: {}", line.line.unwrap_or_default(), line.amount)];
    if let Some(price) = &line.price {
        words.push(format!(
            "  {} price of catalogue {} from {}, under contract {}",
            text(&line.model),
            price.catalogue,
            price.valid_from,
            text(&line.contract)
        ));
    }
    for step in &line.detail {
        let facts = output::facts(step).into_iter().filter(|(key, _)| key != "step");
        let facts: Vec<String> = facts.map(|(key, value)| format!("{key} {value}")).collect();
        words.push(format!("  {}: {}", step.as_str(), facts.join(", ")));
    }
    words
}

/// An hour in words: where its pulses are in the log, and what each is known by.
fn pulses_of(hour: &Hour) -> Vec<String> {
    let mut pulses = Vec::new();
    for part in &hour.segments {
        let place = format!("partition {}", part.partition);
        if part.in_log == Some(false) {
            let start = part.segment_start;
            pulses.push(format!("    {place}, segment {start}: no longer in the log"));
        }
        for pulse in part.pulses.iter().flatten() {
            let known = output::facts(pulse).into_iter();
            let known: Vec<String> = known
                .filter(|(key, _)| !["offset", "index", "time", "amount"].contains(&key.as_str()))
                .map(|(key, value)| format!("{key} {value}"))
                .collect();
            pulses.push(format!(
                "    {place}, offset {}, pulse {}: {} at {} ({})",
                pulse.offset,
                pulse.index,
                pulse.amount,
                pulse.time,
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
    let (start, sum) = (hour.window_start, hour.sum);
    pulses.insert(0, format!("  {start}: {}, {sum} in all", counted(hour.count, "pulse")));
    pulses
}
