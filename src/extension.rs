//! [`EventStoreExt`]: the convenient interface of every [`EventStore`].

use crate::error::{Error, Result};
use crate::event_store::{Append, Appended, EventStore, ReadLog, ReadStream, Streams, position_at};
use crate::model::{ExpectedVersion, NewEvent, Position, StreamId, Timestamp};
use crate::subscription::SubscriptionBuilder;

/// Convenience methods of every store: append to one stream, read, list streams, subscribe.
///
/// It is implemented for every [`EventStore`] and is part of the [`prelude`](crate::prelude).
pub trait EventStoreExt: EventStore {
    /// Appends events to one stream, all or nothing, if the stream is as expected (G1, G4). There
    /// must be at least one event.
    ///
    /// Appending the same [`NewEvent`] values again with the same expectation is a retry: it is
    /// acknowledged with the original places and writes nothing ([`Appended::is_retry`]). For
    /// appends to several streams see [`Append`].
    ///
    /// ```
    /// use annals::prelude::*;
    /// let store = MemoryStore::new();
    /// let appended = store.append(
    ///     "account-123",
    ///     ExpectedVersion::NoStream,
    ///     [NewEvent::json("Opened", &"Ada")?, NewEvent::json("Deposited", &1000)?],
    /// )?;
    /// assert_eq!(appended.last_version().get(), 2);
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`EventStore::submit`].
    ///
    /// # Cost
    /// Blocks until the append is acknowledged: with [`Durability::Sync`](crate::Durability), until
    /// the disk has synced.
    fn append<S>(
        &self,
        stream: S,
        expected: ExpectedVersion,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Result<Appended>
    where
        S: TryInto<StreamId, Error: Into<Error>>,
    {
        self.submit(Append::new().to(stream, expected, events))
    }

    /// Reads the log.
    fn read_log(&self) -> ReadLog {
        ReadLog::log(self.handle())
    }

    /// Reads one stream. A stream that has no events is empty.
    fn read_stream<S>(&self, stream: S) -> ReadStream
    where
        S: TryInto<StreamId, Error: Into<Error>>,
    {
        ReadStream::stream(self.handle(), stream)
    }

    /// Lists streams.
    fn streams(&self) -> Streams {
        Streams::new(self.handle())
    }

    /// Subscribes to the log, a stream or a category: catches up, then continues live.
    fn subscribe(&self) -> SubscriptionBuilder {
        SubscriptionBuilder::new(self.handle())
    }

    /// The last position that was recorded at this time or before; `None` if there is none.
    ///
    /// # Errors
    /// An error of the store.
    ///
    /// # Cost
    /// A binary search over the log: about 20 reads of one event each for a log of a million
    /// events.
    fn position_at(&self, time: Timestamp) -> Result<Option<Position>> {
        match self.head()? {
            Some(head) => position_at(&*self.handle(), time, head),
            None => Ok(None),
        }
    }
}

impl<S: EventStore + ?Sized> EventStoreExt for S {}
