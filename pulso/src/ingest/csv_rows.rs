//! CSV with a header: columns by the wire's field names or their aliases, properties as
//! `properties.NAME`.
//!
//! A header that is not understood refuses the file before anything is sent; a row that is not, is
//! rejected alone. Rows are numbered from 1 below the header.

use std::{
    collections::HashSet,
    io::{self, BufRead},
};

use edge::problem::reasons;

use super::{
    records::Records,
    row::{Draft, Fault, Field, ROW_CELLS, Row, RowResult, shorten},
};

/// Columns without which no row could be taken.
const REQUIRED: [Field; 4] = [Field::ProductSku, Field::UseUnity, Field::UsedAmount, Field::Time];

#[derive(Clone, PartialEq, Eq, Hash)]
enum Column {
    Field(Field),
    Property(String),
}

/// Reads all rows and hands each row or rejection to `sink`, in order.
///
/// # Errors
/// `InvalidData` for a header that is not understood, those of the input, and those of `sink`.
pub fn read(
    input: &mut dyn BufRead,
    sink: &mut dyn FnMut(RowResult) -> io::Result<()>,
) -> io::Result<()> {
    let mut records = Records::of(input);
    let columns = read_header(&mut records, columns_of)?;
    for number in 1.. {
        let Some(record) = records.advance()? else { break };
        let parsed = record.and_then(|()| pulse_of(&columns, &records));
        sink(parsed.map(|pulse| Row { number, pulse }).map_err(|fault| fault.at(number)))?;
    }
    Ok(())
}

/// Reads the first record of a file, and what its columns are; an empty file has none.
///
/// # Errors
/// `InvalidData` for a header that is not understood, and those of the input.
pub(super) fn read_header<C>(
    records: &mut Records<'_>,
    columns_of: impl FnOnce(&Records<'_>) -> Result<C, String>,
) -> io::Result<C> {
    let header = records.advance()?.unwrap_or(Ok(()));
    let columns = header.map_err(|fault| fault.to_string()).and_then(|()| columns_of(records));
    columns.map_err(|message| io::Error::new(io::ErrorKind::InvalidData, message))
}

fn columns_of(header: &Records<'_>) -> Result<Vec<Column>, String> {
    if header.len() == 0 {
        return Err("the file is empty: a header with column names is needed".to_owned());
    }
    let mut columns: Vec<Column> = Vec::with_capacity(header.len());
    let mut seen = HashSet::with_capacity(header.len());
    for (place, name) in header.cells().enumerate() {
        let name = std::str::from_utf8(name)
            .map_err(|_| format!("the name of column {} is not UTF-8", place + 1))?
            .trim_ascii();
        let column = column_of(name, place)?;
        if !seen.insert(column.clone()) {
            return Err(format!("column `{name}` comes twice (or under two of its names)"));
        }
        columns.push(column);
    }
    for field in REQUIRED {
        let present = |column: &Column| matches!(column, Column::Field(have) if *have == field);
        if !columns.iter().any(present) {
            let names = field.names().join("` or `");
            return Err(format!("column `{names}` is missing"));
        }
    }
    Ok(columns)
}

fn column_of(name: &str, place: usize) -> Result<Column, String> {
    match (Field::named(name), name.strip_prefix("properties.")) {
        (Some(field), _) => Ok(Column::Field(field)),
        (None, Some(property)) if !property.is_empty() => Ok(Column::Property(property.to_owned())),
        _ => {
            let hint = match Field::suggest(name) {
                Some("properties") | None => "name free columns `properties.NAME`".to_owned(),
                Some(near) => format!("did you mean `{near}`? Free columns are `properties.NAME`"),
            };
            Err(format!(
                "column {} `{}` is not known: {hint}",
                place + 1,
                shorten(name).escape_debug()
            ))
        }
    }
}

fn pulse_of(columns: &[Column], record: &Records<'_>) -> Result<proto::v1::Pulse, Fault> {
    if record.len() != columns.len() {
        let message = format!(
            "{} cells where the header has {}: the row is cut off, or a quote is not closed",
            record.len(),
            columns.len()
        );
        return Err(Fault::row(ROW_CELLS, message));
    }
    let mut draft = Draft::default();
    for (column, cell) in columns.iter().zip(record.cells()) {
        let text = std::str::from_utf8(cell)
            .map_err(|_| Fault::new(reasons::NAME_NOT_UTF8, name_of(column), "not valid UTF-8"))?;
        match column {
            Column::Field(field) => draft.set(*field, text)?,
            Column::Property(name) => draft.set_property(name, text)?,
        }
    }
    draft.finish()
}

fn name_of(column: &Column) -> String {
    match column {
        Column::Field(field) => field.name().to_owned(),
        Column::Property(name) => format!("properties.{name}"),
    }
}
