//! [`Store`] implements the traits [`EventStore`], [`SnapshotStore`] and [`ViewStore`].

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use smallvec::{SmallVec, smallvec};

use super::Store;
use crate::commit::{Prepared, PreparedKey, Submission};
use crate::error::{Error, Result};
use crate::event_store::{
    Append, Appended, EventStore, KeyedResult, KeyedSubmission, KeyedWork, Labels, PageEnd,
    PageQuery, StreamInfo, StreamsQuery, Submitted, Visitor,
};
use crate::metrics::SubscriptionProgress;
use crate::model::{Epochs, IdempotencyKey, Position, StreamId, Timestamp, Version};
use crate::options::{Durability, now};
use crate::read::derived;
use crate::read::keys::{Lookup, find_submitted};
use crate::snapshot_store::{OnDamaged, Snapshot, SnapshotStore, check_kind};
use crate::storage::Disk;
use crate::view_store::{Checkpoint, ViewCommit, ViewPage, ViewScan, ViewStore, check_view_name};

impl Store {
    fn submit_now(&self, mut append: Append) -> Result<Appended> {
        let committer = self.engine.committer()?;
        let labels = append.take_labels();
        let prepared = self.engine.prepare(&append)?;
        let durability = append.durability().unwrap_or(self.engine.durability);
        let submission =
            Submission { appends: smallvec![prepared], durability, record: None, key: None };
        let answer = committer.submit(submission).map_err(|error| labels.add_to(error))?;
        answer.appended.into_iter().next().ok_or(Error::Closed)
    }

    fn submit_once_now(
        &self,
        key: &IdempotencyKey,
        submission: KeyedSubmission,
    ) -> Result<Submitted> {
        let engine = &*self.engine;
        let committer = engine.committer()?;
        submission.validate(&engine.limits)?;
        let durability = submission.durability().unwrap_or(engine.durability);
        let mut appends = SmallVec::new();
        let mut alone = KeyedResult::Nothing;
        let mut labels = Labels::default();
        match submission.into_work() {
            KeyedWork::Append(mut append) => {
                labels = append.take_labels();
                appends.push(Prepared::new(&append));
            }
            KeyedWork::Nothing => {}
            KeyedWork::Rejection(reason) => alone = KeyedResult::Rejected(reason),
        }
        // Looked up here, so that the writer has to know only the keys recorded from now on.
        let looked_up_at = engine.key_expiry.last();
        let found = match self.find_submitted(key)? {
            Some(result) if durability == Durability::Buffered => {
                return Ok(Submitted::again(result));
            }
            found => found,
        };
        let key = PreparedKey { key: key.clone(), alone, looked_up_at, found };
        let key = Some(Box::new(key));
        let answer = committer.submit(Submission { appends, durability, record: None, key });
        let answer = answer.map_err(|error| labels.add_to(error))?;
        answer.keyed.ok_or(Error::Closed)
    }
}

impl EventStore for Store {
    fn submit(&self, append: Append) -> Result<Appended> {
        self.engine.counted(self.submit_now(append))
    }

    fn submit_once(&self, key: &IdempotencyKey, submission: KeyedSubmission) -> Result<Submitted> {
        self.engine.counted(self.submit_once_now(key, submission))
    }

    fn find_submitted(&self, key: &IdempotencyKey) -> Result<Option<KeyedResult>> {
        let look_up = |disk: &Disk| find_submitted(disk, key, &self.engine.key_expiry);
        let mut found = self.engine.read(look_up)?;
        // Its events may be visible already: their commit is published before its keys.
        if let (Lookup::Unpublished, Some(committer)) = (&found, self.engine.writes()) {
            committer.wait();
            found = self.engine.read(look_up)?;
        }
        match found {
            Lookup::Done(result) => Ok(result),
            // The commit failed.
            Lookup::Unpublished => Ok(None),
        }
    }

    fn read_page(&self, query: &PageQuery, visit: &mut Visitor<'_>) -> Result<PageEnd> {
        self.engine.reader.read_page(query, visit)
    }

    fn head(&self) -> Result<Option<Position>> {
        self.engine.head.get()
    }

    fn stream_version(&self, stream: &StreamId) -> Result<Option<Version>> {
        self.engine.reader.stream_version(stream)
    }

    fn list_streams(&self, query: &StreamsQuery) -> Result<Vec<StreamInfo>> {
        self.engine.reader.list_streams(query)
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
        snapshot.check()?;
        let derived = self.engine.committer()?.derived();
        self.engine.counted(derived.save_snapshot(snapshot, keep))
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
