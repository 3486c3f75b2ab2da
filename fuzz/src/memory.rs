//! Memory: an allocator that counts, so that a target can say how much its input may cost.
//!
//! Each thread counts its own bytes. A block that another thread frees makes the counts of both
//! wrong by its size; the targets start no threads.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    /// Bytes that this thread holds, and the most since the last [`peak_of`] began. Made without
    /// memory and dropped without code, because the allocator itself asks for it.
    static COUNTS: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: isize) {
    // A thread that ends frees what it holds after its counts are gone.
    let _ = COUNTS.try_with(|counts| {
        let (held, peak) = counts.get();
        let held = held + bytes;
        counts.set((held, peak.max(held)));
    });
}

fn size(layout: Layout) -> isize {
    isize::try_from(layout.size()).expect("a layout is never larger than isize::MAX")
}

// SAFETY: every call goes to the system's allocator with its arguments unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(size(layout));
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(size(layout));
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-size(layout));
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    // `realloc` stays the default one, which allocates, copies and frees: then the peak counts both
    // blocks, as it does when the system cannot grow a block where it is.
}

/// Runs and gives the most bytes that this thread held at once beyond those it held before.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = COUNTS.with(|counts| {
        let (held, _) = counts.get();
        counts.set((held, held));
        held
    });
    let value = work();
    let (_, peak) = COUNTS.with(Cell::get);
    (value, usize::try_from(peak - before).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_what_was_held_at_once() {
        let (_, peak) = peak_of(|| {
            drop(vec![0u8; 1_000]);
            drop(vec![0u8; 3_000]);
            vec![0u8; 2_000]
        });
        assert!((3_000..3_500).contains(&peak), "{peak}");
        assert_eq!(peak_of(|| ()).1, 0);
    }
}
