//! What a store is asked for when reading: one bounded page of a [`Range`], through a [`Filter`].

use crate::error::{Error, Result};
use crate::model::{EventRef, EventType, InvalidArgument, Position, StreamId, Version};

/// Which way a read goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Direction {
    /// From the oldest to the newest.
    #[default]
    Forward,
    /// From the newest to the oldest.
    Backward,
}

/// Which events a read or a subscription delivers: those that match every part that was set.
///
/// ```
/// use annals::{EventType, Filter};
/// let filter = Filter::new().category("account").event_type(EventType::new("MoneyDeposited")?);
/// assert!(filter.matches_stream("account-7") && !filter.matches_stream("loan-7"));
/// assert!(!filter.matches_type("MoneyWithdrawn"));
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    types: Vec<EventType>,
    categories: Vec<String>,
    stream_prefixes: Vec<String>,
}

impl Filter {
    /// Everything matches.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an event type: an event matches if it is of one of the types added.
    pub fn event_type(mut self, event_type: EventType) -> Self {
        self.types.push(event_type);
        self
    }

    /// Adds event types by name.
    ///
    /// # Errors
    /// A name is not one that an event type can have.
    pub fn types<T>(mut self, types: impl IntoIterator<Item = T>) -> Result<Self>
    where
        T: TryInto<EventType, Error: Into<Error>>,
    {
        for event_type in types {
            self.types.push(event_type.try_into().map_err(Into::into)?);
        }
        Ok(self)
    }

    /// Adds a category: an event matches if its stream is of one of the categories added.
    pub fn category(mut self, category: impl Into<String>) -> Self {
        self.categories.push(category.into());
        self
    }

    /// Adds a prefix of stream ids: an event matches if its stream begins with one of the prefixes added.
    pub fn stream_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.stream_prefixes.push(prefix.into());
        self
    }

    /// Says whether each category may be one. Reads and subscriptions ask before they begin. A filter that is well
    /// formed may still match nothing, such as one of a category and of a prefix outside of it.
    ///
    /// # Errors
    /// [`InvalidArgument::CategoryWithDash`]: a category ends before the first `-`, so none holds one.
    pub fn check(&self) -> Result<(), InvalidArgument> {
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
    pub(crate) fn type_names(&self) -> impl Iterator<Item = &str> {
        self.types.iter().map(EventType::as_str)
    }

    /// The categories that were added.
    pub(crate) fn categories(&self) -> impl Iterator<Item = &str> {
        self.categories.iter().map(String::as_str)
    }

    /// The prefixes of stream ids that were added.
    pub(crate) fn stream_prefixes(&self) -> impl Iterator<Item = &str> {
        self.stream_prefixes.iter().map(String::as_str)
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
        self.types.is_empty() || self.types.iter().any(|wanted| wanted.as_str() == event_type)
    }

    /// Whether this event matches.
    pub fn matches(&self, event: &EventRef<'_>) -> bool {
        self.matches_type(event.event_type()) && self.matches_stream(event.stream())
    }
}

/// A stretch of the log or of one stream, both ends included. An end beyond the head means "up to the head".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Range {
    /// A stretch of the log.
    Log {
        /// The first position.
        from: Position,
        /// The last position.
        to: Position,
    },
    /// A stretch of one stream.
    Stream {
        /// Which stream.
        stream: StreamId,
        /// The first version.
        from: Version,
        /// The last version.
        to: Version,
        /// Events recorded after this position are not part of it: the stream as it was then.
        up_to: Position,
    },
}

impl Range {
    /// Whether there is no place in it, such as from 5 to 4.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Log { from, to } => from > to,
            Self::Stream { from, to, .. } => from > to,
        }
    }
}

/// Asks for one bounded page of events.
#[derive(Debug, Clone)]
pub struct PageQuery {
    /// Where.
    pub range: Range,
    /// Which way.
    pub direction: Direction,
    /// Which events.
    pub filter: Filter,
    /// How many matching events at most; the page may hold fewer, even none, and still leave a rest.
    pub events_max: usize,
}

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageEnd {
    /// What is left of the range that was asked for, to be asked for next; `None` if it was read to its end.
    pub rest: Option<Range>,
}

/// Asks for some streams, in the order of their ids.
#[derive(Debug, Clone, Default)]
pub struct StreamsQuery {
    /// Only streams whose id begins with this.
    pub prefix: String,
    /// Only streams whose id sorts after this one.
    pub after: Option<StreamId>,
    /// How many at most. Fewer are returned only where there are no more.
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
