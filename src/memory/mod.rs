//! [`MemoryStore`]: the contract of a store without a disk, for tests.

mod derived;
mod derived_store;
mod history;
mod keys;

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::error::Result;
#[cfg(feature = "async")]
use crate::event_store::BoxFuture;
use crate::event_store::{
    Append, Appended, EventStore, KeyedResult, KeyedSubmission, KeyedWork, PageEnd, PageRequest,
    StreamInfo, StreamsRequest, Submitted, Visitor,
};
use crate::head::Head;
use crate::model::{
    Epoch, Epochs, IdempotencyKey, KeyRetention, Limits, Position, StreamId, Timestamp, Version,
};
use crate::options::{Clock, now, system_clock};
use crate::sync::{Mutex, RwLock};
use crate::validate::{Shape, Verdict, validate};
use derived::Derived;
use history::{History, version};
use keys::Keys;

/// A store in memory, with every guarantee of [`Store`](crate::Store) except durability.
///
/// Clones share the store, which stays open until [`MemoryStore::close`].
///
/// ```
/// use annals::prelude::*;
/// use annals::Position;
/// let store = MemoryStore::new();
/// store.append("account-1", ExpectedVersion::NoStream, [NewEvent::json("Opened", &"Ada")?])?;
/// assert_eq!(store.head()?, Some(Position::FIRST));
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

struct Inner {
    history: RwLock<History>,
    /// Locked after the history.
    keys: Mutex<Keys>,
    head: Head,
    epochs: Epochs,
    derived: Mutex<Derived>,
    limits: Limits,
    clock: Clock,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// Creates an empty store with default limits and the system's clock.
    pub fn new() -> Self {
        Self::with_key_retention(KeyRetention::default())
    }

    /// Creates an empty store with custom limits and a custom clock. A limit above the maximum of a
    /// [`Store`](crate::Store) is reduced to that maximum.
    pub fn with(limits: Limits, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self::create(limits, KeyRetention::default(), Arc::new(clock))
    }

    /// Creates an empty store that keeps idempotency keys for this long, with default limits and
    /// the system's clock.
    pub fn with_key_retention(retention: KeyRetention) -> Self {
        Self::create(Limits::default(), retention, system_clock())
    }

    fn create(limits: Limits, retention: KeyRetention, clock: Clock) -> Self {
        Self {
            inner: Arc::new(Inner {
                history: RwLock::new(History::default()),
                keys: Mutex::new(Keys::new(retention)),
                head: Head::new(None),
                epochs: Epochs::new(Epoch::random()),
                derived: Mutex::new(Derived::default()),
                limits: limits.at_most_allowed(),
                clock,
            }),
        }
    }

    /// Closes the store for all its clones. Waiting calls and all later calls fail with
    /// [`Closed`](crate::Error::Closed).
    pub fn close(&self) {
        self.inner.head.close();
    }
}

impl Inner {
    /// Appends to the history, which the caller has locked.
    fn append(&self, history: &mut History, mut append: Append) -> Result<Appended> {
        self.head.get()?;
        let labels = append.take_labels();
        let verdict = validate(&Shape::of(&append), history);
        match verdict.map_err(|error| labels.add_to(error))? {
            Verdict::Retry(appended) => Ok(appended),
            Verdict::Append(before) => {
                let appended = history.add(append, &before, now(&self.clock))?;
                self.head.publish(appended.last_position());
                Ok(appended)
            }
        }
    }
}

impl EventStore for MemoryStore {
    fn submit(&self, append: Append) -> Result<Appended> {
        append.validate(&self.inner.limits)?;
        self.inner.append(&mut self.inner.history.write(), append)
    }

    fn submit_once(&self, key: &IdempotencyKey, submission: KeyedSubmission) -> Result<Submitted> {
        let Inner { history, keys, head, limits, .. } = &*self.inner;
        submission.validate(limits)?;
        let mut history = history.write();
        head.get()?;
        let mut keys = keys.lock();
        if let Some(result) = keys.find(key)? {
            return Ok(Submitted::again(result));
        }
        let result = match submission.into_work() {
            KeyedWork::Append(append) => {
                KeyedResult::Appended(self.inner.append(&mut history, append)?)
            }
            KeyedWork::Nothing => KeyedResult::Nothing,
            KeyedWork::Rejection(reason) => KeyedResult::Rejected(reason),
        };
        keys.record(key, result.clone().recorded());
        Ok(Submitted::first(result))
    }

    fn find_submitted(&self, key: &IdempotencyKey) -> Result<Option<KeyedResult>> {
        self.inner.head.get()?;
        self.inner.keys.lock().find(key)
    }

    fn read_page(&self, request: &PageRequest, visit: &mut Visitor<'_>) -> Result<PageEnd> {
        let Some(head) = self.inner.head.get()? else { return Ok(PageEnd::new(None)) };
        let history = self.inner.history.read();
        let page = history.page(request, head);
        drop(history);
        for (event, rest) in page.events {
            if visit((*event).as_ref()).is_break() {
                return Ok(PageEnd::new(rest));
            }
        }
        Ok(PageEnd::new(page.rest))
    }

    fn head(&self) -> Result<Option<Position>> {
        self.inner.head.get()
    }

    fn stream_version(&self, stream: &StreamId) -> Result<Option<Version>> {
        self.inner.head.get()?;
        let history = self.inner.history.read();
        Ok(history.streams.get(stream).and_then(|events| version(events.len())))
    }

    fn list_streams(&self, request: &StreamsRequest) -> Result<Vec<StreamInfo>> {
        self.inner.head.get()?;
        let history = self.inner.history.read();
        let after = request.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let streams = history.streams.range::<StreamId, _>((after, Bound::Unbounded));
        let streams = streams.filter(|(id, _)| id.as_str().starts_with(&request.prefix));
        let infos = streams.filter_map(|(id, events)| {
            Some(StreamInfo { id: id.clone(), version: version(events.len())? })
        });
        Ok(infos.take(request.streams_max).collect())
    }

    fn wait_past(
        &self,
        after: Option<Position>,
        until: Option<Instant>,
        cancelled: &AtomicBool,
    ) -> Result<Option<Position>> {
        self.inner.head.wait_past(after, until, cancelled)
    }

    fn wake(&self) {
        self.inner.head.wake();
    }

    fn epochs(&self) -> Result<Epochs> {
        self.inner.head.get()?;
        Ok(self.inner.epochs.clone())
    }

    fn removals(&self) -> u64 {
        0
    }

    fn now(&self) -> Timestamp {
        now(&self.inner.clock)
    }

    fn read_page_in_memory(
        &self,
        request: &PageRequest,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<PageEnd>> {
        self.read_page(request, visit).map(Some)
    }

    #[cfg(feature = "async")]
    fn submit_async(&self, append: Append) -> BoxFuture<Result<Appended>> {
        let store = self.clone();
        Box::pin(async move { store.submit(append) })
    }

    #[cfg(feature = "async")]
    fn submit_once_async(
        &self,
        key: IdempotencyKey,
        submission: KeyedSubmission,
    ) -> BoxFuture<Result<Submitted>> {
        let store = self.clone();
        Box::pin(async move { store.submit_once(&key, submission) })
    }

    fn handle(&self) -> Arc<dyn EventStore> {
        Arc::new(self.clone())
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("MemoryStore").field("head", &self.inner.head.current()).finish()
    }
}
