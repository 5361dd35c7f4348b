//! Deletions (G17): what the reference makes of them, and how their answers are compared.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use annals::prelude::*;
use annals::{
    DELETION_EVENT, DELETIONS_STREAM, Deletion, DeletionTarget, Error, InvalidArgument, Position,
    Retention, RetentionScope, ScavengeOptions, StreamState,
};

use super::faults::{SNAPSHOTS_OF, Synced};
use super::ops::Target;
use super::reference::{Fact, Reference};
use super::subject::{tags_of, version};
use super::world::{STREAMS, World};

/// The retentions that are set.
pub(crate) type Retentions = BTreeMap<RetentionScope, Retention>;

/// The outcome of a deletion.
#[derive(Debug, PartialEq)]
enum Outcome {
    Nothing,
    /// What is recorded, and how many events are concerned.
    Done(DeletionTarget, u64),
    Ahead,
    Deleted,
    Reserved,
    NothingToTombstone,
}

impl Reference {
    fn deletions(&self) -> u64 {
        self.last_version(DELETIONS_STREAM).unwrap_or_default()
    }

    pub(crate) fn has_deletions(&self) -> bool {
        self.deletions() > 0
    }

    /// Deletes the events of a stream below a version. Returns how many; `None` if there is nothing
    /// to do.
    fn cut(&mut self, stream: &str, before: u64, state: StreamState) -> Option<u64> {
        let last = self.last_version(stream)?;
        let is_news = match state {
            StreamState::Live => false,
            StreamState::Deleted => self.state(stream) == StreamState::Live,
            StreamState::Tombstoned => !self.is_tombstoned(stream),
        };
        let mut events = 0;
        let below = |fact: &&mut Fact| fact.stream == stream && fact.version < before;
        for fact in self.log.iter_mut().filter(below).filter(|fact| !fact.is_gone) {
            fact.is_gone = true;
            events += 1;
            self.deleted_up_to = self.deleted_up_to.max(fact.position);
        }
        if state != StreamState::Live && is_news {
            self.ends.insert(stream.to_owned(), (last, state));
        }
        (is_news || events > 0).then_some(events)
    }

    fn truncate_stream(&mut self, stream: &StreamId, before: u64) -> Outcome {
        let end = self.last_version(stream.as_str()).map_or(1, |last| last + 1);
        let before = before.min(end);
        match self.cut(stream.as_str(), before, StreamState::Live) {
            None => Outcome::Nothing,
            Some(events) => {
                let streams = vec![(stream.clone(), version(before))];
                Outcome::Done(DeletionTarget::Truncate { streams }, events)
            }
        }
    }

    fn end_stream(&mut self, stream: &StreamId, state: StreamState) -> Outcome {
        let is_tombstone = state == StreamState::Tombstoned;
        let Some(last) = self.last_version(stream.as_str()) else {
            return if is_tombstone { Outcome::NothingToTombstone } else { Outcome::Nothing };
        };
        let Some(events) = self.cut(stream.as_str(), u64::MAX, state) else {
            return Outcome::Nothing;
        };
        let stream = stream.clone();
        let target = if is_tombstone {
            DeletionTarget::Tombstone { stream }
        } else {
            DeletionTarget::Delete { stream, before: Some(version(last + 1)) }
        };
        Outcome::Done(target, events)
    }

