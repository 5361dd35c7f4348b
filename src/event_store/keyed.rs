//! [`KeyedSubmission`]: the append of a request with an idempotency key, or its key alone.
//! [`KeyedResult`]: the recorded result of a request.

use super::{Append, Appended};
use crate::error::Result;
use crate::model::limits::REJECTION_LEN_MAX;
use crate::model::{LimitExceeded, Limits};
use crate::options::Durability;

/// The append of a request with an idempotency key, or its key alone. An [`Append`] converts with
/// `into()`.
///
/// See [`EventStore::submit_once`](crate::EventStore::submit_once).
#[derive(Debug, Clone)]
pub struct KeyedSubmission {
    work: KeyedWork,
    durability: Option<Durability>,
}

/// The content of a [`KeyedSubmission`]. Only implementations of a store need this.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "most submissions are appends")]
pub enum KeyedWork {
    /// Events.
    Append(Append),
    /// That nothing happened.
    Nothing,
    /// That the application rejected the request, and why.
    Rejection(Vec<u8>),
}

impl KeyedSubmission {
    /// The request was accepted, and nothing happened: only the key is recorded.
    pub fn nothing() -> Self {
        Self { work: KeyedWork::Nothing, durability: None }
    }

    /// The application rejected the request. The key is recorded with the reason, in a form that
    /// the application chooses, at most [`REJECTION_LEN_MAX`] bytes.
    pub fn rejection(reason: impl Into<Vec<u8>>) -> Self {
        Self { work: KeyedWork::Rejection(reason.into()), durability: None }
    }

    /// Sets the durability, instead of that of the append or the store's own setting.
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// The durability that was set, here or for the append.
    pub fn durability(&self) -> Option<Durability> {
        let of_append = || match &self.work {
            KeyedWork::Append(append) => append.durability(),
            KeyedWork::Nothing | KeyedWork::Rejection(_) => None,
        };
        self.durability.or_else(of_append)
    }

    /// Its content.
    pub fn work(&self) -> &KeyedWork {
        &self.work
    }

    /// Turns this into its content.
    pub fn into_work(self) -> KeyedWork {
        self.work
    }

    /// About how many bytes it takes in memory while it waits to be committed.
    #[cfg(feature = "async")]
    pub(crate) fn len_in_memory(&self) -> usize {
        500 + match &self.work {
            KeyedWork::Append(append) => append.len_in_memory(),
            KeyedWork::Nothing => 0,
            KeyedWork::Rejection(reason) => reason.len(),
        }
    }

    /// Checks everything that can be checked without reading the store. Every store calls this
    /// first.
    ///
    /// # Errors
    /// Those of [`Append::validate`]; [`LimitExceeded`] if the reason of a rejection is too long.
    pub fn validate(&self, limits: &Limits) -> Result<()> {
        match &self.work {
            KeyedWork::Append(append) => append.validate(limits),
            KeyedWork::Nothing => Ok(()),
            KeyedWork::Rejection(reason) => {
                Ok(LimitExceeded::check("rejection_len_max", REJECTION_LEN_MAX, reason.len())?)
            }
        }
    }
}

impl From<Append> for KeyedSubmission {
    fn from(append: Append) -> Self {
        Self { work: KeyedWork::Append(append), durability: None }
    }
}

/// The recorded result of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyedResult {
    /// Its events were appended, here.
    Appended(Appended),
    /// Nothing happened.
    Nothing,
    /// The application rejected it, for this reason.
    Rejected(Vec<u8>),
}

impl KeyedResult {
    /// The same result, with [`Appended::is_retry`] set like this.
    fn with_retry(self, is_retry: bool) -> Self {
        match self {
            Self::Appended(appended) => Self::Appended(appended.with_retry(is_retry)),
            other => other,
        }
    }

    /// The result as it is recorded.
    pub(crate) fn recorded(self) -> Self {
        self.with_retry(false)
    }
}

/// The answer to a request with an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The result, of this call or of the one that came first.
    pub result: KeyedResult,
    /// Whether the request had been done before, so that this call wrote no event.
    pub is_retry: bool,
}

impl Submitted {
    /// The answer to the call that did the request, unless its events were stored before.
    pub(crate) fn first(result: KeyedResult) -> Self {
        let is_retry = matches!(&result, KeyedResult::Appended(appended) if appended.is_retry());
        Self { result, is_retry }
    }

    /// The answer to a later call.
    pub(crate) fn again(result: KeyedResult) -> Self {
        Self { result: result.with_retry(true), is_retry: true }
    }
}
