//! [`View`]: reads a read model that a projection keeps in the store.

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
use super::unhandled::{Noted, UnhandledEvent, parked_events, skipped_events};
use super::writer::decode;
use crate::error::{Error, Result};
use crate::event_store::{Blocking, Direction};
use crate::model::Position;
use crate::view_store::{ViewEntry, ViewScan, ViewStore};

/// Largest page, in entries: bounds the memory of an iterator.
const PAGE_ENTRIES_MAX: usize = 256;

/// Convenience methods to read and remove read models, for any [`ViewStore`].
pub trait ViewStoreExt: ViewStore {
    /// The read model that the projection with this name keeps in the store. It reads as empty if
    /// it does not exist yet.
    fn view(&self, projection: impl Into<String>) -> View {
        View { views: self.view_handle(), projection: projection.into(), api: PhantomData }
    }

    /// Removes everything that a projection keeps in the store: its read model, its checkpoint, and
    /// its parked, skipped and discarded events. Returns whether anything was stored. Data outside
    /// the store is not touched. If the projection is started again, it begins as if it had never
    /// run.
    ///
    /// Stop the projection first;
    /// [`ProjectionManager::remove`](crate::ProjectionManager::remove) checks this.
    ///
    /// # Errors
    /// An invalid name; [`Error::NotAProjection`]: nothing was changed. After an I/O error, any
    /// remaining data is no longer used, and a second call removes it.
    ///
    /// # Cost
    /// Reads the names of all views, and deletes each view of the projection with one write.
    fn remove_projection(&self, name: &str) -> Result<bool> {
        remove::remove(&*self.view_handle(), name)
    }
}

impl<S: ViewStore + ?Sized> ViewStoreExt for S {}

/// The read model of one projection, for reading. Each read uses the build that serves at that
/// moment; a shadow build is invisible until it is promoted.
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
pub struct View<D = Blocking> {
    views: Arc<dyn ViewStore>,
    projection: String,
    api: PhantomData<fn() -> D>,
}

impl<D> View<D> {
    /// The same view in another API.
    #[cfg(feature = "async")]
    pub(super) fn in_api<E>(&self) -> View<E> {
        let (views, projection) = (self.views.clone(), self.projection.clone());
        View { views, projection, api: PhantomData }
    }
}

impl View {
    /// The value of a key; `None` if the read model has no such key, or does not exist (yet).
    ///
    /// # Errors
    /// [`Error::ViewValue`] if the value is not a `V`; a key that is too long; corruption (G8), an
    /// I/O error.
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
            // The key does not exist, unless another build was promoted and this one was cleared.
            let now = self.serving()?;
            if now == serving {
                return Ok(None);
            }
            serving = now;
        }
    }

    /// Reads the entries in the order of their keys. [`ReadView`] selects which.
    pub fn entries(&self) -> ReadView {
        ReadView {
            view: self.clone(),
            prefix: value_prefix(),
            after: None,
            up_to: None,
            direction: Direction::Forward,
            limit: None,
            invalid: None,
            api: PhantomData,
        }
    }

    /// The position of the read model: every event up to here was handled, does not match, or is
    /// [parked](View::parked) or [skipped](View::skipped).
    ///
    /// # Errors
    /// Corruption (G8), an I/O error.
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

    /// The stored status of the read model; `None` if it does not exist yet. Only its
    /// [`ProjectionManager`](crate::ProjectionManager) knows whether the projection is running.
    ///
    /// # Errors
    /// Corruption (G8), an I/O error.
    ///
    /// # Cost
    /// Reads the notes of all parked, skipped and discarded events.
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
            let noted = Noted::read(views, &view, |_| {})?;
            let building = directory
                .building
                .map(|build| -> Result<_> { Ok((build.version, position(build)?)) });
            let status = ViewStatus {
                version: serving.version,
                position: position(serving)?,
                parked_events: noted.parked,
                parked_streams: u64::try_from(noted.streams.len()).unwrap_or(u64::MAX),
                skipped_events: noted.skipped,
                discarded_events: count_discarded(views, &self.projection)?,
                rebuild: building.transpose()?,
            };
            // The status is consistent if no build was promoted meanwhile.
            if Directory::read(views, &self.projection)? == directory {
                return Ok(Some(status));
            }
        }
    }

    /// The parked events: at most `limit`, by stream, then by position.
    ///
    /// # Errors
    /// Corruption (G8), an I/O error.
    pub fn parked(&self, limit: usize) -> Result<Vec<UnhandledEvent>> {
        self.of_serving(|view| parked_events(&*self.views, view, None, limit))
    }

    /// The parked events after this one, in the order of [`View::parked`]: the next page. It works
    /// even if this event is no longer parked.
    ///
    /// # Errors
    /// Corruption (G8), an I/O error.
    pub fn parked_after(
        &self,
        event: &UnhandledEvent,
        limit: usize,
    ) -> Result<Vec<UnhandledEvent>> {
        self.of_serving(|view| parked_events(&*self.views, view, Some(event), limit))
    }

    /// The events that this read model does not contain although they match: at most `limit`, in
    /// order. They could not be read, are discarded, or no longer matched when they were retried.
    ///
    /// # Errors
    /// Corruption (G8), an I/O error.
    pub fn skipped(&self, limit: usize) -> Result<Vec<UnhandledEvent>> {
        self.of_serving(|view| skipped_events(&*self.views, view, limit))
    }

    /// The discarded events, which neither this nor any later build handles: at most `limit`, in
    /// order. See [`ProjectionHandle::discard_parked`].
    ///
    /// # Errors
    /// Corruption (G8), an I/O error.
    ///
    /// [`ProjectionHandle::discard_parked`]: crate::ProjectionHandle::discard_parked
    pub fn discarded(&self, limit: usize) -> Result<Vec<UnhandledEvent>> {
        discarded_events(&*self.views, &self.projection, limit)
    }

    /// Reads from the serving build, and repeats the read if another build was promoted meanwhile.
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

