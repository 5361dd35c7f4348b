//! [`DecisionExecution`]: a decision under way, in steps between which its caller waits. Threads and
//! tasks take the same steps, and wait in their own way.

use std::error::Error as StdError;
use std::ops::ControlFlow;

use super::boundary::Boundary;
use super::cache::CachePlace;
use super::decided::Decided;
use super::decisions::Decisions;
use super::reading::Reading;
use crate::aggregate::{
    Answer, ExecuteError, RequestOptions, Turn, Work, contended, encoded, is_final,
};
use crate::codec::DomainEvent;
use crate::error::{Error, Result};
use crate::event_store::{Append, Appended, EventStore, KeyedResult, QueryItem, Submitted};
use crate::extension::EventStoreExt;
use crate::model::{ExpectedVersion, NewEvent, StreamId, Version};
use crate::upcast::Decoder;

/// The result of a decision, or why it was not taken.
pub(super) type Outcome<E, R> = Result<Decided<E>, ExecuteError<R>>;

/// Decides in the current state of the models.
pub(super) type Decide<'f, B, E, R> = &'f mut dyn FnMut(&B) -> Result<Vec<E>, R>;

/// Adds to the append of a decision, or rejects it.
pub(super) type Also<'r, B, R> =
    Box<dyn FnMut(&B, Append) -> Result<Append, ExecuteError<R>> + Send + 'r>;

/// What a decision is to be stored with.
pub(super) struct Request<'r, B, R: StdError> {
    pub(super) decisions: Decisions,
    pub(super) options: RequestOptions<'r, R>,
    pub(super) label: Option<String>,
    pub(super) also: Option<Also<'r, B, R>>,
}

/// A decision under way.
pub(super) struct DecisionExecution<'r, B: Boundary, R: StdError> {
    request: Request<'r, B, R>,
    /// The stream of the events.
    stream: StreamId,
    reading: Reading<B>,
    /// The turn after a conflict.
    turn: Option<Turn>,
    /// Whether this attempt has waited for a turn.
    has_waited: bool,
    retries: u32,
    /// The stream that was not as expected in the last attempt, and its version.
    failed_at: Option<(StreamId, Option<Version>)>,
}

/// What the caller does next.
#[expect(clippy::large_enum_variant, reason = "each decision has one outcome")]
pub(super) enum Step<E, R: StdError> {
    /// Wait for the turn in this line, then [`DecisionExecution::resume`].
    Wait(StreamId),
    /// Submit, then [`DecisionExecution::conclude`].
    Submit(Work, FollowUp<E, R>),
    Done(Outcome<E, R>),
}

/// What follows a submission.
pub(super) enum FollowUp<E, R> {
    /// The decision has these events.
    Acknowledge(Vec<E>),
    /// The decision was rejected.
    Reject(R),
}

impl<'r, B: Boundary, R: StdError> DecisionExecution<'r, B, R> {
    pub(super) fn new(
        request: Request<'r, B, R>,
        stream: StreamId,
        models: B,
        place: Option<Box<dyn CachePlace<B>>>,
    ) -> Result<Self> {
        let reading = request.decisions.reading(models, place)?;
        Ok(Self {
            request,
            stream,
            reading,
            turn: None,
            has_waited: false,
            retries: 0,
            failed_at: None,
        })
    }

    pub(super) fn store(&self) -> &dyn EventStore {
        &*self.request.decisions.store
    }

    /// Finds the recorded result of the request, or plans it, after the callers that met a
    /// conflict.
    pub(super) fn begin<E: DomainEvent>(&mut self, decide: Decide<'_, B, E, R>) -> Step<E, R> {
        let recorded = self.find_submitted();
        match recorded {
            Err(error) => Step::Done(Err(error.into())),
            Ok(Some(result)) => Step::Done(self.again(result)),
            Ok(None) => {
                match self.reading.query.items().iter().map(line).find(Turn::is_contended) {
                    Some(line) => Step::Wait(line),
                    None => self.plan(decide),
                }
            }
        }
    }

    /// Plans again with the turn that was waited for; `None` if it did not come.
    pub(super) fn resume<E: DomainEvent>(
        &mut self,
        decide: Decide<'_, B, E, R>,
        turn: Option<Turn>,
    ) -> Step<E, R> {
        self.turn = turn;
        self.has_waited = true;
        self.plan(decide)
    }

