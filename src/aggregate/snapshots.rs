//! Takes and reads the snapshots of one kind of aggregate, and counts the results.

use std::fmt;
use std::sync::Arc;

use super::root::{AggregateRoot, Provenance};
use super::{Aggregate, SnapshotContext, SnapshotPolicy};
use crate::codec::{Codec, encode_readable};
use crate::error::{Cause, Result};
use crate::event_store::EventStore;
use crate::model::{ContentType, StreamId, Version};
use crate::snapshot_store::{Snapshot, SnapshotStore};
use crate::sync::{Mutex, MutexGuard};

/// Separates the content type from the state in the bytes of a snapshot. A content type cannot
/// contain it.
const END_OF_CONTENT_TYPE: u8 = b'\n';

/// Why a snapshot is unusable. Nothing is lost: the state can always be rebuilt from the history.
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum SnapshotFault {
    /// It has another [`SNAPSHOT_VERSION`](crate::Aggregate::SNAPSHOT_VERSION).
    #[error("its schema version is {found}, but the code has {known}")]
    OtherVersion {
        /// The schema version of the snapshot.
        found: u32,
        /// The schema version of the code.
        known: u32,
    },
    /// It was written by another codec.
    #[error("it was written as {found}, not as {known}")]
    OtherCodec {
        /// The content type of the snapshot.
        found: String,
        /// The content type that the repository writes.
        known: String,
    },
    /// It does not decode.
    #[error("it does not decode: {cause}")]
    Undecodable {
        /// The error of the codec.
        #[source]
        cause: Cause,
    },
    /// Its last event is not in the stream: the snapshot is ahead of the stream, or of another
    /// history.
    #[error("its last event is not at this version of the stream")]
    OtherHistory,
    /// Its state differs from the history: the state or `apply` was changed without raising
    /// [`SNAPSHOT_VERSION`](crate::Aggregate::SNAPSHOT_VERSION). Raise it. Only
    /// [`Repository::check_snapshots`](crate::Repository::check_snapshots) detects this.
    #[error(
        "its state differs from the history: raise SNAPSHOT_VERSION with every change of the state or of apply"
    )]
    Differs,
    /// The codec changes the state: it decodes another state than it encoded. Change the serde
    /// attributes of the state, or take the snapshots with another codec. Only
    /// [`Repository::check_snapshots`](crate::Repository::check_snapshots) detects this.
    #[error(
        "the codec for {content_type} does not restore the state as it was written: change the serde attributes of the \
         state, or take snapshots with another codec"
    )]
    ChangedByCodec {
        /// The content type that the codec writes.
        content_type: ContentType,
    },
    /// The store could not read it, for example because it is damaged. Verify also reports damage.
    #[error("the store could not read it, so the history was read instead: {cause}")]
    Unloadable {
        /// The error of the store.
        #[source]
        cause: Cause,
    },
}

/// A snapshot that was not used.
#[derive(Debug, Clone)]
pub struct IgnoredSnapshot {
    /// The stream of its aggregate.
    pub stream: StreamId,
    /// The version of its state; `None` if the snapshot could not be read at all.
    pub version: Option<Version>,
    /// Why it was not used.
    pub fault: SnapshotFault,
}

/// A snapshot that could not be written. The append before it is not affected.
#[derive(Debug, Clone)]
pub struct FailedSnapshot {
    /// The stream of its aggregate.
    pub stream: StreamId,
    /// The version of its state.
    pub version: Version,
    /// The error of the codec or the store.
    pub cause: Cause,
}

/// Statistics of the snapshots of a repository and its clones, since it was created. Snapshots
/// never make a load or a save fail, so their faults are reported here.
#[non_exhaustive]
#[derive(Debug, Clone, Default)]
pub struct SnapshotStats {
    /// How many snapshots were written.
    pub written: u64,
    /// How many could not be written.
    pub failed: u64,
    /// The last one that could not be written.
    pub last_failed: Option<FailedSnapshot>,
    /// How many loads began with a snapshot.
    pub used: u64,
    /// How many loads found but ignored, including damaged ones.
    pub ignored: u64,
    /// The last one that was ignored.
    pub last_ignored: Option<IgnoredSnapshot>,
}

impl fmt::Display for SnapshotStats {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { written, failed, used, ignored, .. } = self;
        write!(
            out,
            "snapshots: {written} written, {failed} failed, {used} used, {ignored} ignored"
        )?;
        if let Some(FailedSnapshot { stream, version, cause }) = &self.last_failed {
            write!(out, "; last failed: {stream} at version {version}: {cause}")?;
        }
        if let Some(IgnoredSnapshot { stream, version, fault }) = &self.last_ignored {
            write!(out, "; last ignored: {stream}")?;
            if let Some(version) = version {
                write!(out, " at version {version}")?;
            }
            write!(out, ": {fault}")?;
        }
        Ok(())
    }
}

/// The snapshots of a repository. It calls serde through function pointers, so that a repository
/// without snapshots requires no serde bounds on its aggregate.
pub(super) struct Snapshots<A> {
    store: Arc<dyn SnapshotStore>,
    policy: SnapshotPolicy<A>,
    content_type: ContentType,
    encode: fn(&A) -> Result<Vec<u8>, Cause>,
    decode: fn(&[u8]) -> Result<A, Cause>,
    stats: Mutex<SnapshotStats>,
}

