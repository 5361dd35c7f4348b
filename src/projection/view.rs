//! [`View`]: reading a read model that a projection keeps in the store.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::builds::{
    Build, Directory, build_view, parse_value_key, prefix_under, value_key, value_prefix,
};
use super::discarded::{count_discarded, discarded_events};
use super::key::ViewKey;
use super::remove;
use super::unhandled::{
    UnhandledEvent, count_parked, count_skipped, parked_events, skipped_events,
};
use super::writer::decode;
use crate::error::{Error, Result};
use crate::event_store::Direction;
use crate::model::Position;
use crate::view_store::{ViewEntry, ViewScan, ViewStore};

/// How many entries a page holds at most: a bound on the memory of an iterator.
const PAGE_ENTRIES_MAX: usize = 256;

/// The comfortable door to read models, over any [`ViewStore`].
pub trait ViewStoreExt: ViewStore {
    /// The read model that the projection of this name keeps in the store. One that is not there
    /// yet reads as empty.
    fn view(&self, projection: impl Into<String>) -> View {
        View { views: self.view_handle(), projection: projection.into() }
    }

    /// Removes everything that a projection keeps in the store: its read model, its checkpoint,
    /// and what it parked, skipped or discarded. Returns whether anything was there. What it keeps
    /// outside the store is not touched. If it is started again, it begins as if it had never run.
    ///
    /// Stop the projection first;
    /// [`ProjectionManager::remove`](crate::ProjectionManager::remove) checks this.
    ///
    /// # Errors
    /// An invalid name; [`Error::NotAProjection`]: nothing was changed. An I/O error: what is left
    /// is no longer used, and a second call removes it.
    ///
    /// # Cost
    /// Reads the names of all views, and deletes each of those that belong to the projection with
    /// one write.
    fn remove_projection(&self, name: &str) -> Result<bool> {
        remove::remove(&*self.view_handle(), name)
    }
}

impl<S: ViewStore + ?Sized> ViewStoreExt for S {}

/// The read model of one projection, for reading. Each read is of the build that serves at that
/// moment: while a shadow build runs, nothing of it is seen.
///
/// ```
/// use annals::prelude::*;
/// # use annals::{HandlerError, Projection, ProjectionManager, TypedEvent, ViewWriter};
/// # use std::time::Duration;
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Deposited { amount: i64 }
/// # annals::domain_events! { Deposited => "Deposited" }
/// # struct Balances;
/// # impl Projection for Balances {
/// #     type Event = Deposited;
/// #     fn name(&self) -> &str { "balances" }
/// #     fn handle(&self, event: &TypedEvent<Deposited>, view: &mut ViewWriter) -> Result<(), HandlerError> {
/// #         Ok(view.update(event.stream(), |balance: &mut i64| *balance += event.event.amount)?)
/// #     }
/// # }
/// let store = MemoryStore::new();
/// # let projections = ProjectionManager::new(&store).register(Balances)?;
/// # projections.start()?;
/// let deposited = store.append("account-1", ExpectedVersion::Any, [Deposited { amount: 1000 }.encode()?])?;
/// projections.wait_for("balances", deposited.last_position(), Duration::from_secs(60))?;
///
/// let balances = store.view("balances");
/// assert_eq!(balances.get("account-1")?, Some(1000));
/// assert_eq!(balances.entries().iter::<i64>().count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct View {
    views: Arc<dyn ViewStore>,
    projection: String,
}

