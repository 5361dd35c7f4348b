//! What became of a command: [`Executed`], or [`ExecuteError`].

use std::fmt;

use super::{Aggregate, AggregateRoot};
use crate::error::Error;
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

    /// The position of the last event in the state, to wait for with a read model; `None` if nothing has ever happened.
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

/// Why a command was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExecuteError<E: std::error::Error> {
    /// The aggregate refuses: nothing has happened. The same command will be refused until its state changes.
    #[error(transparent)]
    Rejected(E),
    /// Others were faster each time, until the [retries](crate::Repository::retries) were used up: nothing has
    /// happened. Raise them, or split the aggregate, so that not everything waits for one stream.
    #[error(
        "stream {stream}: others were faster, the first time and in each of {}: raise the retries of the repository, \
         or split the aggregate into smaller streams",
        counted(*retries)
    )]
    Conflict {
        /// The stream of the aggregate.
        stream: StreamId,
        /// How often the command was decided again.
        retries: u32,
        /// What the last try was refused with.
        #[source]
        cause: Error,
    },
    /// Loading or storing failed. Only after [`Error::Indeterminate`] may something have been stored.
    #[error(transparent)]
    Store(#[from] Error),
}

impl<E: std::error::Error> ExecuteError<E> {
    /// Whether the aggregate refused.
    pub fn is_rejected(&self) -> bool {
        matches!(self, Self::Rejected(_))
    }

    /// Whether others were faster each time, until the [retries](crate::Repository::retries) were used up.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    /// The refusal of the aggregate, if it is one.
    pub fn rejected(&self) -> Option<&E> {
        match self {
            Self::Rejected(refusal) => Some(refusal),
            Self::Conflict { .. } | Self::Store(_) => None,
        }
    }
}

fn counted(retries: u32) -> String {
    if retries == 1 { "1 retry".to_owned() } else { format!("{retries} retries") }
}
