//! [`CommandBuilder`]: one command to one aggregate, with everything that is stored with it.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::repository::Stored;
use super::turns::Turn;
use super::{Aggregate, AggregateRoot, Decision, ExecuteError, Executed, Repository};
use crate::error::{Error, Result};
use crate::event_store::{Append, Appended, KeyedResult, KeyedSubmission};
use crate::model::{ExpectedVersion, IdempotencyKey, NewEvent, RecordedEvent, StreamId, Version};
use crate::options::Durability;

/// The result of a command, or why it was not executed.
type Outcome<A> = Result<Executed<A>, ExecuteError<<A as Aggregate>::Error>>;

/// Changes an event before it is stored.
type Map<'r> = Box<dyn FnMut(NewEvent) -> NewEvent + 'r>;

/// Adds to the append of a command, or rejects the command.
type Also<'r, A> =
    Box<dyn FnMut(&mut Decision<'_, A>) -> Result<(), ExecuteError<<A as Aggregate>::Error>> + 'r>;

/// How the rejections of a command are kept with its idempotency key.
struct Rejections<E> {
    write: fn(&E) -> Option<Vec<u8>>,
    read: fn(&[u8]) -> Option<E>,
}

/// A command to one aggregate, and what to check and to store with it. [`Repository::command`]
/// creates it, [`CommandBuilder::run`] executes it.
///
/// Whatever is combined, the command is stored all or nothing (G1), and no update is lost: if
/// another writer appended to the stream in between, the command is decided again in the new state
/// (optimistic concurrency). After a conflict, the callers of this process take turns.
///
/// ```
/// use annals::prelude::*;
/// use annals::{ExpectedVersion, IdempotencyKey, RequestDigest};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # struct Deposited { amount: u64 }
/// # annals::domain_events! { Deposited => "Deposited" }
/// # #[derive(Default, Clone)]
/// # struct Account { balance: u64 }
/// # impl Aggregate for Account {
/// #     const CATEGORY: &'static str = "account";
/// #     type Event = Deposited;
/// #     type Command = u64;
/// #     type Error = std::convert::Infallible;
/// #     fn apply(&mut self, event: Deposited) { self.balance += event.amount; }
/// #     fn handle(&self, amount: &u64) -> Result<Vec<Deposited>, Self::Error> {
/// #         Ok(vec![Deposited { amount: *amount }])
/// #     }
/// # }
/// let store = MemoryStore::new();
/// let accounts = Repository::<Account>::new(&store);
/// let deposit = |seen: ExpectedVersion, request: &str| {
///     let digest = RequestDigest::of(b"account 7, deposit 200");
///     accounts
///         .command("7")
///         .expecting(seen)
///         .idempotency_key(IdempotencyKey::new("deposits", request, digest)?)
///         .with_metadata("user", "ada")
///         .also(|decision| {
///             let event = NewEvent::json("AmountBooked", &decision.after().balance)?;
///             decision.to("ledger-eur", ExpectedVersion::Any, [event]);
///             Ok(())
///         })
///         .run(&200)
/// };
/// let done = deposit(ExpectedVersion::NoStream, "5f1c")?;
/// assert_eq!(done.state().balance, 200);
///
/// // The same request again does nothing, even though the version has changed.
/// let again = deposit(ExpectedVersion::NoStream, "5f1c")?;
/// assert!(again.is_retry() && again.version() == done.version());
/// // Another request that saw the old version is refused.
/// assert!(deposit(ExpectedVersion::NoStream, "77aa").unwrap_err().is_version_mismatch());
/// assert_eq!(store.read_log().into_iter().count(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a command is executed by `run`"]
pub struct CommandBuilder<'r, A: Aggregate> {
    repository: &'r Repository<A>,
    stream: Result<StreamId>,
    expected: ExpectedVersion,
    key: Option<IdempotencyKey>,
    rejections: Option<Rejections<A::Error>>,
    durability: Option<Durability>,
    maps: Vec<Map<'r>>,
    also: Option<Adding<'r, A>>,
    /// The turn at a stream over which callers had conflicts.
    turn: Option<Turn>,
}

/// What [`CommandBuilder::also`] was given.
struct Adding<'r, A: Aggregate> {
    /// Copies the state before the command.
    copy: fn(&A) -> A,
    add: Also<'r, A>,
}

