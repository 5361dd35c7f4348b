//! [`Decision`]: the result of deciding a command, before it is stored.

use std::fmt;

use super::{Aggregate, AggregateRoot};
use crate::error::Error;
use crate::event_store::Append;
use crate::model::{ExpectedVersion, NewEvent, StreamId, Version};

/// The result of deciding a command, before it is stored.
/// [`CommandBuilder::also`](super::CommandBuilder) may add to it.
pub struct Decision<'d, A: Aggregate> {
    before: &'d A,
    root: &'d AggregateRoot<A>,
    append: Append,
}

impl<'d, A: Aggregate> Decision<'d, A> {
    pub(super) fn new(before: &'d A, root: &'d AggregateRoot<A>, append: Append) -> Self {
        Self { before, root, append }
    }

    pub(crate) fn append(&self) -> &Append {
        &self.append
    }

    pub(crate) fn set_append(&mut self, append: Append) {
        self.append = append;
    }

    pub(super) fn into_append(self) -> Append {
        self.append
    }

    /// The state before the command.
    pub fn before(&self) -> &'d A {
        self.before
    }

    /// The state after the command.
    pub fn after(&self) -> &'d A {
        self.root.state()
    }

    /// The events that the command leads to, in order.
    pub fn events(&self) -> &'d [A::Event] {
        self.root.uncommitted()
    }

    /// The stream of the aggregate.
    pub fn stream(&self) -> &'d StreamId {
        self.root.stream()
    }

    /// The version of the aggregate before the command; `None` if it has no events yet.
    pub fn version(&self) -> Option<Version> {
        self.root.version()
    }

    /// Adds events for a stream, as [`Append::to`] does.
    pub fn to<S>(
        &mut self,
        stream: S,
        expected: ExpectedVersion,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> &mut Self
    where
        S: TryInto<StreamId, Error: Into<Error>>,
    {
        self.append = std::mem::take(&mut self.append).to(stream, expected, events);
        self
    }

    /// Adds an expectation for a stream, as [`Append::check`] does.
    pub fn check<S>(&mut self, stream: S, expected: ExpectedVersion) -> &mut Self
    where
        S: TryInto<StreamId, Error: Into<Error>>,
    {
        self.append = std::mem::take(&mut self.append).check(stream, expected);
        self
    }

    /// Labels the expectation that was added last, as [`Append::label`] does.
    pub fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.append = std::mem::take(&mut self.append).label(label);
        self
    }
}

impl<A: Aggregate> fmt::Debug for Decision<'_, A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Decision")
            .field("root", &self.root)
            .field("append", &self.append)
            .finish_non_exhaustive()
    }
}
