//! What a projection put aside: parked events, which wait to be tried again, and skipped ones, which could not be read.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::names::{parked_key, parked_prefix, skipped_key, skipped_prefix};
use super::stage::Stage;
use crate::error::{Error, Location, Result};
use crate::event_store::Direction;
use crate::model::{EventId, EventType, Position, RecordedEvent, StreamId, Timestamp};
use crate::view_store::{ViewScan, ViewStore};

/// How many notes are read at once.
const PAGE_ENTRIES: usize = 1_024;

/// An event that a projection failed to handle, or a later one of its stream, which waits behind it.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedEvent {
    /// Its place in the log.
    pub position: Position,
    /// Its stream: all later events of it are parked too.
    pub stream: StreamId,
    /// Its identity.
    pub id: EventId,
    /// Its type as it is stored.
    pub event_type: EventType,
    /// What the handler said; `None` for an event that only waits behind another.
    pub reason: Option<String>,
    /// When it was parked or last tried.
    pub parked_at: Timestamp,
}

/// An event that a projection passed over, since it could not be read, or was given up by
/// [`ProjectionHandle::discard_parked`](crate::ProjectionHandle::discard_parked).
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedEvent {
    /// Its place in the log.
    pub position: Position,
    /// Its stream.
    pub stream: StreamId,
    /// Its identity.
    pub id: EventId,
    /// Its type as it is stored.
    pub event_type: EventType,
    /// Why it could not be read; or what its handler had said.
    pub reason: String,
    /// When it was skipped.
    pub skipped_at: Timestamp,
}

/// Either of them, as it is kept beside the values of a build.
#[derive(Serialize, Deserialize)]
struct Note {
    position: u64,
    stream: String,
    id: String,
    event_type: String,
    reason: Option<String>,
    at_micros: i64,
}

impl Note {
    fn of(event: &RecordedEvent, reason: Option<String>, at: Timestamp) -> Self {
        Self {
            position: event.position().get(),
            stream: event.stream().to_string(),
            id: event.id().to_string(),
            event_type: event.event_type().to_string(),
            reason,
            at_micros: at.as_micros(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        // Texts and numbers always have a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn parked(self) -> Option<ParkedEvent> {
        Some(ParkedEvent {
            position: Position::new(self.position)?,
            stream: StreamId::new(&self.stream).ok()?,
            id: self.id.parse().ok()?,
            event_type: EventType::new(&self.event_type).ok()?,
            reason: self.reason,
            parked_at: Timestamp::from_micros(self.at_micros),
        })
    }

    fn skipped(self) -> Option<SkippedEvent> {
        let parked = self.parked()?;
        Some(SkippedEvent {
            position: parked.position,
            stream: parked.stream,
            id: parked.id,
            event_type: parked.event_type,
            reason: parked.reason.unwrap_or_default(),
            skipped_at: parked.parked_at,
        })
    }
}

/// Notes that an event is parked.
pub(super) fn park(
    stage: &mut Stage,
    event: &RecordedEvent,
    reason: Option<String>,
    at: Timestamp,
) {
    let key = parked_key(event.stream(), event.position());
    stage.set(key, Some(Note::of(event, reason, at).encode()));
    stage.keep_event();
}

/// Notes that an event was passed over.
pub(super) fn skip(stage: &mut Stage, event: &RecordedEvent, reason: String, at: Timestamp) {
    let note = Note::of(event, Some(reason), at);
    stage.set(skipped_key(event.position()), Some(note.encode()));
    stage.keep_event();
}

/// Notes that a parked event is passed over from now on.
pub(super) fn give_up(stage: &mut Stage, parked: &ParkedEvent, at: Timestamp) {
    let note = Note {
        position: parked.position.get(),
        stream: parked.stream.to_string(),
        id: parked.id.to_string(),
        event_type: parked.event_type.to_string(),
        reason: parked.reason.clone(),
        at_micros: at.as_micros(),
    };
    stage.set(skipped_key(parked.position), Some(note.encode()));
    stage.keep_event();
}

/// How many events are parked in a build, and of which streams.
pub(super) fn count_parked(views: &dyn ViewStore, view: &str) -> Result<(u64, HashSet<StreamId>)> {
    let (mut count, mut streams) = (0, HashSet::new());
    each(views, view, &parked_prefix(None), usize::MAX, |note| {
        let parked = note.parked()?;
        count += 1;
        if !streams.contains(&parked.stream) {
            streams.insert(parked.stream);
        }
        Some(())
    })?;
    Ok((count, streams))
}

/// How many events were passed over in a build.
pub(super) fn count_skipped(views: &dyn ViewStore, view: &str) -> Result<u64> {
    let mut count = 0;
    each(views, view, &skipped_prefix(), usize::MAX, |_| {
        count += 1;
        Some(())
    })?;
    Ok(count)
}

/// What is parked in a build, of one stream or of all; at most `limit` events, by stream, then in order.
pub(super) fn parked_events(
    views: &dyn ViewStore,
    view: &str,
    stream: Option<&StreamId>,
    limit: usize,
) -> Result<Vec<ParkedEvent>> {
    let mut found = Vec::new();
    each(views, view, &parked_prefix(stream), limit, |note| {
        found.push(note.parked()?);
        Some(())
    })?;
    Ok(found)
}

/// What was passed over in a build, in order.
pub(super) fn skipped_events(
    views: &dyn ViewStore,
    view: &str,
    limit: usize,
) -> Result<Vec<SkippedEvent>> {
    let mut found = Vec::new();
    each(views, view, &skipped_prefix(), limit, |note| {
        found.push(note.skipped()?);
        Some(())
    })?;
    Ok(found)
}

/// Takes at most `limit` notes, in order; `take` says `None` of one that is none.
fn each(
    views: &dyn ViewStore,
    view: &str,
    prefix: &[u8],
    limit: usize,
    mut take: impl FnMut(Note) -> Option<()>,
) -> Result<()> {
    let mut left = limit;
    let mut scan = ViewScan {
        view: view.to_owned(),
        prefix: prefix.to_vec(),
        after: None,
        direction: Direction::Forward,
        entries_max: 0,
    };
    loop {
        scan.entries_max = left.min(PAGE_ENTRIES);
        let page = views.scan_view(&scan)?;
        for (key, value) in &page.entries {
            let note = serde_json::from_slice(value).ok();
            note.and_then(&mut take).ok_or_else(|| {
                let location = Location::View { view: view.to_owned(), key: key.clone() };
                Error::corruption(location, "no such note", "a note")
            })?;
        }
        left = left.saturating_sub(page.entries.len());
        scan.after = page.entries.last().map(|(key, _)| key.clone());
        if !page.has_more || left == 0 {
            return Ok(());
        }
    }
}
