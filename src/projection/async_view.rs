//! Read models through the async API.

use serde::de::DeserializeOwned;

use super::key::ViewKey;
use super::view::{ReadView, View, ViewEntries, ViewStatus, ViewStoreExt};
use crate::async_store::{AsyncStore, Pages};
use crate::error::{Error, Result};
use crate::event_store::{Async, Blocking, EventStore};
use crate::model::Position;
use crate::pool;
use crate::view_store::ViewStore;

impl<S: EventStore + ViewStore + 'static> AsyncStore<S> {
    /// The read model that the projection with this name keeps in the store: see
    /// [`ViewStoreExt::view`].
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// use annals::prelude::*;
    /// use annals::AsyncStore;
    /// let store = AsyncStore::new(MemoryStore::new());
    /// let balances = store.view("balances");
    /// assert_eq!(balances.get::<i64>("account-1").await?, None);
    /// assert!(balances.entries().limit(10).items::<i64>().next().await.is_none());
    /// # Ok::<(), annals::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn view(&self, projection: impl Into<String>) -> View<Async> {
        self.blocking().view(projection).in_api()
    }
}

/// Reads as a task.
impl View<Async> {
    /// The same view, whose methods block, for those that are not here: see
    /// [`AsyncStore::spawn_blocking`].
    pub fn blocking(&self) -> View {
        self.in_api()
    }

    /// The value of a key; `None` if the read model has no such key, or does not exist (yet).
    ///
    /// # Errors
    /// Those of `get` of the blocking API.
    pub async fn get<V: DeserializeOwned + Send + 'static>(
        &self,
        key: impl TryInto<ViewKey, Error: Into<Error>>,
    ) -> Result<Option<V>> {
        let (view, key) = (self.in_api::<Blocking>(), ViewKey::new(key)?);
        pool::run(move || view.get(key)).await
    }

    /// Reads the entries in the order of their keys. [`ReadView`] selects which.
    pub fn entries(&self) -> ReadView<Async> {
        self.in_api::<Blocking>().entries().in_api()
    }

    /// The position of the read model: see `position` of the blocking API.
    ///
    /// # Errors
    /// Corruption (G8), an I/O error.
    pub async fn position(&self) -> Result<Option<Position>> {
        let view = self.in_api::<Blocking>();
        pool::run(move || view.position()).await
    }

    /// The stored status of the read model: see `status` of the blocking API.
    ///
    /// # Errors
    /// Corruption (G8), an I/O error.
    pub async fn status(&self) -> Result<Option<ViewStatus>> {
        let view = self.in_api::<Blocking>();
        pool::run(move || view.status()).await
    }
}

/// Reads as a task.
impl ReadView<Async> {
    /// Reads the entries, as a stream that reads page by page and ends after the first error. Each
    /// page is consistent.
    ///
    /// # Errors
    /// Those of `iter` of the blocking API.
    pub fn items<V: DeserializeOwned + Send + 'static>(self) -> Pages<ViewEntries<V>> {
        let read = self.in_api::<Blocking>();
        // The blocking iterator bounds its pages by the number of entries too.
        Pages::new(move || read.iter(), |_| 0)
    }
}
