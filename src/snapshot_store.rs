//! [`SnapshotStore`]: the trait for snapshots, next to [`EventStore`](crate::EventStore).
//!
//! A snapshot is a cache: the events give the same state, more slowly. A store may therefore lose a
//! snapshot, and the reader checks that a snapshot fits its stream.

use std::num::NonZeroUsize;
use std::ops::Deref;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::limits::{SNAPSHOT_KIND_LEN_MAX, SNAPSHOT_STATE_LEN_MAX, check_name};
use crate::model::{EventId, LimitExceeded, StreamId, Timestamp, Version};

/// The state of an aggregate after an event of its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The kind of the aggregate: two kinds over one stream have separate snapshots.
    pub kind: String,
    /// The stream of the aggregate.
    pub stream: StreamId,
    /// The version of the last event that is in the state.
    pub version: Version,
    /// The id of that event: it shows whether the snapshot is from another history.
    pub event_id: EventId,
    /// The schema version of the state.
    pub schema_version: u32,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// The state, encoded.
    pub state: Vec<u8>,
}

impl Snapshot {
    /// Checks what can be checked without reading the store. Every store calls this first.
    ///
    /// # Errors
    /// The kind is an invalid name, or the state is larger than
    /// [`SNAPSHOT_STATE_LEN_MAX`](crate::limits::SNAPSHOT_STATE_LEN_MAX).
    pub fn check(&self) -> Result<()> {
        check_kind(&self.kind)?;
        LimitExceeded::check("snapshot_state_len_max", SNAPSHOT_STATE_LEN_MAX, self.state.len())?;
        Ok(())
    }
}

/// Checks the name of a kind of snapshots.
pub(crate) fn check_kind(kind: &str) -> Result<()> {
    Ok(check_name("snapshot kind", kind, SNAPSHOT_KIND_LEN_MAX)?)
}

/// Called for each damaged snapshot that is skipped, with its version, if that is known, and what
/// is wrong with it.
pub type OnDamaged<'f> = dyn FnMut(Option<Version>, Error) + 'f;

/// A store of snapshots. Implemented by [`Store`](crate::Store) and
/// [`MemoryStore`](crate::MemoryStore), and for references and `Arc`s of stores.
///
/// Every method fails with [`Error::Closed`] once the store is closed.
pub trait SnapshotStore: Send + Sync {
    /// Saves a snapshot, replacing one of the same version. Only the `keep` newest versions of its
    /// kind and stream are kept. A snapshot that rests on a deleted event is not saved.
    ///
    /// # Errors
    /// Those of [`Snapshot::check`], or those of a write: see
    /// [`EventStore::submit`](crate::EventStore::submit).
    ///
    /// # Cost
    /// One write, without a sync: after a power loss it may be gone.
    fn save_snapshot(&self, snapshot: &Snapshot, keep: NonZeroUsize) -> Result<()>;

    /// Saves a snapshot as [`SnapshotStore::save_snapshot`] does, if its state is still current at
    /// that moment. Returns whether it was saved.
    ///
    /// A store from which events are deleted asks while no deletion can be decided. So a state that
    /// holds what is redacted is not saved after the redaction has cleared the snapshots. `is_current`
    /// may call [`EventStore::redactions`](crate::EventStore::redactions), but must not read or write.
    ///
    /// # Errors
    /// Those of [`SnapshotStore::save_snapshot`].
    fn save_snapshot_if(
        &self,
        snapshot: &Snapshot,
        keep: NonZeroUsize,
        is_current: &dyn Fn() -> bool,
    ) -> Result<bool> {
        if !is_current() {
            return Ok(false);
        }
        self.save_snapshot(snapshot, keep).map(|()| true)
    }

    /// Loads the newest intact snapshot whose version is at or below `up_to`. Damaged ones are
    /// skipped.
    ///
    /// # Errors
    /// An invalid kind, or an I/O error.
    fn load_snapshot(
        &self,
        kind: &str,
        stream: &StreamId,
        up_to: Version,
    ) -> Result<Option<Snapshot>>;

    /// Loads a snapshot as [`SnapshotStore::load_snapshot`] does, and reports each one that is
    /// skipped. A store whose snapshots cannot be damaged need not implement it.
    ///
    /// # Errors
    /// Those of [`SnapshotStore::load_snapshot`].
    fn load_snapshot_with(
        &self,
        kind: &str,
        stream: &StreamId,
        up_to: Version,
        on_damaged: &mut OnDamaged<'_>,
    ) -> Result<Option<Snapshot>> {
        let _ = on_damaged;
        self.load_snapshot(kind, stream, up_to)
    }

    /// Deletes all snapshots of this kind and stream.
    ///
    /// # Errors
    /// An invalid kind, or the errors of a write.
    fn delete_snapshots(&self, kind: &str, stream: &StreamId) -> Result<()>;

    /// An owned handle. Like [`EventStore::handle`](crate::EventStore::handle), it does not keep
    /// the store open.
    fn snapshot_handle(&self) -> Arc<dyn SnapshotStore>;
}

/// References, `Arc`s and boxes of stores are stores.
impl<T> SnapshotStore for T
where
    T: Deref<Target: SnapshotStore> + Send + Sync + ?Sized,
{
    fn save_snapshot(&self, snapshot: &Snapshot, keep: NonZeroUsize) -> Result<()> {
        (**self).save_snapshot(snapshot, keep)
    }

    fn save_snapshot_if(
        &self,
        snapshot: &Snapshot,
        keep: NonZeroUsize,
        is_current: &dyn Fn() -> bool,
    ) -> Result<bool> {
        (**self).save_snapshot_if(snapshot, keep, is_current)
    }

    fn load_snapshot(
        &self,
        kind: &str,
        stream: &StreamId,
        up_to: Version,
    ) -> Result<Option<Snapshot>> {
        (**self).load_snapshot(kind, stream, up_to)
    }

    fn load_snapshot_with(
        &self,
        kind: &str,
        stream: &StreamId,
        up_to: Version,
        on_damaged: &mut OnDamaged<'_>,
    ) -> Result<Option<Snapshot>> {
        (**self).load_snapshot_with(kind, stream, up_to, on_damaged)
    }

    fn delete_snapshots(&self, kind: &str, stream: &StreamId) -> Result<()> {
        (**self).delete_snapshots(kind, stream)
    }

    fn snapshot_handle(&self) -> Arc<dyn SnapshotStore> {
        (**self).snapshot_handle()
    }
}
