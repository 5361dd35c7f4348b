//! Loads aggregates: from a cached state or the newest snapshot that fits, and then from the events
//! after it.

use std::ops::{ControlFlow, RangeInclusive};

use super::root::{AggregateRoot, LastStored};
use super::snapshots::{SnapshotFault, Snapshots};
use super::{Aggregate, Repository};
use crate::error::{Cause, Error, Result};
use crate::event_store::{Hole, ReadStream};
use crate::extension::EventStoreExt;
use crate::model::{EventId, EventRef, StreamId, StreamState, Timestamp, Version};
use crate::snapshot_store::Snapshot;
use crate::upcast::OnUnreadable;

/// Whether all events of a part of a stream are left.
pub(super) enum Left {
    All,
    /// All but those in this hole, which is at the beginning.
    Without(Hole),
}

impl<A: Aggregate> Repository<A> {
    /// The current aggregate; in its default state if its stream has no events.
    pub(super) fn newest(&self, stream: &StreamId) -> Result<AggregateRoot<A>> {
        let redactions = self.store.redactions();
        let cached = self.cache.as_ref().and_then(|cache| cache.get(stream));
        // It may hold what is redacted.
        let cached = cached.filter(|root| root.provenance.redactions == redactions);
        let cached_at = cached.as_ref().and_then(AggregateRoot::version);
        let root = match cached {
            Some(root) => match self.continue_cached(root)? {
                Some(root) => root,
                None => self.restore(stream, Version::MAX)?,
            },
            None => self.restore(stream, Version::MAX)?,
        };
        if let Some(cache) = self.cache.as_ref().filter(|_| root.version() > cached_at) {
            cache.put(&root);
        }
        Ok(root)
    }

    /// The aggregate as it was at a version; `None` if its stream has no events.
    pub(super) fn at_version(
        &self,
        stream: &StreamId,
        version: Version,
    ) -> Result<Option<AggregateRoot<A>>> {
        let root = self.restore(stream, version)?;
        match root.version() {
            None => Ok(None),
            Some(last) if last < version => Err(Error::VersionAhead {
                stream: stream.clone(),
                asked: version,
                actual: Some(last),
            }),
            Some(_) => Ok(Some(root)),
        }
    }

    /// The aggregate as it was after these versions, and the events of these versions.
    pub(super) fn at_versions(
        &self,
        stream: &StreamId,
        versions: &RangeInclusive<Version>,
    ) -> Result<(AggregateRoot<A>, Vec<A::Event>)> {
        let mut root = AggregateRoot::new(stream.clone());
        if let Some(stored) = self.at_version(stream, *versions.end())? {
            root = stored;
        }
        let count = versions.end().get() - versions.start().get() + 1;
        let events = self.last_events(&root, usize::try_from(count).unwrap_or(usize::MAX))?;
        Ok((root, events))
    }

    /// Reads an aggregate from the store again, up to its version, and returns its last `count`
    /// events.
    pub(super) fn reload(
        &self,
        root: &mut AggregateRoot<A>,
        count: usize,
    ) -> Result<Vec<A::Event>> {
        let Some(last) = root.version() else { return Ok(Vec::new()) };
        if let Some(stored) = self.at_version(&root.stream, last)? {
            *root = stored;
        }
        self.last_events(root, count)
    }

    /// The last `count` stored events of an aggregate.
    fn last_events(&self, root: &AggregateRoot<A>, count: usize) -> Result<Vec<A::Event>> {
        let Some(last) = root.version() else { return Ok(Vec::new()) };
        let before = u64::try_from(count).ok().and_then(|count| last.get().checked_sub(count));
        let mut events = Vec::new();
        let mut failure = None;
        let before = before.and_then(Version::new);
        let read = self.store.read_stream(&root.stream).after(before).as_of_version(last);
        read.for_each(|event| match self.decoder.each(event, |value| events.push(value)) {
            Err(Error::Unreadable { .. }) if self.on_unreadable == OnUnreadable::Skip => {
                ControlFlow::Continue(())
            }
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
            Ok(()) => ControlFlow::Continue(()),
        })?;
        failure.map_or(Ok(events), Err)
    }

    /// The last version of a stream that was recorded at or before a time.
    pub(super) fn version_at(&self, stream: &StreamId, time: Timestamp) -> Result<Option<Version>> {
        let last = self.store.read_stream(stream).as_of_time(time).last()?;
        Ok(last.map(|event| event.version()))
    }

