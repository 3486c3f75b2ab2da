//! Answers: what billing answers on the wire, as the JSON that HTTP and the commands print.
//!
//! 64-bit integers and decimals are strings, moments RFC 3339 in UTC, absent ones null. Keys are only
//! ever added.

use proto::convert;

mod written;

mod catalogues;
mod contracts;
mod due;
mod runs;
mod rejections;
pub mod explanation;
pub mod invoice;
pub mod preview;
pub mod simulation;
pub mod verification;

pub use catalogues::{
    Catalogue, Catalogues, PublishedCatalogue, RetiredSku, catalogue, catalogues, published,
};
pub use contracts::{
    AgreedTerms, AgreedThing, AgreementChange, AmendedContract, AppliedContract, Contract,
    Contracts, PeriodChange, amended, applied, contract, contracts,
};
pub use due::{Due, DueMonth, DueTenant, due};
pub use rejections::{Rejection, Rejections, rejection, rejections};
pub use runs::{Run, RunFailure, RunOutcomes, RunTotal, Runs, run, runs};

/// An instant as answers write it, where there is one.
fn moment(time: Option<&prost_types::Timestamp>) -> Option<String> {
    time.and_then(convert::timestamp).map(|time| time.to_string())
}
