//! [`AsyncStore`]: a store for tasks.

mod future_set;
mod pages;
mod read;
mod subscription;
mod parallel;

use std::fmt;
use std::sync::Arc;

pub use pages::Pages;
pub use parallel::AsyncParallelSubscription;
pub use subscription::AsyncSubscription;

use crate::error::{Error, Result};
use crate::event_store::{
    Append, Appended, Async, BoxFuture, EventStore, HeadWatch, KeyedResult, KeyedSubmission,
    ReadLog, ReadStream, Streams, Submitted,
};
use crate::extension::EventStoreExt;
#[cfg(feature = "rocksdb")]
use crate::health::Health;
#[cfg(feature = "rocksdb")]
use crate::metrics::StoreMetrics;
use crate::model::{Epochs, ExpectedVersion, IdempotencyKey, NewEvent, Position, StreamId};
use crate::model::{Timestamp, Version};
use crate::pool;
#[cfg(feature = "rocksdb")]
use crate::store_options::StoreOptions;
use crate::subscription::SubscriptionBuilder;

#[cfg(not(feature = "rocksdb"))]
use crate::memory::MemoryStore as DefaultStore;
#[cfg(feature = "rocksdb")]
use crate::store::Store as DefaultStore;

/// A store for the tasks of any async runtime. Its methods have the names of the blocking
/// ones and return futures, or streams in the sense of `futures`. Clones share the store.
///
/// ```
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("bank.annals");
/// # futures_lite::future::block_on(async {
/// use annals::prelude::*;
/// use annals::AsyncStore;
///
/// let store = AsyncStore::open(&path).await?;
/// let opened = NewEvent::json("Opened", &"Ada")?;
/// store.append("account-1", ExpectedVersion::NoStream, [opened]).await?;
///
/// let mut events = store.read_stream("account-1").events();
/// let first = events.next().await.expect("an event was appended")?;
/// assert_eq!(first.json::<String>()?, "Ada");
///
/// let mut following = store.subscribe().category("account").start().await?;
/// assert!(matches!(following.next().await, Some(Ok(Delivery::Event(_)))));
/// store.close().await?;
/// # Ok::<(), annals::Error>(())
/// # }).unwrap();
/// ```
///
/// # Threads
/// No method waits for the disk on the thread that polls its future; events are encoded there. One
/// thread commits the appends of all tasks, many with one sync; one wakes the subscriptions; and at
/// most 16 threads, shared by all stores of the process, read from disk. They are started when they
/// are first needed. `spawn_blocking` and other long calls use further threads of the crate
/// `blocking`.
///
/// # Cancellation
/// A dropped future cancels nothing that was submitted. An append is submitted some time after its
/// future is first polled; from then on it is stored whole or not at all, whether or not anything
/// waits for it. To find out, append the same events again: it is a retry if they are stored. With
/// an idempotency key, [`AsyncStore::find_submitted`] finds its result. Dropping a read or a
/// subscription ends it.
///
/// # Backpressure
/// The bytes of appends that wait to be committed are bounded
/// ([`StoreOptions::async_waiting_bytes`](crate::StoreOptions::async_waiting_bytes)): further
/// appends wait before they are submitted, in order.
pub struct AsyncStore<S: EventStore + 'static = DefaultStore> {
    inner: Arc<Inner<S>>,
}

struct Inner<S: EventStore + 'static> {
    /// `None` only while this is dropped.
    store: Option<Arc<S>>,
    api: Async,
}

/// Closing a store writes to disk, which a task must not do: a pool does it.
impl<S: EventStore + 'static> Drop for Inner<S> {
    fn drop(&mut self) {
        let store = self.store.take();
        pool::finish(move || drop(store));
    }
}

