//! The index of a [`Store`]: its state, and building it again.

use super::{Mode, Store};
use crate::error::{Error, Result};
use crate::format::IndexKind;
use crate::model::Position;

/// What the index of a store covers: see [`Store::index_status`].
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct IndexStatus {
    /// From this position on, all events are found by their tags. `None` only in a store that was
    /// written before there was an index, and is open for reading only.
    pub tags_from: Option<Position>,
    /// From this position on, all events are found by their types; `None` if
    /// [`index_types`](crate::StoreOptions::index_types) is off.
    pub types_from: Option<Position>,
    /// From this position on, all events are found by their categories; `None` if
    /// [`index_categories`](crate::StoreOptions::index_categories) is off.
    pub categories_from: Option<Position>,
    /// Whether earlier events are being added now.
    pub is_building: bool,
    /// The error that ended the building early: opening the store again continues it.
    pub failure: Option<Error>,
}

impl IndexStatus {
    /// Whether every index that is on covers all events. True also for an old store without any.
    pub fn is_complete(&self) -> bool {
        let on = [self.tags_from, self.types_from, self.categories_from];
        on.into_iter().flatten().all(|from| from == Position::FIRST)
    }
}

impl Store {
    /// What the index covers. Until it is complete, reads of earlier events go through all of them,
    /// and a condition that counts earlier events is refused with [`Error::NotIndexed`].
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("bank.annals");
    /// use annals::prelude::*;
    /// use annals::Position;
    /// let store = Store::options().index_types(true).open(&path)?;
    /// let status = store.index_status()?;
    /// assert_eq!((status.tags_from, status.types_from), (Some(Position::FIRST), Some(Position::FIRST)));
    /// assert!(status.is_complete() && status.categories_from.is_none());
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn index_status(&self) -> Result<IndexStatus> {
        let engine = &*self.engine;
        engine.head.get()?;
        let indexed = engine.indexed_from.get();
        let (is_building, failure) = match &engine.mode {
            Mode::ReadOnly(_) => (false, None),
            Mode::Writable(committer) => committer.index_building(),
        };
        Ok(IndexStatus {
            tags_from: indexed.get(IndexKind::Tag),
            types_from: indexed.get(IndexKind::Type),
            categories_from: indexed.get(IndexKind::Category),
            is_building,
            failure,
        })
    }

    /// Removes all entries of the index and builds it again from the log, while the store is in use.
    /// Call it if [`Store::verify`] finds damage in the family `index`.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Closed`], [`Error::Poisoned`], [`Error::Indeterminate`]: the
    /// index is as it was, or is being built again when the store is opened.
    ///
    /// # Cost
    /// Waits for the commit under way. Building then reads the whole log, and rests as long as it
    /// works. Until it has passed the position of a condition, that condition is
    /// refused with [`Error::NotIndexed`].
    pub fn rebuild_index(&self) -> Result<()> {
        self.engine.committer()?.rebuild_index()
    }
}
