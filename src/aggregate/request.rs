//! [`RequestOptions`]: what a command or a decision is to be stored with. [`Work`] and [`Answer`]:
//! what is submitted for it.

use std::error::Error as StdError;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ExecuteError;
use super::turns::Turn;
use crate::codec::{DomainEvent, reread};
use crate::error::Result;
use crate::event_store::{Append, Appended, EventStore, KeyedResult, KeyedSubmission, Submitted};
use crate::model::{ExpectedVersion, IdempotencyKey, NewEvent, StreamId};
use crate::options::Durability;

/// How often a request is retried after a conflict, by default.
pub(crate) const RETRIES: u32 = 10;

/// Changes an event before it is stored.
type Map<'r> = Box<dyn FnMut(NewEvent) -> NewEvent + Send + 'r>;

/// How the rejections of a request are kept with its idempotency key.
struct Rejections<E> {
    write: fn(&E) -> Option<Vec<u8>>,
    read: fn(&[u8]) -> Option<E>,
}

/// What a request is to be stored with. `E` is the error with which it may be rejected.
pub(crate) struct RequestOptions<'r, E> {
    pub(crate) key: Option<IdempotencyKey>,
    pub(crate) durability: Option<Durability>,
    rejections: Option<Rejections<E>>,
    maps: Vec<Map<'r>>,
}

/// What is to be submitted.
pub(crate) enum Work {
    Append(Append),
    Keyed(IdempotencyKey, KeyedSubmission),
}

/// The answer to a submission.
pub(crate) enum Answer {
    Appended(Appended),
    Submitted(Submitted),
}

impl Work {
    pub(crate) fn submit(self, store: &dyn EventStore) -> Result<Answer> {
        match self {
            Self::Append(append) => store.submit(append).map(Answer::Appended),
            Self::Keyed(key, submission) => {
                store.submit_once(&key, submission).map(Answer::Submitted)
            }
        }
    }

    #[cfg(feature = "async")]
    pub(crate) async fn submit_async(self, store: &dyn EventStore) -> Result<Answer> {
        match self {
            Self::Append(append) => store.submit_async(append).await.map(Answer::Appended),
            Self::Keyed(key, submission) => {
                store.submit_once_async(key, submission).await.map(Answer::Submitted)
            }
        }
    }
}

impl Answer {
    /// What is recorded for a request, and whether an earlier call did it.
    pub(crate) fn into_result(self) -> Submitted {
        match self {
            Self::Appended(appended) => Submitted::first(KeyedResult::Appended(appended)),
            Self::Submitted(submitted) => submitted,
        }
    }
}

impl<'r, E: StdError> RequestOptions<'r, E> {
    pub(crate) fn new(durability: Option<Durability>) -> Self {
        Self { key: None, durability, rejections: None, maps: Vec::new() }
    }

    pub(crate) fn record_rejections(&mut self)
    where
        E: Serialize + DeserializeOwned,
    {
        self.rejections = Some(Rejections {
            write: |error| serde_json::to_vec(error).ok(),
            read: |reason| serde_json::from_slice(reason).ok(),
        });
    }

    pub(crate) fn map_events(&mut self, map: impl FnMut(NewEvent) -> NewEvent + Send + 'r) {
        self.maps.push(Box::new(map));
    }

    /// Makes all changes that were asked for.
    pub(crate) fn map(&mut self, event: NewEvent) -> NewEvent {
        self.maps.iter_mut().fold(event, |event, map| map(event))
    }

    /// The append as durable as it is to be.
    pub(crate) fn durable(&self, append: Append) -> Append {
        match self.durability {
            Some(durability) => append.with_durability(durability),
            None => append,
        }
    }

    /// What to submit for an append; `None` if there is nothing to store.
    pub(crate) fn work(&self, append: Option<Append>) -> Option<Work> {
        match (&self.key, append) {
            (None, append) => append.map(Work::Append),
            (Some(key), append) => {
                let nothing = || self.key_alone(KeyedSubmission::nothing());
                let submission = append.map_or_else(nothing, KeyedSubmission::from);
                Some(Work::Keyed(key.clone(), submission))
            }
        }
    }

    /// What to submit for a rejection; `None` if it is not to be recorded.
    pub(crate) fn rejection(&self, error: &E) -> Option<Work> {
        let (key, rejections) = self.key.as_ref().zip(self.rejections.as_ref())?;
        let rejection = KeyedSubmission::rejection((rejections.write)(error)?);
        Some(Work::Keyed(key.clone(), self.key_alone(rejection)))
    }

    /// The error of a request that was rejected before.
    pub(crate) fn rejected_before(&self, reason: Vec<u8>) -> ExecuteError<E> {
        let rejections = self.rejections.as_ref();
        match rejections.and_then(|rejections| (rejections.read)(&reason)) {
            Some(error) => ExecuteError::Rejected(error),
            None => ExecuteError::RejectedBefore { reason },
        }
    }

    /// The recorded result of the request, as durable as this call wants it.
    pub(crate) fn find_submitted(&self, store: &dyn EventStore) -> Result<Option<KeyedResult>> {
        let Some(key) = &self.key else { return Ok(None) };
        let Some(found) = store.find_submitted(key)? else { return Ok(None) };
        let again = self.key_alone(KeyedSubmission::nothing());
        let submitted = store.submit_once(key, again)?;
        // If the key has expired just now, this call had found it before.
        Ok(Some(if submitted.is_retry { submitted.result } else { found }))
    }

    /// The submission of the key alone.
    fn key_alone(&self, submission: KeyedSubmission) -> KeyedSubmission {
        match self.durability {
            Some(durability) => submission.with_durability(durability),
            None => submission,
        }
    }
}

/// Whether an error is the answer even if another call has done the request.
pub(crate) fn is_final<E: StdError>(error: &ExecuteError<E>) -> bool {
    match error {
        ExecuteError::Store(error) => error.needs_reopen(),
        ExecuteError::RejectedBefore { .. } => true,
        ExecuteError::Rejected(_)
        | ExecuteError::Conflict { .. }
        | ExecuteError::VersionMismatch { .. } => false,
    }
}

/// Another stream that the append expects at a version, and for which callers queue up.
pub(crate) fn contended<'a>(append: &'a Append, own: &StreamId) -> Option<&'a StreamId> {
    let expected = append.expectations().iter();
    let at_version = expected.filter(|(stream, expected)| {
        stream != own && matches!(expected, ExpectedVersion::Exact(_) | ExpectedVersion::NoStream)
    });
    at_version.map(|(stream, _)| stream).find(|stream| Turn::is_contended(stream))
}

/// An event as it will be appended, and the value that a reader will decode from it.
pub(crate) fn encoded<E: DomainEvent>(
    event: &E,
    with: &mut dyn FnMut(NewEvent) -> NewEvent,
) -> Result<(NewEvent, E)> {
    let (encoded, read) = event.encode_and_read()?;
    let before = encoded.clone();
    let encoded = with(encoded);
    let reads_alike = before.event_type() == encoded.event_type()
        && before.schema_version() == encoded.schema_version()
        && before.content_type() == encoded.content_type()
        && before.payload() == encoded.payload();
    let read = if reads_alike { read } else { reread(&encoded)? };
    Ok((encoded, read))
}
