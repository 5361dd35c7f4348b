//! Snapshots of one kind of aggregate: taking them, reading them, and saying what became of them.

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

/// Stands between the content type and the state in the bytes of a snapshot. No content type holds
/// it.
const END_OF_CONTENT_TYPE: u8 = b'\n';

/// Why a snapshot is of no use. The history says the same as a snapshot would, so none of these is
/// a loss.
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum SnapshotFault {
    /// It is of another [`SNAPSHOT_VERSION`](crate::Aggregate::SNAPSHOT_VERSION).
    #[error("its schema version is {found}, that of the code {known}")]
    OtherVersion {
        /// Its schema version.
        found: u32,
        /// That of the code.
        known: u32,
    },
    /// It was written by another codec.
    #[error("it is written as {found}, not as {known}")]
    OtherCodec {
        /// As what it is written.
        found: String,
        /// As what the repository writes.
        known: String,
    },
    /// It does not decode.
    #[error("it does not decode: {cause}")]
    Undecodable {
        /// What the codec said.
        #[source]
        cause: Cause,
    },
    /// Its last event is not in the stream: it is ahead of it, or of another history.
    #[error("its last event is not at this version of the stream")]
    OtherHistory,
    /// Its state is not the one that the history gives: the state or `apply` has changed, and
    /// [`SNAPSHOT_VERSION`](crate::Aggregate::SNAPSHOT_VERSION) has not. Only
    /// [`Repository::check_snapshots`](crate::Repository::check_snapshots) finds this: raise the
    /// version.
    #[error(
        "its state is not that of the history: raise SNAPSHOT_VERSION with every change of the state or of apply"
    )]
    Differs,
    /// The codec changes the state: what it reads back is another state than what was written. Only
    /// [`Repository::check_snapshots`](crate::Repository::check_snapshots) finds this: change the
    /// serde attributes of the state, or take the snapshots with another codec.
    #[error(
        "the codec for {content_type} does not give the state back as it was written: change the serde attributes of \
         the state, or take snapshots with another codec"
    )]
    ChangedByCodec {
        /// The content type that the codec writes.
        content_type: ContentType,
    },
    /// The store could not read it, such as where it is damaged. Verify tells of damage too.
    #[error("the store could not read it, so the history was read instead: {cause}")]
    Unloadable {
        /// What the store said.
        #[source]
        cause: Cause,
    },
}

/// A snapshot that was not used.
#[derive(Debug, Clone)]
pub struct IgnoredSnapshot {
    /// Of which stream.
    pub stream: StreamId,
    /// At which version; `None` if it could not even be read.
    pub version: Option<Version>,
    /// Why.
    pub fault: SnapshotFault,
}

/// A snapshot that could not be written. The append before it is not affected.
#[derive(Debug, Clone)]
pub struct FailedSnapshot {
    /// Of which stream.
    pub stream: StreamId,
    /// At which version.
    pub version: Version,
    /// What the codec or the store said.
    pub cause: Cause,
}

/// What became of the snapshots of a repository since it was made, its clones included. Snapshots
/// never fail a load or a save, so what goes wrong with them is here.
#[non_exhaustive]
#[derive(Debug, Clone, Default)]
pub struct SnapshotStats {
    /// How many were written.
    pub written: u64,
    /// How many could not be written.
    pub failed: u64,
    /// The last of those.
    pub last_failed: Option<FailedSnapshot>,
    /// How many loads began with one.
    pub used: u64,
    /// How many were found by loads, but of no use, those that are damaged among them.
    pub ignored: u64,
    /// The last of those.
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

/// The snapshots of a repository. What needs serde is in function pointers, so that a repository
/// without snapshots asks nothing of its aggregate.
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

    /// The newest snapshot at or below a version, of use or not.
    pub(super) fn newest(&self, stream: &StreamId, up_to: Version) -> Result<Option<Snapshot>> {
        self.store.load_snapshot(A::SNAPSHOT_KIND, stream, up_to)
    }

    /// Does as [`Snapshots::newest`], and notes what is damaged; the highest version of that into
    /// `ignored` too.
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

    /// The state of a snapshot, as far as it can be judged without the stream.
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

    /// Whether the codec gives a state back as it was written.
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

    /// Takes a snapshot of a stored state, if the policy wants one. Where that fails, the next save
    /// asks again.
    ///
    /// None is taken of a state from which events were skipped: it would hide them once the code
    /// can read them.
    pub(super) fn take_if_due(&self, root: &mut AggregateRoot<A>, events: &dyn EventStore) {
        let (Provenance { last: Some(tip), snapshot: last, .. }, true) =
            (root.provenance, root.skipped.is_empty())
        else {
            return;
        };
        let since = last.map_or(0, |(version, _)| version.get());
        let context = SnapshotContext {
            version: tip.version,
            events_since: tip.version.get().saturating_sub(since),
            last_taken_at: last.map(|(_, taken_at)| taken_at),
            now: self.policy.now(events),
        };
        if !self.policy.is_due(&root.state, &context) {
            return;
        }
        let taken = self.take(root, context);
        let mut stats = self.stats();
        match taken {
            Ok(()) => {
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

    fn take(&self, root: &AggregateRoot<A>, context: SnapshotContext) -> Result<(), Cause> {
        let Some(tip) = root.provenance.last else { return Ok(()) };
        let mut state = self.content_type.as_str().as_bytes().to_vec();
        state.push(END_OF_CONTENT_TYPE);
        state.extend((self.encode)(&root.state)?);
        let snapshot = Snapshot {
            kind: A::SNAPSHOT_KIND.to_owned(),
            stream: root.stream.clone(),
            version: tip.version,
            event_id: tip.id,
            schema_version: A::SNAPSHOT_VERSION,
            taken_at: context.now,
            state,
        };
        // A useless one of a higher version would outlive every new one, for the highest versions
        // are kept.
        if root.provenance.ignored >= Some(tip.version) {
            self.store.delete_snapshots(A::SNAPSHOT_KIND, &root.stream).map_err(Cause::new)?;
        }
        self.store.save_snapshot(&snapshot, self.policy.kept()).map_err(Cause::new)
    }
}
