//! The seam: [`EventStore`], the trait that every store implements and above which everything else
//! is written.
//!
//! The trait is small, blocking and dyn-compatible, and free of anything that only a local disk can
//! do: a networked store can implement it. What makes it pleasant (arguments by `impl TryInto`,
//! builders, iterators, subscriptions) is the extension [`EventStoreExt`](crate::EventStoreExt),
//! written once over all stores.
//!
//! A store of another kind is right if it passes
//! [`testing::conformance`](crate::testing::conformance).

mod append;
mod query;
mod read;

use std::ops::{ControlFlow, Deref};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

pub use append::{Append, Appended};
pub use query::{Direction, Filter, PageEnd, PageQuery, Range, Scope, StreamInfo, StreamsQuery};
pub(crate) use read::position_at;
pub use read::{Events, Place, Read, ReadLog, ReadStream, StreamInfos, Streams};

use crate::error::Result;
use crate::model::{Epochs, EventRef, Position, StreamId, Timestamp, Version};

pub(crate) use append::Run;

/// Takes the events of a page one by one; `Break` ends the page after the event it was given.
pub type Visitor<'v> = dyn FnMut(EventRef<'_>) -> ControlFlow<()> + 'v;

/// A store of events. Implemented by [`Store`](crate::Store) and
/// [`MemoryStore`](crate::MemoryStore), and for references and `Arc`s of stores.
///
/// What an implementation promises, for all its callers on all threads: G1 to G4, G6 and G13 of
/// docs/GUARANTEES.md. Every method fails with [`Error::Closed`](crate::Error::Closed) once the
/// store is closed.
pub trait EventStore: Send + Sync {
    /// Appends all or nothing, and acknowledges.
    ///
    /// Where the events to be written already are at exactly the place that was asked for (after
    /// `Exact`'s version, at the start for `NoStream`; at the very end of the stream for `Any` and
    /// `StreamExists`), the call is a retry: it is acknowledged again with the original places, and
    /// writes nothing. Ids are compared, nothing else. Of an append to several streams it is enough
    /// that one has its events at their place, if they are in a commit of exactly the events of
    /// this append. An append with `Any` or `StreamExists` alone is no longer recognised once
    /// anything was appended to its streams after it, by others or by the caller.
    ///
    /// # Errors
    /// [`WrongExpectedVersion`](crate::Error::WrongExpectedVersion),
    /// [`PartialRetry`](crate::Error::PartialRetry),
    /// [`RecordedAtBeforeHead`](crate::Error::RecordedAtBeforeHead), an invalid argument, a limit:
    /// nothing was appended. [`Indeterminate`](crate::Error::Indeterminate): it may or may not have
    /// been.
    fn submit(&self, append: Append) -> Result<Appended>;

    /// Reads one bounded page, calling `visit` for each matching event in order. Nothing past the
    /// head is seen (G6).
    ///
    /// `visit` may call the store. It is called while nothing is locked.
    ///
    /// # Errors
    /// Damage is an error at its place, never skipped (G8); what was visited before it is right.
    fn read_page(&self, query: &PageQuery, visit: &mut Visitor<'_>) -> Result<PageEnd>;

    /// The last published position; `None` while the log is empty. It never goes back.
    ///
    /// # Errors
    /// None but those of every method.
    fn head(&self) -> Result<Option<Position>>;

    /// The version of the last event of a stream; `None` if it has none.
    ///
    /// # Errors
    /// Damage, or a failing disk.
    fn stream_version(&self, stream: &StreamId) -> Result<Option<Version>>;

    /// Some streams in the order of their ids.
    ///
    /// # Errors
    /// Damage, or a failing disk.
    fn list_streams(&self, query: &StreamsQuery) -> Result<Vec<StreamInfo>>;

    /// Blocks until the head is past `after`, or `until` has come, or `cancelled` is set and
    /// [`EventStore::wake`] called. Returns the head as it then is.
    ///
    /// # Errors
    /// [`Closed`](crate::Error::Closed) as soon as the store is closed.
    fn wait_past(
        &self,
        after: Option<Position>,
        until: Option<Instant>,
        cancelled: &AtomicBool,
    ) -> Result<Option<Position>>;

    /// Makes every waiting caller look again at its `cancelled`.
    fn wake(&self);

    /// The epochs of the log. They do not change while the store is open.
    ///
    /// # Errors
    /// None but those of every method.
    fn epochs(&self) -> Result<Epochs>;

    /// The time by the clock that events are recorded with; it is also used for times recorded next
    /// to events, such as when a snapshot was taken. It may go back.
    fn now(&self) -> Timestamp;

    /// A handle for readers and subscriptions to own. It does not keep the store open: once the
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

    fn read_page(&self, query: &PageQuery, visit: &mut Visitor<'_>) -> Result<PageEnd> {
        (**self).read_page(query, visit)
    }

    fn head(&self) -> Result<Option<Position>> {
        (**self).head()
    }

    fn stream_version(&self, stream: &StreamId) -> Result<Option<Version>> {
        (**self).stream_version(stream)
    }

    fn list_streams(&self, query: &StreamsQuery) -> Result<Vec<StreamInfo>> {
        (**self).list_streams(query)
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

    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn handle(&self) -> Arc<dyn EventStore> {
        (**self).handle()
    }
}
