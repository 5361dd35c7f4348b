//! Requests to a store, such as for one bounded page of a [`Range`] through a [`Query`].

use super::query::Query;
use crate::model::{Position, StreamId, StreamState, Version};

/// The direction of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Direction {
    /// From the oldest to the newest.
    #[default]
    Forward,
    /// From the newest to the oldest.
    Backward,
}

/// The log or one stream: what places are counted in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The log, in positions.
    Log,
    /// One stream, in versions.
    Stream(StreamId),
}

/// Consecutive events of the log or of one stream, both ends included. An end beyond the head means
/// "up to the head".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The log or a stream.
    pub scope: Scope,
    /// The first place: a position of the log, or a version of the stream.
    pub from: u64,
    /// The last place.
    pub to: u64,
    /// Events after this position are excluded: the log or the stream as it was when this was the
    /// head.
    pub up_to: Position,
}

impl Range {
    /// A range of positions of the log.
    pub fn log(from: Position, to: Position) -> Self {
        Self { scope: Scope::Log, from: from.get(), to: to.get(), up_to: Position::MAX }
    }

    /// A range of versions of a stream.
    pub fn stream(stream: StreamId, from: Version, to: Version) -> Self {
        let scope = Scope::Stream(stream);
        Self { scope, from: from.get(), to: to.get(), up_to: Position::MAX }
    }

    /// The range as it was when this position was the head.
    pub fn up_to(self, position: Position) -> Self {
        Self { up_to: self.up_to.min(position), ..self }
    }

    /// Whether it contains no place, such as from 5 to 4. Places count from 1.
    pub fn is_empty(&self) -> bool {
        self.from > self.to || self.to == 0
    }

    /// The rest of the range after everything before `next` was read in this direction; `None` if
    /// nothing is left.
    pub fn rest(self, next: u64, direction: Direction) -> Option<Self> {
        let rest = match direction {
            Direction::Forward => Self { from: next, ..self },
            Direction::Backward => Self { to: next, ..self },
        };
        Some(rest).filter(|rest| !rest.is_empty())
    }
}

/// A request for one bounded page of events.
#[derive(Debug, Clone)]
pub struct PageRequest {
    /// The range to read.
    pub range: Range,
    /// The direction.
    pub direction: Direction,
    /// The events to visit.
    pub query: Query,
    /// The maximum number of matching events. The page may have fewer, even none, and still leave a
    /// rest.
    pub events_max: usize,
}

/// The end of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageEnd {
    /// The rest of the requested range, for the next request; `None` if the range was read to its
    /// end.
    pub rest: Option<Range>,
    /// The deleted places that the page went past, in its order. Empty for a page that an index
    /// answered. If a stream was deleted and not created again, its hole is reported even if the
    /// range begins after it.
    pub holes: Vec<Hole>,
}

impl PageEnd {
    /// A page without holes.
    pub fn new(rest: Option<Range>) -> Self {
        Self { rest, holes: Vec::new() }
    }
}

/// Consecutive places whose events were deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    /// The first place: a position of the log, or a version of a stream.
    pub first: u64,
    /// The last place.
    pub last: u64,
    /// In a stream, whether it was deleted here, so that what follows is a new beginning. In the
    /// log and after a truncation: [`StreamState::Live`].
    pub state: StreamState,
}

/// A request for streams, in the order of their ids.
#[derive(Debug, Clone, Default)]
pub struct StreamsRequest {
    /// Only streams whose id begins with this prefix.
    pub prefix: String,
    /// Only streams whose id sorts after this one.
    pub after: Option<StreamId>,
    /// The maximum number of streams. Fewer are returned only if there are no more.
    pub streams_max: usize,
}

/// A stream and the version of its last event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// The stream.
    pub id: StreamId,
    /// The version of its last event.
    pub version: Version,
}