    /// `clears`: whether the redaction clears snapshots, and whether there are any.
    fn redact(&mut self, position: u64, tags: u8, clears: (bool, bool)) -> Outcome {
        let number = self.deletions() + 1;
        let Some(fact) = self.log.get_mut(usize::try_from(position - 1).unwrap()) else {
            return Outcome::Ahead;
        };
        if fact.is_gone {
            return Outcome::Deleted;
        }
        if fact.stream == DELETIONS_STREAM {
            return Outcome::Reserved;
        }
        let is_removed = |tag: &String| tags_of(tags).any(|removed| removed == tag);
        let places = (0..).zip(&fact.tags).filter(|(_, tag)| is_removed(tag));
        let tag_places: Vec<u32> = places.map(|(place, _)| place).collect();
        let is_new = !fact.is_redacted || !tag_places.is_empty();
        if !is_new && clears != (true, true) {
            return Outcome::Nothing;
        }
        let tag_count = u32::try_from(fact.tags.len()).unwrap();
        fact.tags.retain(|tag| !is_removed(tag));
        fact.payload = number.to_be_bytes().to_vec();
        (fact.is_redacted, fact.has_metadata) = (true, false);
        if !tag_places.is_empty() {
            self.deleted_up_to = self.deleted_up_to.max(position);
        }
        let target = DeletionTarget::Redact {
            position: Position::new(position).unwrap(),
            event_id: fact.id,
            tags: Vec::new(),
            tag_places,
            tag_count,
            clears_snapshots: clears.0,
        };
        Outcome::Done(target, u64::from(is_new))
    }

    /// The streams whose events are to be deleted by a scavenge, each with the first version that is
    /// kept. The newest snapshot keeps the event on which it rests.
    fn due(&self, retentions: &Retentions, clock: i64, snapshot: Option<u64>) -> Vec<(&str, u64)> {
        let mut due = Vec::new();
        for stream in STREAMS {
            let id = StreamId::new(stream).unwrap();
            let category = RetentionScope::Category(id.category().to_owned());
            let own = retentions.get(&RetentionScope::Stream(id));
            let Some(retention) = own.or_else(|| retentions.get(&category)) else { continue };
            let last = self.last_version(stream).unwrap_or_default();
            let pinned = snapshot.filter(|_| stream == SNAPSHOTS_OF);
            let is_due = |fact: &&Fact| {
                let count = retention.count().map_or(u64::MAX, NonZeroU64::get);
                let age = retention.age().map(|age| i64::try_from(age.as_micros()).unwrap());
                let is_over =
                    last - fact.version >= count || age.is_some_and(|age| fact.time < clock - age);
                is_over && pinned.is_none_or(|pinned| fact.version < pinned)
            };
            let of_stream = self.left().filter(|fact| fact.stream == stream);
            if let Some(last) = of_stream.take_while(is_due).last() {
                due.push((stream, last.version + 1));
            }
        }
        due.sort_unstable();
        due
    }
}

impl World {
    pub(crate) fn delete(&mut self, target: Target) {
        let log = self.reference.log.len() as u64 + 1;
        let id = |stream: usize| StreamId::new(STREAMS[stream]).unwrap();
        let mut cleared = 0;
        let (deletion, outcome) = match target {
            Target::Truncate { stream, keep } => {
                let last = self.reference.last_version(STREAMS[stream]).unwrap_or_default();
                let before = (last + 2).saturating_sub(keep).max(1);
                let outcome = self.reference.truncate_stream(&id(stream), before);
                (Deletion::truncate(&id(stream), version(before)), outcome)
            }
            Target::Delete { stream } => {
                let outcome = self.reference.end_stream(&id(stream), StreamState::Deleted);
                (Deletion::delete(&id(stream)), outcome)
            }
            Target::Tombstone { stream } => {
                let outcome = self.reference.end_stream(&id(stream), StreamState::Tombstoned);
                (Deletion::tombstone(&id(stream)), outcome)
            }
            Target::Redact { at, tags, clears_snapshots } => {
                let position = 1 + ((log * u64::from(at)) >> 16);
                let fact = self.reference.log.get(usize::try_from(position - 1).unwrap());
                let event_id = fact.map_or(EventId::from_bytes([1; 16]), |fact| fact.id);
                let from = fact.filter(|fact| fact.stream == SNAPSHOTS_OF).map(|fact| fact.version);
                let has_any = from.is_some_and(|from| self.kept.snapshot() >= Some(from));
                let outcome = self.reference.redact(position, tags, (clears_snapshots, has_any));
                if let (true, Some(from), Outcome::Done(..)) = (clears_snapshots, from, &outcome) {
                    cleared = self.kept.clear(from, log);
                }
                let deletion = Deletion::redact(Position::new(position).unwrap(), event_id);
                let deletion = deletion.removing_tags(tags_of(tags));
                (if clears_snapshots { deletion.clearing_snapshots() } else { deletion }, outcome)
            }
        };
        let bounds = match &outcome {
            Outcome::Done(DeletionTarget::Truncate { streams }, _) => streams.first().cloned(),
            Outcome::Done(DeletionTarget::Delete { stream, before: Some(before) }, _) => {
                Some((stream.clone(), *before))
            }
            Outcome::Done(DeletionTarget::Tombstone { stream }, _) => {
                let last = self.reference.last_version(stream.as_str());
                Some((stream.clone(), version(last.unwrap() + 1)))
            }
            _ => None,
        };
        if let Some((_, before)) = bounds.filter(|(stream, _)| stream.as_str() == SNAPSHOTS_OF) {
            cleared = self.kept.cut(before.get(), log);
        }
        self.carry_out(&deletion, outcome, cleared);
    }

