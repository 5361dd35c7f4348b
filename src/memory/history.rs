//! [`History`]: the events of a [`MemoryStore`](crate::MemoryStore).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::event_store::{Append, AppendCondition, Appended, Direction, PageRequest, Range, Scope};
use crate::model::{EventId, Position, RecordedAs, RecordedEvent, StreamId, Timestamp, Version};
use crate::validate::{Commit, Committed, LastEvent};

/// How many events a page examines at most, including those that do not match.
const PAGE_EVENTS_MAX: usize = 1_024;

/// All events, with an index by stream.
#[derive(Default)]
pub(super) struct History {
    log: Vec<Arc<RecordedEvent>>,
    /// Indexes into the log.
    pub(super) streams: BTreeMap<StreamId, Vec<usize>>,
}

/// The version of the last of this many events.
pub(super) fn version(count: usize) -> Option<Version> {
    u64::try_from(count).ok().and_then(Version::new)
}

fn index(place: u64) -> usize {
    usize::try_from(place - 1).unwrap_or(usize::MAX)
}

/// Some events, each with the rest of the range after it.
pub(super) struct EventPage {
    pub(super) events: Vec<(Arc<RecordedEvent>, Option<Range>)>,
    pub(super) rest: Option<Range>,
}

impl History {
    /// Adds a validated append. `before` holds the versions of its streams, one for each
    /// expectation.
    pub(super) fn add(
        &mut self,
        append: Append,
        before: &[Option<Version>],
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
        let versions = expectations.into_iter().zip(before).filter_map(|((stream, _), before)| {
            let last = version(self.streams.get(&stream)?.len())?;
            let first = Version::after(*before);
            (first <= last).then_some((stream, first..=last))
        });
        Appended::new([commit], versions, false).ok_or(Error::Closed)
    }

    /// Some events of the request's range, in order.
    pub(super) fn page(&self, request: &PageRequest, head: Position) -> EventPage {
        let mut rest = Some(request.range.clone()).filter(|range| !range.is_empty());
        let mut events = Vec::new();
        // The limit is checked before the first event: a page of no events leaves the whole range.
        for _ in 0..PAGE_EVENTS_MAX {
            if events.len() >= request.events_max {
                break;
            }
            let Some(range) = rest.take() else { break };
            let Some((event, left)) = self.step(range, request.direction, head) else { break };
            rest = left;
            if request.query.matches(&(*event).as_ref()) {
                events.push((event, rest.clone()));
            }
        }
        EventPage { events, rest }
    }

    /// The next event of a range, and the rest of the range after it.
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
        // Places count from 1.
        let from = range.from.max(1);
        let (at, next) = match direction {
            Direction::Forward => (from, from.saturating_add(1)),
            Direction::Backward => (to, to.saturating_sub(1)),
        };
        let range = Range { from, to, ..range };
        if range.is_empty() {
            return None;
        }
        let at = stream.map_or(Some(index(at)), |stream| stream.get(index(at)).copied())?;
        Some((self.log.get(at)?.clone(), range.rest(next, direction)))
    }
}

impl Committed for History {
    fn last_event(&mut self, stream: &StreamId) -> Result<Option<LastEvent>> {
        let last = self.streams.get(stream).and_then(|events| self.log.get(*events.last()?));
        Ok(last.map(|event| LastEvent::new(event.version(), event.id())))
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

    fn first_match(&mut self, _: usize, condition: &AppendCondition) -> Result<Option<Position>> {
        let after = condition.after().map_or(0, Position::get);
        let later = self.log.iter().skip(usize::try_from(after).unwrap_or(usize::MAX));
        let found = { later }.find(|event| condition.query().matches(&(***event).as_ref()));
        Ok(found.map(|event| event.position()))
    }

    fn commit(&mut self, position: Position, events: usize) -> Result<Option<Commit>> {
        let span = self.log.get(index(position.get())).map(|event| event.commit());
        let (first, last) = span.map_or((position, position), RangeInclusive::into_inner);
        if usize::try_from(last.get() - first.get() + 1) != Ok(events) {
            return Ok(None);
        }
        let events = self.log.iter().skip(index(first.get()));
        let events = events.take_while(|event| event.position() <= last);
        let events = events.map(|event| (event.stream().clone(), event.version(), event.id()));
        Ok(Some(Commit { first, events: events.collect() }))
    }
}
