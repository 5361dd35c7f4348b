//! Convenient reading from any [`EventStore`]: builders, an iterator of owned events, a visitor of
//! borrowed ones.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::{Blocking, Direction, EventStore, Hole, PageRequest, Query, QueryItem, Range, Scope};
use crate::error::{Error, Result};
use crate::model::{Copier, EventRef, Position, RecordedEvent, StreamId, Timestamp, Version};

/// Most events in a page of owned events: it bounds the memory of an iterator.
const PAGE_EVENTS_MAX: usize = 1_024;

/// The unit that a read counts in: [`Position`] for the log, [`Version`] for a stream.
pub trait Place: private::Place {}

impl Place for Position {}
impl Place for Version {}

mod private {
    /// A place as a number.
    pub trait Place: Copy {
        fn number(self) -> u64;
    }

    impl Place for crate::model::Position {
        fn number(self) -> u64 {
            self.get()
        }
    }

    impl Place for crate::model::Version {
        fn number(self) -> u64 {
            self.get()
        }
    }
}

/// A read of the log: see [`Read`].
pub type ReadLog<D = Blocking> = Read<Position, D>;
/// A read of one stream: see [`Read`].
pub type ReadStream<D = Blocking> = Read<Version, D>;

/// A read of the log or of a stream: set the start, the direction and the query, then iterate over
/// the events.
///
/// The read ends at the head at the moment when iteration starts: events appended later are not
/// part of it. Reading never blocks appending.
///
/// ```
/// use annals::prelude::*;
/// let store = MemoryStore::new();
/// for amount in [100, 200, 300] {
///     store.append("account-1", ExpectedVersion::Any, [NewEvent::json("Deposited", &amount)?])?;
/// }
/// let newest: Vec<u32> = store
///     .read_stream("account-1")
///     .backward()
///     .limit(2)
///     .into_iter()
///     .map(|event| event?.json())
///     .collect::<Result<_, _>>()?;
/// assert_eq!(newest, [300, 200]);
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "a read does nothing until its events are taken"]
pub struct Read<P, D = Blocking> {
    store: Arc<dyn EventStore>,
    scope: Scope,
    start: Option<Start>,
    to: u64,
    up_to: Position,
    up_to_time: Option<Timestamp>,
    direction: Direction,
    query: Query,
    /// The criteria that an event must meet besides.
    criteria: QueryItem,
    limit: Option<u64>,
    /// The error of the first invalid argument: iterating returns it.
    refused: Option<Error>,
    counts_in: PhantomData<fn(P)>,
    api: PhantomData<fn() -> D>,
}

#[derive(Debug, Clone, Copy)]
enum Start {
    From(u64),
    After(u64),
}

impl ReadLog {
    pub(crate) fn log(store: Arc<dyn EventStore>) -> Self {
        Self::new(store, Scope::Log, None)
    }
}

impl<D> ReadLog<D> {
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

    /// Only events that match this query, besides all other criteria that are set; replaces an
    /// earlier query.
    pub fn query(mut self, query: impl Into<Query>) -> Self {
        self.query = query.into();
        self
    }
}

impl ReadStream {
    pub(crate) fn stream<S>(store: Arc<dyn EventStore>, stream: S) -> Self
    where
        S: TryInto<StreamId, Error: Into<Error>>,
    {
        match stream.try_into() {
            Ok(stream) => Self::new(store, Scope::Stream(stream), None),
            Err(error) => Self::new(store, Scope::Log, Some(error.into())),
        }
    }
}

impl<D> ReadStream<D> {
    /// Reads the stream as it was when this version was its last.
    pub fn as_of_version(mut self, version: Version) -> Self {
        self.to = self.to.min(version.get());
        self
    }
}

impl<P: Place> Read<P> {
    fn new(store: Arc<dyn EventStore>, scope: Scope, refused: Option<Error>) -> Self {
        Self {
            store,
            scope,
            start: None,
            to: u64::MAX,
            up_to: Position::MAX,
            up_to_time: None,
            direction: Direction::Forward,
            query: Query::Everything,
            criteria: QueryItem::new(),
            limit: None,
            refused,
            counts_in: PhantomData,
            api: PhantomData,
        }
    }
}