impl View {
    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::ViewValue`] if it is not a `V`; a key that is too long; damage (G8), an I/O error.
    pub fn get<V: DeserializeOwned>(
        &self,
        key: impl TryInto<ViewKey, Error: Into<Error>>,
    ) -> Result<Option<V>> {
        let key = ViewKey::new(key)?;
        let mut serving = self.serving()?;
        loop {
            let Some(build) = serving else { return Ok(None) };
            let view = self.build_view(build);
            if let Some(value) = self.views.view_value(&view, &value_key(&key))? {
                return decode(&self.projection, &key, &value).map(Some);
            }
            // Nothing there; unless another build was promoted and this one was cleared.
            let now = self.serving()?;
            if now == serving {
                return Ok(None);
            }
            serving = now;
        }
    }

    /// The entries in the order of their keys, as [`ReadView`] says which.
    pub fn entries(&self) -> ReadView {
        ReadView {
            view: self.clone(),
            prefix: value_prefix(),
            after: None,
            up_to: None,
            direction: Direction::Forward,
            limit: None,
            invalid: None,
        }
    }

    /// How far the read model is: all events up to here are in it, do not matter to it, or were put
    /// aside: [`View::parked`], [`View::skipped`].
    ///
    /// # Errors
    /// Damage (G8), a failing disk.
    pub fn position(&self) -> Result<Option<Position>> {
        let mut serving = self.serving()?;
        loop {
            let Some(build) = serving else { return Ok(None) };
            if let Some(checkpoint) = self.views.checkpoint(&self.build_view(build))? {
                return Ok(checkpoint.position);
            }
            let now = self.serving()?;
            if now == serving {
                return Ok(None);
            }
            serving = now;
        }
    }

    /// How the read model is, as it is in the store; `None` if it is not there yet. Whether a
    /// program drives it just now only its [`ProjectionManager`](crate::ProjectionManager) knows.
    ///
    /// # Errors
    /// Damage (G8), a failing disk.
    ///
    /// # Cost
    /// Reads what is noted about parked and skipped events.
    pub fn status(&self) -> Result<Option<ViewStatus>> {
        let views = &*self.views;
        loop {
            let directory = Directory::read(views, &self.projection)?;
            let Some(serving) = directory.serving else { return Ok(None) };
            let position = |build: Build| -> Result<Option<Position>> {
                let checkpoint = views.checkpoint(&self.build_view(build))?;
                Ok(checkpoint.and_then(|checkpoint| checkpoint.position))
            };
            let view = self.build_view(serving);
            let (parked_events, streams) = count_parked(views, &view)?;
            let building = directory
                .building
                .map(|build| -> Result<_> { Ok((build.version, position(build)?)) });
            let status = ViewStatus {
                version: serving.version,
                position: position(serving)?,
                parked_events,
                parked_streams: u64::try_from(streams.len()).unwrap_or(u64::MAX),
                skipped_events: count_skipped(views, &view)?,
                discarded_events: count_discarded(views, &self.projection)?,
                rebuild: building.transpose()?,
            };
            // All of it is of one moment, if no build was promoted meanwhile.
            if Directory::read(views, &self.projection)? == directory {
                return Ok(Some(status));
            }
        }
    }

    /// What is parked in it: at most `limit` events, by stream, then in order.
    ///
    /// # Errors
    /// Damage (G8), a failing disk.
    pub fn parked(&self, limit: usize) -> Result<Vec<UnhandledEvent>> {
        self.of_serving(|view| parked_events(&*self.views, view, None, limit))
    }

    /// What is parked in it after this event, in the order of [`View::parked`]: the next page, also
    /// if the event is no longer parked.
    ///
    /// # Errors
    /// Damage (G8), an I/O error.
    pub fn parked_after(
        &self,
        event: &UnhandledEvent,
        limit: usize,
    ) -> Result<Vec<UnhandledEvent>> {
        self.of_serving(|view| parked_events(&*self.views, view, Some(event), limit))
    }

    /// The events that this read model does not contain, although they match: at most `limit`, in
    /// order. They could not be read, are discarded, or no longer matched when they were retried.
    ///
    /// # Errors
    /// Damage (G8), an I/O error.
    pub fn skipped(&self, limit: usize) -> Result<Vec<UnhandledEvent>> {
        self.of_serving(|view| skipped_events(&*self.views, view, limit))
    }

    /// The events that somebody decided not to handle, in this read model and in every later one:
    /// at most `limit`, in order. See [`ProjectionHandle::discard_parked`].
    ///
    /// # Errors
    /// Damage (G8), an I/O error.
    ///
    /// [`ProjectionHandle::discard_parked`]: crate::ProjectionHandle::discard_parked
    pub fn discarded(&self, limit: usize) -> Result<Vec<UnhandledEvent>> {
        discarded_events(&*self.views, &self.projection, limit)
    }

    /// What is noted in the build that serves, and still does once it is read.
    fn of_serving<T>(&self, read: impl Fn(&str) -> Result<Vec<T>>) -> Result<Vec<T>> {
        loop {
            let Some(build) = self.serving()? else { return Ok(Vec::new()) };
            let found = read(&self.build_view(build))?;
            if self.serving()? == Some(build) {
                return Ok(found);
            }
        }
    }

    fn serving(&self) -> Result<Option<Build>> {
        Ok(Directory::read(&*self.views, &self.projection)?.serving)
    }

    fn build_view(&self, build: Build) -> String {
        build_view(&self.projection, build.generation)
    }
}

impl fmt::Debug for View {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("View").field("projection", &self.projection).finish_non_exhaustive()
    }
}

/// How a read model is: [`View::status`].
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewStatus {
    /// The version of the projection that made what readers see.
    pub version: u32,
    /// See [`View::position`].
    pub position: Option<Position>,
    /// How many events are parked.
    pub parked_events: u64,
    /// Of how many streams.
    pub parked_streams: u64,
    /// How many events were skipped.
    pub skipped_events: u64,
    /// How many events are discarded: see [`View::discarded`].
    pub discarded_events: u64,
    /// The version of the shadow build, if there is one, and how far it is.
    pub rebuild: Option<(u32, Option<Position>)>,
}

/// Which entries of a read model to read.
#[derive(Debug, Clone)]
#[must_use = "nothing is read until entries are taken"]
pub struct ReadView {
    view: View,
    prefix: Vec<u8>,
    after: Option<Vec<u8>>,
    up_to: Option<Vec<u8>>,
    direction: Direction,
    limit: Option<usize>,
    /// The error of a key that was given.
    invalid: Option<Error>,
}

impl ReadView {
    /// Only entries under this key: those whose keys have further parts after it. If a part holds
    /// a 0 byte, the text before that byte counts as such a key too.
    pub fn under(mut self, key: impl TryInto<ViewKey, Error: Into<Error>>) -> Self {
        if let Some(key) = self.take(key) {
            self.prefix = prefix_under(&key);
        }
        self
    }

    /// Only entries whose keys begin with this text.
    pub fn prefix(mut self, text: impl TryInto<ViewKey, Error: Into<Error>>) -> Self {
        if let Some(text) = self.take(text) {
            self.prefix = value_key(&text);
        }
        self
    }

    /// Only entries after this key, in the direction of reading: to go on where a page ended.
    pub fn after(mut self, key: impl TryInto<ViewKey, Error: Into<Error>>) -> Self {
        self.after = self.take(key).map(|key| value_key(&key));
        self
    }

    /// Only entries up to this key, in the direction of reading. The key itself and, if it has
    /// further parts, the entries under it come last.
    pub fn up_to(mut self, key: impl TryInto<ViewKey, Error: Into<Error>>) -> Self {
        self.up_to = self.take(key).map(|key| value_key(&key));
        self
    }

    /// The key, unless it is too long: then reading fails with its error.
    fn take(&mut self, key: impl TryInto<ViewKey, Error: Into<Error>>) -> Option<ViewKey> {
        ViewKey::new(key).map_err(|error| self.invalid = Some(error)).ok()
    }

    /// From the last key to the first.
    pub fn backward(mut self) -> Self {
        self.direction = Direction::Backward;
        self
    }

    /// At most this many.
    pub fn limit(mut self, entries: usize) -> Self {
        self.limit = Some(entries);
        self
    }

    /// Whether a key is after the last that is wanted.
    fn is_beyond(&self, key: &[u8]) -> bool {
        let Some(last) = &self.up_to else { return false };
        match self.direction {
            Direction::Forward => {
                key > last.as_slice() && !key.starts_with(&[last, &[0][..]].concat())
            }
            Direction::Backward => key < last.as_slice(),
        }
    }

    /// The entries. The iterator reads a page at a time, each of one moment, and ends after the
    /// first error.
    ///
    /// # Errors
    /// An item is [`Error::ViewReplaced`] if another build was promoted between two pages, the
    /// error of a key that is too long, or one of those of [`View::get`].
    pub fn iter<V: DeserializeOwned>(self) -> ViewEntries<V> {
        ViewEntries {
            left: self.limit.unwrap_or(usize::MAX),
            read: self,
            build: None,
            page: VecDeque::new(),
            is_over: false,
            value: PhantomData,
        }
    }
}

/// The entries of a read model.
#[derive(Debug)]
pub struct ViewEntries<V> {
    read: ReadView,
    /// The build that the first page was of.
    build: Option<Build>,
    page: VecDeque<ViewEntry>,
    left: usize,
    is_over: bool,
    value: PhantomData<fn() -> V>,
}

impl<V> ViewEntries<V> {
    /// Reads the next page, all of it of the same build.
    fn fill(&mut self) -> Result<()> {
        if let Some(invalid) = self.read.invalid.take() {
            return Err(invalid);
        }
        let view = self.read.view.clone();
        loop {
            let serving = view.serving()?;
            if self.build.is_some() && self.build != serving {
                return Err(Error::ViewReplaced { projection: view.projection });
            }
            let Some(build) = serving else {
                self.is_over = true;
                return Ok(());
            };
            let page = view.views.scan_view(&ViewScan {
                view: view.build_view(build),
                prefix: self.read.prefix.clone(),
                after: self.read.after.clone(),
                direction: self.read.direction,
                entries_max: self.left.min(PAGE_ENTRIES_MAX),
            })?;
            // A build is cleared only after another one serves: if this one still does, the page is
            // whole.
            if view.serving()? != serving {
                continue;
            }
            self.build = serving;
            self.is_over = !page.has_more;
            self.left -= page.entries.len().min(self.left);
            self.read.after = page.entries.last().map(|(key, _)| key.clone());
            self.page = page.entries.into();
            return Ok(());
        }
    }
}

impl<V: DeserializeOwned> Iterator for ViewEntries<V> {
    type Item = Result<(ViewKey, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.page.pop_front() {
                if self.read.is_beyond(&key) {
                    (self.is_over, self.page) = (true, VecDeque::new());
                    return None;
                }
                let Some(key) = parse_value_key(&key) else { continue };
                let value = decode(&self.read.view.projection, &key, &value);
                if value.is_err() {
                    (self.is_over, self.page) = (true, VecDeque::new());
                }
                return Some(value.map(|value| (key, value)));
            }
            if self.is_over || self.left == 0 {
                return None;
            }
            if let Err(error) = self.fill() {
                self.is_over = true;
                return Some(Err(error));
            }
        }
    }
}
