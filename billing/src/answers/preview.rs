//! Answer: a tenant's invoices as they would be now.

use pricing::document::InvoiceDocument;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::written::text;

/// The invoices of a tenant's periods that begin in a month, if they were made now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreviewAnswer {
    /// Whose invoices.
    pub tenant: String,
    /// The month in which the periods begin.
    #[schema(example = "2024-09")]
    pub period: String,
    /// The version that stands for the latest catalogue.
    pub catalogue: String,
    /// In the order of their periods, without those that have nothing to bill.
    pub invoices: Vec<InvoiceDocument>,
    /// What those periods lack.
    pub set_aside: SetAsideAnswer,
}

/// Pulses that were late or dead-lettered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SetAsideAnswer {
    /// At most how many, a whole number.
    #[serde(serialize_with = "text", deserialize_with = "whole")]
    #[schema(value_type = String, example = "0")]
    pub pulses: u64,
    /// Whether all of the tenant's were looked at; there are more where not.
    pub complete: bool,
}

fn whole<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
}
