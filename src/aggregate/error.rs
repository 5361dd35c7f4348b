//! [`ExecuteError`]: why a command was not executed.

use crate::error::Error;
use crate::model::StreamId;

/// Why a command was not executed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExecuteError<E: std::error::Error> {
    /// The aggregate rejected the command. Nothing was stored. It will reject the same command
    /// until its state changes.
    #[error(transparent)]
    Rejected(E),
    /// Another writer appended to the stream first in each attempt, until the
    /// [retries](crate::Repository::retries) were used up. Nothing was stored. Raise the retries,
    /// or split the aggregate, so that fewer commands compete for one stream.
    #[error(
        "stream {stream}: another writer appended first, at the first attempt and in each of {}; raise the retries of \
         the repository, or split the aggregate into smaller streams",
        counted(*retries)
    )]
    Conflict {
        /// The stream of the aggregate.
        stream: StreamId,
        /// How often the command was retried.
        retries: u32,
        /// The error of the last attempt.
        #[source]
        cause: Error,
    },
    /// Loading or storing failed. Nothing was stored, except possibly after
    /// [`Error::Indeterminate`].
    #[error(transparent)]
    Store(#[from] Error),
}

impl<E: std::error::Error> ExecuteError<E> {
    /// Whether the aggregate rejected the command.
    pub fn is_rejected(&self) -> bool {
        matches!(self, Self::Rejected(_))
    }

    /// Whether the command met a conflict in each attempt, until the
    /// [retries](crate::Repository::retries) were used up.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    /// The error with which the aggregate rejected the command, if it did.
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
