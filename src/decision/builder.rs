//! [`DecisionBuilder`]: one decision, with everything that is stored with it.

use std::error::Error as StdError;
use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::boundary::Boundary;
use super::cache::CachePlace;
use super::decisions::Decisions;
use super::execution::{DecisionExecution, Outcome, Request, Step};
use crate::aggregate::{ExecuteError, RequestOptions, Turn};
use crate::codec::DomainEvent;
use crate::error::{Error, Result};
use crate::event_store::{Append, Blocking, DEFAULT_STREAM};
use crate::model::{IdempotencyKey, NewEvent, RecordedEvent, StreamId};
use crate::options::Durability;

/// A decision that depends on a [`Boundary`], and what to check and to store with it.
/// [`Decisions::decide`] creates it, [`DecisionBuilder::run`] takes it. `R` is the error with which
/// the application rejects it.
///
/// Whatever is combined, the events are stored all or nothing (G1), and only if no event that the
/// decision depends on was appended since it was read (G16). After such a conflict, the decision is
/// taken again; the callers of this process take turns.
///
/// ```
/// use annals::prelude::*;
/// use annals::{DecisionModel, Decisions, IdempotencyKey, Query, RequestDigest};
/// use std::convert::Infallible;
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize)]
/// struct InvoiceWritten { number: u64 }
/// annals::domain_events! {
///     tags |_| vec!["invoices:2026".into()];
///     InvoiceWritten => "InvoiceWritten"
/// }
///
/// /// The last invoice number of a year: there are no gaps.
/// struct LastNumber { year: u16, number: u64 }
///
/// impl DecisionModel for LastNumber {
///     type Event = InvoiceWritten;
///     fn query(&self) -> Query {
///         Query::tag(format!("invoices:{}", self.year))
///     }
///     fn apply(&mut self, event: InvoiceWritten) {
///         self.number = event.number;
///     }
/// }
///
/// let store = MemoryStore::new();
/// let decisions = Decisions::new(&store);
/// let write = |request: &str| {
///     let digest = RequestDigest::of(b"the body of the request");
///     decisions
///         .decide(LastNumber { year: 2026, number: 0 })
///         .stream("invoices-2026")
///         .idempotency_key(IdempotencyKey::new("invoices", request, digest)?)
///         .with_metadata("user", "ada")
///         .run(|last| Ok::<_, Infallible>([InvoiceWritten { number: last.number + 1 }]))
/// };
/// assert_eq!(write("5f1c")?.events()[0].number, 1);
/// assert_eq!(write("77aa")?.events()[0].number, 2);
///
/// // The same request again does nothing, and has the same result.
/// let again = write("5f1c")?;
/// assert!(again.is_retry() && again.events()[0].number == 1);
/// assert_eq!(store.read_stream("invoices-2026").into_iter().count(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a decision is taken by `run`"]
pub struct DecisionBuilder<'r, B, R: StdError, D = Blocking> {
    pub(super) models: B,
    pub(super) place: Option<Box<dyn CachePlace<B>>>,
    pub(super) stream: Result<StreamId>,
    pub(super) request: Request<'r, B, R>,
    api: PhantomData<fn() -> D>,
}

impl Decisions {
    /// A decision that depends on these models, each in its state before any event.
    pub fn decide<'r, B: Boundary, R: StdError>(&self, models: B) -> DecisionBuilder<'r, B, R> {
        DecisionBuilder::new(self.clone(), models)
    }
}

impl<'r, B: Boundary, R: StdError, D> DecisionBuilder<'r, B, R, D> {
    pub(super) fn new(decisions: Decisions, models: B) -> Self {
        let options = RequestOptions::new(decisions.durability);
        let request = Request { decisions, options, label: None, also: None };
        let stream = Ok(StreamId::trusted(DEFAULT_STREAM));
        Self { models, place: None, stream, request, api: PhantomData }
    }

    pub(super) fn in_cache(mut self, place: impl CachePlace<B> + 'static) -> Self {
        self.place = Some(Box::new(place));
        self
    }

    /// Sets the stream of the events; [`DEFAULT_STREAM`] by default. It is appended to in any
    /// version: the models protect the decision.
    pub fn stream<S>(mut self, stream: S) -> Self
    where
        S: TryInto<StreamId, Error: Into<Error>>,
    {
        self.stream = stream.try_into().map_err(Into::into);
        self
    }

    /// Does the request with this key once, however often it is sent (G15): see
    /// [`EventStore::submit_once`](crate::EventStore::submit_once). The digest of the key must
    /// cover everything that tells two requests apart.
    ///
    /// The same request again has the same result, even if the events have changed since:
    /// [`Decided::is_retry`](crate::Decided::is_retry) is true. A decision that led to no event is
    /// recorded too. A rejected one is not, unless [`DecisionBuilder::recording_rejections`] is
    /// called.
    pub fn idempotency_key(mut self, key: IdempotencyKey) -> Self {
        self.request.options.key = Some(key);
        self
    }

    /// Records a rejection with the idempotency key as well, as JSON: the same request is then
    /// rejected with the same error, even if it would be accepted by now. The error has at most
    /// [`REJECTION_LEN_MAX`](crate::limits::REJECTION_LEN_MAX) bytes; a longer one, or one that
    /// cannot be written as JSON, is returned without being recorded.
    pub fn recording_rejections(mut self) -> Self
    where
        R: Serialize + DeserializeOwned,
    {
        self.request.options.record_rejections();
        self
    }