impl<P: Place, D> Read<P, D> {
    /// The same read in another API.
    #[cfg(feature = "async")]
    pub(crate) fn in_api<E>(self) -> Read<P, E> {
        Read {
            store: self.store,
            scope: self.scope,
            start: self.start,
            to: self.to,
            up_to: self.up_to,
            up_to_time: self.up_to_time,
            direction: self.direction,
            query: self.query,
            criteria: self.criteria,
            limit: self.limit,
            refused: self.refused,
            counts_in: PhantomData,
            api: PhantomData,
        }
    }

    /// Starts at this place, inclusive, in the direction of reading.
    pub fn from(mut self, place: P) -> Self {
        self.start = Some(Start::From(place.number()));
        self
    }

    /// Starts after this place, in the direction of reading; `None` starts at the beginning.
    pub fn after(mut self, place: impl Into<Option<P>>) -> Self {
        self.start = place.into().map(|place| Start::After(place.number()));
        self
    }

    /// Reads from the newest to the oldest.
    pub fn backward(mut self) -> Self {
        self.direction = Direction::Backward;
        self
    }

    /// Takes at most this many events.
    pub fn limit(mut self, events: u64) -> Self {
        self.limit = Some(events);
        self
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

    /// Reads the log or the stream as it was when this position was the head.
    pub fn as_of_position(mut self, position: Position) -> Self {
        self.up_to = self.up_to.min(position);
        self
    }

    /// Reads the log or the stream as it was at this time: only events recorded at this time or
    /// before.
    ///
    /// # Cost
    /// A binary search over the log: about 20 reads of one event each for a log of a million
    /// events.
    pub fn as_of_time(mut self, time: Timestamp) -> Self {
        self.up_to_time = Some(self.up_to_time.map_or(time, |before| before.min(time)));
        self
    }
}

impl<P: Place> Read<P> {
    /// The first event, in the direction of reading, regardless of the limit.
    ///
    /// # Errors
    /// An invalid argument of this read, or an error of the store.
    pub fn first(self) -> Result<Option<RecordedEvent>> {
        self.limit(1).into_iter().next().transpose()
    }

    /// The last event, in the direction of reading, regardless of the limit.
    ///
    /// # Errors
    /// An invalid argument of this read, or an error of the store.
    pub fn last(mut self) -> Result<Option<RecordedEvent>> {
        let resolved = self.resolve()?;
        let direction = match self.direction {
            Direction::Forward => Direction::Backward,
            Direction::Backward => Direction::Forward,
        };
        Events::new(self.store, resolved, direction, self.query, 1).next().transpose()
    }

