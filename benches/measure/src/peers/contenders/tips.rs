//! The last versions of the recently used streams, in memory. annals caches them, so the stores
//! built here over a key-value store or a table may too. Each of them is the only writer of its
//! files.

use std::collections::HashMap;

/// As many as annals caches by default.
const TIPS_MAX: usize = 100_000;

/// The known state of the end of each stream: `T` is its version, and other useful data.
#[derive(Debug, Default)]
pub struct Tips<T> {
    known: HashMap<String, T>,
}

impl<T: Copy> Tips<T> {
    /// The known state of a stream, looked up with `find` if it is not cached.
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
