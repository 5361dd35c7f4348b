//! Deletion from a [`Store`]: single decisions, retentions, scavenging.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;

use super::{Engine, Store};
use crate::deletion::{
    Deleted, Deleter, RecordedDeletion, ScavengeOptions, Scavenged, Seen, Target,
};
use crate::error::{Error, Location, Result};
use crate::extension::EventStoreExt;
use crate::model::{Deletion, InvalidArgument, Retention, RetentionScope, StreamId};
use crate::options::now;
use crate::read::deletions::retentions;
use crate::trace;

impl Store {
    /// Deletes events: the beginning of a stream, a whole stream, or the content of one event (G17).
    ///
    /// The decision is an event of the stream [`DELETIONS_STREAM`](crate::DELETIONS_STREAM), with
    /// reason and author. It is synced before anything is deleted, and continued when the store is
    /// opened again if it was cut short. From the decision on, reads of the stream and appends to it
    /// know that the events are gone. Reads of the log may see some of them until this call returns.
    ///
    /// Positions and versions are never used again: a read goes past the hole, and
    /// [`Read::holes`](crate::Read::holes) reports it. The events take space until the next
    /// [`Store::scavenge`]; after a redaction, the bytes are gone from all files of the store when
    /// the call returns. It does not reach backups, exports, and what subscribers keep.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// use annals::prelude::*;
    /// use annals::Deletion;
    /// let store = Store::open(directory.path().join("shop.annals"))?;
    /// let stream = StreamId::new("visitor-7")?;
    /// store.append(&stream, ExpectedVersion::NoStream, [NewEvent::json("Came", &"Ada")?])?;
    ///
    /// let deleted = store.delete(&Deletion::delete(&stream).because("asked to").by("Grace"))?;
    /// assert_eq!(deleted.events, 1);
    /// assert!(store.read_stream(&stream).first()?.is_none());
    /// assert_eq!(store.deletions()?[0].deletion.reason(), "asked to");
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    /// Nothing is deleted after [`Error::InvalidArgument`], [`Error::Deleted`] (the event to be
    /// redacted is gone), [`Error::PositionAhead`] (the log does not reach it),
    /// [`Error::ReadOnly`], [`Error::Closed`] and [`Error::Poisoned`]. After
    /// [`Error::Indeterminate`], it is found out when the store is opened again.
    ///
    /// After [`Error::DiskFull`], [`Error::Storage`] and damage (G8), it may be decided or not:
    /// [`Store::deletions`] says it. To call this again is right in both cases. If it is decided, but
    /// not carried out completely, the next deletion, the next scavenge or the next open continues
    /// it. This includes a redaction whose old files were not removed within ten seconds, as while a
    /// backup is made. An earlier deletion that cannot be carried out fails each later one in this
    /// way, before it is decided.
    ///
    /// After [`Error::WrongExpectedVersion`], events came in between again and again; nothing was
    /// deleted.
    ///
    /// # Cost
    /// Reads the deleted events, and rewrites each pack of the log that holds one of them. One
    /// deletion runs at a time; it waits for a verification. A redaction also writes all memtables
    /// to table files, and rewrites the table files that hold the event.
    pub fn delete(&self, deletion: &Deletion) -> Result<Deleted> {
        self.engine.deleter.delete(self.engine.target()?, deletion)
    }

    /// What a deletion would do. Nothing is changed; the store may be open for reading only.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], [`Error::Deleted`], [`Error::PositionAhead`], [`Error::Closed`],
    /// [`Error::Storage`], damage (G8).
    ///
    /// # Cost
    /// Reads the events that would be deleted.
    pub fn preview(&self, deletion: &Deletion) -> Result<Deleted> {
        let engine = &*self.engine;
        let seen = Seen { storage: &engine.storage, open: &engine.open, head: &engine.head };
        engine.deleter.preview(seen, deletion)
    }

