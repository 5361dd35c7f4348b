//! Stores for tests that run on any store: in memory, on disk, and with injected failures of
//! appends and snapshots.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use annals::prelude::*;
use annals::testing::{Decorated, Decorator};
use annals::{
    Cause, Error, PageEnd, PageRequest, Result, Snapshot, SnapshotStore, Version, Visitor,
};
use tempfile::TempDir;

use super::{place, quick};

/// A store and its snapshots, kept open.
pub(crate) struct Kept {
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) snapshots: Arc<dyn SnapshotStore>,
    _directory: Option<TempDir>,
}

impl Kept {
    pub(crate) fn memory() -> Self {
        Self::of(MemoryStore::new(), None)
    }

    pub(crate) fn disk() -> Self {
        let (directory, path) = place();
        Self::of(quick().open(path).unwrap(), Some(directory))
    }

    fn of<S>(store: S, directory: Option<TempDir>) -> Self
    where
        S: EventStore + SnapshotStore + Clone + 'static,
    {
        Self { events: Arc::new(store.clone()), snapshots: Arc::new(store), _directory: directory }
    }

    pub(crate) fn both() -> [Self; 2] {
        [Self::memory(), Self::disk()]
    }
}

/// An injected failure of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// The append is written, but its acknowledgement is lost.
    WrittenButUnacknowledged,
    /// The append is not written, but the outcome is unknown to the caller.
    NotWritten,
}

/// Injects a failure into the next append, and counts the events that are read.
#[derive(Default)]
pub(crate) struct Failures {
    next: Mutex<Option<Mishap>>,
    read: AtomicUsize,
}

/// A memory store with injected failures.
pub(crate) type FailingStore = Decorated<Failures>;

pub(crate) fn failing_store(store: &MemoryStore) -> FailingStore {
    Decorated::new(store, Failures::default())
}

impl Failures {
    pub(crate) fn next(&self, mishap: Mishap) {
        *self.next.lock().unwrap() = Some(mishap);
    }

    /// The number of events read since the last call.
    pub(crate) fn read(&self) -> usize {
        self.read.swap(0, Ordering::SeqCst)
    }
}

impl Decorator for Failures {
    fn submit(&self, store: &dyn EventStore, append: Append) -> Result<Appended> {
        let mishap = self.next.lock().unwrap().take();
        if mishap != Some(Mishap::NotWritten) {
            let appended = store.submit(append)?;
            if mishap.is_none() {
                return Ok(appended);
            }
        }
        Err(Error::Indeterminate { cause: broken() })
    }

    fn read_page(
        &self,
        store: &dyn EventStore,
        request: &PageRequest,
        visit: &mut Visitor<'_>,
    ) -> Result<PageEnd> {
        store.read_page(request, &mut |event| {
            self.read.fetch_add(1, Ordering::SeqCst);
            visit(event)
        })
    }
}

/// Snapshots whose writes or reads fail while a flag is set.
#[derive(Clone, Default)]
pub(crate) struct FailingSnapshots {
    pub(crate) store: MemoryStore,
    pub(crate) fails_to_save: Arc<AtomicBool>,
    pub(crate) fails_to_load: Arc<AtomicBool>,
}

impl SnapshotStore for FailingSnapshots {
    fn save_snapshot(&self, snapshot: &Snapshot, keep: NonZeroUsize) -> Result<()> {
        fail_if(&self.fails_to_save)?;
        self.store.save_snapshot(snapshot, keep)
    }

    fn load_snapshot(
        &self,
        kind: &str,
        stream: &StreamId,
        up_to: Version,
    ) -> Result<Option<Snapshot>> {
        fail_if(&self.fails_to_load)?;
        self.store.load_snapshot(kind, stream, up_to)
    }

    fn delete_snapshots(&self, kind: &str, stream: &StreamId) -> Result<()> {
        self.store.delete_snapshots(kind, stream)
    }

    fn snapshot_handle(&self) -> Arc<dyn SnapshotStore> {
        Arc::new(self.clone())
    }
}

fn fail_if(fails: &AtomicBool) -> Result<()> {
    if fails.load(Ordering::SeqCst) {
        return Err(Error::Storage { doing: "writing".to_owned(), cause: broken() });
    }
    Ok(())
}

fn broken() -> Cause {
    Cause::new(std::io::Error::other("the disk is broken"))
}
