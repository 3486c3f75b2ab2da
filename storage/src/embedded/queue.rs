//! The queue before a file's threads: bounded in items and in bytes, full at once rather than slow,
//! and never a place where a caller waits for an answer that nobody will give.
//!
//! A general channel is not enough here: what is sent while the last receiver goes away may lie in
//! it for as long as a sender lives, and its caller with it. Here a push and the closing happen
//! under one lock, so that an item is either refused or in the hands of a thread; and when a thread
//! ends for whatever reason, what it leaves is dropped, which answers its callers.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// Makes a queue that holds `items_max` items (at least one) of `bytes_max` bytes together.
pub(super) fn bounded<T>(items_max: usize, bytes_max: usize) -> (Pusher<T>, Taker<T>) {
    let state = State { items: VecDeque::new(), bytes: 0, status: Status::Open };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        changed: Condvar::new(),
        items_max: items_max.max(1),
        bytes_max,
    });
    (Pusher(shared.clone()), Taker(shared))
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    items_max: usize,
    bytes_max: usize,
}

struct State<T> {
    items: VecDeque<(T, usize)>,
    /// Of the items here and of those taken but not yet released.
    bytes: usize,
    status: Status,
}

#[derive(Clone, Copy, PartialEq)]
enum Status {
    Open,
    Closed,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().status = Status::Closed;
        self.changed.notify_all();
    }
}

/// Why an item was not taken; it is handed back.
pub(super) enum PushError<T> {
    Full(T),
    Closed(T),
}

/// The callers' end.
pub(super) struct Pusher<T>(Arc<Shared<T>>);

impl<T> Pusher<T> {
    /// Queues an item. One of more bytes than the whole bound is taken when it is alone, or it
    /// could never pass.
    pub(super) fn push(&self, item: T, bytes: usize) -> Result<(), PushError<T>> {
        let mut state = self.0.lock();
        if state.status == Status::Closed {
            return Err(PushError::Closed(item));
        }
        let with = state.bytes.saturating_add(bytes);
        let no_room = state.bytes > 0 && with > self.0.bytes_max;
        if no_room || state.items.len() >= self.0.items_max {
            return Err(PushError::Full(item));
        }
        state.bytes = with;
        state.items.push_back((item, bytes));
        drop(state);
        self.0.changed.notify_one();
        Ok(())
    }

    /// Takes nothing more; what is queued is still done.
    pub(super) fn close(&self) {
        self.0.close();
    }
}

/// Without callers nothing more can come.
impl<T> Drop for Pusher<T> {
    fn drop(&mut self) {
        self.close();
    }
}

/// The threads' end. When it is dropped, the queue is closed and what is left in it is dropped.
pub(super) struct Taker<T>(Arc<Shared<T>>);

impl<T> Taker<T> {
    /// Waits for an item, and takes with it all that stand behind it until there are `bytes_max`.
    /// Empty when the queue is closed and all is taken. Also gives the bytes, to be released.
    pub(super) fn take(&self, bytes_max: usize) -> (Vec<T>, usize) {
        let mut state = self.wait();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while (taken.is_empty() || bytes < bytes_max)
            && let Some((item, item_bytes)) = state.items.pop_front()
        {
            bytes += item_bytes;
            taken.push(item);
        }
        (taken, bytes)
    }

    /// Waits for one item. `None` when the queue is closed and all is taken.
    pub(super) fn take_one(&self) -> Option<T> {
        let (item, bytes) = self.wait().items.pop_front()?;
        self.release(bytes);
        Some(item)
    }

    /// Gives the room of taken items free.
    pub(super) fn release(&self, bytes: usize) {
        self.0.lock().bytes -= bytes;
    }

    /// Closes the queue and takes all that is left.
    pub(super) fn close(&self) -> Vec<T> {
        self.0.close();
        self.0.lock().items.drain(..).map(|(item, _)| item).collect()
    }

    /// Holds the lock once there is an item or never will be.
    fn wait(&self) -> MutexGuard<'_, State<T>> {
        let idle = |state: &mut State<T>| state.items.is_empty() && state.status == Status::Open;
        self.0.changed.wait_while(self.0.lock(), idle).unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        drop(self.close());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_hold_until_room_is_released() {
        let (pusher, taker) = bounded(3, 100);
        assert!(pusher.push('a', 60).is_ok());
        assert!(matches!(pusher.push('b', 60), Err(PushError::Full('b'))));
        assert!(pusher.push('b', 40).is_ok());
        assert_eq!(taker.take(usize::MAX), (vec!['a', 'b'], 100));
        assert!(matches!(pusher.push('c', 1), Err(PushError::Full('c'))), "it is being written");
        taker.release(100);
        assert!(pusher.push('c', 1_000).is_ok(), "alone, it may be larger than the bound");
        taker.release(taker.take(1).1);
        for item in ['d', 'e', 'f'] {
            assert!(pusher.push(item, 0).is_ok());
        }
        assert!(matches!(pusher.push('g', 0), Err(PushError::Full('g'))));
    }

    #[test]
    fn a_batch_ends_with_the_item_that_reaches_its_bytes() {
        let (pusher, taker) = bounded(10, usize::MAX);
        for item in 0..5 {
            assert!(pusher.push(item, 10).is_ok());
        }
        assert_eq!(taker.take(25), (vec![0, 1, 2], 30));
        assert_eq!(taker.take(25), (vec![3, 4], 20));
    }

    #[test]
    fn what_is_queued_is_done_after_closing_and_nothing_else() {
        let (pusher, taker) = bounded(10, 10);
        assert!(pusher.push('a', 1).is_ok());
        pusher.close();
        assert!(matches!(pusher.push('b', 1), Err(PushError::Closed('b'))));
        assert_eq!(taker.take_one(), Some('a'));
        assert_eq!(taker.take_one(), None);
        assert_eq!(taker.take(1), (vec![], 0));
    }

    #[test]
    fn a_taker_that_goes_away_leaves_no_item_behind() {
        let (pusher, taker) = bounded(10, 10);
        let item = Arc::new(());
        assert!(pusher.push(item.clone(), 1).is_ok());
        drop(taker);
        assert_eq!(Arc::strong_count(&item), 1, "the queued one was dropped");
        assert!(matches!(pusher.push(item, 1), Err(PushError::Closed(_))));
    }
}
