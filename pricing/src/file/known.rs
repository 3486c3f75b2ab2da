//! The SKUs that a file may name, and what is said of others.

use std::collections::BTreeMap;

use domain::{Sku, Unit, catalogue::SkuDefinition};

use super::cursor::{Cursor, Fields};

/// SKUs by name, each with the units it has.
#[derive(Debug)]
pub(super) struct Known<'s> {
    skus: BTreeMap<&'s str, Vec<&'s SkuDefinition>>,
    place: String,
}

impl<'s> Known<'s> {
    /// Takes the SKUs that stand in `place`, as a person calls it: `this file`.
    pub(super) fn new(definitions: &'s [SkuDefinition], place: impl Into<String>) -> Self {
        let mut skus: BTreeMap<&str, Vec<&SkuDefinition>> = BTreeMap::new();
        for definition in definitions {
            skus.entry(definition.sku.as_str()).or_default().push(definition);
        }
        Self { skus, place: place.into() }
    }

    /// A SKU in any unit: its definitions, at least one.
    pub(super) fn sku(&self, cursor: &Cursor<'_>) -> Option<&[&'s SkuDefinition]> {
        let sku = cursor.name(Sku::new)?;
        if let Some(definitions) = self.skus.get(sku.as_str()) {
            return Some(definitions);
        }
        let near = cursor.suggestion(sku.as_str(), self.skus.keys().copied());
        cursor.fail(
            format!("SKU `{sku}` is not in {}{near}", self.place),
            format!("name a SKU of {}", self.place),
        )
    }

    /// The definition that a map names by `sku` and `unit`, where the unit may be left out if the
    /// SKU has one only.
    pub(super) fn definition(&self, fields: &Fields<'_>) -> Option<&'s SkuDefinition> {
        let cursor = fields.need("sku", "name the SKU")?;
        let definitions = self.sku(&cursor)?;
        let sku = &definitions[0].sku;
        let units = || definitions.iter().map(|known| known.unit.as_str());
        let list = || units().collect::<Vec<_>>().join(", ");
        match (fields.get("unit"), definitions) {
            (None, [only]) => Some(only),
            (None, _) => fields
                .here()
                .fail(format!("SKU `{sku}` has several units: {}", list()), "name one, as `unit:`"),
            (Some(unit), _) => {
                let wanted = unit.name(Unit::new)?;
                match definitions.iter().find(|known| known.unit == wanted) {
                    Some(found) => Some(found),
                    None => unit.fail(
                        format!(
                            "SKU `{sku}` has no unit `{wanted}`{}",
                            unit.suggestion(wanted.as_str(), units())
                        ),
                        format!("name one of {}", list()),
                    ),
                }
            }
        }
    }
}
