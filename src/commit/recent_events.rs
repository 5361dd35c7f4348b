//! [`RecentEvents`]: the newest events by tag, type, category and stream, staged ones included.
//!
//! A caller looks the conditions of its append up in the index before it enters the queue, unless
//! they concern only recent events. The writer then has to look only at the events that were added
//! since. They are kept in two generations: when the newer one is full, the older one is dropped.
//! Nothing is kept until the first append with a condition comes, so other appends cost nothing.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::index_drafts::{IndexDrafts, IndexKinds};
use crate::event_store::{AppendCondition, Query, QueryItem};
use crate::format::{IndexKind, push_index_prefix};
use crate::model::{EventType, Position, StreamId};
use crate::sync::AtomicU64;
use crate::validate::Shape;

/// A generation is full at this many events and entries.
const GENERATION_LEN: usize = 16_384;
/// How many generations are kept, and how many while a caller is looking its conditions up again.
/// Otherwise callers that append much could keep it from ever being recent enough.
const GENERATIONS: usize = 2;
const AWAITED_GENERATIONS: usize = 8;
/// The first byte of the name of a stream; no kind of entry has it.
const STREAM: u8 = b's';

#[derive(Default)]
pub(super) struct RecentEvents {
    /// The older generation, then the newer one; empty while no append has conditions.
    generations: SmallVec<[Generation; 2]>,
    /// Whether a condition was checked since the newer generation began.
    is_used: bool,
    /// Whether events are noted by their streams too.
    has_streams: bool,
    /// For how many generations yet a caller that looks its conditions up again is awaited. Until
    /// then, little is dropped, so that it comes back in time.
    awaited: usize,
    kinds: IndexKinds,
    names: Names,
    reach: Arc<Reach>,
}

/// How far back the recent events reach, for callers that are about to look up a condition.
#[derive(Debug)]
pub(crate) struct Reach(AtomicU64);

impl Default for Reach {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Reach {
    /// Whether all events after a position are probably there.
    pub(crate) fn reaches(&self, position: Option<Position>) -> bool {
        position.map_or(0, Position::get) >= self.0.load(Ordering::Relaxed)
    }
}

/// Hashes of names.
#[derive(Default)]
struct Names {
    hasher: RandomState,
    /// The name that is being hashed; kept to reuse its allocation.
    name: Vec<u8>,
}

impl Names {
    /// The hash of the events with a name and a type.
    fn with_type(&mut self, prefix: &[u8], event_type: &[u8]) -> u64 {
        self.name.clear();
        self.name.extend_from_slice(prefix);
        self.name.extend_from_slice(event_type);
        self.hasher.hash_one(self.name.as_slice())
    }

    fn of(&mut self, kind: IndexKind, text: &str, event_type: &str) -> u64 {
        self.name.clear();
        push_index_prefix(&mut self.name, kind, text);
        self.name.extend_from_slice(event_type.as_bytes());
        self.hasher.hash_one(self.name.as_slice())
    }

    fn of_stream(&mut self, stream: &str) -> u64 {
        self.name.clear();
        self.name.push(STREAM);
        self.name.extend_from_slice(stream.as_bytes());
        self.hasher.hash_one(self.name.as_slice())
    }
}

#[derive(Default)]
struct Generation {
    /// All events after this position, up to the next generation, are here.
    after: Option<Position>,
    appends: Vec<RecentAppend>,
    /// For the hash of each name, and of each name together with an event type, the numbers of the
    /// events that have it, in order.
    names: HashMap<u64, SmallVec<[u64; 2]>, RandomState>,
    len: usize,
}

/// An append that was staged.
pub(super) struct RecentAppend {
    pub(super) first: Position,
    /// Consecutive events of a stream, and the number of events up to their end.
    runs: SmallVec<[(StreamId, u32); 1]>,
    pub(super) drafts: IndexDrafts,
}

impl RecentEvents {
    pub(super) fn new(reach: Arc<Reach>, kinds: IndexKinds) -> Self {
        Self { kinds, reach, ..Self::default() }
    }

