//! [`RecordedEvent`] and its borrowed form [`EventRef`]: an event with its place.

use std::ops::RangeInclusive;

use super::stream::category_of;
use super::{
    CAUSATION_ID, CORRELATION_ID, ContentType, EventId, EventType, Metadata, MetadataRef, NewEvent,
    Position, StreamId, TagsRef, Timestamp, Version,
};

/// Where and when an event was recorded: what a store adds to a [`NewEvent`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedAs {
    /// The stream it was appended to.
    pub stream: StreamId,
    /// Its place in the stream.
    pub version: Version,
    /// Its place in the log.
    pub position: Position,
    /// When it was recorded; never earlier than the event before it in the log.
    pub recorded_at: Timestamp,
    /// The positions of its whole commit: all events that were appended with it, itself included.
    pub commit: RangeInclusive<Position>,
}

/// An immutable event with its place in the store. It is owned; [`EventRef`] is the borrowed form.
///
/// ```
/// use annals::prelude::*;
/// use annals::{Position, Version};
/// let store = MemoryStore::new();
/// store.append("account-1", ExpectedVersion::NoStream, [NewEvent::json("Opened", &"Ada")?])?;
/// let event = store.read_stream("account-1").first()?.unwrap();
/// assert_eq!(event.event_type().as_str(), "Opened");
/// assert_eq!(event.json::<String>()?, "Ada");
/// assert_eq!((event.version(), event.position()), (Version::FIRST, Position::FIRST));
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    place: RecordedAs,
    event: NewEvent,
}

impl RecordedEvent {
    /// Joins an event with its place. Only implementations of a store need this.
    pub fn new(mut event: NewEvent, place: RecordedAs) -> Self {
        event.recorded_at = None;
        Self { place, event }
    }

    /// Its id.
    pub fn id(&self) -> EventId {
        self.event.id
    }

    /// Its place in the log.
    pub fn position(&self) -> Position {
        self.place.position
    }

    /// The stream it belongs to.
    pub fn stream(&self) -> &StreamId {
        &self.place.stream
    }

    /// Its place in the stream.
    pub fn version(&self) -> Version {
        self.place.version
    }

    /// When it was recorded (UTC); never earlier than the event before it in the log.
    pub fn recorded_at(&self) -> Timestamp {
        self.place.recorded_at
    }

    /// The positions of its whole commit: all events that were appended with it, itself included.
    pub fn commit(&self) -> RangeInclusive<Position> {
        self.place.commit.clone()
    }

    /// Its event type.
    pub fn event_type(&self) -> &EventType {
        &self.event.event_type
    }

    /// The schema version of its payload.
    pub fn schema_version(&self) -> u32 {
        self.event.schema_version
    }

    /// The content type of its payload.
    pub fn content_type(&self) -> &ContentType {
        &self.event.content_type
    }

    /// Its metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.event.metadata
    }

    /// The piece of work that it belongs to: its correlation id, or else its own id.
    pub(crate) fn work(&self) -> String {
        self.correlation_id().map_or_else(|| self.id().to_string(), str::to_owned)
    }

    /// The piece of work that it belongs to: [`NewEvent::correlated_by`].
    pub fn correlation_id(&self) -> Option<&str> {
        self.event.metadata.get(CORRELATION_ID)
    }

    /// The command or event that it follows from: [`NewEvent::caused_by`].
    pub fn causation_id(&self) -> Option<&str> {
        self.event.metadata.get(CAUSATION_ID)
    }

    /// Its tags.
    pub fn tags(&self) -> &[String] {
        &self.event.tags
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.event.payload
    }

    /// The borrowed form.
    pub fn as_ref(&self) -> EventRef<'_> {
        EventRef {
            id: self.id(),
            position: self.position(),
            stream: self.place.stream.as_str(),
            version: self.version(),
            recorded_at: self.recorded_at(),
            commit_first: *self.place.commit.start(),
            commit_last: *self.place.commit.end(),
            event_type: self.event.event_type.as_str(),
            schema_version: self.event.schema_version,
            content_type: self.event.content_type.as_str(),
            metadata: self.event.metadata.as_ref(),
            tags: TagsRef::owned(&self.event.tags),
            payload: &self.event.payload,
        }
    }
}

