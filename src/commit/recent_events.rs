//! [`RecentEvents`]: the newest events by tag, type, category and stream, staged ones included.
//!
//! A caller looks the conditions of its append up in the index before it enters the queue. The
//! writer then has to look only at the events that were added since. They are kept in two
//! generations: when the newer one is full, the older one is dropped. Nothing is kept until the
//! first append with a condition comes, so other appends cost nothing.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::index_drafts::IndexDrafts;
use crate::event_store::{Query, QueryItem};
use crate::format::{IndexKind, push_index_prefix};
use crate::model::{EventType, Position, StreamId};
use crate::validate::Shape;

/// A generation is full at this many events and entries.
const GENERATION_LEN: usize = 16_384;
/// The first byte of the name of a stream; no kind of entry has it.
const STREAM: u8 = b's';

#[derive(Default)]
pub(super) struct RecentEvents {
    /// The older generation, then the newer one; empty while no append has conditions.
    generations: SmallVec<[Generation; 2]>,
    /// Whether a condition was checked since the newer generation began.
    is_used: bool,
    hasher: RandomState,
    /// The name that is being hashed; kept to reuse its allocation.
    name: Vec<u8>,
}

#[derive(Default)]
struct Generation {
    /// All events after this position, up to the next generation, are here.
    after: Option<Position>,
    appends: Vec<RecentAppend>,
    /// For the hash of each name, the numbers of the events that have it, in order.
    names: HashMap<u64, SmallVec<[u64; 2]>, RandomState>,
    len: usize,
}

/// An append that was staged.
pub(super) struct RecentAppend {
    pub(super) first: Position,
    /// Consecutive events: their stream, and their number.
    pub(super) runs: SmallVec<[(StreamId, u32); 1]>,
    pub(super) drafts: IndexDrafts,
}

impl RecentEvents {
    /// Whether all events after a position are here. If no append had a condition before, they are
    /// kept from now on, after the last position `end`.
    pub(super) fn reaches(&mut self, position: Option<Position>, end: Option<Position>) -> bool {
        self.is_used = true;
        if self.generations.is_empty() {
            self.generations.push(Generation { after: end, ..Generation::default() });
        }
        self.generations.first().is_some_and(|oldest| oldest.after <= position)
    }

    /// Whether events are kept.
    pub(super) fn are_kept(&self) -> bool {
        !self.generations.is_empty()
    }

    /// Adds a staged append, if events are kept.
    pub(super) fn add(&mut self, append: RecentAppend) {
        let Some(newest) = self.generations.last_mut() else { return };
        let is_full = newest.len >= GENERATION_LEN;
        let after = append.first.previous();
        if is_full && !std::mem::take(&mut self.is_used) {
            self.generations.clear();
            return;
        }
        if is_full {
            if self.generations.len() > 1 {
                self.generations.remove(0);
            }
            self.generations.push(Generation { after, ..Generation::default() });
        }
        let (hasher, name) = (&self.hasher, &mut self.name);
        let Some(newest) = self.generations.last_mut() else { return };
        newest.add(append, hasher, name);
    }

    /// The first event after a position that matches a query.
    pub(super) fn first_match(
        &mut self,
        query: &Query,
        after: Option<Position>,
    ) -> Option<Position> {
        let Self { generations, hasher, name, .. } = self;
        let first = |generation: &Generation| match query {
            Query::Everything => generation.first_after(after),
            Query::AnyOf(items) => items
                .iter()
                .filter_map(|item| generation.first_match(item, after, hasher, name))
                .min(),
        };
        generations.iter().find_map(first)
    }
}