    /// Ends the decision with the answer to its submission, or plans it again after a conflict.
    pub(super) fn conclude<E: DomainEvent>(
        &mut self,
        decide: Decide<'_, B, E, R>,
        follow_up: FollowUp<E, R>,
        answer: Result<Answer>,
    ) -> Step<E, R> {
        match (follow_up, answer) {
            (FollowUp::Acknowledge(events), Ok(answer)) => {
                let acknowledged = self.acknowledge(events, answer);
                self.done(acknowledged)
            }
            (FollowUp::Acknowledge(_), Err(error)) => self.retry(decide, error),
            (FollowUp::Reject(error), answer) => {
                let rejected = self.rejected(error, answer);
                self.done(rejected)
            }
        }
    }

    /// Reads what is new, and decides.
    fn plan<E: DomainEvent>(&mut self, decide: Decide<'_, B, E, R>) -> Step<E, R> {
        match self.try_plan(decide) {
            Ok(step) => step,
            Err(ExecuteError::Rejected(error)) => match self.request.options.rejection(&error) {
                Some(work) => Step::Submit(work, FollowUp::Reject(error)),
                None => self.done(Err(ExecuteError::Rejected(error))),
            },
            // `also` may have met a conflict of its own.
            Err(ExecuteError::Store(error)) => self.retry(decide, error),
            Err(error) => self.done(Err(error)),
        }
    }

    /// Plans the decision again after a conflict; any other error ends it.
    fn retry<E: DomainEvent>(&mut self, decide: Decide<'_, B, E, R>, failed: Error) -> Step<E, R> {
        match self.note_conflict(failed) {
            Err(error) => self.done(Err(error)),
            Ok(line) if self.turn.is_none() => Step::Wait(line),
            Ok(_) => self.plan(decide),
        }
    }

    fn try_plan<E: DomainEvent>(
        &mut self,
        decide: Decide<'_, B, E, R>,
    ) -> Result<Step<E, R>, ExecuteError<R>> {
        self.reading.catch_up(&*self.request.decisions.store)?;
        let events = decide(&self.reading.models).map_err(ExecuteError::Rejected)?;
        let append = if events.is_empty() { None } else { Some(self.append(&events)?) };
        // Callers queue up for another stream: once it is our turn, read it again.
        let waits_for = append.as_ref().and_then(|append| contended(append, &self.stream));
        if let Some(of) = waits_for.filter(|_| self.turn.is_none() && !self.has_waited) {
            return Ok(Step::Wait(of.clone()));
        }
        match self.request.options.work(append) {
            Some(work) => Ok(Step::Submit(work, FollowUp::Acknowledge(events))),
            None => Ok(self.done(Ok(self.decided(events, None, false)))),
        }
    }

    fn append<E: DomainEvent>(&mut self, events: &[E]) -> Result<Append, ExecuteError<R>> {
        let Self { request, reading, .. } = self;
        let mut map = |event| request.options.map(event);
        let encoded = events.iter().map(|event| Ok(encoded(event, &mut map)?.0));
        let encoded: Vec<NewEvent> = encoded.collect::<Result<_>>()?;
        let append = Append::new().to(&self.stream, ExpectedVersion::Any, encoded);
        let mut append = append.fail_if(reading.query.clone()).after(reading.up_to);
        if let Some(label) = &request.label {
            append = append.label(label);
        }
        append = request.options.durable(append);
        match &mut request.also {
            Some(also) => also(&reading.models, append),
            None => Ok(append),
        }
    }

    fn acknowledge<E: DomainEvent>(&self, events: Vec<E>, answer: Answer) -> Outcome<E, R> {
        match answer.into_result() {
            Submitted { result, is_retry: true } => self.again(result),
            Submitted { result: KeyedResult::Appended(appended), .. } => {
                Ok(self.decided(events, Some(appended), false))
            }
            Submitted { .. } => Ok(self.decided(events, None, false)),
        }
    }

    fn rejected<E: DomainEvent>(&self, error: R, recorded: Result<Answer>) -> Outcome<E, R> {
        match recorded {
            Ok(Answer::Submitted(submitted)) if submitted.is_retry => self.again(submitted.result),
            Ok(_) | Err(Error::LimitExceeded(_)) => Err(ExecuteError::Rejected(error)),
            Err(other) => Err(other.into()),
        }
    }

