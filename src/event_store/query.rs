//! Queries of a store, such as for one bounded page of a [`Range`] through a [`Filter`].

use crate::model::{EventRef, EventType, InvalidArgument, Position, StreamId, Version};

/// The direction of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Direction {
    /// From the oldest to the newest.
    #[default]
    Forward,
    /// From the newest to the oldest.
    Backward,
}

/// Which events a read or a subscription delivers: those that match every criterion that was set.
///
/// ```
/// use annals::Filter;
/// let filter = Filter::new().category("account").types(["MoneyDeposited"]);
/// assert!(filter.matches_stream("account-7") && !filter.matches_stream("loan-7"));
/// assert!(!filter.matches_type("MoneyWithdrawn"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    types: Vec<String>,
    categories: Vec<String>,
    stream_prefixes: Vec<String>,
}

impl Filter {
    /// A filter that matches everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds event types: an event matches if it has one of the types added. Without any types, all
    /// events match.
    pub fn types(mut self, types: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.types.extend(types.into_iter().map(|name| name.as_ref().to_owned()));
        self
    }

    /// Adds a category: an event matches if its stream is in one of the categories added.
    pub fn category(mut self, category: impl Into<String>) -> Self {
        self.categories.push(category.into());
        self
    }

    /// Adds a prefix of stream ids: an event matches if its stream begins with one of the prefixes
    /// added.
    pub fn stream_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.stream_prefixes.push(prefix.into());
        self
    }

    /// Checks the names. Reads and subscriptions call this before they start. A valid filter may
    /// still match nothing, such as one with a category and a prefix outside of it.
    ///
    /// # Errors
    /// [`InvalidArgument`]: an event type is not a valid name.
    /// [`InvalidArgument::CategoryWithDash`]: a category ends before the first `-`, so it cannot
    /// contain one.
    pub fn check(&self) -> Result<(), InvalidArgument> {
        for name in &self.types {
            EventType::new(name)?;
        }
        match self.categories.iter().find(|category| category.contains('-')) {
            None => Ok(()),
            Some(category) => Err(InvalidArgument::CategoryWithDash { category: category.clone() }),
        }
    }

    /// Whether everything matches.
    pub fn is_all(&self) -> bool {
        self.types.is_empty() && self.categories.is_empty() && self.stream_prefixes.is_empty()
    }

    /// Whether events of this stream may match.
    #[inline]
    pub fn matches_stream(&self, stream: &str) -> bool {
        (self.categories.is_empty() && self.stream_prefixes.is_empty()) || self.selects(stream)
    }

    /// The event types that were added.
    pub(crate) fn type_names(&self) -> &[String] {
        &self.types
    }

    /// The categories that were added.
    pub(crate) fn categories(&self) -> &[String] {
        &self.categories
    }

    /// The prefixes of stream ids that were added.
    pub(crate) fn stream_prefixes(&self) -> &[String] {
        &self.stream_prefixes
    }

    fn selects(&self, stream: &str) -> bool {
        let in_category = |category: &String| {
            let rest = stream.strip_prefix(category.as_str());
            !category.contains('-')
                && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        (self.categories.is_empty() || self.categories.iter().any(in_category))
            && (self.stream_prefixes.is_empty()
                || self.stream_prefixes.iter().any(|prefix| stream.starts_with(prefix.as_str())))
    }

    /// Whether events of this type may match.
    #[inline]
    pub fn matches_type(&self, event_type: &str) -> bool {
        self.types.is_empty() || self.types.iter().any(|wanted| wanted == event_type)
    }

    /// Whether this event matches.
    pub fn matches(&self, event: &EventRef<'_>) -> bool {
        self.matches_type(event.event_type()) && self.matches_stream(event.stream())
    }
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

/// A query for one bounded page of events.
#[derive(Debug, Clone)]
pub struct PageQuery {
    /// The range to read.
    pub range: Range,
    /// The direction.
    pub direction: Direction,
    /// The events to visit.
    pub filter: Filter,
    /// The maximum number of matching events. The page may have fewer, even none, and still leave a
    /// rest.
    pub events_max: usize,
}

/// The end of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageEnd {
    /// The rest of the requested range, for the next query; `None` if the range was read to its
    /// end.
    pub rest: Option<Range>,
}

/// A query for streams, in the order of their ids.
#[derive(Debug, Clone, Default)]
pub struct StreamsQuery {
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
