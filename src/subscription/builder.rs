//! [`SubscriptionBuilder`]: what to follow, and from where.

use std::collections::VecDeque;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::{CancelHandle, Subscription};
use crate::error::{Error, Result};
use crate::event_store::{Blocking, EventStore, Hole, Query, QueryItem, ReadStream, Scope};
use crate::metrics::SubscriptionProgress;
use crate::model::{Epoch, Epochs, EventRef, InvalidArgument, Position, StreamId, Version};

/// Builds a subscription: what to follow, and from where.
/// [`EventStoreExt::subscribe`](crate::EventStoreExt::subscribe) returns one, which by default
/// follows the whole log from its beginning.
#[must_use = "a subscription begins with `start`"]
#[derive(Clone)]
pub struct SubscriptionBuilder<D = Blocking> {
    store: Arc<dyn EventStore>,
    stream: Option<StreamId>,
    query: Query,
    /// The criteria that an event must meet besides.
    criteria: QueryItem,
    start: Start,
    waits_if_ahead: bool,
    /// The epoch in which the start place was saved.
    noted_in: Option<Epoch>,
    /// The error of the first invalid argument: `start` returns it.
    refused: Option<Error>,
    #[cfg_attr(not(feature = "async"), expect(dead_code))]
    api: D,
}

#[derive(Debug, Clone, Copy)]
enum Start {
    Beginning,
    After(Position),
    AfterVersion(Version),
    Now,
}

impl SubscriptionBuilder {
    pub(crate) fn new(store: Arc<dyn EventStore>) -> Self {
        Self {
            store,
            stream: None,
            query: Query::Everything,
            criteria: QueryItem::new(),
            start: Start::Beginning,
            waits_if_ahead: false,
            noted_in: None,
            refused: None,
            api: Blocking,
        }
    }
}

impl<D> SubscriptionBuilder<D> {
    /// The same subscription in another API; also returns the one before.
    #[cfg(feature = "async")]
    pub(crate) fn in_api<E>(self, api: E) -> (SubscriptionBuilder<E>, D) {
        let builder = SubscriptionBuilder {
            store: self.store,
            stream: self.stream,
            query: self.query,
            criteria: self.criteria,
            start: self.start,
            waits_if_ahead: self.waits_if_ahead,
            noted_in: self.noted_in,
            refused: self.refused,
            api,
        };
        (builder, self.api)
    }

    /// Follows one stream instead of the log.
    pub fn stream<S>(mut self, stream: S) -> Self
    where
        S: TryInto<StreamId, Error: Into<Error>>,
    {
        match stream.try_into() {
            Ok(stream) => self.stream = Some(stream),
            Err(error) => {
                self.refused.get_or_insert(error.into());
            }
        }
        self
    }

    /// Only events of streams in this category; if it is called several times, in any of the
    /// categories.
    pub fn category(self, category: impl Into<String>) -> Self {
        let category = category.into();
        self.refine(|item| item.category(&category))
    }

    /// Only events of streams whose id begins with this prefix; if it is called several times, with
    /// any of the prefixes.
    pub fn stream_prefix(self, prefix: impl Into<String>) -> Self {
        let prefix = prefix.into();
        self.refine(|item| item.stream_prefix(&prefix))
    }

    /// Only events of these types; if it is called several times, of any of the types. Without any
    /// types, all events match.
    pub fn types(self, types: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let types: Vec<_> = types.into_iter().map(|name| name.as_ref().to_owned()).collect();
        self.refine(|item| item.types(&types))
    }

    /// Only events with this tag; if it is called several times, with all of the tags.
    pub fn tag(self, tag: impl Into<String>) -> Self {
        let tag = tag.into();
        self.refine(|item| item.tag(&tag))
    }

    fn refine(mut self, add: impl Fn(QueryItem) -> QueryItem) -> Self {
        self.criteria = add(self.criteria);
        self
    }

    /// Only events that match this query, besides all other criteria that are set; replaces an
    /// earlier query.
    pub fn query(mut self, query: impl Into<Query>) -> Self {
        self.query = query.into();
        self
    }

    /// Starts after this position; `None` starts at the beginning. A position past the head is
    /// refused: see [`SubscriptionBuilder::wait_if_ahead`].
    pub fn after(mut self, position: impl Into<Option<Position>>) -> Self {
        self.start = position.into().map_or(Start::Beginning, Start::After);
        self
    }

    /// Starts after this version of the stream that is followed. A version past the last one of the
    /// stream is refused: see [`SubscriptionBuilder::wait_if_ahead`]. A deleted version is not; with
    /// [`SubscriptionBuilder::in_epoch`], the place of the next event then counts.
    pub fn after_version(mut self, version: impl Into<Option<Version>>) -> Self {
        self.start = version.into().map_or(Start::Beginning, Start::AfterVersion);
        self
    }

    /// Waits until the log or the stream reaches the start place, instead of refusing a place that
    /// is ahead.
    ///
    /// A place that was saved earlier can be ahead only if the log has lost its end. Events that
    /// are then appended up to that place are new, but such a subscription never delivers them.
    pub fn wait_if_ahead(mut self) -> Self {
        self.waits_if_ahead = true;
        self
    }