    /// Whether to try again, and the line of the callers that met the same conflict.
    fn note_conflict(&mut self, failed: Error) -> Result<StreamId, ExecuteError<R>> {
        let (stream, line, failed_at) = match &failed {
            Error::WrongExpectedVersion { stream, actual, .. } => {
                (stream.clone(), stream.clone(), Some((stream.clone(), *actual)))
            }
            // Events after the read were deleted.
            Error::Deleted { .. } => (self.stream.clone(), self.stream.clone(), None),
            // An event that the models have already: it is the condition of another query, which
            // fails again.
            Error::ConditionFailed { position, .. } if Some(*position) > self.reading.up_to => {
                // Its stream and tags; without it, those of the decision are as good.
                let event = self.store().read_log().from(*position).first()?;
                let event = event.filter(|event| event.position() == *position);
                let matches = |item: &&QueryItem| {
                    event.as_ref().is_none_or(|event| item.matches(&event.as_ref()))
                };
                let stream = event.as_ref().map_or(&self.stream, |event| event.stream()).clone();
                let item = self.reading.query.items().iter().find(matches);
                (stream.clone(), item.map_or(stream, line), None)
            }
            _ => return Err(failed.into()),
        };
        // A stream that has not moved since the last attempt will not be as expected.
        if failed_at.is_some() && self.failed_at == failed_at {
            return Err(failed.into());
        }
        let retries = self.retries;
        if retries == self.request.decisions.retries {
            return Err(ExecuteError::Conflict { stream, retries, cause: failed });
        }
        (self.failed_at, self.has_waited) = (failed_at, false);
        self.retries += 1;
        Ok(line)
    }

    /// The last step, unless another call has done the same request meanwhile.
    fn done<E: DomainEvent>(&self, outcome: Outcome<E, R>) -> Step<E, R> {
        Step::Done(match outcome {
            Err(error) if !is_final(&error) => match self.find_submitted() {
                Ok(Some(result)) => self.again(result),
                Ok(None) => Err(error),
                Err(failed) => Err(failed.into()),
            },
            outcome => outcome,
        })
    }

    fn find_submitted(&self) -> Result<Option<KeyedResult>> {
        self.request.options.find_submitted(self.store())
    }

    /// The result of a request that was done before.
    fn again<E: DomainEvent>(&self, result: KeyedResult) -> Outcome<E, R> {
        let options = &self.request.options;
        let appended = match result {
            KeyedResult::Rejected(reason) => return Err(options.rejected_before(reason)),
            KeyedResult::Nothing => return Ok(self.decided(Vec::new(), None, true)),
            KeyedResult::Appended(appended) => appended.with_retry(true),
        };
        // The events of a decision are always in its stream.
        if !appended.versions().iter().any(|(stream, _)| *stream == self.stream) {
            let reused = options.key.as_ref().map(Error::key_reused);
            return Err(reused.unwrap_or(Error::Closed).into());
        }
        let events = self.stored(&appended)?;
        Ok(self.decided(events, Some(appended), true))
    }

    /// The events of an earlier decision, as they are stored.
    fn stored<E: DomainEvent>(&self, appended: &Appended) -> Result<Vec<E>> {
        let decoder = Decoder::with(self.request.decisions.upcasters.clone());
        let types = decoder.stored_types();
        let mut events = Vec::new();
        for span in appended.spans() {
            let mut decoded = Ok(());
            let read = self.store().read_log().from(*span.start()).as_of_position(*span.end());
            read.for_each(|event| {
                if event.stream() == self.stream.as_str() && types.contains(&event.event_type()) {
                    decoded = decoder.each(event, |event| events.push(event));
                }
                if decoded.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            decoded?;
        }
        Ok(events)
    }

    fn decided<E>(&self, events: Vec<E>, appended: Option<Appended>, is_retry: bool) -> Decided<E> {
        Decided { events, appended, is_retry, retries: self.retries }
    }
}

/// The line of the callers that met a conflict over an item of a query: those that depend on the
/// same tags wait for each other. No stream has such an id.
fn line(item: &QueryItem) -> StreamId {
    match item.tags() {
        [] => StreamId::trusted(&format!("\n{item}")),
        tags => StreamId::trusted(&format!("\n{}", tags.join("\n"))),
    }
}