    /// Whether all events after a position are here. If no append had a condition before, they are
    /// kept from now on, after the last position `end`.
    pub(super) fn reaches(
        &mut self,
        conditions: &[AppendCondition],
        position: Option<Position>,
        end: Option<Position>,
    ) -> bool {
        self.is_used = true;
        let items = conditions.iter().flat_map(|condition| condition.query().items());
        // A stream is noted only from the first condition on that is found by one.
        if !self.has_streams && { items }
            .any(|item| item.tags().is_empty() && !item.streams().is_empty())
        {
            self.has_streams = true;
            self.generations.clear();
        }
        if self.generations.is_empty() {
            self.generations.push(Generation { after: end, ..Generation::default() });
            self.publish_reach();
        }
        let reaches = self.generations.first().is_some_and(|oldest| oldest.after <= position);
        if !reaches {
            self.awaited = AWAITED_GENERATIONS;
        }
        reaches
    }

    /// Forgets all events, because some were deleted: conditions on them must be looked up.
    pub(super) fn forget(&mut self) {
        self.generations.clear();
        self.publish_reach();
    }

    /// Whether events are kept.
    pub(super) fn are_kept(&self) -> bool {
        !self.generations.is_empty()
    }

    /// Adds a staged append, if events are kept.
    pub(super) fn add(&mut self, append: RecentAppend) {
        let Some(newest) = self.generations.last_mut() else { return };
        if newest.len >= GENERATION_LEN {
            if !std::mem::take(&mut self.is_used) {
                self.generations.clear();
                self.publish_reach();
                return;
            }
            let kept_max = if self.awaited > 0 { AWAITED_GENERATIONS } else { GENERATIONS };
            self.awaited = self.awaited.saturating_sub(1);
            while self.generations.len() > kept_max {
                self.generations.remove(0);
            }
            // The oldest one is used again, for its allocations.
            let oldest = (self.generations.len() == kept_max).then(|| self.generations.remove(0));
            let mut next = oldest.filter(Generation::is_small).unwrap_or_default();
            next.begin(append.first.previous());
            self.generations.push(next);
            self.publish_reach();
        }
        if let Some(newest) = self.generations.last_mut() {
            newest.add(append, &mut self.names, self.has_streams);
        }
    }

    fn publish_reach(&self) {
        let oldest = self.generations.first();
        let reach = oldest.map_or(u64::MAX, |oldest| oldest.after.map_or(0, Position::get));
        self.reach.0.store(reach, Ordering::Relaxed);
    }

    /// The first event after a position that matches a query.
    pub(super) fn first_match(
        &mut self,
        query: &Query,
        after: Option<Position>,
    ) -> Option<Position> {
        let Self { generations, names, kinds, .. } = self;
        let mut first = |generation: &Generation| match query {
            Query::Everything => generation.first_after(after),
            Query::AnyOf(items) => {
                let first = |item| generation.first_match(item, after, (names, *kinds));
                items.iter().filter_map(first).min()
            }
        };
        generations.iter().find_map(&mut first)
    }
}

impl Generation {
    /// Whether its allocations are worth keeping. One append may be far larger than a generation.
    fn is_small(&self) -> bool {
        self.names.capacity() <= 8 * GENERATION_LEN
    }

    /// Begins again, empty, after a position.
    fn begin(&mut self, after: Option<Position>) {
        (self.after, self.len) = (after, 0);
        self.appends.clear();
        self.names.clear();
    }

    fn add(&mut self, append: RecentAppend, names: &mut Names, has_streams: bool) {
        let first = append.first.get();
        let mut note = |hash: u64, event: u64| {
            let events = self.names.entry(hash).or_default();
            if events.last() != Some(&event) {
                events.push(event);
            }
        };
        for (event, prefix, event_type) in append.drafts.iter() {
            let event = first + u64::from(event);
            note(names.with_type(prefix, b""), event);
            if !event_type.is_empty() {
                note(names.with_type(prefix, event_type), event);
            }
            self.len += 1;
        }
        let mut event = first;
        for (stream, end) in &append.runs {
            let hash = has_streams.then(|| names.of_stream(stream.as_str()));
            while event < first + u64::from(*end) {
                if let Some(hash) = hash {
                    note(hash, event);
                }
                event += 1;
                self.len += 1;
            }
        }
        self.appends.push(append);
    }

