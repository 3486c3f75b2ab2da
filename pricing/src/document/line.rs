//! A line of a document: what it is about, its amount, and the steps to it.

use domain::{Timestamp, catalogue::Rounding};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};
use utoipa::ToSchema;

use super::{Hour, Span};
use crate::{
    amount::{Amount, Money},
    rate::{Detail, Step},
    words::{self, Pairs},
};

/// A line. Which keys it has depends on its kind.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
pub struct DocumentLine {
    /// Its identity among the lines of its period, whenever it was computed.
    pub key: String,
    /// What it is about.
    pub kind: LineKind,
    /// Name for people, of a SKU, a discount, a commitment or a tax; the reason of a credit as a whole.
    pub name: Option<String>,
    /// What was used; of usage, and of credits of it.
    pub product_sku: Option<String>,
    /// What the quantity counts; of usage, and of credits of it.
    pub use_unity: Option<String>,
    /// What the price of a matrix names; of usage, and of credits of it.
    pub dimensions: Option<Pairs>,
    /// The quantity by dimensions, where a matrix or a level tells several apart; of usage.
    pub by_dimensions: Option<ByDimensions>,
    /// The price model; of usage.
    #[schema(example = "graduated")]
    pub model: Option<String>,
    /// What the meter gave; of usage, and 0 of lines that are given back.
    pub quantity: Option<Amount>,
    /// The price; of usage.
    pub price: Option<PriceRef>,
    /// The contract that it is under; not of a credit of a document as a whole.
    pub contract: Option<String>,
    /// The stretch of time that it is for; not of credits.
    pub span: Option<Span>,
    /// The rounded amount; in a delta the difference, in a reversal and a credit note below zero.
    pub amount: Money,
    /// The rule it was rounded by; not of credits.
    #[serde(default, with = "words::optional")]
    #[schema(value_type = Option<String>, example = "half_up to 2 digits")]
    pub rounding: Option<Rounding>,
    /// How the amount came about; the steps' amounts add up to it. Empty of credits.
    pub detail: Vec<Step>,
    /// Its place in the document, from 1; in explanations only.
    pub line: Option<usize>,
    /// The hours of usage behind it, in order; in previews and explanations only.
    pub hours: Option<Vec<Hour>>,
    /// Hours that a preview leaves out, because it lists no more stretches of the log.
    #[serde(default, with = "words::optional")]
    #[schema(value_type = Option<String>, example = "12")]
    pub hours_left_out: Option<u64>,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineKind {
    /// Usage of a SKU.
    Usage,
    /// A discount of an amount.
    Discount,
    /// What is missing to a commitment, or the difference of its overage.
    Commitment,
    /// A tax.
    Tax,
    /// What brings the total to whole coins.
    Rounding,
    /// What a credit note gives back.
    Credit,
}

/// What a quantity consists of, by dimensions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ByDimensions {
    /// The first of them by their text, at most a hundred.
    pub listed: Vec<QuantityOf>,
    /// How many more there are, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "words::optional")]
    #[schema(value_type = Option<String>, example = "99900")]
    pub more: Option<u64>,
    /// What these come to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more_quantity: Option<Amount>,
}

/// What a quantity has of some dimensions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuantityOf {
    /// Names and values.
    pub dimensions: Pairs,
    /// The quantity.
    pub quantity: Amount,
}

impl ByDimensions {
    /// The detail of a line; `None` where it has none.
    #[must_use]
    pub fn of(detail: &Detail) -> Option<Self> {
        let listed = detail.listed.iter().map(|(dimensions, quantity)| QuantityOf {
            dimensions: Pairs(dimensions.pairs()),
            quantity: *quantity,
        });
        let more = (detail.more > 0).then_some(detail.more);
        (!detail.listed.is_empty()).then(|| Self {
            listed: listed.collect(),
            more,
            more_quantity: more.map(|_| detail.more_quantity),
        })
    }
}

/// The price that a line of usage is under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PriceRef {
    /// Version of the catalogue.
    pub catalogue: String,
    /// First moment of the price version.
    #[serde(with = "words")]
    #[schema(value_type = String, format = DateTime)]
    pub valid_from: Timestamp,
}

impl LineKind {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Discount => "discount",
            Self::Commitment => "commitment",
            Self::Tax => "tax",
            Self::Rounding => "rounding",
            Self::Credit => "credit",
        }
    }

    /// The kind that a word names, if one does.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        use LineKind::{Commitment, Credit, Discount, Rounding, Tax, Usage};
        [Usage, Discount, Commitment, Tax, Rounding, Credit]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

impl DocumentLine {
    /// A line of a kind and an amount, with no other key.
    #[must_use]
    pub const fn new(key: String, kind: LineKind, amount: Money) -> Self {
        Self {
            key,
            kind,
            name: None,
            product_sku: None,
            use_unity: None,
            dimensions: None,
            by_dimensions: None,
            model: None,
            quantity: None,
            price: None,
            contract: None,
            span: None,
            amount,
            rounding: None,
            detail: Vec::new(),
            line: None,
            hours: None,
            hours_left_out: None,
        }
    }

    /// What its steps add up to, or `None` past the range of an amount.
    #[must_use]
    pub fn steps_total(&self) -> Option<Amount> {
        let amounts = self.detail.iter().map(Step::amount);
        amounts.into_iter().try_fold(Amount::ZERO, Amount::checked_add)
    }
}

/// Keys that a line lacks are left out. One of usage has its quantity before its price. Where a line of
/// another kind is given back, its quantity of 0 was added behind its detail, and stays there.
impl Serialize for DocumentLine {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("key", &self.key)?;
        map.serialize_entry("kind", &self.kind)?;
        macro_rules! put {
            ($($field:ident)*) => {$(
                if let Some(value) = &self.$field {
                    map.serialize_entry(stringify!($field), value)?;
                }
            )*};
        }
        put!(name product_sku use_unity dimensions by_dimensions model);
        if self.kind == LineKind::Usage {
            put!(quantity);
        }
        put!(price contract span);
        map.serialize_entry("amount", &self.amount)?;
        if let Some(rounding) = &self.rounding {
            map.serialize_entry("rounding", &rounding.to_string())?;
        }
        map.serialize_entry("detail", &self.detail)?;
        if self.kind != LineKind::Usage {
            put!(quantity);
        }
        put!(line hours);
        if let Some(left_out) = self.hours_left_out {
            map.serialize_entry("hours_left_out", &left_out.to_string())?;
        }
        map.end()
    }
}
