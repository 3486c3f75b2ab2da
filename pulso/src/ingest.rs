//! Files of usage: read row by row, never held whole, into batches that can be sent again.
//!
//! - [`row`]: what a row is, why one is rejected, and how text becomes a pulse.
//! - [`json`], [`jsonl`], [`cloudevents`], [`csv_rows`], [`focus`]: one reader for each format.
//! - `records`: the records of CSV, none longer than a row may be.
//! - [`source`]: the bytes: a file or stdin, their digest, and how far they are read.
//! - [`times`]: which rows will not be counted by their time.
//! - [`batches`]: rows into batches with an identity.
//! - [`reader`]: the thread that does all of this, ahead of the sender by a few batches.
//!
//! A bad row never fails its neighbours: it is a [`row::Rejection`], and reading goes on. Only what
//! concerns the whole file (it cannot be read, a column is missing) ends it.

pub mod row;

pub mod json;

pub mod jsonl;

pub mod cloudevents;

mod records;

pub mod csv_rows;

pub mod focus;

pub mod source;

pub mod times;

pub mod batches;

pub mod reader;

#[cfg(test)]
mod tests;