    /// Visits the events without copying them, until there are no more or `visit` breaks.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use annals::prelude::*;
    /// let store = MemoryStore::new();
    /// store.append("a", ExpectedVersion::Any, [NewEvent::json("Happened", &1)?])?;
    /// let mut bytes = 0;
    /// store.read_log().for_each(|event| {
    ///     bytes += event.payload().len();
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert_eq!(bytes, 1);
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    /// An invalid argument of this read, or an error of the store; the events visited before it are
    /// correct.
    pub fn for_each(self, visit: impl FnMut(EventRef<'_>) -> ControlFlow<()>) -> Result<()> {
        self.for_each_around_holes(visit, |_| {})
    }

    /// The places of this read whose events were deleted, in its order. A read that an index
    /// answers goes past no holes. If a stream was deleted and not created again, its hole is
    /// reported even if the read begins after it.
    ///
    /// # Errors
    /// Those of [`Read::for_each`].
    ///
    /// # Cost
    /// Reads all events.
    pub fn holes(self) -> Result<Vec<Hole>> {
        let mut holes = Vec::new();
        self.for_each_around_holes(|_| ControlFlow::Continue(()), |hole| holes.push(hole))?;
        Ok(holes)
    }

    /// Visits the events as [`Read::for_each`] does, and, after each page, the holes in it.
    pub(crate) fn for_each_around_holes(
        mut self,
        mut visit: impl FnMut(EventRef<'_>) -> ControlFlow<()>,
        visit_hole: impl FnMut(Hole),
    ) -> Result<()> {
        let mut visit_hole = visit_hole;
        let mut rest = self.resolve()?.range;
        let mut left = self.limit.unwrap_or(u64::MAX);
        let mut flow = ControlFlow::Continue(());
        while let Some(range) = rest.filter(|_| left > 0 && flow.is_continue()) {
            let request = PageRequest {
                range,
                direction: self.direction,
                query: self.query.clone(),
                events_max: usize::try_from(left).unwrap_or(usize::MAX),
            };
            let end = self.store.read_page(&request, &mut |event| {
                left -= 1;
                flow = visit(event);
                flow
            })?;
            rest = end.rest;
            end.holes.into_iter().for_each(&mut visit_hole);
        }
        Ok(())
    }

    /// What this read covers with the current head.
    fn resolve(&mut self) -> Result<Resolved> {
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        self.query.check()?;
        self.criteria.check_names()?;
        self.query = std::mem::take(&mut self.query).and(&self.criteria);
        self.query.check_names_max()?;
        let nothing = Resolved { range: None, up_to: None };
        let Some(head) = self.store.head()? else { return Ok(nothing) };
        let mut up_to = self.up_to.min(head);
        if let Some(time) = self.up_to_time {
            match position_at(&*self.store, time, up_to)? {
                Some(position) => up_to = position,
                None => return Ok(nothing),
            }
        }
        let start = match self.start {
            None => None,
            Some(Start::From(place)) => Some(place),
            Some(Start::After(place)) => Some(match self.direction {
                Direction::Forward => place.saturating_add(1),
                Direction::Backward => place - 1,
            }),
        };
        let (from, to) = match self.direction {
            Direction::Forward => (start.unwrap_or(1), self.to),
            Direction::Backward => (1, start.map_or(self.to, |start| start.min(self.to))),
        };
        let range = Range { scope: self.scope.clone(), from, to, up_to };
        // Later events of a stream that ends at a version have unknown positions.
        let read_up_to = match &self.scope {
            Scope::Log => Position::new(to.min(up_to.get())),
            Scope::Stream(_) => Some(up_to).filter(|_| to == u64::MAX),
        };
        let range = Some(range).filter(|range| !range.is_empty());
        Ok(Resolved { range, up_to: read_up_to })
    }
}

/// What a read covers.
struct Resolved {
    /// `None` if it is empty.
    range: Option<Range>,
    /// The last position that the read looks at.
    up_to: Option<Position>,
}

/// Iterates over owned events. The iterator ends after the first error.
impl<P: Place> IntoIterator for Read<P> {
    type Item = Result<RecordedEvent>;
    type IntoIter = Events;

    fn into_iter(mut self) -> Events {
        let limit = self.limit.unwrap_or(u64::MAX);
        match self.resolve() {
            Ok(resolved) => Events::new(self.store, resolved, self.direction, self.query, limit),
            Err(error) => {
                let nothing = Resolved { range: None, up_to: None };
                let mut events =
                    Events::new(self.store, nothing, self.direction, self.query, limit);
                events.error = Some(error);
                events
            }
        }
    }
}

impl<P, D> fmt::Debug for Read<P, D> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Read")
            .field("scope", &self.scope)
            .field("start", &self.start)
            .field("direction", &self.direction)
            .field("query", &self.query)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// The last position at or below `head` that was recorded at `time` or before; `None` if there is
/// none.
///
/// Recorded-at never goes back along the log, so this is a binary search over positions.
///
/// # Errors
/// An error of the store.
pub(crate) fn position_at(
    store: &dyn EventStore,
    time: Timestamp,
    head: Position,
) -> Result<Option<Position>> {
    // Invariant: everything up to `low` is at or before the time, everything from `high` on is
    // after it.
    let (mut low, mut high) = (0, head.get().saturating_add(1));
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        let Some(position) = Position::new(middle) else { break };
        // The first event that is left from there on: those in the middle may have been deleted.
        let range = Some(Range::log(position, head));
        let resolved = Resolved { range, up_to: None };
        let read = Events::new(store.handle(), resolved, Direction::Forward, Query::Everything, 1);
        match read.last() {
            Some(Ok(event)) if event.recorded_at() <= time => low = event.position().get(),
            Some(Err(error)) => return Err(error),
            _ => high = middle,
        }
    }
    Ok(Position::new(low))
}

/// The iterator over the owned events of a read. It holds no lock and no engine resource between
/// calls, and does not keep the store open.
pub struct Events {
    store: Arc<dyn EventStore>,
    rest: Option<Range>,
    direction: Direction,
    query: Query,
    left: u64,
    page: VecDeque<RecordedEvent>,
    error: Option<Error>,
    /// The last position that the read looks at.
    up_to: Option<Position>,
    /// The position of the event that was returned last.
    returned: Option<Position>,
    has_failed: bool,
}

impl Events {
    fn new(
        store: Arc<dyn EventStore>,
        resolved: Resolved,
        direction: Direction,
        query: Query,
        limit: u64,
    ) -> Self {
        Self {
            store,
            rest: resolved.range,
            direction,
            query,
            left: limit,
            page: VecDeque::new(),
            error: None,
            up_to: resolved.up_to,
            returned: None,
            has_failed: false,
        }
    }