impl<S: EventStore + 'static> AsyncStore<S> {
    /// Opens the async API to a store.
    pub fn new(store: S) -> Self {
        let watch = Arc::new(HeadWatch::new(store.handle()));
        let inner = Inner { store: Some(Arc::new(store)), api: Async { watch } };
        Self { inner: Arc::new(inner) }
    }

    /// The store itself, whose methods may block: see [`AsyncStore::spawn_blocking`].
    pub fn blocking(&self) -> &S {
        self.shared()
    }

    fn shared(&self) -> &Arc<S> {
        let Some(store) = &self.inner.store else {
            unreachable!("the store is taken out when the last `AsyncStore` is dropped")
        };
        store
    }

    /// Runs work that may block, such as a backup, on a thread of a pool. If the future is dropped
    /// after it was polled, the work is completed all the same.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let (path, copy) = (directory.path().join("a"), directory.path().join("b"));
    /// # futures_lite::future::block_on(async {
    /// use annals::AsyncStore;
    /// let store = AsyncStore::open(&path).await?;
    /// let copied = store.spawn_blocking(move |store| store.backup(&copy)).await?;
    /// assert_eq!(copied.head, None);
    /// # Ok::<(), annals::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&S) -> T + Send + 'static,
    ) -> T {
        let store = self.shared().clone();
        pool::unblock(move || work(&store)).await
    }

    /// Appends events to one stream: see [`EventStoreExt::append`]. The future does not borrow the
    /// store, so it can be spawned. It does not keep the store open
    /// either.
    ///
    /// # Errors
    /// See [`EventStore::submit`]. What happens if the future is dropped: see [`AsyncStore`].
    ///
    /// # Cost
    /// One hand-over to the thread that commits, and back. Tasks that append at the same time share
    /// a write and a sync.
    pub fn append<N>(
        &self,
        stream: N,
        expected: ExpectedVersion,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> BoxFuture<Result<Appended>>
    where
        N: TryInto<StreamId, Error: Into<Error>>,
    {
        self.submit(Append::new().to(stream, expected, events))
    }

    /// Appends events to one or several streams: see [`EventStore::submit`].
    ///
    /// # Errors
    /// See [`EventStore::submit`]. What happens if the future is dropped: see [`AsyncStore`].
    pub fn submit(&self, append: Append) -> BoxFuture<Result<Appended>> {
        self.blocking().submit_async(append)
    }

    /// Does a request once, however often it is sent (G15): see [`EventStore::submit_once`].
    ///
    /// # Errors
    /// See [`EventStore::submit_once`]. What happens if the future is dropped: see [`AsyncStore`].
    pub fn submit_once(
        &self,
        key: &IdempotencyKey,
        submission: KeyedSubmission,
    ) -> BoxFuture<Result<Submitted>> {
        self.blocking().submit_once_async(key.clone(), submission)
    }

    /// The recorded result of a request: see [`EventStore::find_submitted`].
    ///
    /// # Errors
    /// See [`EventStore::find_submitted`].
    pub async fn find_submitted(&self, key: &IdempotencyKey) -> Result<Option<KeyedResult>> {
        let key = key.clone();
        self.read(move |store| store.find_submitted(&key)).await
    }

    /// Reads the log.
    pub fn read_log(&self) -> ReadLog<Async> {
        self.blocking().read_log().in_api()
    }

    /// Reads one stream. A stream that has no events is empty.
    pub fn read_stream<N>(&self, stream: N) -> ReadStream<Async>
    where
        N: TryInto<StreamId, Error: Into<Error>>,
    {
        self.blocking().read_stream(stream).in_api()
    }

    /// Lists streams.
    pub fn streams(&self) -> Streams<Async> {
        self.blocking().streams().in_api()
    }

    /// Subscribes to the log, a stream or a category: catches up, then continues live.
    pub fn subscribe(&self) -> SubscriptionBuilder<Async> {
        self.blocking().subscribe().in_api(self.inner.api.clone()).0
    }

    /// The last published position; `None` while the log is empty. It needs no disk.
    ///
    /// # Errors
    /// Only [`Closed`](Error::Closed).
    pub fn head(&self) -> Result<Option<Position>> {
        self.blocking().head()
    }

    /// Waits until the head is past `after`, and returns it. To limit the wait, use the timeout of
    /// your runtime.
    ///
    /// # Errors
    /// [`Closed`](Error::Closed) as soon as the store is closed.
    pub async fn wait_past(&self, after: Option<Position>) -> Result<Option<Position>> {
        self.inner.api.watch.wait_past(after).await
    }

    /// The version of the last event of a stream; `None` if it has none.
    ///
    /// # Errors
    /// Corruption, or an I/O error.
    pub async fn stream_version(&self, stream: &StreamId) -> Result<Option<Version>> {
        let stream = stream.clone();
        self.read(move |store| store.stream_version(&stream)).await
    }

    /// The last position that was recorded at this time or before: see
    /// [`EventStoreExt::position_at`].
    ///
    /// # Errors
    /// An error of the store.
    pub async fn position_at(&self, time: Timestamp) -> Result<Option<Position>> {
        self.read(move |store| store.position_at(time)).await
    }

    /// The epochs of the log.
    ///
    /// # Errors
    /// Only [`Closed`](Error::Closed).
    pub fn epochs(&self) -> Result<Epochs> {
        self.blocking().epochs()
    }

    /// Reads through a handle that does not keep the store open.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn EventStore) -> T + Send + 'static,
    ) -> T {
        let store = self.blocking().handle();
        pool::run(move || work(&*store)).await
    }
}

