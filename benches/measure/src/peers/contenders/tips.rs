//! The last versions of the streams that were used lately, in memory: annals remembers them, so the
//! stores that are built here over a key-value store or a table may too. Each of them is the only
//! writer of its files.

use std::collections::HashMap;

/// As many as annals remembers by default.
const TIPS_MAX: usize = 100_000;

/// What is known of the end of each stream: `T` is its version, and whatever else helps.
#[derive(Debug, Default)]
pub struct Tips<T> {
    known: HashMap<String, T>,
}

impl<T: Copy> Tips<T> {
    /// What is known of a stream, looked up with `find` if it is not remembered.
    pub fn get<E>(&mut self, stream: &str, find: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        match self.known.get(stream) {
            Some(tip) => Ok(*tip),
            None => find().inspect(|tip| self.set(stream, *tip)),
        }
    }

    pub fn set(&mut self, stream: &str, tip: T) {
        if let Some(known) = self.known.get_mut(stream) {
            *known = tip;
            return;
        }
        if self.known.len() >= TIPS_MAX {
            self.known.clear();
        }
        self.known.insert(stream.to_owned(), tip);
    }
}