    fn first_after(&self, after: Option<Position>) -> Option<Position> {
        let last = self.appends.last()?;
        let events = last.runs.last().map_or(0, |(_, end)| u64::from(*end));
        let last = last.first.plus(events.saturating_sub(1));
        let first = self.appends.first()?.first.max(Position::after(after));
        (first <= last).then_some(first)
    }

    /// The first event after a position that matches an item. Of its tags, the one with the fewest
    /// events of its types is searched.
    fn first_match(
        &self,
        item: &QueryItem,
        after: Option<Position>,
        (names, kinds): (&mut Names, IndexKinds),
    ) -> Option<Position> {
        // As `Plan` chooses them: categories that are not indexed have no entries.
        let by_category = !item.categories().is_empty() && kinds.has(IndexKind::Category);
        let lists = if !item.tags().is_empty() {
            let of_tags = item.tags().iter();
            let of_tags = of_tags.map(|tag| self.lists(IndexKind::Tag, tag, item, after, names));
            of_tags.min_by_key(|lists| lists.iter().map(|list| list.len()).sum::<usize>())?
        } else if !item.streams().is_empty() {
            let streams = item.streams().iter();
            streams.map(|stream| self.list(names.of_stream(stream), after)).collect()
        } else if by_category {
            let names_of = |category| self.lists(IndexKind::Category, category, item, after, names);
            item.categories().iter().map(String::as_str).flat_map(names_of).collect()
        } else {
            let types = item.type_names().iter();
            types.map(|name| self.list(names.of(IndexKind::Type, name, ""), after)).collect()
        };
        let first_in = |list: &&[u64]| {
            let places = list.iter().filter_map(|event| Position::new(*event));
            { places }.find(|position| self.matches(item, *position))
        };
        lists.iter().filter_map(first_in).min()
    }

    /// The events after a position with this name, of the types of an item.
    fn lists(
        &self,
        kind: IndexKind,
        text: &str,
        item: &QueryItem,
        after: Option<Position>,
        names: &mut Names,
    ) -> SmallVec<[&[u64]; 4]> {
        if item.type_names().is_empty() {
            return [self.list(names.of(kind, text, ""), after)].into_iter().collect();
        }
        let types = item.type_names().iter();
        types.map(|name| self.list(names.of(kind, text, name), after)).collect()
    }

    /// The events after a position whose name has this hash.
    fn list(&self, hash: u64, after: Option<Position>) -> &[u64] {
        let after = after.map_or(0, Position::get);
        let events = self.names.get(&hash).map(SmallVec::as_slice).unwrap_or_default();
        events.get(events.partition_point(|event| *event <= after)..).unwrap_or_default()
    }

    /// Whether an event matches an item. Names with the same hash are distinguished here.
    fn matches(&self, item: &QueryItem, position: Position) -> bool {
        let next = self.appends.partition_point(|append| append.first <= position);
        let append = next.checked_sub(1).and_then(|at| self.appends.get(at));
        append.is_some_and(|append| append.matches(item, position))
    }
}

impl RecentAppend {
    pub(super) fn of(shape: &Shape, first: Position, drafts: IndexDrafts) -> Self {
        let mut end = 0_u32;
        let runs = shape.runs.iter().filter_map(|(stream, count)| {
            let (stream, _) = shape.expectations.get(*stream)?;
            end = end.saturating_add(u32::try_from(*count).unwrap_or(u32::MAX));
            Some((stream.clone(), end))
        });
        Self { first, runs: runs.collect(), drafts }
    }

    fn matches(&self, item: &QueryItem, position: Position) -> bool {
        let number = position.get().saturating_sub(self.first.get());
        let Ok(event) = u32::try_from(number) else { return false };
        let run = self.runs.partition_point(|(_, end)| *end <= event);
        let stream = self.runs.get(run).map(|(stream, _)| stream);
        let event_type = self.drafts.types.get(usize::try_from(event).unwrap_or(usize::MAX));
        let has_tag = |tag: &String| {
            let mut prefix = Vec::with_capacity(tag.len() + 2);
            push_index_prefix(&mut prefix, IndexKind::Tag, tag);
            self.drafts.has(event, &prefix)
        };
        event_type.map(EventType::as_str).is_some_and(|name| item.matches_type(name))
            && stream.is_some_and(|stream| item.matches_stream(stream.as_str()))
            && item.tags().iter().all(has_tag)
    }
}
