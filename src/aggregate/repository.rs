//! [`Repository`]: loads aggregates, executes commands on them, and stores the resulting events.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cache::Cache;
use super::snapshots::Snapshots;
use super::turns::Turn;
use super::{
    Aggregate, AggregateRoot, ExecuteError, Executed, SnapshotPolicy, SnapshotStats, check_names,
};
use crate::codec::{Codec, Json};
use crate::error::{Error, Result};
use crate::event_store::{Append, Appended, EventStore};
use crate::model::{ExpectedVersion, InvalidArgument, NewEvent, StreamId, Timestamp, Version};
use crate::options::Durability;
use crate::snapshot_store::SnapshotStore;
use crate::upcast::{Decoder, OnUnreadable, Upcasters};

/// How often a command is retried after a conflict, by default.
const RETRIES: u32 = 10;

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
    retries: u32,
    durability: Option<Durability>,
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

    /// Loads the aggregate, lets it decide the command, and stores the resulting events.
    ///
    /// If another writer appended to the stream in between, the command is decided again in the new
    /// state, up to [`Repository::retries`] times: no update is lost (optimistic concurrency).
    ///
    /// An aggregate without events decides in its default state.
    ///
    /// # Errors
    /// [`ExecuteError::Rejected`]: the aggregate rejected the command. [`ExecuteError::Conflict`]:
    /// each attempt met a conflict. [`ExecuteError::Store`]: an error of loading, or of
    /// [`EventStore::submit`]. Nothing was stored, except possibly after [`Error::Indeterminate`].
    ///
    /// # Cost
    /// That of [`Repository::load`], and one append if there are events: it blocks until
    /// acknowledged. While callers of this process conflict over one stream, they wait for their
    /// turn, at most one second for each attempt.
    pub fn execute(
        &self,
        id: impl fmt::Display,
        command: &A::Command,
    ) -> Result<Executed<A>, ExecuteError<A::Error>> {
        self.execute_with(id, command, |event| event)
    }

    /// Like [`Repository::execute`], but `with` may add metadata or tags to each event before it is
    /// stored. `with` is called again when the command is decided again.
    ///
    /// # Errors
    /// Those of [`Repository::execute`].
    pub fn execute_with(
        &self,
        id: impl fmt::Display,
        command: &A::Command,
        mut with: impl FnMut(NewEvent) -> NewEvent,
    ) -> Result<Executed<A>, ExecuteError<A::Error>> {
        self.decide_and_store(id, command, &mut with, &mut |append, _| append)
    }

    /// Like [`Repository::execute`], but `also` may add events of other streams to the append,
    /// which is stored atomically: for example to claim a name that must be unique, or to record
    /// that a message was handled.
    ///
    /// `also` takes the append and the aggregate with its new events. It is called again when the
    /// command is decided again, and not at all if the command leads to no event. To add metadata
    /// as well, use [`AggregateRoot::decide_with`] and [`Repository::save_along`].
    ///
    /// ```
    /// use annals::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Serialize, Deserialize)]
    /// # struct Registered { name: String }
    /// # annals::domain_events! { Registered => "Registered" }
    /// # #[derive(Default)]
    /// # struct User;
    /// # impl Aggregate for User {
    /// #     const CATEGORY: &'static str = "user";
    /// #     type Event = Registered;
    /// #     type Command = String;
    /// #     type Error = std::convert::Infallible;
    /// #     fn apply(&mut self, _: Registered) {}
    /// #     fn handle(&self, name: &String) -> Result<Vec<Registered>, Self::Error> {
    /// #         Ok(vec![Registered { name: name.clone() }])
    /// #     }
    /// # }
    /// let store = MemoryStore::new();
    /// let users = Repository::<User>::new(&store);
    /// let register = |id: &str| {
    ///     let claimed = NewEvent::json("NameClaimed", &id)?;
    ///     let claim = |append: Append, _: &_| {
    ///         append.to("name-ada", ExpectedVersion::NoStream, [claimed.clone()])
    ///     };
    ///     users.execute_along(id, &"Ada".to_owned(), claim)
    /// };
    /// register("1")?;
    /// let taken = register("2").unwrap_err();
    /// assert!(taken.to_string().contains("name-ada"), "{taken}");
    /// assert!(users.find("2")?.is_none(), "nothing of it was stored");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Repository::execute`]. [`InvalidArgument::AppendReplaced`] if `also` returns
    /// another append than it was given. If another stream is not at its expected version,
    /// [`ExecuteError::Store`] with the [conflict](Error::is_conflict), without a retry: deciding
    /// again would not help.
    pub fn execute_along(
        &self,
        id: impl fmt::Display,
        command: &A::Command,
        mut also: impl FnMut(Append, &AggregateRoot<A>) -> Append,
    ) -> Result<Executed<A>, ExecuteError<A::Error>> {
        self.decide_and_store(id, command, &mut |event| event, &mut also)
    }

    fn decide_and_store(
        &self,
        id: impl fmt::Display,
        command: &A::Command,
        with: &mut dyn FnMut(NewEvent) -> NewEvent,
        also: &mut dyn FnMut(Append, &AggregateRoot<A>) -> Append,
    ) -> Result<Executed<A>, ExecuteError<A::Error>> {
        let stream = self.stream_id(id)?;
        let mut turn = Turn::behind_others(&stream);
        let mut retries = 0;
        loop {
            let mut root = self.newest(&stream)?;
            root.decide_with(command, &mut *with)?;
            match self.commit(&mut root, &mut *also) {
                Ok(None) => return Ok(Executed::new(root, Vec::new(), None)),
                Ok(Some((appended, events))) => {
                    return Ok(Executed::new(root, events, Some(appended)));
                }
                Err(error) if is_conflict_in(&error, &stream) && retries < self.retries => {
                    retries += 1;
                    turn = turn.or_else(|| Turn::wait(&stream));
                }
                Err(cause) if is_conflict_in(&cause, &stream) => {
                    return Err(ExecuteError::Conflict { stream: root.stream, retries, cause });
                }
                Err(error) => return Err(error.into()),
            }
        }
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
    /// recognises events that it stored already.
    ///
    /// # Cost
    /// One append: it blocks until acknowledged. If the policy requires a snapshot, one more write
    /// without a sync.
    pub fn save(&self, root: &mut AggregateRoot<A>) -> Result<Option<Appended>> {
        self.save_along(root, |append, _| append)
    }

    /// Like [`Repository::save`], but `also` may add events of other streams to the append: see
    /// [`Repository::execute_along`].
    ///
    /// # Errors
    /// Those of [`Repository::save`]; [`InvalidArgument::AppendReplaced`] if `also` returns another
    /// append than it was given.
    pub fn save_along(
        &self,
        root: &mut AggregateRoot<A>,
        mut also: impl FnMut(Append, &AggregateRoot<A>) -> Append,
    ) -> Result<Option<Appended>> {
        Ok(self.commit(root, &mut also)?.map(|(appended, _)| appended))
    }

    /// Stores the uncommitted events, and returns them.
    fn commit(
        &self,
        root: &mut AggregateRoot<A>,
        also: &mut dyn FnMut(Append, &AggregateRoot<A>) -> Append,
    ) -> Result<Option<(Appended, Vec<A::Event>)>> {
        let count = root.encoded().len();
        if count == 0 {
            return Ok(None);
        }
        let expected = ExpectedVersion::from(root.version());
        let mut append = Append::new().to(&root.stream, expected, root.encoded().iter().cloned());
        if let Some(durability) = self.durability {
            append = append.with_durability(durability);
        }
        let append = also(append, root);
        if !begins_with(&append, root) {
            return Err(InvalidArgument::AppendReplaced { stream: root.stream.clone() }.into());
        }
        let of_root = append.events().filter(|(stream, _)| *stream == &root.stream).count();
        let appended = self.store.submit(append)?;
        let events = root.acknowledge(&appended);
        // A replay compared only ids, so the stored events may differ from those decided just now.
        // And `also` may have added events to the aggregate's own stream.
        if appended.is_retry() || of_root != count {
            return Ok(Some((appended, self.reload(root, of_root)?)));
        }
        if let Some(snapshots) = &self.snapshots {
            snapshots.take_if_due(root, &*self.store);
        }
        if let Some(cache) = &self.cache {
            cache.put(root);
        }
        Ok(Some((appended, events)))
    }

    /// Statistics of the snapshots since this repository was created; all zero if it has no
    /// snapshots.
    pub fn snapshot_stats(&self) -> SnapshotStats {
        self.snapshots.as_ref().map(|snapshots| snapshots.stats().clone()).unwrap_or_default()
    }
}

/// Whether the append begins with the events of the aggregate.
fn begins_with<A: Aggregate>(append: &Append, root: &AggregateRoot<A>) -> bool {
    let mut events = append.events();
    root.encoded().iter().all(|own| {
        events
            .next()
            .is_some_and(|(stream, event)| *stream == root.stream && event.id() == own.id())
    })
}

/// Whether this is a conflict in this stream.
fn is_conflict_in(error: &Error, of: &StreamId) -> bool {
    matches!(error, Error::WrongExpectedVersion { stream, .. } if stream == of)
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
