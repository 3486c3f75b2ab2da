//! CloudEvents 1.0 in JSON: one structured event a line, or one list of events (the batch format).
//!
//! `id`, `source`, `time`, `subject` (tenant) and `type` (product_sku) come from the envelope;
//! `data` carries `used_amount` and `use_unity`, and may name what the envelope does not. Every
//! other scalar of `data`, and every extension attribute, becomes a property.

use std::{
    cell::Cell,
    io::{self, BufRead, Read},
};

use serde::{
    Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::Value;

use super::{
    json::{self, Fields},
    jsonl,
    row::{Draft, FIELD_TYPE, Fault, Field, ROW_BYTES_MAX, ROW_MALFORMED, Row, RowResult},
};

/// Envelope attributes that say how to read the event and nothing about the usage.
const ABOUT_THE_EVENT: &[&str] = &["specversion", "datacontenttype", "dataschema"];

/// Reads all events and hands each row or rejection to `sink`, in order.
///
/// # Errors
/// Those of the input and of `sink`; a list that breaks off is one too.
pub fn read(
    input: &mut dyn BufRead,
    sink: &mut dyn FnMut(RowResult) -> io::Result<()>,
) -> io::Result<()> {
    if first_byte(input)? == Some(b'[') {
        return read_list(input, sink);
    }
    jsonl::each_line(input, &mut |number, line| {
        let parsed = line.and_then(jsonl::object_of).and_then(|event| pulse_of(&event));
        sink(parsed.map(|pulse| Row { number, pulse }).map_err(|fault| fault.at(number)))
    })
}

/// The first byte that is not white space, which is left in the input.
fn first_byte(input: &mut dyn BufRead) -> io::Result<Option<u8>> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(None);
        }
        match buffer.iter().position(|byte| !byte.is_ascii_whitespace()) {
            Some(at) => {
                let byte = buffer[at];
                input.consume(at);
                return Ok(Some(byte));
            }
            None => {
                let all = buffer.len();
                input.consume(all);
            }
        }
    }
}

/// Reads a list one event at a time, so that its length does not matter.
fn read_list(
    input: &mut dyn BufRead,
    sink: &mut dyn FnMut(RowResult) -> io::Result<()>,
) -> io::Result<()> {
    struct Each<'s> {
        sink: &'s mut dyn FnMut(RowResult) -> io::Result<()>,
        left: &'s Cell<usize>,
    }

    impl<'de> Visitor<'de> for Each<'_> {
        type Value = io::Result<()>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of events")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<io::Result<()>, A::Error> {
            let mut number = 0;
            let mut stopped = Ok(());
            while let Some(event) = list.next_element::<Event>()? {
                number += 1;
                self.left.set(ROW_BYTES_MAX);
                // After the sink has stopped, the rest is only read to its end.
                if stopped.is_ok() {
                    let parsed = event.fields().and_then(|fields| pulse_of(&fields));
                    let row = parsed.map(|pulse| Row { number, pulse });
                    stopped = (self.sink)(row.map_err(|fault| fault.at(number)));
                }
            }
            Ok(stopped)
        }
    }

    let left = Cell::new(ROW_BYTES_MAX);
    let mut deserializer = serde_json::Deserializer::from_reader(Bounded { input, left: &left });
    let read = deserializer.deserialize_seq(Each { sink, left: &left }).map_err(|error| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the list of events breaks off: {error}"),
        )
    })?;
    read?;
    deserializer.end().map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("after the list of events: {error}"))
    })
}

/// Ends with an error inside an event that is longer than a row may be: it would be kept whole.
struct Bounded<'i> {
    input: &'i mut dyn BufRead,
    /// Bytes that may still come before the event has ended.
    left: &'i Cell<usize>,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        match self.left.get().checked_sub(read) {
            Some(left) => self.left.set(left),
            None => {
                let message = format!("an event is longer than {ROW_BYTES_MAX} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
        Ok(read)
    }
}

/// An element of a list: an event, or something else that is one row's fault and not the list's.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Event {
    Object(Fields),
    Other(IgnoredAny),
}

impl Event {
    fn fields(self) -> Result<Fields, Fault> {
        match self {
            Self::Object(fields) => Ok(fields),
            Self::Other(_) => Err(Fault::row(ROW_MALFORMED, "not a JSON object")),
        }
    }
}

fn pulse_of(event: &Fields) -> Result<proto::v1::Pulse, Fault> {
    json::check_repeats(event)?;
    check_version(event)?;
    let mut draft = Draft::default();
    for (name, value) in &event.0 {
        match name.as_str() {
            about if ABOUT_THE_EVENT.contains(&about) => {}
            "data" => {}
            "id" | "source" | "time" | "subject" | "type" => json::set(&mut draft, name, value)?,
            extension => draft.set_property(extension, &json::scalar(extension, value)?)?,
        }
    }
    match event.0.iter().find(|(name, _)| name == "data") {
        Some((_, Value::Object(data))) => {
            data.iter().try_for_each(|(name, value)| set_data(&mut draft, name, value))?;
        }
        Some(_) => return Err(Fault::new(FIELD_TYPE, "data", "needs a JSON object")),
        None => {}
    }
    draft.finish()
}

fn set_data(draft: &mut Draft, name: &str, value: &Value) -> Result<(), Fault> {
    match name {
        "properties" => json::set_properties(draft, value),
        _ if Field::named(name).is_some() => json::set(draft, name, value),
        other => draft.set_property(other, &json::scalar(&format!("data.{other}"), value)?),
    }
}

fn check_version(event: &Fields) -> Result<(), Fault> {
    let version = event.0.iter().find(|(name, _)| name == "specversion").map(|(_, value)| value);
    match version.and_then(Value::as_str) {
        Some("1.0") => Ok(()),
        _ => Err(Fault::new(ROW_MALFORMED, "specversion", "needs \"1.0\": is this a CloudEvent?")),
    }
}
