//! [`KeyedSubmission`]: what a request with an idempotency key leads to. [`KeyedResult`]: what the
//! store keeps of it.

use super::{Append, Appended};
use crate::error::Result;
use crate::model::limits::REFUSAL_LEN_MAX;
use crate::model::{LimitExceeded, Limits};

/// What a request with an idempotency key leads to.
///
/// See [`EventStore::submit_once`](crate::EventStore::submit_once).
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "most submissions are appends")]
pub enum KeyedSubmission {
    /// The request leads to events.
    Append(Append),
    /// The request was accepted, and nothing happened: only the key is recorded.
    Nothing,
    /// The application refused the request. The key is recorded with the reason, in a form that the
    /// application chooses, at most [`REFUSAL_LEN_MAX`] bytes.
    Refusal(Vec<u8>),
}

impl KeyedSubmission {
    /// Checks everything that can be checked without reading the store. Every store calls this
    /// first.
    ///
    /// # Errors
    /// Those of [`Append::validate`]; [`LimitExceeded`] if the reason of a refusal is too long.
    pub fn validate(&self, limits: &Limits) -> Result<()> {
        match self {
            Self::Append(append) => append.validate(limits),
            Self::Nothing => Ok(()),
            Self::Refusal(reason) => {
                Ok(LimitExceeded::check("refusal_len_max", REFUSAL_LEN_MAX, reason.len())?)
            }
        }
    }
}

impl From<Append> for KeyedSubmission {
    fn from(append: Append) -> Self {
        Self::Append(append)
    }
}

/// The result of a request, as the store keeps it with the request's idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyedResult {
    /// Its events were appended, here.
    Appended(Appended),
    /// Nothing happened.
    Nothing,
    /// The application refused it, for this reason.
    Refusal(Vec<u8>),
}

/// The answer to a request with an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The result, of this call or of the one that came first.
    pub result: KeyedResult,
    /// Whether the request had been done before, so that this call wrote nothing.
    pub is_retry: bool,
}

impl Submitted {
    /// The answer to the call that did the request.
    pub(crate) fn first(result: KeyedResult) -> Self {
        let is_retry = matches!(&result, KeyedResult::Appended(appended) if appended.is_retry());
        Self { result, is_retry }
    }

    /// The answer to a later call.
    pub(crate) fn again(result: KeyedResult) -> Self {
        let result = match result {
            KeyedResult::Appended(appended) => KeyedResult::Appended(appended.into_retry()),
            other => other,
        };
        Self { result, is_retry: true }
    }
}
