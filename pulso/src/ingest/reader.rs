//! Reader: a thread that reads rows and hands over whole batches, a few ahead of the sender.

use std::{
    io::{self, BufRead},
    thread,
};

use clap::ValueEnum;
use tokio::sync::{mpsc, oneshot};

use super::{
    batches::{Batcher, Numbered},
    cloudevents, csv_rows,
    focus::{self, FocusQuantity},
    jsonl,
    row::{Rejection, RowResult},
    source::Source,
    times::{Notice, TimeCheck, TimeCounts},
};
use crate::exit::Failure;

/// Batches and rejections that wait for the sender; then reading pauses.
const PIECES_AHEAD: usize = 8;

/// What a file of usage looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    /// One JSON object a line.
    Jsonl,
    /// Columns with a header.
    Csv,
    /// A FOCUS 1.0 export of cost and usage, as CSV.
    Focus,
    /// CloudEvents 1.0: one a line, or one list.
    Cloudevents,
}

impl FileFormat {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// What the reader hands over.
#[derive(Debug)]
pub enum Piece {
    /// Rows to send, and how many rows were read so far, by what their times mean.
    Batch(Numbered, TimeCounts),
    /// A row that cannot be sent.
    Rejected(Rejection),
    /// What is to be said before the next rows are sent.
    Notice(Notice),
    /// How many rows there were when the input ended.
    End(TimeCounts),
}

/// A reader at work.
pub struct Reader {
    /// What it has read, in order; ends when the input does.
    pub pieces: mpsc::Receiver<Piece>,
    ended: oneshot::Receiver<io::Result<()>>,
}

impl Reader {
    /// Starts reading.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        source: Source,
        format: FileFormat,
        quantity: FocusQuantity,
        (batcher, times): (Batcher, TimeCheck),
    ) -> Result<Self, Failure> {
        let (send, pieces) = mpsc::channel(PIECES_AHEAD);
        let (end, ended) = oneshot::channel();
        let work = move || {
            let result =
                source.read(|input| read_all(input, format, quantity, (batcher, times), &send));
            // Nobody waits for it any more when the sender has failed first.
            let _ = end.send(result);
        };
        let spawned = thread::Builder::new().name("reader".to_owned()).spawn(work);
        spawned
            .map_err(|error| Failure::internal(format_args!("cannot start a thread: {error}")))?;
        Ok(Self { pieces, ended })
    }

    /// Tells how reading ended, once the pieces have.
    ///
    /// # Errors
    /// What was wrong with the input as a whole.
    pub async fn finish(self) -> Result<(), Failure> {
        match self.ended.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::data(format_args!("cannot read the input: {error}"))),
            Err(_) => Err(Failure::internal("the reader's thread has panicked")),
        }
    }
}

fn read_all(
    input: &mut dyn BufRead,
    format: FileFormat,
    quantity: FocusQuantity,
    (mut batcher, mut times): (Batcher, TimeCheck),
    pieces: &mpsc::Sender<Piece>,
) -> io::Result<()> {
    let hand_over = |piece| {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the sender has ended");
        pieces.blocking_send(piece).map_err(gone)
    };
    let mut sink = |row: RowResult| match row {
        Ok(row) => {
            let (is_sent, notice) = times.look(&row);
            notice.map_or(Ok(()), |notice| hand_over(Piece::Notice(notice)))?;
            let full = if is_sent { batcher.push(&row) } else { None };
            full.map_or(Ok(()), |full| hand_over(Piece::Batch(full, times.counts())))
        }
        Err(rejection) => hand_over(Piece::Rejected(rejection)),
    };
    match format {
        FileFormat::Jsonl => jsonl::read(input, &mut sink),
        FileFormat::Csv => csv_rows::read(input, &mut sink),
        FileFormat::Focus => focus::read(input, quantity, &mut sink),
        FileFormat::Cloudevents => cloudevents::read(input, &mut sink),
    }?;
    let counts = times.counts();
    batcher.finish().into_iter().try_for_each(|batch| hand_over(Piece::Batch(batch, counts)))?;
    hand_over(Piece::End(counts))
}
