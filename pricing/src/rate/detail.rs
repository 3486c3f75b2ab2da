//! Detail: what the quantity of a line consists of, by dimensions, as far as it is listed.

use std::collections::BTreeMap;

use domain::Dimensions;

use crate::amount::Amount;

/// Combinations that a line lists. A cell of a matrix may hold a hundred thousand buckets.
pub const DETAIL_MAX: usize = 100;

/// Quantities by dimensions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// The first of them by their text, at most [`DETAIL_MAX`].
    pub listed: BTreeMap<Dimensions, Amount>,
    /// How many more there are.
    pub more: u64,
    /// What these come to.
    pub more_quantity: Amount,
}

impl Detail {
    /// Adds a combination, each once. Which are listed does not depend on the order.
    pub(super) fn add(&mut self, dimensions: &Dimensions, quantity: Amount) {
        self.listed.insert(dimensions.clone(), quantity);
        if self.listed.len() > DETAIL_MAX
            && let Some((_, quantity)) = self.listed.pop_last()
        {
            self.more += 1;
            let sum = self.more_quantity.checked_add(quantity);
            self.more_quantity = sum.expect("2^68 rows are within an amount");
        }
    }

    /// The detail, unless it says no more than the line's own dimensions.
    pub(super) fn beside(self, cell: &Dimensions) -> Self {
        match self.listed.len() {
            1 if self.listed.contains_key(cell) => Self::default(),
            _ => self,
        }
    }
}