    /// Loads from the newest snapshot that fits, or else from the first event.
    fn restore(&self, stream: &StreamId, to: Version) -> Result<AggregateRoot<A>> {
        let mut root = AggregateRoot::new(stream.clone());
        root.provenance.redactions = self.store.redactions();
        let mut up_to = Some(to);
        while let (Some(snapshots), Some(at)) = (&self.snapshots, up_to) {
            let snapshot = match snapshots.newest_with(stream, at, &mut root.provenance.ignored) {
                Ok(Some(snapshot)) => snapshot,
                Ok(None) => break,
                Err(error) => {
                    let cause = Cause::new(error);
                    snapshots.note_ignored(stream, None, SnapshotFault::Unloadable { cause });
                    break;
                }
            };
            let restored = match self.restore_from(snapshots, &snapshot, to)? {
                // Events after this snapshot were deleted meanwhile. A newer one may fit.
                Ok((_, Left::Without(_))) => {
                    up_to = Some(to);
                    continue;
                }
                Ok((restored, Left::All)) => Ok(restored),
                Err(fault) => Err(fault),
            };
            match restored {
                Ok(mut restored) => {
                    snapshots.stats().used += 1;
                    restored.provenance.ignored = root.provenance.ignored;
                    restored.provenance.redactions = root.provenance.redactions;
                    return Ok(restored);
                }
                Err(fault) => snapshots.note_ignored(stream, Some(snapshot.version), fault),
            }
            root.provenance.ignored = root.provenance.ignored.max(Some(snapshot.version));
            // The minimum ends the loop even if a faulty store returns a snapshot above `at`.
            up_to = snapshot.version.min(at).previous();
        }
        match self.catch_up(&mut root, to)? {
            Left::All => Ok(root),
            Left::Without(hole) if hole.state == StreamState::Deleted => Ok(root),
            Left::Without(hole) => Err(Error::HistoryTruncated {
                stream: stream.clone(),
                last: Version::new(hole.last).unwrap_or(Version::FIRST),
                kind: A::SNAPSHOT_KIND.to_owned(),
            }),
        }
    }

    pub(super) fn restore_from(
        &self,
        snapshots: &Snapshots<A>,
        snapshot: &Snapshot,
        to: Version,
    ) -> Result<Result<(AggregateRoot<A>, Left), SnapshotFault>> {
        let state = match snapshots.restore(snapshot) {
            Ok(state) => state,
            Err(fault) => return Ok(Err(fault)),
        };
        let mut root = AggregateRoot::new(snapshot.stream.clone());
        root.state = state;
        root.provenance.snapshot = Some((snapshot.version, snapshot.taken_at));
        // The read includes the last event of the snapshot: its id proves that the snapshot is of
        // this history, and not ahead of it.
        let read = self.store.read_stream(&snapshot.stream).from(snapshot.version);
        let anchor = Some((snapshot.version, snapshot.event_id));
        let left = self.fold(&mut root, read.as_of_version(to), anchor)?;
        Ok(left.map(|left| (root, left)).ok_or(SnapshotFault::OtherHistory))
    }

    /// The newest state from a cached one; `None` if the event on which it rests is gone.
    fn continue_cached(&self, mut root: AggregateRoot<A>) -> Result<Option<AggregateRoot<A>>> {
        let last = root.provenance.last;
        if let Left::Without(_) = self.catch_up(&mut root, Version::MAX)? {
            return Ok(None);
        }
        // New events may follow a new beginning of the stream, after it was deleted.
        let Some(last) = last.filter(|_| root.provenance.last != last) else {
            return Ok(Some(root).filter(|root| root.provenance.last == last));
        };
        let before = self.store.read_stream(&root.stream).from(last.version).first()?;
        Ok(Some(root).filter(|_| before.is_some_and(|event| event.id() == last.id)))
    }

    /// Applies the events of the stream after a state, up to a version. Returns whether they are all
    /// there; if not, the state is not that of the stream.
    pub(super) fn catch_up(&self, root: &mut AggregateRoot<A>, to: Version) -> Result<Left> {
        let read = self.store.read_stream(&root.stream).after(root.version()).as_of_version(to);
        Ok(self.fold(root, read, None)?.unwrap_or(Left::All))
    }

    /// Applies events. If there is an anchor, the first event must be the anchor; it is in the
    /// state already, and is not applied. Returns whether all events were there; `None` if the anchor
    /// was not found.
    fn fold(
        &self,
        root: &mut AggregateRoot<A>,
        read: ReadStream,
        mut anchor: Option<(Version, EventId)>,
    ) -> Result<Option<Left>> {
        let mut failure = None;
        let mut left = Left::All;
        let visit = |event: EventRef<'_>| {
            match anchor {
                Some(place) if place != (event.version(), event.id()) => {
                    return ControlFlow::Break(());
                }
                Some(_) => anchor = None,
                None => {
                    if let Err(error) = self.apply(root, event) {
                        failure = Some(error);
                        return ControlFlow::Break(());
                    }
                }
            }
            root.provenance.last = Some(LastStored::from(event));
            ControlFlow::Continue(())
        };
        read.for_each_around_holes(visit, |hole| left = Left::Without(hole))?;
        match failure {
            None => Ok(Some(left).filter(|_| anchor.is_none())),
            Some(error) => Err(error),
        }
    }

    fn apply(&self, root: &mut AggregateRoot<A>, event: EventRef<'_>) -> Result<()> {
        match self.decoder.each(event, |value| root.state.apply(value)) {
            Err(error @ Error::Unreadable { .. }) if self.on_unreadable == OnUnreadable::Skip => {
                root.skipped.push(error);
                Ok(())
            }
            decoded => decoded,
        }
    }
}
