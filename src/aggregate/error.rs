//! [`ExecuteError`]: why a command or a decision was not executed. [`DecideError`]: why a command
//! was not decided.

use crate::error::{Error, found_version};
use crate::model::{ExpectedVersion, InvalidArgument, StreamId, Version};

/// Why a command or a [decision](crate::Decisions) was not executed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExecuteError<E: std::error::Error> {
    /// The aggregate rejected the command, or the application the decision. Nothing was stored. The
    /// same command will be rejected until the state changes.
    #[error(transparent)]
    Rejected(E),
    /// Another writer appended first in each attempt, until the
    /// [retries](crate::Repository::retries) were used up: to the stream of the aggregate, to one
    /// that [`also`](crate::CommandBuilder::also) named, or an event that the models of a decision
    /// depend on. Nothing was stored. HTTP status 503. Raise the retries, or split the aggregate or
    /// the boundary, so that fewer callers compete.
    #[error(
        "stream {stream}: another writer appended first, at the first attempt and in each of {}; raise the retries, or \
         split the aggregate or the boundary, so that fewer callers compete",
        counted(*retries)
    )]
    Conflict {
        /// The stream over which the last attempt failed; for a decision, that of the first event
        /// that the other writer appended.
        stream: StreamId,
        /// How often the command was retried.
        retries: u32,
        /// The error of the last attempt.
        #[source]
        cause: Error,
    },
    /// The aggregate is not at the version that the client saw; nothing was stored. The client must
    /// read it again and decide again. HTTP status 412.
    #[error("stream {stream}: expected {expected}, but {}: read it again, and decide again", found_version(*actual))]
    VersionMismatch {
        /// The stream of the aggregate.
        stream: StreamId,
        /// What [`CommandBuilder::expecting`](crate::CommandBuilder::expecting) was given.
        expected: ExpectedVersion,
        /// The version of the aggregate; `None` if it does not exist.
        actual: Option<Version>,
    },
    /// The request with this idempotency key was rejected before, and the recorded reason cannot be
    /// read as the error of the aggregate or the decision. Nothing was stored. Read the reason as
    /// it was written, or call
    /// [`recording_rejections`](crate::CommandBuilder::recording_rejections).
    #[error("this request was rejected before; to try again, send it with a new idempotency key")]
    RejectedBefore {
        /// The reason, as it was recorded.
        reason: Vec<u8>,
    },
    /// Loading or storing failed. Nothing was stored, except possibly after
    /// [`Error::Indeterminate`].
    #[error(transparent)]
    Store(#[from] Error),
}

impl<E: std::error::Error> ExecuteError<E> {
    /// Whether the aggregate rejected the command, or the application the decision.
    pub fn is_rejected(&self) -> bool {
        matches!(self, Self::Rejected(_))
    }

    /// Whether the command met a conflict in each attempt, until the
    /// [retries](crate::Repository::retries) were used up.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    /// Whether the aggregate was not at the version that the client saw. HTTP status 412.
    pub fn is_version_mismatch(&self) -> bool {
        matches!(self, Self::VersionMismatch { .. })
    }

    /// The error with which the command or the decision was rejected, if it was.
    pub fn rejected(&self) -> Option<&E> {
        match self {
            Self::Rejected(refusal) => Some(refusal),
            Self::Conflict { .. }
            | Self::VersionMismatch { .. }
            | Self::RejectedBefore { .. }
            | Self::Store(_) => None,
        }
    }
}

/// Why a command was not decided: see [`AggregateRoot::decide`](crate::AggregateRoot::decide).
#[derive(Debug, Clone, thiserror::Error)]
pub enum DecideError<E: std::error::Error> {
    /// The aggregate rejected the command.
    #[error(transparent)]
    Rejected(E),
    /// An event that the command leads to cannot be encoded, or cannot be decoded again:
    /// [`Error::Payload`].
    #[error(transparent)]
    Payload(#[from] Error),
}

impl<E: std::error::Error> From<DecideError<E>> for ExecuteError<E> {
    fn from(error: DecideError<E>) -> Self {
        match error {
            DecideError::Rejected(error) => Self::Rejected(error),
            DecideError::Payload(error) => Self::Store(error),
        }
    }
}

impl<E: std::error::Error> From<InvalidArgument> for ExecuteError<E> {
    fn from(error: InvalidArgument) -> Self {
        Self::Store(error.into())
    }
}

fn counted(retries: u32) -> String {
    if retries == 1 { "1 retry".to_owned() } else { format!("{retries} retries") }
}
