//! [`Decorated`]: a store that wraps another and intercepts its calls.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::error::Result;
#[cfg(feature = "async")]
use crate::event_store::BoxFuture;
use crate::event_store::{
    Append, Appended, EventStore, KeyedResult, KeyedSubmission, PageEnd, PageRequest, StreamInfo,
    StreamsRequest, Submitted, Visitor,
};
use crate::metrics::SubscriptionProgress;
use crate::model::{Epochs, IdempotencyKey, Position, StreamId, Timestamp, Version};
#[cfg(feature = "async")]
use crate::pool;

/// Intercepts the calls of the store that a [`Decorated`] wraps. By default each call is forwarded.
///
/// There is one method for each method of [`EventStore`], with these exceptions: the handles of a
/// decorated store are decorated too, calls of tasks run the blocking ones, and all pages are read
/// with [`EventStore::read_page`].
pub trait Decorator: Send + Sync + 'static {
    /// Called for [`EventStore::submit`].
    ///
    /// # Errors
    /// Those of the wrapped store, or any error that the test injects.
    fn submit(&self, store: &dyn EventStore, append: Append) -> Result<Appended> {
        store.submit(append)
    }

    /// Called for [`EventStore::submit_once`].
    ///
    /// # Errors
    /// Those of the wrapped store, or any error that the test injects.
    fn submit_once(
        &self,
        store: &dyn EventStore,
        key: &IdempotencyKey,
        submission: KeyedSubmission,
    ) -> Result<Submitted> {
        store.submit_once(key, submission)
    }

    /// Called for [`EventStore::find_submitted`].
    ///
    /// # Errors
    /// Those of the wrapped store, or any error that the test injects.
    fn find_submitted(
        &self,
        store: &dyn EventStore,
        key: &IdempotencyKey,
    ) -> Result<Option<KeyedResult>> {
        store.find_submitted(key)
    }

    /// Called for [`EventStore::read_page`].
    ///
    /// # Errors
    /// Those of the wrapped store, or any error that the test injects.
    fn read_page(
        &self,
        store: &dyn EventStore,
        request: &PageRequest,
        visit: &mut Visitor<'_>,
    ) -> Result<PageEnd> {
        store.read_page(request, visit)
    }

    /// Called for [`EventStore::head`].
    ///
    /// # Errors
    /// Those of the wrapped store, or any error that the test injects.
    fn head(&self, store: &dyn EventStore) -> Result<Option<Position>> {
        store.head()
    }

    /// Called for [`EventStore::stream_version`].
    ///
    /// # Errors
    /// Those of the wrapped store, or any error that the test injects.
    fn stream_version(&self, store: &dyn EventStore, stream: &StreamId) -> Result<Option<Version>> {
        store.stream_version(stream)
    }

    /// Called for [`EventStore::list_streams`].
    ///
    /// # Errors
    /// Those of the wrapped store, or any error that the test injects.
    fn list_streams(
        &self,
        store: &dyn EventStore,
        request: &StreamsRequest,
    ) -> Result<Vec<StreamInfo>> {
        store.list_streams(request)
    }

    /// Called for [`EventStore::wait_past`].
    ///
    /// # Errors
    /// Those of the wrapped store, or any error that the test injects.
    fn wait_past(
        &self,
        store: &dyn EventStore,
        after: Option<Position>,
        until: Option<Instant>,
        cancelled: &AtomicBool,
    ) -> Result<Option<Position>> {
        store.wait_past(after, until, cancelled)
    }

    /// Called for [`EventStore::wake`].
    fn wake(&self, store: &dyn EventStore) {
        store.wake();
    }

    /// Called for [`EventStore::epochs`].
    ///
    /// # Errors
    /// Those of the wrapped store, or any error that the test injects.
    fn epochs(&self, store: &dyn EventStore) -> Result<Epochs> {
        store.epochs()
    }

    /// Called for [`EventStore::watch_subscription`].
    fn watch_subscription(&self, store: &dyn EventStore, progress: &Arc<SubscriptionProgress>) {
        store.watch_subscription(progress);
    }

    /// Called for [`EventStore::removals`].
    fn removals(&self, store: &dyn EventStore) -> u64 {
        store.removals()
    }

    /// Called for [`EventStore::redactions`].
    fn redactions(&self, store: &dyn EventStore) -> u64 {
        store.redactions()
    }

    /// Called for [`EventStore::now`].
    fn now(&self, store: &dyn EventStore) -> Timestamp {
        store.now()
    }
}

