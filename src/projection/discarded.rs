//! Discarded events: what somebody decided is never to be handled. A decision belongs to the
//! projection, so it is kept under the projection's own name and holds for every build.

use std::collections::BTreeMap;

use super::builds::{Directory, discarded_key, discarded_prefix};
use super::parked::{Note, ParkedEvent, each, page};
use crate::error::{Error, Result};
use crate::model::{EventId, EventType, Position, RecordedEvent, StreamId, Timestamp};
use crate::view_store::{ViewChange, ViewStore};

/// An event that somebody decided not to handle, with
/// [`ProjectionHandle::discard_parked`](crate::ProjectionHandle::discard_parked).
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscardedEvent {
    /// Its place in the log.
    pub position: Position,
    /// Its stream.
    pub stream: StreamId,
    /// Its identity.
    pub id: EventId,
    /// Its type as it is stored.
    pub event_type: EventType,
    /// The error that it was parked for; `None` for an event that was only waiting for another of
    /// its stream.
    pub reason: Option<String>,
    /// When it was discarded.
    pub discarded_at: Timestamp,
}

impl DiscardedEvent {
    pub(super) fn new(parked: ParkedEvent, at: Timestamp) -> Self {
        Self {
            position: parked.position,
            stream: parked.stream,
            id: parked.id,
            event_type: parked.event_type,
            reason: parked.reason,
            discarded_at: at,
        }
    }

    pub(super) fn into_parked(self) -> ParkedEvent {
        ParkedEvent {
            position: self.position,
            stream: self.stream,
            id: self.id,
            event_type: self.event_type,
            reason: self.reason,
            parked_at: self.discarded_at,
        }
    }
}

/// The decisions of one projection.
#[derive(Debug, Clone, Default)]
pub(super) struct Discarded {
    events: BTreeMap<Position, DiscardedEvent>,
    /// Counts the changes, so that a build can tell whether it knows the decisions of now.
    changed: u64,
}

impl Discarded {
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn changed(&self) -> u64 {
        self.changed
    }

    /// The decision about this event. If the log was restored from an older copy, another event may
    /// have its position: the decision does not apply to that one.
    pub(super) fn find(&self, position: Position, id: EventId) -> Option<&DiscardedEvent> {
        self.events.get(&position).filter(|event| event.id == id)
    }

    /// The decision about this event.
    pub(super) fn get(&self, event: &RecordedEvent) -> Option<&DiscardedEvent> {
        self.find(event.position(), event.id())
    }

    /// The decisions about events of this stretch of the log.
    pub(super) fn between(&self, first: Position, last: Position) -> Self {
        let events = self.events.range(first..=last);
        let events = events.map(|(position, event)| (*position, event.clone())).collect();
        Self { events, changed: self.changed }
    }

    /// Takes over what is stored now.
    pub(super) fn refresh(&mut self, stored: Vec<DiscardedEvent>) {
        self.events = stored.into_iter().map(|event| (event.position, event)).collect();
        self.changed += 1;
    }

    pub(super) fn insert(&mut self, event: DiscardedEvent) {
        self.events.insert(event.position, event);
        self.changed += 1;
    }

    pub(super) fn remove(&mut self, position: Position) {
        self.events.remove(&position);
        self.changed += 1;
    }
}

/// The change that records a decision.
pub(super) fn decision(event: &DiscardedEvent) -> ViewChange {
    let note = Note::of_parked(&event.clone().into_parked(), event.discarded_at);
    ViewChange::Put { key: discarded_key(event.position), value: note.encode() }
}

/// The events that are discarded, in order.
pub(super) fn discarded_events(
    views: &dyn ViewStore,
    projection: &str,
    limit: usize,
) -> Result<Vec<DiscardedEvent>> {
    let mut found = Vec::new();
    each(views, projection, &discarded_prefix(), limit, |note| {
        let parked = note.parked()?;
        let at = parked.parked_at;
        found.push(DiscardedEvent::new(parked, at));
        Some(())
    })?;
    Ok(found)
}

/// How many events are discarded.
pub(super) fn count_discarded(views: &dyn ViewStore, projection: &str) -> Result<u64> {
    let mut count = 0;
    each(views, projection, &discarded_prefix(), usize::MAX, |_| {
        count += 1;
        Some(())
    })?;
    Ok(count)
}

/// Makes what is kept under the name of a projection readable again, if it is damaged: a damaged
/// directory is dropped, and so are decisions from the first that is damaged on.
pub(super) fn mend(views: &dyn ViewStore, projection: &str) -> Result<()> {
    let directory = readable(Directory::read(views, projection))?;
    let decisions = readable(count_discarded(views, projection))?;
    if directory.is_some() && decisions.is_some() {
        return Ok(());
    }
    let mut kept = readable_decisions(views, projection)?;
    if let Some(directory) = directory {
        kept.insert(0, ViewChange::Clear);
        return directory.change(views, projection, kept);
    }
    views.drop_view(projection)?;
    Directory::default().change(views, projection, kept)
}

/// The decisions up to the first that is damaged.
fn readable_decisions(views: &dyn ViewStore, projection: &str) -> Result<Vec<ViewChange>> {
    let mut kept = Vec::new();
    let mut after = None;
    // One at a time: a page that holds a damaged record cannot be read.
    while let Some(page) = readable(page(views, projection, &discarded_prefix(), after, 1))? {
        kept.extend(
            page.notes
                .iter()
                .map(|(key, note)| ViewChange::Put { key: key.clone(), value: note.encode() }),
        );
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(kept)
}

/// What was read; `None` if it is damaged.
fn readable<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(Error::Corruption { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