    /// Deletes from the store, and compares what it reports, before and after.
    fn carry_out(&mut self, deletion: &Deletion, outcome: Outcome, snapshots: u64) {
        let deletion = deletion.clone().because("the model").by("the test");
        let store = self.store().clone();
        let previewed = store.preview(&deletion);
        let deleted = store.delete(&deletion);
        let (target, events) = match outcome {
            Outcome::Done(target, events) => (target, events),
            refused => {
                for answer in [previewed, deleted] {
                    let found = match answer {
                        Ok(deleted) => {
                            assert_eq!(deleted.number, None, "{deleted:?}");
                            Outcome::Nothing
                        }
                        Err(Error::PositionAhead { .. }) => Outcome::Ahead,
                        Err(Error::Deleted { .. }) => Outcome::Deleted,
                        Err(Error::InvalidArgument(InvalidArgument::Reserved { .. })) => {
                            Outcome::Reserved
                        }
                        Err(Error::InvalidArgument(InvalidArgument::NothingToTombstone {
                            ..
                        })) => Outcome::NothingToTombstone,
                        Err(error) => panic!("{error}"),
                    };
                    assert_eq!(found, refused);
                }
                return;
            }
        };
        let deleted = deleted.unwrap();
        let position = deleted.position.map(u64::from);
        assert_eq!(position, Some(self.reference.log.len() as u64 + 1));
        let counts = (deleted.events, deleted.streams, deleted.snapshots);
        assert_eq!(counts, (events, 1, snapshots), "{deleted:?}");
        let mut previewed = previewed.unwrap();
        assert_eq!(previewed.position.take(), None);
        previewed.position = deleted.position;
        assert_eq!(previewed, deleted);
        assert!(!store.lacks(&deletion).unwrap(), "{deletion:?}");
        assert_eq!(self.adopt_decisions(), [target]);
    }

    /// Adds the new events of the stream of deletions to the reference; returns what they decide.
    fn adopt_decisions(&mut self) -> Vec<DeletionTarget> {
        // From now on, the store in memory has another log.
        self.subjects.truncate(1);
        let store = self.store().clone();
        let clock = self.clock.load(Ordering::SeqCst);
        let known = self.reference.deletions();
        let new = store.deletions().unwrap().split_off(usize::try_from(known).unwrap());
        for (number, decision) in (known + 1..).zip(&new) {
            let last = self.reference.log.last().map_or(i64::MIN, |fact| fact.time);
            let position = self.reference.log.len() as u64 + 1;
            assert_eq!((decision.number.get(), decision.position.get()), (number, position));
            let event = store.read_log().from(decision.position).first().unwrap().unwrap();
            let fact = Fact::from(event);
            let text = NewEvent::json(DELETION_EVENT, &decision.deletion).unwrap();
            let expected = Fact {
                id: fact.id,
                event_type: DELETION_EVENT.to_owned(),
                payload: text.payload().to_vec(),
                stream: DELETIONS_STREAM.to_owned(),
                version: number,
                position,
                time: last.max(clock),
                commit: (position, position),
                tags: Vec::new(),
                has_metadata: false,
                is_redacted: false,
                is_gone: false,
            };
            assert_eq!(fact, expected);
            self.reference.log.push(fact);
        }
        if !new.is_empty() {
            self.synced = Synced::now(&self.path, self.reference.log.len() as u64);
        }
        new.into_iter().map(|decision| decision.deletion.target().clone()).collect()
    }