/// Wraps a store, to test how code handles errors of a store, to delay its calls, or to meter them.
///
/// ```
/// use annals::prelude::*;
/// use annals::testing::{Decorated, Decorator};
/// use annals::{Cause, Error, Result};
///
/// /// Loses every acknowledgement.
/// struct Unacknowledged;
///
/// impl Decorator for Unacknowledged {
///     fn submit(&self, store: &dyn EventStore, append: Append) -> Result<Appended> {
///         store.submit(append)?;
///         Err(Error::Indeterminate { cause: Cause::new(std::io::Error::other("disk failed")) })
///     }
/// }
///
/// let store = MemoryStore::new();
/// let event = NewEvent::json("Opened", &"Ada")?;
/// let failing = Decorated::new(&store, Unacknowledged);
/// assert!(failing.append("account-1", ExpectedVersion::NoStream, [event.clone()]).is_err());
/// // The append may have succeeded: a retry shows that it did.
/// assert!(store.append("account-1", ExpectedVersion::NoStream, [event])?.is_retry());
/// # Ok::<(), annals::Error>(())
/// ```
///
/// A decorator that meters a store counts the calls of every method, also those of repositories,
/// projections and subscriptions:
///
/// ```
/// use annals::prelude::*;
/// use annals::testing::{Decorated, Decorator};
/// use annals::{PageEnd, PageRequest, Result, Visitor};
/// use std::sync::Mutex;
/// use std::time::{Duration, Instant};
///
/// /// How often a method was called, and how long its calls took.
/// #[derive(Default)]
/// struct Meter(Mutex<(u64, Duration)>);
///
/// impl Meter {
///     fn measure<T>(&self, call: impl FnOnce() -> T) -> T {
///         let began = Instant::now();
///         let result = call();
///         let mut total = self.0.lock().unwrap();
///         *total = (total.0 + 1, total.1 + began.elapsed());
///         result
///     }
/// }
///
/// #[derive(Default)]
/// struct Metered { submits: Meter, pages: Meter }
///
/// impl Decorator for Metered {
///     fn submit(&self, store: &dyn EventStore, append: Append) -> Result<Appended> {
///         self.submits.measure(|| store.submit(append))
///     }
///     fn read_page(&self, store: &dyn EventStore, request: &PageRequest, visit: &mut Visitor<'_>) -> Result<PageEnd> {
///         self.pages.measure(|| store.read_page(request, visit))
///     }
/// }
///
/// let inner = MemoryStore::new();
/// let store = Decorated::new(&inner, Metered::default());
/// store.append("account-1", ExpectedVersion::NoStream, [NewEvent::json("Opened", &"Ada")?])?;
/// assert_eq!(store.read_log().into_iter().count(), 1);
/// let (appends, time) = *store.decorator().submits.0.lock().unwrap();
/// assert_eq!(appends, 1);
/// assert!(time > Duration::ZERO);
/// assert!(store.decorator().pages.0.lock().unwrap().0 >= 1);
/// # Ok::<(), annals::Error>(())
/// ```
pub struct Decorated<D> {
    store: Arc<dyn EventStore>,
    decorator: Arc<D>,
}

impl<D: Decorator> Decorated<D> {
    /// Wraps a store. It does not keep the wrapped store open.
    pub fn new(store: &dyn EventStore, decorator: D) -> Self {
        Self { store: store.handle(), decorator: Arc::new(decorator) }
    }

    /// The decorator.
    pub fn decorator(&self) -> &D {
        &self.decorator
    }
}

// A method with a default in the trait must not be forgotten here either.
#[deny(clippy::missing_trait_methods)]
impl<D: Decorator> EventStore for Decorated<D> {
    fn submit(&self, append: Append) -> Result<Appended> {
        self.decorator.submit(&*self.store, append)
    }

    fn submit_once(&self, key: &IdempotencyKey, submission: KeyedSubmission) -> Result<Submitted> {
        self.decorator.submit_once(&*self.store, key, submission)
    }

    fn find_submitted(&self, key: &IdempotencyKey) -> Result<Option<KeyedResult>> {
        self.decorator.find_submitted(&*self.store, key)
    }

    fn read_page(&self, request: &PageRequest, visit: &mut Visitor<'_>) -> Result<PageEnd> {
        self.decorator.read_page(&*self.store, request, visit)
    }

    fn head(&self) -> Result<Option<Position>> {
        self.decorator.head(&*self.store)
    }

    fn stream_version(&self, stream: &StreamId) -> Result<Option<Version>> {
        self.decorator.stream_version(&*self.store, stream)
    }

    fn list_streams(&self, request: &StreamsRequest) -> Result<Vec<StreamInfo>> {
        self.decorator.list_streams(&*self.store, request)
    }

    fn wait_past(
        &self,
        after: Option<Position>,
        until: Option<Instant>,
        cancelled: &AtomicBool,
    ) -> Result<Option<Position>> {
        self.decorator.wait_past(&*self.store, after, until, cancelled)
    }

    fn wake(&self) {
        self.decorator.wake(&*self.store);
    }

    fn epochs(&self) -> Result<Epochs> {
        self.decorator.epochs(&*self.store)
    }

    fn removals(&self) -> u64 {
        self.decorator.removals(&*self.store)
    }

    fn redactions(&self) -> u64 {
        self.decorator.redactions(&*self.store)
    }

    fn now(&self) -> Timestamp {
        self.decorator.now(&*self.store)
    }

    fn watch_subscription(&self, progress: &Arc<SubscriptionProgress>) {
        self.decorator.watch_subscription(&*self.store, progress);
    }

    /// All pages are read with `read_page`, so that the decorator sees each of them.
    fn read_page_in_memory(&self, _: &PageRequest, _: &mut Visitor<'_>) -> Result<Option<PageEnd>> {
        Ok(None)
    }

    #[cfg(feature = "async")]
    fn submit_async(&self, append: Append) -> BoxFuture<Result<Appended>> {
        let store = self.handle();
        Box::pin(pool::run(move || store.submit(append)))
    }

    #[cfg(feature = "async")]
    fn submit_once_async(
        &self,
        key: IdempotencyKey,
        submission: KeyedSubmission,
    ) -> BoxFuture<Result<Submitted>> {
        let store = self.handle();
        Box::pin(pool::run(move || store.submit_once(&key, submission)))
    }

    fn handle(&self) -> Arc<dyn EventStore> {
        Arc::new(Self { store: self.store.clone(), decorator: self.decorator.clone() })
    }
}

impl<D: fmt::Debug> fmt::Debug for Decorated<D> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Decorated").field("decorator", &self.decorator).finish_non_exhaustive()
    }
}
