//! The reference: a plain list of events, with every query as a filter over it. It shares no code
//! with the stores.

use std::collections::{BTreeMap, BTreeSet};

use annals::prelude::*;
use annals::{REDACTED, StreamState, Timestamp};

use super::ops::{AsOf, Ask, Item, Start};
use super::world::{STREAMS, TAGS, TYPES};

/// An event in the reference.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fact {
    pub(crate) id: EventId,
    pub(crate) event_type: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) stream: String,
    pub(crate) version: u64,
    pub(crate) position: u64,
    pub(crate) time: i64,
    pub(crate) commit: (u64, u64),
    pub(crate) tags: Vec<String>,
    pub(crate) has_metadata: bool,
    pub(crate) is_redacted: bool,
    /// Whether it was deleted.
    pub(crate) is_gone: bool,
}

impl Fact {
    /// Whether it has all tags whose bits are set.
    fn has_tags(&self, bits: u8) -> bool {
        let wanted = TAGS.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
        wanted.into_iter().all(|(_, wanted)| self.tags.iter().any(|tag| tag == wanted))
    }

    fn is_of_type(&self, types: usize) -> bool {
        types == 0 || TYPES[..types].contains(&&*self.event_type)
    }

    fn is_of(&self, item: &Item) -> bool {
        let category = self.stream.split('-').next();
        self.has_tags(item.tags)
            && self.is_of_type(item.types)
            && item.stream.is_none_or(|stream| self.stream == STREAMS[stream])
            && item.category.is_none_or(|wanted| category == Some(wanted))
            && item.prefix.is_none_or(|prefix| self.stream.starts_with(prefix))
    }

    /// Whether it matches the query of a read of the log, and its other criteria.
    fn is_asked(&self, ask: &Ask) -> bool {
        let Ask { types, category, prefix, .. } = *ask;
        let criteria = Item { tags: 0, types, stream: None, category, prefix };
        self.is_of_any(&ask.items) && self.is_of(&criteria)
    }

    /// Without items, everything matches.
    fn is_of_any(&self, items: &[Item]) -> bool {
        items.is_empty() || items.iter().any(|item| self.is_of(item))
    }
}

impl From<RecordedEvent> for Fact {
    fn from(event: RecordedEvent) -> Self {
        Self {
            id: event.id(),
            event_type: event.event_type().to_string(),
            payload: event.payload().to_vec(),
            stream: event.stream().to_string(),
            version: event.version().get(),
            position: event.position().get(),
            time: event.recorded_at().as_micros(),
            commit: (event.commit().start().get(), event.commit().end().get()),
            tags: event.tags().to_vec(),
            has_metadata: !event.metadata().is_empty(),
            is_redacted: event.content_type().as_str() == REDACTED,
            is_gone: false,
        }
    }
}

/// The arguments of an append: the expectation for each stream, and the events in order, each with
/// its stream.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) expected: Vec<(&'static str, ExpectedVersion)>,
    pub(crate) events: Vec<(&'static str, NewEvent)>,
    /// The items of each condition, and the position after which events count.
    pub(crate) conditions: Vec<(Vec<Item>, u64)>,
}

/// The outcome of an append.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The positions, and whether it is a retry.
    Done(Vec<u64>, bool),
    Conflict(String, Option<u64>),
    Partial,
    /// The first event that matches a condition.
    ConditionFailed(u64),
    /// An event that would have to be looked at was deleted.
    Deleted,
    /// The stream was deleted for good.
    Tombstoned(String),
    TooEarly,
    Invalid,
}

/// The outcome of a request with a key.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    /// Its result, and whether it had been done before.
    Done(KeyResult, bool),
    /// The key belongs to another request.
    Reused,
    Refused(Outcome),
}

/// The recorded result of a request: the positions of its events; none if nothing happened.
pub(crate) type KeyResult = Vec<u64>;

/// A recorded key.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) key: usize,
    pub(crate) other: bool,
    pub(crate) result: KeyResult,
    /// The length of the log after it was recorded.
    pub(crate) log: u64,
}

/// How much of one stream's part already exists, if the append is a retry.
#[derive(PartialEq)]
enum Again {
    Not,
    Some,
    All(Vec<u64>),
    /// Its place was deleted.
    Unknown,
}