/// A recorded event, borrowed from the page it was read in: nothing is copied until
/// [`EventRef::to_owned`].
#[derive(Debug, Clone, Copy)]
pub struct EventRef<'a> {
    pub(crate) id: EventId,
    pub(crate) position: Position,
    pub(crate) stream: &'a str,
    pub(crate) version: Version,
    pub(crate) recorded_at: Timestamp,
    pub(crate) commit_first: Position,
    pub(crate) commit_last: Position,
    pub(crate) event_type: &'a str,
    pub(crate) schema_version: u32,
    pub(crate) content_type: &'a str,
    pub(crate) metadata: MetadataRef<'a>,
    pub(crate) tags: TagsRef<'a>,
    pub(crate) payload: &'a [u8],
}

impl<'a> EventRef<'a> {
    /// Its id.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Its place in the log.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The id of the stream it belongs to.
    pub fn stream(&self) -> &'a str {
        self.stream
    }

    /// The category of its stream.
    pub fn category(&self) -> &'a str {
        category_of(self.stream)
    }

    /// Its place in the stream.
    pub fn version(&self) -> Version {
        self.version
    }

    /// When it was recorded (UTC); never earlier than the event before it in the log.
    pub fn recorded_at(&self) -> Timestamp {
        self.recorded_at
    }

    /// The positions of its whole commit: all events that were appended with it, itself included.
    pub fn commit(&self) -> RangeInclusive<Position> {
        self.commit_first..=self.commit_last
    }

    /// Its event type.
    pub fn event_type(&self) -> &'a str {
        self.event_type
    }

    /// The schema version of its payload.
    pub fn schema_version(&self) -> u32 {
        self.schema_version
    }

    /// The content type of its payload.
    pub fn content_type(&self) -> &'a str {
        self.content_type
    }

    /// Its metadata.
    pub fn metadata(&self) -> MetadataRef<'a> {
        self.metadata
    }

    /// Its tags.
    pub fn tags(&self) -> TagsRef<'a> {
        self.tags
    }

    /// The payload.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// An owned copy.
    pub fn to_owned(&self) -> RecordedEvent {
        self.named(StreamId::trusted(self.stream), EventType::trusted(self.event_type))
    }

    #[inline]
    fn named(&self, stream: StreamId, event_type: EventType) -> RecordedEvent {
        RecordedEvent {
            place: RecordedAs {
                stream,
                version: self.version,
                position: self.position,
                recorded_at: self.recorded_at,
                commit: self.commit(),
            },
            event: NewEvent {
                id: self.id,
                event_type,
                schema_version: self.schema_version,
                content_type: ContentType::trusted(self.content_type),
                metadata: self.metadata.to_owned(),
                tags: self.tags.to_owned(),
                payload: self.payload.to_vec(),
                recorded_at: None,
            },
        }
    }
}

/// Copies consecutive events. Repeated names are shared, because allocating them was half of the
/// cost of a copy.
#[derive(Debug, Default)]
pub(crate) struct Copier {
    stream: Option<StreamId>,
    types: [Option<EventType>; COPIER_TYPES],
}

/// The number of slots for event types. The length and the last byte of a type select its slot.
const COPIER_TYPES: usize = 16;

impl Copier {
    #[inline]
    pub(crate) fn copy(&mut self, event: &EventRef<'_>) -> RecordedEvent {
        let stream = match &self.stream {
            Some(stream) if stream.as_str() == event.stream => stream.clone(),
            _ => self.stream.insert(StreamId::trusted(event.stream)).clone(),
        };
        let name = event.event_type;
        let slot = (name.len() + name.bytes().last().map_or(0, usize::from)) % COPIER_TYPES;
        let event_type = match self.types.get_mut(slot) {
            Some(Some(known)) if known.as_str() == name => known.clone(),
            Some(slot) => slot.insert(EventType::trusted(name)).clone(),
            None => EventType::trusted(name),
        };
        event.named(stream, event_type)
    }
}
