//! [`DerivedWriter`] writes the data derived from the log: snapshots and views.
//!
//! Writes run one at a time, so that no other write comes between reading the current state and the
//! write that depends on it. They are not synced, because the data can be rebuilt from the log.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use super::gate::Gate;
use super::rows::Rows;
use super::writer::OpenLog;
use crate::error::{Cause, Error, Result};
use crate::event_store::Direction;
use crate::format::{
    INDEXED_RECORD, Indexed, encode_checkpoint, encode_indexed, encode_record, encode_snapshot,
    snapshot_key, snapshot_of, snapshot_prefix, view_key, view_prefix,
};
use crate::metrics::Meters;
use crate::model::{StreamId, Version};
use crate::options::Durability;
use crate::read::derived::checkpoint;
use crate::read::lookup::hole_of;
use crate::snapshot_store::Snapshot;
use crate::storage::{Batch, Disk, Family, Space, Storage};
use crate::sync::Mutex;
use crate::view_store::{ViewChange, ViewCommit, prefix_end};

/// Keys and values.
pub(super) type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// Commits snapshots and views.
pub(crate) struct DerivedWriter {
    storage: Arc<Storage>,
    space: Arc<Space>,
    meters: Arc<Meters>,
    gate: Arc<Gate>,
    /// Held from reading the current state to the end of the write.
    alone: Mutex<()>,
    /// For each kind and stream, by the prefix of its keys: a version below which it has no
    /// snapshots. Scans begin there, because scanning the keys of all deleted snapshots is slow.
    oldest: Mutex<HashMap<Vec<u8>, Version>>,
}

/// What a write needs of a disk that is nearly full.
#[derive(Clone, Copy)]
enum Needs {
    /// About this many bytes.
    Space(usize),
    /// It only deletes.
    Nothing,
}

/// The most bytes that a deletion may write in one batch on a full disk: about a few rows.
const FREEING_LEN_MAX: usize = 128 << 10;

/// The most entries in [`DerivedWriter::oldest`]: a bound on memory.
const OLDEST_MAX: usize = 1_024;

impl DerivedWriter {
    pub(super) fn new(log: &OpenLog, gate: Arc<Gate>) -> Self {
        Self {
            storage: log.storage.clone(),
            space: log.space.clone(),
            meters: log.meters.clone(),
            gate,
            alone: Mutex::new(()),
            oldest: Mutex::new(HashMap::new()),
        }
    }

    /// Commits a checked change of a view.
    pub(crate) fn commit_view(&self, commit: &ViewCommit) -> Result<()> {
        let ViewCommit { view, changes, .. } = commit;
        self.write(Needs::Space(commit_len(commit)), |disk, batch| {
            let found = checkpoint(disk, view)?;
            commit.check_expected(found.as_ref())?;
            // The deletion comes first, wherever `Clear` is among the changes: RocksDB applies a
            // batch in order, and the puts of this commit must remain.
            if changes.contains(&ViewChange::Clear) {
                delete_prefix(batch, Family::Views, &view_prefix(view));
            }
            for change in changes {
                match change {
                    ViewChange::Put { key, value } => {
                        let key = view_key(view, key);
                        batch.put(Family::Views, &key, &encode_record(&key, value));
                    }
                    ViewChange::Delete { key } => {
                        batch.delete(Family::Views, &view_key(view, key));
                    }
                    ViewChange::Clear => {}
                }
            }
            let key = view.as_bytes();
            match &commit.checkpoint {
                Some(checkpoint) => {
                    batch.put(Family::Checkpoints, key, &encode_checkpoint(key, checkpoint));
                }
                None if found.is_some() => batch.delete(Family::Checkpoints, key),
                None => {}
            }
            Ok(())
        })?;
        self.meters.view_commits.add(1);
        Ok(())
    }

    /// Deletes a view with all its values and its checkpoint.
    pub(crate) fn drop_view(&self, view: &str) -> Result<()> {
        self.write(Needs::Nothing, |_, batch| {
            delete_prefix(batch, Family::Views, &view_prefix(view));
            batch.delete(Family::Checkpoints, view.as_bytes());
            Ok(())
        })
    }

    /// Writes a checked snapshot, and deletes all but the newest `keep` of its kind and stream.
    /// Returns whether it was written: not if `is_current` is false at that moment, nor if the event
    /// on which it rests is deleted.
    pub(crate) fn save_snapshot(
        &self,
        snapshot: &Snapshot,
        keep: NonZeroUsize,
        is_current: &dyn Fn() -> bool,
    ) -> Result<bool> {
        let (kind, stream) = (snapshot.kind.as_str(), snapshot.stream.as_str());
        let mut is_saved = false;
        self.write(Needs::Space(snapshot.state.len()), |disk, batch| {
            let hole = hole_of(disk, &snapshot.stream)?;
            let is_deleted = hole.is_some_and(|(last, _)| last >= snapshot.version);
            is_saved = !is_deleted && is_current();
            if !is_saved {
                return Ok(());
            }
            let prefix = snapshot_prefix(kind, stream);
            let mut oldest = self.oldest.lock();
            let from = oldest.get(&prefix).map_or(Version::FIRST, |version| *version);
            let mut versions = versions(disk, &snapshot_key(kind, stream, from), &prefix)?;
            let key = snapshot_key(kind, stream, snapshot.version);
            batch.put(Family::Snapshots, &key, &encode_snapshot(&key, snapshot));
            versions.insert(snapshot.version);
            for old in versions.iter().rev().skip(keep.get()) {
                batch.delete(Family::Snapshots, &snapshot_key(kind, stream, *old));
            }
            if oldest.len() >= OLDEST_MAX {
                oldest.clear();
            }
            // The entry may be updated before the write: if the write fails, the store is poisoned.
            let kept = versions.iter().rev().take(keep.get()).min();
            oldest.extend(kept.map(|version| (prefix, *version)));
            Ok(())
        })?;
        self.meters.snapshots.add(u64::from(is_saved));
        Ok(is_saved)
    }

