//! [`Cursor`]: iterates over the keys and values of a family.

use std::ops::Range;

use rocksdb::{DBRawIterator, ReadOptions};

use super::disk::Disk;
use super::engine_error::read_error;
use super::family::Family;
use super::tuning;
use crate::error::Result;
use crate::event_store::Direction;

/// Iterates in one direction over the keys and values of a family, as of its creation.
pub(crate) struct Cursor<'d> {
    family: Family,
    iterator: DBRawIterator<'d>,
    direction: Direction,
    /// Whether the iterator's current entry was already returned.
    is_returned: bool,
}

impl Cursor<'_> {
    /// The value of the entry that [`Cursor::next`] returned last.
    pub(crate) fn value(&self) -> &[u8] {
        self.iterator.value().unwrap_or_default()
    }

    /// Moves to the first key at or after this one in the direction of the cursor.
    pub(crate) fn seek(&mut self, key: &[u8]) {
        match self.direction {
            Direction::Forward => self.iterator.seek(key),
            Direction::Backward => self.iterator.seek_for_prev(key),
        }
        self.is_returned = false;
    }

    /// Moves to the first key at or above this one, as [`Disk::cursor_at`] does.
    pub(crate) fn seek_at(&mut self, key: &[u8]) {
        self.iterator.seek(key);
        self.is_returned = false;
    }

    /// Returns the next key with its value, or `None` at the end. Damage is an error, so a cursor
    /// that reaches the end without an error has returned every entry.
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
        // An iterator that is past the end must not be moved.
        self.is_returned = false;
        // `valid` is not enough: an iterator that found damage is not valid either.
        self.iterator.status().map_err(|error| read_error(self.family, &error))?;
        Ok(None)
    }
}

impl Disk {
    /// A cursor from the last key at or below `start`, so that any position or version within a
    /// frame finds the frame. If no such key exists, a forward cursor begins at the first key.
    pub(crate) fn cursor(
        &self,
        family: Family,
        start: &[u8],
        direction: Direction,
    ) -> Result<Cursor<'_>> {
        self.cursor_with(tuning::read(), family, start, direction)
    }

    /// A cursor from the first key at or above `start`.
    pub(crate) fn cursor_at(
        &self,
        family: Family,
        start: &[u8],
        direction: Direction,
    ) -> Cursor<'_> {
        let mut iterator = self.db.raw_iterator_cf_opt(self.handle(family), tuning::read());
        iterator.seek(start);
        Cursor { family, iterator, direction, is_returned: false }
    }

    /// A cursor that begins as [`Disk::cursor`] does, and stays within the stream of the key
    /// `start`. It reads neither other streams nor table files without this stream.
    pub(crate) fn stream_cursor(&self, start: &[u8], direction: Direction) -> Result<Cursor<'_>> {
        self.cursor_with(tuning::read_stream(), Family::Streams, start, direction)
    }

    /// A cursor over the entries of the index for one text, to be moved with [`Cursor::seek`] to a
    /// key of that text. It reads no other entries, nor table files without this text.
    pub(crate) fn index_cursor(&self, direction: Direction) -> Cursor<'_> {
        let options = tuning::read_stream();
        let iterator = self.db.raw_iterator_cf_opt(self.handle(Family::Index), options);
        Cursor { family: Family::Index, iterator, direction, is_returned: false }
    }

    fn cursor_with(
        &self,
        options: ReadOptions,
        family: Family,
        start: &[u8],
        direction: Direction,
    ) -> Result<Cursor<'_>> {
        let mut iterator = self.db.raw_iterator_cf_opt(self.handle(family), options);
        // Most forward cursors begin at an existing key. The previous key is looked up only if
        // `start` does not exist, because that reverses the iterator twice.
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

    /// A cursor over the keys of a range, forward from its first or backward from its last. It does
    /// not read outside the range.
    pub(crate) fn range_cursor(
        &self,
        family: Family,
        keys: Range<&[u8]>,
        direction: Direction,
    ) -> Cursor<'_> {
        let mut options = tuning::read();
        options.set_iterate_lower_bound(keys.start);
        // RocksDB needs ordered bounds; a reversed range is empty.
        options.set_iterate_upper_bound(keys.end.max(keys.start));
        let mut iterator = self.db.raw_iterator_cf_opt(self.handle(family), options);
        match direction {
            Direction::Forward => iterator.seek_to_first(),
            Direction::Backward => iterator.seek_to_last(),
        }
        Cursor { family, iterator, direction, is_returned: false }
    }
}
