//! [`Decorated`]: a store that wraps another and intercepts its calls.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::error::Result;
use crate::event_store::{
    Append, Appended, EventStore, KeyedResult, KeyedSubmission, PageEnd, PageQuery, StreamInfo,
    StreamsQuery, Submitted, Visitor,
};
use crate::model::{Epochs, IdempotencyKey, Position, StreamId, Timestamp, Version};

/// Intercepts the calls of the store that a [`Decorated`] wraps. By default each call is forwarded.
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

    /// Called for [`EventStore::read_page`].
    ///
    /// # Errors
    /// Those of the wrapped store, or any error that the test injects.
    fn read_page(
        &self,
        store: &dyn EventStore,
        query: &PageQuery,
        visit: &mut Visitor<'_>,
    ) -> Result<PageEnd> {
        store.read_page(query, visit)
    }
}

/// Wraps a store, to test how code handles errors of a store, or to record its calls.
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

impl<D: Decorator> EventStore for Decorated<D> {
    fn submit(&self, append: Append) -> Result<Appended> {
        self.decorator.submit(&*self.store, append)
    }

    fn submit_once(&self, key: &IdempotencyKey, submission: KeyedSubmission) -> Result<Submitted> {
        self.decorator.submit_once(&*self.store, key, submission)
    }

    fn find_result(&self, key: &IdempotencyKey) -> Result<Option<KeyedResult>> {
        self.store.find_result(key)
    }

    fn read_page(&self, query: &PageQuery, visit: &mut Visitor<'_>) -> Result<PageEnd> {
        self.decorator.read_page(&*self.store, query, visit)
    }

    fn head(&self) -> Result<Option<Position>> {
        self.store.head()
    }

    fn stream_version(&self, stream: &StreamId) -> Result<Option<Version>> {
        self.store.stream_version(stream)
    }

    fn list_streams(&self, query: &StreamsQuery) -> Result<Vec<StreamInfo>> {
        self.store.list_streams(query)
    }

    fn wait_past(
        &self,
        after: Option<Position>,
        until: Option<Instant>,
        cancelled: &AtomicBool,
    ) -> Result<Option<Position>> {
        self.store.wait_past(after, until, cancelled)
    }

    fn wake(&self) {
        self.store.wake();
    }

    fn epochs(&self) -> Result<Epochs> {
        self.store.epochs()
    }

    fn now(&self) -> Timestamp {
        self.store.now()
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
