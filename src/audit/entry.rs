//! [`Entry`]: a recorded event as a line of readable text.

use std::fmt;
use std::ops::Deref;

use super::text::{payload, printable, shortened};
use crate::model::{CAUSATION_ID, CORRELATION_ID, RecordedEvent};

/// How many characters of a payload a line shows by default.
pub const PAYLOAD_CHARS: usize = 120;

/// A recorded event that displays as one line: version, time, type, payload, metadata, tags. It
/// dereferences to the event (see [`Deref`]).
///
/// Any read can be displayed as lines:
///
/// ```
/// use annals::audit::Entry;
/// use annals::prelude::*;
///
/// let store = MemoryStore::new();
/// let event = NewEvent::json("Noted", &"a long text").unwrap();
/// store.append("notes", ExpectedVersion::NoStream, [event])?;
/// for event in store.read_log().types(["Noted"]).backward() {
///     let line = Entry::new(event?).payload_chars(5).to_string();
///     assert!(line.ends_with(r#""a lo… (13 bytes)"#), "{line}");
/// }
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    event: RecordedEvent,
    layout: Layout,
    payload_chars: usize,
}

/// The beginning of a line, and whether it is in columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// The version, because the stream is known. In columns.
    Stream,
    /// The position, the stream and the version. In columns.
    Log,
    /// The stream and the version, without columns.
    Tree,
}

impl Entry {
    /// Creates an entry whose line begins with the version and does not name the stream.
    pub fn new(event: RecordedEvent) -> Self {
        Self::laid_out(event, Layout::Stream)
    }

    pub(super) fn laid_out(event: RecordedEvent, layout: Layout) -> Self {
        Self { event, layout, payload_chars: PAYLOAD_CHARS }
    }

    /// Sets how many characters of the payload, and of each metadata value, the line shows.
    pub fn payload_chars(mut self, chars: usize) -> Self {
        self.set_payload_chars(chars);
        self
    }

    pub(super) fn set_payload_chars(&mut self, chars: usize) {
        self.payload_chars = chars;
    }

    /// The payload as the line shows it: compact JSON, text in quotes, or the length and the first
    /// bytes of anything else.
    pub fn payload_text(&self) -> String {
        payload(self.event.as_ref(), self.payload_chars)
    }

    /// The id of the command or event that caused it.
    pub fn causation_id(&self) -> Option<&str> {
        self.metadata().get(CAUSATION_ID)
    }

    /// The id of the piece of work that it belongs to.
    pub fn correlation_id(&self) -> Option<&str> {
        self.metadata().get(CORRELATION_ID)
    }

    /// Turns this into the recorded event.
    pub fn into_event(self) -> RecordedEvent {
        self.event
    }

    fn kind(&self) -> String {
        let name = printable(self.event_type().as_str());
        match self.schema_version() {
            1 => name,
            version => format!("{name} (schema {version})"),
        }
    }

    fn extras(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, value) in self.metadata().iter() {
            let key = match key {
                CAUSATION_ID => "caused_by".to_owned(),
                CORRELATION_ID => "correlated_by".to_owned(),
                key => printable(key),
            };
            let (value, rest) = shortened(value.chars(), self.payload_chars, value.len());
            write!(out, "  {key}={}{rest}", printable(&value))?;
        }
        for tag in self.tags() {
            write!(out, "  #{}", printable(tag))?;
        }
        Ok(())
    }
}

impl Deref for Entry {
    type Target = RecordedEvent;

    fn deref(&self) -> &RecordedEvent {
        &self.event
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (version, time) = (self.version().get(), self.recorded_at().to_string());
        let stream = printable(self.stream().as_str());
        let (kind, payload) = (self.kind(), self.payload_text());
        match self.layout {
            Layout::Stream => write!(out, "{version:>6}  {time:<27}  {kind:<24}  {payload}")?,
            Layout::Log => {
                let (position, place) = (self.position().get(), format!("{stream}@{version}"));
                write!(out, "{position:>8}  {place:<24}  {time:<27}  {kind:<24}  {payload}")?;
            }
            Layout::Tree => write!(out, "{stream}@{version}  {kind}  {time}  {payload}")?,
        }
        self.extras(out)
    }
}
