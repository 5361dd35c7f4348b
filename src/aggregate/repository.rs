//! [`Repository`]: loads aggregates, executes commands on them, and stores the resulting events.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cache::Cache;
use super::request::RETRIES;
use super::snapshots::Snapshots;
use super::{Aggregate, AggregateRoot, SnapshotPolicy, SnapshotStats, check_names};
use crate::codec::{Codec, Json};
use crate::error::{Error, Result};
use crate::event_store::{Appended, EventStore};
use crate::model::{InvalidArgument, StreamId, Timestamp, Version};
use crate::options::Durability;
use crate::snapshot_store::SnapshotStore;
use crate::upcast::{Decoder, OnUnreadable, Upcasters};

/// Loads and stores the aggregates of one type.
///
/// Any number of threads may share it; clones share its cache and its statistics. It does not keep
/// the store open: once the store is closed, its calls fail with [`Error::Closed`].
///
/// See [`Aggregate`] for an example.
pub struct Repository<A: Aggregate> {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) decoder: Decoder<A::Event>,
    pub(super) on_unreadable: OnUnreadable,
    pub(super) snapshots: Option<Arc<Snapshots<A>>>,
    pub(super) cache: Option<Arc<Cache<A>>>,
    pub(super) retries: u32,
    pub(super) durability: Option<Durability>,
}

impl<A: Aggregate> Repository<A> {
    /// Creates a repository over a store. Nothing is read yet.
    pub fn new(store: &(impl EventStore + ?Sized)) -> Self {
        const { check_names(A::CATEGORY, A::SNAPSHOT_KIND) };
        Self {
            store: store.handle(),
            decoder: Decoder::new(),
            on_unreadable: OnUnreadable::Fail,
            snapshots: None,
            cache: None,
            retries: RETRIES,
            durability: None,
        }
    }

    /// Upcasts old events with these upcasters. Call it before [`Repository::cache`]: it replaces
    /// the cache by an empty one, because the cached states were read without these upcasters.
    pub fn upcasters(mut self, upcasters: Upcasters) -> Self {
        self.decoder = Decoder::with(upcasters);
        self.cache = self.cache.map(|cache| Arc::new(cache.emptied()));
        self
    }

    /// Sets what to do with a stored event that cannot be read; by default loading fails. If it is
    /// skipped instead, [`AggregateRoot::skipped`] reports it, and the resulting state is neither
    /// cached nor stored as a snapshot.
    pub fn on_unreadable(mut self, on_unreadable: OnUnreadable) -> Self {
        self.on_unreadable = on_unreadable;
        self
    }

    /// Loads from snapshots, and takes one after a save when the policy requires it. Snapshots are
    /// written as JSON.
    ///
    /// A snapshot is a cache: one that does not decode, has another
    /// [`SNAPSHOT_VERSION`](Aggregate::SNAPSHOT_VERSION), or does not fit the stream is ignored,
    /// and the history is read instead. A snapshot never makes a load or a save fail:
    /// [`Repository::snapshot_stats`] reports its faults.
    pub fn snapshots(self, store: &(impl SnapshotStore + ?Sized), policy: SnapshotPolicy<A>) -> Self
    where
        A: Serialize + DeserializeOwned,
    {
        self.snapshots_as::<Json>(store, policy)
    }

    /// Like [`Repository::snapshots`], with another codec.
    ///
    /// JSON is the safe choice, because it detects a missing field. It cannot represent infinite
    /// numbers, nor maps whose keys are neither text nor numbers. [`Bincode`](crate::Bincode) can,
    /// and is smaller and faster, but it reads the bytes of one field as those of another if the
    /// fields change and [`SNAPSHOT_VERSION`](Aggregate::SNAPSHOT_VERSION) was not raised. A
    /// snapshot names its codec, so you may change the codec at any time.
    pub fn snapshots_as<C: Codec>(
        mut self,
        store: &(impl SnapshotStore + ?Sized),
        policy: SnapshotPolicy<A>,
    ) -> Self
    where
        A: Serialize + DeserializeOwned,
    {
        self.snapshots = Some(Arc::new(Snapshots::new::<C>(store.snapshot_handle(), policy)));
        self
    }