    /// Deletes all snapshots of a kind and stream, including damaged ones.
    pub(crate) fn delete_snapshots(&self, kind: &str, stream: &StreamId) -> Result<()> {
        self.write(Needs::Nothing, |_, batch| {
            delete_prefix(batch, Family::Snapshots, &snapshot_prefix(kind, stream.as_str()));
            Ok(())
        })
    }

    /// Adds entries of the index for events that were appended earlier, and records what is indexed
    /// then.
    pub(super) fn write_index(&self, entries: &Entries, then: Indexed) -> Result<()> {
        let len = entries.iter().map(|(key, value)| key.len() + value.len() + 16).sum();
        self.write(Needs::Space(len), |_, batch| {
            for (key, value) in entries {
                batch.put(Family::Index, key, value);
            }
            batch.put(Family::Meta, INDEXED_RECORD, &encode_indexed(then));
            Ok(())
        })
    }

    /// Writes changes of rows that a deletion leads to.
    pub(super) fn write_rows(&self, rows: &Rows) -> Result<()> {
        // What frees more than it takes may use the reserve.
        let len = rows.put_len();
        let needs = if len > FREEING_LEN_MAX { Needs::Space(len) } else { Needs::Nothing };
        self.write(needs, |_, batch| {
            rows.add_to(batch);
            Ok(())
        })
    }

    /// Drops the table files that hold only packs of a range up to `last`; all of the range are
    /// deleted.
    pub(super) fn drop_packs(&self, keys: Range<&[u8]>, last: &[u8]) -> Result<()> {
        let _alone = self.alone.lock();
        self.storage.with(|disk| {
            self.gate.check()?;
            self.gate.attempt(|| {
                let dropped = disk.drop_files(Family::Packs, keys, last);
                let dropped = dropped.and_then(|()| self.gate.check_sound());
                dropped.map_err(|error| Error::Indeterminate { cause: Cause::new(error) })
            })
        })
    }

    /// Runs `work` while no snapshot and no view is written.
    pub(crate) fn while_nothing_is_written<T>(&self, work: impl FnOnce() -> T) -> T {
        let _alone = self.alone.lock();
        work()
    }

    /// Writes the batch that `stage` fills, all of it or nothing.
    fn write(
        &self,
        needs: Needs,
        stage: impl FnOnce(&Disk, &mut Batch<'_>) -> Result<()>,
    ) -> Result<()> {
        let _alone = self.alone.lock();
        self.storage.with(|disk| {
            self.gate.check()?;
            if let Needs::Space(len) = needs {
                self.space.check(disk, len)?;
            }
            let mut batch = disk.batch();
            stage(disk, &mut batch)?;
            if batch.is_empty() {
                return Ok(());
            }
            self.gate.attempt(|| {
                let written = disk.write(batch, Durability::Buffered);
                let written = written.and_then(|()| self.gate.check_sound());
                written.map_err(|error| Error::Indeterminate { cause: Cause::new(error) })
            })
        })
    }
}

/// The length of the keys and values that a commit writes.
fn commit_len(commit: &ViewCommit) -> usize {
    let state = commit.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.state.len());
    let len = |change: &ViewChange| match change {
        ViewChange::Put { key, value } => key.len() + value.len(),
        ViewChange::Delete { key } => key.len(),
        ViewChange::Clear => 0,
    };
    state + commit.changes.iter().map(len).sum::<usize>()
}

fn delete_prefix(batch: &mut Batch<'_>, family: Family, prefix: &[u8]) {
    // A prefix is a name and a terminator, so a key after it always exists.
    if let Some(end) = prefix_end(prefix) {
        batch.delete_range(family, prefix..&end);
    }
}

/// The versions of all snapshots under a prefix, starting at a key.
fn versions(disk: &Disk, from: &[u8], prefix: &[u8]) -> Result<BTreeSet<Version>> {
    let mut versions = BTreeSet::new();
    let end = prefix_end(prefix).unwrap_or_default();
    let mut cursor = disk.range_cursor(Family::Snapshots, from..&end, Direction::Forward);
    while let Some((key, _)) = cursor.next()? {
        versions.extend(snapshot_of(key).map(|(_, _, version)| version));
    }
    Ok(versions)
}
