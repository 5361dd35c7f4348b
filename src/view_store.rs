//! [`ViewStore`]: the trait for read models, next to [`EventStore`](crate::EventStore).
//!
//! A view is a named, sorted map of keys to values, with a checkpoint. Its only write sets the
//! checkpoint and changes the values together or not at all, and only if the checkpoint is still
//! the one that the caller expects. Values and checkpoint are therefore always consistent, and if
//! two writers write the same view, one of them is refused. Everything else that read models need,
//! such as a shadow build and its promotion, uses that write.

use std::ops::Deref;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::event_store::Direction;
use crate::model::limits::{
    CHECKPOINT_STATE_LEN_MAX, VIEW_COMMIT_LEN_MAX, VIEW_KEY_LEN_MAX, VIEW_NAME_LEN_MAX,
    VIEW_VALUE_LEN_MAX, check_name,
};
use crate::model::{InvalidArgument, LimitExceeded, Position};

/// A page ends once its entries reach this many bytes.
const VIEW_PAGE_LEN_TARGET: usize = 1 << 20;

/// The progress of a view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The position up to which every event is in the view or does not concern it; `None` if there
    /// is none yet.
    pub position: Option<Position>,
    /// Other state that the writer saves with it, of at most
    /// [`CHECKPOINT_STATE_LEN_MAX`](crate::limits::CHECKPOINT_STATE_LEN_MAX) bytes.
    pub state: Vec<u8>,
}

/// A change of one view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewChange {
    /// Sets the value of a key.
    Put {
        /// The key.
        key: Vec<u8>,
        /// Its new value.
        value: Vec<u8>,
    },
    /// Deletes a key, if it exists.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
    /// Deletes all keys that exist before this commit, regardless of the order of its changes.
    Clear,
}

/// A write to a view: the only kind of write that a [`ViewStore`] has.
///
/// Move the checkpoint with every commit. Only the comparison with `expected` detects a second
/// writer: if both leave the checkpoint unchanged, neither detects the other, and one overwrites
/// the values of the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewCommit {
    /// The name of the view.
    pub view: String,
    /// The checkpoint that the caller expects; `None` if the view has none.
    pub expected: Option<Checkpoint>,
    /// The changes. If a key is changed several times, the last change counts.
    pub changes: Vec<ViewChange>,
    /// The checkpoint after the commit; `None` removes it.
    pub checkpoint: Option<Checkpoint>,
    /// Whether the checkpoint is a position in the log of another store. A position in this store's
    /// own log must not be past its head.
    pub follows_other_log: bool,
}

impl ViewCommit {
    /// Checks what can be checked without reading the store. Every store calls this first.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: the name is invalid, or a key is empty.
    /// [`Error::LimitExceeded`]: a key, a value, the state, or the whole commit is too large.
    pub fn check(&self) -> Result<()> {
        check_view_name(&self.view)?;
        let mut len: usize = 0;
        for change in &self.changes {
            let (key, value) = match change {
                ViewChange::Put { key, value } => (key, value.as_slice()),
                ViewChange::Delete { key } => (key, &[][..]),
                ViewChange::Clear => continue,
            };
            if key.is_empty() {
                return Err(InvalidArgument::Empty { what: "view key" }.into());
            }
            LimitExceeded::check("view_key_len_max", VIEW_KEY_LEN_MAX, key.len())?;
            LimitExceeded::check("view_value_len_max", VIEW_VALUE_LEN_MAX, value.len())?;
            len = len.saturating_add(key.len()).saturating_add(value.len());
        }
        LimitExceeded::check("view_commit_len_max", VIEW_COMMIT_LEN_MAX, len)?;
        let state = self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.state.len());
        LimitExceeded::check("checkpoint_state_len_max", CHECKPOINT_STATE_LEN_MAX, state)?;
        Ok(())
    }

    /// Checks that the checkpoint is not past the head of the log that the view follows. Every
    /// store calls this before its write.
    ///
    /// # Errors
    /// [`Error::CheckpointAhead`].
    pub fn check_head(&self, head: Option<Position>) -> Result<()> {
        let position = self.checkpoint.as_ref().and_then(|checkpoint| checkpoint.position);
        match position.filter(|_| position > head && !self.follows_other_log) {
            Some(position) => {
                Err(Error::CheckpointAhead { view: self.view.clone(), position, head })
            }
            None => Ok(()),
        }
    }

    /// Checks that the checkpoint of the view is the one that the caller expects. Every store calls
    /// this within its write.
    ///
    /// # Errors
    /// [`Error::CheckpointMoved`].
    pub fn check_expected(&self, found: Option<&Checkpoint>) -> Result<()> {
        if found == self.expected.as_ref() {
            return Ok(());
        }
        let position = |checkpoint: Option<&Checkpoint>| checkpoint.and_then(|c| c.position);
        Err(Error::CheckpointMoved {
            view: self.view.clone(),
            expected: position(self.expected.as_ref()),
            found: position(found),
        })
    }
}

/// The first key after all that begin with `prefix`; `None` if there is none.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    *end.last_mut()? += 1;
    Some(end)
}

/// Checks the name of a view.
pub(crate) fn check_view_name(view: &str) -> Result<()> {
    Ok(check_name("view name", view, VIEW_NAME_LEN_MAX)?)
}

/// A query for entries of a view, in the order of their keys.
#[derive(Debug, Clone, Default)]
pub struct ViewScan {
    /// The name of the view.
    pub view: String,
    /// Only keys that begin with this prefix.
    pub prefix: Vec<u8>,
    /// Only keys after this one, in the direction of the scan.
    pub after: Option<Vec<u8>>,
    /// The direction.
    pub direction: Direction,
    /// The maximum number of entries.
    pub entries_max: usize,
}

