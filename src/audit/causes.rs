//! [`causes`]: the chain of causes of an event, back to its origin.

use std::fmt;
use std::ops::ControlFlow;

use super::Id;
use super::entry::{Entry, Layout};
use super::text::printable;
use crate::error::Result;
use crate::event_store::EventStore;
use crate::extension::EventStoreExt;
use crate::model::{CAUSATION_ID, EventId};

/// The chain of causes of an event: the event, its cause, the cause of that, back to the origin.
///
/// A cause must precede its effect in the log. A causation id that names no earlier event, such as
/// that of a command, ends the chain; a cycle ends it as well.
///
/// # Errors
/// Any error of the store.
///
/// # Cost
/// There is no index: one pass over the log, from its end back to the origin of the chain; back to
/// the first event of the log if the last causation id looks like an event id but names no event.
pub fn causes(store: &(impl EventStore + ?Sized), event: EventId) -> Result<Causes> {
    let mut chain = Vec::new();
    let mut origin = None;
    let mut wanted = event;
    store.read_log().backward().for_each(|event| {
        if event.id() != wanted {
            return ControlFlow::Continue(());
        }
        chain.push(Entry::laid_out(event.to_owned(), Layout::Tree));
        origin = match event.metadata().get(CAUSATION_ID).map(Id::new) {
            None => Some(Origin::Event),
            Some(Id::Other(command)) => Some(Origin::Outside(command)),
            Some(Id::Event(cause)) => {
                wanted = cause;
                None
            }
        };
        if origin.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let origin = origin.unwrap_or_else(|| Origin::Outside(wanted.to_string()));
    Ok(Causes { chain, origin })
}

/// The origin of a chain of causes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The last event of the chain, which names no cause.
    Event,
    /// This id, which names no earlier event of the log: a command, for example, or work of another
    /// system.
    Outside(String),
}

/// The chain of causes of an event. Displays as lines, the event first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Causes {
    chain: Vec<Entry>,
    origin: Origin,
}

impl Causes {
    /// The requested event, followed by its causes; empty if the log contains no such event.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.chain.iter()
    }

    /// The origin of the chain.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Sets how many characters of each payload a line shows;
    /// [`PAYLOAD_CHARS`](super::PAYLOAD_CHARS) by default.
    pub fn payload_chars(mut self, chars: usize) -> Self {
        self.chain.iter_mut().for_each(|entry| entry.set_payload_chars(chars));
        self
    }
}

impl<'c> IntoIterator for &'c Causes {
    type Item = &'c Entry;
    type IntoIter = std::slice::Iter<'c, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Causes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, entry) in self.iter().enumerate() {
            let because = if at == 0 { "" } else { "  because of " };
            writeln!(out, "{because}{entry}")?;
        }
        match &self.origin {
            Origin::Event => out.write_str("  no cause"),
            Origin::Outside(id) if self.chain.is_empty() => {
                write!(out, "{} is no event of this log", printable(id))
            }
            Origin::Outside(id) => {
                write!(out, "  because of {}, which is no event before it", printable(id))
            }
        }
    }
}
