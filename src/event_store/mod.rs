//! [`EventStore`]: the trait that every store implements, and on which everything else is built.
//!
//! The trait is small, blocking and dyn-compatible, and needs nothing that only a local disk can
//! do: a networked store can implement it. The convenient interface (`impl TryInto` arguments,
//! builders, iterators, subscriptions) is the extension [`EventStoreExt`](crate::EventStoreExt),
//! which is written once for all stores.
//!
//! Another implementation is correct if it passes
//! [`testing::conformance`](crate::testing::conformance).

mod append;
mod condition;
mod keyed;
mod listing;
mod page;
mod query;
#[cfg(feature = "async")]
mod watch;
mod api;
mod read;

use std::ops::{ControlFlow, Deref};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

#[cfg(feature = "async")]
pub use api::Async;
pub use api::Blocking;
pub use append::{Append, Appended, DEFAULT_STREAM};
pub use condition::AppendCondition;
pub use keyed::{KeyedResult, KeyedSubmission, KeyedWork, Submitted};
pub use listing::{StreamInfos, Streams};
pub use page::{Direction, Hole, PageEnd, PageRequest, Range, Scope, StreamInfo, StreamsRequest};
pub use query::{Query, QueryItem};
pub(crate) use read::position_at;
pub use read::{Events, Place, Read, ReadLog, ReadStream};

use crate::error::Result;
use crate::metrics::SubscriptionProgress;
use crate::model::{Epochs, EventRef, IdempotencyKey, Position, StreamId, Timestamp, Version};
#[cfg(feature = "async")]
use crate::pool;

pub(crate) use append::{Labels, Run};
pub(crate) use condition::Conditions;
#[cfg(feature = "async")]
pub(crate) use watch::HeadWatch;

/// Called for each event of a page; `Break` ends the page after that event.
pub type Visitor<'v> = dyn FnMut(EventRef<'_>) -> ControlFlow<()> + 'v;

/// A future of a store.
#[cfg(feature = "async")]
pub type BoxFuture<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send>>;

/// A store of events. Implemented by [`Store`](crate::Store) and
/// [`MemoryStore`](crate::MemoryStore), and for references and `Arc`s of stores.
///
/// An implementation guarantees G1 to G4, G6 and G13 of docs/GUARANTEES.md to all callers on all
/// threads. Every method fails with [`Error::Closed`](crate::Error::Closed) once the store is
/// closed.
pub trait EventStore: Send + Sync {
    /// Appends events to one or several streams, all or nothing, and acknowledges them.
    ///
    /// If the events are already stored at exactly the requested place (after the version of
    /// `Exact`, at the start for `NoStream`, at the very end of the stream for `Any` and
    /// `StreamExists`), the call is a retry: it is acknowledged again with the original places, and
    /// writes nothing. Only ids are compared. For an append to several streams, it is enough that
    /// one stream has its events at their place, if they are in a commit of exactly the events of
    /// this append. An append with only `Any` or `StreamExists` is no longer recognised after
    /// anything else has been appended to its streams, by any caller.
    ///
    /// # Errors
    /// [`WrongExpectedVersion`](crate::Error::WrongExpectedVersion),
    /// [`PartialRetry`](crate::Error::PartialRetry),
    /// [`RecordedAtBeforeHead`](crate::Error::RecordedAtBeforeHead),
    /// [`DiskFull`](crate::Error::DiskFull), an invalid argument, a limit: nothing was appended.
    /// [`Indeterminate`](crate::Error::Indeterminate): the events may or may not have been
    /// appended.
    fn submit(&self, append: Append) -> Result<Appended>;

