//! [`Executed`]: a command that was carried out.

use std::fmt;

use super::{Aggregate, AggregateRoot};
use crate::event_store::Appended;
use crate::model::{Position, StreamId, Version};

/// A command that was carried out: what happened, and the aggregate after it.
pub struct Executed<A: Aggregate> {
    root: AggregateRoot<A>,
    events: Vec<A::Event>,
    appended: Option<Appended>,
}

impl<A: Aggregate> Executed<A> {
    pub(super) fn new(
        root: AggregateRoot<A>,
        events: Vec<A::Event>,
        appended: Option<Appended>,
    ) -> Self {
        Self { root, events, appended }
    }

    /// The state after it.
    pub fn state(&self) -> &A {
        self.root.state()
    }

    /// The state after it.
    pub fn into_state(self) -> A {
        self.root.into_state()
    }

    /// The stream of the aggregate.
    pub fn stream(&self) -> &StreamId {
        self.root.stream()
    }

    /// The version of the state; `None` if nothing has ever happened.
    pub fn version(&self) -> Option<Version> {
        self.root.version()
    }

    /// The position of the last event in the state, to wait for with a read model; `None` if
    /// nothing has ever happened.
    pub fn position(&self) -> Option<Position> {
        self.root.position()
    }

    /// What happened, in order; nothing, where the command led to no event.
    pub fn events(&self) -> &[A::Event] {
        &self.events
    }

    /// Where the events stand; `None` if there were none.
    pub fn appended(&self) -> Option<&Appended> {
        self.appended.as_ref()
    }

    /// The aggregate after it, to go on with.
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
