//! [`UnhandledEvent`]: an event that a projection did not handle. A build parks events for a retry
//! and skips others; it stores a note for each.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::builds::{
    noted_position, parked_key, parked_prefix, parked_stream, skipped_key, skipped_prefix,
};
use super::stage::Stage;
use crate::error::{Error, Location, Result};
use crate::event_store::Direction;
use crate::model::{EventId, EventType, Position, RecordedEvent, StreamId, Timestamp, shortened};
use crate::view_store::{ViewChange, ViewScan, ViewStore};

/// How many notes a page holds.
pub(super) const PAGE_ENTRIES: usize = 1_024;

/// Longest stored reason, in characters.
const REASON_CHARS_MAX: usize = 4_096;

/// An event that a projection did not handle although it matches: parked, skipped or discarded,
/// depending on the list that contains it.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnhandledEvent {
    /// Its position in the log.
    pub position: Position,
    /// Its stream.
    pub stream: StreamId,
    /// Its identity.
    pub id: EventId,
    /// Its type, as stored.
    pub event_type: EventType,
    /// The error of the handler, or why the event was skipped; `None` for an event that only waits
    /// for an earlier one of its stream.
    pub reason: Option<String>,
    /// When it was parked or last retried, skipped, or discarded.
    pub at: Timestamp,
}

