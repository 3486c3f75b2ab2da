//! Windows of a log, over all of its generations.
//!
//! A log gets shorter windows by growing, and rows keep the windows that they were counted in. So an
//! edge of the newest generation's windows may lie inside the window of an older row, whose usage nobody
//! can tell apart there. Whoever cuts usage at an edge asks here, and refuses what is across it: by the
//! rows themselves, because a backfill may have put one at any time.

use crate::{LogId, RowKey, Timestamp, Window, WindowLength, generation::Generation};

/// The windows of a log's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogWindows {
    newest: WindowLength,
    /// Of the generations before, where they are longer. Mostly none.
    longer: Vec<(LogId, WindowLength)>,
}

impl LogWindows {
    /// Of a log whose newest generation is this, after these.
    #[must_use]
    pub fn of<'g>(newest: &Generation, older: impl IntoIterator<Item = &'g Generation>) -> Self {
        let longer = older.into_iter().filter(|before| before.window > newest.window);
        let longer = longer.map(|before| (before.log_id, before.window));
        Self { newest: newest.window, longer: longer.collect() }
    }

    /// Length of the windows of what is counted from now on, which divides that of all others.
    #[must_use]
    pub const fn newest(&self) -> WindowLength {
        self.newest
    }

    /// Length of the longest windows of any of its rows.
    #[must_use]
    pub fn longest(&self) -> WindowLength {
        self.longer.iter().map(|(_, length)| *length).max().unwrap_or(self.newest)
    }

    /// The generations before whose windows are longer than the newest's.
    pub fn longer(&self) -> impl Iterator<Item = LogId> {
        self.longer.iter().map(|(log_id, _)| *log_id)
    }

    /// Tells whether all rows have windows of one length: then no edge of a window is inside another.
    #[must_use]
    pub const fn are_alike(&self) -> bool {
        self.longer.is_empty()
    }

    /// The stretch in which the rows begin that may hold usage of a window: it, and before it as much as
    /// the longest window may reach over its start.
    #[must_use]
    pub fn reaching_into(&self, window: Window) -> Window {
        Window { start: self.longest().start_of(window.start), ..window }
    }

    /// The window of a row.
    #[must_use]
    pub fn window_of(&self, row: &RowKey) -> Window {
        let longer = self.longer.iter().find(|(log_id, _)| *log_id == row.segment.log_id);
        longer.map_or(self.newest, |(_, length)| *length).window_of(row.window_start)
    }

    /// Tells whether a moment is inside the window of a row.
    #[must_use]
    pub fn is_across(&self, row: &RowKey, moment: Timestamp) -> bool {
        let Window { start, end } = self.window_of(row);
        start < moment && moment < end
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{Dimensions, Epoch, Offset, Partition, ResourceKey, SegmentId, Sku, Tenant, Unit};

    fn minute(minute: i64) -> Timestamp {
        Timestamp::from_parts(minute * 60, 0).unwrap()
    }

    fn row(log_id: LogId, start: i64) -> RowKey {
        let resource = ResourceKey {
            tenant: Tenant::new("t").unwrap(),
            product_sku: Sku::new("s").unwrap(),
            use_unity: Unit::new("u").unwrap(),
            dimensions: Dimensions::none(),
        };
        let (partition, epoch, start_at) = (Partition(0), Epoch(0), Offset(0));
        let segment = SegmentId { log_id, partition, epoch, start: start_at };
        RowKey { resource, window_start: minute(start), segment }
    }

    #[test]
    fn only_what_an_older_generation_counted_is_across_an_edge_of_the_newest_windows() {
        let (hours, halves, quarters) = (LogId([1; 16]), LogId([2; 16]), LogId([3; 16]));
        let of = |log_id, minutes: u64| {
            let window = WindowLength::new(Duration::from_secs(minutes * 60)).unwrap();
            Generation::new(log_id, 4, 0).with_windows(window)
        };
        let all = [of(hours, 60), of(halves, 30), of(quarters, 15)];
        let windows = LogWindows::of(&all[2], &all[..2]);
        assert_eq!(windows.longer().collect::<Vec<_>>(), [hours, halves]);
        let across = |log_id, start, edges: &[i64]| {
            let found = (0..180).filter(|at| windows.is_across(&row(log_id, start), minute(*at)));
            let found: Vec<i64> = found.filter(|at| at % 15 == 0).collect();
            assert_eq!(found, edges, "{log_id} {start}");
        };
        across(hours, 60, &[75, 90, 105]);
        across(halves, 60, &[75]);
        across(halves, 90, &[105]);
        across(quarters, 60, &[]);
        let span = Window { start: minute(105), end: minute(165) };
        assert_eq!(windows.reaching_into(span), Window { start: minute(60), ..span });
    }

    #[test]
    fn a_log_that_only_got_partitions_has_windows_alike() {
        let first = Generation::new(LogId([1; 16]), 4, 0);
        let windows = LogWindows::of(&first.grown(LogId([2; 16]), 8), [&first]);
        assert!(windows.are_alike());
        let span = Window { start: minute(60), end: minute(120) };
        assert_eq!(windows.reaching_into(span), span);
    }

    /// Pulses by generation and second, counted in windows; then a stretch between two edges of the
    /// newest ones.
    fn counted_and_cut() -> impl Strategy<Value = (Vec<(usize, i64)>, i64, i64)> {
        let pulses = prop::collection::vec((0usize..3, 0i64..20_000), 0..12);
        (pulses, 0i64..20, 1i64..20)
            .prop_map(|(pulses, from, quarters)| (pulses, from, from + quarters))
    }

    proptest! {
        /// What a reader does: it takes the rows that reach into a stretch, refuses those across its
        /// edges, and adds up those that begin in it.
        #[test]
        fn a_stretch_holds_exactly_what_was_used_in_it_or_a_row_is_across_its_edge((pulses, from, to) in counted_and_cut()) {
            let lengths = [WindowLength::HOUR, WindowLength::HALF_HOUR, WindowLength::QUARTER_HOUR];
            let id = |generation: usize| LogId([generation as u8; 16]);
            let generations: Vec<_> = (0..3)
                .map(|place| Generation::new(id(place), 1, 0).with_windows(lengths[place]))
                .collect();
            let windows = LogWindows::of(&generations[2], &generations[..2]);
            let stretch = Window { start: minute(from * 15), end: minute(to * 15) };
            let at = |second| Timestamp::from_parts(second, 0).unwrap();
            let counted = |(generation, second): &(usize, i64)| {
                let start = lengths[*generation].start_of(at(*second));
                RowKey { window_start: start, ..row(id(*generation), 0) }
            };
            let reach = windows.reaching_into(stretch);
            let rows: Vec<_> = pulses.iter().map(counted).collect();
            let read = rows.iter().filter(|row| reach.start <= row.window_start && row.window_start < reach.end);
            let read: Vec<_> = read.collect();
            let is_across = |row: &&RowKey| {
                windows.is_across(row, stretch.start) || windows.is_across(row, stretch.end)
            };
            let everywhere = rows.iter().filter(is_across).count();
            prop_assert_eq!(read.iter().filter(|row| is_across(row)).count(), everywhere, "all are read");
            let used = pulses.iter().filter(|(_, second)| stretch.start <= at(*second) && at(*second) < stretch.end);
            let summed = read.iter().filter(|row| stretch.start <= row.window_start).count();
            if everywhere == 0 {
                prop_assert_eq!(summed, used.count());
            }
        }
    }
}
