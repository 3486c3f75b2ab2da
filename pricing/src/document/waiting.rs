//! Usage that waits for a price, with the reason and the remedy.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Hour;
use crate::{
    amount::Amount,
    rate::Unpriced,
    words::{self, Pairs},
};

/// Usage that no line prices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// What was used.
    pub product_sku: String,
    /// What the quantity counts.
    pub use_unity: String,
    /// Its dimensions, where they matter to the price.
    pub dimensions: Pairs,
    /// Sum of the amounts.
    pub quantity: Amount,
    /// How many pulses it came in.
    #[serde(with = "words")]
    #[schema(value_type = String, example = "12")]
    pub count: u128,
    /// The stable word for why it has no price.
    #[schema(example = "unknown_sku")]
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
    /// Its hours, in order; in previews only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Vec<Hour>>,
    /// Hours that a preview leaves out, because it lists no more stretches of the log.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "words::optional")]
    #[schema(value_type = Option<String>, example = "12")]
    pub hours_left_out: Option<u64>,
}

impl From<&Unpriced> for Waiting {
    fn from(unpriced: &Unpriced) -> Self {
        Self {
            product_sku: unpriced.product_sku.as_str().to_owned(),
            use_unity: unpriced.use_unity.as_str().to_owned(),
            dimensions: Pairs(unpriced.dimensions.pairs()),
            quantity: unpriced.quantity,
            count: unpriced.count,
            reason: unpriced.reason.as_str().to_owned(),
            remedy: unpriced.reason.remedy().to_owned(),
            hours: None,
            hours_left_out: None,
        }
    }
}
