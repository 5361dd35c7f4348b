//! [`Cursor`]: keys and values of a family, one after the other.

use std::ops::Range;

use rocksdb::{DBRawIterator, ReadOptions};

use super::disk::Disk;
use super::engine_error::read_error;
use super::family::Family;
use super::tuning;
use crate::error::Result;
use crate::event_store::Direction;

/// Walks over the keys and values of a family, in one direction, all of one moment.
pub(crate) struct Cursor<'d> {
    family: Family,
    iterator: DBRawIterator<'d>,
    direction: Direction,
    /// Whether the entry that the iterator is at was returned.
    is_returned: bool,
}

impl Cursor<'_> {
    /// The next key with its value; `None` at the end. Damage is an error where it is met: a walk
    /// that ends without one has seen everything.
    pub(crate) fn next(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        if self.is_returned {
            match self.direction {
                Direction::Forward => self.iterator.next(),
                Direction::Backward => self.iterator.prev(),
            }
        }
        self.is_returned = true;
        if let Some(entry) = self.iterator.item() {
            return Ok(Some(entry));
        }
        // An iterator that is past the end must not be moved again.
        self.is_returned = false;
        // Not `valid` alone: an iterator that met damage is not valid either.
        self.iterator.status().map_err(|error| read_error(self.family, &error))?;
        Ok(None)
    }
}

impl Disk {
    /// Begins at the last key that is not above `start`, for a frame is found by any place within
    /// it. Forward, where there is no such key, it begins at the first one.
    pub(crate) fn cursor(
        &self,
        family: Family,
        start: &[u8],
        direction: Direction,
    ) -> Result<Cursor<'_>> {
        self.cursor_with(tuning::read(), family, start, direction)
    }

    /// Begins as [`Disk::cursor`] does, and stays within the stream of the key `start`: other
    /// streams are not even looked at, nor the table files that hold none of this one.
    pub(crate) fn stream_cursor(&self, start: &[u8], direction: Direction) -> Result<Cursor<'_>> {
        self.cursor_with(tuning::read_stream(), Family::Streams, start, direction)
    }

    fn cursor_with(
        &self,
        options: ReadOptions,
        family: Family,
        start: &[u8],
        direction: Direction,
    ) -> Result<Cursor<'_>> {
        let mut iterator = self.db.raw_iterator_cf_opt(self.handle(family), options);
        // Most walks forward begin at a key that is there. Only where it is not, the one before is
        // looked for: that turns the iterator round, and round again.
        if direction == Direction::Forward {
            iterator.seek(start);
        }
        if direction == Direction::Backward || iterator.key() != Some(start) {
            iterator.seek_for_prev(start);
            if !iterator.valid() {
                iterator.status().map_err(|error| read_error(family, &error))?;
                if direction == Direction::Forward {
                    iterator.seek(start);
                }
            }
        }
        Ok(Cursor { family, iterator, direction, is_returned: false })
    }

    /// Walks over the keys of a range, from its first forward or from its last backward. What is
    /// outside is not even read.
    pub(crate) fn range_cursor(
        &self,
        family: Family,
        keys: Range<&[u8]>,
        direction: Direction,
    ) -> Cursor<'_> {
        let mut options = tuning::read();
        options.set_iterate_lower_bound(keys.start);
        // A bound below the other leaves nothing between them.
        options.set_iterate_upper_bound(keys.end.max(keys.start));
        let mut iterator = self.db.raw_iterator_cf_opt(self.handle(family), options);
        match direction {
            Direction::Forward => iterator.seek_to_first(),
            Direction::Backward => iterator.seek_to_last(),
        }
        Cursor { family, iterator, direction, is_returned: false }
    }
}
