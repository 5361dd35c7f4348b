//! Implements [`SnapshotStore`] and [`ViewStore`] for [`MemoryStore`].

use std::num::NonZeroUsize;
use std::ops::Bound;
use std::sync::Arc;

use super::MemoryStore;
use super::derived::Derived;
use crate::error::Result;
use crate::event_store::Direction;
use crate::model::{StreamId, Version};
use crate::snapshot_store::{Snapshot, SnapshotStore, check_kind};
use crate::sync::MutexGuard;
use crate::view_store::{
    Checkpoint, PageFiller, ViewChange, ViewCommit, ViewPage, ViewScan, ViewStore, check_view_name,
};

impl MemoryStore {
    /// The snapshots and views, unless the store is closed.
    fn derived(&self) -> Result<MutexGuard<'_, Derived>> {
        self.inner.head.get()?;
        Ok(self.inner.derived.lock())
    }
}

impl SnapshotStore for MemoryStore {
    fn save_snapshot(&self, snapshot: &Snapshot, keep: NonZeroUsize) -> Result<()> {
        snapshot.check()?;
        let mut state = self.derived()?;
        let owner = (snapshot.kind.clone(), snapshot.stream.clone());
        let versions = state.snapshots.entry(owner).or_default();
        versions.insert(snapshot.version, snapshot.clone());
        while versions.len() > keep.get() {
            versions.pop_first();
        }
        Ok(())
    }

    fn load_snapshot(
        &self,
        kind: &str,
        stream: &StreamId,
        up_to: Version,
    ) -> Result<Option<Snapshot>> {
        check_kind(kind)?;
        let state = self.derived()?;
        let versions = state.snapshots.get(&(kind.to_owned(), stream.clone()));
        let newest = versions.and_then(|versions| versions.range(..=up_to).next_back());
        Ok(newest.map(|(_, snapshot)| snapshot.clone()))
    }

    fn delete_snapshots(&self, kind: &str, stream: &StreamId) -> Result<()> {
        check_kind(kind)?;
        self.derived()?.snapshots.remove(&(kind.to_owned(), stream.clone()));
        Ok(())
    }

    fn snapshot_handle(&self) -> Arc<dyn SnapshotStore> {
        Arc::new(self.clone())
    }
}

impl ViewStore for MemoryStore {
    fn commit_view(&self, commit: &ViewCommit) -> Result<()> {
        commit.check()?;
        commit.check_head(self.inner.head.get()?)?;
        let mut state = self.derived()?;
        let present = state.views.get(&commit.view);
        commit.check_expected(present.and_then(|view| view.checkpoint.as_ref()))?;
        let view = state.views.entry(commit.view.clone()).or_default();
        if commit.changes.contains(&ViewChange::Clear) {
            view.values.clear();
        }
        for change in &commit.changes {
            match change {
                ViewChange::Put { key, value } => {
                    view.values.insert(key.clone(), value.clone());
                }
                ViewChange::Delete { key } => {
                    view.values.remove(key);
                }
                ViewChange::Clear => {}
            }
        }
        view.checkpoint.clone_from(&commit.checkpoint);
        if view.checkpoint.is_none() && view.values.is_empty() {
            state.views.remove(&commit.view);
        }
        Ok(())
    }

    fn checkpoint(&self, view: &str) -> Result<Option<Checkpoint>> {
        check_view_name(view)?;
        let state = self.derived()?;
        Ok(state.views.get(view).and_then(|view| view.checkpoint.clone()))
    }

    fn view_value(&self, view: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        check_view_name(view)?;
        let state = self.derived()?;
        Ok(state.views.get(view).and_then(|view| view.values.get(key).cloned()))
    }

    fn scan_view(&self, scan: &ViewScan) -> Result<ViewPage> {
        check_view_name(&scan.view)?;
        let state = self.derived()?;
        let Some(view) = state.views.get(&scan.view) else { return Ok(ViewPage::default()) };
        let (from, to) = scan.key_range();
        if to.as_ref().is_some_and(|to| *to <= from) {
            return Ok(ViewPage::default());
        }
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        let mut entries = view.values.range((Bound::Included(from), to));
        let mut page = PageFiller::new(scan.entries_max);
        while let Some((key, value)) = match scan.direction {
            Direction::Forward => entries.next(),
            Direction::Backward => entries.next_back(),
        } {
            if page.is_full() {
                break;
            }
            page.push(key, value);
        }
        Ok(page.finish())
    }

    fn list_views(&self) -> Result<Vec<String>> {
        let state = self.derived()?;
        let views = state.views.iter().filter(|(_, view)| view.checkpoint.is_some());
        Ok(views.map(|(name, _)| name.clone()).collect())
    }

    fn drop_view(&self, view: &str) -> Result<()> {
        check_view_name(view)?;
        self.derived()?.views.remove(view);
        Ok(())
    }

    fn view_handle(&self) -> Arc<dyn ViewStore> {
        Arc::new(self.clone())
    }
}
