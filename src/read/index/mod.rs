//! The index: finds the events that match a query without reading the others.
//!
//! [`Plan`] decides which lists of entries answer a query, [`Scan`] walks them. The lists for the
//! tags of one item are intersected by leapfrog (T. L. Veldhuizen, "Leapfrog Triejoin", 2014): each
//! list in turn jumps to the position that the others have reached, so the rarest tag decides how
//! many entries are read.

mod plan;
mod posting;
mod scan;

pub(crate) use plan::Plan;
pub(crate) use posting::wrong_entry;
pub(crate) use scan::{Found, Scan, first_match};

use std::sync::atomic::Ordering;

use crate::error::{Location, Result};
use crate::format::{INDEXED_RECORD, IndexKind, Indexed, decode_indexed};
use crate::model::Position;
use crate::storage::{Disk, Family};
use crate::sync::AtomicU64;

/// From which position on each kind of entry is complete, up to the head. All readers share it.
///
/// It is only lowered while entries are added below, or reset under the lock of the writer.
#[derive(Debug, Default)]
pub(crate) struct IndexedFrom {
    /// 0 for a kind without entries.
    from: [AtomicU64; IndexKind::ALL.len()],
    /// Odd while single entries are being removed.
    resets: AtomicU64,
}

impl IndexedFrom {
    pub(crate) fn new(indexed: Indexed) -> Self {
        let state = Self::default();
        state.set(indexed);
        state
    }

    pub(crate) fn get(&self) -> Indexed {
        let mut indexed = Indexed::default();
        for (kind, from) in IndexKind::ALL.into_iter().zip(&self.from) {
            indexed.set(kind, Position::new(from.load(Ordering::Acquire)));
        }
        indexed
    }

    /// A number that a reader passes to [`IndexedFrom::is_same_since`] after it has read.
    pub(crate) fn resets(&self) -> u64 {
        self.resets.load(Ordering::Acquire)
    }

    /// Whether no entries were removed since, and none were being removed then. Otherwise the reader
    /// must read again: entries may be missing, or not fit the events.
    pub(crate) fn is_same_since(&self, resets: u64) -> bool {
        resets.is_multiple_of(2) && self.resets() == resets
    }

    /// Prepares for the removal of all entries.
    pub(crate) fn reset(&self, indexed: Indexed) {
        self.set(indexed);
        self.resets.fetch_add(2, Ordering::AcqRel);
    }

    /// Begins to remove single entries, together with what they say about events. One removal runs
    /// at a time.
    pub(crate) fn remove(&self) -> Removing<'_> {
        self.resets.fetch_add(1, Ordering::AcqRel);
        Removing(self)
    }

    pub(crate) fn set(&self, indexed: Indexed) {
        for (kind, from) in IndexKind::ALL.into_iter().zip(&self.from) {
            from.store(indexed.get(kind).map_or(0, Position::get), Ordering::Release);
        }
    }
}

/// Ends the removal of single entries when it is dropped.
pub(crate) struct Removing<'f>(&'f IndexedFrom);

impl Drop for Removing<'_> {
    fn drop(&mut self) {
        self.0.resets.fetch_add(1, Ordering::AcqRel);
    }
}

/// The record of what is indexed; `None` if the store was never opened with an index.
pub(crate) fn indexed(disk: &Disk) -> Result<Option<Indexed>> {
    let location = || Location::Key { family: Family::Meta.name(), key: INDEXED_RECORD.to_vec() };
    let record = disk.get(Family::Meta, INDEXED_RECORD)?;
    record
        .map(|record| decode_indexed(&record).map_err(|malformed| malformed.at(location())))
        .transpose()
}
