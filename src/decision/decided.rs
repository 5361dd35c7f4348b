//! [`Decided`]: the result of a decision.

use std::fmt;

use crate::event_store::Appended;
use crate::model::Position;

/// The result of a decision: the events that it led to, and where they are stored.
#[derive(Clone)]
pub struct Decided<E> {
    pub(super) events: Vec<E>,
    pub(super) appended: Option<Appended>,
    pub(super) is_retry: bool,
    pub(super) retries: u32,
}

impl<E> Decided<E> {
    /// The events of the decision, in order; empty if it led to none.
    pub fn events(&self) -> &[E] {
        &self.events
    }

    /// Turns this into the events of the decision.
    pub fn into_events(self) -> Vec<E> {
        self.events
    }

    /// Where the events are stored; `None` if there were none.
    pub fn appended(&self) -> Option<&Appended> {
        self.appended.as_ref()
    }

    /// The position of the last event that was appended; `None` if there was none. Wait for it to
    /// read the result from a read model.
    pub fn position(&self) -> Option<Position> {
        self.appended.as_ref().map(Appended::last_position)
    }

    /// Whether the request had been done before, which its idempotency key shows, so that this call
    /// stored nothing.
    pub fn is_retry(&self) -> bool {
        self.is_retry
    }

    /// How often this call decided again, because another writer appended first.
    pub fn retries(&self) -> u32 {
        self.retries
    }
}

impl<E> fmt::Debug for Decided<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Decided")
            .field("events", &self.events.len())
            .field("appended", &self.appended)
            .field("is_retry", &self.is_retry)
            .field("retries", &self.retries)
            .finish()
    }
}