impl<A: Aggregate> Repository<A> {
    /// A command to the aggregate with this id. An aggregate without events decides in its default
    /// state.
    pub fn command(&self, id: impl fmt::Display) -> CommandBuilder<'_, A> {
        CommandBuilder::new(self, self.stream_id(id))
    }

    /// Executes a command: loads the aggregate, lets it decide, and stores the resulting events.
    /// Short for [`Repository::command`] followed by [`CommandBuilder::run`].
    ///
    /// # Errors
    /// Those of [`CommandBuilder::run`].
    ///
    /// # Cost
    /// That of [`CommandBuilder::run`].
    pub fn execute(
        &self,
        id: impl fmt::Display,
        command: &A::Command,
    ) -> Result<Executed<A>, ExecuteError<A::Error>> {
        self.command(id).run(command)
    }
}

impl<'r, A: Aggregate> CommandBuilder<'r, A> {
    fn new(repository: &'r Repository<A>, stream: Result<StreamId>) -> Self {
        Self {
            repository,
            stream,
            expected: ExpectedVersion::Any,
            key: None,
            rejections: None,
            durability: None,
            maps: Vec::new(),
            also: None,
            turn: None,
        }
    }

    /// Executes the command only if the aggregate is as the client saw it (`If-Match`, `ETag`). If it
    /// is not, or no longer, the result is [`ExecuteError::VersionMismatch`]. By default a command
    /// is decided in whatever state the aggregate is.
    pub fn expecting(mut self, version: impl Into<ExpectedVersion>) -> Self {
        self.expected = version.into();
        self
    }