#[derive(Default)]
pub(crate) struct Reference {
    /// All events, including those that were deleted.
    pub(crate) log: Vec<Fact>,
    /// In the order in which they were recorded.
    pub(crate) keys: Vec<Recorded>,
    /// The streams that were deleted as a whole: the last version then, and how.
    pub(crate) ends: BTreeMap<String, (u64, StreamState)>,
    /// The last position of an event that was deleted or has lost a tag.
    pub(crate) deleted_up_to: u64,
}

impl Reference {
    fn of<'a>(&'a self, stream: &'a str) -> impl DoubleEndedIterator<Item = &'a Fact> + Clone {
        self.log.iter().filter(move |fact| fact.stream == stream)
    }

    /// The events that are left.
    pub(crate) fn left(&self) -> impl DoubleEndedIterator<Item = &Fact> + Clone {
        self.log.iter().filter(|fact| !fact.is_gone)
    }

    /// The last version that a stream ever had.
    pub(crate) fn last_version(&self, stream: &str) -> Option<u64> {
        self.of(stream).next_back().map(|fact| fact.version)
    }

    pub(crate) fn state(&self, stream: &str) -> StreamState {
        let end = self.ends.get(stream).filter(|(at, _)| Some(*at) == self.last_version(stream));
        end.map_or(StreamState::Live, |(_, state)| *state)
    }

    pub(crate) fn is_tombstoned(&self, stream: &str) -> bool {
        self.state(stream) == StreamState::Tombstoned
    }

    /// The version that readers see: a deleted stream has none.
    pub(crate) fn stream_version(&self, stream: &str) -> Option<u64> {
        self.last_version(stream).filter(|_| self.state(stream) == StreamState::Live)
    }

    /// The retry rule of the documentation: the same events are found after `Exact`'s version, at
    /// the start for `NoStream`, and at the end of the stream for the others, where the last event
    /// must be one of them. If something there was deleted, it is not known.
    fn again(&self, stream: &str, expected: ExpectedVersion, ids: &[EventId]) -> Again {
        let there: Vec<&Fact> = self.of(stream).collect();
        let from = match expected {
            ExpectedVersion::NoStream if self.state(stream) == StreamState::Deleted => {
                let is_last = there.last().is_some_and(|last| ids.contains(&last.id));
                return if is_last { Again::Unknown } else { Again::Not };
            }
            // The start since the stream was last deleted.
            ExpectedVersion::NoStream => {
                usize::try_from(self.ends.get(stream).map_or(0, |(end, _)| *end)).unwrap()
            }
            ExpectedVersion::Exact(version) => usize::try_from(version.get()).unwrap(),
            _ => {
                if there.last().is_none_or(|last| !ids.contains(&last.id)) {
                    return Again::Not;
                }
                match there.len().checked_sub(ids.len()) {
                    Some(from) => from,
                    None => return Again::Some,
                }
            }
        };
        let place: Vec<_> = there.iter().skip(from).take(ids.len()).collect();
        if place.iter().any(|fact| fact.is_gone) {
            Again::Unknown
        } else if place.iter().map(|fact| fact.id).eq(ids.iter().copied()) {
            Again::All(place.iter().map(|fact| fact.position).collect())
        } else if place.iter().any(|fact| ids.contains(&fact.id)) {
            Again::Some
        } else {
            Again::Not
        }
    }

