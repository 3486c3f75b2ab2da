//! Pricing: usage becomes money, and every number can say why.
//!
//! Pure: no IO, no clock, no runtime. What reads the usage and keeps what was issued is the crate
//! `billing`. In reading order: moments and months; values that documents write as strings; exact
//! money; the catalogue file; rating; the examples that a catalogue carries; which contract holds when;
//! what contracts say in words; documents as they are written and read; invoices, of which documents
//! are made; which catalogue is in effect when; what another one would change; price lists and answers
//! out of FOCUS files.

pub mod moment;
pub mod words;

pub mod amount;

pub mod file;

pub mod rate;

pub mod examples;

pub mod timeline;

pub mod agreement;

pub mod document;

pub mod invoice;

pub mod editions;

pub mod simulate;

pub mod focus;

pub use amount::Amount;
pub use file::CatalogueFile;
pub use rate::Rated;
