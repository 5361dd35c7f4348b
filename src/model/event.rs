//! [`NewEvent`]: an event before it is appended, and the names that it carries.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

use super::limits::{
    CONTENT_TYPE_LEN_MAX, EVENT_TYPE_LEN_MAX, Limits, TAG_LEN_MAX, TAGS_COUNT_MAX, check_name,
};
use super::{
    CAUSATION_ID, CORRELATION_ID, CheckError, InvalidArgument, LimitExceeded, Metadata,
    RecordedEvent, Timestamp,
};

/// The identity of an event: 16 bytes, a UUID v7 unless the caller gives one. A retry is recognised
/// by it; it is never used for order.
///
/// ```
/// use annals::EventId;
/// let id = EventId::random();
/// assert_eq!(id.to_string().parse::<EventId>()?, id);
/// # Ok::<(), annals::InvalidArgument>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId([u8; 16]);

impl EventId {
    /// A new UUID v7.
    pub fn random() -> Self {
        Self(Uuid::now_v7().into_bytes())
    }

    /// Derives an id from this one: always the same for the same `what`, and different for a
    /// different `what`. An event that is created in response to a command or an event then gets
    /// the same id when the command or event is handled again, and is recognised as a retry. The id
    /// is a UUID v5 (RFC 9562) of `what` in the namespace of this id.
    ///
    /// ```
    /// use annals::EventId;
    /// let command = EventId::random();
    /// assert_eq!(command.derived("withdrawn"), command.derived("withdrawn"));
    /// assert_ne!(command.derived("withdrawn"), command.derived("deposited"));
    /// ```
    pub fn derived(&self, what: impl AsRef<[u8]>) -> Self {
        Self(Uuid::new_v5(&Uuid::from_bytes(self.0), what.as_ref()).into_bytes())
    }

    /// The id with these bytes; any 16 bytes are valid.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<Uuid> for EventId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid.into_bytes())
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).fmt(out)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for EventId {
    type Err = InvalidArgument;

    fn from_str(text: &str) -> Result<Self, InvalidArgument> {
        text.parse::<Uuid>()
            .map(Self::from)
            .map_err(|_| InvalidArgument::unreadable("an event id (a UUID)", text))
    }
}

/// The name of a kind of event, such as `MoneyDeposited`: 1 to [`EVENT_TYPE_LEN_MAX`] bytes of
/// UTF-8 without control characters. Choose it once: it is stored with every event, and does not
/// depend on names in your code.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(Arc<str>);

impl EventType {
    /// Checks the name.
    ///
    /// # Errors
    /// [`InvalidArgument`]: the name is empty, too long, or contains a control character.
    pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidArgument> {
        check_name("event type", name.as_ref(), EVENT_TYPE_LEN_MAX)?;
        Ok(Self(name.as_ref().into()))
    }

