//! What can be known of a projection from outside, and what can go wrong with it.

use std::fmt;
use std::time::Duration;

use crate::error::{Cause, Error};
use crate::model::{EventId, InvalidArgument, Position, StreamId};
use crate::upcast::UpcastError;

/// What a projection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProjectionState {
    /// It was not started, or was stopped.
    Stopped,
    /// It handles events of the past.
    CatchingUp,
    /// It has caught up, and handles what comes.
    Live,
    /// It was told to pause.
    Paused,
    /// A handler failed, and will be tried again.
    Retrying,
    /// It stopped by itself: [`ProjectionStatus::failure`] says why. Starting it again tries again.
    Failed,
}

impl fmt::Display for ProjectionState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Stopped => "stopped",
            Self::CatchingUp => "catching up",
            Self::Live => "live",
            Self::Paused => "paused",
            Self::Retrying => "retrying",
            Self::Failed => "failed",
        })
    }
}

/// How a projection is doing.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct ProjectionStatus {
    /// Its name.
    pub name: String,
    /// The version of the code.
    pub version: u32,
    /// The version of the read model that readers see; another one while a shadow build makes that
    /// of the code.
    pub serving_version: Option<u32>,
    /// What it is doing.
    pub state: ProjectionState,
    /// How far the read model is that readers see: every event up to here was handled, does not
    /// matter to it, or is parked or skipped.
    pub position: Option<Position>,
    /// The head of the log when this status was taken.
    pub head: Option<Position>,
    /// How many events of the log are after `position`, whether they match or not.
    pub lag_events: u64,
    /// How long ago the first event after `position` was recorded; zero if there is none.
    pub lag_time: Duration,
    /// How many events it handled since it was started.
    pub handled: u64,
    /// How many tries of a handler failed since it was started.
    pub failed_tries: u64,
    /// How many batches were handled again in order since it was started: see
    /// [`ProjectionOptions::partitions`](crate::ProjectionOptions::partitions).
    pub conflicts: u64,
    /// How many events are parked.
    pub parked_events: u64,
    /// Of how many streams.
    pub parked_streams: u64,
    /// How many events were skipped: see [`UnhandledEvent`](crate::UnhandledEvent).
    pub skipped_events: u64,
    /// How many events are discarded: see [`UnhandledEvent`](crate::UnhandledEvent).
    pub discarded_events: u64,
    /// The last failure, if it is retrying or has failed.
    pub failure: Option<ProjectionFailure>,
    /// The shadow build, if there is one.
    pub rebuild: Option<RebuildStatus>,
}

/// One line for people.
impl fmt::Display for ProjectionStatus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.position.map_or(0, Position::get);
        let head = self.head.map_or(0, Position::get);
        let version = self.serving_version.unwrap_or(self.version);
        write!(out, "{} v{version}: {}, {at} of {head}", self.name, self.state)?;
        if self.lag_events > 0 {
            let (events, time) = (counted(self.lag_events, "event", "events"), self.lag_time);
            write!(out, ", {events} and {time:.1?} behind")?;
        }
        if self.parked_events > 0 {
            let streams = counted(self.parked_streams, "stream", "streams");
            write!(out, ", {} parked of {streams}", self.parked_events)?;
        }
        match (self.skipped_events, self.discarded_events) {
            (0, 0) => {}
            (skipped, 0) => write!(out, ", {skipped} skipped")?,
            (0, discarded) => write!(out, ", {discarded} discarded")?,
            (skipped, discarded) => write!(out, ", {skipped} skipped ({discarded} discarded)")?,
        }
        if let Some(rebuild) = &self.rebuild {
            let at = rebuild.position.map_or(0, Position::get);
            write!(out, ", shadow build of v{}: {at} of {head}", rebuild.version)?;
        }
        match &self.failure {
            None => Ok(()),
            Some(failure) => write!(out, ", {failure}"),
        }
    }
}

/// How far a shadow build is.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct RebuildStatus {
    /// The version that is made.
    pub version: u32,
    /// What it is doing.
    pub state: ProjectionState,
    /// Up to where it has every event.
    pub position: Option<Position>,
    /// The head of the log: it is promoted when it gets there.
    pub head: Option<Position>,
    /// The last failure, if it is retrying or has failed.
    pub failure: Option<ProjectionFailure>,
}

/// Why a projection does not go on.
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}{cause}", failed_at(*position, *tries))]
pub struct ProjectionFailure {
    /// The event that was not handled, if it was one.
    pub position: Option<Position>,
    /// Its id.
    pub event_id: Option<EventId>,
    /// Its stream.
    pub stream: Option<StreamId>,
    /// How often it was tried.
    pub tries: u32,
    /// What went wrong: what the handler said, or the store.
    #[source]
    pub cause: Cause,
}

/// What became of something that failed.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureOutcome {
    /// It is tried again soon.
    Retried,
    /// The event is parked: [`OnFailure::Park`](crate::OnFailure::Park).
    Parked,
    /// The projection stopped by itself.
    Stopped,
}

/// Something failed in a projection: see
/// [`ProjectionManager::on_failure`](crate::ProjectionManager::on_failure).
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct ProjectionNotice {
    /// The projection.
    pub projection: String,
    /// What became of it.
    pub outcome: FailureOutcome,
    /// What failed, and where.
    pub failure: ProjectionFailure,
}