/// A parked, skipped or discarded event, as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct Note {
    position: u64,
    stream: String,
    id: String,
    event_type: String,
    reason: Option<String>,
    at_micros: i64,
    /// Whether it was skipped because it is discarded.
    #[serde(default, skip_serializing_if = "is_false")]
    discarded: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Note {
    fn of(event: &RecordedEvent, reason: Option<&str>, at: Timestamp) -> Self {
        Self {
            position: event.position().get(),
            stream: event.stream().to_string(),
            id: event.id().to_string(),
            event_type: event.event_type().to_string(),
            reason: reason.map(shortened_reason),
            at_micros: at.as_micros(),
            discarded: false,
        }
    }

    pub(super) fn again(event: &UnhandledEvent, at: Timestamp) -> Self {
        Self {
            position: event.position.get(),
            stream: event.stream.to_string(),
            id: event.id.to_string(),
            event_type: event.event_type.to_string(),
            reason: event.reason.clone(),
            at_micros: at.as_micros(),
            discarded: false,
        }
    }

    /// Whether the event was skipped because it is discarded.
    pub(super) fn is_discarded(&self) -> bool {
        self.discarded
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        // Texts and numbers always have a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The event; `None` if the note is not valid.
    pub(super) fn event(self) -> Option<UnhandledEvent> {
        Some(UnhandledEvent {
            position: Position::new(self.position)?,
            stream: StreamId::readable(&self.stream).ok()?,
            id: self.id.parse().ok()?,
            event_type: EventType::new(&self.event_type).ok()?,
            reason: self.reason,
            at: Timestamp::from_micros(self.at_micros),
        })
    }
}

/// Shortens a reason: a handler's error may be of any length, but a note must fit into a view.
fn shortened_reason(reason: &str) -> String {
    shortened(reason, REASON_CHARS_MAX)
}

/// Records that an event is parked.
pub(super) fn park(stage: &mut Stage, event: &RecordedEvent, reason: Option<&str>, at: Timestamp) {
    let key = parked_key(event.stream(), event.position());
    stage.set(key, Some(Note::of(event, reason, at).encode()));
    stage.keep_event();
}

/// Records that an event was skipped.
pub(super) fn skip(stage: &mut Stage, event: &RecordedEvent, reason: &str, at: Timestamp) {
    let note = Note::of(event, Some(reason), at);
    stage.set(skipped_key(event.position()), Some(note.encode()));
    stage.keep_event();
}

/// Records that a discarded event was skipped.
pub(super) fn skip_discarded(stage: &mut Stage, event: &UnhandledEvent, at: Timestamp) {
    let note = Note { discarded: true, ..Note::again(event, at) };
    stage.set(skipped_key(event.position), Some(note.encode()));
    stage.keep_event();
}

/// Replaces the note of a parked event with that of a skipped one.
pub(super) fn unpark(parked: &UnhandledEvent, reason: &str, at: Timestamp) -> Vec<ViewChange> {
    let reason = Some(shortened_reason(reason));
    let note = Note { reason, ..Note::again(parked, at) };
    replace(parked_key(&parked.stream, parked.position), skipped_key(parked.position), &note)
}

/// Replaces the note of a parked event with that of one skipped because it is discarded.
pub(super) fn give_up(parked: &UnhandledEvent, at: Timestamp) -> Vec<ViewChange> {
    let note = Note { discarded: true, ..Note::again(parked, at) };
    replace(parked_key(&parked.stream, parked.position), skipped_key(parked.position), &note)
}

/// Replaces the note of a skipped event with that of a parked one.
pub(super) fn park_again(event: &UnhandledEvent, at: Timestamp) -> Vec<ViewChange> {
    let note = Note::again(event, at);
    replace(skipped_key(event.position), parked_key(&event.stream, event.position), &note)
}

/// Rewrites the note of a parked event after another failure.
pub(super) fn park_still(parked: &UnhandledEvent, reason: &str, at: Timestamp) -> Vec<ViewChange> {
    let key = parked_key(&parked.stream, parked.position);
    let reason = Some(shortened_reason(reason));
    let note = Note { reason, ..Note::again(parked, at) };
    // The key is deleted first, so that the changes add up to no new parked event.
    replace(key.clone(), key, &note)
}

fn replace(old: Vec<u8>, new: Vec<u8>, note: &Note) -> Vec<ViewChange> {
    vec![ViewChange::Delete { key: old }, ViewChange::Put { key: new, value: note.encode() }]
}

/// The number of parked events of a build, by stream.
pub(super) type ParkedStreams = HashMap<StreamId, u64>;

/// What a build has noted about events.
#[derive(Default)]
pub(super) struct Noted {
    pub(super) parked: u64,
    pub(super) streams: ParkedStreams,
    pub(super) skipped: u64,
}

impl Noted {
    /// Reads the notes of a build, and visits the position of each event.
    pub(super) fn read(
        views: &dyn ViewStore,
        view: &str,
        mut visit: impl FnMut(Position),
    ) -> Result<Self> {
        let mut noted = Self::default();
        for prefix in [parked_prefix(None), skipped_prefix()] {
            let is_parked = prefix == parked_prefix(None);
            each(views, view, &prefix, usize::MAX, |note| {
                let event = note.event()?;
                visit(event.position);
                if is_parked {
                    noted.parked += 1;
                    *noted.streams.entry(event.stream).or_default() += 1;
                } else {
                    noted.skipped += 1;
                }
                Some(())
            })?;
        }
        Ok(noted)
    }
}

/// Reads a parked event; `None` if it is not parked.
pub(super) fn parked_event(
    views: &dyn ViewStore,
    view: &str,
    (stream, position): (&StreamId, Position),
) -> Result<Option<UnhandledEvent>> {
    let key = parked_key(stream, position);
    let Some(value) = views.view_value(view, &key)? else { return Ok(None) };
    let parked = parse(&value).and_then(Note::event);
    parked.map(Some).ok_or_else(|| no_note(view, &key))
}

/// Whether a build skipped an event because it is discarded.
pub(super) fn was_skipped(
    views: &dyn ViewStore,
    view: &str,
    event: &UnhandledEvent,
) -> Result<bool> {
    let key = skipped_key(event.position);
    let Some(value) = views.view_value(view, &key)? else { return Ok(false) };
    let note = parse(&value).ok_or_else(|| no_note(view, &key))?;
    Ok(note.discarded && note.id == event.id.to_string())
}

/// The parked events of a build after an event: at most `limit`, by stream, then by position.
pub(super) fn parked_events(
    views: &dyn ViewStore,
    view: &str,
    after: Option<&UnhandledEvent>,
    limit: usize,
) -> Result<Vec<UnhandledEvent>> {
    let mut found = Vec::new();
    let after = after.map(|event| parked_key(&event.stream, event.position));
    each_after(views, view, &parked_prefix(None), after, limit, |note| {
        found.push(note.event()?);
        Some(())
    })?;
    Ok(found)
}

/// The skipped events of a build: at most `limit`, in order.
pub(super) fn skipped_events(
    views: &dyn ViewStore,
    view: &str,
    limit: usize,
) -> Result<Vec<UnhandledEvent>> {
    let mut found = Vec::new();
    each(views, view, &skipped_prefix(), limit, |note| {
        found.push(note.event()?);
        Some(())
    })?;
    Ok(found)
}

/// Visits at most `limit` notes, in order; `take` returns `None` for an invalid note.
pub(super) fn each(
    views: &dyn ViewStore,
    view: &str,
    prefix: &[u8],
    limit: usize,
    take: impl FnMut(Note) -> Option<()>,
) -> Result<()> {
    each_after(views, view, prefix, None, limit, take)
}

/// Visits the notes after a key, like [`each`].
fn each_after(
    views: &dyn ViewStore,
    view: &str,
    prefix: &[u8],
    mut after: Option<Vec<u8>>,
    limit: usize,
    mut take: impl FnMut(Note) -> Option<()>,
) -> Result<()> {
    let mut left = limit;
    loop {
        let page = page(views, view, prefix, after, left.min(PAGE_ENTRIES))?;
        left = left.saturating_sub(page.notes.len());
        for (key, note) in page.notes {
            take(note).ok_or_else(|| no_note(view, &key))?;
        }
        after = page.next;
        if after.is_none() || left == 0 {
            return Ok(());
        }
    }
}

/// A page of notes with their keys.
pub(super) struct NotePage {
    pub(super) notes: Vec<(Vec<u8>, Note)>,
    /// The key after which the next page begins; `None` after the last.
    pub(super) next: Option<Vec<u8>>,
}

/// Reads a page of notes after a key. Deleted keys are slow to scan, so readers continue after the
/// last key and never start over.
pub(super) fn page(
    views: &dyn ViewStore,
    view: &str,
    prefix: &[u8],
    after: Option<Vec<u8>>,
    entries_max: usize,
) -> Result<NotePage> {
    let page = views.scan_view(&ViewScan {
        view: view.to_owned(),
        prefix: prefix.to_vec(),
        after,
        direction: Direction::Forward,
        entries_max,
    })?;
    let last = page.entries.last().map(|(key, _)| key.clone());
    let next = last.filter(|_| page.has_more);
    let notes = page.entries.into_iter().map(|(key, value)| match parse(&value) {
        Some(note) => Ok((key, note)),
        None => Err(no_note(view, &key)),
    });
    Ok(NotePage { notes: notes.collect::<Result<_>>()?, next })
}

fn parse(value: &[u8]) -> Option<Note> {
    serde_json::from_slice(value).ok()
}

pub(super) fn no_note(view: &str, key: &[u8]) -> Error {
    let location = Location::View { view: view.to_owned(), key: key.to_vec() };
    Error::corruption(location, "an invalid note", "a note")
}

/// By how much these changes raise the number of parked events, by stream.
pub(super) fn parked_changes(changes: &[ViewChange]) -> HashMap<StreamId, i64> {
    let mut parked = HashMap::new();
    for change in changes {
        let (key, by) = match change {
            ViewChange::Put { key, .. } => (key, 1),
            ViewChange::Delete { key } => (key, -1),
            ViewChange::Clear => continue,
        };
        if let Some(stream) = parked_stream(key) {
            *parked.entry(StreamId::trusted(stream)).or_default() += by;
        }
    }
    parked
}

/// By how much these changes raise the number of keys with this prefix.
pub(super) fn added(changes: &[ViewChange], prefix: &[u8]) -> i64 {
    let change = |change: &ViewChange| match change {
        ViewChange::Put { key, .. } => i64::from(key.starts_with(prefix)),
        ViewChange::Delete { key } => -i64::from(key.starts_with(prefix)),
        ViewChange::Clear => 0,
    };
    changes.iter().map(change).sum()
}

/// The events after a position of which these changes write notes.
pub(super) fn noted_after(
    changes: &[ViewChange],
    after: Option<Position>,
) -> impl Iterator<Item = Position> {
    let noted = changes.iter().filter_map(|change| match change {
        ViewChange::Put { key, .. } => noted_position(key),
        ViewChange::Delete { .. } | ViewChange::Clear => None,
    });
    noted.filter(move |position| Some(*position) > after)
}
