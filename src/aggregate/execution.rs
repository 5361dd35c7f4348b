//! [`Execution`]: a command under way, in steps between which its caller waits. Threads and tasks
//! take the same steps, and wait in their own way.

use std::fmt;
use std::ops::Deref;

use super::request::{Answer, RequestOptions, Work, contended, is_final};
use super::turns::Turn;
use super::{Aggregate, AggregateRoot, Decision, ExecuteError, Executed, Repository};
use crate::error::{Error, Result};
use crate::event_store::{Appended, EventStore, KeyedResult, Submitted};
use crate::model::{ExpectedVersion, StreamId, Version};

/// The result of a command, or why it was not executed.
pub(super) type Outcome<A> = Result<Executed<A>, ExecuteError<<A as Aggregate>::Error>>;

/// Adds to the append of a command, or rejects the command.
type Also<'r, A> = Box<
    dyn FnMut(&mut Decision<'_, A>) -> Result<(), ExecuteError<<A as Aggregate>::Error>>
        + Send
        + 'r,
>;

/// What [`CommandBuilder::also`](super::CommandBuilder::also) was given.
pub(super) struct Adding<'r, A: Aggregate> {
    /// Copies the state before the command.
    pub(super) copy: fn(&A) -> A,
    pub(super) add: Also<'r, A>,
}

/// The repository of a thread's caller, or a task's own.
pub(super) enum RepositoryRef<'r, A: Aggregate> {
    Borrowed(&'r Repository<A>),
    #[cfg(feature = "async")]
    Owned(Box<Repository<A>>),
}

impl<A: Aggregate> Deref for RepositoryRef<'_, A> {
    type Target = Repository<A>;

    fn deref(&self) -> &Repository<A> {
        match self {
            Self::Borrowed(repository) => repository,
            #[cfg(feature = "async")]
            Self::Owned(repository) => repository,
        }
    }
}

/// What a command is to be stored with.
pub(super) struct Request<'r, A: Aggregate> {
    pub(super) repository: RepositoryRef<'r, A>,
    pub(super) expected: ExpectedVersion,
    pub(super) options: RequestOptions<'r, A::Error>,
    pub(super) also: Option<Adding<'r, A>>,
}

/// A command under way.
pub(super) struct Execution<'r, A: Aggregate> {
    request: Request<'r, A>,
    stream: StreamId,
    /// The turn at a stream over which callers had conflicts.
    turn: Option<Turn>,
    /// Whether this attempt has waited for a turn.
    has_waited: bool,
    retries: u32,
    /// The stream that was not as expected in the last attempt, and its version.
    failed_at: Option<(StreamId, Option<Version>)>,
}

/// What the caller does next.
#[expect(clippy::large_enum_variant, reason = "each command has one outcome")]
pub(super) enum Step<A: Aggregate> {
    /// Wait for the turn at this stream, then [`Execution::resume`].
    Wait(StreamId),
    /// Submit, then [`Execution::conclude`].
    Submit(Box<Planned<A>>),
    Done(Outcome<A>),
}

/// What is to be submitted, and what follows.
pub(super) struct Planned<A: Aggregate> {
    pub(super) work: Work,
    pub(super) follow_up: FollowUp<A>,
}

/// What follows a submission.
pub(super) enum FollowUp<A: Aggregate> {
    /// The aggregate has these events, of which `of_root` are in its own stream.
    Acknowledge { root: AggregateRoot<A>, of_root: usize },
    /// The command was rejected.
    Reject(A::Error),
}

impl<'r, A: Aggregate> Request<'r, A> {
    pub(super) fn new(repository: RepositoryRef<'r, A>) -> Self {
        let options = RequestOptions::new(repository.durability);
        Self { repository, expected: ExpectedVersion::Any, options, also: None }
    }
}

impl<'r, A: Aggregate> Execution<'r, A> {
    pub(super) fn new(request: Request<'r, A>, stream: StreamId) -> Self {
        Self { request, stream, turn: None, has_waited: false, retries: 0, failed_at: None }
    }

    pub(super) fn store(&self) -> &dyn EventStore {
        &*self.request.repository.store
    }

    /// Finds the recorded result of the request, or plans it, after the callers that met a
    /// conflict.
    pub(super) fn begin(&mut self, command: &A::Command) -> Step<A> {
        match self.find_submitted() {
            Err(error) => Step::Done(Err(error.into())),
            Ok(Some(result)) => Step::Done(self.again(result)),
            Ok(None) if Turn::is_contended(&self.stream) => Step::Wait(self.stream.clone()),
            Ok(None) => self.plan(command),
        }
    }

    /// Plans again with the turn that was waited for; `None` if it did not come.
    pub(super) fn resume(&mut self, command: &A::Command, turn: Option<Turn>) -> Step<A> {
        self.turn = turn;
        self.has_waited = true;
        self.plan(command)
    }

    /// Ends the command with the answer to its submission, or plans it again after a conflict.
    pub(super) fn conclude(
        &mut self,
        command: &A::Command,
        follow_up: FollowUp<A>,
        answer: Result<Answer>,
    ) -> Step<A> {
        let failed = match (follow_up, answer) {
            (FollowUp::Acknowledge { root, of_root }, Ok(answer)) => {
                let concluded = self.acknowledge(root, of_root, answer);
                return self.done(concluded);
            }
            (FollowUp::Acknowledge { .. }, Err(error)) => error,
            (FollowUp::Reject(error), answer) => {
                let rejected = self.rejected(error, answer);
                return self.done(rejected);
            }
        };
        self.retry(command, failed)
    }

