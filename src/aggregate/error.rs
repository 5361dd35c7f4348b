//! [`ExecuteError`]: why a command was not carried out.

use crate::error::Error;
use crate::model::StreamId;

/// Why a command was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExecuteError<E: std::error::Error> {
    /// The aggregate refuses: nothing has happened. The same command will be refused until its
    /// state changes.
    #[error(transparent)]
    Rejected(E),
    /// Others were faster each time, until the [retries](crate::Repository::retries) were used up:
    /// nothing has happened. Raise them, or split the aggregate, so that not everything waits for
    /// one stream.
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
    /// Loading or storing failed. Only after [`Error::Indeterminate`] may something have been
    /// stored.
    #[error(transparent)]
    Store(#[from] Error),
}

impl<E: std::error::Error> ExecuteError<E> {
    /// Whether the aggregate refused.
    pub fn is_rejected(&self) -> bool {
        matches!(self, Self::Rejected(_))
    }

    /// Whether others were faster each time, until the [retries](crate::Repository::retries) were
    /// used up.
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