    pub(crate) fn append(&mut self, call: &Call, clock: i64) -> Outcome {
        if call.events.is_empty() {
            return Outcome::Invalid;
        }
        let mut found: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        let (mut written, mut is_partial) = (0, false);
        for (stream, expected) in &call.expected {
            let own = call.events.iter().filter(|(of, _)| of == stream);
            let ids: Vec<EventId> = own.map(|(_, event)| event.id()).collect();
            if ids.is_empty() {
                continue;
            }
            if self.is_tombstoned(stream) {
                return Outcome::Tombstoned((*stream).to_owned());
            }
            written += 1;
            match self.again(stream, *expected, &ids) {
                Again::Not => {}
                Again::Some => is_partial = true,
                Again::All(positions) => drop(found.insert(stream, positions)),
                Again::Unknown => return Outcome::Deleted,
            }
        }
        if found.len() == written && !is_partial {
            let positions = call.events.iter().map(|(of, _)| found.get_mut(of).unwrap().remove(0));
            return Outcome::Done(positions.collect(), true);
        }
        // One stream has its events at the expected place, another no longer does. It is a retry if
        // the commit with the found events is exactly this call.
        let first = found.values().flatten().next();
        if let Some(positions) = first.and_then(|position| self.commit_of(call, *position)) {
            return Outcome::Done(positions, true);
        }
        if is_partial || !found.is_empty() {
            return Outcome::Partial;
        }
        for (stream, expected) in &call.expected {
            if self.is_tombstoned(stream) {
                return Outcome::Tombstoned((*stream).to_owned());
            }
            let tip = self.stream_version(stream);
            let is_met = match expected {
                ExpectedVersion::Any => true,
                ExpectedVersion::NoStream => tip.is_none(),
                ExpectedVersion::StreamExists => tip.is_some(),
                ExpectedVersion::Exact(version) => tip == Some(version.get()),
            };
            if !is_met {
                return Outcome::Conflict((*stream).to_owned(), tip);
            }
        }
        for (items, after) in &call.conditions {
            let is_match = |fact: &&Fact| fact.position > *after && fact.is_of_any(items);
            let found = self.left().find(is_match).map(|fact| fact.position);
            if let Some(positions) = found.and_then(|found| self.commit_of(call, found)) {
                return Outcome::Done(positions, true);
            }
            // An event that was deleted may have matched.
            if (1..self.deleted_up_to).contains(after) {
                return Outcome::Deleted;
            }
            if let Some(found) = found {
                return Outcome::ConditionFailed(found);
            }
        }
        self.add(call, clock)
    }

    /// The positions of the commit that the event at this position is part of, if it is exactly this
    /// call and nothing of it was deleted.
    fn commit_of(&self, call: &Call, position: u64) -> Option<Vec<u64>> {
        let commit = self.log[usize::try_from(position - 1).unwrap()].commit;
        let there = self.left().filter(|fact| fact.commit == commit);
        let asked = call.events.iter().map(|(of, event)| (&**of, event.id()));
        let is_this = there.clone().map(|fact| (&*fact.stream, fact.id)).eq(asked);
        is_this.then(|| there.map(|fact| fact.position).collect())
    }

    pub(crate) fn append_once(
        &mut self,
        call: &Call,
        (key, other): (usize, bool),
        clock: i64,
    ) -> Answer {
        if let Some(known) = self.keys.iter().find(|known| known.key == key) {
            let result = known.result.clone();
            return if known.other == other { Answer::Done(result, true) } else { Answer::Reused };
        }
        let outcome = if call.events.is_empty() {
            Outcome::Done(Vec::new(), false)
        } else {
            self.append(call, clock)
        };
        let Outcome::Done(result, is_retry) = outcome else { return Answer::Refused(outcome) };
        let log = self.log.len() as u64;
        self.keys.push(Recorded { key, other, result: result.clone(), log });
        Answer::Done(result, is_retry)
    }

    fn add(&mut self, call: &Call, clock: i64) -> Outcome {
        let last = self.log.last().map_or(i64::MIN, |fact| fact.time);
        let first = self.log.len() as u64 + 1;
        let given = call.events[0].1.recorded_at();
        if given.is_some_and(|given| given.as_micros() < last) {
            return Outcome::TooEarly;
        }
        let end = first + call.events.len() as u64 - 1;
        for (position, (stream, event)) in (first..).zip(&call.events) {
            let version = self.last_version(stream).map_or(1, |last| last + 1);
            let given = event.recorded_at().map(Timestamp::as_micros);
            self.log.push(Fact {
                id: event.id(),
                event_type: event.event_type().to_string(),
                payload: event.payload().to_vec(),
                stream: (*stream).to_owned(),
                version,
                position,
                time: given.unwrap_or_else(|| last.max(clock)),
                commit: (first, end),
                tags: event.tags().to_vec(),
                has_metadata: !event.metadata().is_empty(),
                is_redacted: false,
                is_gone: false,
            });
        }
        Outcome::Done((first..=end).collect(), false)
    }

    /// Truncates the reference after a loss: whole commits remain, in order (G1, G10).
    pub(crate) fn truncate(&mut self, head: u64) {
        self.log.truncate(usize::try_from(head).unwrap());
        assert!(self.log.last().is_none_or(|last| last.commit.1 == head), "half a commit is left");
    }

