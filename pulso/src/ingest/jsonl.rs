//! JSON lines: one object a line, with the wire's field names or their aliases.
//!
//! `used_amount` is a decimal string or a number taken by its digits, `time` is RFC 3339,
//! `properties` an object of scalars. Empty lines are passed over.

use std::io::{self, BufRead};

use super::{
    json::{self, Fields},
    row::{Draft, Fault, ROW_BYTES_MAX, ROW_MALFORMED, ROW_TOO_LONG, Row, RowResult},
};

/// Reads all lines and hands each row or rejection to `sink`, in order.
///
/// # Errors
/// Those of the input and of `sink`.
pub fn read(
    input: &mut dyn BufRead,
    sink: &mut dyn FnMut(RowResult) -> io::Result<()>,
) -> io::Result<()> {
    each_line(input, &mut |number, line| {
        let parsed = line.and_then(pulse_of);
        sink(parsed.map(|pulse| Row { number, pulse }).map_err(|fault| fault.at(number)))
    })
}

fn pulse_of(line: &[u8]) -> Result<proto::v1::Pulse, Fault> {
    let fields = object_of(line)?;
    json::check_repeats(&fields)?;
    let mut draft = Draft::default();
    for (name, value) in &fields.0 {
        json::set(&mut draft, name, value)?;
    }
    draft.finish()
}

/// Reads one JSON object.
///
/// # Errors
/// When the bytes are none.
pub(super) fn object_of(line: &[u8]) -> Result<Fields, Fault> {
    serde_json::from_slice(line).map_err(|error| {
        let nan = line.windows(3).any(|word| word == b"NaN" || word == b"Inf");
        let hint = if nan { " (NaN and Infinity are no JSON numbers)" } else { "" };
        Fault::row(ROW_MALFORMED, format_args!("not a JSON object: {error}{hint}"))
    })
}

/// Takes a line by its number, or why it cannot be taken.
type VisitLine<'v> = &'v mut dyn FnMut(u64, Result<&[u8], Fault>) -> io::Result<()>;

/// Hands every line that is not empty to `visit`, with its number from 1; a line that is too long
/// comes as a fault.
pub(super) fn each_line(input: &mut dyn BufRead, visit: VisitLine<'_>) -> io::Result<()> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let limit = ROW_BYTES_MAX as u64 + 1;
        let read = io::Read::take(&mut *input, limit).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        if read > ROW_BYTES_MAX && line.last() != Some(&b'\n') {
            skip_line(input)?;
            let message = format!("longer than {ROW_BYTES_MAX} bytes");
            visit(number, Err(Fault::row(ROW_TOO_LONG, message)))?;
            continue;
        }
        let line = line.trim_ascii();
        if !line.is_empty() {
            visit(number, Ok(line))?;
        }
    }
    Ok(())
}

/// Passes over the rest of a line without keeping it.
fn skip_line(input: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}
