//! CSV records, one at a time, of which none is longer than a row may be.
//!
//! A quote that is not closed makes a record of the whole rest of a file, and a reader that keeps whole
//! records would keep all of it. So the parser of the crate `csv` is driven here directly: a record
//! that is too long is read to its end and not kept.

use std::io::{self, BufRead};

use csv_core::ReadRecordResult;

use super::row::{Fault, ROW_BYTES_MAX, ROW_TOO_LONG};

/// Cells of a record, beyond which it is too long.
const CELLS_MAX: usize = ROW_BYTES_MAX / 16;

/// The records of an input, the header first.
pub(super) struct Records<'i> {
    input: &'i mut dyn BufRead,
    parser: csv_core::Reader,
    bytes: Vec<u8>,
    /// Where each cell ends in `bytes`.
    ends: Vec<usize>,
    cells: usize,
    has_begun: bool,
}

impl<'i> Records<'i> {
    pub(super) fn of(input: &'i mut dyn BufRead) -> Self {
        Self {
            input,
            parser: csv_core::Reader::new(),
            bytes: vec![0; 1 << 10],
            ends: vec![0; 1 << 6],
            cells: 0,
            has_begun: false,
        }
    }

    /// Goes to the next record, or tells that there is none; a record that is too long comes as a fault.
    ///
    /// # Errors
    /// Those of the input.
    pub(super) fn advance(&mut self) -> io::Result<Option<Result<(), Fault>>> {
        let (mut written, mut ended, mut is_too_long) = (0, 0, false);
        loop {
            let input = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                input => input?,
            };
            // The parser passes over a byte order mark where one call brings all of it. `Source` has done
            // so already, and what is read must not depend on how the bytes arrive.
            let input = if self.has_begun { input } else { &input[..input.len().min(1)] };
            self.has_begun = true;
            let (bytes, ends) = (&mut self.bytes[written..], &mut self.ends[ended..]);
            let (result, read, wrote, cells) = self.parser.read_record(input, bytes, ends);
            self.input.consume(read);
            (written, ended) = (written + wrote, ended + cells);
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if written < ROW_BYTES_MAX => {
                    self.bytes.resize(ROW_BYTES_MAX.min(2 * written), 0);
                }
                ReadRecordResult::OutputEndsFull if ended < CELLS_MAX => {
                    self.ends.resize(CELLS_MAX.min(2 * ended), 0);
                }
                // What follows is written over what was.
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    (written, ended, is_too_long) = (0, 0, true);
                }
                ReadRecordResult::Record if is_too_long => {
                    let message = format!(
                        "longer than {ROW_BYTES_MAX} bytes or {CELLS_MAX} cells: is a quote not closed?"
                    );
                    return Ok(Some(Err(Fault::row(ROW_TOO_LONG, message))));
                }
                ReadRecordResult::Record => {
                    self.cells = ended;
                    return Ok(Some(Ok(())));
                }
                ReadRecordResult::End => return Ok(None),
            }
        }
    }

    /// Cells of the record.
    pub(super) const fn len(&self) -> usize {
        self.cells
    }

    /// The cells of the record in order.
    pub(super) fn cells(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.cells).map(|place| self.cell(place))
    }

    /// A cell of the record, which has so many.
    pub(super) fn cell(&self, place: usize) -> &[u8] {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[place]]
    }
}