    /// Loads the aggregate and lets it decide.
    fn plan(&mut self, command: &A::Command) -> Step<A> {
        match self.try_plan(command) {
            Ok(step) => step,
            Err(ExecuteError::Rejected(error)) => self.reject(error),
            // `also` may have met a conflict of its own.
            Err(ExecuteError::Store(error)) => self.retry(command, error),
            Err(error) => self.done(Err(error)),
        }
    }

    /// Plans the command again after a conflict; any other error ends it.
    fn retry(&mut self, command: &A::Command, failed: Error) -> Step<A> {
        match self.note_conflict(failed) {
            Err(error) => self.done(Err(error)),
            Ok(of) if self.turn.is_none() => Step::Wait(of),
            Ok(_) => self.plan(command),
        }
    }

    fn try_plan(&mut self, command: &A::Command) -> Result<Step<A>, ExecuteError<A::Error>> {
        let request = &mut self.request;
        let mut root = request.repository.newest(&self.stream)?;
        let (expected, actual) = (request.expected, root.version());
        if !expected.is_met_by(actual) {
            let stream = self.stream.clone();
            return Err(ExecuteError::VersionMismatch { stream, expected, actual });
        }
        let before = request.also.as_ref().map(|also| (also.copy)(root.state()));
        root.decide_with(command, &mut |event| request.options.map(event))?;
        let mut append = request.options.durable(root.append());
        let count = root.encoded().len();
        if let Some((also, before)) = request.also.as_mut().zip(before).filter(|_| count > 0) {
            let mut decision = Decision::new(&before, &root, append);
            (also.add)(&mut decision)?;
            append = decision.into_append();
            // Callers queue up for another stream: once it is our turn, read it again.
            if let Some(of) = contended(&append, &self.stream)
                && self.turn.is_none()
                && !self.has_waited
            {
                return Ok(Step::Wait(of.clone()));
            }
        }
        let of_root = append.events().filter(|(stream, _)| *stream == root.stream()).count();
        let Some(work) = request.options.work(Some(append).filter(|_| count > 0)) else {
            return Ok(self.done(Ok(Executed::new(root, Vec::new(), None))));
        };
        let follow_up = FollowUp::Acknowledge { root, of_root };
        Ok(Step::Submit(Box::new(Planned { work, follow_up })))
    }

    fn acknowledge(&self, root: AggregateRoot<A>, of_root: usize, answer: Answer) -> Outcome<A> {
        let appended = match answer {
            Answer::Appended(appended)
            | Answer::Submitted(Submitted {
                result: KeyedResult::Appended(appended),
                is_retry: false,
            }) => appended,
            Answer::Submitted(Submitted { result, is_retry: true }) => return self.again(result),
            Answer::Submitted(_) => return Ok(Executed::new(root, Vec::new(), None)),
        };
        let mut root = root;
        let events = self.request.repository.acknowledge(&mut root, &appended, of_root)?;
        Ok(Executed::new(root, events, Some(appended)))
    }

    /// Whether to try again, and the stream over which there was a conflict.
    fn note_conflict(&mut self, failed: Error) -> Result<StreamId, ExecuteError<A::Error>> {
        let (of, actual) = match &failed {
            Error::WrongExpectedVersion { stream, actual, .. } => (stream, *actual),
            // The version that was loaded is gone.
            Error::Deleted { .. } => (&self.stream, None),
            _ => return Err(failed.into()),
        };
        // Another stream that has not moved since the last attempt will not be as expected.
        let failed_at = (of.clone(), actual);
        if *of != self.stream && self.failed_at.as_ref() == Some(&failed_at) {
            return Err(failed.into());
        }
        let (stream, retries) = (of.clone(), self.retries);
        if retries == self.request.repository.retries {
            return Err(ExecuteError::Conflict { stream, retries, cause: failed });
        }
        (self.failed_at, self.has_waited) = (Some(failed_at), false);
        self.retries += 1;
        Ok(stream)
    }

    /// Records a rejection with the key, if that is wanted.
    fn reject(&self, error: A::Error) -> Step<A> {
        match self.request.options.rejection(&error) {
            None => self.done(Err(ExecuteError::Rejected(error))),
            Some(work) => {
                Step::Submit(Box::new(Planned { work, follow_up: FollowUp::Reject(error) }))
            }
        }
    }

    fn rejected(&self, error: A::Error, recorded: Result<Answer>) -> Outcome<A> {
        match recorded {
            Ok(Answer::Submitted(submitted)) if submitted.is_retry => self.again(submitted.result),
            Ok(_) | Err(Error::LimitExceeded(_)) => Err(ExecuteError::Rejected(error)),
            Err(other) => Err(other.into()),
        }
    }

    /// The last step, unless another call has done the same request meanwhile.
    fn done(&self, outcome: Outcome<A>) -> Step<A> {
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
    fn again(&self, result: KeyedResult) -> Outcome<A> {
        let Self { request, stream, .. } = self;
        let appended = match result {
            KeyedResult::Rejected(reason) => {
                return Err(request.options.rejected_before(reason));
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
                let key = request.options.key.as_ref().map(Error::key_reused);
                return Err(key.unwrap_or(Error::Closed).into());
            }
            None => (request.repository.newest(stream)?, Vec::new()),
            Some((_, versions)) => request.repository.at_versions(stream, versions)?,
        };
        Ok(Executed::again(root, events, appended))
    }
}

impl<A: Aggregate> fmt::Debug for Request<'_, A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Request")
            .field("expected", &self.expected)
            .field("key", &self.options.key)
            .field("has_also", &self.also.is_some())
            .finish_non_exhaustive()
    }
}