    /// Does the request with this key once, however often it is sent (G15): see
    /// [`EventStore::submit_once`](crate::EventStore::submit_once). The digest of the key must
    /// cover everything that tells two requests apart, such as the id of the aggregate.
    ///
    /// The same request again has the same result, even if the aggregate has changed since:
    /// [`Executed::is_retry`] is true, and the state is that after the request. A request that led
    /// to no event is recorded too; its state is then the current one. A rejected command is not
    /// recorded, unless [`CommandBuilder::recording_rejections`] is called.
    pub fn idempotency_key(mut self, key: IdempotencyKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Records a rejection with the idempotency key as well, as JSON: the same request is then
    /// rejected with the same error, even if the aggregate would accept it by now. The error has at
    /// most [`REJECTION_LEN_MAX`](crate::limits::REJECTION_LEN_MAX) bytes; a longer one, or one that
    /// cannot be written as JSON, is returned without being recorded.
    pub fn recording_rejections(mut self) -> Self
    where
        A::Error: Serialize + DeserializeOwned,
    {
        self.rejections = Some(Rejections {
            write: |error| serde_json::to_vec(error).ok(),
            read: |reason| serde_json::from_slice(reason).ok(),
        });
        self
    }

    /// Adds a metadata pair to each event of the aggregate.
    pub fn with_metadata(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let (key, value) = (key.into(), value.into());
        self.map_events(move |event| event.with_metadata(key.clone(), value.clone()))
    }

    /// Adds a tag to each event of the aggregate.
    pub fn with_tag(self, tag: impl Into<String>) -> Self {
        let tag = tag.into();
        self.map_events(move |event| event.with_tag(tag.clone()))
    }

    /// Sets the correlation id of each event: the piece of work that it belongs to.
    pub fn correlated_by(self, id: impl fmt::Display) -> Self {
        let id = id.to_string();
        self.map_events(move |event| event.correlated_by(&id))
    }

    /// Sets the causation id of each event: the command or event that it follows from.
    pub fn caused_by(self, id: impl fmt::Display) -> Self {
        let id = id.to_string();
        self.map_events(move |event| event.caused_by(&id))
    }

    /// Sets causation and correlation of each event from another event, as
    /// [`NewEvent::following`] does.
    pub fn following(self, event: &'r RecordedEvent) -> Self {
        self.map_events(move |new| new.following(event))
    }

    /// Changes each event of the aggregate before it is stored, for example to give it an id. `map`
    /// is called again when the command is decided again.
    pub fn map_events(mut self, map: impl FnMut(NewEvent) -> NewEvent + 'r) -> Self {
        self.maps.push(Box::new(map));
        self
    }

    /// Sets the durability, instead of the repository's setting.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// Adds events of other streams and expectations to the append, or rejects the command.
    ///
    /// `also` sees the state before and after, and the new events. It is called again when the
    /// command is decided again, and not at all if the command leads to no event. An error of a
    /// store converts with `?`; to reject the command with an error of the application, return
    /// [`ExecuteError::Rejected`]. See [`UniqueValues`](crate::UniqueValues) for values that must
    /// be unique.
    ///
    /// If another stream is not as expected, `also` is called again, because it may have read that
    /// stream before it moved, up to [`Repository::retries`] times. If the stream has not moved
    /// since the last attempt, the error is returned; its [label](crate::Error::label) says which
    /// expectation failed.
    pub fn also(
        mut self,
        also: impl FnMut(&mut Decision<'_, A>) -> Result<(), ExecuteError<A::Error>> + 'r,
    ) -> Self
    where
        A: Clone,
    {
        self.also = Some(Adding { copy: A::clone, add: Box::new(also) });
        self
    }

    /// Loads the aggregate, lets it decide the command, and stores the resulting events.
    ///
    /// # Errors
    /// [`ExecuteError::Rejected`]: the aggregate or `also` rejected the command.
    /// [`ExecuteError::VersionMismatch`]: the aggregate is not as the client saw it.
    /// [`ExecuteError::Conflict`]: each attempt met a conflict. [`ExecuteError::Store`]: an error
    /// of loading, of [`EventStore::submit`](crate::EventStore::submit), or of
    /// [`EventStore::submit_once`](crate::EventStore::submit_once). Nothing was stored, except
    /// possibly after [`Error::Indeterminate`].
    ///
    /// # Cost
    /// That of [`Repository::load`], and one append if there are events: it blocks until
    /// acknowledged. With a key, one more lookup and one more small row. While callers of this
    /// process conflict over one stream, they wait for their turn, at most one second for each
    /// attempt.
    pub fn run(mut self, command: &A::Command) -> Outcome<A> {
        let stream = std::mem::replace(&mut self.stream, Err(Error::Closed))?;
        if let Some(result) = self.find_submitted()? {
            return self.again(&stream, result);
        }
        match self.run_in_turn(&stream, command) {
            // Another call may have done the same request meanwhile, and changed the aggregate.
            Err(error) if !is_final(&error) => match self.find_submitted()? {
                Some(result) => self.again(&stream, result),
                None => Err(error),
            },
            done => done,
        }
    }

    /// The recorded result of the request, as durable as this call wants it.
    fn find_submitted(&self) -> Result<Option<KeyedResult>> {
        let Some(key) = &self.key else { return Ok(None) };
        let store = &self.repository.store;
        let Some(found) = store.find_submitted(key)? else { return Ok(None) };
        let again = self.key_alone(KeyedSubmission::nothing());
        let submitted = store.submit_once(key, again)?;
        // If the key has expired just now, this call had found it before.
        Ok(Some(if submitted.is_retry { submitted.result } else { found }))
    }

    fn key_alone(&self, submission: KeyedSubmission) -> KeyedSubmission {
        match self.durability.or(self.repository.durability) {
            Some(durability) => submission.with_durability(durability),
            None => submission,
        }
    }

    /// Decides and stores the command, again after each conflict.
    fn run_in_turn(&mut self, stream: &StreamId, command: &A::Command) -> Outcome<A> {
        let repository = self.repository;
        self.turn = Turn::behind_others(stream);
        let mut retries = 0;
        let mut before: Option<(StreamId, Option<Version>)> = None;
        loop {
            let failed = match self.attempt(stream, command) {
                Err(ExecuteError::Store(error)) => error,
                done => return done,
            };
            let Error::WrongExpectedVersion { stream: of, actual, .. } = &failed else {
                return Err(failed.into());
            };
            // Another stream that has not moved since the last attempt will not be as expected.
            let failed_at = (of.clone(), *actual);
            if of != stream && before.as_ref() == Some(&failed_at) {
                return Err(failed.into());
            }
            if retries == repository.retries {
                let stream = of.clone();
                return Err(ExecuteError::Conflict { stream, retries, cause: failed });
            }
            self.turn = self.turn.take().or_else(|| Turn::wait(of));
            before = Some(failed_at);
            retries += 1;
        }
    }

    /// Loads, decides and stores once. A conflict is an [`Error::WrongExpectedVersion`].
    fn attempt(&mut self, stream: &StreamId, command: &A::Command) -> Outcome<A> {
        let mut root = self.repository.newest(stream)?;
        let (expected, actual) = (self.expected, root.version());
        if !expected.is_met_by(actual) {
            let stream = stream.clone();
            return Err(ExecuteError::VersionMismatch { stream, expected, actual });
        }
        let before = self.also.as_ref().map(|also| (also.copy)(root.state()));
        let maps = &mut self.maps;
        let decided = root.decide_with(command, &mut |event| {
            maps.iter_mut().fold(event, |event, map| map(event))
        });
        let decided = decided.map_err(ExecuteError::from);
        let stored = decided.and_then(|()| self.store(&mut root, before));
        match stored {
            Ok(Stored::New(appended, events)) => Ok(Executed::new(root, events, Some(appended))),
            Ok(Stored::Nothing) => Ok(Executed::new(root, Vec::new(), None)),
            Ok(Stored::Before(result)) => self.again(stream, result),
            Err(ExecuteError::Rejected(error)) => self.reject(stream, error),
            Err(error) => Err(error),
        }
    }

    /// Stores the decided events, with what `also` adds, or only the key.
    fn store(
        &mut self,
        root: &mut AggregateRoot<A>,
        before: Option<A>,
    ) -> Result<Stored<A>, ExecuteError<A::Error>> {
        let begin = || {
            let append = root.append();
            match self.durability.or(self.repository.durability) {
                Some(durability) => append.with_durability(durability),
                None => append,
            }
        };
        let mut append = begin();
        if let Some((also, before)) = self.also.as_mut().zip(before)
            && !root.uncommitted().is_empty()
        {
            loop {
                let mut decision = Decision::new(&before, root, append);
                (also.add)(&mut decision)?;
                append = decision.into_append();
                if self.turn.is_some() {
                    break;
                }
                // Callers queue up for another stream: once it is our turn, read it again.
                self.turn = contended(&append, root.stream()).and_then(Turn::wait);
                if self.turn.is_none() {
                    break;
                }
                append = begin();
            }
        }
        Ok(self.repository.store(root, append, self.key.as_ref())?)
    }

    /// Records a rejection with the key, if that is wanted.
    fn reject(&self, stream: &StreamId, error: A::Error) -> Outcome<A> {
        let reason = self.rejections.as_ref().and_then(|rejections| (rejections.write)(&error));
        let (Some(key), Some(reason)) = (&self.key, reason) else {
            return Err(ExecuteError::Rejected(error));
        };
        let rejection = self.key_alone(KeyedSubmission::rejection(reason));
        match self.repository.store.submit_once(key, rejection) {
            Err(Error::LimitExceeded(_)) => Err(ExecuteError::Rejected(error)),
            Err(other) => Err(other.into()),
            Ok(submitted) if submitted.is_retry => self.again(stream, submitted.result),
            Ok(_) => Err(ExecuteError::Rejected(error)),
        }
    }

    /// The result of a request that was done before.
    fn again(&self, stream: &StreamId, result: KeyedResult) -> Outcome<A> {
        let appended = match result {
            KeyedResult::Rejected(reason) => {
                let error =
                    self.rejections.as_ref().and_then(|rejections| (rejections.read)(&reason));
                return Err(match error {
                    Some(error) => ExecuteError::Rejected(error),
                    None => ExecuteError::RejectedBefore { reason },
                });
            }
            KeyedResult::Nothing => None,
            KeyedResult::Appended(appended) => Some(appended.with_retry(true)),
        };
        let versions = appended.as_ref().and_then(|appended: &Appended| {
            appended.versions().iter().find(|(written, _)| written == stream)
        });
        let (root, events) = match versions {
            // The events of a command are always those of its aggregate.
            None if appended.is_some() => {
                let key = self.key.as_ref().map(Error::key_reused);
                return Err(key.unwrap_or(Error::Closed).into());
            }
            None => (self.repository.newest(stream)?, Vec::new()),
            Some((_, versions)) => self.repository.at_versions(stream, versions)?,
        };
        Ok(Executed::again(root, events, appended))
    }
}

/// Another stream that the append expects at a version, and for which callers queue up.
fn contended<'a>(append: &'a Append, own: &StreamId) -> Option<&'a StreamId> {
    let expected = append.expectations().iter();
    let at_version = expected.filter(|(stream, expected)| {
        stream != own && matches!(expected, ExpectedVersion::Exact(_) | ExpectedVersion::NoStream)
    });
    at_version.map(|(stream, _)| stream).find(|stream| Turn::is_contended(stream))
}

/// Whether an error is the answer even if another call has done the request.
fn is_final<E: std::error::Error>(error: &ExecuteError<E>) -> bool {
    match error {
        ExecuteError::Store(error) => error.needs_reopen(),
        ExecuteError::RejectedBefore { .. } => true,
        ExecuteError::Rejected(_)
        | ExecuteError::Conflict { .. }
        | ExecuteError::VersionMismatch { .. } => false,
    }
}

impl<A: Aggregate> fmt::Debug for CommandBuilder<'_, A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("CommandBuilder")
            .field("stream", &self.stream)
            .field("expected", &self.expected)
            .field("key", &self.key)
            .field("has_also", &self.also.is_some())
            .finish_non_exhaustive()
    }
}
