//! Reads through the async API.

use super::Pages;
use crate::error::Result;
use crate::event_store::{Async, Blocking, Events, Place, Read, StreamInfos, Streams};
use crate::model::{Position, RecordedEvent};
use crate::pool;

/// Reads as a task.
impl<P: Place + 'static> Read<P, Async> {
    /// The events, as a stream that reads page by page. It ends after the first error. It ends at
    /// the head at the moment when the first event is wanted.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// use annals::prelude::*;
    /// use annals::AsyncStore;
    /// let store = AsyncStore::new(MemoryStore::new());
    /// for amount in [100, 200, 300] {
    ///     let deposited = NewEvent::json("Deposited", &amount)?;
    ///     store.append("account-1", ExpectedVersion::Any, [deposited]).await?;
    /// }
    /// let mut newest = store.read_stream("account-1").backward().limit(2).events();
    /// let mut amounts = Vec::new();
    /// while let Some(event) = newest.next().await {
    ///     amounts.push(event?.json::<u32>()?);
    /// }
    /// assert_eq!(amounts, [300, 200]);
    /// # Ok::<(), annals::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn events(self) -> Pages<Events> {
        let read = self.in_api::<Blocking>();
        let len_of = |event: &Result<RecordedEvent>| {
            event.as_ref().map_or(0, |event| event.payload().len() + 300)
        };
        Pages::new(move || read.into_iter(), len_of)
    }

    /// All events, and the position up to which they were read: the place for
    /// [`Append::after`](crate::Append::after), see [`Events::read_up_to`]. Use it for few events.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// use annals::prelude::*;
    /// use annals::{Append, AsyncStore, Query};
    /// let store = AsyncStore::new(MemoryStore::new());
    /// let (taken, up_to) = store.read_log().tag("seat:1A").all().await?;
    /// assert!(taken.is_empty());
    /// let reserved = NewEvent::json("SeatReserved", &())?.with_tag("seat:1A");
    /// let append = Append::of([reserved]).fail_if(Query::tag("seat:1A")).after(up_to);
    /// store.submit(append.clone()).await?;
    /// assert!(store.submit(append).await?.is_retry());
    /// # Ok::<(), annals::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// An invalid argument of this read, or an error of the store.
    ///
    /// # Cost
    /// Holds all events in memory.
    pub async fn all(self) -> Result<(Vec<RecordedEvent>, Option<Position>)> {
        let read = self.in_api::<Blocking>();
        let all = move || {
            let mut events = read.into_iter();
            let all = events.by_ref().collect::<Result<_>>()?;
            Ok((all, events.read_up_to()))
        };
        pool::run(all).await
    }

    /// The first event, in the direction of reading, regardless of the limit.
    ///
    /// # Errors
    /// An invalid argument of this read, or an error of the store.
    pub async fn first(self) -> Result<Option<RecordedEvent>> {
        let read = self.in_api::<Blocking>();
        pool::run(move || read.first()).await
    }

    /// The last event, in the direction of reading, regardless of the limit.
    ///
    /// # Errors
    /// An invalid argument of this read, or an error of the store.
    pub async fn last(self) -> Result<Option<RecordedEvent>> {
        let read = self.in_api::<Blocking>();
        pool::run(move || read.last()).await
    }
}

/// Lists as a task.
impl Streams<Async> {
    /// The streams with their versions, read page by page. Streams that are created meanwhile may or
    /// may not be listed.
    pub fn infos(self) -> Pages<StreamInfos> {
        let listing = self.in_api::<Blocking>();
        Pages::new(move || listing.into_iter(), |_| 300)
    }
}
