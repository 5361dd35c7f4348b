//! The status of a projection, its failures, and the errors of managing it.

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
    /// It handles old events.
    CatchingUp,
    /// It has caught up, and handles new events.
    Live,
    /// It is paused.
    Paused,
    /// A handler failed, and will be retried.
    Retrying,
    /// It stopped by itself: [`ProjectionStatus::failure`] holds the reason. A start retries.
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

/// The status of a projection.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct ProjectionStatus {
    /// Its name.
    pub name: String,
    /// The version of the code.
    pub version: u32,
    /// The version of the read model that readers see. It differs from `version` while a shadow
    /// build is catching up.
    pub serving_version: Option<u32>,
    /// What it is doing.
    pub state: ProjectionState,
    /// The position of the read model that readers see: every event up to here was handled, does
    /// not match, or is parked or skipped.
    pub position: Option<Position>,
    /// The head of the log when this status was taken.
    pub head: Option<Position>,
    /// How many events of the log are after `position`, whether they match or not.
    pub lag_events: u64,
    /// How long ago the first event after `position` was recorded; zero if there is none.
    pub lag_time: Duration,
    /// How many events it handled since it was started.
    pub handled: u64,
    /// How many handler calls failed since it was started.
    pub failed_tries: u64,
    /// How many batches were handled again in order since it was started: see
    /// [`ProjectionOptions::partitions`](crate::ProjectionOptions::partitions).
    pub conflicts: u64,
    /// How many events are parked.
    pub parked_events: u64,
    /// How many streams have parked events.
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

/// For people, in one line.
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

/// The progress of a shadow build.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct RebuildStatus {
    /// The version that is being built.
    pub version: u32,
    /// What it is doing.
    pub state: ProjectionState,
    /// It has every event up to this position.
    pub position: Option<Position>,
    /// The head of the log: the shadow build is promoted when it reaches it.
    pub head: Option<Position>,
    /// The last failure, if it is retrying or has failed.
    pub failure: Option<ProjectionFailure>,
}

/// Why a projection cannot continue.
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}{cause}", failed_at(*position, *tries))]
pub struct ProjectionFailure {
    /// The position of the event that was not handled, if the failure concerns one.
    pub position: Option<Position>,
    /// Its id.
    pub event_id: Option<EventId>,
    /// Its stream.
    pub stream: Option<StreamId>,
    /// How many times it was tried.
    pub tries: u32,
    /// The error of the handler or the store.
    #[source]
    pub cause: Cause,
}

/// What the projection does after a failure.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureOutcome {
    /// It retries after a wait.
    Retried,
    /// It parks the event: [`OnFailure::Park`](crate::OnFailure::Park).
    Parked,
    /// It stops.
    Stopped,
}

/// A failure in a projection: see
/// [`ProjectionManager::on_notice`](crate::ProjectionManager::on_notice).
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct ProjectionNotice {
    /// The projection.
    pub projection: String,
    /// What the projection does about it.
    pub outcome: FailureOutcome,
    /// What failed, and where.
    pub failure: ProjectionFailure,
}

/// For people, in one line.
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

/// An error of managing projections.
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProjectionError {
    /// No projection of this name is registered.
    #[error(
        "no projection {name} is registered; registered projections: {}",
        if registered.is_empty() { "none".to_owned() } else { registered.join(", ") }
    )]
    Unknown {
        /// The name that was given.
        name: String,
        /// The names that are registered.
        registered: Vec<String>,
    },
    /// A projection with this name is already registered.
    #[error("a projection named {name} is already registered; give each its own name")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// The projection parks the streams of failed events, and is partitioned by tag, so that events
    /// of one stream are handled in any order. Nothing was registered.
    #[error(
        "projection {name} is partitioned by tag, but OnFailure::Park parks whole streams; partition it by stream, \
         or let it stop at a failure"
    )]
    ParksByStream {
        /// The projection.
        name: String,
    },
    /// The projection is not running, so it cannot serve the request. Start it.
    #[error("projection {name} is not running; start it")]
    NotRunning {
        /// The projection.
        name: String,
    },
    /// The projection has stopped by itself. Fix the cause and start it again.
    #[error("projection {name} stopped: {failure}; correct the cause and start it again")]
    Failed {
        /// The projection.
        name: String,
        /// The reason.
        #[source]
        failure: ProjectionFailure,
    },
    /// The projection did not reach the position in this time. It continues.
    #[error(
        "projection {name} did not reach position {position} in {timeout:?}; it is at {}",
        reached.map_or("its beginning".to_owned(), |reached| reached.to_string())
    )]
    TimedOut {
        /// The projection.
        name: String,
        /// The position that was waited for.
        position: Position,
        /// The timeout.
        timeout: Duration,
        /// The position that it has reached.
        reached: Option<Position>,
    },
    /// The rebuild did not finish in this time. It continues.
    #[error("the rebuild of projection {name} did not finish within {timeout:?}; it continues")]
    RebuildTimedOut {
        /// The projection.
        name: String,
        /// The timeout.
        timeout: Duration,
    },
    /// The projection should begin after a position that the log has not reached:
    /// [`StartFrom::After`](crate::StartFrom::After).
    #[error(
        "projection {name} is to start after position {after}, but the log ends at {}: start it from now, or after a \
         position in the log",
        place(*head)
    )]
    StartAhead {
        /// The projection.
        name: String,
        /// The position after which it should begin.
        after: Position,
        /// The head of the log.
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
    /// The upcasters do not lead to the events that it reads. Nothing was changed.
    #[error("projection {name}: {cause}")]
    Upcasters {
        /// The projection.
        name: String,
        /// The mismatch.
        #[source]
        cause: UpcastError,
    },
    /// Its events or its query changed, but not its version, so earlier results would be
    /// inconsistent with new ones. Nothing was changed.
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
    #[error("projection {name} is running; stop it before you remove it")]
    Running {
        /// The projection.
        name: String,
    },
    /// An error of the store.
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

/// The checkpoint of a projection is after the end of the log: its view comes from a longer log.
#[derive(Debug, thiserror::Error)]
#[error(
    "its checkpoint is at position {checkpoint}, but the log ends at {}: the log was restored from an older copy, or \
     the view belongs to another store; rebuild the projection",
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
    fn one_try_is_singular() {
        let cause = Cause::new(std::io::Error::other("thirteen"));
        let (event_id, stream) = (None, None);
        let position = Some(Position::FIRST);
        let mut failure = ProjectionFailure { position, event_id, stream, tries: 1, cause };
        assert_eq!(failure.to_string(), "failed at position 1 after 1 try: thirteen");
        failure.tries = 2;
        assert_eq!(failure.to_string(), "failed at position 1 after 2 tries: thirteen");
    }
}