impl ViewScan {
    /// The requested keys: from the first key, included, to the second, excluded; `None` is the
    /// end.
    pub(crate) fn key_range(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        let (mut from, mut to) = (self.prefix.clone(), prefix_end(&self.prefix));
        match (&self.after, self.direction) {
            (None, _) => {}
            // No key is between a key and the same key followed by a 0 byte.
            (Some(after), Direction::Forward) => from = from.max([after, &[0][..]].concat()),
            (Some(after), Direction::Backward) => {
                to = Some(to.map_or_else(|| after.clone(), |to| to.min(after.clone())));
            }
        }
        (from, to)
    }
}

/// A key with its value.
pub type ViewEntry = (Vec<u8>, Vec<u8>);

/// A page of entries of a view, all from the same moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ViewPage {
    /// The entries in order; fewer than requested if they are large.
    pub entries: Vec<ViewEntry>,
    /// Whether there may be more entries after the last one.
    pub has_more: bool,
}

/// Fills a page within its bounds.
pub(crate) struct PageFiller {
    page: ViewPage,
    entries_max: usize,
    len: usize,
}

impl PageFiller {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { page: ViewPage::default(), entries_max, len: 0 }
    }

    /// Whether one more entry must wait for the next page. It is called only if there is one.
    pub(crate) fn is_full(&mut self) -> bool {
        let is_full =
            self.page.entries.len() >= self.entries_max || self.len >= VIEW_PAGE_LEN_TARGET;
        self.page.has_more |= is_full;
        is_full
    }

    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) {
        self.len = self.len.saturating_add(key.len()).saturating_add(value.len());
        self.page.entries.push((key.to_vec(), value.to_vec()));
    }

    pub(crate) fn finish(self) -> ViewPage {
        self.page
    }
}

/// A store of views. Implemented by [`Store`](crate::Store) and
/// [`MemoryStore`](crate::MemoryStore), and for references and `Arc`s of stores.
///
/// Every method fails with [`Error::Closed`] once the store is closed, and with
/// [`Error::Corruption`] if the data that it reads is damaged: a view is never silently shorter
/// (G8).
pub trait ViewStore: Send + Sync {
    /// Changes the values and the checkpoint of one view, together or not at all, if its checkpoint
    /// is the expected one.
    ///
    /// # Errors
    /// [`Error::CheckpointMoved`], or an error of [`ViewCommit::check`]: nothing was changed.
    /// [`Error::Indeterminate`]: the commit may or may not have been written; see
    /// [`EventStore::submit`](crate::EventStore::submit).
    ///
    /// # Cost
    /// One write, without a sync. A later sync of the log makes it durable too. After a power loss
    /// a view may be behind, but its values and its checkpoint are consistent.
    fn commit_view(&self, commit: &ViewCommit) -> Result<()>;

    /// The checkpoint of a view; `None` if it has none.
    ///
    /// # Errors
    /// Corruption, an invalid name, or an I/O error.
    fn checkpoint(&self, view: &str) -> Result<Option<Checkpoint>>;

    /// The value of a key.
    ///
    /// # Errors
    /// Corruption, an invalid name, or an I/O error.
    fn view_value(&self, view: &str, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// A page of entries, all from the same moment.
    ///
    /// # Errors
    /// Corruption, an invalid name, or an I/O error.
    fn scan_view(&self, scan: &ViewScan) -> Result<ViewPage>;

    /// The names of all views that have a checkpoint, in order. The checkpoints themselves are not
    /// read.
    ///
    /// # Errors
    /// Corruption, or an I/O error.
    fn list_views(&self) -> Result<Vec<String>>;

    /// Deletes a view with its values and its checkpoint, even if they are damaged. Does nothing if
    /// there is no such view.
    ///
    /// # Errors
    /// An invalid name, or an I/O error: nothing was changed. [`Error::Indeterminate`] as in
    /// [`ViewStore::commit_view`].
    fn drop_view(&self, view: &str) -> Result<()>;

    /// An owned handle. Like [`EventStore::handle`](crate::EventStore::handle), it does not keep
    /// the store open.
    fn view_handle(&self) -> Arc<dyn ViewStore>;
}

/// References, `Arc`s and boxes of stores are stores.
impl<T> ViewStore for T
where
    T: Deref<Target: ViewStore> + Send + Sync + ?Sized,
{
    fn commit_view(&self, commit: &ViewCommit) -> Result<()> {
        (**self).commit_view(commit)
    }

    fn checkpoint(&self, view: &str) -> Result<Option<Checkpoint>> {
        (**self).checkpoint(view)
    }

    fn view_value(&self, view: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        (**self).view_value(view, key)
    }

    fn scan_view(&self, scan: &ViewScan) -> Result<ViewPage> {
        (**self).scan_view(scan)
    }

    fn list_views(&self) -> Result<Vec<String>> {
        (**self).list_views()
    }

    fn drop_view(&self, view: &str) -> Result<()> {
        (**self).drop_view(view)
    }

    fn view_handle(&self) -> Arc<dyn ViewStore> {
        (**self).view_handle()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn prefix_end_separates_matching_keys_from_later_ones(
            prefix in prop::collection::vec(prop_oneof![Just(0), Just(1), Just(0xff)], 0..4),
            key in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(2), Just(0xff)], 0..5),
        ) {
            let is_before_end = prefix_end(&prefix).is_none_or(|end| key < end);
            prop_assert_eq!(key >= prefix && is_before_end, key.starts_with(&prefix));
        }
    }
}