    /// Keeps about this many recently used states in memory, so that loading them reads only newer
    /// events. These are always read: a decision is never based on a stale state.
    pub fn cache(mut self, states: usize) -> Self
    where
        A: Clone,
    {
        self.cache = Some(Arc::new(Cache::new(states)));
        self
    }

    /// Sets how often a command is retried after a conflict; 10 by default.
    ///
    /// The default suffices for any number of threads of this process that work on one aggregate:
    /// after the first conflict, [`Repository::execute`] makes them take turns. Raise it if other
    /// code appends to the stream continuously and without a repository.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Sets the durability of saves, instead of the store's default.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// The stream of the aggregate with this id: the category, `-`, the id.
    ///
    /// # Errors
    /// The id is empty, too long, or contains a control character.
    pub fn stream_id(&self, id: impl fmt::Display) -> Result<StreamId> {
        let (category, id) = (A::CATEGORY, id.to_string());
        if id.is_empty() {
            return Err(InvalidArgument::Empty { what: "aggregate id" }.into());
        }
        Ok(StreamId::new(format!("{category}-{id}"))?)
    }

    /// The id of the aggregate that has this stream: the inverse of [`Repository::stream_id`], for
    /// events that are read by category. `None` for a stream of another category.
    ///
    /// ```
    /// # use annals::prelude::*;
    /// # fn example<Account: Aggregate>(accounts: &Repository<Account>) -> annals::Result<()> {
    /// let stream = accounts.stream_id("a-7")?;
    /// assert_eq!(accounts.id_of(&stream), Some("a-7"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn id_of<'s>(&self, stream: &'s StreamId) -> Option<&'s str> {
        let id = stream.as_str().strip_prefix(A::CATEGORY)?.strip_prefix('-')?;
        Some(id).filter(|id| !id.is_empty())
    }

    /// Loads the current aggregate.
    ///
    /// # Errors
    /// [`Error::AggregateNotFound`], [`Error::Unreadable`], or any error of the store.
    ///
    /// # Cost
    /// Reads the events after the cached state or the newest snapshot that fits, or else all events
    /// of the stream.
    pub fn load(&self, id: impl fmt::Display) -> Result<AggregateRoot<A>> {
        let root = self.load_or_new(id)?;
        if root.version().is_some() {
            return Ok(root);
        }
        Err(Error::AggregateNotFound { stream: root.stream, as_of: None })
    }

    /// Loads the current aggregate; `None` if it does not exist.
    ///
    /// # Errors
    /// [`Error::Unreadable`], or any error of the store.
    pub fn find(&self, id: impl fmt::Display) -> Result<Option<AggregateRoot<A>>> {
        let root = self.load_or_new(id)?;
        Ok(Some(root).filter(|root| root.version().is_some()))
    }

    /// Loads the current aggregate, or a new one in its default state if it does not exist.
    ///
    /// # Errors
    /// [`Error::Unreadable`], or any error of the store.
    pub fn load_or_new(&self, id: impl fmt::Display) -> Result<AggregateRoot<A>> {
        self.newest(&self.stream_id(id)?)
    }

    /// Loads the aggregate as it was at this version.
    ///
    /// # Errors
    /// [`Error::VersionAhead`] if it has not reached that version, [`Error::AggregateNotFound`] if
    /// it does not exist, or those of [`Repository::load`].
    pub fn load_as_of_version(
        &self,
        id: impl fmt::Display,
        version: Version,
    ) -> Result<AggregateRoot<A>> {
        let stream = self.stream_id(id)?;
        let root = self.at_version(&stream, version)?;
        root.ok_or(Error::AggregateNotFound { stream, as_of: None })
    }

    /// Loads the aggregate as it was at this time: with all events that were recorded at or before
    /// it. A time in the future gives the current aggregate.
    ///
    /// # Errors
    /// [`Error::AggregateNotFound`] if the aggregate did not exist at that time, or those of
    /// [`Repository::load`].
    ///
    /// # Cost
    /// That of [`Repository::load`], and a binary search over the log for the time.
    pub fn load_as_of(&self, id: impl fmt::Display, time: Timestamp) -> Result<AggregateRoot<A>> {
        let stream = self.stream_id(id)?;
        let root = match self.version_at(&stream, time)? {
            Some(version) => self.at_version(&stream, version)?,
            None => None,
        };
        root.ok_or(Error::AggregateNotFound { stream, as_of: Some(time) })
    }

    /// Stores the uncommitted events, if the stream is still at the version that was loaded. Does
    /// nothing and returns `None` if there are no uncommitted events.
    ///
    /// If the events were stored before, which their ids show, the aggregate is read again, so that
    /// its state matches the stored events even if they differ.
    ///
    /// # Errors
    /// Those of [`EventStore::submit`]. The aggregate keeps its uncommitted events. After a
    /// conflict, load it again, because its decisions are based on an outdated state. After
    /// [`Error::Indeterminate`], reopen the store and save the same value again: the store
    /// recognises events that it stored already. If they were stored before and cannot be read
    /// again, those of [`Repository::load`]: they are stored, and no longer uncommitted.
    ///
    /// # Cost
    /// One append: it blocks until acknowledged. If the policy requires a snapshot, one more write
    /// without a sync.
    pub fn save(&self, root: &mut AggregateRoot<A>) -> Result<Option<Appended>> {
        let mut append = root.append();
        if let Some(durability) = self.durability {
            append = append.with_durability(durability);
        }
        let count = root.encoded().len();
        if count == 0 {
            return Ok(None);
        }
        let appended = self.store.submit(append)?;
        self.acknowledge(root, &appended, count)?;
        Ok(Some(appended))
    }

    /// Records that an append is stored which began with the uncommitted events of an aggregate, and
    /// returns its events of this aggregate, of which there are `of_root`. Takes a snapshot if one is
    /// due.
    pub(super) fn acknowledge(
        &self,
        root: &mut AggregateRoot<A>,
        appended: &Appended,
        of_root: usize,
    ) -> Result<Vec<A::Event>> {
        let count = root.encoded().len();
        let events = root.acknowledge(appended);
        // A replay compared only ids, so the stored events may differ from those decided just now.
        // And events may have been added to the aggregate's own stream.
        if appended.is_retry() || of_root != count {
            return self.reload(root, of_root);
        }
        if let Some(snapshots) = &self.snapshots {
            snapshots.take_if_due(root, &*self.store);
        }
        if let Some(cache) = &self.cache {
            cache.put(root);
        }
        Ok(events)
    }

    /// Statistics of the snapshots since this repository was created; all zero if it has no
    /// snapshots.
    pub fn snapshot_stats(&self) -> SnapshotStats {
        self.snapshots.as_ref().map(|snapshots| snapshots.stats().clone()).unwrap_or_default()
    }
}

impl<A: Aggregate> Clone for Repository<A> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            decoder: self.decoder.clone(),
            on_unreadable: self.on_unreadable,
            snapshots: self.snapshots.clone(),
            cache: self.cache.clone(),
            retries: self.retries,
            durability: self.durability,
        }
    }
}

impl<A: Aggregate> fmt::Debug for Repository<A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Repository")
            .field("category", &A::CATEGORY)
            .field("on_unreadable", &self.on_unreadable)
            .field("has_snapshots", &self.snapshots.is_some())
            .field("has_cache", &self.cache.is_some())
            .field("retries", &self.retries)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}
