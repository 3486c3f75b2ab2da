//! The buckets of a limiter: at most so many, and one for all who come when those are taken.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
};

use governor::{
    nanos::Nanos,
    state::{StateStore, keyed::ShrinkableKeyedStateStore},
};

/// Buckets by key. When as many are in use as may be, further keys share one.
#[derive(Debug)]
pub(super) struct Buckets<K> {
    buckets: Mutex<State<K>>,
    keys_max: usize,
}

#[derive(Debug)]
struct State<K> {
    by_key: HashMap<K, Nanos>,
    shared: Option<Nanos>,
}

impl<K> Buckets<K> {
    pub(super) fn new(keys_max: usize) -> Self {
        let state = State { by_key: HashMap::new(), shared: None };
        Self { buckets: Mutex::new(state), keys_max }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // Holds whole values only, so it is sound whoever panicked.
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Clone> StateStore for Buckets<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut state = self.lock();
        if let Some(bucket) = state.by_key.get_mut(key) {
            let (answer, next) = decide(Some(*bucket))?;
            *bucket = next;
            return Ok(answer);
        }
        if state.by_key.len() < self.keys_max {
            let (answer, next) = decide(None)?;
            state.by_key.insert(key.clone(), next);
            return Ok(answer);
        }
        let (answer, next) = decide(state.shared)?;
        state.shared = Some(next);
        Ok(answer)
    }
}

impl<K: Eq + Hash + Clone> ShrinkableKeyedStateStore<K> for Buckets<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        self.lock().by_key.retain(|_, bucket| *bucket > drop_below);
    }

    fn len(&self) -> usize {
        self.lock().by_key.len()
    }

    fn is_empty(&self) -> bool {
        self.lock().by_key.is_empty()
    }
}
