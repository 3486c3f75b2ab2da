//! CSV with a header: columns by the wire's field names or their aliases, properties as
//! `properties.NAME`.
//!
//! A header that is not understood refuses the file before anything is sent; a row that is not, is
//! rejected alone. Rows are numbered from 1 below the header.

use std::io::{self, BufRead};

use csv::{ByteRecord, ReaderBuilder};
use service::problem::reasons;

use super::row::{Draft, Fault, Field, ROW_CELLS, Row, RowResult};

/// Columns without which no row could be taken.
const REQUIRED: [Field; 4] = [Field::ProductSku, Field::UseUnity, Field::UsedAmount, Field::Time];

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
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(input);
    let columns = columns_of(reader.byte_headers()?).map_err(invalid)?;
    let mut record = ByteRecord::new();
    for number in 1.. {
        if !reader.read_byte_record(&mut record)? {
            break;
        }
        let parsed = pulse_of(&columns, &record);
        sink(parsed.map(|pulse| Row { number, pulse }).map_err(|fault| fault.at(number)))?;
    }
    Ok(())
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn columns_of(header: &ByteRecord) -> Result<Vec<Column>, String> {
    if header.is_empty() {
        return Err("the file is empty: a header with column names is needed".to_owned());
    }
    let mut columns: Vec<Column> = Vec::with_capacity(header.len());
    for (place, name) in header.iter().enumerate() {
        let name = std::str::from_utf8(name)
            .map_err(|_| format!("the name of column {} is not UTF-8", place + 1))?
            .trim_ascii();
        let column = column_of(name, place)?;
        if columns.iter().any(|earlier| same(earlier, &column)) {
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
            Err(format!("column {} `{name}` is not known: {hint}", place + 1))
        }
    }
}

fn same(one: &Column, other: &Column) -> bool {
    match (one, other) {
        (Column::Field(one), Column::Field(other)) => one == other,
        (Column::Property(one), Column::Property(other)) => one == other,
        _ => false,
    }
}

fn pulse_of(columns: &[Column], record: &ByteRecord) -> Result<proto::v1::Pulse, Fault> {
    if record.len() != columns.len() {
        let message = format!(
            "{} cells where the header has {}: the row is cut off, or a quote is not closed",
            record.len(),
            columns.len()
        );
        return Err(Fault::row(ROW_CELLS, message));
    }
    let mut draft = Draft::default();
    for (column, cell) in columns.iter().zip(record) {
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
