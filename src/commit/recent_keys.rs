//! [`RecentKeys`]: the idempotency keys of the newest submissions, staged ones included.
//!
//! A caller looks its key up before it enters the queue. The writer then has to know only the keys
//! that were recorded since, so it rarely reads the disk.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::event_store::KeyedResult;
use crate::keys::KeyRecord;

/// The most keys that are held, and about the most bytes of their results.
const KEYS_MAX: usize = 16_384;
const BYTES_MAX: usize = 8 << 20;
/// At least this many are held: more than one group can stage.
const KEYS_MIN: usize = 2_048;

#[derive(Default)]
pub(super) struct RecentKeys {
    records: HashMap<Arc<str>, KeyRecord>,
    /// Names and numbers, in the order of the numbers.
    order: VecDeque<(Arc<str>, u64)>,
    /// All keys with a higher number are held.
    complete_after: u64,
    bytes: usize,
}

/// Estimates the memory of a record without its fixed size.
fn bytes_of(record: &KeyRecord) -> usize {
    match &record.result {
        KeyedResult::Appended(appended) => 80 * appended.versions().len(),
        KeyedResult::Rejected(reason) => reason.len(),
        KeyedResult::Nothing => 0,
    }
}

impl RecentKeys {
    /// No keys; `last` is the number of the last one on disk.
    pub(super) fn after(last: u64) -> Self {
        Self { complete_after: last, ..Self::default() }
    }

    pub(super) fn get(&self, name: &str) -> Option<&KeyRecord> {
        self.records.get(name)
    }

    /// Whether every key that was recorded after this number is held.
    pub(super) fn is_complete_after(&self, number: u64) -> bool {
        number >= self.complete_after
    }

    pub(super) fn insert(&mut self, name: Arc<str>, record: KeyRecord) {
        self.order.push_back((name.clone(), record.age.number));
        self.bytes += bytes_of(&record);
        let replaced = self.records.insert(name, record);
        self.bytes -= replaced.as_ref().map_or(0, bytes_of);
        while self.order.len() > KEYS_MAX || (self.bytes > BYTES_MAX && self.order.len() > KEYS_MIN)
        {
            let Some((name, number)) = self.order.pop_front() else { return };
            self.complete_after = number;
            // The key may have been recorded again since, after it had expired.
            if self.records.get(&name).is_some_and(|record| record.age.number == number) {
                let removed = self.records.remove(&name);
                self.bytes -= removed.as_ref().map_or(0, bytes_of);
            }
        }
    }
}