/// One line for people.
impl fmt::Display for ProjectionNotice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            FailureOutcome::Retried => "tries again",
            FailureOutcome::Parked => "parked an event",
            FailureOutcome::Stopped => "stopped",
        };
        write!(out, "projection {} {outcome}: {}", self.projection, self.failure)
    }
}

impl From<Error> for ProjectionFailure {
    fn from(error: Error) -> Self {
        Cause::new(error).into()
    }
}

impl From<Cause> for ProjectionFailure {
    fn from(cause: Cause) -> Self {
        let (position, event_id, stream) = (None, None, None);
        Self { position, event_id, stream, tries: 1, cause }
    }
}

fn failed_at(position: Option<Position>, tries: u32) -> String {
    match position {
        None => String::new(),
        Some(position) => {
            let tries = counted(u64::from(tries), "try", "tries");
            format!("failed at position {position} after {tries}: ")
        }
    }
}

/// `1 try`, `3 tries`.
fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// What can go wrong when projections are managed.
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProjectionError {
    /// No projection of this name is registered.
    #[error(
        "no projection {name} is registered; there are: {}",
        if registered.is_empty() { "none".to_owned() } else { registered.join(", ") }
    )]
    Unknown {
        /// The name that was given.
        name: String,
        /// The names there are.
        registered: Vec<String>,
    },
    /// Two projections of this name.
    #[error("a projection {name} is already registered; give each a name of its own")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// The projection is not running, so what was asked for would never come. Start it.
    #[error("projection {name} is not running: start it")]
    NotRunning {
        /// The projection.
        name: String,
    },
    /// The projection has stopped by itself. Mend the cause and start it again.
    #[error("projection {name} stopped: {failure}")]
    Failed {
        /// The projection.
        name: String,
        /// Why.
        #[source]
        failure: ProjectionFailure,
    },
    /// The position was not reached in this time. The projection goes on.
    #[error(
        "projection {name} did not reach position {position} in {timeout:?}; it is at {}",
        reached.map_or("its beginning".to_owned(), |reached| reached.to_string())
    )]
    TimedOut {
        /// The projection.
        name: String,
        /// What was waited for.
        position: Position,
        /// How long.
        timeout: Duration,
        /// How far it is.
        reached: Option<Position>,
    },
    /// The rebuild did not end in this time. It goes on.
    #[error("the rebuild of projection {name} was not done in {timeout:?}")]
    RebuildTimedOut {
        /// The projection.
        name: String,
        /// How long.
        timeout: Duration,
    },
    /// It was to begin after a position that the log has not reached:
    /// [`StartFrom::After`](crate::StartFrom::After).
    #[error(
        "projection {name} is to start after position {after}, but the log ends at {}: start it from now, or after a \
         position that is there",
        place(*head)
    )]
    StartAhead {
        /// The projection.
        name: String,
        /// Where it was to begin.
        after: Position,
        /// The end of the log.
        head: Option<Position>,
    },
    /// The projection is a [reactor](crate::Target::Reactor), whose effects cannot be undone.
    /// Nothing was changed.
    #[error(
        "projection {name} is a reactor, which cannot be rebuilt; to repeat its effects, register it under another name"
    )]
    NotRebuildable {
        /// The projection.
        name: String,
    },
    /// The events that it reads are not what the upcasters lead to. Nothing was changed.
    #[error("projection {name}: {cause}")]
    Upcasters {
        /// The projection.
        name: String,
        /// What does not fit.
        #[source]
        cause: UpcastError,
    },
    /// Its events or its filter changed, but not its version: what was handled before and what
    /// comes now would not fit together. Nothing was changed.
    #[error(
        "projection {name} changed since its version {version} was started: {}; raise version()",
        changes.join(", ")
    )]
    DefinitionChanged {
        /// The projection.
        name: String,
        /// Its version.
        version: u32,
        /// What changed, such as "event type Withdrawn was added".
        changes: Vec<String>,
    },
    /// The projection is running, so it cannot be removed. Nothing was changed.
    #[error("projection {name} is running: stop it before it is removed")]
    Running {
        /// The projection.
        name: String,
    },
    /// What the store found.
    #[error(transparent)]
    Store(#[from] Error),
}

fn place(head: Option<Position>) -> String {
    head.map_or("nothing".to_owned(), |head| head.to_string())
}

impl From<InvalidArgument> for ProjectionError {
    fn from(invalid: InvalidArgument) -> Self {
        Self::Store(invalid.into())
    }
}

/// The checkpoint of a projection is beyond the end of the log: its view is of a longer history.
#[derive(Debug, thiserror::Error)]
#[error(
    "its checkpoint is at position {checkpoint}, but the log ends at {}: the log was restored from an older copy, or \
     the view is of another store; rebuild the projection",
    place(*head)
)]
pub(super) struct CheckpointAhead {
    pub(super) checkpoint: Position,
    pub(super) head: Option<Position>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_try_is_no_tries() {
        let cause = Cause::new(std::io::Error::other("thirteen"));
        let (event_id, stream) = (None, None);
        let position = Some(Position::FIRST);
        let mut failure = ProjectionFailure { position, event_id, stream, tries: 1, cause };
        assert_eq!(failure.to_string(), "failed at position 1 after 1 try: thirteen");
        failure.tries = 2;
        assert_eq!(failure.to_string(), "failed at position 1 after 2 tries: thirteen");
    }
}
