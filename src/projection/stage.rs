//! [`Stage`]: the changes that a batch of events makes to a view, before they are written.
//!
//! A handler reads through it: first its own changes, then earlier changes of the batch, then the
//! store. If a handler fails, the changes of its event are dropped.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::error::Result;
use crate::event_store::Direction;
use crate::model::limits::VIEW_COMMIT_LEN_MAX;
use crate::view_store::{ViewChange, ViewEntry, ViewScan, ViewStore};

/// A batch ends when it has read and changed about this many bytes.
pub(super) const STAGE_LEN_MAX: usize = 8 << 20;
/// One event changes at most this many bytes, so that it fits into one commit regardless of the
/// events handled before it.
pub(super) const EVENT_CHANGES_LEN_MAX: usize = VIEW_COMMIT_LEN_MAX - 2 * STAGE_LEN_MAX;
/// How many entries a scan reads at once.
const SCAN_PAGE_ENTRIES: usize = 1_024;

type Values = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

pub(super) struct Stage {
    views: Arc<dyn ViewStore>,
    view: Arc<str>,
    /// Changes of the batch's earlier events; `None` marks a deleted key.
    batch: Values,
    /// Changes of the event that is being handled.
    event: Values,
    /// Values read from the store. They stay valid, because we are the only writer.
    read: HashMap<Vec<u8>, Option<Vec<u8>>>,
    /// The prefixes that were scanned.
    scanned: BTreeSet<Vec<u8>>,
    len: usize,
}

impl Stage {
    pub(super) fn new(views: Arc<dyn ViewStore>, view: Arc<str>) -> Self {
        Self {
            views,
            view,
            batch: Values::new(),
            event: Values::new(),
            read: HashMap::new(),
            scanned: BTreeSet::new(),
            len: 0,
        }
    }

    pub(super) fn view(&self) -> &Arc<str> {
        &self.view
    }

    pub(super) fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let changed = self.event.get(key).or_else(|| self.batch.get(key));
        if let Some(value) = changed.or_else(|| self.read.get(key)) {
            return Ok(value.clone());
        }
        let value = self.views.view_value(&self.view, key)?;
        self.len += key.len() + value.as_ref().map_or(0, Vec::len);
        self.read.insert(key.to_vec(), value.clone());
        Ok(value)
    }

    pub(super) fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.event.insert(key, value);
    }

    /// All entries whose keys begin with `prefix`, in order, as this event sees them.
    pub(super) fn scan(&mut self, prefix: &[u8]) -> Result<Vec<ViewEntry>> {
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut scan = ViewScan {
            view: self.view.to_string(),
            prefix: prefix.to_vec(),
            after: None,
            direction: Direction::Forward,
            entries_max: SCAN_PAGE_ENTRIES,
        };
        loop {
            let page = self.views.scan_view(&scan)?;
            scan.after = page.entries.last().map(|(key, _)| key.clone());
            merged.extend(page.entries);
            if !page.has_more {
                break;
            }
        }
        for changed in [&self.batch, &self.event] {
            let under = changed.range(prefix.to_vec()..);
            for (key, value) in under.take_while(|(key, _)| key.starts_with(prefix)) {
                match value {
                    Some(value) => merged.insert(key.clone(), value.clone()),
                    None => merged.remove(key),
                };
            }
        }
        self.scanned.insert(prefix.to_vec());
        Ok(merged.into_iter().collect())
    }

    /// Adds the changes of the handled event to the batch.
    pub(super) fn keep_event(&mut self) {
        for (key, value) in std::mem::take(&mut self.event) {
            self.len += key.len() + value.as_ref().map_or(0, Vec::len);
            self.batch.insert(key, value);
        }
    }

    /// How many bytes the event that is being handled changes.
    pub(super) fn event_len(&self) -> usize {
        let len = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| {
            key.len() + value.as_ref().map_or(0, Vec::len)
        };
        self.event.iter().map(len).sum()
    }

    /// Drops the changes of an event that was not handled.
    pub(super) fn drop_event(&mut self) {
        self.event.clear();
    }

    /// The approximate size of the batch in bytes, which bounds memory.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether one of the two stages read or changed a key that the other changed, so that the
    /// order of their events matters.
    pub(super) fn conflicts_with(&self, other: &Self) -> bool {
        self.touches_changes_of(other) || other.touches_changes_of(self)
    }

    fn touches_changes_of(&self, other: &Self) -> bool {
        other.batch.keys().any(|key| {
            self.batch.contains_key(key)
                || self.read.contains_key(key)
                || self.scanned.iter().any(|prefix| key.starts_with(prefix))
        })
    }

    pub(super) fn into_changes(self) -> impl Iterator<Item = ViewChange> {
        self.batch.into_iter().map(|(key, value)| match value {
            Some(value) => ViewChange::Put { key, value },
            None => ViewChange::Delete { key },
        })
    }
}