    /// A name from a checked frame: it is not checked again.
    pub(crate) fn trusted(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl PartialEq<str> for EventType {
    fn eq(&self, name: &str) -> bool {
        &*self.0 == name
    }
}

impl PartialEq<&str> for EventType {
    fn eq(&self, name: &&str) -> bool {
        &*self.0 == *name
    }
}

impl AsRef<str> for EventType {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for EventType {
    type Err = InvalidArgument;

    fn from_str(name: &str) -> Result<Self, InvalidArgument> {
        Self::new(name)
    }
}

impl TryFrom<&str> for EventType {
    type Error = InvalidArgument;

    fn try_from(name: &str) -> Result<Self, InvalidArgument> {
        Self::new(name)
    }
}

impl TryFrom<String> for EventType {
    type Error = InvalidArgument;

    fn try_from(name: String) -> Result<Self, InvalidArgument> {
        Self::new(name)
    }
}

impl From<&EventType> for EventType {
    fn from(name: &EventType) -> Self {
        name.clone()
    }
}

/// The media type of a payload: 1 to [`CONTENT_TYPE_LEN_MAX`] bytes without control characters.
///
/// ```
/// use annals::ContentType;
/// assert_eq!("image/png".parse(), ContentType::new("image/png"));
/// assert_eq!(ContentType::try_from("application/json"), Ok(ContentType::JSON));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContentType(Cow<'static, str>);

impl ContentType {
    /// `application/json`
    pub const JSON: Self = Self(Cow::Borrowed("application/json"));
    /// `application/octet-stream`: bytes that only the application understands.
    pub const BYTES: Self = Self(Cow::Borrowed("application/octet-stream"));
    /// `application/x-bincode`: bincode 2 in its standard configuration.
    pub const BINCODE: Self = Self(Cow::Borrowed("application/x-bincode"));
    /// `text/plain; charset=utf-8`
    pub const TEXT: Self = Self(Cow::Borrowed("text/plain; charset=utf-8"));

    /// Checks the name.
    ///
    /// # Errors
    /// [`InvalidArgument`]: the name is empty, too long, or contains a control character.
    pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidArgument> {
        check_name("content type", name.as_ref(), CONTENT_TYPE_LEN_MAX)?;
        Ok(Self::trusted(name.as_ref()))
    }

    /// A name from a checked frame: it is not checked again, and not copied if it is one of the
    /// constants.
    pub(crate) fn trusted(name: &str) -> Self {
        match name {
            "application/json" => Self::JSON,
            "application/octet-stream" => Self::BYTES,
            "application/x-bincode" => Self::BINCODE,
            "text/plain; charset=utf-8" => Self::TEXT,
            other => Self(Cow::Owned(other.to_owned())),
        }
    }

    /// The media type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ContentType {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContentType {
    type Err = InvalidArgument;

    fn from_str(name: &str) -> Result<Self, InvalidArgument> {
        Self::new(name)
    }
}

impl TryFrom<&str> for ContentType {
    type Error = InvalidArgument;

    fn try_from(name: &str) -> Result<Self, InvalidArgument> {
        Self::new(name)
    }
}

impl TryFrom<String> for ContentType {
    type Error = InvalidArgument;

    fn try_from(name: String) -> Result<Self, InvalidArgument> {
        Self::new(name)
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// An event that is not yet appended.
///
/// Its [`EventId`] is fixed when it is built: appending the same value again is a retry, and is
/// recognised as one.
///
/// ```
/// use annals::NewEvent;
/// let event = NewEvent::json("MoneyDeposited", &serde_json::json!({ "amount": 1000 }))?
///     .with_tag("eur")
///     .with_metadata("user", "ada");
/// assert_eq!(event.payload(), br#"{"amount":1000}"#);
/// assert_eq!(event.clone().id(), event.id());
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    pub(super) id: EventId,
    pub(super) event_type: EventType,
    pub(super) schema_version: u32,
    pub(super) content_type: ContentType,
    pub(super) metadata: Metadata,
    pub(super) tags: Vec<String>,
    pub(super) payload: Vec<u8>,
    pub(super) recorded_at: Option<Timestamp>,
}

impl NewEvent {
    /// An event with a payload of bytes. Its content type is [`ContentType::BYTES`] until another
    /// is set.
    pub fn new(event_type: EventType, payload: impl Into<Vec<u8>>) -> Self {
        Self::known_as(EventId::random(), event_type, payload.into())
    }

    /// An event with a given id. Generating a random id and replacing it would cost a system call.
    pub(crate) fn known_as(id: EventId, event_type: EventType, payload: Vec<u8>) -> Self {
        Self {
            id,
            event_type,
            schema_version: 1,
            content_type: ContentType::BYTES,
            metadata: Metadata::new(),
            tags: Vec::new(),
            payload,
            recorded_at: None,
        }
    }

    /// Sets the id of the event, such as one derived from the command that caused it. A retry is
    /// recognised by ids alone; nothing else in the event is compared.
    pub fn with_id(mut self, id: impl Into<EventId>) -> Self {
        self.id = id.into();
        self
    }

    /// Sets the schema version of the payload: the first is 1, the default.
    pub fn with_schema_version(mut self, version: u32) -> Self {
        self.schema_version = version;
        self
    }

    /// Sets the content type of the payload.
    pub fn with_content_type(mut self, content_type: ContentType) -> Self {
        self.content_type = content_type;
        self
    }

    /// Adds a metadata pair; an existing key gets the new value.
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.set(key, value);
        self
    }

    /// Replaces all metadata.
    pub fn with_all_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// Adds a tag: 1 to [`TAG_LEN_MAX`] bytes without control characters. An event
    /// is found by its tags (see [`Query`](crate::Query)), so they name what it is about, such as
    /// `course:c1`. Tags hold no personal data: they stay in the index.
    pub fn with_tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Sets the correlation id: the piece of work that this event belongs to.
    pub fn correlated_by(self, id: impl fmt::Display) -> Self {
        self.with_metadata(CORRELATION_ID, id.to_string())
    }

    /// Sets the causation id: the command or event that this event follows from.
    pub fn caused_by(self, id: impl fmt::Display) -> Self {
        self.with_metadata(CAUSATION_ID, id.to_string())
    }

    /// Sets causation and correlation from another event: that event is the cause, and this one
    /// belongs to the same piece of work. If the other event has no correlation id, its own id is
    /// used as one.
    ///
    /// ```
    /// use annals::prelude::*;
    /// let store = MemoryStore::new();
    /// let placed = NewEvent::json("OrderPlaced", &30)?.correlated_by("basket-7");
    /// store.append("order-1", ExpectedVersion::NoStream, [placed])?;
    /// let placed = store.read_stream("order-1").first()?.unwrap();
    ///
    /// let asked = NewEvent::json("PaymentRequested", &30)?.following(&placed);
    /// assert_eq!(asked.metadata().get(annals::CORRELATION_ID), Some("basket-7"));
    /// assert_eq!(asked.metadata().get(annals::CAUSATION_ID), Some(&*placed.id().to_string()));
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn following(self, event: &RecordedEvent) -> Self {
        self.correlated_by(event.work()).caused_by(event.id())
    }

    /// Records the event at this time instead of the clock's, for history from another system. The
    /// time must not be before that of the last event of the log. In one append, either all events
    /// have an explicit time or none has.
    ///
    /// After a time in the future, all later events are recorded at that same time until the clock
    /// reaches it.
    pub fn with_recorded_at(mut self, time: Timestamp) -> Self {
        self.recorded_at = Some(time);
        self
    }

    /// Its id.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Its event type.
    pub fn event_type(&self) -> &EventType {
        &self.event_type
    }

    /// The schema version of its payload.
    pub fn schema_version(&self) -> u32 {
        self.schema_version
    }

    /// The content type of its payload.
    pub fn content_type(&self) -> &ContentType {
        &self.content_type
    }

    /// All metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tags.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The time given by [`NewEvent::with_recorded_at`].
    pub fn recorded_at(&self) -> Option<Timestamp> {
        self.recorded_at
    }

    /// The length of all parts of variable length, in bytes: it counts towards `append_len_max`.
    pub(crate) fn text_len(&self) -> usize {
        let tags: usize = self.tags.iter().map(String::len).sum();
        self.payload.len()
            + self.metadata.text_len()
            + tags
            + self.event_type.as_str().len()
            + self.content_type.as_str().len()
    }

    pub(crate) fn check(&self, limits: &Limits) -> Result<(), CheckError> {
        LimitExceeded::check("payload_len_max", limits.payload_len_max(), self.payload.len())?;
        if self.schema_version == 0 {
            return Err(InvalidArgument::SchemaVersionZero.into());
        }
        if let Some(time) = self.recorded_at.filter(|time| !time.is_recordable()) {
            return Err(InvalidArgument::RecordedAtOutOfRange { micros: time.as_micros() }.into());
        }
        self.metadata.check()?;
        LimitExceeded::check("tags_count_max", TAGS_COUNT_MAX, self.tags.len())?;
        Ok(self.tags.iter().try_for_each(|tag| check_tag(tag))?)
    }
}

/// Checks a tag.
pub(crate) fn check_tag(tag: &str) -> Result<(), InvalidArgument> {
    check_name("tag", tag, TAG_LEN_MAX)
}
