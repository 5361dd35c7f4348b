//! [`Deletion`]: a decision to delete events, and [`Retention`]: how long events are kept.

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::limits::{TAG_LEN_MAX, check_name};
use super::{EventId, InvalidArgument, Position, StreamId, Version};

/// The type of the events in [`DELETIONS_STREAM`](crate::DELETIONS_STREAM). Their payload is a [`Deletion`] in JSON.
pub const DELETION_EVENT: &str = "$deletion";
/// The content type of a redacted event. Its payload is the number of the deletion, as eight bytes
/// in big-endian order.
pub const REDACTED: &str = "application/x-redacted";

/// The longest reason of a deletion, in bytes.
const REASON_LEN_MAX: usize = 1_024;
/// The longest name of its author, in bytes.
const AUTHOR_LEN_MAX: usize = 255;

/// What has become of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamState {
    /// It takes appends. Its beginning may have been deleted.
    #[default]
    Live,
    /// It was deleted: it counts as a stream without events, and the next append creates it again.
    /// Its versions go on.
    Deleted,
    /// It was deleted for good: reads and appends are refused.
    Tombstoned,
}

impl StreamState {
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Live => 0,
            Self::Deleted => 1,
            Self::Tombstoned => 2,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Live, Self::Deleted, Self::Tombstoned].into_iter().find(|state| state.byte() == byte)
    }
}

/// A decision to delete: which events, why, and by whose word. It is an event of
/// [`DELETIONS_STREAM`](crate::DELETIONS_STREAM) before it is carried out.
///
/// ```
/// use annals::{Deletion, StreamId, Version};
/// let stream = StreamId::new("account-1")?;
/// let deletion = Deletion::truncate(&stream, Version::new(100).unwrap())
///     .because("kept for a year")
///     .by("retention job");
/// assert_eq!(deletion.reason(), "kept for a year");
/// # Ok::<(), annals::InvalidArgument>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    #[serde(flatten)]
    target: DeletionTarget,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    author: String,
}

/// The events that a [`Deletion`] concerns.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DeletionTarget {
    /// The beginnings of streams: each stream with the first version that is kept.
    Truncate {
        /// The streams.
        streams: Vec<(StreamId, Version)>,
    },
    /// All events of a stream. The next append creates the stream again, and its versions go on.
    Delete {
        /// The stream.
        stream: StreamId,
        /// Only the events below this version, so that a deletion that is repeated in an older copy
        /// does not delete newer events. `None` in a request for all of them.
        before: Option<Version>,
    },
    /// All events of a stream, which then refuses reads and appends.
    Tombstone {
        /// The stream.
        stream: StreamId,
    },
    /// The payload, the metadata and some tags of one event.
    Redact {
        /// The position of the event.
        position: Position,
        /// Its id.
        event_id: EventId,
        /// The tags that are removed. Only in a request: the decision must not repeat them.
        #[serde(skip)]
        tags: Vec<String>,
        /// The tags that are removed, as a decision records them: where they were among the tags of
        /// the event, from 0, before this redaction.
        #[serde(default)]
        tag_places: Vec<u32>,
        /// How many tags the event had before. If it has another number, these places mean nothing,
        /// because this redaction was done already.
        #[serde(default)]
        tag_count: u32,
        /// Whether snapshots that may hold what is redacted are deleted.
        #[serde(default)]
        clears_snapshots: bool,
    },
}

impl Deletion {
    fn of(target: DeletionTarget) -> Self {
        Self { target, reason: String::new(), author: String::new() }
    }

    /// The events of a stream below a version.
    pub fn truncate(stream: &StreamId, before: Version) -> Self {
        Self::of(DeletionTarget::Truncate { streams: vec![(stream.clone(), before)] })
    }

    /// The events of several streams, each below its version: one decision, one event.
    pub(crate) fn truncate_all(streams: Vec<(StreamId, Version)>) -> Self {
        Self::of(DeletionTarget::Truncate { streams })
    }

    /// All events of a stream. The next append creates it again.
    pub fn delete(stream: &StreamId) -> Self {
        Self::of(DeletionTarget::Delete { stream: stream.clone(), before: None })
    }

    /// All events of a stream, which can never be used again.
    pub fn tombstone(stream: &StreamId) -> Self {
        Self::of(DeletionTarget::Tombstone { stream: stream.clone() })
    }

    /// Payload and metadata of the event at a position. The id proves that it is the right one.
    pub fn redact(position: Position, event_id: EventId) -> Self {
        Self::of(DeletionTarget::Redact {
            position,
            event_id,
            tags: Vec::new(),
            tag_places: Vec::new(),
            tag_count: 0,
            clears_snapshots: false,
        })
    }

    /// Removes these tags of the redacted event as well. They are not recorded: the decision only
    /// says where they were. Has no effect on other deletions.
    #[must_use]
    pub fn removing_tags(mut self, removed: impl IntoIterator<Item = impl Into<String>>) -> Self {
        if let DeletionTarget::Redact { tags, .. } = &mut self.target {
            tags.extend(removed.into_iter().map(Into::into));
        }
        self
    }

