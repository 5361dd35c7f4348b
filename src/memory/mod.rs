//! [`MemoryStore`]: the same contract without a disk, for tests.

mod derived;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime};

use crate::error::{Error, Result};
use crate::event_store::{
    Append, Appended, Direction, EventStore, PageEnd, PageQuery, Range, Scope, StreamInfo,
    StreamsQuery, Visitor,
};
use crate::head::Head;
use crate::model::{
    Epoch, Epochs, EventId, Limits, Position, RecordedAs, RecordedEvent, StreamId, Timestamp,
    Version,
};
use crate::options::{Clock, now};
use crate::sync::RwLock;
use crate::validate::{Commit, Committed, LastEvent, Shape, Verdict, validate};

/// How many events a page looks at, matching or not.
const PAGE_EVENTS_MAX: usize = 1_024;

/// A store in memory: all that [`Store`](crate::Store) promises but for what survives. Clones share it; it stays open
/// until [`MemoryStore::close`].
///
/// ```
/// use annals::prelude::*;
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
    head: Head,
    epochs: Epochs,
    derived: derived::Derived,
    limits: Limits,
    clock: Clock,
}

#[derive(Default)]
struct History {
    log: Vec<Arc<RecordedEvent>>,
    /// Indexes into the log.
    streams: BTreeMap<StreamId, Vec<usize>>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store with the system's clock.
    pub fn new() -> Self {
        Self::with(Limits::default(), || Timestamp::from(SystemTime::now()))
    }

    /// An empty store with limits and a clock of the caller's. A limit above what a [`Store`](crate::Store) allows
    /// counts as that.
    pub fn with(limits: Limits, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let history = RwLock::new(History::default());
        let (head, clock): (_, Clock) = (Head::new(None), Arc::new(clock));
        Self {
            inner: Arc::new(Inner {
                history,
                head,
                epochs: Epochs::new(Epoch::random()),
                derived: derived::Derived::default(),
                limits: limits.at_most_allowed(),
                clock,
            }),
        }
    }

    /// Closes the store for all its clones: every later call fails with [`Error::Closed`], those that wait included.
    pub fn close(&self) {
        self.inner.head.close();
    }
}

impl EventStore for MemoryStore {
    fn submit(&self, append: Append) -> Result<Appended> {
        let Inner { history, head, limits, clock, .. } = &*self.inner;
        append.validate(limits)?;
        let mut history = history.write();
        head.get()?;
        match validate(&Shape::of(&append), &mut *history)? {
            Verdict::Replay(appended) => Ok(appended),
            Verdict::Append(tips) => {
                let appended = history.add(append, &tips, now(clock))?;
                head.publish(appended.last_position());
                Ok(appended)
            }
        }
    }

    fn read_page(&self, query: &PageQuery, visit: &mut Visitor<'_>) -> Result<PageEnd> {
        let Some(head) = self.inner.head.get()? else { return Ok(PageEnd { rest: None }) };
        let history = self.inner.history.read();
        let page = history.page(query, head);
        drop(history);
        for (event, rest) in page.events {
            if visit((*event).as_ref()).is_break() {
                return Ok(PageEnd { rest });
            }
        }
        Ok(PageEnd { rest: page.rest })
    }

    fn head(&self) -> Result<Option<Position>> {
        self.inner.head.get()
    }

    fn stream_version(&self, stream: &StreamId) -> Result<Option<Version>> {
        self.inner.head.get()?;
        let history = self.inner.history.read();
        Ok(history.streams.get(stream).and_then(|events| version(events.len())))
    }

