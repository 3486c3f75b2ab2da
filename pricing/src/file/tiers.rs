//! Tiers: what every list of tiers has, whatever a tier prices.

use domain::Quantity;

use super::cursor::{Cursor, Fields};

/// Most tiers of a price.
const TIERS_MAX: usize = 1_000;

/// Reads a list of tiers, of which each needs to know where the one before it ends.
pub(super) fn tier_list<T>(
    cursor: &Cursor<'_>,
    read: fn(&Cursor<'_>, Place) -> Option<T>,
    up_to: fn(&T) -> Option<Quantity>,
) -> Option<Vec<T>> {
    let entries = cursor.list(TIERS_MAX)?;
    let last = match entries.len().checked_sub(1) {
        Some(last) => last,
        None => return cursor.fail("no tiers", "list at least one tier"),
    };
    let mut list: Vec<T> = Vec::new();
    let mut complete = true;
    for (index, entry) in entries.iter().enumerate() {
        let before = list.last().and_then(up_to);
        match read(entry, if index == last { Place::Last } else { Place::Inner { before } }) {
            Some(tier) => list.push(tier),
            None => complete = false,
        }
    }
    complete.then_some(list)
}

/// Whether the first tier's fee is due for nothing.
pub(super) fn flat_fee_at_zero(fields: &Fields<'_>) -> Option<bool> {
    match fields.get("flat_fee_at_zero") {
        Some(cursor) => cursor.boolean(),
        None => Some(false),
    }
}

/// Where a tier stands in its list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Behind a tier that ends at `before`, if it is not the first.
    Inner { before: Option<Quantity> },
    /// At the end.
    Last,
}

/// A tier's fee.
pub(super) fn flat_fee(fields: &Fields<'_>) -> Option<Quantity> {
    match fields.get("flat_fee") {
        Some(cursor) => cursor.decimal(),
        None => Some(Quantity::ZERO),
    }
}

/// The last quantity of a tier: `Some(None)` for the last tier, which has none.
pub(super) fn up_to(fields: &Fields<'_>, place: Place) -> Option<Option<Quantity>> {
    match (fields.get("up_to"), place) {
        (Some(cursor), Place::Inner { before }) => {
            let up_to = cursor.decimal_above_zero()?;
            if before.is_some_and(|before| up_to <= before) {
                let message = format!("{up_to} is not above the tier before it");
                return cursor.fail(message, "list tiers from the lowest up_to to the highest");
            }
            Some(Some(up_to))
        }
        (Some(cursor), Place::Last) => cursor.fail(
            "the last tier has an up_to, so greater quantities would have no price",
            "remove it, or add a tier without up_to",
        ),
        (None, Place::Inner { .. }) => fields.here().fail(
            "only the last tier may have no up_to",
            "give its last quantity, as `up_to: \"100\"`",
        ),
        (None, Place::Last) => Some(None),
    }
}
