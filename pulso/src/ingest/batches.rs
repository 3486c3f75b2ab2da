//! Batches: rows put together under one identity each, so that every batch can be sent again.
//!
//! Without a backfill name, rows with an id go by that id, and rows without one go numbered by a
//! producer minted for this run. Numbers make the resends of this run safe, but not a second run:
//! that is what ids and backfills are for. In a backfill the row's number is its sequence, so a
//! batch holds consecutive rows only.

use bytes::Bytes;
use prost::Message;

use super::row::Row;
use crate::client::{Batch, Identity, Pulses};

/// A batch is closed before it grows past this, whatever its count: a numbered batch has to fit into
/// one record of the log, which takes a million bytes by default.
const BATCH_BYTES_MAX: usize = 512 << 10;

/// A batch with the numbers of its rows.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// The batch as it is sent.
    pub batch: Batch,
    /// Row of each pulse.
    pub rows: Vec<u64>,
}

/// What makes the pulses of a run safe to send again.
#[derive(Clone, Debug)]
pub enum Safety {
    /// Ids where rows have them, numbers of this producer where not.
    IdsOrNumbers {
        /// Minted for the run.
        producer_id: [u8; 16],
    },
    /// A named set.
    Backfill {
        /// Its name.
        name: String,
        /// Digest of its content.
        content_digest: Bytes,
    },
}

/// Puts rows into batches.
pub struct Batcher {
    safety: Safety,
    pulses_max: usize,
    sequence_next: u64,
    numbered: Open,
    by_id: Open,
}

#[derive(Default)]
struct Open {
    pulses: Pulses,
    rows: Vec<u64>,
}

impl Batcher {
    /// Batches of at most `pulses_max` pulses.
    #[must_use]
    pub fn new(safety: Safety, pulses_max: usize) -> Self {
        let (numbered, by_id) = (Open::default(), Open::default());
        Self { safety, pulses_max, sequence_next: 0, numbered, by_id }
    }

    /// Adds a row and returns the batch that had to be closed before or is full with it. Each row
    /// closes at most one: a batch that is closed before a row leaves an empty one behind.
    #[must_use]
    pub fn push(&mut self, row: &Row) -> Option<Numbered> {
        let ids = matches!(self.safety, Safety::IdsOrNumbers { .. });
        let by_id = ids && !row.pulse.id.is_empty();
        let open = if by_id { &self.by_id } else { &self.numbered };
        let follows = open.rows.last().is_none_or(|last| last + 1 == row.number);
        let full = open.rows.len() >= self.pulses_max
            || open.pulses.bytes_len() + row.pulse.encoded_len() > BATCH_BYTES_MAX;
        let closed = if full || !(ids || follows) { self.close(by_id) } else { None };
        let open = if by_id { &mut self.by_id } else { &mut self.numbered };
        open.pulses.push(&row.pulse);
        open.rows.push(row.number);
        closed
    }

    /// Closes what is still open.
    #[must_use]
    pub fn finish(mut self) -> Vec<Numbered> {
        [true, false].into_iter().filter_map(|by_id| self.close(by_id)).collect()
    }

    fn close(&mut self, by_id: bool) -> Option<Numbered> {
        let open = if by_id { &mut self.by_id } else { &mut self.numbered };
        let Open { pulses, rows } = std::mem::take(open);
        let first_row = *rows.first()?;
        let identity = match &self.safety {
            Safety::IdsOrNumbers { .. } if by_id => Identity::ById,
            Safety::IdsOrNumbers { producer_id } => {
                let first_sequence = self.sequence_next;
                self.sequence_next += u64::from(pulses.count());
                Identity::Numbered { producer_id: *producer_id, first_sequence }
            }
            Safety::Backfill { name, content_digest } => {
                let (name, content_digest) = (name.clone(), content_digest.clone());
                Identity::Backfill { name, content_digest, first_row }
            }
        };
        Some(Numbered { batch: pulses.into_batch(identity), rows })
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::Pulse;

    use super::*;

    fn batches(safety: Safety, rows: &[(u64, &str)]) -> Vec<(Identity, Vec<u64>)> {
        let mut batcher = Batcher::new(safety, 2);
        let mut closed = Vec::new();
        for (number, id) in rows {
            let pulse = Pulse { id: (*id).to_owned(), ..Default::default() };
            closed.extend(batcher.push(&Row { number: *number, pulse }));
        }
        closed.extend(batcher.finish());
        closed.into_iter().map(|closed| (closed.batch.identity().clone(), closed.rows)).collect()
    }

    #[test]
    fn rows_with_ids_go_by_id_and_the_others_numbered() {
        let numbered = |first_sequence| Identity::Numbered { producer_id: [1; 16], first_sequence };
        let rows = [(1, "a"), (2, ""), (3, "b"), (4, ""), (5, "c"), (6, "")];
        assert_eq!(
            batches(Safety::IdsOrNumbers { producer_id: [1; 16] }, &rows),
            [
                (Identity::ById, vec![1, 3]),
                (numbered(0), vec![2, 4]),
                (Identity::ById, vec![5]),
                (numbered(2), vec![6]),
            ]
        );
    }

    #[test]
    fn a_backfill_batch_holds_consecutive_rows_only() {
        let (name, content_digest) = ("old".to_owned(), Bytes::from_static(&[9; 16]));
        let backfill = |first_row| Identity::Backfill {
            name: name.clone(),
            content_digest: content_digest.clone(),
            first_row,
        };
        let safety =
            Safety::Backfill { name: name.clone(), content_digest: content_digest.clone() };
        assert_eq!(
            batches(safety, &[(1, "a"), (3, ""), (4, ""), (5, "b"), (9, "")]),
            [
                (backfill(1), vec![1]),
                (backfill(3), vec![3, 4]),
                (backfill(5), vec![5]),
                (backfill(9), vec![9]),
            ]
        );
    }
}
