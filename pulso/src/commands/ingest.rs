//! `pulso ingest`: sends a file of usage and reports what became of every row.

mod outcomes;
mod report;
mod notices;

use std::{
    collections::VecDeque,
    num::{NonZeroU32, NonZeroUsize},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::client::Channel;
use clap::Args;
use domain::Timestamp;
use edge::CorrelationId;
use indicatif::ProgressBar;
use uuid::Uuid;

use self::{notices::Notices, outcomes::Follower};
use super::wire;
use crate::{
    cli::Globals,
    client::{Receipt, SendError, Sender, SenderOptions, sender::PLACES_MAX},
    config::value::parse_duration,
    exit::{Exit, Failure},
    ingest::{
        batches::{Batcher, Numbered, Safety},
        focus::FocusQuantity,
        reader::{FileFormat, Piece, Reader},
        source::{Input, Source},
        times::TimeCheck,
    },
    output::{Printer, progress},
};
pub(crate) use report::Report;

/// `pulso ingest`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso ingest usage.jsonl --format jsonl
  zcat usage.csv.gz | pulso ingest - --format csv
  pulso ingest september.csv --format focus --backfill focus-2024-09
  pulso ingest mixed.csv --format csv --backfill late --before 2024-09-17T22:00:00Z
  pulso ingest usage.jsonl --format jsonl --wait=5m
  pulso ingest events.json --format cloudevents -o json

Rows with an id are counted once however often they are sent; sending a file of rows without ids a
second time counts them a second time. A --backfill NAME makes a whole file safe to send again, and
takes usage that is older than the lateness bound. Without --backfill, pulso warns before it sends
rows that are too old. --wait tells what became of the rows.

jsonl: {\"tenant\", \"product_sku\", \"use_unity\", \"used_amount\", \"time\", \"id\", \"source\", \"properties\"}
csv: the same as columns, free ones as properties.NAME
Other names: subject, customer_id (tenant); code, event_name, type (product_sku); unit (use_unity);
timestamp (time); transaction_id, idempotency_key, event_id, identifier (id).

Exits with 65 when any row was rejected or its time will not count; the others are in. With --wait:
when any was rejected or set aside.")]
pub struct IngestArgs {
    /// The file, or - for standard input.
    #[arg(value_name = "FILE")]
    pub file: String,
    /// What the file looks like.
    #[arg(long, value_enum)]
    pub format: FileFormat,
    /// Send as a named set, in which every row counts once, however old.
    #[arg(long, value_name = "NAME")]
    pub backfill: Option<String>,
    /// Of a backfill, send only rows with a time before this: RFC 3339, a day or a month. For input of
    /// which the other rows were sent without --backfill. Sort it by time: each gap between the rows that
    /// are sent is remembered for ever.
    #[arg(long, value_name = "TIME", requires = "backfill", value_parser = wire::parse_moment)]
    pub before: Option<Timestamp>,
    /// Return once every row is counted or set aside, and tell which; fail after this long.
    #[arg(
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "60s",
        value_parser = parse_duration
    )]
    pub wait: Option<Duration>,
    /// Which quantity of a FOCUS file is the amount.
    #[arg(long, value_enum, default_value_t = FocusQuantity::Pricing)]
    pub quantity: FocusQuantity,
    /// Pulses in a batch.
    #[arg(long, default_value = "500", value_name = "N")]
    pub batch_size: NonZeroU32,
    /// Batches that may wait for their ack, at most 256.
    #[arg(long, default_value = "16", value_name = "N")]
    pub in_flight: NonZeroUsize,
    /// How long to go on without any ack before giving up.
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = parse_duration)]
    pub patience: Duration,
}

/// Runs the command.
///
/// # Errors
/// When the input cannot be read as a whole, or the server cannot be reached.
pub async fn run(globals: &Globals, args: IngestArgs) -> Result<Exit, Failure> {
    // First, so that a wrong path is told whether or not a server runs.
    let opened = open(&args)?;
    let channel = globals.connect().await?;
    let mut report = Report::default();
    let sent = transfer_opened(channel, &args, opened, &mut report).await;
    let printed = Printer::new(globals.output).print(&report.answer());
    sent.and(printed)?;
    Ok(if report.is_whole() { Exit::Success } else { Exit::Data })
}

/// Sends a file and notes what became of every row, also of a transfer that fails on its way.
///
/// # Errors
/// As [`run`].
pub(crate) async fn transfer(
    channel: Channel,
    args: &IngestArgs,
    report: &mut Report,
) -> Result<(), Failure> {
    let opened = open(args)?;
    transfer_opened(channel, args, opened, report).await
}