    /// Labels the condition of the decision. If each attempt meets a conflict over it,
    /// [`Error::label`] of the cause returns the label.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.request.label = Some(label.into());
        self
    }

    /// Adds a metadata pair to each event of the decision.
    pub fn with_metadata(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let (key, value) = (key.into(), value.into());
        self.map_events(move |event| event.with_metadata(key.clone(), value.clone()))
    }

    /// Adds a tag to each event of the decision, next to those that the event
    /// [states](DomainEvent::tags).
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

    /// Changes each event of the decision before it is stored. `map` is called again when the
    /// decision is taken again.
    pub fn map_events(mut self, map: impl FnMut(NewEvent) -> NewEvent + Send + 'r) -> Self {
        self.request.options.map_events(map);
        self
    }

    /// Sets the durability, instead of that of [`Decisions::durability`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.request.options.durability = Some(durability);
        self
    }

    /// Adds events of other streams, expectations and conditions to the append, or rejects the
    /// decision. `also` returns the append that it was given, with what it adds.
    ///
    /// It sees the models that were decided upon. It is called again when the decision is taken
    /// again, and not at all if the decision leads to no event. An error of a store converts with
    /// `?`; to reject the decision with an error of the application, return
    /// [`ExecuteError::Rejected`]. If a stream is not as expected, `also` is called again, because
    /// it may have read that stream before it moved. If the stream has not moved since the last
    /// attempt, the error is returned; its [label](Error::label) says which expectation failed.
    ///
    /// With [`UniqueValues::change_in`](crate::UniqueValues::change_in), a decision claims values
    /// that must be unique and must not be readable, as a tag is:
    ///
    /// ```
    /// # use annals::prelude::*;
    /// # use annals::{DecisionModel, Decisions, Query, UniqueValues};
    /// # use std::convert::Infallible;
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Joined { student: String }
    /// # annals::domain_events! {
    /// #     tags |joined| vec![format!("student:{}", joined.student)];
    /// #     Joined => "StudentJoined"
    /// # }
    /// # struct Exists { student: String, exists: bool }
    /// # impl DecisionModel for Exists {
    /// #     type Event = Joined;
    /// #     fn query(&self) -> Query { Query::tag(format!("student:{}", self.student)) }
    /// #     fn apply(&mut self, _: Joined) { self.exists = true; }
    /// # }
    /// let store = MemoryStore::new();
    /// let emails = UniqueValues::new(&store, "email", b"a secret of 32 bytes or more ...")?;
    /// let join = |student: &str, email: &str| {
    ///     let owner = StreamId::new(format!("student-{student}"))?;
    ///     Decisions::new(&store)
    ///         .decide(Exists { student: student.to_owned(), exists: false })
    ///         .also(|_, append| Ok(emails.change_in(append, &owner, None, [email])?))
    ///         .run(|it| {
    ///             let joined = Joined { student: student.to_owned() };
    ///             Ok::<_, Infallible>(Some(joined).filter(|_| !it.exists))
    ///         })
    /// };
    /// join("s1", "ada@example.org")?;
    /// let taken = join("s2", "ada@example.org").unwrap_err();
    /// assert!(taken.to_string().contains("email is taken"), "{taken}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn also(
        mut self,
        also: impl FnMut(&B, Append) -> Result<Append, ExecuteError<R>> + Send + 'r,
    ) -> Self {
        self.request.also = Some(Box::new(also));
        self
    }
}

impl<B: Boundary, R: StdError> DecisionBuilder<'_, B, R> {
    /// Reads the models, lets `decide` decide in their state, and appends the resulting events.
    ///
    /// They are appended only if no event that the models depend on was appended since it was read.
    /// `decide` returns the events of the decision, as a list, an array or an [`Option`], or the
    /// error with which it rejects it. It is called again after a conflict, so it must be pure. If
    /// it returns no events, nothing is appended, and nothing is checked.
    ///
    /// # Errors
    /// [`ExecuteError::Rejected`]: `decide` or [`DecisionBuilder::also`] rejected the decision.
    /// [`ExecuteError::Conflict`]: each attempt met a conflict. [`ExecuteError::Store`]: no model,
    /// or an invalid query; [`Error::NotIndexed`] if the store has no index for a query;
    /// [`Error::Unreadable`]; an error of [`EventStore::submit`](crate::EventStore::submit) or of
    /// [`EventStore::submit_once`](crate::EventStore::submit_once). Nothing was stored, except
    /// possibly after [`Error::Indeterminate`].
    ///
    /// # Cost
    /// Reads every event that a model depends on, once; after a conflict, and with
    /// [`Decisions::cached`], only newer ones. Then one
    /// append with one condition. With a key, one more lookup and one more small row. While callers
    /// of this process conflict over the same tags, they wait for their turn, at most one second
    /// for each attempt.
    pub fn run<E: DomainEvent, I: IntoIterator<Item = E>>(
        self,
        mut decide: impl FnMut(&B) -> Result<I, R>,
    ) -> Outcome<E, R> {
        let decide = &mut |models: &B| decide(models).map(|events| events.into_iter().collect());
        let mut execution =
            DecisionExecution::new(self.request, self.stream?, self.models, self.place)?;
        let mut step = execution.begin(decide);
        loop {
            step = match step {
                Step::Done(outcome) => return outcome,
                Step::Wait(line) => execution.resume(decide, Turn::wait(&line)),
                Step::Submit(work, follow_up) => {
                    let answer = work.submit(execution.store());
                    execution.conclude(decide, follow_up, answer)
                }
            };
        }
    }
}

impl<B, R: StdError, D> fmt::Debug for DecisionBuilder<'_, B, R, D> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("DecisionBuilder")
            .field("stream", &self.stream)
            .field("key", &self.request.options.key)
            .field("has_also", &self.request.also.is_some())
            .finish_non_exhaustive()
    }
}
