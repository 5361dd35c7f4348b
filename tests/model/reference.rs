//! The reference: a plain list of events, with every query as a filter over it. It shares no code
//! with the stores.

use std::collections::BTreeMap;

use annals::Timestamp;
use annals::prelude::*;

use super::ops::{AsOf, Ask, Start};
use super::world::{STREAMS, TYPES};

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
        }
    }
}

/// The arguments of an append: the expectation for each stream, and the events in order, each with
/// its stream.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) expected: Vec<(&'static str, ExpectedVersion)>,
    pub(crate) events: Vec<(&'static str, NewEvent)>,
}

/// The outcome of an append.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The positions, and whether it is a retry.
    Done(Vec<u64>, bool),
    Conflict(String, Option<u64>),
    Partial,
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
}

#[derive(Default)]
pub(crate) struct Reference {
    pub(crate) log: Vec<Fact>,
    /// In the order in which they were recorded.
    pub(crate) keys: Vec<Recorded>,
}

impl Reference {
    fn of<'a>(&'a self, stream: &'a str) -> impl DoubleEndedIterator<Item = &'a Fact> + Clone {
        self.log.iter().filter(move |fact| fact.stream == stream)
    }

    pub(crate) fn stream_version(&self, stream: &str) -> Option<u64> {
        self.of(stream).next_back().map(|fact| fact.version)
    }

    /// The retry rule of the documentation: the same events are found after `Exact`'s version, at
    /// the start for `NoStream`, and at the end of the stream for the others, where the last event
    /// must be one of them.
    fn again(&self, stream: &str, expected: ExpectedVersion, ids: &[EventId]) -> Again {
        let there: Vec<&Fact> = self.of(stream).collect();
        let from = match expected {
            ExpectedVersion::NoStream => 0,
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
        if place.iter().map(|fact| fact.id).eq(ids.iter().copied()) {
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
            written += 1;
            match self.again(stream, *expected, &ids) {
                Again::Not => {}
                Again::Some => is_partial = true,
                Again::All(positions) => drop(found.insert(stream, positions)),
            }
        }
        if found.len() == written && !is_partial {
            let positions = call.events.iter().map(|(of, _)| found.get_mut(of).unwrap().remove(0));
            return Outcome::Done(positions.collect(), true);
        }
        // One stream has its events at the expected place, another no longer does. It is a retry if
        // the commit with the found events is exactly this call.
        if let Some(position) = found.values().flatten().next() {
            let commit = self.log[usize::try_from(position - 1).unwrap()].commit;
            let there = self.log.iter().filter(|fact| fact.commit == commit);
            let asked = call.events.iter().map(|(of, event)| (&**of, event.id()));
            if there.clone().map(|fact| (&*fact.stream, fact.id)).eq(asked) {
                return Outcome::Done(there.map(|fact| fact.position).collect(), true);
            }
        }
        if is_partial || !found.is_empty() {
            return Outcome::Partial;
        }
        for (stream, expected) in &call.expected {
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
        self.add(call, clock)
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
            let version = self.stream_version(stream).map_or(1, |tip| tip + 1);
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
            let in_scope = if let Some(stream) = ask.stream {
                fact.stream == STREAMS[stream]
            } else {
                // Only a read of the log has these options.
                let category = fact.stream.split('-').next();
                ask.category.is_none_or(|wanted| category == Some(wanted))
                    && ask.prefix.is_none_or(|prefix| fact.stream.starts_with(prefix))
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
            let is_of_type = ask.types == 0 || TYPES[..ask.types].contains(&&*fact.event_type);
            in_scope && is_begun && was_there && is_of_type
        };
        let mut facts: Vec<Fact> = self.log.iter().filter(is_wanted).cloned().collect();
        if ask.backward {
            facts.reverse();
        }
        facts.truncate(ask.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap()));
        facts
    }
}
