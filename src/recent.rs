//! A bounded map that keeps the most recently used entries.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// A map in two generations: an entry that is used moves to the young one. When that is full, the
/// old one is dropped and the young one becomes the old one. Each operation takes constant time,
/// and an entry stays while fewer than `capacity / 2` others are used.
pub(crate) struct Recent<K, V> {
    young: HashMap<K, V, RandomState>,
    old: HashMap<K, V, RandomState>,
    generation_len_max: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> Recent<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        let generation_len_max = (capacity / 2).max(1);
        Self { young: HashMap::default(), old: HashMap::default(), generation_len_max }
    }

    /// An empty map of the same capacity.
    pub(crate) fn emptied(&self) -> Self {
        Self { young: HashMap::default(), old: HashMap::default(), ..*self }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.generation_len_max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_stays_within_its_capacity_and_returns_the_newest_value() {
        let mut recent = Recent::new(10);
        for round in 0..100 {
            for key in 0..20 {
                assert!(recent.get(&key).is_none_or(|value| value == round - 1));
                recent.insert(key, round);
                assert_eq!(recent.get(&key), Some(round));
                assert!(recent.young.len() + recent.old.len() <= 10);
            }
        }
    }

    #[test]
    fn entry_in_use_is_kept() {
        let mut recent = Recent::new(10);
        recent.insert(0, "kept");
        for other in 1..1_000 {
            assert_eq!(recent.get(&0), Some("kept"));
            recent.insert(other, "other");
        }
    }
}