    /// The position up to which this read has returned every event that it is to return: the place
    /// for [`Append::after`](super::Append::after). At the end of the iteration this is the head at
    /// its start, or the position of [`Read::as_of_position`]; before the end, or if a limit ended
    /// it, the position of the last event that was returned. `None` if nothing is known yet, as
    /// while reading backward, and if the log is empty. A read that begins after a place says nothing
    /// of the events before it.
    ///
    /// It is never newer than what was read.
    pub fn read_up_to(&self) -> Option<Position> {
        let is_at_end = self.rest.is_none() && self.page.is_empty() && self.error.is_none();
        if is_at_end && !self.has_failed {
            return self.up_to.or(self.returned);
        }
        self.returned.filter(|_| self.direction == Direction::Forward)
    }

    /// Reads pages until one holds an event or nothing is left. An error is kept until the events
    /// before it are taken.
    fn fill(&mut self) {
        while self.page.is_empty() && self.error.is_none() && self.left > 0 {
            let Some(range) = self.rest.take() else { return };
            let request = PageRequest {
                range,
                direction: self.direction,
                query: self.query.clone(),
                events_max: usize::try_from(self.left).unwrap_or(usize::MAX).min(PAGE_EVENTS_MAX),
            };
            let (page, mut copier) = (&mut self.page, Copier::default());
            let end = self.store.read_page(&request, &mut |event| {
                page.push_back(copier.copy(&event));
                ControlFlow::Continue(())
            });
            match end {
                Ok(end) => self.rest = end.rest,
                Err(error) => self.error = Some(error),
            }
            self.left =
                self.left.saturating_sub(u64::try_from(self.page.len()).unwrap_or(u64::MAX));
        }
    }
}

impl Iterator for Events {
    type Item = Result<RecordedEvent>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty() {
            self.fill();
        }
        match self.page.pop_front() {
            Some(event) => {
                self.returned = Some(event.position());
                Some(Ok(event))
            }
            None => self.error.take().map(|error| {
                (self.rest, self.has_failed) = (None, true);
                Err(error)
            }),
        }
    }
}

impl std::iter::FusedIterator for Events {}

impl fmt::Debug for Events {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Events")
            .field("rest", &self.rest)
            .field("direction", &self.direction)
            .field("query", &self.query)
            .finish_non_exhaustive()
    }
}