impl<A: Aggregate> Snapshots<A> {
    pub(super) fn new<C: Codec>(store: Arc<dyn SnapshotStore>, policy: SnapshotPolicy<A>) -> Self
    where
        A: serde::Serialize + serde::de::DeserializeOwned,
    {
        Self {
            store,
            policy,
            content_type: C::content_type(),
            encode: encode_readable::<C, A>,
            decode: C::decode::<A>,
            stats: Mutex::new(SnapshotStats::default()),
        }
    }

    pub(super) fn stats(&self) -> MutexGuard<'_, SnapshotStats> {
        self.stats.lock()
    }

    /// The newest snapshot at or below a version, usable or not.
    pub(super) fn newest(&self, stream: &StreamId, up_to: Version) -> Result<Option<Snapshot>> {
        self.store.load_snapshot(A::SNAPSHOT_KIND, stream, up_to)
    }

    /// Like [`Snapshots::newest`], but counts damaged snapshots as ignored, and raises `ignored` to
    /// the highest of their versions.
    pub(super) fn newest_with(
        &self,
        stream: &StreamId,
        up_to: Version,
        ignored: &mut Option<Version>,
    ) -> Result<Option<Snapshot>> {
        let mut note = |version, error| {
            *ignored = (*ignored).max(version);
            let cause = Cause::new(error);
            self.note_ignored(stream, version, SnapshotFault::Unloadable { cause });
        };
        self.store.load_snapshot_with(A::SNAPSHOT_KIND, stream, up_to, &mut note)
    }

    /// Decodes the state of a snapshot. This cannot check whether the snapshot fits the stream.
    pub(super) fn restore(&self, snapshot: &Snapshot) -> Result<A, SnapshotFault> {
        let (found, known) = (snapshot.schema_version, A::SNAPSHOT_VERSION);
        if found != known {
            return Err(SnapshotFault::OtherVersion { found, known });
        }
        let mut parts = snapshot.state.splitn(2, |byte| *byte == END_OF_CONTENT_TYPE);
        let content_type = parts.next().unwrap_or_default();
        if content_type != self.content_type.as_str().as_bytes() {
            return Err(SnapshotFault::OtherCodec {
                found: String::from_utf8_lossy(content_type).into_owned(),
                known: self.content_type.as_str().to_owned(),
            });
        }
        (self.decode)(parts.next().unwrap_or_default())
            .map_err(|cause| SnapshotFault::Undecodable { cause })
    }

    /// Whether the codec decodes a state to the value that it encoded.
    pub(super) fn preserves(&self, state: &A) -> bool
    where
        A: PartialEq,
    {
        let read = (self.encode)(state).and_then(|bytes| (self.decode)(&bytes));
        read.is_ok_and(|read| read == *state)
    }

    pub(super) fn content_type(&self) -> &ContentType {
        &self.content_type
    }

    pub(super) fn note_ignored(
        &self,
        stream: &StreamId,
        version: Option<Version>,
        fault: SnapshotFault,
    ) {
        let mut stats = self.stats();
        stats.ignored += 1;
        stats.last_ignored = Some(IgnoredSnapshot { stream: stream.clone(), version, fault });
    }

    /// Takes a snapshot of a stored state, if the policy requires one. If that fails, the next save
    /// tries again.
    ///
    /// It takes none of a state for which events were skipped: the snapshot would hide them once
    /// the code can read them.
    pub(super) fn take_if_due(&self, root: &mut AggregateRoot<A>, events: &dyn EventStore) {
        let (Provenance { last: Some(last), snapshot, .. }, true) =
            (root.provenance, root.skipped.is_empty())
        else {
            return;
        };
        let since = snapshot.map_or(0, |(version, _)| version.get());
        let context = SnapshotContext {
            version: last.version,
            events_since: last.version.get().saturating_sub(since),
            last_taken_at: snapshot.map(|(_, taken_at)| taken_at),
            now: self.policy.now(events),
        };
        if !self.policy.is_due(&root.state, &context) {
            return;
        }
        let taken = self.take(root, context, events);
        let mut stats = self.stats();
        match taken {
            Ok(false) => {}
            Ok(true) => {
                stats.written += 1;
                drop(stats);
                root.provenance.snapshot = Some((context.version, context.now));
                root.provenance.ignored = None;
            }
            Err(cause) => {
                stats.failed += 1;
                let (stream, version) = (root.stream.clone(), context.version);
                stats.last_failed = Some(FailedSnapshot { stream, version, cause });
            }
        }
    }

    /// Takes a snapshot; returns whether it was saved. No snapshot is taken of a state from before a
    /// redaction: it may hold what was redacted.
    fn take(
        &self,
        root: &AggregateRoot<A>,
        context: SnapshotContext,
        events: &dyn EventStore,
    ) -> Result<bool, Cause> {
        let Some(last) = root.provenance.last else { return Ok(false) };
        let mut state = self.content_type.as_str().as_bytes().to_vec();
        state.push(END_OF_CONTENT_TYPE);
        state.extend((self.encode)(&root.state)?);
        let snapshot = Snapshot {
            kind: A::SNAPSHOT_KIND.to_owned(),
            stream: root.stream.clone(),
            version: last.version,
            event_id: last.id,
            schema_version: A::SNAPSHOT_VERSION,
            taken_at: context.now,
            state,
        };
        // The store keeps the highest versions, so an unusable snapshot of a higher version would
        // outlive every new one.
        if root.provenance.ignored >= Some(last.version) {
            self.store.delete_snapshots(A::SNAPSHOT_KIND, &root.stream).map_err(Cause::new)?;
        }
        let is_current = || events.redactions() == root.provenance.redactions;
        let kept = self.policy.kept();
        self.store.save_snapshot_if(&snapshot, kept, &is_current).map_err(Cause::new)
    }
}