    /// Does a request once, however often it is sent (G15): appends its events together with its
    /// idempotency key, or records the key alone.
    ///
    /// If the key is already recorded, nothing is written, and the answer is the recorded result,
    /// whatever the state of the streams is now. This also holds for two calls at the same time,
    /// and after a restart. An append that is refused records nothing, so its request may be sent
    /// again.
    ///
    /// A key is kept as long as the store's [`KeyRetention`](crate::KeyRetention) says. An append
    /// without a key is a retry only if its event ids are the same; with a key they may differ.
    ///
    /// ```
    /// use annals::prelude::*;
    /// use annals::{IdempotencyKey, KeyedResult, RequestDigest};
    /// let store = MemoryStore::new();
    /// let deposit = |amount: u64| {
    ///     let digest = RequestDigest::of_json(&amount).unwrap();
    ///     let key = IdempotencyKey::new("deposits", "5f1c", digest)?;
    ///     let event = NewEvent::json("Deposited", &amount)?;
    ///     let append = Append::new().to("account-1", ExpectedVersion::Any, [event]);
    ///     store.submit_once(&key, append.into())
    /// };
    /// let (first, again) = (deposit(200)?, deposit(200)?);
    /// assert!(!first.is_retry && again.is_retry);
    /// assert_eq!(store.read_log().into_iter().count(), 1);
    /// assert!(matches!(again.result, KeyedResult::Appended(_)));
    ///
    /// let reused = deposit(300).unwrap_err();
    /// assert!(reused.to_string().contains("another request"), "{reused}");
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`IdempotencyKeyReused`](crate::Error::IdempotencyKeyReused) if the key is recorded with
    /// another digest; an error of [`EventStore::submit`]. Nothing was written, except possibly
    /// after [`Indeterminate`](crate::Error::Indeterminate).
    fn submit_once(&self, key: &IdempotencyKey, submission: KeyedSubmission) -> Result<Submitted>;

    /// The recorded result of a request; `None` if its key is not recorded, or has expired.
    ///
    /// # Errors
    /// [`IdempotencyKeyReused`](crate::Error::IdempotencyKeyReused) if the key is recorded with
    /// another digest; corruption, or an I/O error.
    fn find_submitted(&self, key: &IdempotencyKey) -> Result<Option<KeyedResult>>;

    /// Reads one bounded page, calling `visit` for each matching event in order. It never reads
    /// past the head (G6).
    ///
    /// No lock is held while `visit` is called, so it may call the store.
    ///
    /// # Errors
    /// Corruption is an error at its place and is never skipped (G8); the events visited before it
    /// are correct.
    fn read_page(&self, request: &PageRequest, visit: &mut Visitor<'_>) -> Result<PageEnd>;

    /// The last published position; `None` while the log is empty. It never goes back.
    ///
    /// # Errors
    /// Only [`Closed`](crate::Error::Closed).
    fn head(&self) -> Result<Option<Position>>;

    /// The version of the last event of a stream; `None` if it has none.
    ///
    /// # Errors
    /// Corruption, or an I/O error.
    fn stream_version(&self, stream: &StreamId) -> Result<Option<Version>>;

    /// Lists a page of streams, in the order of their ids.
    ///
    /// # Errors
    /// Corruption, or an I/O error.
    fn list_streams(&self, request: &StreamsRequest) -> Result<Vec<StreamInfo>>;

    /// Blocks until the head is past `after`, the deadline `until` is reached, or `cancelled` is
    /// set and [`EventStore::wake`] is called. Returns the head at that moment.
    ///
    /// # Errors
    /// [`Closed`](crate::Error::Closed) as soon as the store is closed.
    fn wait_past(
        &self,
        after: Option<Position>,
        until: Option<Instant>,
        cancelled: &AtomicBool,
    ) -> Result<Option<Position>>;

    /// Makes every waiting caller check its `cancelled` again.
    fn wake(&self);

    /// The epochs of the log. They do not change while the store is open.
    ///
    /// # Errors
    /// Only [`Closed`](crate::Error::Closed).
    fn epochs(&self) -> Result<Epochs>;

    /// A number that changes with each deletion and redaction, before the call that deletes returns.
    /// If it is the same before a read and later, no event that was read is gone. The number is kept
    /// in memory only, so it means nothing after the store is closed. A store without deletion
    /// returns 0.
    fn removals(&self) -> u64;

    /// A number that changes with each redaction, as [`EventStore::removals`] does with each
    /// deletion and redaction. By default, it is that number.
    ///
    /// A state that was folded before a redaction may hold what was redacted, so no snapshot is
    /// taken of it afterwards; nor after the store was opened again, because the number of a store
    /// on disk is then another one.
    fn redactions(&self) -> u64 {
        self.removals()
    }

    /// The time of the clock that events are recorded with. It is also used for other times, such
    /// as when a snapshot was taken. It may go back.
    fn now(&self) -> Timestamp;

    /// Reads a page of new events as [`EventStore::read_page`] does, if the store has all of them in
    /// memory, and otherwise returns `None` without visiting any. By default it always does.
    ///
    /// Subscriptions that have caught up call this, so that they need no disk, and tasks no thread.
    ///
    /// # Errors
    /// Those of [`EventStore::read_page`].
    fn read_page_in_memory(
        &self,
        request: &PageRequest,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<PageEnd>> {
        let _ = (request, visit);
        Ok(None)
    }

    /// Does what [`EventStore::submit`] does, without blocking the thread that polls the future. The
    /// append is submitted some time after the future is first polled. From then on, dropping the
    /// future cancels nothing: the append is stored whole or not at all, and a retry with the same
    /// events reports which.
    ///
    /// By default [`EventStore::submit`] runs on a thread of a pool.
    #[cfg(feature = "async")]
    fn submit_async(&self, append: Append) -> BoxFuture<Result<Appended>> {
        let store = self.handle();
        Box::pin(pool::run(move || store.submit(append)))
    }

    /// Does what [`EventStore::submit_once`] does, without blocking the thread that polls the
    /// future: see [`EventStore::submit_async`].
    #[cfg(feature = "async")]
    fn submit_once_async(
        &self,
        key: IdempotencyKey,
        submission: KeyedSubmission,
    ) -> BoxFuture<Result<Submitted>> {
        let store = self.handle();
        Box::pin(pool::run(move || store.submit_once(&key, submission)))
    }

    /// Watches the position of a subscription that begins, as long as it lives, for the metrics of
    /// the store. By default nothing is watched.
    fn watch_subscription(&self, progress: &Arc<SubscriptionProgress>) {
        let _ = progress;
    }

    /// An owned handle, for readers and subscriptions. It does not keep the store open: once the
    /// store is closed, its calls fail with [`Closed`](crate::Error::Closed).
    fn handle(&self) -> Arc<dyn EventStore>;
}

/// References, `Arc`s and boxes of stores are stores.
impl<T> EventStore for T
where
    T: Deref<Target: EventStore> + Send + Sync + ?Sized,
{
    fn submit(&self, append: Append) -> Result<Appended> {
        (**self).submit(append)
    }

    fn submit_once(&self, key: &IdempotencyKey, submission: KeyedSubmission) -> Result<Submitted> {
        (**self).submit_once(key, submission)
    }

    fn find_submitted(&self, key: &IdempotencyKey) -> Result<Option<KeyedResult>> {
        (**self).find_submitted(key)
    }

    fn read_page(&self, request: &PageRequest, visit: &mut Visitor<'_>) -> Result<PageEnd> {
        (**self).read_page(request, visit)
    }

    fn head(&self) -> Result<Option<Position>> {
        (**self).head()
    }

    fn stream_version(&self, stream: &StreamId) -> Result<Option<Version>> {
        (**self).stream_version(stream)
    }

    fn list_streams(&self, request: &StreamsRequest) -> Result<Vec<StreamInfo>> {
        (**self).list_streams(request)
    }

    fn wait_past(
        &self,
        after: Option<Position>,
        until: Option<Instant>,
        cancelled: &AtomicBool,
    ) -> Result<Option<Position>> {
        (**self).wait_past(after, until, cancelled)
    }

    fn wake(&self) {
        (**self).wake();
    }

    fn epochs(&self) -> Result<Epochs> {
        (**self).epochs()
    }

    fn removals(&self) -> u64 {
        (**self).removals()
    }

    fn redactions(&self) -> u64 {
        (**self).redactions()
    }

    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn read_page_in_memory(
        &self,
        request: &PageRequest,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<PageEnd>> {
        (**self).read_page_in_memory(request, visit)
    }

    #[cfg(feature = "async")]
    fn submit_async(&self, append: Append) -> BoxFuture<Result<Appended>> {
        (**self).submit_async(append)
    }

    #[cfg(feature = "async")]
    fn submit_once_async(
        &self,
        key: IdempotencyKey,
        submission: KeyedSubmission,
    ) -> BoxFuture<Result<Submitted>> {
        (**self).submit_once_async(key, submission)
    }

    fn watch_subscription(&self, progress: &Arc<SubscriptionProgress>) {
        (**self).watch_subscription(progress);
    }

    fn handle(&self) -> Arc<dyn EventStore> {
        (**self).handle()
    }
}