    /// Deletes the snapshots of the stream that may hold what is redacted, now or earlier. Has no
    /// effect on other deletions.
    #[must_use]
    pub fn clearing_snapshots(mut self) -> Self {
        if let DeletionTarget::Redact { clears_snapshots, .. } = &mut self.target {
            *clears_snapshots = true;
        }
        self
    }

    #[cfg(feature = "rocksdb")]
    #[must_use]
    pub(crate) fn keeping_snapshots(mut self) -> Self {
        if let DeletionTarget::Redact { clears_snapshots, .. } = &mut self.target {
            *clears_snapshots = false;
        }
        self
    }

    #[cfg(feature = "rocksdb")]
    pub(crate) fn clears_snapshots(&self) -> bool {
        matches!(self.target, DeletionTarget::Redact { clears_snapshots: true, .. })
    }

    /// Records why: at most 1,024 bytes. Do not repeat what is to be deleted.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..self }
    }

    /// Records by whose word: at most 255 bytes.
    #[must_use]
    pub fn by(self, author: impl Into<String>) -> Self {
        Self { author: author.into(), ..self }
    }

    /// The events that it concerns.
    pub fn target(&self) -> &DeletionTarget {
        &self.target
    }

    /// The same reason and author for another target.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn with_target(&self, target: DeletionTarget) -> Self {
        Self { target, ..self.clone() }
    }

    /// Why; empty if no reason was given.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// By whose word; empty if no author was given.
    pub fn author(&self) -> &str {
        &self.author
    }

    /// Checks texts and limits.
    ///
    /// # Errors
    /// [`InvalidArgument`]: the reason, the author or a tag is too long, a tag is empty, a stream is
    /// a system stream, or a truncation names one twice.
    pub(crate) fn check(&self) -> Result<(), InvalidArgument> {
        for (what, text, len_max) in [
            ("the reason of a deletion", &self.reason, REASON_LEN_MAX),
            ("the author of a deletion", &self.author, AUTHOR_LEN_MAX),
        ] {
            if text.len() > len_max {
                return Err(InvalidArgument::TooLong { what, len_max, len: text.len() });
            }
        }
        let what = "stream of a deletion";
        match &self.target {
            DeletionTarget::Truncate { streams } => {
                let mut named = HashSet::new();
                streams.iter().try_for_each(|(stream, _)| {
                    stream.check_own(what)?;
                    let is_new = named.insert(stream);
                    let twice = InvalidArgument::TruncatedTwice { stream: stream.clone() };
                    if is_new { Ok(()) } else { Err(twice) }
                })
            }
            DeletionTarget::Delete { stream, .. } | DeletionTarget::Tombstone { stream } => {
                stream.check_own(what)
            }
            DeletionTarget::Redact { tags, .. } => {
                tags.iter().try_for_each(|tag| check_name("tag", tag, TAG_LEN_MAX))
            }
        }
    }
}

/// How long the events of a stream or a category are kept. It acts only in a scavenge: see
/// [`Store::scavenge`](crate::Store::scavenge). An event is removed if one of the two says so.
///
/// ```
/// use annals::Retention;
/// use std::time::Duration;
/// let thirty_days = Retention::for_time(Duration::from_secs(30 * 24 * 60 * 60));
/// assert_eq!(thirty_days.count(), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    age: Option<Duration>,
    count: Option<NonZeroU64>,
}

impl Retention {
    /// Keeps events that were recorded within this time before the scavenge.
    pub fn for_time(age: Duration) -> Self {
        Self { age: Some(age), count: None }
    }

    /// Keeps this many events of each stream.
    pub fn newest(count: NonZeroU64) -> Self {
        Self { age: None, count: Some(count) }
    }

    /// Keeps at most this many events of each stream, too.
    #[must_use]
    pub fn and_newest(self, count: NonZeroU64) -> Self {
        Self { count: Some(count), ..self }
    }

    /// The longest time that events are kept; `None` without a limit.
    pub fn age(&self) -> Option<Duration> {
        self.age
    }

    /// The most events of a stream that are kept; `None` without a limit.
    pub fn count(&self) -> Option<NonZeroU64> {
        self.count
    }
}

/// The streams that a [`Retention`] concerns. The retention of a stream replaces that of its
/// category.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RetentionScope {
    /// All streams of a category: see [`StreamId::category`].
    Category(String),
    /// One stream.
    Stream(StreamId),
}

impl RetentionScope {
    /// Checks the name.
    ///
    /// ```
    /// use annals::RetentionScope;
    /// assert!(RetentionScope::Category("visitor".into()).check().is_ok());
    /// assert!(RetentionScope::Category("visitor-7".into()).check().is_err());
    /// ```
    ///
    /// # Errors
    /// [`InvalidArgument`]: the category is one that no stream can have, or the stream is a system
    /// stream, from which nothing is deleted.
    pub fn check(&self) -> Result<(), InvalidArgument> {
        match self {
            Self::Stream(stream) => stream.check_own("stream of a retention"),
            Self::Category(category) if category.contains('-') => {
                Err(InvalidArgument::CategoryWithDash { category: category.clone() })
            }
            Self::Category(category) => StreamId::new(format!("{category}-1")).map(drop),
        }
    }
}

impl From<&StreamId> for RetentionScope {
    fn from(stream: &StreamId) -> Self {
        Self::Stream(stream.clone())
    }
}