    pub(crate) fn retain(
        &mut self,
        (stream, of_category): (&str, bool),
        (count, age): (Option<u64>, Option<u64>),
    ) {
        let id = StreamId::new(stream).unwrap();
        let scope = if of_category {
            RetentionScope::Category(id.category().to_owned())
        } else {
            RetentionScope::Stream(id)
        };
        let count = count.and_then(NonZeroU64::new);
        let retention = match (count, age.map(Duration::from_micros)) {
            (None, None) => None,
            (Some(count), None) => Some(Retention::newest(count)),
            (None, Some(age)) => Some(Retention::for_time(age)),
            (Some(count), Some(age)) => Some(Retention::for_time(age).and_newest(count)),
        };
        self.store().set_retention(&scope, retention).unwrap();
        match retention {
            Some(retention) => drop(self.retentions.insert(scope, retention)),
            None => drop(self.retentions.remove(&scope)),
        }
        let set: Vec<_> = self.retentions.clone().into_iter().collect();
        assert_eq!(self.store().retentions().unwrap(), set);
        // So that a power loss keeps it.
        self.store().sync().unwrap();
        self.synced = Synced::now(&self.path, self.reference.log.len() as u64);
    }

    pub(crate) fn scavenge(&mut self) {
        let clock = self.clock.load(Ordering::SeqCst);
        let due = self.reference.due(&self.retentions, clock, self.kept.snapshot());
        let due: Vec<_> = due.into_iter().map(|(name, at)| (name.to_owned(), at)).collect();
        let store = self.store().clone();
        let preview = store.preview_scavenge().unwrap();
        let done = store.scavenge(&ScavengeOptions::new().unthrottled(), |_| {}).unwrap();
        let mut events = 0;
        for (stream, before) in &due {
            events += self.reference.cut(stream, *before, StreamState::Live).unwrap();
        }
        for report in [preview, done] {
            assert_eq!((report.events, report.truncated_streams), (events, due.len() as u64));
        }
        assert!(!done.is_incomplete);
        if due.is_empty() {
            return;
        }
        let mut decided = Vec::new();
        for target in self.adopt_decisions() {
            let DeletionTarget::Truncate { streams } = target else { panic!("{target:?}") };
            let streams = streams.into_iter();
            decided.extend(streams.map(|(stream, at)| (stream.to_string(), at.get())));
        }
        decided.sort();
        assert_eq!(decided, due);
        if let Some((_, before)) = due.iter().find(|(stream, _)| stream == SNAPSHOTS_OF) {
            self.kept.cut(*before, self.reference.log.len() as u64);
        }
    }

    /// Checks that deleted events are not damage, and that nothing decided is left to do.
    pub(crate) fn check_deletions(&self) {
        let store = self.store();
        let report = store.verify(|_| {}).unwrap();
        assert!(report.is_sound(), "{:#?}", report.damage);
        let gone = self.reference.log.len() - self.reference.left().count();
        assert_eq!(report.deleted_events, gone as u64);
        for recorded in store.deletions().unwrap() {
            assert!(!store.lacks(&recorded.deletion).unwrap(), "{recorded:?}");
        }
    }
}
