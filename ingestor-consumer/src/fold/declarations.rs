//! Declarations: the dimensions of each SKU, as the log declares them.

use std::collections::BTreeMap;

/// Declared dimensions by SKU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Declarations(pub(crate) BTreeMap<String, Declaration>);

/// The dimensions of one SKU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declaration {
    pub(crate) version: u64,
    /// Sorted, without repeats.
    pub(crate) dimensions: Vec<String>,
}

impl Declarations {
    /// Applies a declaration if it is newer; tells whether it did.
    pub(crate) fn declare(&mut self, sku: &str, mut declaration: Declaration) -> bool {
        declaration.dimensions.sort();
        declaration.dimensions.dedup();
        if self.0.get(sku).is_some_and(|known| known.version >= declaration.version) {
            return false;
        }
        self.0.insert(sku.to_owned(), declaration);
        true
    }
}
