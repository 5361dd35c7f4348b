//! Audit queries over any store: the history of a stream ([`history`]), the causes of an event
//! ([`causes`]), the effects of an event or a command ([`effects`]), and the events of one piece of
//! work ([`correlated`]). Events are shown as they are stored; nothing is upcast.
//!
//! The code that appends an event names its cause with [`NewEvent::caused_by`], and the piece of
//! work with [`NewEvent::correlated_by`]. Nothing checks these ids, so they may name commands or
//! work of other systems. These queries use them unchecked.
//!
//! ```
//! use annals::audit;
//! use annals::prelude::*;
//!
//! let store = MemoryStore::new();
//! let opened = NewEvent::json("AccountOpened", &"Ada")?.caused_by("order-7").correlated_by("ada");
//! let welcome = NewEvent::json("WelcomeSent", &())?.caused_by(opened.id()).correlated_by("ada");
//! let (opened_id, welcome_id) = (opened.id(), welcome.id());
//! store.append("account-1", ExpectedVersion::NoStream, [opened])?;
//! store.append("mail-1", ExpectedVersion::NoStream, [welcome])?;
//!
//! let why = audit::causes(&store, welcome_id)?;
//! let types: Vec<_> = why.iter().map(|entry| entry.event_type().as_str()).collect();
//! assert_eq!(types, ["WelcomeSent", "AccountOpened"]);
//! assert_eq!(why.origin(), &audit::Origin::Outside("order-7".into()));
//!
//! let effects = audit::effects(&store, "order-7")?;
//! assert_eq!(effects.iter().map(audit::Effect::depth).collect::<Vec<_>>(), [1, 2]);
//! assert_eq!(audit::correlated(&store, "ada")?.len(), 2);
//! # assert_eq!(effects.iter().nth(1).map(|effect| effect.id()), Some(welcome_id));
//! # assert_eq!(effects.iter().next().map(|effect| effect.id()), Some(opened_id));
//! # Ok::<(), annals::Error>(())
//! ```
//!
//! [`NewEvent::caused_by`]: crate::NewEvent::caused_by
//! [`NewEvent::correlated_by`]: crate::NewEvent::correlated_by

mod effects;
mod entry;
mod text;
mod causes;

pub use causes::{Causes, Origin, causes};
pub use effects::{Effect, Effects, effects};
pub use entry::{Entry, PAYLOAD_CHARS};
pub use text::printable;

use std::fmt;
use std::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::event_store::{EventStore, Events};
use crate::extension::EventStoreExt;
use crate::model::{CORRELATION_ID, EventId, StreamId};

use entry::Layout;

/// The history of a stream from its first event: one readable [`Entry`] for each event. It reads
/// one page at a time.
///
/// ```
/// use annals::prelude::*;
///
/// let store = MemoryStore::new();
/// let events = [
///     NewEvent::json("AccountOpened", &serde_json::json!({ "owner": "Ada" }))?.with_metadata("user", "bob"),
///     NewEvent::bytes("PhotoAdded", [0xff, 0xd8, 0xff])?,
/// ];
/// store.append("account-1", ExpectedVersion::NoStream, events)?;
///
/// let mut lines = Vec::new();
/// for entry in annals::audit::history(&store, "account-1") {
///     lines.push(entry?.to_string());
/// }
/// assert!(lines[0].starts_with("     1  20"));
/// assert!(lines[0].ends_with(r#"AccountOpened             {"owner":"Ada"}  user=bob"#));
/// assert!(lines[1].ends_with("PhotoAdded                application/octet-stream, 3 bytes: ffd8ff"));
/// # Ok::<(), annals::Error>(())
/// ```
pub fn history<S>(store: &(impl EventStore + ?Sized), stream: S) -> History
where
    S: TryInto<StreamId, Error: Into<Error>>,
{
    History { events: store.read_stream(stream).into_iter(), payload_chars: PAYLOAD_CHARS }
}

/// An iterator over the entries of a stream. It ends after the first error.
pub struct History {
    events: Events,
    payload_chars: usize,
}

impl History {
    /// Sets how many characters of each payload a line shows; [`PAYLOAD_CHARS`] by default.
    pub fn payload_chars(mut self, chars: usize) -> Self {
        self.payload_chars = chars;
        self
    }
}

impl Iterator for History {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let event = self.events.next()?;
        Some(event.map(|event| Entry::new(event).payload_chars(self.payload_chars)))
    }
}

impl std::iter::FusedIterator for History {}

impl fmt::Debug for History {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("History").field("events", &self.events).finish_non_exhaustive()
    }
}

/// All events with this correlation id, which are those of one piece of work, in the order of the
/// log. Their lines begin with position and stream.
///
/// # Errors
/// Any error of the store.
///
/// # Cost
/// There is no index: one pass over the whole log. The result is held in memory.
pub fn correlated(store: &(impl EventStore + ?Sized), id: impl fmt::Display) -> Result<Vec<Entry>> {
    let wanted = Id::new(&id.to_string());
    let mut entries = Vec::new();
    store.read_log().for_each(|event| {
        if event.metadata().get(CORRELATION_ID).is_some_and(|id| Id::new(id) == wanted) {
            entries.push(Entry::laid_out(event.to_owned(), Layout::Log));
        }
        ControlFlow::Continue(())
    })?;
    Ok(entries)
}

/// A causation or correlation id. An event id is compared as a parsed UUID, because a UUID has
/// several spellings.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Id {
    Event(EventId),
    Other(String),
}

impl Id {
    fn new(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Other(text.to_owned()), Self::Event)
    }
}
