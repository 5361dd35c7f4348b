//! The kinds of errors: what a caller can do about them.

use std::path::Path;

use super::{Cause, Error, Location};
use crate::model::IdempotencyKey;

impl Error {
    /// Whether the append conflicts with an earlier one: the streams are not in the state that it
    /// expects, or an event matches a condition. Reload and decide again, which makes new events; after
    /// [`Error::PartialRetry`] the old ones would be refused again. HTTP status 409 or 412.
    pub fn is_conflict(&self) -> bool {
        matches!(
            self,
            Self::WrongExpectedVersion { .. }
                | Self::ConditionFailed { .. }
                | Self::PartialRetry { .. }
                | Self::Deleted { .. }
        )
    }

    /// The label of the expectation or condition that was not met: see [`Append::label`](crate::Append::label).
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::WrongExpectedVersion { label, .. } | Self::ConditionFailed { label, .. } => {
                label.as_deref()
            }
            _ => None,
        }
    }

    /// Whether the requested aggregate, version or position does not exist, or no longer exists.
    /// HTTP status 404.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::AggregateNotFound { .. }
                | Self::VersionAhead { .. }
                | Self::PositionAhead { .. }
                | Self::OtherEpoch { .. }
                | Self::Tombstoned { .. }
                | Self::HistoryTruncated { .. }
        )
    }

    /// Whether the call itself is wrong, so that it can never succeed unchanged. HTTP status 400.
    /// Nothing was changed.
    ///
    /// ```
    /// use annals::prelude::*;
    /// use annals::Error;
    /// fn status(error: &Error) -> u16 {
    ///     match error {
    ///         error if error.is_conflict() => 409,
    ///         error if error.is_not_found() => 404,
    ///         error if error.is_invalid() => 400,
    ///         error if error.is_temporary() => 503,
    ///         _ => 500,
    ///     }
    /// }
    /// let store = MemoryStore::new();
    /// let refused = store.append("a\u{0}b", ExpectedVersion::Any, []).unwrap_err();
    /// assert_eq!(status(&refused), 400);
    /// store.close();
    /// assert_eq!(status(&store.head().unwrap_err()), 503);
    /// ```
    pub fn is_invalid(&self) -> bool {
        matches!(
            self,
            Self::InvalidArgument(_)
                | Self::LimitExceeded(_)
                | Self::RecordedAtBeforeHead { .. }
                | Self::IdempotencyKeyReused { .. }
                | Self::Payload { position: None, .. }
                | Self::CheckpointAhead { .. }
        )
    }

    /// Whether the same call may succeed later: after the store has been reopened, closed
    /// elsewhere, or become readable, or after disk space was freed. HTTP status 503. If
    /// [`Error::needs_reopen`] is true too, the application must reopen the store first.
    pub fn is_temporary(&self) -> bool {
        self.needs_reopen()
            || matches!(
                self,
                Self::AlreadyOpen { .. }
                    | Self::ViewReplaced { .. }
                    | Self::DiskFull { .. }
                    | Self::Storage { .. }
            )
    }

    /// Whether data on disk is damaged or lost.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Corruption { .. } | Self::HistoryLost { .. })
    }

    /// Whether only reopening the store can help.
    pub fn needs_reopen(&self) -> bool {
        matches!(self, Self::Indeterminate { .. } | Self::Poisoned { .. } | Self::Closed)
    }

    pub(crate) fn storage<E>(doing: impl Into<String>, cause: E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        Self::Storage { doing: doing.into(), cause: Cause::new(cause) }
    }

    pub(crate) fn key_reused(key: &IdempotencyKey) -> Self {
        Self::IdempotencyKeyReused { scope: key.scope().to_owned(), key: key.key().to_owned() }
    }

    pub(crate) fn not_a_store(path: &Path, reason: impl Into<String>) -> Self {
        Self::NotAStore { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn corruption(
        location: Location,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Corruption { location, found: found.into(), expected: expected.into() }
    }
}
