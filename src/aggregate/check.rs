//! Checks snapshots against the history that they summarise.

use std::fmt;

use super::load::Left;
use super::root::AggregateRoot;
use super::snapshots::{SnapshotFault, Snapshots};
use super::{Aggregate, Repository};
use crate::error::Result;
use crate::model::{StreamId, StreamState, Timestamp, Version};
use crate::snapshot_store::Snapshot;

/// The result of [`Repository::check_snapshots`](crate::Repository::check_snapshots).
#[derive(Debug, Clone)]
pub struct SnapshotReport {
    /// The stream of the aggregate.
    pub stream: StreamId,
    /// All its readable snapshots, oldest first.
    pub snapshots: Vec<CheckedSnapshot>,
}

/// A snapshot that was checked.
#[derive(Debug, Clone)]
pub struct CheckedSnapshot {
    /// The version of its state.
    pub version: Version,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// What is wrong with it; `None` if its state matches the history.
    pub fault: Option<SnapshotFault>,
}

impl SnapshotReport {
    /// Whether the state of every snapshot matches the history.
    pub fn is_sound(&self) -> bool {
        self.snapshots.iter().all(|snapshot| snapshot.fault.is_none())
    }
}

impl fmt::Display for SnapshotReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.snapshots.is_empty() {
            return write!(out, "{}: no snapshots", self.stream);
        }
        write!(out, "{}:", self.stream)?;
        for CheckedSnapshot { version, taken_at, fault } in &self.snapshots {
            write!(out, "\n  version {version}, taken at {taken_at}: ")?;
            match fault {
                None => out.write_str("as the history says")?,
                Some(fault) => write!(out, "{fault}")?,
            }
        }
        Ok(())
    }
}

impl<A: Aggregate + PartialEq> Repository<A> {
    /// Compares every snapshot of an aggregate with its history.
    ///
    /// Use it in tests and after changes to the code. A snapshot that differs shows that
    /// [`SNAPSHOT_VERSION`](Aggregate::SNAPSHOT_VERSION) should have been raised, or that the codec
    /// does not restore the state as it was written.
    ///
    /// If the beginning of the stream was deleted, the first snapshot after it counts as right.
    ///
    /// The report omits a snapshot whose bytes are damaged: verify reports it, and loading counts
    /// it as ignored.
    ///
    /// Nothing is changed. To remove faulty snapshots, raise that version, or call
    /// [`delete_snapshots`](crate::SnapshotStore::delete_snapshots).
    ///
    /// # Errors
    /// Any error of the store. A faulty snapshot is not an error: the report contains it.
    ///
    /// # Cost
    /// Reads all snapshots of the aggregate, and its whole history.
    pub fn check_snapshots(&self, id: impl fmt::Display) -> Result<SnapshotReport> {
        let stream = self.stream_id(id)?;
        let Some(kept) = &self.snapshots else {
            return Ok(SnapshotReport { stream, snapshots: Vec::new() });
        };
        let mut found = Vec::new();
        let mut up_to = Some(Version::MAX);
        while let Some(at) = up_to {
            let Some(snapshot) = kept.newest(&stream, at)? else { break };
            up_to = snapshot.version.min(at).previous();
            found.push(snapshot);
        }
        let mut root = AggregateRoot::new(stream.clone());
        let mut snapshots = Vec::with_capacity(found.len());
        for snapshot in found.into_iter().rev() {
            if let Left::Without(hole) = self.catch_up(&mut root, snapshot.version)?
                && hole.state == StreamState::Live
            {
                // Nothing shows what its state should be, so the later ones are compared with it.
                if let Ok((restored, _)) = self.restore_from(kept, &snapshot, snapshot.version)? {
                    root = restored;
                }
            }
            let fault = fault_of(kept, &snapshot, &root);
            let Snapshot { version, taken_at, .. } = snapshot;
            snapshots.push(CheckedSnapshot { version, taken_at, fault });
        }
        Ok(SnapshotReport { stream, snapshots })
    }
}

/// What is wrong with a snapshot, compared with `root`, which was rebuilt from the history up to
/// the snapshot's version.
fn fault_of<A: Aggregate + PartialEq>(
    snapshots: &Snapshots<A>,
    snapshot: &Snapshot,
    root: &AggregateRoot<A>,
) -> Option<SnapshotFault> {
    let state = match snapshots.restore(snapshot) {
        Ok(state) => state,
        Err(fault) => return Some(fault),
    };
    let last = root.provenance.last.map(|last| (last.version, last.id));
    if last != Some((snapshot.version, snapshot.event_id)) {
        return Some(SnapshotFault::OtherHistory);
    }
    if state == root.state {
        return None;
    }
    Some(if snapshots.preserves(&root.state) {
        SnapshotFault::Differs
    } else {
        SnapshotFault::ChangedByCodec { content_type: snapshots.content_type().clone() }
    })
}
