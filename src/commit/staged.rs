//! The staged appends of a batch: validation of an append sees the earlier appends of its batch.
//!
//! No result that depends on them is returned before the batch is written: see
//! [`settle`](super::queue::settle).

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::model::{EventId, Position, StreamId, Version};
use crate::validate::{Commit, LastEvent, Shape, Versions};

/// The appends of a batch that is not written yet.
#[derive(Default)]
pub(super) struct StagedAppends {
    last_events: HashMap<StreamId, LastEvent, RandomState>,
    appends: Vec<StagedAppend>,
}

/// One append with its place in the log.
pub(super) struct StagedAppend {
    shape: Shape,
    first: Position,
    /// The version of each stream before it, one for each expectation.
    before: Versions,
}

impl StagedAppends {
    /// Removes all appends; keeps the allocations.
    pub(super) fn clear(&mut self) {
        self.last_events.clear();
        self.appends.clear();
    }

    /// Adds an append. `before` holds the versions of its streams before this append, one for each
    /// expectation.
    pub(super) fn add(&mut self, shape: Shape, first: Position, before: Versions) {
        self.appends.push(StagedAppend { shape, first, before });
    }

    pub(super) fn set_last_event(&mut self, stream: &StreamId, last: LastEvent) {
        self.last_events.insert(stream.clone(), last);
    }

    pub(super) fn last_event(&self, stream: &StreamId) -> Option<LastEvent> {
        self.last_events.get(stream).copied()
    }

    /// The events of a stream, in order.
    pub(super) fn events_of<'s>(
        &'s self,
        stream: &'s StreamId,
    ) -> impl Iterator<Item = (Version, EventId, Position)> + 's {
        let of_stream = move |append: &&StagedAppend| {
            append.shape.expectations.iter().any(|(named, _)| named == stream)
        };
        let events = self.appends.iter().filter(of_stream).flat_map(StagedAppend::events);
        events
            .filter(move |(named, ..)| *named == stream)
            .map(|(_, version, id, at)| (version, id, at))
    }

    /// The append that contains the event at this position.
    pub(super) fn at(&self, position: Position) -> Option<&StagedAppend> {
        let after = self.appends.partition_point(|append| append.first <= position);
        self.appends.get(after.checked_sub(1)?)
    }
}

impl StagedAppend {
    /// Its commit; `None` if it has another number of events than this.
    pub(super) fn commit(&self, events: usize) -> Option<Commit> {
        if self.shape.events() != events {
            return None;
        }
        let events = self.events().map(|(stream, version, id, _)| (stream.clone(), version, id));
        Some(Commit { first: self.first, events: events.collect() })
    }

    /// Its events, in the order of the log.
    fn events(&self) -> impl Iterator<Item = (&StreamId, Version, EventId, Position)> {
        let mut taken = vec![0; self.shape.expectations.len()];
        let mut next = self.first;
        let runs = self.shape.runs.iter().filter_map(move |(stream, count)| {
            let (id, _) = self.shape.expectations.get(*stream)?;
            let ids = self.shape.ids.get(*stream)?;
            let (taken, before) = (taken.get_mut(*stream)?, self.before.get(*stream)?);
            let begin = std::mem::replace(taken, *taken + *count);
            let (version, position) = (Version::after(*before).plus(number(begin)), next);
            next = next.plus(number(*count));
            Some((id, ids.get(begin..begin + count)?, version, position))
        });
        runs.flat_map(|(stream, ids, version, position)| {
            let more = 0_u64..;
            ids.iter()
                .zip(more)
                .map(move |(id, more)| (stream, version.plus(more), *id, position.plus(more)))
        })
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