impl<D> fmt::Debug for View<D> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("View").field("projection", &self.projection).finish_non_exhaustive()
    }
}

/// The status of a read model: [`View::status`].
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewStatus {
    /// The version of the projection that built what readers see.
    pub version: u32,
    /// See [`View::position`].
    pub position: Option<Position>,
    /// How many events are parked.
    pub parked_events: u64,
    /// How many streams have parked events.
    pub parked_streams: u64,
    /// How many events were skipped.
    pub skipped_events: u64,
    /// How many events are discarded: see [`View::discarded`].
    pub discarded_events: u64,
    /// The version and position of the shadow build, if there is one.
    pub rebuild: Option<(u32, Option<Position>)>,
}

/// Selects the entries of a read model to read.
#[derive(Debug, Clone)]
#[must_use = "nothing is read until entries are taken"]
pub struct ReadView<D = Blocking> {
    view: View,
    prefix: Vec<u8>,
    after: Option<Vec<u8>>,
    up_to: Option<Vec<u8>>,
    direction: Direction,
    limit: Option<usize>,
    /// The error of an invalid key, returned by the first read.
    invalid: Option<Error>,
    api: PhantomData<fn() -> D>,
}

impl<D> ReadView<D> {
    /// The same read in another API.
    #[cfg(feature = "async")]
    pub(super) fn in_api<E>(self) -> ReadView<E> {
        ReadView {
            view: self.view,
            prefix: self.prefix,
            after: self.after,
            up_to: self.up_to,
            direction: self.direction,
            limit: self.limit,
            invalid: self.invalid,
            api: PhantomData,
        }
    }

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

    /// Only entries after this key, in the direction of reading: to continue after a page.
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

    /// Converts a key. If it is too long, reading fails with that error.
    fn take(&mut self, key: impl TryInto<ViewKey, Error: Into<Error>>) -> Option<ViewKey> {
        ViewKey::new(key).map_err(|error| self.invalid = Some(error)).ok()
    }

    /// Reads from the last key to the first.
    pub fn backward(mut self) -> Self {
        self.direction = Direction::Backward;
        self
    }

    /// At most this many entries.
    pub fn limit(mut self, entries: usize) -> Self {
        self.limit = Some(entries);
        self
    }

    /// Whether a key is after the last one to read.
    fn is_beyond(&self, key: &[u8]) -> bool {
        let Some(last) = &self.up_to else { return false };
        match self.direction {
            Direction::Forward => {
                key > last.as_slice() && !key.starts_with(&[last, &[0][..]].concat())
            }
            Direction::Backward => key < last.as_slice(),
        }
    }
}

impl ReadView {
    /// Reads the entries. The iterator reads a page at a time and ends after the first error. Each
    /// page is consistent.
    ///
    /// # Errors
    /// An item is [`Error::ViewReplaced`] if another build was promoted between two pages, the
    /// error of a key that is too long, or an error of [`View::get`].
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

/// An iterator over the entries of a read model.
#[derive(Debug)]
pub struct ViewEntries<V> {
    read: ReadView,
    /// The build that the first page was read from.
    build: Option<Build>,
    page: VecDeque<ViewEntry>,
    left: usize,
    is_over: bool,
    value: PhantomData<fn() -> V>,
}

impl<V> ViewEntries<V> {
    /// Reads the next page, from the same build as the earlier ones.
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
            // A build is cleared only after another one serves. So if this one still serves, the
            // page is complete.
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
