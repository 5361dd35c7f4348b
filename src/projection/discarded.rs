//! Discarded events, which are never handled. The decision is stored under the projection's own
//! name and applies to every build.

use std::collections::BTreeMap;

use super::builds::{Directory, build_view, discarded_key, discarded_prefix};
use super::unhandled::{Note, UnhandledEvent, each, page};
use crate::error::{Error, Result};
use crate::model::{EventId, Position, RecordedEvent};
use crate::view_store::{ViewChange, ViewStore};

/// The decisions of one projection.
#[derive(Debug, Clone, Default)]
pub(super) struct Discarded {
    events: BTreeMap<Position, UnhandledEvent>,
    /// Counts the changes, so that a build can check whether it knows the current decisions.
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
    /// have this position; the decision does not apply to it.
    pub(super) fn find(&self, position: Position, id: EventId) -> Option<&UnhandledEvent> {
        self.events.get(&position).filter(|event| event.id == id)
    }

    /// The decision about this event.
    pub(super) fn get(&self, event: &RecordedEvent) -> Option<&UnhandledEvent> {
        self.find(event.position(), event.id())
    }

    /// The decisions about events in this range of the log.
    pub(super) fn between(&self, first: Position, last: Position) -> Self {
        let events = self.events.range(first..=last);
        let events = events.map(|(position, event)| (*position, event.clone())).collect();
        Self { events, changed: self.changed }
    }

    /// Replaces all decisions with the stored ones.
    pub(super) fn refresh(&mut self, stored: Vec<UnhandledEvent>) {
        self.events = stored.into_iter().map(|event| (event.position, event)).collect();
        self.changed += 1;
    }

    pub(super) fn insert(&mut self, event: UnhandledEvent) {
        self.events.insert(event.position, event);
        self.changed += 1;
    }

    pub(super) fn remove(&mut self, position: Position) {
        self.events.remove(&position);
        self.changed += 1;
    }
}

/// The change that records a decision.
pub(super) fn decision(event: &UnhandledEvent) -> ViewChange {
    let note = Note::again(event, event.at);
    ViewChange::Put { key: discarded_key(event.position), value: note.encode() }
}

/// The events that are discarded, in order.
pub(super) fn discarded_events(
    views: &dyn ViewStore,
    projection: &str,
    limit: usize,
) -> Result<Vec<UnhandledEvent>> {
    let mut found = Vec::new();
    each(views, projection, &discarded_prefix(), limit, |note| {
        found.push(note.event()?);
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

/// Makes the records under a projection's own name readable again. Drops a damaged directory, and
/// the first damaged decision with all decisions after it. Returns whether the directory was
/// dropped, with which the builds are forgotten.
pub(super) fn mend(views: &dyn ViewStore, projection: &str) -> Result<bool> {
    let directory = readable(Directory::read(views, projection))?;
    let decisions = readable(count_discarded(views, projection))?;
    if directory.is_some() && decisions.is_some() {
        return Ok(false);
    }
    let mut kept = readable_decisions(views, projection)?;
    if let Some(directory) = directory {
        kept.insert(0, ViewChange::Clear);
        return directory.change(views, projection, kept).map(|()| false);
    }
    // The decisions are dropped with the directory, so there must be space to write them again.
    let rehearsal = build_view(projection, 0);
    views.drop_view(&rehearsal)?;
    Directory::default().change(views, &rehearsal, kept.clone())?;
    views.drop_view(projection)?;
    Directory::default().change(views, projection, kept)?;
    views.drop_view(&rehearsal)?;
    Ok(true)
}

/// The decisions before the first damaged one.
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

/// The value that was read; `None` if it is damaged.
fn readable<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(Error::Corruption { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