    /// Whether a deletion would still delete something here. So it finds the deletions of a newer
    /// copy that an older one lacks, after it was restored: pass these to [`Store::delete`].
    ///
    /// Events that the older copy never had are no reason to repeat a deletion.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// use annals::prelude::*;
    /// use annals::Deletion;
    /// let store = Store::open(directory.path().join("shop.annals"))?;
    /// let stream = StreamId::new("visitor-7")?;
    /// store.append(&stream, ExpectedVersion::NoStream, [NewEvent::json("Came", &"Ada")?])?;
    /// store.backup(directory.path().join("monday"))?;
    /// store.delete(&Deletion::delete(&stream).because("asked to"))?;
    ///
    /// let restored = Store::open(directory.path().join("monday"))?;
    /// for lost in store.deletions()? {
    ///     assert!(!store.lacks(&lost.deletion)? && restored.lacks(&lost.deletion)?);
    ///     restored.delete(&lost.deletion)?;
    ///     assert!(!restored.lacks(&lost.deletion)?);
    /// }
    /// assert_eq!(restored.read_stream(&stream).into_iter().count(), 0);
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], [`Error::Closed`], damage (G8).
    ///
    /// # Cost
    /// That of [`Store::preview`].
    pub fn lacks(&self, deletion: &Deletion) -> Result<bool> {
        // Snapshots that were taken after a redaction are no reason to repeat it.
        match self.preview(&deletion.clone().keeping_snapshots()) {
            Ok(preview) => Ok(preview.number.is_some()),
            // Here, the event is deleted, or it never was: not yet, or not in this history.
            Err(
                Error::Deleted { .. }
                | Error::PositionAhead { .. }
                | Error::InvalidArgument(
                    InvalidArgument::OtherEvent { .. } | InvalidArgument::NothingToTombstone { .. },
                ),
            ) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All deletions, in order. To repeat them in an older copy that was restored, pass each
    /// deletion that it [lacks](Store::lacks) to [`Store::delete`].
    ///
    /// # Errors
    /// [`Error::Closed`], damage (G8).
    ///
    /// # Cost
    /// Reads the stream [`DELETIONS_STREAM`](crate::DELETIONS_STREAM).
    pub fn deletions(&self) -> Result<Vec<RecordedDeletion>> {
        let (mut found, mut failure) = (Vec::new(), None);
        let stream = StreamId::deletions();
        self.read_stream(&stream).for_each(|event| {
            match serde_json::from_slice(event.payload()) {
                Ok(deletion) => found.push(RecordedDeletion {
                    number: event.version(),
                    position: event.position(),
                    recorded_at: event.recorded_at(),
                    deletion,
                }),
                Err(error) => {
                    let location = Location::stream(&stream, event.version());
                    let (found, expected) = (error.to_string(), "the text of a deletion");
                    failure = Some(Error::corruption(location, found, expected));
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        failure.map_or(Ok(found), Err)
    }

    /// Sets how long the events of a category or a stream are kept; `None` to keep them forever.
    /// It changes nothing until the next [`Store::scavenge`].
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// use annals::prelude::*;
    /// use annals::{Retention, RetentionScope, ScavengeOptions};
    /// use std::num::NonZeroU64;
    /// let store = Store::open(directory.path().join("shop.annals"))?;
    /// let stream = StreamId::new("visitor-7")?;
    /// let events = (1..=5).map(|visit| NewEvent::json("Came", &visit).unwrap());
    /// store.append(&stream, ExpectedVersion::NoStream, events)?;
    ///
    /// let newest = Retention::newest(NonZeroU64::new(2).unwrap());
    /// store.set_retention(&RetentionScope::Category("visitor".into()), Some(newest))?;
    /// let done = store.scavenge(&ScavengeOptions::new(), |_| {})?;
    /// assert_eq!((done.events, store.read_stream(&stream).into_iter().count()), (3, 2));
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], [`Error::ReadOnly`], [`Error::Closed`], [`Error::Poisoned`]:
    /// nothing is changed. [`Error::Indeterminate`].
    pub fn set_retention(
        &self,
        scope: &RetentionScope,
        retention: Option<Retention>,
    ) -> Result<()> {
        Deleter::set_retention(self.engine.target()?, scope, retention)
    }

    /// The retentions that are set, in the order of their scopes.
    ///
    /// # Errors
    /// [`Error::Closed`], damage (G8).
    pub fn retentions(&self) -> Result<Vec<(RetentionScope, Retention)>> {
        self.engine.read(retentions)
    }

    /// Deletes what the retentions say, and gives the space of all deleted events back.
    ///
    /// The oldest events go first. An event on which the newest snapshot of its aggregate rests
    /// stays, with those after it. The retention of a stream replaces that of its category. It can be
    /// repeated: after an error or a crash, the next one continues. `progress` is called from time to
    /// time; it must not delete or verify, which wait for the scavenge.
    ///
    /// # Errors
    /// Those of [`Store::delete`]; [`Error::Storage`] if the archive cannot be written: the events
    /// that are not in it were not deleted.
    ///
    /// # Cost
    /// Reads the events that are deleted, and of each other stream in a retention the first event;
    /// rewrites the packs that hold a deleted event, but drops whole files where all are deleted;
    /// then rewrites the table files of the families `packs` and `streams` between the first and the
    /// last deleted event, and those of the index. For that, the disk must have space for these files
    /// and half of its reserve; otherwise only what needs no space is done.
    pub fn scavenge(
        &self,
        options: &ScavengeOptions,
        mut progress: impl FnMut(Scavenged),
    ) -> Result<Scavenged> {
        let engine = &*self.engine;
        let now = now(&engine.clock);
        engine.deleter.scavenge(engine.target()?, options, now, &mut progress)
    }

    /// What a scavenge would delete now. Nothing is changed; the store may be open for reading only.
    ///
    /// # Errors
    /// [`Error::Closed`], damage (G8).
    ///
    /// # Cost
    /// Reads the events that would be deleted.
    pub fn preview_scavenge(&self) -> Result<Scavenged> {
        let engine = &*self.engine;
        engine.deleter.preview_scavenge(&engine.storage, now(&engine.clock))
    }
}

impl Engine {
    /// Checks that the log reaches an event that is to be redacted.
    fn target(&self) -> Result<Target<'_>> {
        Ok(Target {
            storage: &self.storage,
            open: &self.open,
            head: &self.head,
            committer: self.committer()?,
            claim: &self.claim,
            index_kinds: self.index_kinds,
            indexed_from: &self.indexed_from,
            disk_reserve_bytes: self.disk_reserve_bytes,
        })
    }

    /// Carries out, on a thread of its own, what was decided before the store was opened.
    pub(super) fn resume_deletions(self: &Arc<Self>) -> Result<()> {
        if !self.deleter.is_pending() {
            return Ok(());
        }
        let engine = self.clone();
        let run = move || {
            let resumed = engine.target().and_then(|target| engine.deleter.resume(target));
            if let Err(error) = resumed {
                trace::event!(warn, %error, "a deletion could not be continued");
                let _ = error;
            }
        };
        let started = thread::Builder::new().name("annals-deletion".to_owned()).spawn(run);
        started.map(drop).map_err(|error| Error::storage("starting the thread of deletions", error))
    }
}
