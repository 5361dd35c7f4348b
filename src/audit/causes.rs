//! [`causes`]: from an event back to what it all began with.

use std::fmt;
use std::ops::ControlFlow;

use super::Id;
use super::entry::{Entry, Layout};
use super::text::printable;
use crate::error::Result;
use crate::event_store::EventStore;
use crate::extension::EventStoreExt;
use crate::model::{CAUSATION_ID, EventId};

/// Why an event happened: the event, its cause, the cause of that, up to where it all began.
///
/// A cause comes before what it causes. An id that names no event before the one that carries it,
/// such as that of a command, ends the chain; so do ids that lead in a circle.
///
/// # Errors
/// What the store finds.
///
/// # Cost
/// There is no index: one pass over the log, from its end back to where the chain begins; to the
/// very first event if the last id has the form of an event id and is none.
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

/// Where a chain of causes begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// With its last event, which names no cause.
    Event,
    /// With what this id names. It is no event before the others: a command, or something that
    /// annals never saw.
    Outside(String),
}

/// Why an event happened. Displayed as lines, the event first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Causes {
    chain: Vec<Entry>,
    origin: Origin,
}

impl Causes {
    /// The event that was asked for, then each its cause; none if the log holds no such event.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.chain.iter()
    }

    /// Where it all began.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// How much of each payload a line shows; [`PAYLOAD_CHARS`](super::PAYLOAD_CHARS) if nothing is
    /// said.
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