#[cfg(feature = "rocksdb")]
impl AsyncStore {
    /// Opens the store in this directory, as [`Store::open`](crate::Store::open) does. To open it
    /// with options, see [`AsyncStore::open_with`].
    ///
    /// # Errors
    /// Those of [`Store::open`](crate::Store::open).
    pub async fn open(path: impl AsRef<std::path::Path>) -> Result<Self> {
        Self::open_with(StoreOptions::default(), path).await
    }

    /// Opens the store in this directory with options, as
    /// [`StoreOptions::open`](crate::StoreOptions::open) does.
    ///
    /// # Errors
    /// Those of [`StoreOptions::open`](crate::StoreOptions::open).
    pub async fn open_with(
        options: StoreOptions,
        path: impl AsRef<std::path::Path>,
    ) -> Result<Self> {
        let path = path.as_ref().to_owned();
        // If this future is dropped, its `AsyncStore` closes the store on another thread.
        pool::unblock(move || options.open(path).map(Self::new)).await
    }

    /// Opens the store like [`AsyncStore::open_with`], but waits up to `timeout` while it is open
    /// elsewhere: see [`StoreOptions::open_within`](crate::StoreOptions::open_within).
    ///
    /// # Errors
    /// Those of [`StoreOptions::open_within`](crate::StoreOptions::open_within).
    pub async fn open_within(
        options: StoreOptions,
        path: impl AsRef<std::path::Path>,
        timeout: std::time::Duration,
    ) -> Result<Self> {
        let path = path.as_ref().to_owned();
        pool::unblock(move || options.open_within(path, timeout).map(Self::new)).await
    }

    /// Makes everything acknowledged so far survive a power loss: see
    /// [`Store::sync`](crate::Store::sync).
    ///
    /// # Errors
    /// Those of [`Store::sync`](crate::Store::sync).
    pub async fn sync(&self) -> Result<()> {
        self.spawn_blocking(DefaultStore::sync).await
    }

    /// What the store counts: see [`Store::metrics`](crate::Store::metrics).
    ///
    /// # Errors
    /// Those of [`Store::metrics`](crate::Store::metrics).
    pub async fn metrics(&self) -> Result<StoreMetrics> {
        self.spawn_blocking(DefaultStore::metrics).await
    }

    /// Whether the store works: see [`Store::health`](crate::Store::health).
    pub async fn health(&self) -> Health {
        self.spawn_blocking(DefaultStore::health).await
    }

    /// Closes the store for all its users, readers and subscriptions. Appends that are submitted but
    /// not committed get [`Closed`](Error::Closed), and subscriptions end.
    ///
    /// Dropping the last `AsyncStore` closes the store too, on another thread, and does not report
    /// when that has ended: await this before opening the directory again. The thread that dropped
    /// it waits for that when it ends, so that a program may return from `main` at once; before
    /// `std::process::exit`, await this.
    ///
    /// # Errors
    /// Those of [`Store::close`](crate::Store::close).
    pub async fn close(&self) -> Result<()> {
        self.spawn_blocking(|store| store.clone().close()).await
    }
}

impl<S: EventStore + 'static> Clone for AsyncStore<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<S: EventStore + fmt::Debug + 'static> fmt::Debug for AsyncStore<S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("AsyncStore").field(self.blocking()).finish()
    }
}