    /// Sets the epoch in which the start place was saved: [`Subscription::epoch`] at that time. A
    /// place that is not part of this log's history is then refused, even if the log has grown past
    /// it again.
    ///
    /// ```
    /// use annals::prelude::*;
    /// use annals::Error;
    /// let store = MemoryStore::new();
    /// store.append("account-1", ExpectedVersion::Any, [NewEvent::json("Opened", &())?])?;
    /// let subscription = store.subscribe().start()?;
    /// let noted = (subscription.epoch(), store.head()?);
    ///
    /// assert!(store.subscribe().after(noted.1).in_epoch(noted.0).start().is_ok());
    /// let other = MemoryStore::new();
    /// other.append("account-1", ExpectedVersion::Any, [NewEvent::json("Opened", &())?])?;
    /// let refused = other.subscribe().after(noted.1).in_epoch(noted.0).start();
    /// assert!(matches!(refused, Err(Error::OtherEpoch { .. })));
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn in_epoch(mut self, epoch: Epoch) -> Self {
        self.noted_in = Some(epoch);
        self
    }

    /// Starts after the current head: only events that are appended from now on are delivered.
    pub fn from_now(mut self) -> Self {
        self.start = Start::Now;
        self
    }
}

impl SubscriptionBuilder {
    /// Starts the subscription.
    ///
    /// # Errors
    /// An invalid argument, such as a version without a stream. [`Error::PositionAhead`],
    /// [`Error::VersionAhead`]: the start place does not exist. [`Error::OtherEpoch`]: it was saved
    /// in another epoch. [`Error::Closed`], or another error of the store.
    ///
    /// # Cost
    /// Reads at most one event, to find a place within a stream.
    pub fn start(mut self) -> Result<Subscription> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        self.query.check()?;
        self.criteria.check_names()?;
        let query = std::mem::take(&mut self.query).and(&self.criteria);
        query.check_names_max()?;
        let head = self.store.head()?;
        let epochs = self.store.epochs()?;
        self.check_place(head, &epochs)?;
        let (after, version) = match self.start {
            Start::Beginning => (None, None),
            Start::After(position) => (Some(position), None),
            Start::AfterVersion(version) => (None, Some(version)),
            Start::Now => (head, None),
        };
        let version = match (&self.stream, after) {
            // Start after the version that the stream had then, so that earlier events are not read
            // only to be skipped.
            (Some(stream), Some(after)) => {
                let then = ReadStream::stream(self.store.clone(), stream).as_of_position(after);
                then.last()?.map(|event| event.version())
            }
            _ => version,
        };
        let (scope, next) = match (self.stream, version) {
            (Some(stream), version) => (Scope::Stream(stream), Version::after(version).get()),
            (None, None) => (Scope::Log, Position::after(after).get()),
            (None, Some(_)) => return Err(InvalidArgument::VersionWithoutStream.into()),
        };
        let progress = Arc::new(SubscriptionProgress::default());
        progress.set(after);
        self.store.watch_subscription(&progress);
        Ok(Subscription {
            progress,
            cancel: CancelHandle::new(self.store.clone()),
            store: self.store,
            scope,
            next,
            query,
            after,
            seen: after,
            reported: after,
            bound: None,
            page: VecDeque::new(),
            epoch: epochs.current(),
            caught_up: false,
            ended: false,
        })
    }

    /// Checks that the start place exists, in the epoch in which it was saved.
    fn check_place(&self, head: Option<Position>, epochs: &Epochs) -> Result<()> {
        let position = match (self.start, &self.stream) {
            (Start::After(position), _) => Some(position),
            (Start::AfterVersion(version), Some(stream)) => self.position_of(stream, version)?,
            _ => None,
        };
        let (Some(noted), Some(position)) = (self.noted_in, position) else {
            return self.check_ahead(position, head);
        };
        let shared = epochs.shared_up_to(noted);
        if Some(position) > shared {
            return Err(Error::OtherEpoch { position, noted, current: epochs.current(), shared });
        }
        self.check_ahead(Some(position), head)
    }

    fn check_ahead(&self, position: Option<Position>, head: Option<Position>) -> Result<()> {
        match position {
            Some(asked) if position > head && !self.waits_if_ahead => {
                Err(Error::PositionAhead { asked, head })
            }
            _ => Ok(()),
        }
    }

    /// The position of a version of a stream; `None` if the subscription waits for it. If the
    /// version is deleted: that of the next event, or of the head.
    fn position_of(&self, stream: &StreamId, version: Version) -> Result<Option<Position>> {
        let read = || ReadStream::stream(self.store.clone(), stream);
        let (mut next, mut is_deleted) = (None, false);
        let visit = |event: EventRef<'_>| {
            next = Some(event.position());
            ControlFlow::Break(())
        };
        let visit_hole = |hole: Hole| is_deleted |= hole.last >= version.get();
        read().from(version).for_each_around_holes(visit, visit_hole)?;
        match next {
            Some(position) => Ok(Some(position)),
            None if is_deleted => self.store.head(),
            None if self.waits_if_ahead => Ok(None),
            None => Err(Error::VersionAhead {
                stream: stream.clone(),
                asked: version,
                actual: read().last()?.map(|event| event.version()),
            }),
        }
    }
}

impl<D> fmt::Debug for SubscriptionBuilder<D> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SubscriptionBuilder")
            .field("stream", &self.stream)
            .field("query", &self.query)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}
