//! [`Executed`]: the result of a command.

use std::fmt;

use super::{Aggregate, AggregateRoot};
use crate::event_store::Appended;
use crate::model::{Position, StreamId, Version};

/// The result of a command: the events that it led to, and the aggregate after them.
pub struct Executed<A: Aggregate> {
    root: AggregateRoot<A>,
    events: Vec<A::Event>,
    appended: Option<Appended>,
    is_retry: bool,
}

impl<A: Aggregate> Executed<A> {
    pub(super) fn new(
        root: AggregateRoot<A>,
        events: Vec<A::Event>,
        appended: Option<Appended>,
    ) -> Self {
        let is_retry = appended.as_ref().is_some_and(Appended::is_retry);
        Self { root, events, appended, is_retry }
    }

    /// The result of a request that was done before.
    pub(super) fn again(
        root: AggregateRoot<A>,
        events: Vec<A::Event>,
        appended: Option<Appended>,
    ) -> Self {
        Self { is_retry: true, ..Self::new(root, events, appended) }
    }

    /// The state after the command.
    pub fn state(&self) -> &A {
        self.root.state()
    }

    /// Turns this into the state after the command.
    pub fn into_state(self) -> A {
        self.root.into_state()
    }

    /// The stream of the aggregate.
    pub fn stream(&self) -> &StreamId {
        self.root.stream()
    }

    /// The version of the state; `None` if the stream has no events.
    pub fn version(&self) -> Option<Version> {
        self.root.version()
    }

    /// The position of the last event in the state; `None` if the stream has no events. Wait for it
    /// to read the result from a read model of this aggregate. If `also` appended to other streams,
    /// wait for [`Appended::last_position`] of [`Executed::appended`].
    pub fn position(&self) -> Option<Position> {
        self.root.position()
    }

    /// The events of this command, in order; empty if it led to none.
    pub fn events(&self) -> &[A::Event] {
        &self.events
    }

    /// Where the events are stored; `None` if there were none.
    pub fn appended(&self) -> Option<&Appended> {
        self.appended.as_ref()
    }

    /// Whether the command had been executed before, which its idempotency key or the ids of its
    /// events show, so that this call stored nothing.
    pub fn is_retry(&self) -> bool {
        self.is_retry
    }

    /// Turns this into the aggregate after the command, for further changes.
    pub fn into_root(self) -> AggregateRoot<A> {
        self.root
    }
}

impl<A: Aggregate> fmt::Debug for Executed<A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Executed")
            .field("root", &self.root)
            .field("appended", &self.appended)
            .finish_non_exhaustive()
    }
}
