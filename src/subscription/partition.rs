//! [`PartitionBy`]: which events keep their order when several threads handle them.

use crate::error::Result;
use crate::model::{RecordedEvent, check_tag};

/// The key of an event, for handling on several threads: events with the same key are handled one
/// after the other, in order; events with different keys in any order, also at the same time.
///
/// [`Subscription::parallel`](crate::Subscription::parallel) and
/// [`ProjectionOptions::partition_by`](crate::ProjectionOptions::partition_by) use it.
#[non_exhaustive]
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum PartitionBy {
    /// Its stream.
    #[default]
    Stream,
    /// Its first tag that begins with this prefix, such as `course:`; its stream, if it has no such
    /// tag. Further tags with the prefix do not count, so give each event at most one.
    Tag {
        /// The prefix: 1 to 255 bytes without control characters.
        prefix: String,
    },
}

impl PartitionBy {
    /// By the first tag with this prefix: see [`PartitionBy::Tag`].
    pub fn tag(prefix: impl Into<String>) -> Self {
        Self::Tag { prefix: prefix.into() }
    }

    /// Checks the prefix, which is the beginning of a tag.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument): no tag begins with it.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Stream => Ok(()),
            Self::Tag { prefix } => Ok(check_tag(prefix)?),
        }
    }

    /// The key of an event. A tag and a stream with the same text are the same key.
    pub(crate) fn key<'e>(&self, event: &'e RecordedEvent) -> &'e str {
        let tag = match self {
            Self::Stream => None,
            Self::Tag { prefix } => event.tags().iter().find(|tag| tag.starts_with(prefix)),
        };
        tag.map_or(event.stream().as_str(), String::as_str)
    }
}
