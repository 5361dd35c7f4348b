//! [`CommandBuilder`]: one command to one aggregate, with everything that is stored with it.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::execution::{Adding, Execution, Outcome, RepositoryRef, Request, Step};
use super::turns::Turn;
use super::{Aggregate, Decision, ExecuteError, Executed, Repository};
use crate::error::Result;
use crate::event_store::Blocking;
use crate::model::{ExpectedVersion, IdempotencyKey, NewEvent, RecordedEvent, StreamId};
use crate::options::Durability;

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
pub struct CommandBuilder<'r, A: Aggregate, D = Blocking> {
    pub(super) stream: Result<StreamId>,
    pub(super) request: Request<'r, A>,
    api: PhantomData<fn() -> D>,
}

impl<A: Aggregate> Repository<A> {
    /// A command to the aggregate with this id. An aggregate without events decides in its default
    /// state.
    pub fn command(&self, id: impl fmt::Display) -> CommandBuilder<'_, A> {
        CommandBuilder::new(RepositoryRef::Borrowed(self), self.stream_id(id))
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

impl<'r, A: Aggregate, D> CommandBuilder<'r, A, D> {
    pub(super) fn new(repository: RepositoryRef<'r, A>, stream: Result<StreamId>) -> Self {
        Self { stream, request: Request::new(repository), api: PhantomData }
    }

    /// Executes the command only if the aggregate is as the client saw it (`If-Match`, `ETag`). If it
    /// is not, or no longer, the result is [`ExecuteError::VersionMismatch`]. By default a command
    /// is decided in whatever state the aggregate is.
    pub fn expecting(mut self, version: impl Into<ExpectedVersion>) -> Self {
        self.request.expected = version.into();
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
        self.request.options.key = Some(key);
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
        self.request.options.record_rejections();
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
    pub fn following(self, event: &RecordedEvent) -> Self {
        let (work, cause) = (event.work(), event.id());
        self.map_events(move |new| new.correlated_by(&work).caused_by(cause))
    }

    /// Changes each event of the aggregate before it is stored, for example to give it an id. `map`
    /// is called again when the command is decided again.
    pub fn map_events(mut self, map: impl FnMut(NewEvent) -> NewEvent + Send + 'r) -> Self {
        self.request.options.map_events(map);
        self
    }

    /// Sets the durability, instead of the repository's setting.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.request.options.durability = Some(durability);
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
        also: impl FnMut(&mut Decision<'_, A>) -> Result<(), ExecuteError<A::Error>> + Send + 'r,
    ) -> Self
    where
        A: Clone,
    {
        self.request.also = Some(Adding { copy: A::clone, add: Box::new(also) });
        self
    }
}

impl<A: Aggregate> CommandBuilder<'_, A> {
    /// Loads the aggregate, lets it decide the command, and stores the resulting events.
    ///
    /// # Errors
    /// [`ExecuteError::Rejected`]: the aggregate or `also` rejected the command.
    /// [`ExecuteError::VersionMismatch`]: the aggregate is not as the client saw it.
    /// [`ExecuteError::Conflict`]: each attempt met a conflict. [`ExecuteError::Store`]: an error
    /// of loading, of [`EventStore::submit`](crate::EventStore::submit), or of
    /// [`EventStore::submit_once`](crate::EventStore::submit_once). Nothing was stored, except
    /// possibly after [`Error::Indeterminate`](crate::Error::Indeterminate). After
    /// [`HistoryTruncated`](crate::Error::HistoryTruncated) and
    /// [`Unreadable`](crate::Error::Unreadable), an earlier call with the same key may have stored
    /// it: its result cannot be read again if its events are deleted or redacted. So may this call,
    /// if `also` has added events to the aggregate's own stream.
    ///
    /// # Cost
    /// That of [`Repository::load`], and one append if there are events: it blocks until
    /// acknowledged. With a key, one more lookup and one more small row. While callers of this
    /// process conflict over one stream, they wait for their turn, at most one second for each
    /// attempt.
    pub fn run(self, command: &A::Command) -> Outcome<A> {
        let mut execution = Execution::new(self.request, self.stream?);
        let mut step = execution.begin(command);
        loop {
            step = match step {
                Step::Done(outcome) => return outcome,
                Step::Wait(stream) => execution.resume(command, Turn::wait(&stream)),
                Step::Submit(planned) => {
                    let answer = planned.work.submit(execution.store());
                    execution.conclude(command, planned.follow_up, answer)
                }
            };
        }
    }
}

impl<A: Aggregate, D> fmt::Debug for CommandBuilder<'_, A, D> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("CommandBuilder")
            .field("stream", &self.stream)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}
