//! [`Repository`]: loads aggregates, has them decide, and stores what happens.

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

/// How often a command is decided again after a conflict, unless said otherwise.
const RETRIES: u32 = 10;

/// The aggregates of one kind in a store.
///
/// It may be shared by any number of threads; clones share its cache and its figures. It does not
/// keep the store open: once the store is closed, its calls fail with [`Error::Closed`].
///
/// [`Aggregate`] has an example of its use.
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
    /// The aggregates of this kind in a store. Nothing is read yet.
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

    /// Reads old events as these make them. Say it before [`Repository::cache`]: states that are
    /// kept already were read otherwise, and are kept no longer.
    pub fn upcasters(mut self, upcasters: Upcasters) -> Self {
        self.decoder = Decoder::with(upcasters);
        self.cache = self.cache.map(|cache| Arc::new(cache.emptied()));
        self
    }

    /// What to do with a stored event that cannot be read: by default loading fails. Where it is
    /// skipped instead, [`AggregateRoot::skipped`] says so, and neither a snapshot nor the cache
    /// keeps such a state.
    pub fn on_unreadable(mut self, on_unreadable: OnUnreadable) -> Self {
        self.on_unreadable = on_unreadable;
        self
    }

    /// Loads from snapshots, and takes them after saves where the policy wants one. They are
    /// written as JSON.
    ///
    /// A snapshot is a cache: one that does not decode, is of another
    /// [`SNAPSHOT_VERSION`](Aggregate::SNAPSHOT_VERSION), or does not fit the stream is ignored,
    /// and the history read instead. It never fails a load or a save: see
    /// [`Repository::snapshot_stats`].
    pub fn snapshots(self, store: &(impl SnapshotStore + ?Sized), policy: SnapshotPolicy<A>) -> Self
    where
        A: Serialize + DeserializeOwned,
    {
        self.snapshots_as::<Json>(store, policy)
    }

    /// Does as [`Repository::snapshots`], with another codec.
    ///
    /// JSON is the safe choice: a field that is missing is noticed. It has no form for maps whose
    /// keys are neither text nor numbers, nor for infinite numbers; [`Bincode`](crate::Bincode)
    /// has, and is smaller and faster, but reads the bytes of other fields as its own where nobody
    /// has raised [`SNAPSHOT_VERSION`](Aggregate::SNAPSHOT_VERSION). Snapshots say by which codec
    /// they were written, so it may be changed at any time.
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

    /// Keeps about this many states in memory, those that were last used, so that loading them
    /// reads only what is new. What is new is always read: a decision never rests on a stale state.
    pub fn cache(mut self, states: usize) -> Self
    where
        A: Clone,
    {
        self.cache = Some(Arc::new(Cache::new(states)));
        self
    }

    /// How often a command is decided again because others were faster; 10 by default.
    ///
    /// Threads of this process that work on one aggregate need no more, however many they are: once
    /// one of them met a conflict, [`Repository::execute`] has them take turns. What does need more
    /// is an aggregate whose stream others append to without pause and without a repository.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// What saves survive once acknowledged, instead of the store's own setting.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// The stream of the aggregate with this id: the category, `-`, the id.
    ///
    /// # Errors
    /// The id is empty, too long, or holds a control character.
    pub fn stream_id(&self, id: impl fmt::Display) -> Result<StreamId> {
        let (category, id) = (A::CATEGORY, id.to_string());
        if id.is_empty() {
            return Err(InvalidArgument::Empty { what: "aggregate id" }.into());
        }
        Ok(StreamId::new(format!("{category}-{id}"))?)
    }

    /// The id of the aggregate whose stream this is: what [`Repository::stream_id`] makes it of,
    /// such as for what is read or followed by category. `None` for a stream of another category.
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

    /// Loads the aggregate, has it decide the command, and stores what happens. If others stored
    /// something in between, the command is decided again in the new state, up to
    /// [`Repository::retries`] times: no update is lost.
    ///
    /// An aggregate to which nothing has happened yet decides in its default state.
    ///
    /// # Errors
    /// [`ExecuteError::Rejected`]: the aggregate refuses. [`ExecuteError::Conflict`]: others were
    /// faster each time. [`ExecuteError::Store`]: an error of loading, or of
    /// [`EventStore::submit`]. Nothing has happened, but after [`Error::Indeterminate`] it may
    /// have.
    ///
    /// # Cost
    /// That of [`Repository::load`], and where something happens, one append: it blocks until
    /// acknowledged. While callers of this process meet conflicts over one stream, all of them wait
    /// there for their turn, each at most a second a try.
    pub fn execute(
        &self,
        id: impl fmt::Display,
        command: &A::Command,
    ) -> Result<Executed<A>, ExecuteError<A::Error>> {
        self.execute_with(id, command, |event| event)
    }

    /// Does as [`Repository::execute`], and lets `with` add metadata or tags to each event that is
    /// to be stored. It is called again where the command is decided again.
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

    /// Does as [`Repository::execute`], and lets `also` add events of other streams to the append,
    /// which is stored whole or not at all: a claim of a name that must be unique, a mark that a
    /// message was handled. It is given the append and the aggregate as it will be, and is called
    /// again where the command is decided again; not at all, where the command leads to no event.
    /// To add metadata as well, use [`AggregateRoot::decide_with`] and [`Repository::save_along`].
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
    /// Those of [`Repository::execute`]. [`InvalidArgument::AppendReplaced`] where `also` gives
    /// back another append than it was given. Where another stream is not as expected,
    /// [`ExecuteError::Store`] with the [conflict](Error::is_conflict), at once: to decide again
    /// would not help.
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

    /// The aggregate as it is now.
    ///
    /// # Errors
    /// [`Error::AggregateNotFound`], [`Error::Unreadable`], or what the store finds.
    ///
    /// # Cost
    /// Reads the events since the cached state, since the newest snapshot that fits, or else all.
    pub fn load(&self, id: impl fmt::Display) -> Result<AggregateRoot<A>> {
        let root = self.load_or_new(id)?;
        if root.version().is_some() {
            return Ok(root);
        }
        Err(Error::AggregateNotFound { stream: root.stream, as_of: None })
    }

    /// The aggregate as it is now; `None` if nothing has ever happened to it.
    ///
    /// # Errors
    /// [`Error::Unreadable`], or what the store finds.
    pub fn find(&self, id: impl fmt::Display) -> Result<Option<AggregateRoot<A>>> {
        let root = self.load_or_new(id)?;
        Ok(Some(root).filter(|root| root.version().is_some()))
    }

    /// The aggregate as it is now, or one to which nothing has happened.
    ///
    /// # Errors
    /// [`Error::Unreadable`], or what the store finds.
    pub fn load_or_new(&self, id: impl fmt::Display) -> Result<AggregateRoot<A>> {
        self.newest(&self.stream_id(id)?)
    }

    /// The aggregate as it was when this version was its last.
    ///
    /// # Errors
    /// [`Error::VersionAhead`] if it has not got there, [`Error::AggregateNotFound`] if nothing has
    /// ever happened to it, or those of [`Repository::load`].
    pub fn load_as_of_version(
        &self,
        id: impl fmt::Display,
        version: Version,
    ) -> Result<AggregateRoot<A>> {
        let stream = self.stream_id(id)?;
        let root = self.at_version(&stream, version)?;
        root.ok_or(Error::AggregateNotFound { stream, as_of: None })
    }

    /// The aggregate as it was at this time: with all events that were recorded then or before. For
    /// a time to come, as it is now.
    ///
    /// # Errors
    /// [`Error::AggregateNotFound`] if nothing had happened to it by then, or those of
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

    /// Stores what is uncommitted, if the stream is as it was loaded. `None` if nothing is
    /// uncommitted: then nothing is done.
    ///
    /// Where it was stored before, which the ids of the events tell, the aggregate is read again:
    /// its state is what is stored, also where that differs.
    ///
    /// # Errors
    /// Those of [`EventStore::submit`]. The aggregate keeps what is uncommitted. After a conflict
    /// load it again, for its decisions rest on what is no longer so. After
    /// [`Error::Indeterminate`] reopen the store and save the same value again: if it was stored
    /// after all, that is recognised.
    ///
    /// # Cost
    /// One append: it blocks until acknowledged. Where the policy wants a snapshot, one more write,
    /// without a sync.
    pub fn save(&self, root: &mut AggregateRoot<A>) -> Result<Option<Appended>> {
        self.save_along(root, |append, _| append)
    }

    /// Does as [`Repository::save`], together with events of other streams that `also` adds to the
    /// append: see [`Repository::execute_along`].
    ///
    /// # Errors
    /// Those of [`Repository::save`]; [`InvalidArgument::AppendReplaced`] where `also` gives back
    /// another append than it was given.
    pub fn save_along(
        &self,
        root: &mut AggregateRoot<A>,
        mut also: impl FnMut(Append, &AggregateRoot<A>) -> Append,
    ) -> Result<Option<Appended>> {
        Ok(self.commit(root, &mut also)?.map(|(appended, _)| appended))
    }

    /// Stores what is uncommitted, and returns it.
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
        // Of a replay only ids were compared: what happened is what is stored, not what was decided
        // just now. And something may have been added to the aggregate's own stream.
        if appended.is_replay() || of_root != count {
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

    /// What became of the snapshots since this repository was made; nothing, if it has none.
    pub fn snapshot_stats(&self) -> SnapshotStats {
        self.snapshots.as_ref().map(|snapshots| snapshots.stats().clone()).unwrap_or_default()
    }
}

/// Whether the events of the aggregate are first.
fn begins_with<A: Aggregate>(append: &Append, root: &AggregateRoot<A>) -> bool {
    let mut events = append.events();
    root.encoded().iter().all(|own| {
        events
            .next()
            .is_some_and(|(stream, event)| *stream == root.stream && event.id() == own.id())
    })
}

/// Whether others were faster in this stream.
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