    fn list_streams(&self, query: &StreamsQuery) -> Result<Vec<StreamInfo>> {
        self.inner.head.get()?;
        let history = self.inner.history.read();
        let after = query.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let streams = history.streams.range::<StreamId, _>((after, Bound::Unbounded));
        let streams = streams.filter(|(id, _)| id.as_str().starts_with(&query.prefix));
        let infos = streams.filter_map(|(id, events)| {
            Some(StreamInfo { id: id.clone(), version: version(events.len())? })
        });
        Ok(infos.take(query.streams_max).collect())
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

    fn now(&self) -> Timestamp {
        now(&self.inner.clock)
    }

    fn handle(&self) -> Arc<dyn EventStore> {
        Arc::new(self.clone())
    }
}

fn version(count: usize) -> Option<Version> {
    u64::try_from(count).ok().and_then(Version::new)
}

fn index(place: u64) -> usize {
    usize::try_from(place - 1).unwrap_or(usize::MAX)
}

/// Some events, each with what is left of the range after it.
struct Page {
    events: Vec<(Arc<RecordedEvent>, Option<Range>)>,
    rest: Option<Range>,
}

impl History {
    fn add(
        &mut self,
        append: Append,
        tips: &[Option<Version>],
        now: Timestamp,
    ) -> Result<Appended> {
        let last = self.log.last().map(|event| event.recorded_at());
        let given = append.events().next().and_then(|(_, event)| event.recorded_at());
        if let Some((given, last)) = given.zip(last).filter(|(given, last)| given < last) {
            return Err(Error::RecordedAtBeforeHead { given, last });
        }
        let now = last.map_or(now, |last| last.max(now));
        let first = Position::after(self.log.last().map(|event| event.position()));
        let count = u64::try_from(append.events().count()).unwrap_or(u64::MAX);
        let commit = first..=first.plus(count.saturating_sub(1));
        let (expectations, runs) = append.into_parts();
        let mut position = first;
        for run in runs {
            let Some((stream, _)) = expectations.get(run.stream) else { continue };
            let events = self.streams.entry(stream.clone()).or_default();
            for event in run.events {
                let place = RecordedAs {
                    stream: stream.clone(),
                    version: Version::after(version(events.len())),
                    position,
                    recorded_at: event.recorded_at().unwrap_or(now),
                    commit: commit.clone(),
                };
                events.push(self.log.len());
                self.log.push(Arc::new(RecordedEvent::new(event, place)));
                position = position.next();
            }
        }
        let versions = expectations.into_iter().zip(tips).filter_map(|((stream, _), before)| {
            let last = version(self.streams.get(&stream)?.len())?;
            let first = Version::after(*before);
            (first <= last).then_some((stream, first..=last))
        });
        Appended::new(vec![commit], versions.collect(), false).ok_or(Error::Closed)
    }

    fn page(&self, query: &PageQuery, head: Position) -> Page {
        let mut rest = Some(query.range.clone()).filter(|range| !range.is_empty());
        let mut events = Vec::new();
        // Looked at before the first event: a page of none leaves the whole range.
        for _ in 0..PAGE_EVENTS_MAX {
            if events.len() >= query.events_max {
                break;
            }
            let Some(range) = rest.take() else { break };
            let Some((event, left)) = self.step(range, query.direction, head) else { break };
            rest = left;
            if query.filter.matches(&(*event).as_ref()) {
                events.push((event, rest.clone()));
            }
        }
        Page { events, rest }
    }

    /// The next event of a range, and what is left of the range after it.
    fn step(
        &self,
        range: Range,
        direction: Direction,
        head: Position,
    ) -> Option<(Arc<RecordedEvent>, Option<Range>)> {
        let up_to = range.up_to.min(head);
        let stream = match &range.scope {
            Scope::Log => None,
            Scope::Stream(stream) => Some(self.streams.get(stream)?.as_slice()),
        };
        let to = range.to.min(match stream {
            None => up_to.get(),
            Some(events) => {
                let count = events.partition_point(|event| *event < index(up_to.next().get()));
                u64::try_from(count).ok()?
            }
        });
        let (at, next) = match direction {
            Direction::Forward => (range.from, range.from.saturating_add(1)),
            Direction::Backward => (to, to.saturating_sub(1)),
        };
        let range = Range { to, ..range };
        if range.is_empty() {
            return None;
        }
        let at = stream.map_or(Some(index(at)), |stream| stream.get(index(at)).copied())?;
        Some((self.log.get(at)?.clone(), range.rest(next, direction)))
    }
}

impl Committed for History {
    fn stream_version(&mut self, stream: &StreamId) -> Result<Option<LastEvent>> {
        let last = self.streams.get(stream).and_then(|events| self.log.get(*events.last()?));
        Ok(last.map(|event| LastEvent { version: event.version(), id: event.id() }))
    }

    fn places(
        &mut self,
        stream: &StreamId,
        from: Version,
        count: usize,
    ) -> Result<Vec<(EventId, Position)>> {
        let events = self.streams.get(stream).map(Vec::as_slice).unwrap_or_default();
        let events = events.iter().skip(index(from.get())).take(count);
        let events = events.filter_map(|event| self.log.get(*event));
        Ok(events.map(|event| (event.id(), event.position())).collect())
    }

    fn commit(&mut self, position: Position) -> Result<Commit> {
        let span = self.log.get(index(position.get())).map(|event| event.commit());
        let (first, last) = span.map_or((position, position), RangeInclusive::into_inner);
        let events = self.log.iter().skip(index(first.get()));
        let events = events.take_while(|event| event.position() <= last);
        let events = events.map(|event| (event.stream().clone(), event.version(), event.id()));
        Ok(Commit { first, events: events.collect() })
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("MemoryStore").field("head", &self.inner.head.current()).finish()
    }
}
