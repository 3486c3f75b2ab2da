//! Held: levels that hold on into a period from before it, by the newest row of each resource.
//!
//! Only SKUs that a catalogue lets hold on are looked for. That reads all that the store has of them
//! from before the period, a page at a time; what is kept is a row for each resource.

use std::collections::{BTreeSet, HashMap};

use domain::{ResourceKey, Sku, Timestamp, UsageRow, Window};

/// The newest rows, as far as they were seen.
#[derive(Default)]
pub(crate) struct Newest(HashMap<ResourceKey, UsageRow>);

impl Newest {
    /// Takes a row, and keeps it if it is newer than what is known of its resource.
    pub(crate) fn take(&mut self, row: UsageRow) {
        // As `latest` is measured: by time, and of two at once the greater.
        let order = |row: &UsageRow| (row.cell.aggregate.time_last, row.cell.aggregate.last);
        match self.0.get_mut(&row.key.resource) {
            Some(known) if order(known) >= order(&row) => {}
            Some(known) => *known = row,
            None => {
                self.0.insert(row.key.resource.clone(), row);
            }
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The rows, in no order.
    pub(crate) fn into_rows(self) -> impl Iterator<Item = UsageRow> {
        self.0.into_values()
    }
}

/// Of a tenant's rows up to the end of a period, those of the period, and the newest from before it of
/// each resource whose level may hold on.
pub(crate) fn only_held(
    rows: Vec<UsageRow>,
    window: Window,
    held: &BTreeSet<Sku>,
) -> Vec<UsageRow> {
    let (mut inside, before): (Vec<UsageRow>, Vec<UsageRow>) =
        rows.into_iter().partition(|row| row.key.window_start >= window.start);
    let mut newest = Newest::default();
    let wanted = before.into_iter().filter(|row| held.contains(&row.key.resource.product_sku));
    wanted.for_each(|row| newest.take(row));
    inside.extend(newest.into_rows());
    inside
}

/// What a period looks at, where levels may hold on into it.
pub(crate) const fn since_ever(window: Window) -> Window {
    Window { start: Timestamp::MIN, end: window.end }
}
