//! Watch: notes which pulses a row of the open segment is made of. It decides nothing.

use std::collections::HashMap;

use domain::{
    ResourceKey, Timestamp,
    refold::{CountedPulse, RowPulses},
};

use super::Fold;

/// A row of the open segment.
type Place = (ResourceKey, Timestamp);

/// Rows that are watched, and what was seen of them.
#[derive(Debug)]
pub(super) struct Watch {
    seen: HashMap<Place, RowPulses>,
    /// Pulses that may still be listed.
    room: usize,
}

impl Watch {
    pub(super) fn note(&mut self, place: Place, pulse: impl FnOnce() -> CountedPulse) {
        let Some(seen) = self.seen.get_mut(&place) else { return };
        seen.count += 1;
        if self.room > 0 {
            self.room -= 1;
            seen.listed.push(pulse());
        }
    }
}

impl Fold {
    /// From here on notes the pulses of these rows, listing at most so many.
    pub fn watch(&mut self, places: impl IntoIterator<Item = Place>, room: usize) {
        let seen: HashMap<_, _> =
            places.into_iter().map(|place| (place, RowPulses::default())).collect();
        self.watch = (!seen.is_empty()).then_some(Watch { seen, room });
    }

    /// Ends the watch and gives what was seen of each row.
    pub fn take_watched(&mut self) -> HashMap<Place, RowPulses> {
        self.watch.take().map_or_else(HashMap::new, |watch| watch.seen)
    }
}
