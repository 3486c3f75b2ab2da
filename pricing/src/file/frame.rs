//! Frame: what the prices of a SKU have to fit, whichever model they name.

use domain::{
    Name,
    catalogue::{Meter, SkuDefinition},
};

use super::cursor::Cursor;

/// What a price has to fit. What is not known, or is wrong and noted already, fits every price.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    /// The SKU's dimensions.
    pub(super) dimensions: Option<&'a [Name]>,
    /// The SKU's meter.
    pub(super) meter: Option<Meter>,
    /// The dimensions that a level is measured for.
    pub(super) per: Option<&'a [Name]>,
}

impl<'a> Frame<'a> {
    /// Every price fits it.
    pub(super) const ANY: Self = Self { dimensions: None, meter: None, per: None };

    /// What prices of a SKU have to fit.
    pub(super) fn of(definition: &'a SkuDefinition) -> Self {
        let SkuDefinition { dimensions, meter, per, .. } = definition;
        Self { dimensions: Some(dimensions), meter: Some(*meter), per: Some(per) }
    }
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

    /// Checks that a price may depend on a dimension: on one of those that a level is measured for, so
    /// that each level has one price.
    pub(super) fn check_priced_by(&self, cursor: &Cursor<'_>, name: &str) -> Option<()> {
        self.check_dimension(cursor, name)?;
        let (Some(meter), Some(per)) = (self.meter, self.per) else { return Some(()) };
        if !meter.is_level() || per.iter().any(|measured| measured.as_str() == name) {
            return Some(());
        }
        cursor.fail(
            format!("`{name}` is not among the dimensions of `per`, so one level may have several prices"),
            "add it to the SKU's `per`",
        )
    }
}