async fn transfer_opened(
    channel: Channel,
    args: &IngestArgs,
    (source, safety): (Source, Safety),
    report: &mut Report,
) -> Result<(), Failure> {
    let request_id = CorrelationId::mint();
    let notices = Notices::ask(channel.clone()).await;
    let rule = Notices::rule(args);
    // Before anything can fail: the next sending of the same rows needs the time.
    report.late = notices.late(rule);
    let follower = match args.wait {
        Some(_) => Some(Follower::start(channel.clone(), request_id.clone()).await?),
        None => None,
    };
    let bar = progress::bytes(source.bytes_total());
    let bytes_read = source.bytes_read();
    let batch_size = usize::try_from(args.batch_size.get()).unwrap_or(usize::MAX);
    let batcher = Batcher::new(safety, batch_size);
    let times = TimeCheck::new(notices.bounds, rule);
    let reader = Reader::start(source, args.format, args.quantity, (batcher, times))?;
    let in_flight =
        args.in_flight.min(NonZeroUsize::new(PLACES_MAX as usize).unwrap_or(NonZeroUsize::MAX));
    let patience = args.patience;
    let options = SenderOptions { in_flight, patience, request_id: Some(request_id) };
    let mut transfer = Transfer {
        sender: Sender::start(channel, options),
        waiting: VecDeque::new(),
        waiting_max: in_flight.get(),
        report,
        notices: &notices,
        bar,
        bytes_read,
    };
    let sent = transfer.run(reader).await;
    let Transfer { sender, bar, .. } = transfer;
    bar.finish_and_clear();
    sender.finish().await;
    sent?;
    if let (Some(follower), Some(wait)) = (follower, args.wait) {
        report.outcomes = Some(follower.outcomes(wait, report.accepted).await?);
    }
    Ok(())
}

fn open(args: &IngestArgs) -> Result<(Source, Safety), Failure> {
    let input = Input::parse(&args.file);
    let Some(name) = args.backfill.clone() else {
        let producer_id = Uuid::new_v4().into_bytes();
        return Ok((Source::open(&input)?, Safety::IdsOrNumbers { producer_id }));
    };
    domain::Name::new(&name)
        .map_err(|error| Failure::new(Exit::Usage, format_args!("--backfill `{name}`: {error}")))?;
    // The same bytes read another way are other pulses, and so other content.
    let salt = format!("{:?} {:?}", args.format, args.quantity);
    let source = Source::open_digested(&input, &salt)?;
    let digest = source.digest().map(|digest| digest.bytes().to_vec()).unwrap_or_default();
    Ok((source, Safety::Backfill { name, content_digest: digest.into() }))
}

/// Rows on their way from the reader through the sender into the report.
struct Transfer<'a> {
    sender: Sender,
    /// Batches without a receipt yet, in the order they were sent.
    waiting: VecDeque<(Vec<u64>, Receipt)>,
    waiting_max: usize,
    report: &'a mut Report,
    notices: &'a Notices,
    bar: ProgressBar,
    bytes_read: Arc<AtomicU64>,
}

impl Transfer<'_> {
    /// Sends all that the reader gives and waits for every receipt.
    async fn run(&mut self, mut reader: Reader) -> Result<(), Failure> {
        let mut stopped = Ok(());
        while let Some(piece) = reader.pieces.recv().await {
            let step = match piece {
                Piece::Rejected(rejection) => {
                    self.report.refuse(rejection);
                    Ok(())
                }
                Piece::Batch(batch, times) => {
                    self.report.times = times;
                    self.send(batch).await
                }
                Piece::Notice(notice) => {
                    let say = || self.notices.say(notice);
                    self.bar.suspend(say);
                    Ok(())
                }
                Piece::End(times) => {
                    self.report.times = times;
                    Ok(())
                }
            };
            if step.is_err() {
                stopped = step;
                break;
            }
        }
        // What is in flight may still be acknowledged, and the report should say so.
        while !self.waiting.is_empty() {
            let settled = self.settle_oldest().await;
            stopped = stopped.and(settled);
        }
        stopped?;
        reader.finish().await
    }

    async fn send(&mut self, Numbered { batch, rows }: Numbered) -> Result<(), Failure> {
        while self.waiting.len() >= self.waiting_max {
            self.settle_oldest().await?;
        }
        self.report.sent += rows.len() as u64;
        match self.sender.send(batch).await {
            Ok(receipt) => {
                self.waiting.push_back((rows, receipt));
                Ok(())
            }
            // The receipts of the batches before say why.
            Err(SendError::Ended) if !self.waiting.is_empty() => {
                self.report.unknown += rows.len() as u64;
                self.settle_oldest().await
            }
            Err(error) => {
                self.report.unknown += rows.len() as u64;
                Err(failure(&error))
            }
        }
    }

    async fn settle_oldest(&mut self) -> Result<(), Failure> {
        let Some((rows, receipt)) = self.waiting.pop_front() else { return Ok(()) };
        let settled = match receipt.await {
            Ok(sent) => {
                self.report.settle(&rows, sent);
                Ok(())
            }
            Err(error) => {
                self.report.unknown += rows.len() as u64;
                Err(failure(&error))
            }
        };
        self.bar.set_position(self.bytes_read.load(Ordering::Relaxed));
        self.bar.set_message(format!("{} accepted", self.report.accepted));
        settled
    }
}

fn failure(error: &SendError) -> Failure {
    match error {
        SendError::Refused(status) => Failure::status(status),
        SendError::OutcomeUnknown(_) | SendError::GaveUp { .. } => Failure::new(Exit::Retry, error),
        SendError::Ended => Failure::internal(error),
    }
}