    pub(crate) fn read(&self, ask: &Ask, clock: i64) -> Vec<Fact> {
        let place = |fact: &Fact| if ask.stream.is_some() { fact.version } else { fact.position };
        let is_wanted = |fact: &&Fact| {
            // Only a read of the log has a query, a category and a prefix.
            let in_scope = match ask.stream {
                Some(stream) => fact.stream == STREAMS[stream] && fact.is_of_type(ask.types),
                None => fact.is_asked(ask),
            };
            let is_begun = match (ask.start, ask.backward) {
                (Start::Beginning, _) => true,
                (Start::From(from), false) => place(fact) >= from,
                (Start::From(from), true) => place(fact) <= from,
                (Start::After(after), false) => place(fact) > after,
                (Start::After(after), true) => place(fact) < after,
            };
            let was_there = match ask.as_of {
                AsOf::Position(position) => fact.position <= position,
                AsOf::Version(version) => ask.stream.is_none() || fact.version <= version,
                AsOf::Time(before) => fact.time <= clock - before,
                AsOf::Now => true,
            };
            in_scope && is_begun && was_there && fact.has_tags(ask.tags)
        };
        let mut facts: Vec<Fact> = self.left().filter(is_wanted).cloned().collect();
        if ask.backward {
            facts.reverse();
        }
        facts.truncate(ask.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap()));
        facts
    }

    /// The last position that was recorded by then.
    pub(crate) fn position_at(&self, time: i64) -> Option<u64> {
        self.left().rfind(|fact| fact.time <= time).map(|fact| fact.position)
    }

    /// The deleted places of a read; `None` if an index may answer it, because such a read goes past
    /// no holes.
    pub(crate) fn holes(&self, ask: &Ask, clock: i64) -> Option<BTreeSet<u64>> {
        let is_plain = ask.items.is_empty() && (ask.tags, ask.types) == (0, 0);
        let is_plain = is_plain && ask.category.is_none() && ask.prefix.is_none();
        if ask.stream.is_none() && !is_plain {
            return None;
        }
        let up_to = match ask.as_of {
            AsOf::Now | AsOf::Version(_) => u64::MAX,
            AsOf::Position(position) => position,
            AsOf::Time(before) => self.position_at(clock - before).unwrap_or_default(),
        };
        let end = match ask.as_of {
            AsOf::Version(version) if ask.stream.is_some() => version,
            _ => u64::MAX,
        };
        let (from, to) = match (ask.start, ask.backward) {
            (Start::Beginning, _) => (1, end),
            (Start::From(from), false) => (from, end),
            (Start::After(after), false) => (after.saturating_add(1), end),
            (Start::From(from), true) => (1, from.min(end)),
            (Start::After(after), true) => (1, (after - 1).min(end)),
        };
        let mut gone: Vec<_> = self.log.iter().filter(|fact| fact.is_gone).collect();
        let place = |fact: &Fact| if ask.stream.is_some() { fact.version } else { fact.position };
        if let Some(stream) = ask.stream.map(|stream| STREAMS[stream]) {
            // The hole of a stream is seen as a whole, or not at all.
            gone.retain(|fact| fact.stream == stream);
            let is_seen = gone.last().is_some_and(|last| last.position <= up_to);
            gone.retain(|_| is_seen);
        }
        let is_after_end = ask.stream.is_some_and(|stream| {
            let name = STREAMS[stream];
            let is_after = from <= to && self.last_version(name).is_some_and(|last| from > last);
            is_after && self.state(name) == StreamState::Deleted
        });
        // If a stream was deleted, a read after its end learns it.
        let is_read = |place| is_after_end || (from..=to).contains(&place);
        gone.retain(|fact| fact.position <= up_to && is_read(place(fact)));
        let mut places: BTreeSet<u64> = gone.into_iter().map(place).collect();
        if let Some(limit) = ask.limit {
            // The read ends at its last event.
            let read = self.read(ask, clock);
            let last = read.last().filter(|_| read.len() as u64 == limit).map(place);
            let is_read = |at: u64| last.is_none_or(|last| (at < last) != ask.backward);
            places.retain(|at| limit > 0 && is_read(*at));
        }
        Some(places)
    }
}
