//! [`Store`] implements the traits [`EventStore`], [`SnapshotStore`] and [`ViewStore`].

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::Store;
use crate::error::Result;
#[cfg(feature = "async")]
use crate::event_store::BoxFuture;
use crate::event_store::{
    Append, Appended, EventStore, KeyedResult, KeyedSubmission, PageEnd, PageRequest, StreamInfo,
    StreamsRequest, Submitted, Visitor,
};
use crate::metrics::SubscriptionProgress;
use crate::model::{Epochs, IdempotencyKey, Position, StreamId, Timestamp, Version};
use crate::options::now;
use crate::read::derived;
use crate::snapshot_store::{OnDamaged, Snapshot, SnapshotStore, check_kind};
use crate::view_store::{Checkpoint, ViewCommit, ViewPage, ViewScan, ViewStore, check_view_name};

impl EventStore for Store {
    fn submit(&self, append: Append) -> Result<Appended> {
        self.engine.counted(self.engine.submit(append))
    }

    fn submit_once(&self, key: &IdempotencyKey, submission: KeyedSubmission) -> Result<Submitted> {
        self.engine.counted(self.engine.submit_once(key, submission))
    }

    #[cfg(feature = "async")]
    fn submit_async(&self, append: Append) -> BoxFuture<Result<Appended>> {
        let engine = self.engine.clone();
        Box::pin(async move { engine.counted(engine.submit_task(append).await) })
    }

    #[cfg(feature = "async")]
    fn submit_once_async(
        &self,
        key: IdempotencyKey,
        submission: KeyedSubmission,
    ) -> BoxFuture<Result<Submitted>> {
        let engine = self.engine.clone();
        Box::pin(async move { engine.counted(engine.submit_once_task(key, submission).await) })
    }

    fn find_submitted(&self, key: &IdempotencyKey) -> Result<Option<KeyedResult>> {
        self.engine.find_submitted(key)
    }

    fn read_page(&self, request: &PageRequest, visit: &mut Visitor<'_>) -> Result<PageEnd> {
        self.engine.reader.read_page(request, visit)
    }

    fn read_page_in_memory(
        &self,
        request: &PageRequest,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<PageEnd>> {
        self.engine.reader.read_page_in_memory(request, visit)
    }

    fn head(&self) -> Result<Option<Position>> {
        self.engine.head.get()
    }

    fn stream_version(&self, stream: &StreamId) -> Result<Option<Version>> {
        self.engine.reader.stream_version(stream)
    }

    fn list_streams(&self, request: &StreamsRequest) -> Result<Vec<StreamInfo>> {
        self.engine.reader.list_streams(request)
    }

    fn wait_past(
        &self,
        after: Option<Position>,
        until: Option<Instant>,
        cancelled: &AtomicBool,
    ) -> Result<Option<Position>> {
        self.engine.head.wait_past(after, until, cancelled)
    }

    fn wake(&self) {
        self.engine.head.wake();
    }

    fn epochs(&self) -> Result<Epochs> {
        self.engine.head.get()?;
        Ok(self.engine.epochs.clone())
    }

    fn removals(&self) -> u64 {
        self.engine.deleter.removals()
    }

    fn redactions(&self) -> u64 {
        self.engine.deleter.redactions()
    }

    fn now(&self) -> Timestamp {
        now(&self.engine.clock)
    }

    fn watch_subscription(&self, progress: &Arc<SubscriptionProgress>) {
        self.engine.meters.watch(progress);
    }

    fn handle(&self) -> Arc<dyn EventStore> {
        Arc::new(self.reader_handle())
    }
}

impl SnapshotStore for Store {
    fn save_snapshot(&self, snapshot: &Snapshot, keep: NonZeroUsize) -> Result<()> {
        self.save_snapshot_if(snapshot, keep, &|| true).map(drop)
    }

    fn save_snapshot_if(
        &self,
        snapshot: &Snapshot,
        keep: NonZeroUsize,
        is_current: &dyn Fn() -> bool,
    ) -> Result<bool> {
        snapshot.check()?;
        let derived = self.engine.committer()?.derived();
        self.engine.counted(derived.save_snapshot(snapshot, keep, is_current))
    }

    fn load_snapshot(
        &self,
        kind: &str,
        stream: &StreamId,
        up_to: Version,
    ) -> Result<Option<Snapshot>> {
        self.load_snapshot_with(kind, stream, up_to, &mut |_, _| {})
    }

    fn load_snapshot_with(
        &self,
        kind: &str,
        stream: &StreamId,
        up_to: Version,
        on_damaged: &mut OnDamaged<'_>,
    ) -> Result<Option<Snapshot>> {
        check_kind(kind)?;
        let range = (kind, stream, up_to);
        let (newest, passed_over) = self.engine.read(|disk| derived::load_snapshot(disk, range))?;
        // No lock is held here, so the callback may re-enter the store.
        for (version, error) in passed_over {
            on_damaged(version, error);
        }
        Ok(newest)
    }

    fn delete_snapshots(&self, kind: &str, stream: &StreamId) -> Result<()> {
        check_kind(kind)?;
        self.engine.committer()?.derived().delete_snapshots(kind, stream)
    }

    fn snapshot_handle(&self) -> Arc<dyn SnapshotStore> {
        Arc::new(self.reader_handle())
    }
}

impl ViewStore for Store {
    fn commit_view(&self, commit: &ViewCommit) -> Result<()> {
        commit.check()?;
        commit.check_head(self.engine.head.get()?)?;
        self.engine.counted(self.engine.committer()?.derived().commit_view(commit))
    }

    fn checkpoint(&self, view: &str) -> Result<Option<Checkpoint>> {
        check_view_name(view)?;
        self.engine.read(|disk| derived::checkpoint(disk, view))
    }

    fn view_value(&self, view: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        check_view_name(view)?;
        self.engine.read(|disk| derived::view_value(disk, view, key))
    }

    fn scan_view(&self, scan: &ViewScan) -> Result<ViewPage> {
        check_view_name(&scan.view)?;
        self.engine.read(|disk| derived::scan_view(disk, scan))
    }

    fn list_views(&self) -> Result<Vec<String>> {
        self.engine.read(derived::list_views)
    }

    fn drop_view(&self, view: &str) -> Result<()> {
        check_view_name(view)?;
        self.engine.committer()?.derived().drop_view(view)
    }

    fn view_handle(&self) -> Arc<dyn ViewStore> {
        Arc::new(self.reader_handle())
    }
}
