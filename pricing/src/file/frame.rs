//! Frame: what the prices of a SKU have to fit, whichever model they name.

use domain::{Name, catalogue::Meter};

use super::cursor::Cursor;

/// What a price has to fit. What is not known, or is wrong and noted already, fits every price.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    /// The SKU's dimensions.
    pub(super) dimensions: Option<&'a [Name]>,
    /// The SKU's meter.
    pub(super) meter: Option<Meter>,
}

impl Frame<'_> {
    /// Checks that a name is a dimension of the SKU.
    pub(super) fn check_dimension(&self, cursor: &Cursor<'_>, name: &str) -> Option<()> {
        let Some(dimensions) = self.dimensions else { return Some(()) };
        let known = dimensions.iter().map(Name::as_str);
        if known.clone().any(|declared| declared == name) {
            return Some(());
        }
        cursor.fail(
            format!("`{name}` is no dimension of this SKU{}", cursor.suggestion(name, known)),
            "add it to the SKU's `dimensions`, so that the totals keep it apart",
        )
    }
}
