//! Register: a journal that gives each key the next number, once and for ever, without gaps.
//!
//! Invoice numbers and the outbox are registers. Who adds to a register has read it to its end, so it
//! knows every key that has a number; a process that died between a draw and what it was for finds
//! the number again. Keys that wait are drawn together, so that many tenants cost one append.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as Waiting, PoisonError},
};

use domain::{BillingStore, billing::Appended};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::Mutex;

use super::journal;
use crate::BillingError;

/// One item of a register.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Item {
    /// What the number is for, unique in the register.
    pub(crate) key: String,
    /// What is kept beside it, as its JSON text.
    pub(crate) body: Box<RawValue>,
}

impl Item {
    /// An item with something kept beside it.
    pub(crate) fn new<T: Serialize>(key: String, body: &T) -> Self {
        Self { key, body: to_raw_value(body).expect("bodies are plain structures") }
    }

    /// What is kept beside it, read.
    ///
    /// # Errors
    /// When it is not such a thing.
    pub(crate) fn read<'b, T: Deserialize<'b>>(&'b self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.body.get())
    }
}

/// Most items of one entry, and about how many bytes.
const ITEMS_MAX: usize = 200;
const BYTES_MAX: usize = 1 << 20;

/// A register, as far as this process has read it.
#[derive(Debug)]
pub(crate) struct Register<B> {
    store: Arc<B>,
    journal: String,
    waiting: Waiting<Vec<Item>>,
    read: Mutex<Read>,
}

/// Memory: about 40 bytes a number that was ever drawn.
#[derive(Debug, Default)]
struct Read {
    /// The first number of each entry that was read.
    firsts: Vec<u64>,
    /// Items in them.
    items: u64,
    numbers: HashMap<u128, u64>,
}

impl<B: BillingStore> Register<B> {
    /// The register that is kept in a journal of a store.
    #[must_use]
    pub(crate) fn new(store: Arc<B>, journal: &str) -> Self {
        let journal = journal.to_owned();
        Self { store, journal, waiting: Waiting::default(), read: Mutex::default() }
    }

    /// The number of an item's key, from 1: the one it has, or the next.
    ///
    /// # Errors
    /// When the store fails. The number may have been drawn all the same; asking again finds it.
    pub(crate) async fn draw(&self, item: Item) -> Result<u64, BillingError> {
        self.waiting().push(item.clone());
        let drawn = self.draw_with_others(&item).await;
        // After a failure nobody else is to draw for a key that nobody waits for.
        self.waiting().retain(|waiting| waiting.key != item.key);
        drawn
    }

    async fn draw_with_others(&self, item: &Item) -> Result<u64, BillingError> {
        let key = hash(&item.key);
        let mut read = self.read.lock().await;
        loop {
            // Whoever held the lock before may have drawn for this one too.
            if let Some(number) = read.numbers.get(&key) {
                return Ok(*number);
            }
            let batch = self.batch(&read, item);
            match journal::append(&*self.store, &self.journal, read.firsts.len() as u64, &batch)
                .await?
            {
                Appended::Added => read.take(&batch),
                Appended::Taken => self.read_on(&mut read).await?,
            }
        }
    }

    /// This item and others that wait and have no number.
    fn batch(&self, read: &Read, item: &Item) -> Vec<Item> {
        let mut batch = vec![item.clone()];
        let mut bytes = weight(item);
        for other in self.waiting().iter() {
            let fits = batch.len() < ITEMS_MAX && bytes + weight(other) <= BYTES_MAX;
            let is_new = !read.numbers.contains_key(&hash(&other.key))
                && batch.iter().all(|taken| taken.key != other.key);
            if fits && is_new {
                bytes += weight(other);
                batch.push(other.clone());
            }
        }
        batch
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Item>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read_on(&self, read: &mut Read) -> Result<(), BillingError> {
        let entries: Vec<Vec<Item>> =
            journal::read(&*self.store, &self.journal, read.firsts.len() as u64).await?;
        entries.iter().for_each(|entry| read.take(entry));
        Ok(())
    }

    /// Items with their numbers, from a number on (from 1), in order: at most `limit`, about a
    /// megabyte, and one at least if there is one.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn items(
        &self,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Item)>, BillingError> {
        let (entry, first) = {
            let mut read = self.read.lock().await;
            self.read_on(&mut read).await?;
            // Whoever waits for the next item does not read the last entry again at each look.
            if from > read.items {
                return Ok(Vec::new());
            }
            let entry = read.firsts.partition_point(|first| *first <= from).saturating_sub(1);
            (entry as u64, read.firsts.get(entry).copied().unwrap_or(1))
        };
        let (mut items, mut bytes): (Vec<(u64, Item)>, usize) = (Vec::new(), 0);
        let (mut place, mut number) = (entry, first);
        while items.len() < limit && bytes < BYTES_MAX {
            let page: Vec<Vec<Item>> =
                journal::read_page(&*self.store, &self.journal, place, 1).await?;
            let Some(entry) = page.into_iter().next() else { break };
            place += 1;
            for item in entry {
                if number >= from && items.len() < limit && bytes < BYTES_MAX {
                    bytes += weight(&item);
                    items.push((number, item));
                }
                number += 1;
            }
        }
        Ok(items)
    }

    /// The number that a key has, if it has one.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn find(&self, key: &str) -> Result<Option<u64>, BillingError> {
        let mut read = self.read.lock().await;
        self.read_on(&mut read).await?;
        Ok(read.numbers.get(&hash(key)).copied())
    }

    /// The item with a number.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn item(&self, number: u64) -> Result<Option<Item>, BillingError> {
        let found = self.items(number, 1).await?;
        Ok(found.into_iter().next().filter(|(found, _)| *found == number).map(|(_, item)| item))
    }
}

impl Read {
    fn take(&mut self, entry: &[Item]) {
        self.firsts.push(self.items + 1);
        for item in entry {
            self.items += 1;
            // Of a key that stands twice, which no register's writer does, the first counts.
            self.numbers.entry(hash(&item.key)).or_insert(self.items);
        }
    }
}

fn hash(key: &str) -> u128 {
    domain::hash::bytes128(0, key.as_bytes())
}

fn weight(item: &Item) -> usize {
    item.key.len() + item.body.get().len() + 32
}

#[cfg(test)]
mod tests;