impl Generation {
    fn add(&mut self, append: RecentAppend, hasher: &RandomState, name: &mut Vec<u8>) {
        let first = append.first.get();
        let mut note = |hash: u64, event: u64| {
            let events = self.names.entry(hash).or_default();
            if events.last() != Some(&event) {
                events.push(event);
            }
        };
        for (event, prefix) in append.drafts.iter() {
            note(hasher.hash_one(prefix), first + u64::from(event));
            self.len += 1;
        }
        let mut event = first;
        for (stream, count) in &append.runs {
            let hash = hash_stream(stream.as_str(), hasher, name);
            for _ in 0..*count {
                note(hash, event);
                event += 1;
                self.len += 1;
            }
        }
        self.appends.push(append);
    }

    fn first_after(&self, after: Option<Position>) -> Option<Position> {
        let last = self.appends.last()?;
        let events = last.runs.iter().map(|(_, count)| u64::from(*count)).sum::<u64>();
        let last = last.first.plus(events.saturating_sub(1));
        let first = self.appends.first()?.first.max(Position::after(after));
        (first <= last).then_some(first)
    }

    /// The first event after a position that matches an item. The shortest list of its names is
    /// searched.
    fn first_match(
        &self,
        item: &QueryItem,
        after: Option<Position>,
        hasher: &RandomState,
        name: &mut Vec<u8>,
    ) -> Option<Position> {
        let after = after.map_or(0, Position::get);
        let mut events_of = |kind: Option<IndexKind>, text: &str| {
            let hash = match kind {
                Some(kind) => {
                    name.clear();
                    push_index_prefix(name, kind, text);
                    hasher.hash_one(name.as_slice())
                }
                None => hash_stream(text, hasher, name),
            };
            let events = self.names.get(&hash).map(SmallVec::as_slice).unwrap_or_default();
            events.get(events.partition_point(|event| *event <= after)..).unwrap_or_default()
        };
        let first_in = |events: &[u64]| {
            let places = events.iter().filter_map(|event| Position::new(*event));
            { places }.find(|position| self.matches(item, *position))
        };
        if !item.tags().is_empty() {
            let mut shortest: Option<&[u64]> = None;
            for tag in item.tags() {
                let events = events_of(Some(IndexKind::Tag), tag);
                if shortest.is_none_or(|known| events.len() < known.len()) {
                    shortest = Some(events);
                }
            }
            return shortest.and_then(first_in);
        }
        let (kind, texts) = if !item.streams().is_empty() {
            (None, item.streams())
        } else if !item.categories().is_empty() {
            (Some(IndexKind::Category), item.categories())
        } else {
            (Some(IndexKind::Type), item.type_names())
        };
        texts.iter().filter_map(|text| first_in(events_of(kind, text))).min()
    }

    /// Whether an event matches an item. Names with the same hash are told apart here.
    fn matches(&self, item: &QueryItem, position: Position) -> bool {
        let next = self.appends.partition_point(|append| append.first <= position);
        let append = next.checked_sub(1).and_then(|at| self.appends.get(at));
        append.is_some_and(|append| append.matches(item, position))
    }
}

impl RecentAppend {
    pub(super) fn of(shape: &Shape, first: Position, drafts: IndexDrafts) -> Self {
        let runs = shape.runs.iter().filter_map(|(stream, count)| {
            let (stream, _) = shape.expectations.get(*stream)?;
            Some((stream.clone(), u32::try_from(*count).unwrap_or(u32::MAX)))
        });
        Self { first, runs: runs.collect(), drafts }
    }

    fn matches(&self, item: &QueryItem, position: Position) -> bool {
        let number = position.get().saturating_sub(self.first.get());
        let Ok(event) = u32::try_from(number) else { return false };
        let mut left = event;
        let stream = self.runs.iter().find_map(|(stream, count)| {
            let is_here = left < *count;
            left = left.saturating_sub(*count);
            is_here.then_some(stream)
        });
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

fn hash_stream(stream: &str, hasher: &RandomState, name: &mut Vec<u8>) -> u64 {
    name.clear();
    name.push(STREAM);
    name.extend_from_slice(stream.as_bytes());
    hasher.hash_one(name.as_slice())
}
